# SPDX-License-Identifier: ISC
#
# streams.py - I6 with bulk: results and messages of a gigabyte pass, and the process stays small.
"""A reader that takes its time, one value of 900 MB, one statement's parameter of 500 MB."""
import struct
import sys
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

MIB = 1 << 20
BAR_MIB = 8


def peak_kib(pooler):
    status = Path(f"/proc/{pooler.pid()}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def drain(client, small):
    """The rest of an answer, in small pieces or large; its length.  Ends at ReadyForQuery."""
    total, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        piece = client.sock.recv(4096 if small else MIB)
        assert piece, "the connection ended"
        total += len(piece)
        tail = (tail + piece)[-6:]
    return total


def measure(table, pooler, what, send, small=False, least=0):
    before = peak_kib(pooler)
    with raw.RawClient(pooler.port, pooler.host, 300.0) as client:
        client.login(USER, DATABASE, PASSWORD)
        send(client)
        total = drain(client, small)
    grown = (peak_kib(pooler) - before) / 1024
    table.add(what, f"all of it, <= {BAR_MIB} MiB more", f"{total / MIB:.0f} MiB passed, {grown:.1f} MiB more",
              total >= least and grown <= BAR_MIB)


def big_bind(client):
    """Parse, Bind with one parameter of 500 MB, Execute, Sync."""
    size = 500 * MIB
    body = b"\0\0" + struct.pack("!hhi", 0, 1, size)
    client.send(raw.parse("", "SELECT length($1::text)"))
    client.sock.sendall(b"B" + struct.pack("!i", 4 + len(body) + size + 2) + body)
    for _ in range(500):
        client.sock.sendall(b"x" * MIB)
    client.send(struct.pack("!h", 0), raw.execute(), raw.sync())


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        pooler = stage.turnstile({"pgturnstile": {"pool_mode": "transaction", "workers": 1},
                                  "databases": {DATABASE: {"host": primary.host,
                                                           "port": primary.port}}})
        rows = "SELECT repeat('x', 1000) FROM generate_series(1, 1050000)"
        measure(table, pooler, "1 GB of rows, a reader of 4 kB pieces",
                lambda c: c.send(raw.query(rows)), small=True, least=1000 * MIB)
        measure(table, pooler, "one value of 900 MB",
                lambda c: c.send(raw.query("SELECT repeat('x', 900000000)")), least=900_000_000)
        measure(table, pooler, "a parameter of 500 MB", big_bind)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
