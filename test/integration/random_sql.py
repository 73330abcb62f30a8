# SPDX-License-Identifier: ISC
#
# random_sql.py - SQL made up at random, for a pair of nodes: what a router may take for a read.
#
# Composes texts only; who runs them, and where they went, it does not know.  All objects are in
# OBJECTS; most of them are traps: what writes stands behind an operator, a cast, a view, a domain, a
# policy, a default, a trigger or a function that calls itself STABLE.
"""Author(seed).session(): a list of requests, each to be sent as it is and answered."""
import random
from dataclasses import dataclass

SCHEMA = "random_sql"

OBJECTS = """
CREATE SCHEMA random_sql;
SET search_path = random_sql;
CREATE TABLE log (id bigserial, what text);
CREATE TABLE a (id bigserial PRIMARY KEY, n int DEFAULT 1, t text DEFAULT 'x', j jsonb DEFAULT '{"k": 1}',
                at timestamptz DEFAULT now());
CREATE TABLE b (id bigserial PRIMARY KEY, a_id bigint, n int, t text);
CREATE UNLOGGED TABLE u (id bigserial, n int, t text);
CREATE TABLE parted (id int, n int, t text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE UNLOGGED TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
CREATE SEQUENCE seq;
CREATE FUNCTION f_immutable(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION f_stable(int) RETURNS int STABLE LANGUAGE sql
    AS 'SELECT coalesce(max(n), $1)::int FROM random_sql.a';
CREATE FUNCTION f_writes(int) RETURNS int VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO random_sql.log (what) VALUES ('f_writes'); RETURN $1; END $$;
CREATE FUNCTION f_writes_sql(int) RETURNS int VOLATILE LANGUAGE sql
    AS $$ INSERT INTO random_sql.log (what) VALUES ('f_writes_sql'); SELECT $1 $$;
CREATE FUNCTION f_lies(int) RETURNS int STABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN random_sql.f_writes($1); END $$;
CREATE FUNCTION f_lies_sql(int) RETURNS int STABLE LANGUAGE sql
    AS $$ SELECT random_sql.f_writes($1) $$;
CREATE FUNCTION f_lies_new(n int) RETURNS int STABLE LANGUAGE sql RETURN random_sql.f_writes(n);
CREATE FUNCTION f_locks(int) RETURNS int STABLE LANGUAGE sql
    AS $$ SELECT $1 FROM (SELECT pg_advisory_xact_lock($1)) AS locked $$;
CREATE FUNCTION f_dynamic(int) RETURNS int STABLE LANGUAGE plpgsql AS $$
    DECLARE n int; BEGIN EXECUTE 'SELECT random_sql.f_writes(' || $1 || ')' INTO n; RETURN n; END $$;
CREATE FUNCTION f_rows(int) RETURNS SETOF random_sql.a STABLE LANGUAGE sql
    AS 'SELECT * FROM random_sql.a WHERE n <= $1';
CREATE FUNCTION f_of_row(random_sql.b) RETURNS int VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RETURN random_sql.f_writes($1.n); END $$;
CREATE FUNCTION f_plus(int, int) RETURNS int VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RETURN random_sql.f_writes($1 + $2); END $$;
CREATE OPERATOR +! (LEFTARG = int, RIGHTARG = int, FUNCTION = f_plus);
CREATE FUNCTION f_minus(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 - $2';
CREATE OPERATOR -! (LEFTARG = int, RIGHTARG = int, FUNCTION = f_minus);
CREATE FUNCTION f_lock_twice(int, int) RETURNS int VOLATILE LANGUAGE sql
    AS $$ SELECT $1 FROM (SELECT pg_advisory_lock($1), pg_advisory_unlock($1)) AS locked $$;
CREATE OPERATOR #! (LEFTARG = int, RIGHTARG = int, FUNCTION = f_lock_twice);
CREATE TYPE box_of AS (n int);
CREATE FUNCTION f_box(int) RETURNS box_of VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RETURN row(random_sql.f_writes($1))::random_sql.box_of; END $$;
CREATE CAST (int AS box_of) WITH FUNCTION f_box(int);
CREATE FUNCTION f_may(int) RETURNS boolean VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RETURN random_sql.f_writes($1) IS NOT NULL; END $$;
CREATE DOMAIN small AS int CHECK (VALUE < 1000);
CREATE DOMAIN checked AS int CHECK (random_sql.f_may(VALUE));
CREATE VIEW v_plain AS SELECT id, n, t FROM a;
CREATE VIEW v_writes AS SELECT id, f_writes(n) AS n, t FROM a;
CREATE VIEW v_operator AS SELECT id, n +! 1 AS n, t FROM a;
CREATE VIEW v_over AS SELECT * FROM v_writes;
CREATE VIEW v_ruled AS SELECT id, n, t FROM a;
CREATE RULE v_ruled_insert AS ON INSERT TO v_ruled DO INSTEAD INSERT INTO a (n, t) VALUES (new.n, new.t);
CREATE RULE b_also AS ON UPDATE TO b DO ALSO INSERT INTO log (what) VALUES ('b_also');
CREATE MATERIALIZED VIEW m AS SELECT id, n, t FROM a;
CREATE FUNCTION f_step(int, int) RETURNS int VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RETURN random_sql.f_writes($1 + coalesce($2, 0)); END $$;
CREATE AGGREGATE sum_writes(int) (SFUNC = f_step, STYPE = int, INITCOND = '0');
CREATE TABLE guarded (id bigserial, n int, t text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY writes ON guarded USING (f_may(n));
CREATE FUNCTION f_trigger() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO random_sql.log (what) VALUES ('trigger'); RETURN NEW; END $$;
CREATE TRIGGER b_trigger AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION f_trigger();
CREATE PROCEDURE p_writes() LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO random_sql.log (what) VALUES ('p_writes'); END $$;
CREATE PROCEDURE p_commits() LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO random_sql.log (what) VALUES ('p_commits'); COMMIT; END $$;
CREATE FUNCTION f_default(n boolean DEFAULT pg_try_advisory_lock(55)) RETURNS int STABLE LANGUAGE sql
    AS 'SELECT $1::int';
CREATE FUNCTION f_default_writes(n int DEFAULT random_sql.f_writes(1)) RETURNS int STABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN n; END $$;
CREATE FUNCTION f_last() RETURNS int STABLE LANGUAGE sql AS 'SELECT last_value::int FROM random_sql.seq';
CREATE FUNCTION f_last_new() RETURNS int STABLE LANGUAGE sql RETURN (SELECT last_value::int FROM seq);
CREATE FUNCTION f_last_call() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN random_sql.f_last(); END $$;
CREATE FUNCTION f_comments() RETURNS int STABLE LANGUAGE sql SET search_path = random_sql
    AS 'SELECT f_writes /* ( */ -- (
        (1)';
CREATE FUNCTION f_of_view() RETURNS int STABLE LANGUAGE sql AS 'SELECT max(n) FROM random_sql.v_writes';
CREATE FUNCTION f_operates(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1 OPERATOR(random_sql.+!) 1';
CREATE FUNCTION f_casts(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1::random_sql.checked';
CREATE FUNCTION f_row_field() RETURNS int STABLE LANGUAGE sql AS 'SELECT max(r.f_of_row) FROM random_sql.b r';
CREATE FUNCTION f_pid() RETURNS int STABLE LANGUAGE sql AS 'SELECT pg_backend_pid()';
CREATE FUNCTION f_counts() RETURNS int STABLE LANGUAGE sql
    AS $$ SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'walwriter' $$;
CREATE FUNCTION f_node() RETURNS int STABLE LANGUAGE sql
    AS $$ SELECT (current_setting('in_hot_standby') = 'on')::int $$;
CREATE FUNCTION f_node_new() RETURNS int STABLE LANGUAGE sql RETURN (current_setting('port'))::int;
CREATE FUNCTION f_node_default(t text DEFAULT current_setting('transaction_read_only')) RETURNS int
    STABLE LANGUAGE sql AS 'SELECT length($1)';
CREATE FUNCTION f_setting(text) RETURNS int STABLE LANGUAGE sql AS 'SELECT length(current_setting($1))';
CREATE FUNCTION f_own_setting(n int DEFAULT length(current_setting('app.x', true))) RETURNS int
    STABLE LANGUAGE sql AS $$ SELECT coalesce(length(current_setting('work_mem')), $1) $$;
CREATE VIEW v_last AS SELECT last_value::int AS n FROM seq;
CREATE VIEW v_last_over AS SELECT n FROM v_last;
CREATE VIEW v_pid AS SELECT pg_backend_pid() AS n;
CREATE VIEW v_transaction AS SELECT (txid_current() % 7)::int AS n;
CREATE VIEW v_activity AS SELECT count(*)::int AS n FROM pg_stat_activity;
CREATE VIEW v_settings AS SELECT count(*)::int AS n FROM pg_settings WHERE setting = 'on';
CREATE VIEW v_settings_over AS SELECT n FROM v_settings;
CREATE VIEW v_started AS SELECT extract(epoch FROM pg_postmaster_start_time())::int AS n;
CREATE VIEW v_node AS SELECT length(current_setting('in_hot_standby')) AS n;
CREATE VIEW v_function AS SELECT f_last() AS n;
CREATE VIEW v_own_setting AS SELECT length(current_setting('app.x', true)) AS n;
CREATE FUNCTION f_escapes() RETURNS int STABLE LANGUAGE sql
    AS $$ SELECT last_value::int FROM random_sql.U&"s\\0065q" $$;
CREATE MATERIALIZED VIEW m_last AS SELECT last_value::int AS n FROM seq;
CREATE SEQUENCE "säq";
CREATE FUNCTION "f_schreibt_ä"(b) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1.n';
CREATE TABLE kept (id bigserial, n int);
ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON kept USING (coalesce(current_setting('app.x', true), '') <> n::text);
CREATE TABLE told (id bigserial, n int);
ALTER TABLE told ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON told USING (current_setting('transaction_read_only') = 'off');
INSERT INTO a (n, t) SELECT g, 'row ' || g FROM generate_series(1, 20) g;
INSERT INTO b (a_id, n, t) SELECT g, g, 'b ' || g FROM generate_series(1, 10) g;
INSERT INTO u (n, t) SELECT g, 'u ' || g FROM generate_series(1, 5) g;
INSERT INTO parted SELECT g * 40, g, 'p' FROM generate_series(0, 4) g;
INSERT INTO guarded (n, t) VALUES (1, 'g');
"""

