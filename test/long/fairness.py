# SPDX-License-Identifier: ISC
#
# fairness.py - tenants that share a pool: what a flood of one costs another, and whether weights
# are kept.
#
# The time in the queue is told by a server that stamps what comes (neighbour.c), so that the turns
# of clients on a busy machine do not count; and as far as that may be asked for, all who take part
# come first on it.
"""A server that takes 2 ms for each statement, one process that floods it, one client that asks."""
import collections
import multiprocessing
import os
import selectors
import statistics
import subprocess
import sys
import time
from pathlib import Path

from stage import DATABASE, USER, Stage, Table, raw
from machine import scratch_dir

SECONDS = int(os.environ.get("PGT_SECONDS", "5"))
ROUNDS, SERVERS, SERVICE = 5, 10, 0.002
QUERY = raw.query("SELECT 2")
ANSWER = raw.command_complete("SELECT 0") + raw.ready()
TIMEOUT_ASKED = b"'statement_timeout'"
TIMEOUT_ANSWER = raw.row_description("setting") + raw.data_row("0") + ANSWER
# To what a pooler asks besides, at once.
OTHERS = {b"Q": ANSWER, b"S": raw.ready(), b"P": raw.parse_complete(), b"B": raw.bind_complete(),
          b"E": raw.command_complete("SELECT 0"), b"C": raw.message("3")}


def serve(session):
    """Answers QUERY after SERVICE."""
    session.sock.settimeout(None)
    pending = b""
    while data := session.sock.recv(65536):
        pending += data
        answer, at = b"", 0
        while len(pending) - at >= 5:
            end = at + 1 + int.from_bytes(pending[at + 1:at + 5], "big")
            if len(pending) < end:
                break
            request = pending[at:end]
            if request == QUERY:
                time.sleep(SERVICE)
            answer += (TIMEOUT_ANSWER if TIMEOUT_ASKED in request
                       else OTHERS.get(request[:1], b""))
            at = end
        pending = pending[at:]
        if answer:
            session.sock.sendall(answer)


def serve_all(pipe):
    with raw.FakeServer(serve) as server:
        pipe.send(server.port)
        pipe.recv()


def log_in(port, tenant):
    client = raw.RawClient(port)
    client.login(f"{USER}.{tenant}", DATABASE)
    return client


def flood(pipe, port, counts):
    """So many clients of each tenant, who ask again as soon as they are answered; sends how often
    each tenant has been, each time that it is asked for."""
    selector, done = selectors.DefaultSelector(), collections.Counter()
    selector.register(pipe, selectors.EVENT_READ)
    for tenant, n in counts.items():
        for _ in range(n):
            client = log_in(port, tenant)
            selector.register(client.sock, selectors.EVENT_READ, tenant)
            client.send(QUERY)
            client.sock.setblocking(False)
    pipe.send(None)
    while True:
        for key, _ in selector.select():
            if key.fileobj is pipe:
                if not pipe.recv():
                    return
                pipe.send(dict(done))
                continue
            data = key.fileobj.recv(4096)
            assert data == ANSWER, data
            done[key.data] += 1
            key.fileobj.send(QUERY)


class Helper:
    """A process at the other end of a pipe, until it is told to end."""

    def __init__(self, function, *args):
        self.pipe, end = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=function, args=(end, *args), daemon=True)
        self.process.start()
        self.first = self.pipe.recv()

    def ask(self):
        self.pipe.send(True)
        return self.pipe.recv()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pipe.send(False)
        self.process.join(5)
        self.process.terminate()


def turns(port, counts):
    """How often each tenant was served."""
    with Helper(flood, port, counts) as load:
        before = load.ask()
        time.sleep(SECONDS)
        after = load.ask()
    return {tenant: after.get(tenant, 0) - before.get(tenant, 0) for tenant in counts}


def come_first():
    """This process and those that it starts from now on are not kept waiting by others."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("without the right to come first, a busy machine adds to what is measured")


class Neighbours(Stage):
    """neighbour.c: its server, as .port, and its clients."""

    def __init__(self):
        super().__init__()
        self.program = scratch_dir("neighbours") / "neighbour"
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(self.program),
                        str(Path(__file__).with_name("neighbour.c"))], check=True)
        self.stub = self.enter_context(subprocess.Popen(
            [self.program, "stub", str(int(SERVICE * 1e6))], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE))
        self.port = int(self.stub.stdout.readline())

    def p99_beside(self, pooler, noisy):
        """Milliseconds in which 99 of 100 statements of the quiet tenant have come to the server,
        and would be answered there."""
        load = subprocess.run([self.program, "load", str(pooler.port), str(noisy), str(SECONDS)],
                              stdout=subprocess.PIPE, text=True, check=True)
        waits = [int(line) for line in load.stdout.splitlines()[1:]]
        return statistics.quantiles(waits, n=100)[98] / 1000 + SERVICE * 1000


def add_neighbours(table):
    with Neighbours() as neighbours:
        pooler = neighbours.turnstile(configuration(neighbours.port))
        pairs = [(neighbours.p99_beside(pooler, SERVERS // 2),
                  neighbours.p99_beside(pooler, 400)) for _ in range(ROUNDS)]
        half, full = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        ratio = statistics.median(b / a for a, b in pairs)
        table.add("p99 of queue and service of one client beside 400 of another tenant / beside half"
                  " of the pool busy", "≤ 1.5", f"{ratio:.2f} ({full:.2f} ms / {half:.2f} ms)",
                  ratio <= 1.5)


def configuration(server_port):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": SERVERS, "workers": 1,
                            "auth_type": "trust", "max_client_conn": 1000,
                            "tenant_by": "user_suffix", "tenant_pool": "shared",
                            "server_tls_sslmode": "disable"},
            "databases": {DATABASE: {"host": "127.0.0.1", "port": server_port}},
            "tiers": {"plain": {"weight": 1}, "better": {"weight": 8}},
            "tenants": {name: {"tier": tier, "business_id": name} for name, tier in (
                ("noisy", "plain"), ("quiet", "plain"), ("other", "plain"),
                ("better", "better"))}}


def add_share(table, what, got, one, other, asked, tolerance):
    ratio = got[one] / got[other]
    table.add(what, f"{asked} : 1 within {tolerance:.0%}",
              f"{ratio:.3f} : 1 ({got[one]} and {got[other]} turns)",
              abs(ratio / asked - 1) <= tolerance)


def main():
    table = Table()
    come_first()
    add_neighbours(table)
    with Stage() as stage, Helper(serve_all) as server:
        port = stage.turnstile(configuration(server.first)).port
        add_share(table, "equal weights, 300 clients and 100",
                  turns(port, {"noisy": 300, "other": 100}), "noisy", "other", 1, 0.05)
        add_share(table, "weights 8 and 1, 400 clients and 100",
                  turns(port, {"better": 400, "noisy": 100}), "better", "noisy", 8, 0.1)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
