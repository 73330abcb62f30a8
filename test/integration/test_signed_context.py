# SPDX-License-Identifier: ISC
#
# test_signed_context.py - a tenant's id that SQL cannot forge: the verifier of etc/sql, the
# signatures that it takes, and what a session may try.
#
# Knows the form of a signature and makes its own, to tell what the verifier takes from what the
# pooler makes; then through the pooler, with dedicated pools.
import contextlib
import hashlib
import hmac
import secrets

import psycopg
import pytest

import forgeries
from conftest import APP_USER
from machine import scratch_dir
from tenancy import tenants
from turnstile import TOP
from waiting import wait_until

SCRIPT = (TOP / "etc/sql/pgturnstile.sql").read_text()
SETTING, SIGNATURE = "app.current_business_id", "app.context_signature"
DATABASE = "signed"
KEY = ("k1", bytes(range(32)))
START = ("SELECT pg_backend_pid(), round(extract(epoch FROM backend_start) * 1000000)::bigint::text"
         " FROM pg_stat_get_activity(pg_backend_pid())")


@pytest.fixture(scope="module")
def signed(primary):
    """The primary with a database of ours: the verifier, one key, the table `invoices`."""
    primary.sql(f"CREATE DATABASE {DATABASE}")
    run = lambda sql, params=None: primary.sql(sql, params, dbname=DATABASE)
    run(SCRIPT)
    run("SELECT pgturnstile.add_key(%s, %s)", KEY)
    run("CREATE TABLE invoices (id serial, business_id integer, note text)")
    run("INSERT INTO invoices (business_id) SELECT b FROM unnest('{7, 42}'::int[]) b,"
        " generate_series(1, 3)")
    run(f"GRANT ALL ON invoices, invoices_id_seq TO {APP_USER}")
    run("SELECT pgturnstile.protect('invoices', 'business_id')")
    yield primary
    primary.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def owner(signed):
    """A connection of the superuser that installed the verifier."""
    with signed.connect(DATABASE) as connection:
        yield connection


@pytest.fixture
def session(signed):
    """A connection of the application, straight to the server."""
    with signed.connect(DATABASE, APP_USER, password="app-password") as connection:
        yield connection


def signature(connection, tenant, key=KEY):
    """What the pooler would give this backend for this tenant."""
    pid, start = connection.execute(START).fetchone()
    message = f"{key[0]}:{len(tenant.encode())}:{tenant}:{pid}:{start}".encode()
    return f"{key[0]}:" + hmac.new(key[1], message, hashlib.sha256).hexdigest()


def claim(connection, tenant, text):
    connection.execute("SELECT set_config(%s, %s, false), set_config(%s, %s, false)",
                       [SETTING, tenant, SIGNATURE, text])


def become(connection, tenant, key=KEY):
    claim(connection, tenant, signature(connection, tenant, key))


def rows(connection):
    return [row[0] for row in connection.execute("SELECT business_id FROM invoices ORDER BY id")]


def is_refused(connection, statement="SELECT * FROM invoices", params=None):
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement, params)
    assert "not signed" in str(caught.value)
    return caught.value.sqlstate == "42501"


# ---- the verifier --------------------------------------------------------------------------------

def test_i1_a_signed_tenant_sees_and_writes_its_rows_only(session):
    become(session, "42")
    assert rows(session) == [42] * 3
    assert session.execute("SELECT pgturnstile.business_id()").fetchone() == ("42",)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("INSERT INTO invoices (business_id) VALUES (7)")
    assert session.execute("UPDATE invoices SET note = 'x' WHERE business_id = 7").rowcount == 0
    become(session, "7")
    assert rows(session) == [7] * 3


@pytest.mark.parametrize("text", [None, "", ":", "k1", "k1:", "k1:" + "0" * 64, "k2:" + "0" * 64,
                                  "k1:" + "0" * 100_000, "0" * 64])
def test_i1_what_is_no_signature_is_refused(session, text):
    session.execute("SELECT set_config(%s, '42', false)", [SETTING])
    if text is not None:
        session.execute("SELECT set_config(%s, %s, false)", [SIGNATURE, text])
    assert is_refused(session)


@pytest.mark.parametrize("tenant", ["", "7", "420", "42 ", "042", "4\u0662"])
def test_i1_a_signature_is_good_for_one_id(session, tenant):
    claim(session, tenant, signature(session, "42"))
    assert is_refused(session)


