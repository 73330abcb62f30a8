#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# states.py - docs/states.md draws the states and transitions that the code has, and no others.
#
# Reads X-macro lists and the tables legal_next by their form, not C.
"""Exit 0 when page and code agree, 1 and one line per difference otherwise."""
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs/states.md"
LISTS = {"CLIENT_PHASES": "include/client/client.h", "SLOT_STATES": "include/pool/pool.h",
         "SERVER_CHECKS": "include/server/server.h"}
TABLES = {"SLOT_STATES": "src/pool/pool.c", "SERVER_CHECKS": "src/relay/context.c"}


def read_list(name):
    """The identifiers of an X-macro list, in lower case."""
    text = (TOP / LISTS[name]).read_text()
    body = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*\n)", text).group(1)
    return [word.lower() for word in re.findall(r"\bX\((\w+)\)", body)]


def read_transitions(path):
    """{(from, to)} of the table legal_next."""
    table = re.search(r"legal_next\[\w+\] = \{(.*?)\n\};", (TOP / path).read_text(), re.S).group(1)
    rows = re.findall(r"\[[A-Z]+_(\w+)\] = ([^,]*),", table)
    return {(start.lower(), to.lower())
            for start, ends in rows for to in re.findall(r"TO\((\w+)\)", ends)}


def read_drawing(name):
    """{(from, to)} of the first diagram below the heading that names the list."""
    text = PAGE.read_text().split(f"`{name}`", 1)[1]
    diagram = re.search(r"stateDiagram-v2\n(.*?)```", text, re.S).group(1)
    return set(re.findall(r"^ *(\S+) --> ([^\s:]+)", diagram, re.M))


def compare(what, code, page):
    yield from (f"{what} {item} is not drawn" for item in sorted(code - page))
    yield from (f"{what} {item} is drawn, but not in the code" for item in sorted(page - code))


def differences(name):
    drawn = read_drawing(name)
    yield from compare(name, set(read_list(name)), {s for pair in drawn for s in pair} - {"[*]"})
    if name in TABLES:
        arrows = {f"{a} --> {b}" for a, b in drawn if "[*]" not in (a, b)}
        legal = {f"{a} --> {b}" for a, b in read_transitions(TABLES[name])}
        yield from compare(name, legal, arrows)


def main():
    faults = [f"docs/states.md: {line}" for name in LISTS for line in differences(name)]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