SOURCES = ["a", "b", "a", "b", "random_sql.a", '"a"', "A", "v_plain", "m", "parted_low", "f_rows(5)"]
ODD_SOURCES = ["u", "parted", "parted_high", "v_writes", "v_operator", "v_over", "guarded", "seq AS s(n)",
               "pg_stat_activity AS s(n)", "pg_class AS s(n)", "pg_locks AS s(t)",
               "dblink('', 'SELECT 1') AS s(n int)", "v_last AS s(n)", "v_last_over AS s(n)", "v_pid AS s(n)",
               "v_transaction AS s(n)", "v_activity AS s(n)", "v_settings AS s(n)", "v_settings_over AS s(n)",
               "v_started AS s(n)", "v_node AS s(n)", "v_function AS s(n)", "told"]
INTS = ["f_immutable({0})", "f_stable({0})", "abs({0})", "coalesce({0}, {1})", "{0} + {1}", "{0} -! {1}",
        "({0})::small", "greatest({0}, {1})", "length({2})", "CAST({0} AS int)", "({0} * 2)",
        "nullif({0}, {1})", "CASE WHEN {3} THEN {0} ELSE {1} END", "(SELECT {0})", "({0})::bigint::int",
        "extract(epoch FROM now())::int", "pg_catalog.abs({0})", "random_sql.f_immutable({0})"]
