# SPDX-License-Identifier: ISC
#
# named.py - tests that a page names, and whether they are there.
#
# A page names tests behind a link to their file: [test_x.py](where/test_x.py) `test_a`, `test_b`.
# Knows tests in Python and cmocka's.
"""named_tests(), missing_tests(): a page does not promise what nothing holds."""
import re

_LINKED = re.compile(r"\[(test_\w+\.(?:py|c))\]\(([\w./-]+)\)((?:,? `test_\w+`)+)")
_DEFINED = re.compile(r"^(?:static void|def) (test_\w+)\(", re.M)


def named_tests(text):
    """The tests that a text names: (link to the file, name of the test)."""
    return [(link, name) for _, link, names in _LINKED.findall(text)
            for name in re.findall(r"`(\w+)`", names)]


def missing_tests(page, text):
    """Those that a part of the page names and that its files do not define."""
    return [(link, name) for link, name in named_tests(text)
            if name not in _DEFINED.findall((page.parent / link).read_text())]
