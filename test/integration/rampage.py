# SPDX-License-Identifier: ISC
#
# rampage.py - clients and a server that send anything, beside clients that only want their rows.
#
# Everything is drawn from one seed; which bytes meet is up to the threads.
"""rampage(): who is honest got its own rows and no error, or AssertionError."""
import random
import struct
import threading
import time

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from hostile import CUT, LIES, Honest
from rig import log_in, shop
from turnstile import merge

ROGUE = "rogue"
# A client's, and a server's; whoever passes it on must not have to hold it.
HUGE = "SELECT '" + "x" * 3_000_000 + "'"
HUGE_ROW = raw.data_row("x" * 3_000_000)
# Of connections, where SHOW tells of them.
STATES = ("cl_active", "cl_waiting", "sv_active", "sv_being_canceled", "sv_idle", "sv_tested", "sv_login")
LATE = 1.5  # seconds at most, beyond some timeouts of config()
TEXTS = ["SELECT 'x'", "BEGIN", "COMMIT", "ROLLBACK", "SET work_mem = '1MB'", "SELECT 1/0", "", "nonsense",
         "CREATE TEMP TABLE rogue_pin ()", "COPY (SELECT 2) TO STDOUT", "COPY nowhere FROM STDIN",
         "LISTEN rogue", "NOTIFY rogue", "PREPARE x AS SELECT 2", "EXECUTE x", "DISCARD ALL",
         "DO $$ BEGIN PERFORM 2; END $$", "SELECT repeat('x', 100000)", "SELECT '" + "x" * 70_000 + "'"]


def config(server, rogue):
    """A config: database `shop` on an honest server, `rogue` on one that is not; in one worker."""
    return merge(shop(server, {"auth_type": "scram-sha-256", "workers": 1, "server_login_retry": "20ms",
                               "default_pool_size": 10, "query_wait_timeout": 55,
                               "server_check_query": "SELECT 3", "server_check_delay": 0,
                               "client_login_timeout": 20, "client_idle_timeout": 30,
                               "idle_transaction_timeout": 1, "server_connect_timeout": 1,
                               "log_connections": 0, "log_disconnections": 0,
                               "log_pooler_errors": 0}),
                 {"databases": {ROGUE: {"host": rogue.host, "port": rogue.port}}})


def spoil(rng, parts):
    """A list of messages with one thing wrong, or none."""
    parts = list(parts)
    at = rng.randrange(len(parts) + 1)
    whole = rng.choice(list(LIES.values()))
    way = rng.choice(["none", "none", "insert", "drop", "twice", "swap", "flip", "cut", "header"])
    if way == "insert" or not parts:
        parts.insert(at, whole)
    elif way in ("drop", "twice"):
        parts[at:at + 1] = [] if way == "drop" else parts[at:at + 1] * 2
    elif way == "swap":
        rng.shuffle(parts)
    elif way in ("flip", "cut", "header"):
        at = min(at, len(parts) - 1)
        data = bytearray(parts[at])
        where = rng.randrange(len(data)) if way != "header" else rng.randrange(min(5, len(data)))
        if way == "cut":
            return [*parts[:at], bytes(data[:where])]
        data[where] ^= 1 << rng.randrange(8)
        parts[at] = bytes(data)
    return parts


def send(rng, stream, parts):
    """In one write, in pieces of any size, or byte by byte; now and then late."""
    data = b"".join(parts)
    is_tiny = len(data) < 200 and rng.random() < 0.1
    while data:
        if rng.random() < (0.001 if is_tiny else 0.02):
            time.sleep(rng.uniform(0, LATE))
        size = 1 if is_tiny else len(data) if rng.random() < 0.7 else rng.randint(1, len(data))
        stream.send(data[:size])
        data = data[size:]


def rogue_session(seed):
    """A script that answers as asked, most of the time."""
    def script(session):
        rng, honest = random.Random(seed * 10_000 + session.number), Honest()
        try:
            while (got := session.message()).kind != "X":
                parts = honest.answer(got)
                if rng.random() < 0.2:
                    parts = spoil(rng, parts)
                if rng.random() < 0.01:
                    parts.insert(rng.randrange(len(parts) + 1), HUGE_ROW)
                send(rng, session, parts)
                if rng.random() < 0.02:
                    return
        except (EOFError, ConnectionError, TimeoutError, ValueError, IndexError, UnicodeError):
            pass
    return script


def rogue_login(seed):
    """A login that goes wrong now and then."""
    def login(session):
        rng = random.Random(seed * 20_000 + session.number)
        parts = [raw.auth_ok(), raw.parameter_status("server_version", "15.0"),
                 raw.backend_key_data(session.number, b"1234"), raw.ready()]
        send(rng, session, spoil(rng, parts) if rng.random() < 0.3 else parts)
    return login