ODD_INTS = ["f_writes({0})", "f_writes_sql({0})", "f_lies({0})", "f_lies_sql({0})", "f_lies_new({0})",
            "f_dynamic({0})", "{0} +! {1}", "{0} OPERATOR(random_sql.+!) {1}", "{0} #! {1}",
            "(({0})::box_of).n", "({0})::checked", "CAST({0} AS random_sql.checked)", "checked({0})",
            "box_of({0})::text::int", "nextval('seq')::int", "currval('seq')::int", "lastval()::int",
            "setval('seq', 5)::int", "(random() * 5)::int", "f_locks({0})", "\"f_writes\"({0})",
            "random_sql.f_writes({0})", "F_WRITES({0})", "(SELECT f_writes({0}))", "(txid_current() % 7)::int",
            "(pg_try_advisory_lock({0}))::int", "(pg_advisory_unlock({0}))::int", "pg_backend_pid()",
            "length(pg_advisory_xact_lock({0})::text)", "length(set_config('app.x', 'v', false))",
            "length(pg_notify('c', 'x')::text)", "f_writes(n => {0})", "f_lies_new(n => {0})",
            "length(query_to_xml('SELECT random_sql.f_writes(1)', true, false, '')::text)",
            "lo_creat(-1)::int", "(SELECT f_of_row(b) FROM b LIMIT 1)", "(SELECT b.f_of_row FROM b LIMIT 1)",
            "(SELECT (b).f_of_row FROM b LIMIT 1)", "pg_catalog.length(pg_export_snapshot())",
            "f_default()", "f_default_writes()", "f_last()", "f_last_new()", "f_last_call()", "f_of_view()",
            "f_operates({0})", "f_casts({0})", "f_row_field()", "f_pid()", "f_counts()", "f_node()", "f_node_new()",
            "f_node_default()", "f_setting('max_connections')", "current_setting('port')::int",
            "length(current_setting('in_hot_standby'))", "length(current_setting(lower('PORT')))",
            "extract(epoch FROM pg_postmaster_start_time())::int", "inet_server_port()",
            "(SELECT count(*)::int FROM pg_show_all_settings() WHERE setting = 'on')"]
