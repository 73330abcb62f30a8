# SPDX-License-Identifier: ISC
"""wire.py - a PostgreSQL client on a raw socket, as small as the benchmark needs.

Logs in where it is trusted and waits for ReadyForQuery.  Does not know results or types.
"""

import socket
import struct


class WireError(Exception):
    """The server answered with an ErrorResponse, asked for a password, or went away."""


class Client:
    """One connection.  Every wait is bounded by timeout seconds (socket.timeout is raised)."""

    def __init__(self, port, user, database, timeout=30):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.pending = b""
        body = struct.pack("!I", 3 << 16)
        for word in ("user", user, "database", database, ""):
            body += word.encode() + b"\0"
        self.sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self.wait_ready()

    def close(self):
        self.sock.close()

    def simple(self, sql):
        self.sock.sendall(frame(b"Q", sql.encode() + b"\0"))
        self.wait_ready()

    def prepare(self, name, sql):
        body = name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack("!H", 0)
        self.sock.sendall(frame(b"P", body) + frame(b"S", b""))
        self.wait_ready()

    def wait_ready(self):
        """Reads up to ReadyForQuery; an error answer is raised once that has come."""
        failed = None
        kind, body = self.next_frame()
        while kind != b"Z":
            if kind == b"R" and body != b"\0\0\0\0":
                raise WireError("the server wants a password")
            if kind == b"E":
                failed = body.replace(b"\0", b" ").decode(errors="replace")
            kind, body = self.next_frame(failed)
        if failed:
            raise WireError(failed)

    def next_frame(self, failed=None):
        header = self.read(5, failed)
        return header[:1], self.read(struct.unpack("!I", header[1:])[0] - 4, failed)

    def read(self, size, failed):
        while len(self.pending) < size:
            got = self.sock.recv(65536)
            if not got:
                raise WireError(failed or "the server closed the connection")
            self.pending += got
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken


def frame(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body
