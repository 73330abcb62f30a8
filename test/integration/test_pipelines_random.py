# SPDX-License-Identifier: ISC
#
# test_pipelines_random.py - pipelines made up at random, mostly of rows of the same Parse: every
# answer is the one of a connection of its own (I2, I3).
"""Clients on a few servers, each with a twin on a direct connection to a database of its own."""
import contextlib
import os
import random

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import essence, log_in, shop

SESSIONS = int(os.environ.get("PGT_SESSIONS", "40"))
PARTS = 4
STEPS = 24
CLIENTS = 3
TWIN = "pipelines_twin"
SCHEMA = """
DROP SCHEMA IF EXISTS pipe_early CASCADE;
DROP TABLE IF EXISTS pipe_rows, pipe_free;
CREATE TABLE pipe_rows (id int PRIMARY KEY, note text);
INSERT INTO pipe_rows SELECT n, 'note ' || n FROM generate_series(1, 60) n;
CREATE TABLE pipe_free (id int, note text);
CREATE SCHEMA pipe_early;
CREATE TABLE pipe_early.pipe_rows (id int, note text, more int);
INSERT INTO pipe_early.pipe_rows VALUES (7, 'early', 1), (3, 'early too', 2);
"""
# (text, values of its parameter)
TEXTS = [
    ("SELECT id, note FROM pipe_rows WHERE id = $1", ["7", "3", "61", None]),
    ("SELECT * FROM pipe_rows WHERE id = $1", ["7", "3", "61"]),
    ("SELECT note, id FROM pipe_rows WHERE id = $1", ["7", "3"]),
    ("SELECT id, note FROM pipe_rows WHERE id < $1 ORDER BY id", ["1", "4", "40"]),
    ("SELECT 12 / (id - 3) FROM pipe_rows WHERE id = $1", ["1", "2", "4", "5", "3"]),
    ("SELECT 1 + $1::int", ["1", "2"]),
    ("SELECT repeat(note, 900) FROM pipe_rows WHERE id < $1 ORDER BY id", ["2", "5", "30"]),
    ("INSERT INTO pipe_free VALUES ($1, 'new')", ["1", "2"]),
    ("UPDATE pipe_free SET note = note || '.' WHERE id = $1", ["1", "9"]),
    ("DELETE FROM pipe_free WHERE id = $1 RETURNING id", ["1", "2"]),
    ("SELECT count(*) FROM pipe_free WHERE id = $1", ["1", "2"]),
    ("SELECT txid_current_if_assigned() IS NULL, $1::int", ["1"]),
]
# ERRCODEs that a message may have in a failed transaction, whatever is wrong with it.
FAILED_ANYWAY = ("25P02", "08P01", "42P05", "26000")
# In a batch, by the way.
BETWEEN = ["SELECT 1", "SELEC", "SELECT 1/0", "SET LOCAL search_path = pipe_early, public", "SELECT nothing"]
# Of a client that may keep its server.
KEEPING = ["BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "SET search_path = pipe_early, public",
           "SET search_path = public", "RESET search_path", "CREATE TEMP TABLE pipe_rows (id int, note text)",
           "DROP TABLE IF EXISTS pg_temp.pipe_rows", "SET enable_seqscan = off", "DISCARD ALL",
           "SET application_name = 'other'", "COPY (SELECT 1) TO STDOUT"]
# Of somebody else, in between.
CHANGES = ["ALTER TABLE pipe_rows ADD more int DEFAULT 5", "ALTER TABLE pipe_rows DROP more",
           "ALTER TABLE pipe_rows ALTER note TYPE varchar", "ALTER TABLE pipe_rows ALTER note TYPE text",
           "ALTER TABLE pipe_rows RENAME TO pipe_hidden", "ALTER TABLE pipe_hidden RENAME TO pipe_rows"]