def test_i1_no_id_is_no_tenant(session):
    text = signature(session, "")
    session.execute("SELECT set_config(%s, %s, false)", [SIGNATURE, text])
    assert is_refused(session)
    claim(session, "", text)
    assert is_refused(session)


def test_i1_ids_are_bytes(session):
    for tenant in ("caf\u00e9 '\\%:1", "x" * 1000, "\U0001f4a1"):
        become(session, tenant)
        assert session.execute("SELECT pgturnstile.business_id()").fetchone() == (tenant,)


def test_i1_a_signature_is_good_on_one_backend(signed, session):
    become(session, "42")
    stolen = signature(session, "42")
    with signed.connect(DATABASE, APP_USER, password="app-password") as other:
        claim(other, "42", stolen)
        assert is_refused(other)


def test_i1_a_later_backend_of_the_same_pid_is_another(session):
    """The start of the backend is signed: without it a pid that comes again would do."""
    pid, start = session.execute(START).fetchone()
    message = f"k1:2:42:{pid}:{int(start) - 1}".encode()
    claim(session, "42", "k1:" + hmac.new(KEY[1], message, hashlib.sha256).hexdigest())
    assert is_refused(session)


FORGERIES = {
    "DO": ["DO $$ BEGIN PERFORM set_config('app.cur' || 'rent_business_id', '7', false); END $$"],
    "EXECUTE": ["DO $$ BEGIN EXECUTE 'SET app.cur' || 'rent_business_id = 7'; END $$"],
    "a function": ["CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS"
                   " $$ SELECT set_config('app.current_business_id', '7', false) $$",
                   "SELECT pg_temp.f()"],
    "a function that asks": ["CREATE FUNCTION pg_temp.g() RETURNS SETOF invoices LANGUAGE plpgsql"
                             " AS $$ BEGIN PERFORM set_config('app.current_business_id', '7', true);"
                             " RETURN QUERY SELECT * FROM invoices; END $$",
                             "SELECT * FROM pg_temp.g()"],
    "within the statement": ["SELECT set_config('app.current_business_id', '7', false), *"
                             " FROM invoices",
                             "SELECT * FROM invoices, set_config('app.current_business_id', '7',"
                             " false)"],
    "UPDATE": ["UPDATE pg_settings SET setting = '7' WHERE name = 'app.current_business_id'"],
    "RESET": ["RESET app.current_business_id", "SET app.current_business_id = 7"],
}


@pytest.mark.parametrize("how", FORGERIES)
def test_i1_a_forged_id_is_refused_whatever_sets_it(session, how):
    become(session, "42")
    for statement in FORGERIES[how]:
        try:
            shown = session.execute(statement)
            assert not shown.description or not any(7 in row for row in shown.fetchall())
        except psycopg.errors.InsufficientPrivilege as refused:
            assert "not signed" in str(refused)
    if session.execute("SELECT current_setting(%s)", [SETTING]).fetchone() == ("42",):
        assert rows(session) == [42] * 3
    else:
        assert is_refused(session)


def test_i1_a_default_of_the_role_is_refused(signed, owner):
    with signed.connect(DATABASE, APP_USER, password="app-password") as connection:
        stolen = signature(connection, "7")
    owner.execute(f"ALTER ROLE {APP_USER} SET {SETTING} = '7'")
    owner.execute(f"ALTER ROLE {APP_USER} SET {SIGNATURE} = '{stolen}'")
    try:
        with signed.connect(DATABASE, APP_USER, password="app-password") as connection:
            assert connection.execute(f"SHOW {SETTING}").fetchone() == ("7",)
            assert is_refused(connection)
    finally:
        owner.execute(f"ALTER ROLE {APP_USER} RESET ALL")


