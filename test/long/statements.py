# SPDX-License-Identifier: ISC
#
# statements.py - memory of 200 clients with 10,000 prepared statements each: what a text costs, what
# a name costs, and that all of it comes back.
"""10,000 distinct texts, 2,000,000 names; bounded by the settings, and measured."""
import sys

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from waiting import wait_until

CLIENTS, STATEMENTS = 200, 10_000
TEXT = "SELECT balance, name, created_at FROM accounts WHERE id = $1::int AND region = '{:05}'"
NAME_BAR = 80     # bytes of a name that a client has for a text that is there
TEXT_BAR = 640    # bytes of a text of 82, with what is known about it
SETTINGS = {"pool_mode": "transaction", "default_pool_size": 2, "workers": 1,
            "max_prepared_statements": 200, "max_client_conn": CLIENTS + 10,
            "log_connections": 0, "log_disconnections": 0,
            "server_tls_sslmode": "disable"}


def resident(pooler):
    with open(f"/proc/{pooler.pid()}/smaps_rollup") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Rss"))


def log_in(pooler):
    return raw.RawClient(pooler.port, timeout=120).login(USER, DATABASE, PASSWORD)


def prepare_all(client, batch):
    """The answers: ParseCompletes, or an error, and how many."""
    client.send(batch)
    messages = client.until("Z")
    return len(raw.find(messages, "1")), [m.fields["C"] for m in raw.find(messages, "E")]


def measure(table, primary, stage):
    pooler = stage.turnstile({"pgturnstile": {**SETTINGS, "max_prepared_memory": "1GB"},
                              "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})
    batch = b"".join(raw.parse(f"_pg3_{i}", TEXT.format(i)) for i in range(STATEMENTS)) + raw.sync()
    clients = [log_in(pooler) for _ in range(CLIENTS)]
    before = resident(pooler)
    assert prepare_all(clients[0], batch) == (STATEMENTS, [])
    with_texts = resident(pooler)
    for client in clients[1:]:
        assert prepare_all(client, batch) == (STATEMENTS, [])
    full = resident(pooler)
    names = sum(row["names"] for row in pooler.admin("SHOW PREPARED"))
    name = (full - with_texts) / ((CLIENTS - 1) * STATEMENTS)
    table.add("names that clients have", CLIENTS * STATEMENTS, names, names == CLIENTS * STATEMENTS)
    text = (with_texts - before) / STATEMENTS - name
    table.add("resident before, MiB", "-", round(before / 2**20, 1), True)
    table.add(f"resident with {STATEMENTS} texts, MiB", "-", round(with_texts / 2**20, 1), True)
    table.add(f"resident with {CLIENTS * STATEMENTS} names, MiB", "-", round(full / 2**20, 1), True)
    table.add("bytes per name", f"<= {NAME_BAR}", round(name, 1), 0 < name <= NAME_BAR)
    table.add(f"bytes per text of {len(TEXT.format(0))}", f"<= {TEXT_BAR}", round(text, 1),
              0 < text <= TEXT_BAR)
    for client in clients:
        client.close()
    with log_in(pooler) as last:
        wait_until(lambda: not sum(row["names"] for row in pooler.admin("SHOW PREPARED")), 60)
        last.query("SELECT 1")
        rows = pooler.admin("SHOW PREPARED")
        table.add("texts left, of servers only", "<= 400", len(rows),
                  len(rows) <= 400)
    pooler.stop()


def bound(table, primary, stage):
    """Small bounds, and a client that wants more."""
    pooler = stage.turnstile(
        {"pgturnstile": {**SETTINGS, "max_prepared_memory": "32MB",
                         "max_client_prepared_memory": "8MB"},
         "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})
    before = resident(pooler)
    with log_in(pooler) as greedy:
        done, errors = prepare_all(greedy, b"".join(
            raw.parse(f"s{i}", "SELECT '" + f"{i:05}" * 200 + "'") for i in range(STATEMENTS))
            + raw.sync())
        table.add("client with 10,000 texts of 1,000 bytes and 8 MB", "53200", errors, errors == ["53200"])
        table.add("of which there was room for", "< 8,000", done, 6000 < done < 8000)
        refused = 0
        greedies = [log_in(pooler) for _ in range(8)]
        for n, client in enumerate(greedies):
            refused += prepare_all(client, b"".join(
                raw.parse(f"s{i}", f"SELECT '{n}" + f"{i:05}" * 200 + "'") for i in range(6000))
                + raw.sync())[1] == ["53200"]
        growth = (resident(pooler) - before) / 2**20
        table.add("8 more of 6 MB, and 32 MB for the worker: refused", ">= 4", refused, refused >= 4)
        table.add("growth of the process, MiB", "<= 48", round(growth, 1), growth <= 48)
        for client in greedies:
            client.close()
    with log_in(pooler) as client:
        done, errors = prepare_all(client, b"".join(
            raw.parse(f"t{i}", f"SELECT '{i:05}'") for i in range(5000)) + raw.sync())
        table.add("when they have left, a client's 5,000", (5000, []), (done, errors),
                  (done, errors) == (5000, []))


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        primary.sql("CREATE TABLE accounts (id int, balance int, name text, region text,"
                    " created_at timestamptz); GRANT ALL ON accounts TO PUBLIC", dbname=DATABASE)
        measure(table, primary, stage)
        bound(table, primary, stage)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
