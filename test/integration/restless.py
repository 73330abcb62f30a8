# SPDX-License-Identifier: ISC
#
# restless.py - clients of many tenants that read, write and remember what they were told, whatever
# happens around them.
#
# Each has a book of what it wrote: acknowledged, refused, or not known, since its connection was lost
# before it was told.  Some of them leave in the middle of what they do, when they are ordered to.
# Knows nothing of what goes wrong, nor of why.
"""prepare(), play(): the tables, and a process of clients; Orders: what is asked of them; audit(): what
is in the books against what is in the table."""
import multiprocessing
import random
import socket
import threading
import time
from collections import Counter
from typing import NamedTuple

import raw

SETTING = "app.current_business_id"
ROWS_EACH = 3
PATIENCE = 30.0  # seconds, then a client counts as hung
THINKS = 0.1     # seconds between two requests, on average
CHECK = f"SELECT current_setting('{SETTING}'), count(*), min(business_id), max(business_id) FROM stock"
WRITE = "INSERT INTO ledger (client, serial) VALUES ({}, {})"
WRITE_VALUES = "INSERT INTO ledger (client, serial) VALUES ($1, $2)"
LARGE_ROWS = 400
LARGE = f"SELECT repeat('x', 1000) FROM generate_series(1, {LARGE_ROWS})"

# What leaves open whether the request was done; with any other error it was not.
UNKNOWN = ("08", "57P0")
# What may be said while things go wrong.
FORGIVEN = ("08", "57P0", "57014", "53300", "53400", "25006", "25P0", "58000", "42501", "40001", "3D000",
            "28")
ON_PURPOSE = "22012"
IN_FAILED_BLOCK = "25P02"  # the error before it has been told, and counts
LOST = "08006"  # what is noted where nothing was said


def id_of(tenant):
    return f"id-{tenant * 7919 % 1_000_003}"


class Refused(Exception):
    """The pooler has ended the connection, and said why."""


class Hung(Exception):
    """Nothing came for PATIENCE seconds."""


class Orders:
    """How many clients are still to do what: shared by all processes."""

    KINDS = ["leave_in_query", "leave_in_copy", "leave_in_pipeline", "leave_in_block",
             "leave_in_message", "read_slowly", "cancel"]

    def __init__(self):
        self._left = multiprocessing.Array("i", len(self.KINDS))
        self._over = multiprocessing.Event()

    def give(self, kind, count):
        with self._left.get_lock():
            self._left[self.KINDS.index(kind)] = count

    def take(self, rng):
        """One that is left, at random; None when there is none."""
        if not any(self._left):
            return None
        with self._left.get_lock():
            at = rng.choice([n for n, count in enumerate(self._left) if count] or [None])
            if at is not None:
                self._left[at] -= 1
        return None if at is None else self.KINDS[at]

    def withdraw(self):
        """Nobody has to do anything any more."""
        with self._left.get_lock():
            self._left[:] = [0] * len(self.KINDS)

    def end(self):
        self._over.set()

    def wait_end(self):
        self._over.wait()

    @property
    def are_over(self):
        return self._over.is_set()


class Complaint(NamedTuple):
    """An error that a client was told, or the loss of its connection."""

    asked: float
    told: float
    code: str  # the SQLSTATE
    text: str
    doing: str


class Book:
    """What one client wrote, by serial, and what it saw that it should not have."""

    def __init__(self, number, tenant):
        self.number, self.tenant = number, tenant
        self.last = 0
        self.acknowledged, self.refused = set(), set()
        self.reasons = {}       # why a serial counts as refused
        self.wrong = []         # sentences
        self.errors = []        # of Complaint
        self.counts = Counter()

    def write(self, count=1):
        """Serials for rows that are about to be written."""
        first = self.last + 1
        self.last += count
        return list(range(first, self.last + 1))


