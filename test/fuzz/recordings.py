# SPDX-License-Identifier: ISC
#
# recordings.py - what record.py has written down, as seeds and as tests.
#
# Knows no PostgreSQL and no proxy: files, and a fuzzer that is given them.
"""seeds_of(): files of recorded/; misheard(): whether clients are told what they were told then."""
import os
import re
import subprocess
from pathlib import Path

RECORDED = Path(__file__).resolve().parent / "recorded"
_HEARD = RECORDED / "heard.txt"
_INPUT = 4  # HEARD_INPUT of fuzz_relay.c


def files_of(name):
    return sorted((RECORDED / name).glob("*"))


def seeds_of(name):
    """What was recorded; for fuzz_scram also with the nonce that its own side has."""
    for said in (file.read_bytes() for file in files_of(name)):
        yield said
        if name == "fuzz_scram" and said[:1] in b"\1\2":
            yield re.sub(rb"r=[^,]*", b"r=x%" if said[:1] == b"\1" else b"r=%x", said)


def messages(said):
    """The whole ones."""
    at = 0
    while (end := at + 1 + int.from_bytes(said[at + 1:at + 5], "big")) <= len(said) and at < end - 4:
        yield said[at:end]
        at = end


def kinds(said):
    return "".join(chr(m[0]) for m in messages(said))


def write_heard(heard):
    """heard: of each file, what both clients were told."""
    _HEARD.write_text("".join(" ".join((name, *(kinds(said) or "-" for said in both))) + "\n" for name, both in sorted(heard.items())))


def _read_heard():
    rows = (line.split() for line in _HEARD.read_text().splitlines())
    return {name: [said.strip("-") for said in both] for name, *both in rows}


def _replayed(said):
    """What fuzz_relay.c has written down, for each input both."""
    inputs = []
    while said:
        who, size = said[0], int.from_bytes(said[1:5], "big")
        if who == _INPUT:
            inputs.append([b"", b""])
        else:
            inputs[-1][who] += said[5:5 + size]
        said = said[5 + size:]
    return inputs


def replay(program, files, scratch):
    """What kinds of messages both clients hear in each of the files, which fuzz_relay is given."""
    told = Path(scratch) / "told"
    subprocess.run([program, *files], env={**os.environ, "FUZZ_HEARD": str(told)}, check=True)
    replayed = [list(map(kinds, both)) for both in _replayed(told.read_bytes())]
    told.unlink()
    assert len(replayed) == len(files)
    return replayed


def is_heard(got, heard):
    """An input may end before its conversation did, so more may be heard than was by then."""
    return all(map(str.startswith, got, heard))


def misheard(program, scratch):
    """Which recorded inputs of fuzz_relay come out otherwise, and how."""
    heard, files = _read_heard(), files_of("fuzz_relay")
    assert [file.name for file in files] == sorted(heard), "what was heard is known of each file that there is"
    return {file.name: f"{got}, where {heard[file.name]} was heard" for file, got in zip(files, replay(program, files, scratch))
            if not is_heard(got, heard[file.name])}