def requests(rng):
    """What a driver might send, in the order in which one might not."""
    text = rng.choice(TEXTS)
    return rng.choice([
        [raw.query(text)], [raw.query(text), raw.query(rng.choice(TEXTS))],
        [raw.parse("", text), raw.bind(), raw.describe("P"), raw.execute(), raw.sync()],
        [raw.parse("s", text), raw.sync(), raw.bind("", "s"), raw.execute("", 1), raw.sync()],
        [raw.copy_data(b"1\n"), raw.copy_done(), raw.sync()], [raw.close("S", "s"), raw.flush()],
        [raw.message("F", b"\0\0\0\1\0\0\0\0\0\0")], [raw.password("x")], [raw.terminate()],
        [rng.randbytes(rng.randint(1, 200))], [raw.SSL_REQUEST], [raw.sync()] * 50,
        [raw.bind("", "", [b"x" * 100_000]), raw.sync()], [raw.query(HUGE)]])


def come_in(rng, client, dbname):
    """As whoever knows the password; or with all that is wrong, up to what would be the proof."""
    hello = raw.startup({"user": APP_USER, "database": dbname})
    if rng.random() < 0.6:
        client.sock.settimeout(5)
        client.login(APP_USER, dbname, APP_PASSWORD)
        client.sock.settimeout(0.3)
        return
    send(rng, client, spoil(rng, [hello]) if rng.random() < 0.5 else [hello])
    if rng.random() < 0.5:
        send(rng, client, spoil(rng, [raw.message("p", "SCRAM-SHA-256", struct.pack("!i", 32) + b"n,,n=,r=" + b"x" * 24),
                                      raw.message("p", rng.randbytes(rng.randint(0, 100)))]))


def misbehave(rng, pooler, dbname):
    """One connection of somebody who wants nothing good."""
    with raw.RawClient(pooler.port, timeout=0.3) as client:
        come_in(rng, client, dbname)
        for _ in range(rng.randint(0, 6)):
            parts = requests(rng)
            send(rng, client, spoil(rng, parts) if rng.random() < 0.5 else parts)
            if client.pid and rng.random() < 0.1:
                client.cancel()
        if rng.random() < 0.5:
            client.sock.recv(rng.randint(1, 100_000))
        if rng.random() < 0.2:
            client.send(raw.cancel_request(rng.getrandbits(31), rng.randbytes(rng.choice([4, 32]))))
        if rng.random() < 0.3:
            client.reset()


def state_of(pooler):
    """What an operator would look at."""
    return "\n".join([*(str(row) for table in ("POOLS", "SERVERS", "CLIENTS")
                        for row in pooler.admin(f"SHOW {table}")), pooler.log_text()[-3000:]])


def want_rows(rng, pooler, number, done):
    """A session that gets its own rows and nothing else."""
    with log_in(pooler, timeout=60) as client:
        for _ in range(rng.randint(1, 20)):
            mark = f"{number}-{next(done)}"
            text = f"SELECT '{mark}'"
            client.send(*([raw.query(text)] if rng.random() < 0.5 else
                          [raw.parse("", text), raw.bind(), raw.execute(), raw.sync()]))
            answer = []
            try:
                while not raw.find(answer, "Z"):
                    answer.append(client.message())
            except (EOFError, ConnectionError) as end:
                raise AssertionError(f"{text}: {answer}\n{state_of(pooler)}") from end
            assert [m.row for m in raw.find(answer, "D")] == [(mark,)], (text, answer)
            assert not raw.find(answer, "E"), answer


def want_anything(rng, pooler, done):
    """A session on the rogue server: it ends, whatever it is told."""
    with log_in(pooler, dbname=ROGUE, timeout=30) as client:
        for _ in range(rng.randint(1, 5)):
            client.send(raw.query(f"SELECT '{next(done)}'"))
            client.sock.settimeout(1)
            try:
                client.until("Z")
            except TimeoutError:  # the server has kept the end of its answer back
                return


def count():
    number = 0
    while True:
        number += 1
        yield number


def see_states(pooler, seen):
    """Adds what connections are found in: columns of SHOW POOLS, and whether any client logs in."""
    for row in pooler.admin("SHOW POOLS"):
        seen.update(name for name in STATES if row.get(name))
    seen.update("login" for row in pooler.admin("SHOW LISTS")
                if row["list"] == "login_clients" and row["items"])


def rampage(pooler, seed, seconds, seen=None):
    """Rogues and honest clients for that long; how many rows the honest ones have got.  seen: a set
    to which the states are added in which connections are found meanwhile."""
    deadline, failures, served = time.monotonic() + seconds, [], []

    def run(number, one, *harmless):
        rng, done = random.Random(seed * 1000 + number), count()
        try:
            while time.monotonic() < deadline and not failures:
                try:
                    one(rng, done)
                except harmless:
                    pass
        except BaseException as failure:  # whatever it is, the caller has to hear of it
            failures.append(failure)
        served.append(next(done) - 1 if not harmless else 0)

    rogue = (OSError, EOFError, raw.LoginRefused, UnicodeError, ValueError)
    jobs = [(lambda rng, _, name=name: misbehave(rng, pooler, name), *rogue)
            for name in (APP_DATABASE, APP_DATABASE, APP_DATABASE, ROGUE)]
    jobs += [(lambda rng, done: want_anything(rng, pooler, done), *rogue)] * 2
    jobs += [(lambda rng, done, n=n: want_rows(rng, pooler, n, done),) for n in range(3)]
    if seen is not None:
        jobs.append((lambda rng, _: see_states(pooler, seen),))
    threads = [threading.Thread(target=run, args=(n, *job)) for n, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(served)