TEXTS = ["'x'", "upper({2})", "{2} || {2}", "({0})::text", "concat({2}, {0})", "E'\\'quoted'", "$$dollar$$",
         "coalesce({2}, '')", "to_char(now(), 'YYYY')", "current_setting('work_mem')", "current_user::text",
         "left({2}, 3)", "format('%s', {0})", "substring({2} from 1 for 2)", "trim({2})"]
BOOLS = ["true", "{0} = {1}", "{0} < {1}", "{0} BETWEEN {1} AND 50", "{0} IN ({1}, 2)", "{2} LIKE 'r%'",
         "{0} IS NOT NULL", "NOT ({3})", "({3}) AND ({3})", "({3}) OR {0} > 1", "EXISTS (SELECT 1 FROM a)",
         "{0} = ANY (ARRAY[{1}, 3])", "{2} IS DISTINCT FROM {2}", "{0} IN (SELECT n FROM b)"]
ODD_BOOLS = ["f_may({0})", "pg_try_advisory_lock({0})", "{0} = f_writes({1})",
             "{0} IN (SELECT f_writes(n) FROM b)", "pg_reload_conf() IS NULL", "pg_advisory_unlock({0})"]
COMMENTS = ["/* x */", "-- x\n", "/* a /* b */ */", "/* route: primary */", "/* INSERT INTO a */"]
SETTINGS = ["work_mem = '4MB'", "application_name = 'x'", "search_path = random_sql, public",
            "TimeZone = 'UTC'", "enable_seqscan = on", "extra_float_digits = 1"]


@dataclass(frozen=True)
class Request:
    """What one client sends and waits for."""

    way: str  # simple, extended, named, pipeline
    texts: tuple
    has_param: bool = False

    def __str__(self):
        return f"{self.way}: " + " | ".join(self.texts)


