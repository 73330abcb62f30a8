# SPDX-License-Identifier: ISC
#
# test_prepared_random.py - prepared statements of sessions made up at random: every answer is the
# one of a connection of its own, word for word.
"""Three clients on one or two servers, each with a twin on a direct connection."""
import contextlib
import os
import random

import pytest

import raw
from rig import log_in, shop
from test_prepared_sql import exact

SESSIONS = int(os.environ.get("PGT_SESSIONS", "240"))
PARTS = 12
STEPS = 14
CLIENTS = 3
NAMES = ["", "a", "a", "b", "B", "pgt_1"]
# Texts for anybody, and those that leave something behind: for the one who may keep a server.
TEXTS = ["SELECT 'one'", "SELECT 'two' AS two", "SELECT $1::int + 1", "SELECT $1::text, 'x' AS x",
         "SELECT 1/0", "SELECT nothing", "SELEC", "", "SELECT generate_series(1, 3)"]
NAMING = ["EXECUTE a", "EXECUTE b (1)", "EXECUTE a (1 + 'x')", "EXECUTE \"B\"", "EXECUTE pgt_1",
          "EXPLAIN (COSTS off) EXECUTE a", "EXPLAIN (COSTS off) EXECUTE b (1)", "DEALLOCATE a",
          "DEALLOCATE pgt_1", "DEALLOCATE nowhere", "DEALLOCATE PREPARE \"B\"", "DEALLOCATE ALL"]
QUERIES = [*TEXTS, *NAMING, "DEALLOCATE a; EXECUTE a", "EXECUTE b (2); DEALLOCATE b; SELECT 3",
           "SELECT 1; SELECT 2"]
KEEPING = ["BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "DISCARD ALL",
           "DISCARD PLANS"]
MAKING = ["PREPARE a AS SELECT 'made'", "PREPARE b (int) AS SELECT $1",
          "PREPARE pgt_1 AS SELECT 'looks like ours'"]


class Maker:
    """Requests of one client; what it keeps, if it may, is on a server of its own."""

    def __init__(self, rng, may_keep):
        self._rng, self._may_keep = rng, may_keep

    def _text(self, texts, keeping):
        keeps = self._may_keep and self._rng.random() < 0.3
        return self._rng.choice(keeping if keeps else texts)

    @staticmethod
    def _run(name, values):
        return raw.bind("", name, values) + raw.describe("P") + raw.execute() + raw.sync()

    @staticmethod
    def _own(name, text):
        """Another text for each name: where two have the same, an error may tell the other one."""
        return f"{text} -- {name}"

    def _values(self):
        return self._rng.choice([(), (), ("7",), ("x",)])

    def message(self, first):
        """One message of the extended protocol, with what shows it to a human."""
        rng = self._rng
        name = rng.choice(NAMES)
        # PostgreSQL 15 may crash when the portal of a failed Query is executed in its transaction.
        portal = "p" if first and self._may_keep else rng.choice(["", "", "", "p"])
        kind = rng.choice("PPPBBBBBDDDEEEEECC")
        if kind == "P":
            # EXECUTE of ROLLBACK TO ends the server's session.
            text = self._own(name, self._text(TEXTS, TEXTS if name else KEEPING))
            return f"Parse({name!r}, {text!r})", raw.parse(name, text)
        if kind == "B":
            values = self._values()
            return f"Bind({portal!r}, {name!r}, {values})", raw.bind(portal, name, values)
        if kind == "E":
            rows = rng.choice([0, 0, 0, 1])
            return f"Execute({portal!r}, {rows})", raw.execute(portal, rows)
        what = rng.choice("SSP")
        target = name if what == "S" else portal
        build = raw.describe if kind == "D" else raw.close
        return f"{build.__name__}({what}, {target!r})", build(what, target)

    def request(self):
        """(shown, bytes) that end in one ReadyForQuery."""
        rng = self._rng
        shape = rng.random()
        if shape < 0.35:
            text = self._text(QUERIES, KEEPING + MAKING)
            return f"Query({text!r})", raw.query(text)
        if shape < 0.45:  # as drivers do it
            text = self._text(NAMING, MAKING)
            return f"all of {text!r}", raw.parse("", text) + self._run("", ())
        if shape < 0.65:
            name, values = rng.choice(NAMES), self._values()
            return f"Bind, Describe, Execute({name!r}, {values})", self._run(name, values)
        messages = [self.message(i == 0) for i in range(rng.randint(1, 5))]
        return ", ".join(shown for shown, _ in messages), b"".join(m for _, m in messages) + raw.sync()

    def step(self):
        """Some requests in one write.  A text that names statements does not stay the unnamed one:
        bound before a name changes and run behind that, it would see the old one."""
        plain = ("Parse('', '')", raw.parse("", "") + raw.sync())
        requests = [self.request() for _ in range(self._rng.choice([1, 1, 1, 2, 3]))]
        return [each for request in requests
                for each in ([request, plain] if request[0].startswith("all of") else [request])]


def answers(client, step):
    client.send(*(request for _, request in step))
    return [exact(client.until("Z")) for _ in step]


def run_session(primary, pooler, seed, keeper):
    """keeper: whether one of the clients may keep a server to itself."""
    rng = random.Random(seed)
    story = []
    with contextlib.ExitStack() as stack:
        twins = [[stack.enter_context(log_in(server)) for server in (primary, pooler)]
                 for _ in range(CLIENTS)]
        makers = [Maker(rng, keeper and i == 0) for i in range(CLIENTS)]
        for _ in range(STEPS):
            i = rng.randrange(CLIENTS)
            step = makers[i].step()
            story.append(f"{i}: " + " | ".join(shown for shown, _ in step))
            told = f"seed {seed}\n" + "\n".join(story)
            try:
                expected, got = (answers(client, step) for client in twins[i])
            except (TimeoutError, EOFError) as failure:
                pytest.fail(f"{failure!r}, {told}")
            assert got == expected, told


@pytest.mark.slow
@pytest.mark.parametrize("pool_size", [1, 2])
@pytest.mark.parametrize("part", range(PARTS // 2))
def test_i2_statements_at_random(primary, turnstile, part, pool_size):
    t = turnstile(shop(primary, {"default_pool_size": pool_size, "max_prepared_statements": 3}))
    first = int(os.environ.get("PGT_SEED", "1")) + (part * 2 + pool_size - 1) * (SESSIONS // PARTS)
    for seed in range(first, first + SESSIONS // PARTS):
        run_session(primary, t, seed, keeper=pool_size > 1)
