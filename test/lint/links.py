#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# links.py - every relative link of every Markdown page leads to a file, every #anchor to a heading.
#
# Does not ask the network, and does not look into code blocks.
"""Exit 0 when all resolve, 1 and one line per dead link otherwise."""
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TREES = ("src", "include", "test", "etc", "docs")
FENCE = re.compile(r"^\s*(```|~~~).*?^\s*\1\s*$", re.S | re.M)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.I)


def blank(match):
    """Keeps line numbers where they are."""
    return re.sub(r"[^\n]", " ", match.group())


def anchors(page):
    """The ids that GitHub-style renderers give to the headings of a page."""
    text = FENCE.sub(blank, page.read_text())
    titles = re.findall(r"^#+\s+(.*?)\s*#*$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page):
    text = CODE.sub(blank, FENCE.sub(blank, page.read_text()))
    for match in LINK.finditer(text):
        target, _, anchor = match.group(1).partition("#")
        if ELSEWHERE.match(match.group(1)):
            continue
        file = (page.parent / target) if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield text.count("\n", 0, match.start()) + 1, match.group(1)


def main():
    pages = sorted(TOP.glob("*.md")) + sorted(p for t in TREES for p in (TOP / t).rglob("*.md"))
    faults = [f"{page.relative_to(TOP)}:{line}: {link} leads nowhere"
              for page in pages for line, link in dead_links(page)]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
