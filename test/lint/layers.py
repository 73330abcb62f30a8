#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# layers.py - hold every #include of src/ and include/ to the levels of src/LAYERS.
#
# Also keeps two libraries behind one file each.  Reads lines, not C: an #include inside #if 0
# counts.
"""Exit 0 when every include is legal, 1 and one line per fault otherwise."""
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
ONLY_IN = {"ev.h": "src/net/loop.c", "openssl/ssl.h": "src/net/tls.c",
           "microhttpd.h": "src/http/http.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def read_layers(text):
    """src/LAYERS as ({folder: level}, {(folder, folder it may include)})."""
    levels, sideways = {}, set()
    for line in filter(None, (raw.split("#")[0].strip() for raw in text.splitlines())):
        if "->" in line:
            sideways.add(tuple(word.strip() for word in line.split("->")))
        else:
            level, folder = line.split()
            levels[folder] = int(level)
    return levels, sideways


def fault(path, quote, target, levels, sideways):
    """Why the file at path may not include target, or None."""
    folder, wanted = path.split("/")[1], target.split("/")[0]
    if target in ONLY_IN and path != ONLY_IN[target]:
        return f"{target} belongs in {ONLY_IN[target]} only"
    if quote == "<":
        return None
    if "/" not in target or wanted not in levels:
        return f'"{target}" is not written from the top of include/'
    if wanted == folder or levels[wanted] < levels[folder] or (folder, wanted) in sideways:
        return None
    return f'{folder} (level {levels[folder]}) may not include "{target}" (level {levels[wanted]})'


def main():
    levels, sideways = read_layers((TOP / "src/LAYERS").read_text())
    faults = [f"src/LAYERS: {a} -> {b}: unknown folder, or it leads upwards"
              for a, b in sideways if not levels.get(b, 99) <= levels.get(a, -1)]
    for file in sorted(TOP.glob("src/*/**/*.[ch]")) + sorted(TOP.glob("include/*/**/*.[ch]")):
        path = file.relative_to(TOP).as_posix()
        if path.split("/")[1] not in levels:
            faults.append(f"{path}: folder is not in src/LAYERS")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            why = match and fault(path, *match.groups(), levels, sideways)
            if why:
                faults.append(f"{path}:{number}: {why}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
