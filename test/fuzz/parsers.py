# SPDX-License-Identifier: ISC
#
# parsers.py - what each fuzzer is there for: the files that read the bytes it makes up.
#
# Said once: seeds.py takes texts and words from here, test/long/fuzz.py measures what is reached.
"""PARSERS: a Parser for each fuzzer."""
import codecs
import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
_STRINGS = re.compile(rb'((?:"(?:[^"\\\n]|\\.)*"\s*)+)')
_STRING = re.compile(rb'"((?:[^"\\\n]|\\.)*)"')
_ROW = re.compile(rb"\bX\((\w+),")  # of a .def, by the name that it begins with


@dataclass
class Parser:
    sources: list  # of src/, the files that are measured
    tests: list  # of test/unit, whose texts are seeds
    words: list = ()  # of include/, where more of its words are written down
    without: tuple = ()  # what of the sources its bytes do not come to, and a pattern of such conditions


PARSERS = {
    "fuzz_answers": Parser(["worker/catalog_read.c", "worker/patroni.c", "worker/probe.c", "worker/secret_link.c",
                            "worker/tenant_source.c"], [],
                           without=("names that move, where none is looked up", r"resolve_leads_to|server_is_elsewhere")),
    "fuzz_classify": Parser(["sql/classify.c", "sql/grammar.c", "sql/resets.c"], ["classify", "scan"],
                            ["sql/words.def", "sql/primary.def"]),
    "fuzz_command": Parser(["admin/command.c"], ["console_parse"], ["admin/commands.def"]),
    "fuzz_config": Parser(["config/ini.c", "config/load.c", "config/upstream.c"], ["config", "settings"],
                          ["config/settings.def"]),
    "fuzz_console": Parser(["admin/session.c"], [], ["admin/commands.def"]),
    "fuzz_frame": Parser(["wire/report.c"], []),
    "fuzz_jwt": Parser(["auth/jwt.c", "base/json_read.c"], ["jwt"]),
    "fuzz_hba": Parser(["auth/directory.c", "auth/hba.c", "auth/networks.c", "auth/ident.c", "auth/fields.c"],
                       ["directory", "hba", "networks"]),
    "fuzz_http": Parser(["http/request.c"], []),
    "fuzz_identity": Parser(["client/identity.c"], []),
    "fuzz_ledger": Parser(["tenant/ledger.c"], ["ledger"]),
    "fuzz_lex": Parser(["sql/lex.c", "sql/lex_value.c"], ["lex", "scan"]),
    "fuzz_offer": Parser(["worker/offer.c"], []),
    # And sessions as a whole, of which much comes with time and nodes that it has not.
    "fuzz_relay": Parser(["client/login.c", "client/proof.c", "relay/channels.c", "relay/prepared_view.c",
                          "server/login.c"], [], ["sql/words.def"], 
                         without=("TLS and takeovers", r"tls|bind|offered|possible|PLUS|secured|came_late|asked_cancel")),
    "fuzz_roster": Parser(["config/roster.c"], []),
    "fuzz_scan": Parser(["sql/scan.c", "sql/head.c", "sql/tokens.c", "sql/settings.c", "sql/set_config.c",
                         "sql/control.c", "sql/choice.c", "sql/shape.c", "sql/stream_guard.c", "sql/timeout.c",
                         "sql/moment.c", "sql/normal.c", "sql/steady.c"],
                        ["scan", "choice", "control", "shape", "moment", "normal", "steady", "leaving"],
                        ["sql/words.def"]),
    "fuzz_passport": Parser(["wire/passport.c"], []),
    "fuzz_scram": Parser(["auth/scram.c", "auth/saslprep.c", "auth/base64.c"], ["scram"]),
    "fuzz_setting": Parser(["config/types.c", "config/words.c"], ["settings"]),
    "fuzz_sign": Parser(["auth/sign.c"], ["sign"]),
    "fuzz_startup": Parser(["wire/startup.c"], ["startup"]),
    "fuzz_userlist": Parser(["auth/userlist.c"], ["userlist"]),
}


def _strings(path):
    """The string literals of a file of C, neighbours put together."""
    for literal in _STRINGS.findall(re.sub(rb"(?m)^#include.*$", b"", path.read_bytes())):
        for_python = b"".join(_STRING.findall(literal))
        try:
            yield codecs.escape_decode(for_python)[0]
        except ValueError:
            pass  # an escape that only C has


def texts(name):
    """What the unit tests of its parser say, each once."""
    return list(dict.fromkeys(text for test in PARSERS[name].tests
                              for text in _strings(TOP / f"test/unit/test_{test}.c")))


def words(name):
    """What its parser compares with, each once."""
    sources = [TOP / "src" / source for source in PARSERS[name].sources]
    tables = [TOP / "include" / table for table in PARSERS[name].words]
    found = {word for file in sources + tables for word in _strings(file)}
    found.update(row for table in tables for row in _ROW.findall(table.read_bytes()))
    return sorted(word for word in found if 1 < len(word) <= 32)