class Player:
    """One client and its book; comes back when its connection is lost."""

    def __init__(self, where, book, rng, orders, neighbours):
        self.where, self.book, self.rng = where, book, rng
        self.orders, self.neighbours = orders, neighbours
        self.own = id_of(book.tenant)
        self.client = self.marker = None
        self.names = set()
        self.asked_at, self.doing = 0.0, ""

    # --- the connection ---------------------------------------------------------------------
    def log_in(self):
        self.asked_at = time.monotonic()
        self.client = self.connect()
        try:
            self.client.login(self.where["user"], self.where["database"], self.where["password"])
        except raw.LoginRefused as refused:
            raise self.refused(refused.fields) from None
        self.book.counts["logins"] += 1
        self.marker, self.names = None, set()
        if self.where["chooses"]:
            if not self.tell(raw.query(f"SET {SETTING} = '{self.own}'")):
                raise Refused
        self.neighbours[self.book.number] = self.client

    def connect(self):
        return raw.RawClient(self.where["port"], timeout=PATIENCE)

    def drop(self, by_reset=False):
        self.neighbours.pop(self.book.number, None)
        if self.client:
            (self.client.reset if by_reset else self.client.close)()
        self.client = None

    def complain(self, code, text):
        self.book.errors.append(Complaint(self.asked_at, time.monotonic(), code, text, self.doing))

    def refused(self, fields):
        """To raise where an error has ended the connection."""
        self.complain(fields["C"], fields["M"])
        return Refused()

    def answer(self, stop=""):
        """The messages up to the next ReadyForQuery or one of `stop`; Hung when that takes too long."""
        got = []
        while not got or got[-1].kind not in "Z" + stop:
            try:
                message = self.client.message()
            except TimeoutError:
                raise Hung(raw.kinds(got)) from None
            if time.monotonic() - self.asked_at > PATIENCE:
                raise Hung(raw.kinds(got))
            if message.kind == "E":
                if message.fields["S"] == "FATAL":
                    raise self.refused(message.fields)
                self.complain(message.fields["C"], message.fields["M"])
            got.append(message)
        self.book.counts["answers" if got[-1].kind == "Z" else "turns to send"] += 1
        return got

    def ask(self, data, cycles=1):
        """The answers to a request that ends in so many ReadyForQuery, one after the other."""
        self.asked_at = time.monotonic()
        self.client.send(data)
        for _ in range(cycles):
            yield self.answer()
            self.asked_at = time.monotonic()

    def tell(self, data):
        """Whether a request of one cycle went well."""
        answer, = self.ask(data)
        return not raw.find(answer, "E")

    # --- reading ----------------------------------------------------------------------------
    def look(self, answer, rows=1):
        found = [m.row for m in raw.find(answer, "D")]
        if raw.find(answer, "E"):
            return
        self.book.counts["checks"] += 1
        if found != [(self.own, str(ROWS_EACH), self.own, self.own)] * rows:
            self.book.wrong.append(f"foreign or missing rows: {found} instead of {self.own}'s")

    def read(self):
        for answer in self.ask(raw.query(CHECK)):
            self.look(answer)

    def read_extended(self):
        for answer in self.ask(raw.parse("", CHECK) + raw.bind() + raw.execute() + raw.sync()):
            self.look(answer)

    def name_for(self, text):
        """A name, and the Parse of it where it is not known to be there."""
        name = "read" if text is CHECK else "write"
        return name, b"" if name in self.names else raw.close("S", name) + raw.parse(name, text)

    def has_parsed(self, name, answer):
        if raw.find(answer, "1"):
            self.names.add(name)
        for error in raw.find(answer, "E"):
            if error.fields["C"] in ("26000", "42P05"):
                self.book.wrong.append(f"prepared statement {name}: {error.fields['M']}")

    def read_named(self):
        name, parse = self.name_for(CHECK)
        for answer in self.ask(parse + raw.bind("", name) + raw.execute() + raw.sync()):
            self.has_parsed(name, answer)
            self.look(answer)

    def read_pipeline(self):
        count = self.rng.randint(3, 10)
        one = raw.parse("", CHECK) + raw.bind() + raw.execute() + raw.sync()
        for answer in self.ask(one * count, count):
            self.look(answer)

    def read_large(self):
        for answer in self.ask(raw.query(LARGE)):
            rows = len(raw.find(answer, "D"))
            if rows != LARGE_ROWS and not raw.find(answer, "E"):
                self.book.wrong.append(f"{rows} rows instead of {LARGE_ROWS}")

    def read_slowly(self):
        """As one that reads nothing for a while, and then all of it; its buffer stays small."""
        self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.client.send(raw.query(LARGE))
        time.sleep(self.rng.uniform(0.5, 4))
        self.asked_at = time.monotonic()
        self.answer()
        self.drop()

    def read_back(self, serials):
        """What has been acknowledged is there."""
        for answer in self.ask(raw.query(
                "SELECT count(*) FROM ledger"
                f" WHERE client = {self.book.number} AND serial = ANY('{{{str(serials)[1:-1]}}}')")):
            rows = [m.row for m in raw.find(answer, "D")]
            if rows and rows != [(str(len(serials)),)]:
                self.book.wrong.append(f"has written {serials}, and reads back {rows[0][0]} of them")

    # --- writing ----------------------------------------------------------------------------
    def settle(self, serials, answer):
        """Notes what an answer says of the rows; True when they are written."""
        errors = raw.find(answer, "E")
        if not errors and not any(m.text == "ROLLBACK" for m in raw.find(answer, "C")):
            self.book.acknowledged.update(serials)
            return True
        if not any(error.fields["C"].startswith(UNKNOWN) for error in errors):
            self.refuse(serials, self.told(answer))
        return False

    @staticmethod
    def told(answer):
        errors = [f"{m.fields['C']} {m.fields['M']}" for m in raw.find(answer, "E")]
        return f"{raw.kinds(answer)} {errors}"

    def text(self, serial):
        return WRITE.format(self.book.number, serial)

    def extended(self, serial):
        return (raw.parse("", WRITE_VALUES) + raw.bind("", "", (self.book.number, serial))
                + raw.execute())

    def write_one(self, data, serials):
        for answer in self.ask(data):
            if self.settle(serials, answer) and self.rng.random() < 0.3:
                self.read_back(serials)

    def write(self):
        serials = self.book.write()
        self.write_one(raw.query(self.text(*serials)), serials)

    def write_string(self):
        serials = self.book.write(3)
        self.write_one(raw.query("; ".join(map(self.text, serials))), serials)

    def write_extended(self):
        serials = self.book.write()
        self.write_one(self.extended(*serials) + raw.sync(), serials)

    def write_batch(self):
        serials = self.book.write(self.rng.randint(2, 5))
        self.write_one(b"".join(map(self.extended, serials)) + raw.sync(), serials)

    def write_named(self):
        serials = self.book.write()
        name, parse = self.name_for(WRITE_VALUES)
        for answer in self.ask(parse + raw.bind("", name, (self.book.number, *serials))
                               + raw.execute() + raw.sync()):
            self.has_parsed(name, answer)
            self.settle(serials, answer)

    def write_pipeline(self):
        serials = self.book.write(self.rng.randint(3, 12))
        data = b"".join(self.extended(serial) + raw.sync() for serial in serials)
        for serial, answer in zip(serials, self.ask(data, len(serials))):
            self.settle([serial], answer)

    def begin(self, serials):
        """False: BEGIN was refused, and what was to come stays unsaid: it would be run, each by itself."""
        if self.tell(raw.query("BEGIN")):
            return True
        self.refuse(serials, "BEGIN was refused")
        return False

    def refuse(self, serials, why):
        self.book.refused.update(serials)
        self.book.reasons.update(dict.fromkeys(serials, f"{self.doing}: {why}"))

    def write_block(self):
        """A transaction with a round trip for each statement, and what a check finds in it."""
        serials = self.book.write(2)
        if not self.begin(serials):
            return
        for serial in serials:
            self.tell(raw.query(self.text(serial)))
            for answer in self.ask(raw.query(CHECK)):
                self.look(answer)
        for answer in self.ask(raw.query("COMMIT")):
            self.settle(serials, answer)

    def write_block_at_once(self):
        serials = self.book.write(2)
        data = b"".join(map(raw.query, ["BEGIN", *map(self.text, serials), "COMMIT"]))
        begun, *rows, committed = self.ask(data, 4)
        if not raw.find(begun, "E"):
            self.settle(serials, committed)
            return
        for serial, answer in zip(serials, rows):  # each by itself
            self.settle([serial], answer)

    def take_back(self):
        serials = self.book.write(2)
        if self.begin(serials):
            self.refuse(serials, "taken back")
            for text in [*map(self.text, serials), "ROLLBACK"]:
                self.tell(raw.query(text))

    def write_behind_savepoint(self):
        """One row is taken back, one stays."""
        gone, stays = self.book.write(2)
        if not self.begin([gone, stays]):
            return
        self.refuse([gone], "taken back")
        for text in ["SAVEPOINT a", self.text(gone), "ROLLBACK TO a", self.text(stays)]:
            if not self.tell(raw.query(text)):
                self.refuse([stays], "taken back")
                self.tell(raw.query("ROLLBACK"))
                return
        for answer in self.ask(raw.query("COMMIT")):
            self.settle([stays], answer)

    def rows_to_copy(self, serials):
        return b"".join(raw.copy_data(f"{self.book.number}\t{serial}\n".encode()) for serial in serials)

    def begin_copy(self):
        """Whether the server takes rows now."""
        self.asked_at = time.monotonic()
        self.client.send(raw.query("COPY intake (client, serial) FROM STDIN"))
        return self.answer("G")[-1].kind == "G"

    def write_copy(self):
        serials = self.book.write(5)
        if self.begin_copy():
            self.client.send(self.rows_to_copy(serials) + raw.copy_done())
            self.settle(serials, self.answer())
        else:
            self.refuse(serials, "COPY did not begin")

    # --- the rest ---------------------------------------------------------------------------
    def mark(self):
        """A setting of the session: its own, or nobody's."""
        if self.marker is None or self.rng.random() < 0.3:
            value = f"{self.book.number}-{self.rng.random()}"
            self.marker = False  # not known
            if self.tell(raw.query(f"SET my.marker = '{value}'")):
                self.marker = value
        for answer in self.ask(raw.query("SELECT current_setting('my.marker', true)")):
            rows = [m.row for m in raw.find(answer, "D")]
            if rows and self.marker and rows != [(self.marker,)]:
                self.book.wrong.append(f"has set its marker to {self.marker}, and finds {rows}")

    def make_temp(self):
        name = f"temp_{self.book.number}"
        if self.tell(raw.query(f"CREATE TEMP TABLE {name} AS SELECT 2 AS n")):
            self.tell(raw.query(f"SELECT n FROM {name}"))
        self.tell(raw.query("DISCARD ALL" if not self.where["chooses"] else f"DROP TABLE IF EXISTS {name}"))
        self.drop()

    def fail(self):
        self.tell(self.rng.choice([
            raw.query("SELECT 1/0"),
            raw.parse("", "SELECT 1/0") + raw.bind() + raw.execute() + raw.sync()]))
        self.read()

    def nap(self):
        self.tell(raw.query("SELECT pg_sleep(0.1)"))

    def log_out(self):
        self.client.send(raw.terminate())
        self.drop()

    # --- on order ---------------------------------------------------------------------------
    def leave(self):
        self.drop(by_reset=self.rng.random() < 0.5)

    def leave_in_query(self):
        """Whether it is done is not known, but it is not done twice."""
        serial, = self.book.write()
        self.client.send(raw.query(f"{self.text(serial)}; SELECT pg_sleep(0.2)"))
        self.leave()

    def leave_in_pipeline(self):
        serials = self.book.write(20)
        self.client.send(b"".join(self.extended(serial) + raw.sync() for serial in serials))
        self.asked_at = time.monotonic()
        for serial in serials[:self.rng.randint(0, 5)]:
            self.settle([serial], self.answer())
        self.leave()

    def leave_in_copy(self):
        """Without CopyDone no row is written."""
        serials = self.book.write(5)
        self.refuse(serials, "COPY did not end")
        if self.begin_copy():
            self.client.send(self.rows_to_copy(serials))
        self.leave()

    def leave_in_block(self):
        """Nor without COMMIT."""
        serials = self.book.write()
        if self.begin(serials):
            self.refuse(serials, "not committed")
            self.tell(raw.query(self.text(*serials)))
        self.leave()

    def leave_in_message(self):
        """Nor of half a message."""
        serials = self.book.write()
        self.refuse(serials, "half a message")
        data = self.extended(*serials) + raw.sync()
        self.client.send(data[:self.rng.randint(1, len(data) - 1 - len(raw.sync()))])
        self.leave()

    def cancel(self):
        """Somebody's, of this process."""
        other = self.rng.choice(list(self.neighbours.values()) or [self.client])
        if other and other.key:
            other.cancel()

    USUAL = ([read] * 6 + [read_extended] * 4 + [read_named] * 4 + [read_pipeline] * 2 + [read_large]
             + [write] * 3 + [write_string] + [write_extended] * 3 + [write_batch] * 2 + [write_named] * 3
             + [write_pipeline] * 2 + [write_block] * 3 + [write_block_at_once] * 2 + [take_back] * 2
             + [write_behind_savepoint] + [write_copy] * 2 + [mark] * 3 + [make_temp] + [fail] * 2
             + [nap] * 2 + [log_out])

    def step(self):
        self.doing = "log_in"
        if not self.client:
            self.log_in()
        order = self.orders.take(self.rng)
        request = getattr(type(self), order) if order else self.rng.choice(self.USUAL)
        self.book.counts[request.__name__] += 1
        self.doing = request.__name__
        request(self)

    def run(self, tell_hung):
        while not self.orders.are_over:
            try:
                self.step()
            except (Hung, TimeoutError) as hung:
                seconds = time.monotonic() - self.asked_at
                self.book.wrong.append(f"hung for {seconds:.0f} s: {self.doing}, {hung}")
                tell_hung((self.book.number, self.client and self.client.sock.getsockname()[1]))
                self.drop()
            except Refused:
                self.drop()
            except (OSError, EOFError) as error:
                self.complain(LOST, f"connection lost: {error}")
                self.drop()
            time.sleep(self.rng.expovariate(1 / THINKS))  # a pace, and no wait for anything
        self.drop()


