/* SPDX-License-Identifier: ISC
 *
 * Console.java - PostgreSQL's JDBC driver on the console, as tools that are built on it use it.
 *
 * Arguments: URL, user, password.  Prints a word for each thing that worked.
 */
import java.math.BigDecimal;
import java.sql.*;

public final class Console {
	/* Often enough to be prepared by name, and its rows asked for in the binary format. */
	static void repeat(Connection c) throws SQLException {
		try (PreparedStatement s = c.prepareStatement("SHOW STATS")) {
			BigDecimal last = BigDecimal.ZERO;

			for (int i = 0; i < 12; i++)
				try (ResultSet rows = s.executeQuery()) {
					while (rows.next())
						if (rows.getString("database").equals("pgbouncer")) {
							BigDecimal n = rows.getBigDecimal("total_query_count");

							if (n.subtract(last).intValueExact() != 1 && i > 0)
								throw new AssertionError(last + ", then " + n);
							last = n;
						}
				}
		}
		System.out.println("STATS");
	}

	static void fetch(Connection c) throws SQLException {
		int n = 0;

		try (Statement s = c.createStatement()) {
			s.setFetchSize(10);
			try (ResultSet rows = s.executeQuery("SHOW CONFIG")) {
				while (rows.next())
					n++;
			}
		}
		if (n > 50)
			System.out.println("CONFIG");
	}

	public static void main(String[] args) throws SQLException {
		try (Connection c = DriverManager.getConnection(args[0], args[1], args[2])) {
			if (!c.isValid(10))
				throw new AssertionError("not valid");
			repeat(c);
			fetch(c);
			try (Statement s = c.createStatement()) {
				s.execute("RELOAD");
				System.out.println("RELOAD");
				s.executeQuery("SELECT * FROM show_pools()");
			} catch (SQLException e) {
				System.out.println(e.getSQLState());
			}
			c.setAutoCommit(false);
			try (Statement s = c.createStatement()) {
				s.executeQuery("SHOW VERSION");
				c.commit();
				System.out.println("COMMIT");
			}
		}
	}
}
