# SPDX-License-Identifier: ISC
#
# orm.py - round trips to the server that SQLAlchemy's and Django's requests do not make.
#
# A request is what a web application does with a pooled connection: pre-ping, BEGIN, three
# queries, COMMIT, and the reset when the connection goes back.  What was asked for is what SHOW
# SAVINGS counts; what the server was asked is counted on the wire, by a tap between the two.
"""Both ORMs over psycopg 2, as Debian has them, through a pooler in transaction mode."""
import contextlib
import socket
import struct
import sys
import threading

import django
import sqlalchemy
from django.conf import settings
from sqlalchemy.orm import Session

from stage import DATABASE, PASSWORD, USER, Stage, Table

REQUESTS, BAR = 500, 30
QUERIES = ["SELECT id, name FROM orm_things WHERE id = 1", "SELECT count(*) FROM orm_things",
           "UPDATE orm_things SET name = 'x' WHERE id = 2"]


class Tap:
    """A relay of bytes that counts the ReadyForQuery messages of the server behind it."""

    host = "127.0.0.1"

    def __init__(self, server):
        self._server, self.ready = server, 0
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection((self._server.host, self._server.port))
            for pair in (client, server, False), (server, client, True):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, target, counts):
        rest = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    rest = self._count(rest + data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _count(self, data):
        at = 0
        while len(data) - at >= 5:
            size = 1 + struct.unpack_from("!i", data, at + 1)[0]
            if len(data) - at < size:
                break
            self.ready += data[at:at + 1] == b"Z"
            at += size
        return data[at:]


@contextlib.contextmanager
def sqlalchemy_requests(pooler):
    """The engine's own pool pings, and rolls back on return."""
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg2://{USER}:{PASSWORD}@{pooler.host}:{pooler.port}/{DATABASE}",
        pool_pre_ping=True, pool_size=1, max_overflow=0)

    def request():
        with Session(engine) as session:
            for query in QUERIES:
                session.execute(sqlalchemy.text(query))
            session.commit()

    yield request
    engine.dispose()


@contextlib.contextmanager
def django_requests(pooler):
    """A connection that lives on (CONN_MAX_AGE = None), asked for a sign of life as
    CONN_HEALTH_CHECKS of later versions does at the beginning of a request."""
    settings.configure(DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": pooler.host, "PORT": pooler.port,
        "NAME": DATABASE, "USER": USER, "PASSWORD": PASSWORD, "CONN_MAX_AGE": None}})
    django.setup()
    from django.db import connection, transaction

    def request():
        if connection.connection:
            assert connection.is_usable()
        with transaction.atomic(), connection.cursor() as cursor:
            for query in QUERIES:
                cursor.execute(query)
        connection.close_if_unusable_or_obsolete()

    yield request
    connection.close()


def savings(pooler):
    row = next(r for r in pooler.admin("SHOW SAVINGS") if r["database"] == DATABASE)
    return {name: int(value) for name, value in row.items() if name != "database"}


def measure(pooler, tap, requests):
    """What was asked for, what of it was answered without a server, what the server was asked."""
    with requests(pooler) as request:
        request()  # with the connection's own beginning
        before, made = savings(pooler), tap.ready
        for _ in range(REQUESTS):
            request()
        after, made = savings(pooler), tap.ready - made
    return {name: after[name] - before[name] for name in after}, made


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        primary.sql("CREATE TABLE orm_things (id int, name text); GRANT ALL ON orm_things TO PUBLIC;"
                    " INSERT INTO orm_things VALUES (1, 'a'), (2, 'b')", dbname=DATABASE)
        tap = Tap(primary)
        pooler = stage.turnstile({"pgturnstile": {"pool_mode": "transaction",
                                                  "server_tls_sslmode": "disable"},
                                  "databases": {DATABASE: {"host": tap.host, "port": tap.port}}})
        for name, requests in (f"SQLAlchemy {sqlalchemy.__version__}", sqlalchemy_requests), \
                (f"Django {django.__version__}", django_requests):
            grown, made = measure(pooler, tap, requests)
            asked = grown.pop("asked")
            fewer = 100 * (1 - made / asked)
            parts = ", ".join(f"{kind} {count / REQUESTS:.2f}" for kind, count in grown.items() if count)
            table.add(f"{name}: trips a request", f">= {BAR} % fewer",
                      f"{asked / REQUESTS:.2f} asked, {made / REQUESTS:.2f} made:"
                      f" {fewer:.1f} % fewer ({parts})", made and fewer >= BAR)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