def test_i1_names_of_the_session_do_not_get_into_the_verifier(session):
    """Functions, operators and tables of one's own before pg_catalog's in the path."""
    for statement in (
            "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql"
            " AS $$ SELECT ''::bytea $$",
            "CREATE FUNCTION pg_temp.pg_backend_pid() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$",
            "CREATE FUNCTION pg_temp.yes(bytea, bytea) RETURNS boolean LANGUAGE sql"
            " AS $$ SELECT true $$",
            "CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.yes, LEFTARG = bytea,"
            " RIGHTARG = bytea)",
            "CREATE TEMP TABLE signing_key AS SELECT 'k1'::text AS id, ''::bytea AS ipad,"
            " ''::bytea AS opad",
            "CREATE TEMP TABLE verifier AS SELECT 'app.mine'::text AS id_setting",
            "SET search_path = pg_temp, pg_catalog, pgturnstile"):
        session.execute(statement)
    claim(session, "7", "k1:" + "0" * 64)
    assert is_refused(session, "SELECT * FROM public.invoices")
    become(session, "42")
    assert session.execute("SELECT pgturnstile.business_id()").fetchone() == ("42",)


@pytest.mark.parametrize("setting", [
    "bytea_output = escape", "standard_conforming_strings = off", "timezone = 'Asia/Kathmandu'",
    "datestyle = 'German'", "client_encoding = latin1", "extra_float_digits = -15",
    "intervalstyle = iso_8601", "transform_null_equals = on", "xmlbinary = hex",
    "plan_cache_mode = force_generic_plan", "force_parallel_mode = on", "jit_above_cost = 0",
    "default_transaction_isolation = serializable", "lc_monetary = 'C'", "row_security = on"])
def test_settings_of_the_session_do_not_change_what_is_verified(session, setting):
    session.execute(f"SET {setting}")
    become(session, "42")
    assert rows(session) == [42] * 3
    claim(session, "7", signature(session, "42"))
    assert is_refused(session)


