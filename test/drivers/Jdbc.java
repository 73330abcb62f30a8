/* SPDX-License-Identifier: ISC
 *
 * Jdbc.java - an application of PostgreSQL's JDBC driver; prints what it sees.
 *
 * Connects as the PG* environment says.  Arguments: prepareThreshold, and `changes` or `readonly` for
 * that scene alone.  The second one shows on which of several nodes it is.
 */
import java.io.ByteArrayInputStream;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;

public final class Jdbc {
    private static String schema;
    private static String threshold;

    private interface Act {
        Object run() throws Exception;
    }

    private static void show(String label, Object... values) {
        StringJoiner line = new StringJoiner(" ");
        for (Object value : values)
            line.add(text(value));
        System.out.println(label + ": " + line);
    }

    private static String text(Object value) {
        if (value instanceof byte[])
            return HexFormat.of().formatHex((byte[]) value);
        return value instanceof Object[] ? Arrays.deepToString((Object[]) value) : String.valueOf(value);
    }

    /* Shows what is returned, or the error that is thrown. */
    private static void attempt(String label, Act act) throws Exception {
        try {
            show(label, act.run());
        } catch (SQLException error) {
            show(label, error.getClass().getSimpleName(), error.getSQLState(),
                 error.getMessage().lines().findFirst().get());
        }
    }

