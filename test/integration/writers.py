# SPDX-License-Identifier: ISC
#
# writers.py - clients that write without a pause, and remember what they were told, for tests in which
# the primary goes.  Knows a table `ledger (client int, serial int)`, not what happens to its server.
"""Writer: one such client; told(): what they were told; counts(): what is there."""
import threading
import time

import raw

INSERT = "INSERT INTO ledger VALUES ({}, {}) RETURNING current_setting('test.port')"


class Refused(Exception):
    """What a request was answered with, when that was an error."""


class Writer(threading.Thread):
    """Writes rows of its own, one after the other; comes back when its connection is closed."""

    def __init__(self, pooler, login, number, stopped):
        super().__init__(daemon=True)
        self.pooler, self.login, self.number, self.stopped = pooler, login, number, stopped
        self.serial = 0
        self.acknowledged = []  # (serial, port, when)
        self.errors = []        # (when its transaction was begun, when it came, SQLSTATE, hint)
        self.begun_at = 0.0
        self.form = (self.simple, self.extended, self.transaction)[number % 3]

    def run(self):
        while not self.stopped.is_set():
            try:
                with raw.RawClient(self.pooler.port, self.pooler.host, 60.0) as client:
                    client.login(*self.login)
                    if self.number % 2:
                        self.ask(client, raw.query("SET work_mem = '5MB'"))
                    while not self.stopped.is_set():
                        self.begun_at = time.monotonic()
                        self.form(client)
            except Refused as refused:
                self.errors.append((self.begun_at, time.monotonic(), *refused.args))
            except (EOFError, OSError, raw.LoginRefused) as error:
                self.errors.append((self.begun_at, time.monotonic(), repr(error), ""))

    def ask(self, client, request):
        """The port that answered, if any did."""
        client.send(request)
        port = None
        while (got := client.message()).kind != "Z":
            if got.kind == "E":
                raise Refused(got.fields["C"], got.fields.get("H", ""))
            if got.kind == "D":
                port = int(got.row[0])
        return port

    def insert(self):
        self.serial += 1
        return INSERT.format(self.number, self.serial)

    def note(self, *serials, port):
        self.acknowledged += [(serial, port, time.monotonic()) for serial in serials]

    def simple(self, client):
        port = self.ask(client, raw.query(self.insert()))
        self.note(self.serial, port=port)

    def extended(self, client):
        port = self.ask(client, raw.parse("", self.insert()) + raw.bind() + raw.execute() + raw.sync())
        self.note(self.serial, port=port)

    def transaction(self, client):
        self.ask(client, raw.query("BEGIN"))
        port = self.ask(client, raw.query(self.insert()))
        self.ask(client, raw.query(self.insert()))
        self.ask(client, raw.query("COMMIT"))
        self.note(self.serial - 1, self.serial, port=port)


def told(writers, *ports):
    """The rows that were acknowledged by these nodes."""
    return {(w.number, serial) for w in writers for serial, port, _ in w.acknowledged if port in ports}


def counts(node, dbname):
    """How often each row is there."""
    return {(client, serial): count for client, serial, count in node.sql(
        "SELECT client, serial, count(*) FROM ledger WHERE client >= 0 GROUP BY 1, 2", dbname=dbname)}