def test_i9_the_application_cannot_read_keys(session):
    for statement in ("SELECT * FROM pgturnstile.signing_key", "SELECT * FROM pgturnstile.keys",
                      "SELECT pgturnstile.add_key('mine', sha256(''))",
                      "SELECT pgturnstile.retire_key('k1')",
                      "SELECT pgturnstile.use_setting('app.mine')",
                      "INSERT INTO pgturnstile.key_file VALUES ('mine ' || repeat('0', 64))",
                      "UPDATE pgturnstile.verifier SET id_setting = 'app.mine'",
                      "CREATE FUNCTION pgturnstile.business_id(int) RETURNS int LANGUAGE sql"
                      " AS 'SELECT 1'",
                      "CREATE TABLE pgturnstile.mine (id int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(statement)


def test_i9_nor_who_may_read_all_data_or_gets_rights_by_default(signed, owner):
    owner.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT pg_read_all_data TO reader")
    owner.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader, PUBLIC;"
                  " ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO reader;"
                  " ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO reader")
    try:
        owner.execute("DROP SCHEMA pgturnstile CASCADE")
        owner.execute(SCRIPT)
        owner.execute("SELECT pgturnstile.add_key(%s, %s)", KEY)
        owner.execute("SELECT pgturnstile.protect('invoices', 'business_id')")
        with signed.connect(DATABASE, "reader", password="reader") as reader:
            assert reader.execute("SELECT * FROM pgturnstile.signing_key").fetchall() == []
            for statement in ("INSERT INTO pgturnstile.signing_key VALUES ('x', '', '')",
                              "SELECT pgturnstile.add_key('mine', sha256(''))",
                              "CREATE TABLE pgturnstile.mine (id int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(statement)
    finally:
        owner.execute("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM reader, PUBLIC;"
                      " ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM reader;"
                      " ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM reader;"
                      " DROP OWNED BY reader; DROP ROLE reader")


def test_parallel_workers_get_the_id_from_their_leader(session):
    become(session, "42")
    for setting in ("parallel_setup_cost = 0", "parallel_tuple_cost = 0",
                    "min_parallel_table_scan_size = 0", "max_parallel_workers_per_gather = 2"):
        session.execute(f"SET {setting}")
    plan = "\n".join(row[0] for row in session.execute(
        "EXPLAIN SELECT count(*) FROM invoices WHERE note IS NULL"))
    assert "Parallel Seq Scan" in plan and "Params Evaluated" in plan, plan
    assert rows(session) == [42] * 3


def test_the_id_is_verified_once_a_statement(session):
    become(session, "42")
    plan = "\n".join(row[0] for row in session.execute(
        "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM invoices"))
    assert plan.count("business_id()") == 1 and "InitPlan" in plan, plan
    assert "k1:" not in plan


def test_a_function_of_ones_own_sees_no_row_of_another(session):
    """A cheap function that is not leakproof is not run before the policy."""
    become(session, "42")
    session.execute("CREATE FUNCTION pg_temp.look(int) RETURNS boolean LANGUAGE plpgsql COST 0.0001"
                    " AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$")
    seen = []
    session.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    session.execute("SELECT * FROM invoices WHERE pg_temp.look(business_id)")
    assert seen == ["saw 42"] * 3


# ---- HMAC ----------------------------------------------------------------------------------------

# RFC 4231, test cases 1 to 4; 2 has a key that is too short for a signature.
VECTORS = [
    ("0b" * 20, b"Hi There".hex(),
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe".hex(), b"what do ya want for nothing?".hex(),
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ("aa" * 20, "dd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)).hex(), "cd" * 50,
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
]


@pytest.mark.parametrize("key, message, digest", VECTORS)
def test_vectors_of_rfc_4231(owner, key, message, digest):
    assert owner.execute(
        "SELECT encode(pgturnstile.hmac(pgturnstile.pad(k, 54), pgturnstile.pad(k, 92), m), 'hex')"
        " FROM (SELECT decode(%s, 'hex') k, decode(%s, 'hex') m) v",
        [key, message]).fetchone() == (digest,)


# ---- keys ----------------------------------------------------------------------------------------

def test_keys_are_exchanged_without_a_gap(owner, session):
    new = ("k2", secrets.token_bytes(32))
    become(session, "42")
    owner.execute("SELECT pgturnstile.add_key(%s, %s)", new)
    try:
        assert rows(session) == [42] * 3
        become(session, "42", new)
        assert rows(session) == [42] * 3
        assert [r[0] for r in owner.execute("SELECT id FROM pgturnstile.keys ORDER BY id")] \
            == ["k1", "k2"]
    finally:
        owner.execute("SELECT pgturnstile.retire_key('k2')")
    assert is_refused(session)
    with pytest.raises(psycopg.errors.UndefinedObject):
        owner.execute("SELECT pgturnstile.retire_key('k2')")
    become(session, "42")
    assert rows(session) == [42] * 3


def test_a_key_is_replaced_by_one_of_its_id(owner, session):
    become(session, "42")
    try:
        owner.execute("SELECT pgturnstile.add_key('k1', %s)", [secrets.token_bytes(64)])
        assert is_refused(session)
    finally:
        owner.execute("SELECT pgturnstile.add_key(%s, %s)", KEY)
    assert rows(session) == [42] * 3


@pytest.mark.parametrize("key_id, key", [
    ("k3", b"x" * 15), ("k3", b"x" * 65), ("k3", None), ("", b"x" * 32), ("a:b", b"x" * 32),
    ("x" * 33, b"x" * 32), (None, b"x" * 32)])
def test_bad_keys_are_refused(owner, key_id, key):
    with pytest.raises(psycopg.Error):
        owner.execute("SELECT pgturnstile.add_key(%s, %s)", [key_id, key])


def copy_keys(connection, text):
    with connection.cursor() as cursor, cursor.copy(
            "COPY pgturnstile.key_file FROM STDIN") as copy:
        copy.write(text)


def test_i9_a_key_file_is_copied_and_stands_in_no_log(signed, owner, session):
    new = ("k3", secrets.token_bytes(32))
    owner.execute("SET log_statement = 'all'; SET log_min_duration_statement = 0")
    copy_keys(owner, f"# keys\n\n; of a test\n  {new[0]}  {new[1].hex()}\n")
    become(session, "42", new)
    assert rows(session) == [42] * 3
    owner.execute("SELECT pgturnstile.retire_key('k3')")
    assert "COPY pgturnstile.key_file" in signed.log.read_text()
    assert new[1].hex() not in signed.log.read_text()
    for bad in ("k3", "k3 00", f"k3 {new[1].hex()} more", "k3 " + "0g" * 32):
        with pytest.raises(psycopg.Error):
            copy_keys(owner, bad + "\n")


# ---- installing ----------------------------------------------------------------------------------

def test_the_script_may_be_run_again(owner, session):
    become(session, "42")
    owner.execute("SELECT pgturnstile.use_setting('app.tenant')")
    owner.execute(SCRIPT)
    owner.execute(SCRIPT)
    try:
        assert is_refused(session)
        session.execute("SELECT set_config('app.tenant', '42', false)")
        assert rows(session) == [42] * 3
    finally:
        owner.execute("SELECT pgturnstile.use_setting('app.current_business_id')")
    assert rows(session) == [42] * 3
    for name in ("no_dot", "app.", "APP.x", "app.x'y", None):
        if name is not None:
            with pytest.raises(psycopg.errors.CheckViolation):
                owner.execute("SELECT pgturnstile.use_setting(%s)", [name])


def test_a_schema_of_somebody_else_is_not_taken_over(signed):
    signed.sql("CREATE DATABASE trapped")
    try:
        for trap in (f"CREATE SCHEMA pgturnstile AUTHORIZATION {APP_USER}",
                     f"CREATE SCHEMA pgturnstile; CREATE TABLE pgturnstile.signing_key (id text);"
                     f" ALTER TABLE pgturnstile.signing_key OWNER TO {APP_USER}"):
            signed.sql(trap, dbname="trapped")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                signed.sql(SCRIPT, dbname="trapped")
            signed.sql("DROP SCHEMA pgturnstile CASCADE", dbname="trapped")
    finally:
        signed.sql("DROP DATABASE trapped")


def test_a_role_that_is_no_superuser_may_install_it(signed):
    signed.role("keeper", "keeper")
    signed.sql("CREATE DATABASE kept OWNER keeper")
    keeper = {"dbname": "kept", "user": "keeper", "password": "keeper"}
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            signed.sql(SCRIPT, **keeper)
        signed.sql(caught.value.diag.message_hint)
        signed.sql(SCRIPT, **keeper)
        signed.sql("SELECT pgturnstile.add_key(%s, %s)", KEY, **keeper)
        with signed.connect("kept", APP_USER, password="app-password") as connection:
            become(connection, "42")
            assert connection.execute("SELECT pgturnstile.business_id()").fetchone() == ("42",)
    finally:
        signed.sql("DROP DATABASE kept WITH (FORCE)")
        signed.sql("DROP ROLE keeper")


# ---- policies ------------------------------------------------------------------------------------

def test_i1_no_other_policy_opens_what_this_one_closes(owner, session):
    owner.execute("CREATE TABLE receipts (business_id text); INSERT INTO receipts VALUES ('7'), ('42');"
                  f"GRANT ALL ON receipts TO {APP_USER};"
                  "CREATE POLICY old ON receipts USING"
                  f" (business_id = current_setting('{SETTING}', true))")
    try:
        for _ in range(2):
            owner.execute("SELECT pgturnstile.protect('receipts', 'business_id')")
        assert [r[0] for r in owner.execute("SELECT polname FROM pg_policy WHERE polrelid ="
                                            " 'receipts'::regclass ORDER BY 1")] \
            == ["old", "pgturnstile_tenant"]
        become(session, "42")
        assert session.execute("SELECT * FROM receipts").fetchall() == [("42",)]
        session.execute("SELECT set_config(%s, '7', false)", [SETTING])
        assert is_refused(session, "SELECT * FROM receipts")
    finally:
        owner.execute("DROP TABLE receipts")


def test_the_owner_is_under_the_policy_too(signed, owner):
    owner.execute(f"CREATE TABLE bills (business_id text); ALTER TABLE bills OWNER TO {APP_USER};"
                  "INSERT INTO bills VALUES ('7'), ('42')")
    try:
        with signed.connect(DATABASE, APP_USER, password="app-password") as connection:
            connection.execute("SELECT pgturnstile.protect('bills', 'business_id')")
            assert is_refused(connection, "SELECT * FROM bills")
            become(connection, "42")
            assert connection.execute("SELECT * FROM bills").fetchall() == [("42",)]
    finally:
        owner.execute("DROP TABLE bills")


def test_what_is_not_protected_is_told(owner):
    owner.execute("CREATE TABLE bare (business_id text); CREATE TABLE other (id int)")
    ask = lambda: dict(owner.execute("SELECT target::text, problem FROM"
                                     " pgturnstile.unprotected('business_id')").fetchall())
    try:
        assert set(ask()) == {"bare"}
        owner.execute("SELECT pgturnstile.protect('bare', 'business_id')")
        assert ask() == {}
        owner.execute("ALTER TABLE bare NO FORCE ROW LEVEL SECURITY")
        assert "forced" in ask()["bare"]
        owner.execute("ALTER TABLE bare DISABLE ROW LEVEL SECURITY")
        assert "enabled" in ask()["bare"]
        owner.execute("DROP POLICY pgturnstile_tenant ON bare; CREATE POLICY pgturnstile_tenant ON"
                      " bare AS RESTRICTIVE USING (business_id = '1')")
        assert "no policy" in ask()["bare"]
        with pytest.raises(psycopg.errors.UndefinedColumn):
            owner.execute("SELECT pgturnstile.protect('other', 'business_id')")
    finally:
        owner.execute("DROP TABLE bare, other")


# ---- through the pooler --------------------------------------------------------------------------

def key_file(*keys):
    path = scratch_dir("keys") / "context.keys"
    write_keys(path, *keys)
    return path


def write_keys(path, *keys):
    path.write_text("# signs\n" + "".join(f"{name} {key.hex()}\n" for name, key in keys))
    path.chmod(0o600)


def behind(server, path=None, changes=None, **settings):
    """A config: the tenants of tenancy.py on the database `signed`, and the keys in `path`."""
    config = tenants(server, {"context_signing_key_file": path or key_file(KEY), **settings},
                     changes=changes)
    config["databases"] = {DATABASE: {"host": server.host, "port": server.port}}
    config["tenants"] |= {"umlaut": {"tier": "basic", "business_id": "K\u00f6nig: 1"},
                          "long": {"tier": "basic", "business_id": "x" * 1024}}
    return config


def enter(pooler, tenant, **kwargs):
    return pooler.connect(DATABASE, f"{APP_USER}.{tenant}", "app-password", **kwargs)


USERS = {APP_USER: "app-password"}


MODES = {"session": {"pool_mode": "session"}, "transaction": {"pool_mode": "transaction"},
         "shared": {"pool_mode": "transaction", "tenant_pool": "shared"}}


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def pooler(signed, turnstile, mode):
    return turnstile(behind(signed, **MODES[mode], default_pool_size=1), USERS)


def test_i1_a_tenants_connections_are_signed(pooler):
    for tenant, number in (("acme", 42), ("globex", 7), ("acme", 42)):
        with enter(pooler, tenant) as connection:
            assert rows(connection) == [number] * 3
            assert rows(connection) == [number] * 3


@pytest.mark.parametrize("tenant, known", [("umlaut", "K\u00f6nig: 1"), ("long", "x" * 1024)])
def test_the_database_takes_what_the_pooler_signs(pooler, mode, tenant, known):
    if mode == "shared" and not known.isascii():
        pytest.skip("ids in shared pools are ASCII")
    with enter(pooler, tenant) as connection:
        assert connection.execute("SELECT pgturnstile.business_id()").fetchone() == (known,)


def test_an_id_that_is_too_long_is_refused_by_the_database(signed, turnstile):
    config = behind(signed)
    config["tenants"]["vast"] = {"tier": "basic", "business_id": "x" * 1025}
    with enter(turnstile(config, USERS), "vast") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)
        assert is_refused(connection)


def shown(connection):
    """The rows of a session that may have broken its own signature."""
    try:
        return rows(connection)
    except psycopg.errors.InsufficientPrivilege:
        return []


@pytest.mark.parametrize("text", forgeries.invisible())
def test_i1_a_forgery_that_no_text_tells_shows_nothing_of_others(pooler, text):
    with enter(pooler, "acme") as connection:
        for _ in range(2):
            with contextlib.suppress(psycopg.Error):
                connection.execute(text)
            assert set(shown(connection)) <= {42}
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute(text)
            assert set(shown(connection)) <= {42}
        assert set(shown(connection)) <= {42}
    for tenant, number in (("globex", 7), ("acme", 42)):
        with enter(pooler, tenant) as connection:
            assert rows(connection) == [number] * 3


def test_i1_a_forger_sees_nothing_within_its_own_code(pooler):
    with enter(pooler, "acme") as connection:
        for name in ("business_id", "context_signature"):
            assert is_refused(connection, "DO $$ DECLARE n int; BEGIN EXECUTE 'SET app.' || "
                              f"'{'current_' if name[0] == 'b' else ''}' || '{name} = 7'; "
                              "SELECT count(*) INTO n FROM invoices; RAISE 'saw %', n; END $$")
            assert rows(connection) == [42] * 3


LOSSES = ["RESET ALL", "DISCARD ALL", f"RESET {SIGNATURE}", f"SET {SIGNATURE} TO DEFAULT",
          "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$",
          "DO $$ BEGIN EXECUTE 'RESET app.context_' || 'signature'; END $$"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_session_that_resets_its_settings_has_its_signature_back(pooler, loss):
    with enter(pooler, "acme", options="-c work_mem=1MB") as connection:
        connection.execute(loss)
        assert rows(connection) == [42] * 3
        assert connection.execute("SHOW work_mem").fetchone() == ("1MB",)
        if loss != "DISCARD ALL":
            with connection.transaction():
                connection.execute(loss)
                assert rows(connection) == [42] * 3
            assert rows(connection) == [42] * 3
            with connection.transaction(force_rollback=True):
                connection.execute("SAVEPOINT a")
                connection.execute(loss)
                assert rows(connection) == [42] * 3
                connection.execute("ROLLBACK TO a")
                assert rows(connection) == [42] * 3
            assert rows(connection) == [42] * 3
    with enter(pooler, "acme") as connection:
        assert rows(connection) == [42] * 3


@pytest.mark.parametrize("text", [f"SET {SIGNATURE} = 'mine'",
                                  f"SELECT set_config('{SIGNATURE}', 'mine', false)"])
def test_a_signature_of_ones_own_is_nobodys(pooler, text):
    with enter(pooler, "acme") as connection:
        connection.execute(text)
    with enter(pooler, "acme", options=f"-c {SIGNATURE}=mine") as connection:
        assert rows(connection) == [42] * 3


@pytest.mark.parametrize("how", FORGERIES)
def test_i1_a_forged_id_gets_no_row_through_the_pooler(pooler, how):
    with enter(pooler, "acme") as connection:
        for statement in FORGERIES[how]:
            try:
                shown = connection.execute(statement)
                assert not shown.description or not any(7 in row for row in shown.fetchall())
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName):
                pass  # the pooler has seen what it does, or what would have made it
        try:
            assert rows(connection) == [42] * 3
        except psycopg.errors.InsufficientPrivilege as refused:
            assert "not signed" in str(refused)
    with enter(pooler, "acme") as connection:
        connection.execute("DISCARD ALL")
        assert rows(connection) == [42] * 3
    with enter(pooler, "globex") as connection:
        assert rows(connection) == [7] * 3


def test_i1_one_tenant_cannot_use_the_signature_of_another(signed, turnstile, mode):
    pooler = turnstile(behind(signed, **MODES[mode], default_pool_size=2), USERS)
    with enter(pooler, "globex") as victim, enter(pooler, "acme") as thief:
        # Each on a server of its own, which its temporary object keeps.
        victim.execute("CREATE TEMP TABLE mine (id int)")
        stolen, = victim.execute(f"SHOW {SIGNATURE}").fetchone()
        thief.execute(
            "CREATE FUNCTION pg_temp.put(name text, value text) RETURNS text LANGUAGE plpgsql"
            " AS $$ BEGIN EXECUTE 'SELECT set_' || 'config($1, $2, false)' USING name, value;"
            " RETURN current_setting(name); END $$")
        with thief.transaction(force_rollback=True):
            assert thief.execute(
                "SELECT pg_temp.put('app.current_' || 'business_id', '7'),"
                f" pg_temp.put('{SIGNATURE}', %s)", [stolen]).fetchone() == ("7", stolen)
            # In a shared pool what has run unseen is undone at once.
            assert mode == "shared" and rows(thief) == [42] * 3 or is_refused(thief)
        assert rows(thief) == [42] * 3
        assert rows(victim) == [7] * 3


def test_i9_no_signature_stands_in_a_text(pooler, signed):
    with enter(pooler, "acme") as connection, enter(pooler, "globex") as other:
        own, = connection.execute(f"SHOW {SIGNATURE}").fetchone()
        assert own.startswith("k1:") and rows(other) == [7] * 3
        connection.execute("RESET ALL")
        seen = signed.sql("SELECT query FROM pg_stat_activity UNION ALL"
                          " SELECT statement FROM pg_prepared_statements", dbname=DATABASE)
        assert not any(own in (text or "") or "k1:" in (text or "") for text, in seen)
    assert "k1:" not in pooler.log_text() and KEY[1].hex() not in pooler.log_text()


def test_a_kept_server_is_signed_too(pooler):
    with enter(pooler, "acme") as connection:
        connection.execute("CREATE TEMP TABLE kept (id int)")
        for loss in LOSSES[2:]:
            connection.execute(loss)
            assert rows(connection) == [42] * 3
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def signer(connection):
    return connection.execute(f"SHOW {SIGNATURE}").fetchone()[0].split(":")[0]


def test_keys_are_exchanged_under_clients(owner, signed, turnstile, mode):
    path, new = key_file(KEY), ("k2", secrets.token_bytes(32))
    t = turnstile(behind(signed, path, **MODES[mode], default_pool_size=1), USERS)
    with enter(t, "acme") as connection:
        assert rows(connection) == [42] * 3 and signer(connection) == "k1"
        owner.execute("SELECT pgturnstile.add_key(%s, %s)", new)
        write_keys(path, new, KEY)
        t.reload()
        wait_until(lambda: signer(connection) == "k2", what="the new key signs")
        owner.execute("SELECT pgturnstile.retire_key('k1')")
        try:
            assert rows(connection) == [42] * 3
            with enter(t, "globex") as other:
                assert rows(other) == [7] * 3
        finally:
            owner.execute("SELECT pgturnstile.add_key(%s, %s)", KEY)
            owner.execute("SELECT pgturnstile.retire_key('k2')")


def test_signing_begins_with_a_reload(signed, turnstile):
    t = turnstile(behind(signed, path=" "), USERS)
    with enter(t, "acme") as connection:
        assert is_refused(connection)
        t.reload({"pgturnstile": {"context_signing_key_file": key_file(KEY)}})
        wait_until(lambda: signer(connection) == "k1", what="the key signs")
        assert rows(connection) == [42] * 3


@pytest.mark.parametrize("mode, text, said", [
    (0o640, None, "its group or others may read or change it"),
    (0o604, None, "its group or others may read or change it"),
    (0o620, None, "its group or others may read or change it"),
    (0o600, "k1 abcd\n", "context.keys:1: behind the id has to stand"),
    (0o600, "# none\n", "no key in it"),
])
def test_i8_a_bad_key_file_changes_nothing(signed, turnstile, mode, text, said):
    path = key_file(KEY)
    t = turnstile(behind(signed, path), USERS)
    with enter(t, "acme") as connection:
        assert rows(connection) == [42] * 3
        if text:
            path.write_text(text)
        path.chmod(mode)
        with pytest.raises(psycopg.Error) as refused:
            t.reload()
        assert said in str(refused.value)
        connection.execute("RESET ALL")
        assert rows(connection) == [42] * 3


def test_without_tenants_nothing_is_signed(signed, turnstile):
    config = behind(signed)
    config["pgturnstile"].pop("tenant_by")
    for section in ("tenants", "tiers"):
        config.pop(section)
    t = turnstile(config, USERS)
    with t.connect(DATABASE, APP_USER, "app-password") as connection:
        connection.execute("RESET ALL")
        assert connection.execute("SELECT current_setting(%s, true)",
                                  [SIGNATURE]).fetchone()[0] in (None, "")
        assert is_refused(connection)


def test_i1_tenants_take_turns_on_one_server(signed, turnstile):
    """A shared pool: the signature goes with the id, and never stands beside another's."""
    t = turnstile(behind(signed, **MODES["shared"], default_pool_size=1), USERS)
    with enter(t, "acme") as acme, enter(t, "globex") as globex:
        for _ in range(20):
            assert rows(acme) == [42] * 3
            assert rows(globex) == [7] * 3
            with acme.transaction(), acme.pipeline():
                numbers = [acme.execute("SELECT business_id FROM invoices") for _ in range(3)]
            assert [n.fetchall() for n in numbers] == [[(42,)] * 3] * 3
        with acme.transaction():
            acme.execute("DO $$ BEGIN EXECUTE 'RESET ALL'; END $$")
            assert rows(acme) == [42] * 3
        assert rows(globex) == [7] * 3