class Maker:
    """Requests of one client; what it keeps, if it may, is on a server of its own."""

    def __init__(self, rng, texts, may_keep):
        self._rng, self._texts, self._may_keep = rng, texts, may_keep

    def _ask(self, text, values, plain):
        """One of a row, as drivers send it; or not quite."""
        rng = self._rng
        value = rng.choice(values) if plain or rng.random() < 0.97 else "x"
        form = "usual" if plain or rng.random() < 0.85 else rng.choice(
            ["lean", "binary", "typed", "limit", "portal", "again", "told", "closed", "bad", "unbound", "split", "big"])
        oids = [23] if form == "typed" else ()
        start = raw.parse("", text, oids)
        bound = raw.bind("", "", [value])
        run = {
            "usual": bound + raw.describe("P") + raw.execute(),
            "typed": bound + raw.describe("P") + raw.execute(),
            "lean": bound + raw.execute(),
            "binary": raw.bind("", "", [value], result_formats=[1]) + raw.execute(),
            "limit": bound + raw.execute("", 1) + (raw.execute("", 0) if rng.random() < 0.5 else b""),
            "portal": raw.bind("p", "", [value]) + raw.execute("p") + raw.close("P", "p"),
            "again": bound + raw.execute() + bound + raw.execute(),
            "told": raw.describe("S") + bound + raw.execute(),
            "closed": bound + raw.execute() + raw.close("S"),
            "bad": raw.bind("", "", []) + raw.execute(),
            "unbound": raw.execute(),
            "split": bound + raw.execute() + raw.flush(),
            "big": raw.bind("", "", [" " * 20000 + (value or "1")]) + raw.execute(),
        }[form]
        return f"{form}({text!r}, {value!r})", start + run

    def _other(self):
        rng = self._rng
        if self._may_keep and rng.random() < 0.3:
            text = rng.choice(KEEPING)
        else:
            text = rng.choice(BETWEEN)
        kind = rng.choice(["run", "run", "named", "bare"])
        if kind == "run":
            return f"run({text!r})", raw.parse("", text) + raw.bind() + raw.execute()
        if kind == "named":
            return f"named({text!r})", (raw.close("S", "n") + raw.parse("n", text) +
                                        raw.bind("", "n") + raw.execute())
        what, message = rng.choice([
            ("Close S", raw.close("S")), ("Describe S", raw.describe("S")), ("Flush", raw.flush()),
            ("Bind, Execute", raw.bind("", "", ["3"]) + raw.execute()), ("Close P", raw.close("P"))])
        return what, message

    def batch(self):
        rng, parts = self._rng, []
        for _ in range(rng.choice([1, 1, 2, 3])):
            text, values = rng.choice(self._texts)
            plain = rng.random() < 0.6
            parts += [self._ask(text, values, plain) for _ in range(rng.choice([1, 2, 3, 5, 9, 17]))]
            if rng.random() < 0.2:
                parts.append(self._other())
        return ", ".join(shown for shown, _ in parts), b"".join(m for _, m in parts) + raw.sync()

    def step(self):
        """Requests that are sent without a wait for an answer."""
        rng, requests = self._rng, []
        for _ in range(rng.choice([1, 1, 1, 1, 1, 1, 2, 4])):
            if self._may_keep and rng.random() < 0.3:
                text = rng.choice(KEEPING)
                requests.append((f"Query({text!r})", raw.query(text)))
            else:
                requests.append(self.batch())
        return requests


def say(client, data, cuts):
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        client.send(data[start:end])


def answers(client, requests):
    result, state = [], client.state
    for _ in requests:
        got = client.until("Z")
        for kind, body in essence(got):
            if kind == "S":
                continue
            if kind == "E" and state == "E" and body.get("C") in FAILED_ANYWAY:
                body = "failed"
            result.append((kind, body))
        state = got[-1].body.decode()
    client.state = state
    return result


@pytest.fixture(scope="module")
def twin(primary):
    primary.sql(f"CREATE DATABASE {TWIN} OWNER {APP_USER}")
    yield TWIN
    primary.sql(f"DROP DATABASE {TWIN} WITH (FORCE)")


def run_session(primary, pooler, seed, may_change):
    rng = random.Random(seed)
    story = []
    with contextlib.ExitStack() as stack:
        admins = [stack.enter_context(log_in(primary, dbname=name)) for name in (TWIN, APP_DATABASE)]
        for admin in admins:
            admin.send(raw.query(SCHEMA))
            assert not raw.find(admin.until("Z"), "E")
        twins = [[stack.enter_context(log_in(primary, dbname=TWIN)),
                  stack.enter_context(log_in(pooler))] for _ in range(CLIENTS)]
        for pair in twins:
            for client in pair:
                client.state = "I"
        texts = TEXTS[:rng.choice([2, 4, len(TEXTS)])]
        makers = [Maker(rng, texts, i == 0) for i in range(CLIENTS)]
        for _ in range(STEPS):
            if may_change and rng.random() < 0.15 and twins[0][0].state == "I":
                change = rng.choice(CHANGES)
                story.append(f"admin: {change}")
                for admin in admins:
                    admin.send(raw.query(change))
                    admin.until("Z")
            i = rng.randrange(CLIENTS) if twins[0][0].state == "I" else 0
            step = makers[i].step()
            story.append(f"{i}: " + " | ".join(shown for shown, _ in step))
            data = b"".join(m for _, m in step)
            cuts = sorted(rng.sample(range(1, len(data)), min(3, len(data) - 1))) if rng.random() < 0.2 else []
            told = f"seed {seed}\n" + "\n".join(story)
            try:
                say(twins[i][0], data, [])
                expected = answers(twins[i][0], step)
                say(twins[i][1], data, cuts)
                got = answers(twins[i][1], step)
            except (TimeoutError, EOFError, ConnectionError) as failure:
                pytest.fail(f"{failure!r}, {told}")
            if got != expected:
                at = next((n for n, (a, b) in enumerate(zip(got, expected)) if a != b), -1)
                pytest.fail(f"{told}\nat {at} of {len(got)}, {len(expected)}: "
                            f"got {got[at:at + 3]}\nexpected {expected[at:at + 3]}")


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("part", range(PARTS // 2))
@pytest.mark.usefixtures("twin")
def test_i3_pipelines_at_random(primary, turnstile, part, after):
    t = turnstile(shop(primary, {"default_pool_size": 2, "auto_prepare_after": after,
                                 "max_prepared_statements": 4 if part else 100}))
    first = int(os.environ.get("PGT_SEED", "1")) + (part * 2 + after - 1) * (SESSIONS // PARTS)
    for seed in range(first, first + SESSIONS // PARTS):
        run_session(primary, t, seed, may_change=seed % 2)
    saved = [r for r in t.admin("SHOW SAVINGS") if r["database"] == APP_DATABASE]
    assert saved and saved[0]["auto_parses"] > 5 * (SESSIONS // PARTS)
