# SPDX-License-Identifier: ISC
#
# forgeries.py - the texts of test/sql/forgeries.txt, for one of the guarded settings.
"""visible(), invisible(): what a tenant may try."""
import pathlib

from conftest import APP_DATABASE
from tenancy import SETTING

CORPUS = pathlib.Path(__file__).parents[1] / "sql" / "forgeries.txt"
MARK = "\n-- invisible\n"

WORDS = {
    SETTING: {
        "@S": SETTING, "@s": SETTING.upper(), "@Q": '"app"."Current_Business_Id"',
        "@U": 'U&"\\0061pp".U&"current_business!005fid" uescape \'!\'',
        "@E": "app.current\\x5fbusiness\\137id", "@W": "app.current\\005fbusiness_id",
        "@1": "app.current_", "@2": "business_id", "@V": "7", "@X": "\\x37"},
    "statement_timeout": {
        "@S": "statement_timeout", "@s": "STATEMENT_TIMEOUT", "@Q": '"Statement_timeout"',
        "@U": 'U&"statement\\005ftimeout"', "@E": "statement\\x5ftimeout",
        "@W": "statement\\005ftimeout", "@1": "statement_", "@2": "timeout", "@V": "0",
        "@X": "\\x30"},
}


def _lines(setting, role, visible):
    before, _, behind = CORPUS.read_text().partition(MARK)
    words = {**WORDS[setting], "@N": "\n", "@R": role, "@D": APP_DATABASE}
    for line in (before if visible else behind).splitlines():
        if line.startswith("--") or not line.strip():
            continue
        for word, meaning in words.items():
            line = line.replace(word, meaning)
        yield line


def visible(setting=SETTING, role="nobody"):
    """Those that have to be refused."""
    return list(_lines(setting, role, True))


def invisible(setting=SETTING, role="nobody"):
    """Those that nothing but the database itself can tell."""
    return list(_lines(setting, role, False))