    private static Connection connect(String... properties) throws SQLException {
        Map<String, String> env = System.getenv();
        Properties with = new Properties();
        with.setProperty("user", env.get("PGUSER"));
        with.setProperty("password", env.get("PGPASSWORD"));
        with.setProperty("sslmode", "disable");
        with.setProperty("currentSchema", schema);
        with.setProperty("prepareThreshold", threshold);
        for (int i = 0; i < properties.length; i += 2)
            with.setProperty(properties[i], properties[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT")
                                           + "/" + env.get("PGDATABASE"), with);
    }

    private static int run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
            return statement.getUpdateCount();
        }
    }

    /* All rows. */
    private static List<List<String>> rows(ResultSet result) throws SQLException {
        List<List<String>> all = new ArrayList<>();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (int i = 1; i <= result.getMetaData().getColumnCount(); i++)
                row.add(result.getString(i));
            all.add(row);
        }
        return all;
    }

    private static List<List<String>> query(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++)
                statement.setObject(i + 1, values[i]);
            return rows(statement.executeQuery());
        }
    }

    private static void statements(Connection one, Connection two) throws Exception {
        System.out.println("# statements that become prepared");
        try (PreparedStatement add = one.prepareStatement("SELECT ? + 1");
             PreparedStatement cry = two.prepareStatement("SELECT ?::text || '!'")) {
            for (int n = 0; n < 12; n++) {
                add.setInt(1, n);
                cry.setInt(1, n);
                show("" + n, rows(add.executeQuery()), rows(cry.executeQuery()));
            }
            show("described", add.getMetaData().getColumnTypeName(1), add.getParameterMetaData().getParameterCount());
        }
        try (Connection small = connect("preparedStatementCacheQueries", "5")) {
            for (int turn = 0; turn < 3; turn++)
                for (int n = 0; n < 12; n++)
                    if (!query(small, "SELECT " + n + " + ?::int", turn).get(0).get(0).equals("" + (n + turn)))
                        show("wrong", turn, n);
            show("simple", run(small, "DEALLOCATE ALL"), query(small, "SELECT ?::int", 7));
        }
        try (Connection simple = connect("preferQueryMode", "simple")) {
            show("by simple queries", query(simple, "SELECT ?::text, ?::int", "it's", 7));
        }
    }

    private static void types(Connection connection) throws Exception {
        System.out.println("# types, as text and then binary");
        String sql = "SELECT ?::int8, ?::numeric, ?::bytea, ?::text, ?::int[], ?::jsonb, ?::bool, ?::date, ?::timestamptz,"
                     + " ?::float8, ?::uuid, interval '1 day 2 hours'";
        PGobject json = new PGobject();
        json.setType("jsonb");
        json.setValue("{\"k\": [1, \"ü\"]}");
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int turn = 0; turn < 7; turn++) {
                statement.setLong(1, -7);
                statement.setBigDecimal(2, new BigDecimal("123456789012.000100"));
                statement.setBytes(3, new byte[] {0, -1, 16});
                statement.setNull(4, Types.VARCHAR);
                statement.setArray(5, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                statement.setObject(6, json);
                statement.setBoolean(7, true);
                statement.setObject(8, LocalDate.of(2024, 2, 29));
                statement.setObject(9, OffsetDateTime.parse("2024-02-29T12:34:56.789+02:00"));
                statement.setDouble(10, 1.5e-10);
                statement.setObject(11, new UUID(0, 42));
                ResultSet row = statement.executeQuery();
                row.next();
                show("row", row.getLong(1), row.getBigDecimal(2), row.getBytes(3), row.getString(4),
                     row.getArray(5).getArray(), row.getString(6), row.getBoolean(7), row.getObject(8, LocalDate.class),
                     row.getObject(9, OffsetDateTime.class), row.getDouble(10), row.getObject(11), row.getObject(12));
            }
        }
    }

    private static void batches(String rewrite) throws Exception {
        System.out.println("# batches, reWriteBatchedInserts=" + rewrite);
        try (Connection connection = connect("reWriteBatchedInserts", rewrite)) {
            connection.setAutoCommit(false);
            run(connection, "TRUNCATE numbered RESTART IDENTITY");
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO numbered (note) VALUES (?)",
                                                                        Statement.RETURN_GENERATED_KEYS)) {
                for (int n = 0; n < 300; n++) {
                    insert.setString(1, "note " + n);
                    insert.addBatch();
                }
                show("counts", insert.executeBatch().length);
                show("keys", rows(insert.getGeneratedKeys()).size());
            }
            connection.commit();
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO t VALUES (?, ?)")) {
                for (int n : new int[] {1, 2, 3, 2, 4}) {
                    insert.setInt(1, n);
                    insert.setString(2, "batched");
                    insert.addBatch();
                }
                attempt("one of them fails", insert::executeBatch);
            }
            attempt("then", () -> query(connection, "SELECT 1"));
            connection.rollback();
            try (Statement mixed = connection.createStatement()) {
                mixed.addBatch("INSERT INTO t VALUES (1, 'mixed')");
                mixed.addBatch("UPDATE t SET note = 'changed'");
                mixed.addBatch("DELETE FROM t");
                show("mixed", Arrays.toString(mixed.executeBatch()));
            }
            connection.commit();
        }
    }

    private static void transactions(Connection one, Connection two) throws Exception {
        System.out.println("# transactions");
        one.setAutoCommit(false);
        run(one, "INSERT INTO t VALUES (1, 'mine')");
        show("before the commit", query(two, "SELECT count(*) FROM t"));
        Savepoint savepoint = one.setSavepoint("s");
        attempt("duplicate", () -> run(one, "INSERT INTO t VALUES (1, 'again')"));
        attempt("then", () -> query(one, "SELECT 1"));
        one.rollback(savepoint);
        one.commit();
        show("after it", query(two, "SELECT * FROM t"));
        run(one, "DELETE FROM t");
        one.rollback();
        one.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        one.setReadOnly(true);
        show("characteristics", query(one, "SHOW transaction_isolation"), query(one, "SHOW transaction_read_only"));
        attempt("read only", () -> run(one, "DELETE FROM t"));
        one.rollback();
        one.setReadOnly(false);
        one.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        one.setAutoCommit(true);
        show("again", query(one, "SHOW transaction_isolation"), query(one, "SHOW transaction_read_only"), one.isValid(5));
        try (Connection saved = connect("autosave", "always")) {
            saved.setAutoCommit(false);
            for (int n = 0; n < 7; n++) {
                attempt("autosave", () -> run(saved, "INSERT INTO t VALUES (1, 'again')"));
                run(saved, "INSERT INTO t VALUES (" + (10 + n) + ", 'saved')");
            }
            saved.commit();
            show("saved", query(saved, "SELECT count(*) FROM t WHERE note = ?", "saved"));
            saved.commit();
        }
        attempt("several", () -> run(one, "SELECT 1; SELECT 1/0; SELECT 2"));
        attempt("syntax", () -> run(one, "SELEC 1"));
    }

    private static void cursors(String... properties) throws Exception {
        System.out.println("# rows by portions " + Arrays.toString(properties));
        try (Connection connection = connect(properties)) {
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 7; turn++) {
                try (PreparedStatement statement = connection.prepareStatement("SELECT g, repeat('x', g % 50) FROM generate_series(1, ?) g");
                     PreparedStatement other = connection.prepareStatement("SELECT -g FROM generate_series(1, 1000) g")) {
                    statement.setInt(1, 1000);
                    statement.setFetchSize(50);
                    other.setFetchSize(7);
                    ResultSet rows = statement.executeQuery(), others = other.executeQuery();
                    long sum = 0;
                    while (rows.next())
                        sum += rows.getInt(1) + rows.getString(2).length() + (others.next() ? 2 * others.getInt(1) : 0);
                    show("sum", sum);
                }
            }
            try (Statement limited = connection.createStatement()) {
                limited.setMaxRows(3);
                show("limited", rows(limited.executeQuery("SELECT generate_series(1, 1000)")));
            }
            run(connection, "CREATE FUNCTION three() RETURNS refcursor LANGUAGE plpgsql AS"
                            + " $$ DECLARE c refcursor; BEGIN OPEN c FOR SELECT generate_series(1, 3); RETURN c; END $$");
            try (CallableStatement call = connection.prepareCall("{? = call three()}")) {
                call.registerOutParameter(1, Types.REF_CURSOR);
                call.execute();
                show("a cursor of a function", rows((ResultSet) call.getObject(1)));
            }
            connection.rollback();
        }
    }

    private static void copy(Connection connection) throws Exception {
        System.out.println("# COPY");
        StringBuilder data = new StringBuilder();
        for (int n = 2000; n < 5000; n++)
            data.append(n).append("\tcopied ü\n");
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        show("in", copies.copyIn("COPY t FROM STDIN", new ByteArrayInputStream(data.toString().getBytes(StandardCharsets.UTF_8))));
        StringWriter out = new StringWriter();
        show("out", copies.copyOut("COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT", out), out);
        attempt("duplicate", () -> copies.copyIn("COPY t FROM STDIN", new ByteArrayInputStream("2000\tagain\n".getBytes())));
        var copy = copies.copyIn("COPY t FROM STDIN");
        copy.writeToCopy("9000\tnever\n".getBytes(), 0, 11);
        copy.cancelCopy();
        show("count", query(connection, "SELECT count(*) FROM t WHERE id >= 2000"));
    }

    private static void notifications(Connection listener, Connection speaker) throws Exception {
        System.out.println("# LISTEN and NOTIFY");
        run(listener, "LISTEN " + schema);
        speaker.setAutoCommit(false);
        for (int n = 0; n < 3; n++)
            query(speaker, "SELECT pg_notify(?, ?)", schema, "number " + n);
        speaker.commit();
        speaker.setAutoCommit(true);
        int pid = speaker.unwrap(PGConnection.class).getBackendPID();
        for (int heard = 0; heard < 3;) {
            PGNotification[] some = listener.unwrap(PGConnection.class).getNotifications(20000);
            if (some == null || some.length == 0)
                break;
            for (PGNotification each : some)
                show("heard", each.getName(), each.getParameter(), each.getPID() == pid);
            heard += some.length;
        }
        run(listener, "UNLISTEN *");
    }

    private static void sessions(Connection one, Connection two) throws Exception {
        System.out.println("# sessions");
        run(one, "SET TimeZone = 'Asia/Tokyo'");
        two.setSchema("public");
        two.setClientInfo("ApplicationName", "the second");
        for (int turn = 0; turn < 7; turn++)
            show("settings", query(one, "SELECT '2024-02-29 12:00+00'::timestamptz::text, current_setting('search_path')"),
                 query(two, "SELECT '2024-02-29 12:00+00'::timestamptz::text, current_setting('search_path'), current_setting('application_name')"));
        show("reported", one.unwrap(PGConnection.class).getParameterStatus("TimeZone"), two.getClientInfo("ApplicationName"));
        try (Statement statement = one.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END $$");
            for (SQLWarning each = statement.getWarnings(); each != null; each = each.getNextWarning())
                show("warning", each.getSQLState(), each.getMessage());
        }
        run(one, "CREATE TEMP TABLE own AS SELECT 1 AS n");
        attempt("temporary", () -> query(one, "SELECT * FROM own"));
        attempt("of the other", () -> query(two, "SELECT * FROM own"));
        run(one, "DISCARD ALL");
        show("discarded", query(one, "SHOW TimeZone"));
        attempt("gone", () -> query(one, "SELECT * FROM own"));
        ResultSet tables = one.getMetaData().getColumns(null, schema, "t", null);
        while (tables.next())
            show("column", tables.getString("COLUMN_NAME"), tables.getString("TYPE_NAME"));
    }

    private static void cancels(Connection connection, Connection watcher) throws Exception {
        System.out.println("# cancels and timeouts");
        try (Statement statement = connection.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    String asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
                    while (query(watcher, asleep).get(0).get(0).equals("0"))
                        Thread.onSpinWait();
                    statement.cancel();
                } catch (SQLException error) {
                    show("not cancelled", error);
                }
            });
            other.start();
            attempt("cancelled", () -> statement.execute("SELECT pg_sleep(60)"));
            other.join();
            statement.setQueryTimeout(1);
            attempt("timed out", () -> statement.execute("SELECT pg_sleep(60)"));
        }
        run(connection, "SET statement_timeout = '50ms'");
        attempt("by the server", () -> run(connection, "SELECT pg_sleep(60)"));
        run(connection, "RESET statement_timeout");
    }

    private static void threads() throws Exception {
        System.out.println("# threads, each on its own connection");
        long[] totals = new long[6];
        List<Thread> workers = new ArrayList<>();
        for (int n = 0; n < totals.length; n++) {
            int me = n;
            workers.add(new Thread(() -> {
                try (Connection connection = connect()) {
                    connection.setAutoCommit(false);
                    for (int turn = 0; turn < 20; turn++) {
                        totals[me] += Long.parseLong(query(connection, "SELECT ?::int + ?::int", me, turn).get(0).get(0));
                        query(connection, "SELECT count(*) FROM t WHERE id = ?", me);
                        connection.commit();
                    }
                } catch (SQLException error) {
                    show("thread", me, error);
                }
            }));
        }
        for (Thread worker : workers)
            worker.start();
        for (Thread worker : workers)
            worker.join();
        show("totals", Arrays.toString(totals));
    }

    private static void changes(Connection one, Connection two) throws Exception {
        System.out.println("# a table that changes under a prepared statement");
        run(one, "CREATE TABLE changing AS SELECT 1 AS id");
        for (int turn = 0; turn < 7; turn++)
            show("rows", query(one, "SELECT * FROM changing"));
        run(two, "ALTER TABLE changing ADD COLUMN added text DEFAULT 'new'");
        show("a column more", query(one, "SELECT * FROM changing"));
        for (int turn = 0; turn < 7; turn++)
            query(one, "SELECT * FROM changing");
        run(two, "ALTER TABLE changing ALTER COLUMN id TYPE text");
        show("another type", query(one, "SELECT * FROM changing"));
    }

    /* What is let go of between two transactions, a portal here, the driver closes in front of the next one's BEGIN, in
     * one batch with it. */
    private static void readonly() throws Exception {
        System.out.println("# transactions that say that they only read");
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 7; turn++) {
                connection.setReadOnly(true);
                try (PreparedStatement some = connection.prepareStatement("SELECT pg_is_in_recovery() FROM generate_series(1, 100)")) {
                    some.setFetchSize(5);
                    ResultSet rows = some.executeQuery();
                    rows.next();
                    show("reads", rows.getString(1), query(connection, "SELECT pg_is_in_recovery(), ? * " + turn, 2));
                    connection.commit();
                }
                show("reads again", query(connection, "SELECT pg_is_in_recovery(), -" + turn));
                attempt("a write", () -> run(connection, "CREATE TABLE never (n int)"));
                attempt("then", () -> query(connection, "SELECT 1"));
                connection.rollback();
                connection.setReadOnly(false);
                show("writes", run(connection, "INSERT INTO t VALUES (" + turn + ", 'written')"),
                     query(connection, "SELECT pg_is_in_recovery(), count(*) FROM t"));
                connection.commit();
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        threshold = arguments[0];
        schema = "drv_jdbc_" + String.join("_", arguments);
        try (Connection one = connect(); Connection two = connect()) {
            run(one, "DROP SCHEMA IF EXISTS " + schema + " CASCADE");
            run(one, "CREATE SCHEMA " + schema);
            run(one, "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE numbered (id serial, note text)");
            if (arguments.length > 1 && arguments[1].equals("readonly")) {
                readonly();
            } else if (arguments.length > 1) {
                changes(one, two);
            } else {
                statements(one, two);
                types(one);
                batches("false");
                batches("true");
                transactions(one, two);
                cursors();
                cursors("adaptiveFetch", "true", "maxResultBuffer", "20000", "adaptiveFetchMaximum", "300");
                copy(one);
                notifications(one, two);
                sessions(one, two);
                cancels(two, one);
                threads();
            }
            run(one, "DROP SCHEMA " + schema + " CASCADE");
        }
    }
}
