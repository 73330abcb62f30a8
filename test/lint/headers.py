#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# headers.py - every source file says its licence and its name, every folder of src/ what it is for.
"""Exit 0 when all is there, 1 and one line per fault otherwise."""
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TREES = ("src", "include", "test", "etc", ".ci")
KINDS = {".c", ".h", ".def", ".py", ".sh", ".sql", ".am"}
SPDX = "SPDX-License-Identifier: ISC"
NEAR_THE_TOP = 3  # a #! line may stand before it


def main():
    faults = []
    for file in sorted(f for tree in TREES for f in (TOP / tree).rglob("*") if f.suffix in KINDS):
        head = file.read_text().splitlines()[:8]
        if not any(SPDX in line for line in head[:NEAR_THE_TOP]):
            faults.append(f"{file.relative_to(TOP)}: no '{SPDX}' in its first lines")
        elif file.suffix in {".c", ".h"} and not any(f" {file.name} - " in line for line in head):
            faults.append(f"{file.relative_to(TOP)}: its head does not say '{file.name} - ...'")
    for folder in sorted(f for f in (TOP / "src").iterdir() if f.is_dir()):
        sources = any(folder.glob("*.c"))
        if sources and not (folder / "README.md").is_file():
            faults.append(f"{folder.relative_to(TOP)}: no README.md")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
