# SPDX-License-Identifier: ISC
#
# test_docs.py - what the pages say can be run runs, and what they name exists.
#
# A fenced block of README.md or docs/ is run when the word "run" follows its language:
#
#   ini run    the configuration of the blocks after it; the pooler is started with it, in the
#              directory of the blocks before it
#   sh run     run by sh -e, with psql and pgturnstile in PATH and the configuration as shop.ini
#   text output    after a block "sh run": its first line names columns that must have been shown
#
# The database is that of etc/demo, and hosts and ports of the page stand for those of the test.
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster import BINDIR, Postgres
from machine import run, scratch_dir
from mishaps import MISHAPS
from named import missing_tests, named_tests
from turnstile import TOP, Turnstile

PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+) *([^\n]*)\n(.*?)^```$", re.M | re.S)
USERS = {"app": "app-password", "monitor": "monitor-password", "ops": "ops-password"}


def name_of(page):
    return page.relative_to(TOP).as_posix()


class AsDocumented(Turnstile):
    """A pooler with the configuration of a page."""

    def __init__(self, ini, primary, replica):
        self.text = ini
        self.primary, self.ports = primary, f"{primary.port},{replica.port}"
        super().__init__({}, USERS)

    def here(self, text):
        """A text of a page with the addresses of this machine."""
        text = text.replace("host=10.0.0.5,10.0.0.6 port=5432",
                            f"host=127.0.0.1,127.0.0.1 port={self.ports}")
        text = text.replace("host=10.0.0.5 port=5432", f"host=127.0.0.1 port={self.primary.port}")
        text = text.replace("-h 10.0.0.5 -p 5432", f"-h 127.0.0.1 -p {self.primary.port}")
        text = text.replace("etc/sql/", f"{TOP}/etc/sql/")
        text = re.sub(r"(_file\s*= )([\w.]+)$", rf"\1{self.dir}/\2", text, flags=re.M)
        return text.replace("6432", str(self.port))

    def write(self):
        super().write()
        self.ini.write_text(self.here(self.text))
        (self.dir / "shop.ini").write_text(self.here(self.text))

    def sh(self, block):
        """Run it; all that it prints."""
        program = Path(self._command()[0]).resolve()
        env = {**os.environ, "PATH": f"{program.parent}:{BINDIR}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-ec", self.here(block)], cwd=self.dir, env=env, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=False)
        assert done.returncode == 0, f"{block}\nexit {done.returncode}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def shop():
    """A primary and a replica with the database of etc/demo."""
    primary = Postgres.primary("docs")
    # The service user may not see the tree, which may stand in root's home.
    script = scratch_dir("docs-sql") / "shop.sql"
    shutil.copyfile(TOP / "etc/demo/shop.sql", script)
    run([BINDIR / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", primary.host,
         "-p", primary.port, "-U", "postgres", "-f", script])
    replica = Postgres.replica_of(primary, "docs-replica")
    yield primary, replica
    replica.remove()
    primary.remove()


def runnable(page):
    return [match.groups() for match in BLOCK.finditer(page.read_text())
            if match.group(2) in ("run", "output")]


def words(line):
    return set(re.findall(r"\w+", line))


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name_of)
def test_blocks_marked_run_do(page, shop):
    pooler, said = AsDocumented("", *shop), ""
    try:
        for language, _, text in runnable(page):
            if language == "ini":
                assert not pooler.text, "one configuration for each page"
                pooler.text = text
                pooler.write()
                pooler.start()
            elif language == "sh":
                said = pooler.sh(text)
            else:
                assert words(text.splitlines()[0]) <= words(said), said
    finally:
        pooler.remove()


def test_manual_page_has_the_options_that_help_lists():
    program = Turnstile({})
    said = subprocess.run([*program._command()[:1], "--help"], text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    program.remove()
    page = (TOP / "docs/man/pgturnstile.1").read_text().replace("\\-", "-")
    assert set(re.findall(r"--[a-z]+", said)) == set(re.findall(r"--[a-z]+", page))


@pytest.mark.skipif(not shutil.which("man"), reason="Debian: man-db, groff-base")
def test_manual_pages_are_well_formed_and_complete():
    program = Turnstile({})
    built = Path(program._command()[0]).resolve().parent / "docs/man/pgturnstile.ini.5"
    program.remove()
    for page in TOP / "docs/man/pgturnstile.1", built:
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], text=True, check=True,
                              capture_output=True, env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
        assert done.stderr == "" and len(done.stdout) > 2000
    text = built.read_text().replace("\\-", "-")
    rows = re.findall(r'^X\(\w+, (\w+), *"([^"]*)"', (TOP / "include/config/settings.def").read_text(), re.M)
    missing = [name for name, aliases in rows
               if not any(re.search(rf"\b{word}\b", text) for word in [name, *aliases.split()])]
    assert len(rows) > 100 and not missing, missing


# ---- names ---------------------------------------------------------------------------------------

FUNCTION = re.compile(r"`((?:src|include)/[\w/]+\.[ch]):(\w+)`")
CODE = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")

# Not ours: PostgreSQL's, and examples of pages.
FOREIGN = {"max_connections", "pg_hba", "current_setting", "set_config", "statement_timeout",
           "pg_stat_activity", "search_path", "standard_conforming_strings", "pg_settings",
           "current_user", "business_id", "current_business_id", "pg_basebackup", "db",
           "log_parameter_max_length", "synchronous_standby_names", "primary_conninfo",
           "pg_ctl", "service_role", "default_transaction_isolation", "inet_server_port", "last_value",
           "obj_description", "pg_column_size", "pg_relation_filenode", "pg_sequence_parameters",
           "pg_stat_user_tables"}


def settings():
    """Names and aliases of settings.def."""
    text = (TOP / "include/config/settings.def").read_text()
    rows = re.findall(r'^X\(\w+, (\w+),\s*"([^"]*)"', text, re.M)
    assert len(rows) > 50
    entry_keys = {"host", "port", "dbname", "user", "password", "client_encoding", "datestyle",
                  "timezone", "application_name", "connect_query", "tier", "business_id",
                  "database"}
    return {name for name, _ in rows} | {a for _, list_ in rows for a in list_.split()} | entry_keys


def identifiers():
    """Every word of our sources: functions, fields, counters, columns."""
    files = [f for tree in ("src", "include", "etc") for f in (TOP / tree).rglob("*")]
    texts = (f.read_text(errors="replace") for f in files if f.is_file())
    return {word for text in texts for word in re.findall(r"\w+", text)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_functions_named_exist(page):
    for path, function in FUNCTION.findall(page.read_text()):
        assert (TOP / path).is_file(), path
        assert re.search(rf"^\w[^;\n]*\b{function}\(", (TOP / path).read_text(), re.M), \
            f"{path} defines no {function}()"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_named_exist(page):
    text = page.read_text()
    known = settings()
    for ini in (match.group(3) for match in BLOCK.finditer(text) if match.group(1) == "ini"):
        section = ""
        for line in ini.splitlines():
            section = line if line.startswith("[") else section
            key = r"^(\w+)\s*=" if section in ("", "[pgturnstile]") else r"(\w+)="
            unknown = set(re.findall(key, line)) - known
            assert not unknown, f"no such setting: {unknown}"
    assigned = {m.group(1) for code in CODE.findall(text)
                if (m := re.fullmatch(r"([a-z][a-z0-9_]*) = \S+( \S+)?", code))}
    unknown = assigned - known - FOREIGN
    assert not unknown, f"no such setting: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_named_exist(page):
    assert not missing_tests(page, page.read_text())


def test_every_fault_is_made_and_has_a_test():
    """The table of reliability.md: each failpoint stands in it, what it calls a mishap is one, and tests are named."""
    page = (TOP / "docs/reliability.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in
            re.findall(r"^\| .* \|$", page.split("\n## What is made to fail")[1], re.M)[2:]]
    failpoints = re.findall(r"^\s+X\((\w+),", (TOP / "include/base/failpoints.def").read_text(), re.M)
    assert set(failpoints) <= {code for row in rows for code in CODE.findall(row[1])}
    mishaps = {name for row in rows for names in re.findall(r"mishaps?: ([^;]+)", row[1]) for name in names.split(", ")}
    known = {name.replace("_", " ") for name in MISHAPS}
    known |= {re.sub("^(clients|servers) ", "", name) for name in known}
    assert mishaps and mishaps <= known, mishaps - known
    assert len(MISHAPS) >= 20
    assert not [row[0] for row in rows if not named_tests(row[-1])]


def test_what_a_tenants_client_cannot_do_has_tests():
    """The table of threat-model.md; that the tests are there: test_tests_named_exist."""
    page = (TOP / "docs/threat-model.md").read_text().split("\n## What a tenant's client cannot do")[1].split("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| .* \|$", page, re.M)[2:]]
    assert len(rows) >= 14
    assert not [row[0] for row in rows if not named_tests(row[-1])]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_code_style_exist(page):
    """Settings, columns, fields, functions: whatever a page names stands in the sources."""
    text = page.read_text()
    named = {code.rstrip("()") for code in CODE.findall(text)}
    named = {code for code in named if NAME.fullmatch(code)} - {n for _, n in named_tests(text)}
    # Names of metrics are put together; test_http.py compares them with what is served.
    named -= {code for code in named if code.startswith("pgturnstile_") and page.name == "metrics.md"}
    unknown = named - identifiers() - FOREIGN
    assert not unknown, f"named, but not there: {sorted(unknown)}"


# Codes that only the log or the command line has, or that are no errors; and who gives such.
NOT_FOR_CLIENTS = {"00000", "F0000", "XX001", "58P01"}
NOT_TO_CLIENTS = {"config", "doctor", "main", "tenant"}


def troubleshooting():
    """The tables of the page: rows as lists of cells, by heading."""
    page = (TOP / "docs/troubleshooting.md").read_text()
    return {part.split("\n", 1)[0]: [row.strip("| ").split(" | ") for row in
                                     re.findall(r"^\| .* \|$", part, re.M)[2:]]
            for part in page.split("\n## ")[1:]}


def sources(without=()):
    """What the program is made of, with strings in one piece."""
    files = [file for file in sorted((TOP / "src").rglob("*.c")) if file.parent.name not in without]
    return re.sub(r'"\s*\n\s*"', "", "".join(file.read_text() for file in files)).replace('\\"', '"')


def codes_given():
    """SQLSTATEs that the program gives by itself."""
    calls = r'(?:err_set\([^"]*?|refuse(?:_text)?\([^"]*?|fail\(s, |close_client\(\s*c, |= \{ )"([0-9A-Z]{5})", *"'
    return {code for code in re.findall(calls, sources(NOT_TO_CLIENTS)) if code[0].isdigit() or code[0] in "XF"}


def test_sqlstates_are_explained():
    """Each that the program gives, in order, and no other."""
    explained = [row[0] for row in troubleshooting()["By SQLSTATE"]]
    assert explained == sorted(explained)
    assert len(codes_given()) > 30
    assert codes_given() - NOT_FOR_CLIENTS <= set(explained), codes_given() - set(explained)
    unknown = {code for code in explained if f'"{code}"' not in sources()}
    assert not unknown, unknown


def test_messages_explained_are_ours():
    """What the tables of troubleshooting.md list is what the program says."""
    tables = troubleshooting()
    messages = [row[1] for row in tables["By SQLSTATE"]] + [row[0] for row in tables["By line of the log"]]
    messages = [m[1:-1] for m in messages if m.startswith("`") and m.endswith("`")]
    assert len(messages) > 50
    pieces = [piece.strip(' "();,') for message in messages for piece in re.split("…|: ", message)]
    missing = [piece for piece in pieces if piece not in sources()]
    assert not missing, missing


def test_alarming_events_are_explained():
    """Each kind of event that is a warning or worse."""
    table = (TOP / "include/stats/events.def").read_text()
    kinds = set(re.findall(r"^\tX\((\w+), (?:WARNING|ERROR),", table, re.M))
    assert len(kinds) > 5
    assert kinds <= {row[1].strip() for row in troubleshooting()["By line of the log"]}
