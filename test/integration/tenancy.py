# SPDX-License-Identifier: ISC
#
# tenancy.py - what the tests of tenants share: a table under row-level security, and its tenants.
#
# Knows the database and the role that conftest.py makes; nothing of what is tested.
"""make_ledger(), tenants(): three tenants of one table before the primary."""
import sys

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in
from turnstile import merge

SETTING = "app.current_business_id"

# The name of each tenant and its id.
TENANTS = {"acme": "42", "globex": "7", "initech": "1001"}
ROWS_EACH = 3

# Whose pools they use where a test does not say.
pool = "dedicated"


@pytest.fixture(params=["dedicated", "shared"])
def both_pools(request, monkeypatch):
    """Runs a test once for each value of tenant_pool that its configuration can have."""
    monkeypatch.setattr(sys.modules[__name__], "pool", request.param)


def make_ledger(primary, ids=tuple(TENANTS.values()), table="ledger"):
    """The table: each tenant has ROWS_EACH rows, and sees no others."""
    statements = [
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} (id serial PRIMARY KEY, business_id text NOT NULL, note text)",
        f"INSERT INTO {table} (business_id) SELECT b FROM unnest(%s::text[]) AS b,"
        f" generate_series(1, {ROWS_EACH})",
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY own ON {table} USING (business_id = current_setting('{SETTING}', true))",
        f"GRANT ALL ON {table}, {table}_id_seq TO {APP_USER}",
    ]
    with primary.connect(APP_DATABASE) as connection:
        for statement in statements:
            connection.execute(statement, [list(ids)] if "%s" in statement else None)


def pool_for(settings):
    """Shared pools need transactions, and statements that are followed."""
    if settings.get("pool_mode") == "session" or settings.get("max_prepared_statements") == 0:
        return "dedicated"
    return pool


def tenants(server, settings=None, tiers=None, changes=None):
    """A config: the user's suffix tells the tenant, all are of the tier `basic`.

    `changes` is laid over it, section by section.
    """
    config = {
        "pgturnstile": {"pool_mode": "transaction", "default_pool_size": 2,
                        "server_tls_sslmode": "disable", "tenant_by": "user_suffix",
                        "max_client_conn": 1000, "tenant_pool": pool_for(settings or {}), **(settings or {})},
        "databases": {APP_DATABASE: {"host": server.host, "port": server.port}},
        "tiers": {"basic": {"weight": 1}, **(tiers or {})},
        "tenants": {name: {"tier": "basic", "business_id": business_id}
                    for name, business_id in TENANTS.items()}}
    return merge(config, changes or {})


def enter(pooler, tenant, **kwargs):
    """A raw client of a tenant, logged in."""
    return log_in(pooler, f"{APP_USER}.{tenant}", APP_PASSWORD, **kwargs)


def connect(pooler, tenant, **kwargs):
    """A psycopg connection of a tenant."""
    return pooler.connect(APP_DATABASE, f"{APP_USER}.{tenant}", APP_PASSWORD, **kwargs)


def show(client, setting):
    """The value of a setting, asked by SHOW."""
    return client.rows(f"SHOW {setting}")[0][0]


def errors(messages):
    """The SQLSTATE of every error among the messages."""
    return [m.fields["C"] for m in raw.find(messages, "E")]
