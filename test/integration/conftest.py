# SPDX-License-Identifier: ISC
#
# conftest.py - the fixtures of the integration tests; README.md has an example of each.
"""primary and replica live as long as a test process, poolers as long as a test."""
import contextlib

import psycopg
import pytest

from cluster import Postgres
from turnstile import PgBouncer, Turnstile

APP_USER, APP_PASSWORD, APP_DATABASE = "app", "app-password", "shop"


def pytest_addoption(parser):
    """--sample N: of a test with many sets of parameters, N of them, the first and the last among
    them; of all tests (test/run.sh --fast)."""
    parser.addoption("--sample", type=int, default=0, metavar="N")


def _spread(items, most):
    """`most` of the items, as far apart as can be, the same each time."""
    if most < 2 or len(items) <= most:
        return items[:most]
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Carries out --sample, after `-m` and `-k`."""
    most = config.getoption("--sample")
    if not most:
        return
    functions = {}
    for item in items:
        functions.setdefault(item.nodeid.split("[")[0], []).append(item)
    kept = {item for sets in functions.values() for item in _spread(sets, most)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture(scope="session")
def primary():
    """A running primary with database `shop` owned by role `app`."""
    server = Postgres.primary()
    server.role(APP_USER, APP_PASSWORD)
    server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def replica(primary):
    """A hot standby of `primary`; a test that stops or pauses it puts it back."""
    server = Postgres.replica_of(primary)
    yield server
    server.remove()


@pytest.fixture
def app(primary):
    """A psycopg connection as `app` to `shop`, straight to the primary."""
    with psycopg.connect(host=primary.host, port=primary.port, dbname=APP_DATABASE,
                         user=APP_USER, password=APP_PASSWORD, autocommit=True) as connection:
        yield connection


def _factory(kind):
    """A fixture that starts poolers of class `kind` and stops them with the test."""

    def make_poolers():
        with contextlib.ExitStack() as started:

            def start(config, users=None):
                pooler = kind(config, {APP_USER: APP_PASSWORD, **(users or {})})
                started.callback(pooler.remove)
                return pooler.start()

            yield start

    return pytest.fixture(make_poolers)


turnstile = _factory(Turnstile)
pgbouncer = _factory(PgBouncer)
