# SPDX-License-Identifier: ISC
#
# cancels.py - I7 under load: 200 clients cancelling at random; nobody else's statement is hit.
"""Each client counts its own cancel requests; a 57014 without one of its own is a foreign cancel."""
import os
import random
import sys
import threading
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

SECONDS = int(os.environ.get("PGT_SECONDS", "20"))
CLIENTS = 200


class Canceller(threading.Thread):
    """Runs short statements; some are cancelled by itself, from another connection."""

    def __init__(self, pooler, deadline):
        super().__init__()
        self.pooler, self.deadline = pooler, deadline
        self.statements = self.asked = self.hit = self.foreign = self.errors = 0

    def cancel(self, client):
        with raw.RawClient(self.pooler.port, self.pooler.host, 30.0) as other:
            other.send(raw.cancel_request(client.pid, client.key))
            while other.sock.recv(100):
                pass

    def one(self, client):
        asks = random.random() < 0.4
        client.send(raw.query(f"SELECT pg_sleep({random.random() * 0.02:.4f})"))
        if asks:
            self.asked += 1
            self.cancel(client)
        messages = client.until("Z")
        self.statements += 1
        errors = raw.find(messages, "E")
        if errors and errors[0].fields["C"] != "57014":
            self.errors += 1
        elif errors and asks:
            self.hit += 1
        elif errors:
            self.foreign += 1

    def run(self):
        with raw.RawClient(self.pooler.port, self.pooler.host, 60.0) as client:
            client.login(USER, DATABASE, PASSWORD)
            while time.monotonic() < self.deadline:
                self.one(client)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        pooler = stage.turnstile(
            {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 10,
                             "max_client_conn": 3 * CLIENTS, "log_connections": 0,
                             "log_disconnections": 0},
             "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})
        deadline = time.monotonic() + SECONDS
        clients = [Canceller(pooler, deadline) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        total = {what: sum(getattr(c, what) for c in clients)
                 for what in ("statements", "asked", "hit", "foreign", "errors")}
        table.add("statements cancelled that did not ask for it", 0,
                  "{foreign} of {statements}; {asked} asked, {hit} were cancelled".format(**total),
                  not total["foreign"] and total["hit"])
        table.add("other errors", 0, total["errors"], not total["errors"])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
