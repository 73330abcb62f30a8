# SPDX-License-Identifier: ISC
#
# test_left_by_code.py - what code leaves that no survey can ask about is its session's, and nobody
# finds it (I1, I2).
"""The seed of random(), and connections of dblink, which are as good as a password to who finds one."""
import pytest

from conftest import APP_PASSWORD, APP_USER
from rig import log_in, shop
from tenancy import errors
from waiting import wait_until

DATABASE = "left_by_code"
SEEDS = """
CREATE FUNCTION lbc_seeds() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM setseed(0.5); RETURN 1; END $$;
CREATE FUNCTION lbc_sql() RETURNS int LANGUAGE sql AS 'SELECT setseed(0.5); SELECT 1';
CREATE FUNCTION lbc_sets() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET seed = 0.5; RETURN 1; END $$;
CREATE FUNCTION lbc_config() RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RETURN set_config('seed', '0.5', false); END $$;
CREATE FUNCTION lbc_tree() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT lbc_seeds(); END;
CREATE VIEW lbc_view AS SELECT lbc_tree();
CREATE TABLE lbc_rows (i int DEFAULT lbc_seeds());
"""
SEED_TEXTS = ["SELECT lbc_seeds()", "SELECT lbc_sql()", "SELECT lbc_sets()", "SELECT lbc_config()",
              "SELECT lbc_tree()", "SELECT * FROM lbc_view", "INSERT INTO lbc_rows VALUES (DEFAULT)",
              "DO $$ BEGIN PERFORM lbc_seeds(); END $$"]


@pytest.fixture(scope="module")
def left(primary):
    primary.sql(f"CREATE DATABASE {DATABASE} OWNER {APP_USER}")
    target = (f"host=127.0.0.1 port={primary.port} dbname={DATABASE} user={APP_USER} "
              f"password={APP_PASSWORD}")
    with primary.connect(DATABASE) as connection:
        connection.execute("CREATE EXTENSION dblink")
    with primary.connect(DATABASE, APP_USER, password=APP_PASSWORD) as connection:
        connection.execute(SEEDS)
        connection.execute("CREATE FUNCTION lbc_connects() RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
                           f"RETURN dblink_connect('lbc', '{target}'); END $$;"
                           "CREATE VIEW lbc_connected AS SELECT lbc_connects()")
    yield primary
    primary.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def pooler(left, turnstile):
    config = shop(left)
    config["databases"] = {DATABASE: {"host": left.host, "port": left.port}}
    return turnstile(config)


def pins(pooler):
    return [row["reason"] for row in pooler.admin("SHOW PINS")]


def holds(pooler, text, reason, question):
    """What is left answers its session, and no other, were that the next one of the same server."""
    with log_in(pooler, dbname=DATABASE) as one:
        assert not errors(one.query(text))
        assert pins(pooler) == [reason]
        with log_in(pooler, dbname=DATABASE) as other:
            others = other.rows(question)
        its = one.rows(question)
    wait_until(lambda: not pins(pooler), 30, "it has gone")
    with log_in(pooler, dbname=DATABASE) as third:
        return its, [others, third.rows(question)]


@pytest.mark.parametrize("text", SEED_TEXTS)
def test_i1_a_seed_is_nobody_elses(left, pooler, text):
    with log_in(left, dbname=DATABASE) as direct:
        direct.query(text)
        expected = direct.rows("SELECT random()")
    its, others = holds(pooler, text, "seed", "SELECT random()")
    assert its == expected
    assert expected not in others


@pytest.mark.parametrize("text", ["SELECT lbc_connects()", "SELECT * FROM lbc_connected",
                                  "DO $$ BEGIN PERFORM lbc_connects(); END $$"])
def test_i1_a_connection_of_dblink_is_nobody_elses(pooler, text):
    its, others = holds(pooler, text, "dblink", "SELECT dblink_get_connections()")
    assert its == [("{lbc}",)]
    assert others == [[(None,)], [(None,)]]
