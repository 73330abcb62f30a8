# SPDX-License-Identifier: ISC
#
# test_doctor.py - --doctor finds what is wrong, leaves alone what is right, and what it says mends.
#
# Each finding of findings.def has one object that it must name, or more, and one that it must not.
import json
import re
import subprocess

import pytest

from turnstile import TOP, Turnstile

DATABASE = "clinic"
USERS = {"clinic_app": "app-password", "clinic_monitor": "monitor-password"}
SETTING = "app.current_business_id"
OWN = f"current_setting('{SETTING}', true)"
FINDINGS = re.findall(r'^X\("([\w-]+)", (\w+)', (TOP / "include/doctor/findings.def").read_text(),
                      re.M)

# Tables: their column's type, their policies.  The name says which finding is to name it.
TABLES = {
    "good": ("text", [f"USING (business_id = {OWN})"]),
    "good_number": ("integer", [f"USING (business_id = nullif({OWN}, '')::integer)"]),
    "good_uuid": ("uuid", [f"USING (business_id = nullif({OWN}, '')::uuid)"]),
    # A restrictive policy decides; what the others permit is nothing without it.
    "good_restrictive": ("text", ["USING (true)", f"AS RESTRICTIVE USING (business_id = {OWN})"]),
    "null_open": ("text", [f"USING ({OWN} IS NULL OR business_id = {OWN})"]),
    "empty_open": ("text", [f"USING (coalesce({OWN}, 'none') = '' OR business_id = {OWN})"]),
    "coalesce_open": ("text", [f"USING (business_id = coalesce(nullif({OWN}, ''), business_id))"]),
    "true_open": ("text", [f"USING (business_id = {OWN})", "USING (true)"]),
    "other_setting": ("text", ["USING (business_id = current_setting('app.tenant', true))"]),
    "cast_number": ("integer", [f"USING (business_id = {OWN}::integer)"]),
    "cast_uuid": ("uuid", [f"USING (business_id = {OWN}::uuid)"]),
}

# Functions that are declared IMMUTABLE, and what they are; made in this order.
TELLS = {
    "tells()": f"LANGUAGE sql AS $$ SELECT {OWN} $$",
    "tells_parsed()": f"RETURN {OWN}",
    "tells_user()": "RETURN session_user::text",
    "tells_user_too()": "LANGUAGE plpgsql AS 'BEGIN RETURN user; END'",
    "tells_by_another()": "LANGUAGE plpgsql AS 'BEGIN RETURN upper(tells()); END'",
    "tells_by_default(text DEFAULT current_user)": "LANGUAGE sql AS 'SELECT $1'",
    "tells_inside(text)": "LANGUAGE internal AS 'show_config_by_name'",
}
UNSTEADY = {
    "counts()": "LANGUAGE sql AS 'SELECT count(*)::text FROM bare'",
    "counts_parsed()": "RETURN (SELECT count(*)::text FROM bare)",
    "dynamic(text)": "LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; RETURN $1; END'",
    "tells_time()": "RETURN now()::text",
    "reads_odd()": """LANGUAGE sql AS 'SELECT min(business_id)::text FROM "Od''d"'""",
    "calls_stable()": "LANGUAGE plpgsql AS 'BEGIN RETURN public. stable (1); END'",
}
STEADY = {
    "joins(text[])": "LANGUAGE sql AS $$ SELECT array_to_string($1, ',') $$",
    "joins_sorted(text[])": "LANGUAGE sql AS $$ SELECT string_agg(upper(x), ',' ORDER BY x)"
                            " FROM unnest($1) x WHERE x IS DISTINCT FROM '' $$",
    "of_json(j jsonb)": "LANGUAGE plpgsql AS $$ DECLARE bare text := j->>'user';"
                        " BEGIN RETURN coalesce(bare || 1, joins(ARRAY[bare])); END $$",
    "of_json_parsed(j jsonb)": "RETURN lower(of_json(j))",
    "day(timestamptz)": "LANGUAGE sql AS $$ SELECT date_trunc('day', $1 AT TIME ZONE 'UTC')::text $$",
}


