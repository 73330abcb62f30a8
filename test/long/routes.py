# SPDX-License-Identifier: ISC
#
# routes.py - I4 by shapes: no write shape reaches the replica, nearly every read shape does.
"""Each shape of test/sql runs through the pooler in both protocols; the servers' logs tell where."""
import sys
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from waiting import wait_until

SHAPES = Path(__file__).resolve().parents[1] / "sql"
WRITES, READS = ("write_shapes.txt", "orm_writes.txt"), ("read_shapes.txt", "orm_reads.txt")
OBJECTS = (SHAPES / "objects.sql").read_text()


def shapes(name):
    lines = (SHAPES / name).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("--")]


def run_simple(client, sql):
    """To its ReadyForQuery, whatever comes; data that a COPY asks for is refused."""
    client.send(raw.query(sql))
    while (kind := client.until("Z", "G")[-1].kind) == "G":
        client.send(raw.copy_fail("no data"))
    assert kind == "Z"


def run_extended(client, sql):
    values = ["1"] * max([n for n in range(10) if f"${n}" in sql], default=0)
    client.send(raw.parse("", sql), raw.bind(values=values), raw.execute(), raw.sync())
    while (kind := client.until("Z", "G")[-1].kind) == "G":
        client.send(raw.copy_fail("no data"), raw.sync())
    assert kind == "Z"


def run_marked(pooler, sql, mark, extended):
    with raw.RawClient(pooler.port, pooler.host, 30.0) as client:
        client.login(USER, DATABASE, PASSWORD)
        (run_extended if extended else run_simple)(client, f"/* {mark} */ {sql}")


def reached(server, mark):
    return f"/* {mark} */" in server.log.read_text(errors="replace")


def measure(table, pooler, replica, name, asked, holds):
    """How many of the shapes of a file the replica has seen, in each protocol; (seen, of) in both."""
    sums = [0, 0]
    for extended in (False, True):
        way = "extended" if extended else "simple"
        texts = [s for s in shapes(name) if extended or "$1" not in s]
        for number, sql in enumerate(texts):
            run_marked(pooler, sql, f"{name} {way} {number}", extended)
        seen = [s for n, s in enumerate(texts) if reached(replica, f"{name} {way} {n}")]
        table.add(f"{name}, {way}: on the replica", asked, f"{len(seen)} of {len(texts)}",
                  holds(len(seen), len(texts)))
        odd = seen if "write" in name else [s for s in texts if s not in seen]
        for sql in odd:
            print("  ", sql)
        sums = [sums[0] + len(seen), sums[1] + len(texts)]
    return sums


def report(table, writes, reads):
    """The corpus as a whole: each shape once, and all that was sent."""
    corpus = sum(len(shapes(name)) for name in WRITES + READS)
    table.add("shapes in the corpus", ">= 400", corpus, corpus >= 400)
    table.add("writes on the replica", "0", f"{writes[0]} of {writes[1]}", not writes[0])
    table.add("true reads on the replica", ">= 97 %", f"{100 * reads[0] / reads[1]:.1f} % of {reads[1]}",
              reads[0] >= 0.97 * reads[1])


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary(settings={"log_statement": "all"})
        primary.sql(f"GRANT pg_monitor TO {USER}")
        primary.sql(f"ALTER DATABASE {DATABASE} OWNER TO {USER}")
        primary.sql(OBJECTS, dbname=DATABASE, user=USER, password=PASSWORD)
        replica = stage.replica_of(primary)
        replica.wait_caught_up(primary)
        pooler = stage.turnstile(
            {"pgturnstile": {"pool_mode": "transaction", "monitor_user": USER, "max_replica_lag": 0,
                             "read_your_writes": "off",
                             "max_client_conn": 300},
             "databases": {DATABASE: {"host": f"{primary.host},{replica.host}",
                                      "port": f"{primary.port},{replica.port}"}}})
        marks = iter(range(10000))

        def routes():
            mark = f"try {next(marks)}"
            run_marked(pooler, "SELECT id FROM t", mark, False)
            return reached(replica, mark)

        wait_until(routes, 60, lambda: "reads reach the replica\n" + pooler.log_text())
        writes = [measure(table, pooler, replica, name, "0", lambda seen, of: seen == 0 and of >= 80)
                  for name in WRITES]
        # What the shapes have defined is being asked for: until then all that runs code is a write.
        wait_until(routes, 60, lambda: "reads reach the replica again\n" + pooler.log_text())
        reads = [measure(table, pooler, replica, name, ">= 97 %",
                         lambda seen, of: of >= 60 and seen >= 0.97 * of) for name in READS]
        report(table, [sum(n) for n in zip(*writes)], [sum(n) for n in zip(*reads)])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
