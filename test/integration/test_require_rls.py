# SPDX-License-Identifier: ISC
#
# test_require_rls.py - roles that row-level security does not bind do not serve tenants.
import psycopg
import pytest

from conftest import APP_DATABASE, APP_USER
from tenancy import tenants
from waiting import wait_until

# What a role is, what makes it so, what is said of it.
UNBOUND = {
    "super": ("ALTER ROLE {role} SUPERUSER", "it is a superuser"),
    "bypass": ("ALTER ROLE {role} BYPASSRLS", "it has BYPASSRLS"),
    "heir": ("GRANT rls_above TO {role}", "it may become rls_above, which"),
    "aloof": ("ALTER ROLE {role} NOINHERIT; GRANT rls_above TO {role}",
              "it may become rls_above, which"),
    "owner": ("CREATE TABLE rls_own (id int); ALTER TABLE rls_own OWNER TO {role};"
              " ALTER TABLE rls_own ENABLE ROW LEVEL SECURITY",
              "it has the rights of the owner of rls_own"),
    "forced": ("CREATE TABLE rls_forced (id int); ALTER TABLE rls_forced OWNER TO {role};"
               " ALTER TABLE rls_forced ENABLE ROW LEVEL SECURITY;"
               " ALTER TABLE rls_forced FORCE ROW LEVEL SECURITY",
               "it has the rights of the owner of rls_forced"),
    "of a group": ("CREATE TABLE rls_group (id int); ALTER TABLE rls_group OWNER TO rls_owners;"
                   " ALTER TABLE rls_group ENABLE ROW LEVEL SECURITY; GRANT rls_owners TO {role}",
                   "it has the rights of the owner of rls_group"),
}


@pytest.fixture(scope="module")
def run(primary):
    """Statements of the superuser; roles and tables of this file are dropped at the end."""
    def statements(*texts):
        with primary.connect(APP_DATABASE) as connection:
            for text in texts:
                connection.execute(text)

    statements("CREATE ROLE rls_above BYPASSRLS", "CREATE ROLE rls_owners", "CREATE ROLE another_role")
    yield statements
    statements("DROP OWNED BY rls_owners, another_role",
               "DROP ROLE rls_above, rls_owners, another_role")


@pytest.fixture
def role(primary, run):
    primary.role("rls_role", "rls-password")
    run("CREATE TABLE rls_plain (id int)", "ALTER TABLE rls_plain OWNER TO rls_role")
    yield "rls_role"
    run("DROP TABLE IF EXISTS rls_own, rls_forced, rls_group", "DROP OWNED BY rls_role",
        "DROP ROLE rls_role")


def start(primary, turnstile, **settings):
    return turnstile(tenants(primary, {"require_rls": "yes", "server_login_retry": "100ms",
                                       **settings}),
                     {APP_USER: "app-password", "rls_role": "rls-password"})


def enter(pooler):
    return pooler.connect(APP_DATABASE, "rls_role.acme", "rls-password")


@pytest.mark.parametrize("tenant_pool", ["dedicated", "shared"])
@pytest.mark.parametrize("what", UNBOUND)
def test_i1_such_a_role_is_refused_and_the_hint_mends_it(primary, turnstile, run, role, what,
                                                         tenant_pool):
    make, said = UNBOUND[what]
    run(make.format(role=role))
    t = start(primary, turnstile, tenant_pool=tenant_pool)
    with pytest.raises(psycopg.OperationalError) as refused:
        enter(t)
    text = str(refused.value)
    assert f'role "{role}" must not serve tenants (require_rls): {said}' in text
    t.wait_log("must not serve tenants")
    run(text.split("HINT:")[1].strip())

    def works():
        try:
            with enter(t) as connection:
                return connection.execute("SELECT 2").fetchone() == (2,)
        except psycopg.OperationalError as still:
            assert "must not serve tenants" in str(still)
            return False

    wait_until(works, what="the mended role is let in")


def test_a_role_that_policies_bind_is_served(primary, turnstile, role):
    with enter(start(primary, turnstile)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)


@pytest.mark.parametrize("settings", [{"require_rls": "no"}, {"tenant_by": None}])
def test_others_are_not_looked_at(primary, turnstile, run, role, settings):
    run(f"ALTER ROLE {role} BYPASSRLS")
    config = tenants(primary, {"require_rls": "yes", **settings}, changes={"pgturnstile": settings})
    if "tenant_by" in settings:
        config.pop("tenants")
        config.pop("tiers")
    t = turnstile(config, {role: "rls-password"})
    user = role if "tenant_by" in settings else f"{role}.acme"
    with t.connect(APP_DATABASE, user, "rls-password") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_a_database_may_ask_for_it_alone(primary, turnstile, run, role):
    run(f"ALTER ROLE {role} BYPASSRLS")
    t = turnstile(tenants(primary, changes={"databases": {
        APP_DATABASE: {"host": primary.host, "port": primary.port, "require_rls": "yes"},
        "lax": {"host": primary.host, "port": primary.port, "dbname": APP_DATABASE}}}),
                  {role: "rls-password"})
    with pytest.raises(psycopg.OperationalError):
        enter(t)
    with t.connect("lax", f"{role}.acme", "rls-password") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)