def play(places, seed, orders, results, hung, kind=Player):
    """A process: a thread for each of `places` (number, tenant, port, user, …); books into `results`,
    (number, port) of clients that hang into `hung`; `kind`: of Player."""
    neighbours, players, threads = {}, [], []
    for where in places:
        book = Book(where["number"], where["tenant"])
        rng = random.Random(f"{seed}.{book.number}")
        players.append(kind(where, book, rng, orders, neighbours))
        threads.append(threading.Thread(target=players[-1].run, args=(hung.put,), daemon=True))
    for thread in threads:
        thread.start()
    orders.wait_end()
    until = time.monotonic() + 2 * PATIENCE
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))
    for player, thread in zip(players, threads):
        if thread.is_alive():
            player.book.wrong.append(f"has not come to its end: {player.doing}")
    results.put([player.book for player in players])


def prepare(primary, dbname, tenants, *roles):
    """Rows of each tenant to read, a table to write to, both under row-level security, and one without
    it, since COPY does not write to such tables."""
    for statement in [
            "CREATE TABLE stock (business_id text, n int)",
            *(f"CREATE TABLE {table} (business_id text DEFAULT current_setting('{SETTING}'), client int,"
              " serial int)" for table in ("ledger", "intake")),
            f"INSERT INTO stock SELECT 'id-' || (t::bigint * 7919 % 1000003), n FROM"
            f" generate_series(0, {tenants - 1}) t, generate_series(1, {ROWS_EACH}) n",
            "CREATE INDEX ON ledger (client, serial)",
            *(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY" for table in ("stock", "ledger")),
            *(f"CREATE POLICY own ON {table} USING (business_id = current_setting('{SETTING}', true))"
              for table in ("stock", "ledger")),
            f"GRANT ALL ON stock, ledger, intake TO {', '.join(roles)}"]:
        primary.sql(statement, dbname=dbname)


def audit(primary, dbname, books):
    """What is not as it was told: sentences, by kind."""
    by_number = {book.number: book for book in books}
    found = {number: Counter() for number in by_number}
    wrong = {"foreign": [], "lost": [], "twice": [], "undead": [], "unknown": 0}
    for number, serial, owner, count in primary.sql(
            "SELECT client, serial, business_id, count(*) FROM (TABLE ledger UNION ALL TABLE intake) AS t"
            " GROUP BY 1, 2, 3", dbname=dbname):
        found[number][serial] += count
        if owner != id_of(by_number[number].tenant):
            wrong["foreign"].append(f"row {serial} of client {number} is {owner!r}'s")
    for number, book in by_number.items():
        there = found[number]
        told = book.acknowledged | book.refused
        wrong["lost"] += [f"{number}: {s}" for s in sorted(book.acknowledged - there.keys())]
        wrong["twice"] += [f"{number}: {s}" for s, count in sorted(there.items()) if count > 1]
        wrong["undead"] += [f"{number}: {s}: {book.reasons[s]}"
                            for s in sorted(there.keys() & book.refused)]
        wrong["unknown"] += book.last - len(told)
    return wrong