class Author:
    """Writes sessions; the same seed, the same sessions."""

    def __init__(self, seed, odd=0.12):
        self.random = random.Random(seed)
        self.odd = odd
        self.names = 0
        self.param = False  # whether $1 may stand in what is written now

    def one(self, *choices):
        return self.random.choice(choices)

    def maybe(self, chance):
        return self.random.random() < chance

    def pick(self, usual, odd):
        return self.random.choice(odd if self.maybe(self.odd) else usual)

    # --- expressions ------------------------------------------------------------------------
    def fill(self, form, depth):
        wanted = [self.number, self.number, self.text, self.condition]
        return form.format(*(make(depth - 1) if f"{{{i}}}" in form else "" for i, make in enumerate(wanted))) \
            if "{" in form else form

    def number(self, depth):
        if self.param and self.maybe(0.2):
            return "$1::int"
        if depth <= 0 or self.maybe(0.3):
            return self.one("1", "n", "n", "42", "0x".replace("x", ""), "(- 3)")
        return self.fill(self.pick(INTS, ODD_INTS), depth)

    def text(self, depth):
        if depth <= 0 or self.maybe(0.4):
            return self.one("'x'", "t", "t", "''")
        return self.fill(self.pick(TEXTS, ["query_to_xml('SELECT 1', true, false, '')::text"]), depth)

    def condition(self, depth):
        return self.fill(self.pick(BOOLS, ODD_BOOLS), max(depth, 0) or 1)

    # --- queries ----------------------------------------------------------------------------
    def source(self, depth):
        if depth > 0 and self.maybe(0.15):
            return f"({self.select(depth - 1)}) AS s(n, t)"
        name = self.pick(SOURCES, ODD_SOURCES)
        if self.maybe(0.1):
            return f"{name.split(' AS ')[0]} TABLESAMPLE system (100)" if name in ("a", "b") else name
        return name

    def select(self, depth=2):
        """Two columns, an int and a text."""
        distinct = self.one("", "", "", "", "DISTINCT ")
        number = self.number(depth)
        text = self.text(depth)
        if self.maybe(0.12):
            number = self.pick([f"sum({number})::int", f"count(*)::int", f"max({number})",
                                f"(row_number() OVER (ORDER BY {number}))::int"],
                               [f"sum_writes({number})", f"(sum({number}) OVER ())::int"])
            text = "'x'"
            distinct = ""
        sql = f"SELECT {distinct}{number}, {text} FROM {self.source(depth)}"
        if self.maybe(0.5):
            sql += f" WHERE {self.condition(depth)}"
        if self.maybe(0.2):
            sql += " ORDER BY 1"
        if self.maybe(0.3):
            sql += f" LIMIT {self.one('1', '3', 'ALL')}"
        if self.maybe(0.4 * self.odd):
            sql += self.one(" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE SKIP LOCKED")
        return sql

    def dml(self, depth=1):
        table = self.one("a", "b", "u", "log", "v_ruled", "guarded")
        column = "what" if table == "log" else "t"
        n = "" if table == "log" else "n, "
        value = "" if table == "log" else self.number(depth) + ", "
        text = self.text(0).replace("t", "'t'") if self.maybe(1) else ""
        where = f"{column} = 'nobody' OR {'id' if table != 'v_ruled' else 'n'} = {self.random.randrange(30)}"
        value = value.replace("n", "3") if "(" not in value else "3, " if value else ""
        return self.one(
            f"INSERT INTO {table} ({n}{column}) VALUES ({value}{text})",
            f"INSERT INTO {table} ({n}{column}) VALUES ({value}{text}) RETURNING *",
            f"INSERT INTO a (n, t) SELECT n, t FROM b LIMIT 1",
            f"INSERT INTO a (id, n) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = a.n + 1",
            f"UPDATE {table} SET {column} = {text} WHERE {where}",
            f"DELETE FROM {table} WHERE {column} = 'nobody'",
            f"DELETE FROM b WHERE id > 40 RETURNING n, t",
            "MERGE INTO b USING a ON a.id = b.a_id AND a.id < 3 WHEN MATCHED THEN UPDATE SET n = a.n"
            " WHEN NOT MATCHED THEN DO NOTHING")

    def with_query(self):
        inner = self.dml() + " RETURNING n, t" if self.maybe(self.odd) else self.select(1)
        if inner.count("RETURNING") > 1 or "MERGE" in inner:
            inner = "DELETE FROM b WHERE id > 50 RETURNING n, t"
        form = self.one("", " MATERIALIZED", " NOT MATERIALIZED") if inner.startswith("SELECT") else ""
        return f"WITH c(n, t) AS{form} ({inner}) SELECT n, t FROM c"

    def explain(self):
        what = self.dml() if self.maybe(self.odd * 2) else self.select(1)
        return self.one("EXPLAIN ", "EXPLAIN ANALYZE ", "EXPLAIN (ANALYZE, BUFFERS) ",
                        "EXPLAIN (COSTS OFF) ", "EXPLAIN (ANALYZE false) ") + what

    def query(self):
        made = self.random.random()
        if made < 0.62:
            return self.select()
        if made < 0.72:
            return self.with_query()
        if made < 0.77:
            return f"{self.select(1)} {self.one('UNION ALL', 'UNION', 'EXCEPT')} {self.plain_arm()}"
        if made < 0.80:
            return self.one("TABLE a", "VALUES (1, 'x'), (2, 'y')", "TABLE u", "SHOW work_mem", "SHOW ALL",
                            "SHOW transaction_read_only", "TABLE v_over", "(SELECT 1 AS n)")
        if made < 0.85:
            return self.explain()
        return self.select(3)

    def plain_arm(self):
        return "SELECT n, t FROM b"

    def other(self):
        """What is no query."""
        return self.one(
            "LOCK TABLE a IN SHARE MODE", "NOTIFY c, 'x'", "CALL p_writes()", "CALL p_commits()",
            "DO $$ BEGIN INSERT INTO random_sql.log (what) VALUES ('do'); END $$", "DO $$ BEGIN NULL; END $$",
            "TRUNCATE random_sql.log", "ANALYZE a", "REFRESH MATERIALIZED VIEW m",
            "SELECT n, t INTO TEMP gone FROM a", "CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT 1 AS n",
            "DROP TABLE IF EXISTS mine", "DROP TABLE IF EXISTS gone", "SELECT * FROM mine", "DISCARD ALL",
            "SET " + self.one(*SETTINGS), "RESET work_mem", "LISTEN c", "UNLISTEN *",
            "COMMENT ON TABLE a IS 'x'", "CREATE INDEX IF NOT EXISTS a_n ON a (n)", "CHECKPOINT",
            "PREPARE p AS " + self.select(1), "EXECUTE p", "DEALLOCATE ALL",
            "PREPARE w AS INSERT INTO log (what) VALUES ('w')", "EXECUTE w",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "VACUUM a",
            "IMPORT FOREIGN SCHEMA s FROM SERVER s INTO public", "SECURITY LABEL ON TABLE a IS 'x'")

    def copy(self):
        what = self.one(f"({self.select(1)})", f"({self.select(1)})", "a", "(DELETE FROM b WHERE id > 60 RETURNING n)")
        return self.one(f"COPY {what} TO STDOUT", f"COPY {what} TO STDOUT WITH (FORMAT csv)",
                        "COPY log (what) FROM STDIN", f"COPY {what} TO STDOUT")

    def redefine(self):
        """What the pooler has learnt of a name is not true any more."""
        return self.one("ALTER FUNCTION f_stable(int) VOLATILE", "ALTER FUNCTION f_stable(int) STABLE",
                        "CREATE OR REPLACE VIEW v_plain AS SELECT id, f_writes(n) AS n, t FROM a",
                        "CREATE OR REPLACE VIEW v_plain AS SELECT id, n, t FROM a",
                        "ALTER TABLE parted_low SET UNLOGGED", "ALTER TABLE parted_low SET LOGGED")

    def disguised(self, sql):
        if self.maybe(0.15):
            sql = f"{self.one(*COMMENTS)} {sql}"
        if self.maybe(0.05) and "$$" not in sql and "'" not in sql:
            sql = sql.replace(" ", self.one("\n", "\t ", " /**/ "))
        if self.maybe(0.05):
            sql += ";"
        return sql

    def statement(self):
        made = self.random.random()
        if made < 0.70:
            return self.disguised(self.query())
        if made < 0.84:
            return self.disguised(self.dml())
        if made < 0.90:
            return self.copy()
        if made < 0.998:
            return self.disguised(self.other())
        return self.redefine()

    # --- requests ---------------------------------------------------------------------------
    def request(self):
        way = self.one("simple", "simple", "simple", "extended", "extended", "named", "pipeline", "multi")
        if way == "multi":
            texts = [self.statement() for _ in range(self.random.randrange(2, 4))]
            texts = [t for t in texts if "COPY" not in t and "--" not in t] or ["SELECT n FROM a"]
            return Request("simple", ("; ".join(t.rstrip(";") for t in texts),))
        self.param = way in ("extended", "named") and self.maybe(0.4)
        count = self.random.randrange(2, 5) if way == "pipeline" else 1
        texts = [self.statement() for _ in range(count)]
        if way != "simple":
            texts = [t for t in texts if "COPY" not in t] or [self.select(1)]
        if way == "named":
            texts *= self.random.randrange(1, 4)
        has_param = self.param and any("$1" in t for t in texts)
        self.param = False
        return Request(way, tuple(texts), has_param)

    def transaction(self):
        begin = self.one("BEGIN", "BEGIN", "START TRANSACTION", "BEGIN READ ONLY", "BEGIN READ WRITE",
                         "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE",
                         "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        steps = [begin]
        for _ in range(self.random.randrange(1, 5)):
            steps.append(self.one(
                self.query(), self.query(), self.query(), self.dml(), "SAVEPOINT s", "ROLLBACK TO s",
                f"DECLARE c CURSOR FOR {self.select(1)}", "FETCH 1 FROM c", "CLOSE c",
                f"DECLARE h CURSOR WITH HOLD FOR {self.select(1)}", "SET LOCAL work_mem = '3MB'",
                "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE"))
        steps.append(self.one("COMMIT", "COMMIT", "ROLLBACK", "END"))
        if self.maybe(0.25):
            return [Request("simple", ("; ".join(steps),))]
        return [Request(self.one("simple", "simple", "extended"), (s,)) for s in steps]

    def session(self):
        """Requests, after each of which but the last the session may be in a transaction."""
        made = []
        for _ in range(self.random.randrange(3, 12)):
            made += self.transaction() if self.maybe(0.15) else [self.request()]
        return made