@pytest.fixture(scope="module")
def clinic(primary):
    """A database with something wrong, and something right, for each finding."""
    for name, password in USERS.items():
        primary.role(name, password)
    primary.sql(f"CREATE DATABASE {DATABASE}")
    with primary.connect(DATABASE) as connection:
        run = connection.execute
        for name, (kind, policies) in TABLES.items():
            run(f"CREATE TABLE {name} (business_id {kind}, note text)")
            run(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
            run(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
            for i, policy in enumerate(policies):
                run(f"CREATE POLICY p{i} ON {name} {policy}")
        run("CREATE TABLE bare (business_id text); CREATE TABLE no_tenant (id int);"
            "CREATE TABLE \"Od'd\" (business_id integer)")
        run(f"CREATE TABLE unforced (business_id text); CREATE POLICY p0 ON unforced USING"
            f" (business_id = {OWN}); ALTER TABLE unforced ENABLE ROW LEVEL SECURITY")
        run(f"CREATE TABLE owned (business_id text); CREATE POLICY p0 ON owned USING"
            f" (business_id = {OWN}); ALTER TABLE owned ENABLE ROW LEVEL SECURITY;"
            " ALTER TABLE owned OWNER TO clinic_app")
        for name, index in (("large", "note"), ("large_indexed", "business_id, note")):
            run(f"CREATE TABLE {name} AS SELECT i::text AS business_id, md5(i::text) AS note"
                " FROM generate_series(1, 3000) i")
            run(f"CREATE INDEX {name}_i ON {name} ({index})")
            run(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; ALTER TABLE {name} FORCE ROW LEVEL"
                f" SECURITY; CREATE POLICY p0 ON {name} USING (business_id = {OWN})")
        run("CREATE INDEX large_used ON large_indexed (note)")
        run("SET enable_seqscan = off")
        run("SELECT count(*) FROM large_indexed WHERE note = 'x'")
        run("CREATE FUNCTION reads(int) RETURNS bigint LANGUAGE sql AS"
            " 'SELECT count(*) FROM bare WHERE $1 > 0';"
            "CREATE FUNCTION stable(int) RETURNS bigint LANGUAGE sql STABLE AS"
            " 'SELECT count(*) FROM bare WHERE $1 > 0';"
            "CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS 'INSERT INTO bare VALUES (1)'")
        for name, body in {**TELLS, **UNSTEADY, **STEADY}.items():
            run(f"CREATE FUNCTION {name} RETURNS text IMMUTABLE {body}")
        run("CREATE ROLE clinic_above BYPASSRLS")
    yield primary
    primary.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    primary.sql("DROP ROLE clinic_app; DROP ROLE clinic_monitor; DROP ROLE clinic_above")


class Doctor(Turnstile):
    """A configuration that is looked at, and never served."""

    def __init__(self, server, **settings):
        super().__init__({
            "pgturnstile": {"monitor_user": "clinic_monitor", "default_pool_size": 5,
                            "server_tls_sslmode": "disable", "tenant_by": "user_suffix",
                            **settings},
            "databases": {DATABASE: {"host": server.host, "port": server.port}},
            "tiers": {"basic": {"weight": 1}},
            "tenants": {"acme": {"tier": "basic", "business_id": "42"}}}, USERS)

    def look(self, *options):
        """The exit code, and what it says."""
        done = subprocess.run([*self._command(), "--doctor", *options], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return done.returncode, done.stdout, done.stderr

    def found(self, database=DATABASE):
        """{finding: {object: mend}} of the JSON document."""
        _, said, errors = self.look("--json")
        assert not errors, errors
        one = next(d for d in json.loads(said)["databases"] if d["name"] == database)
        assert one["error"] is None
        cases = {}
        for case in one["findings"]:
            cases.setdefault(case["id"], {})[case["object"]] = case["mend"]
        assert one["dangers"] == sum(len(cases.get(name, {})) for name, severity in FINDINGS
                                     if severity == "DANGER")
        return cases


@pytest.fixture
def doctor(clinic):
    made = []

    def make(**settings):
        made.append(Doctor(clinic, **settings))
        return made[-1]

    yield make
    for pooler in made:
        pooler.remove()


def tables(*names):
    return {f"public.{name}" for name in names}


def functions(declared):
    return {f"public.{name.split(' ')[0].rstrip(')')})" for name in declared}


def policies(*names):
    return {f"public.{name.split('/')[0]}, policy p{name.split('/')[1]}" for name in names}


def test_each_finding_names_what_is_bad_and_nothing_else(doctor, clinic):
    clinic.sql("GRANT clinic_above TO clinic_app")
    try:
        assert {name: set(objects) for name, objects in doctor().found().items()} == {
            "role-bypasses": {"clinic_app"},
            "table-open": tables("bare", '"Od\'d"'),
            "role-owns": {"public.owned, of clinic_app"},
            "policy-open": policies("null_open/0", "empty_open/0", "coalesce_open/0",
                                    "true_open/1"),
            "policy-other-setting": policies("other_setting/0"),
            "policy-cast": policies("cast_number/0", "cast_uuid/0"),
            "function-tells": functions(TELLS),
            "table-not-forced": tables("owned", "unforced"),
            "tenant-not-indexed": tables("large"),
            "function-volatile": {"public.reads(integer)"},
            "function-unsteady": functions(UNSTEADY),
            "index-unused": {"public.large_i on public.large"},
        }
    finally:
        clinic.sql("REVOKE clinic_above FROM clinic_app")


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS"])
def test_roles_above_policies(doctor, clinic, attribute):
    clinic.sql(f"ALTER ROLE clinic_app {attribute}")
    mend, = doctor().found()["role-bypasses"].values()
    clinic.sql(mend)
    assert "role-bypasses" not in doctor().found()


def test_pools_are_summed_up(doctor, clinic):
    room = (clinic.value("SELECT current_setting('max_connections')::int"
                         " - current_setting('superuser_reserved_connections')::int"))
    # One role, one tenant, and the monitor.
    assert "pools-too-large" not in doctor(default_pool_size=room - 1).found()
    said, = doctor(default_pool_size=room).found()["pools-too-large"]
    assert said == f"{room + 1} connections may be asked for, {room} are there"
    assert "pools-too-large" not in doctor(default_pool_size=room, max_db_connections=5).found()


def test_what_it_says_mends(doctor, clinic):
    """Run in a copy, which has no findings then."""
    clinic.sql(f"CREATE DATABASE mended TEMPLATE {DATABASE}")
    try:
        with clinic.connect("mended") as connection:
            pooler = doctor()
            pooler.config["databases"]["mended"] = pooler.config["databases"][DATABASE]
            pooler.write()
            cases = pooler.found("mended")
            for mend in (mend for name in cases for mend in cases[name].values()):
                for statement in mend.replace("another_role", "clinic_above").split("; "):
                    connection.execute(statement)
            left = pooler.found("mended")
            assert not left, left
    finally:
        clinic.sql("DROP DATABASE mended WITH (FORCE)")


def test_where_ids_are_signed_the_signature_is_what_mends(doctor, clinic):
    clinic.sql((TOP / "etc/sql/pgturnstile.sql").read_text(), dbname=DATABASE)
    try:
        assert "pgturnstile.business_id()::integer" in doctor().found()["table-open"]['public."Od\'d"']
        clinic.sql("SELECT pgturnstile.protect('other_setting', 'business_id')", dbname=DATABASE)
        found = doctor().found()
        assert "policy-other-setting" not in found
        assert not any("other_setting" in name for name in found["policy-open"])
    finally:
        clinic.sql("DROP SCHEMA pgturnstile CASCADE", dbname=DATABASE)


def test_another_column(doctor):
    assert "table-open" not in doctor(tenant_column="note").found()
    assert set(doctor(tenant_column="id").found()["table-open"]) == tables("no_tenant")


def test_a_superuser_does_not_try_policies(doctor, clinic):
    """A policy runs what its author wrote, with the rights of who asks."""
    clinic.sql("ALTER ROLE clinic_monitor SUPERUSER")
    try:
        code, said, _ = doctor().look()
        assert code == 1 and "policies were not tried" in said and "policy-open" not in said
    finally:
        clinic.sql("ALTER ROLE clinic_monitor NOSUPERUSER")


def test_nothing_is_changed(doctor, clinic):
    """Also by a policy that would: its transaction is read-only."""
    clinic.sql("CREATE TABLE seen (n int); GRANT ALL ON seen TO PUBLIC;"
               "CREATE FUNCTION look() RETURNS boolean LANGUAGE plpgsql AS"
               " $$ BEGIN INSERT INTO seen VALUES (1); RETURN true; END $$;"
               "CREATE TABLE spied (business_id text); ALTER TABLE spied ENABLE ROW LEVEL SECURITY;"
               "CREATE POLICY p0 ON spied USING (look())", dbname=DATABASE)
    try:
        doctor().found()
        assert clinic.value("SELECT count(*) FROM seen", dbname=DATABASE) == 0
    finally:
        clinic.sql("DROP TABLE spied, seen; DROP FUNCTION look()", dbname=DATABASE)


def test_exit_codes(doctor, primary):
    code, said, _ = doctor().look()
    assert code == 1
    order = re.findall(r"^(danger|warning|advice) ", said, re.M)
    assert order == sorted(order, key=["danger", "warning", "advice"].index) and len(order) > 10
    healthy = doctor()
    healthy.config["databases"][DATABASE]["dbname"] = "postgres"
    healthy.write()
    assert healthy.look()[0] == 0
    down = doctor()
    down.config["databases"][DATABASE]["port"] = 1
    down.write()
    code, said, _ = down.look("--json")
    assert code == 2 and json.loads(said)["databases"][0]["error"]
    broken = doctor()
    broken.ini.write_text("[pgturnstile]\nnonsense = 1\n")
    code, said, errors = broken.look()
    assert code == 2 and "nonsense" in errors


def test_a_standby_is_passed_over(doctor, clinic, replica):
    replica.wait_caught_up(clinic)
    pooler = doctor()
    pooler.config["databases"][DATABASE] = {"host": f"{replica.host},{clinic.host}",
                                            "port": f"{replica.port},{clinic.port}"}
    pooler.write()
    assert "table-open" in pooler.found()


def test_the_page_has_all_findings():
    page = (TOP / "docs/doctor.md").read_text()
    assert len(FINDINGS) == 13
    for name, severity in FINDINGS:
        assert f"| `{name}` | {severity.lower()} |" in page
