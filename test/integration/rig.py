# SPDX-License-Identifier: ISC
#
# rig.py - what the tests of the relay share: a pooler before the primary, and who is on it.
#
# Knows the database and the role that conftest.py makes; nothing of what is tested.
"""shop(), log_in(), same_as_direct(), backends(): setting a scene in one line."""
import contextlib

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from waiting import wait_until

# In an ErrorResponse or NoticeResponse: where the server's source says it, and what names objects.
_VOLATILE_FIELDS = "FLRWPMDHs"


def shop(server, settings=None, database=None):
    """A config: database `shop` on `server`, in transaction mode with a pool of 2.

    Tests ask for the server's pid to see who has which, so that must not pin.
    """
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 2,
                            "backend_pid": "server", "server_tls_sslmode": "disable",
                            **(settings or {})},
            "databases": {APP_DATABASE: {"host": server.host, "port": server.port,
                                         **(database or {})}}}


def log_in(server, user=APP_USER, secret=APP_PASSWORD, dbname=APP_DATABASE, timeout=10.0, **kwargs):
    """A raw client of a server or pooler, logged in."""
    client = raw.RawClient(server.port, server.host, timeout)
    try:
        return client.login(user, dbname, secret, **kwargs)
    except BaseException:
        client.close()
        raise


@contextlib.contextmanager
def clients(server, count, **kwargs):
    """`count` clients, logged in."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(log_in(server, **kwargs)) for _ in range(count)]


def sqlstate(messages):
    """The SQLSTATE of the first error among the messages, or None."""
    errors = raw.find(messages, "E")
    return errors[0].fields["C"] if errors else None


def essence(messages):
    """What has to be the same on a direct connection: everything but sources and wordings."""
    result = []
    for m in messages:
        if m.kind in "EN":
            body = {k: v for k, v in m.fields.items() if k not in _VOLATILE_FIELDS}
        elif m.kind in "TS":
            body = m.strings[:1] if m.kind == "S" else len(m.body)
        else:
            body = m.body
        result.append((m.kind, body))
    return result


def same_as_direct(server, pooler, *requests):
    """Send each of the requests (bytes that end in a ReadyForQuery) to both and compare.

    Returns the pooler's answers, one list of messages for each request.
    """
    answers = []
    with log_in(server) as direct, log_in(pooler) as through:
        for request in requests:
            direct.send(request)
            through.send(request)
            expected, got = direct.until("Z"), through.until("Z")
            assert essence(got) == essence(expected), request
            answers.append(got)
    return answers


def backends(primary, where="true"):
    """The pids of the application's sessions on the server."""
    return [pid for pid, in primary.sql(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        f" AND usename = '{APP_USER}' AND {where} ORDER BY pid")]


def wait_backends(primary, count, where="true", timeout=10):
    """Return once the application has `count` such sessions."""
    wait_until(lambda: len(backends(primary, where)) == count, timeout,
               what=lambda: f"{count} sessions where {where}, but {backends(primary)}")


def pid_of(client):
    """The server process that answers this client now."""
    return int(client.rows("SELECT pg_backend_pid()")[0][0])


def made_on_both(primary, replica, schema):
    """The two, when what is made on the one has come to the other, in the application's database."""
    with primary.connect(APP_DATABASE) as connection:
        connection.execute(schema)
    replica.wait_caught_up(primary)
    return primary, replica


def pool_of(pooler, column, database=APP_DATABASE):
    """A column of SHOW POOLS for the application's pool; 0 when there is none yet."""
    rows = [row for row in pooler.admin("SHOW POOLS") if row["database"] == database]
    return rows[0][column] if rows else 0


def wait_nodes(pooler, *roles, database=APP_DATABASE):
    """Return once the nodes have these roles, and it is known how far the replicas are behind.

    Not before that is a read sure to find a replica.
    """
    def nodes():
        return [row for row in pooler.admin("SHOW NODES") if row["database"] == database]

    wait_until(lambda: [n["role"] for n in nodes()] == list(roles)
               and all(n["lag"] is not None for n in nodes() if n["role"] == "replica"),
               30, lambda: f"{roles}, but {nodes()}\n{pooler.log_text()}")


def memory_kib(pooler):
    """Resident memory of the process; 0 with a sanitizer in it, which keeps what is freed."""
    with open(f"/proc/{pooler.pid()}/maps") as maps:
        if any("libasan" in line or "libtsan" in line for line in maps):
            return 0
    with open(f"/proc/{pooler.pid()}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
