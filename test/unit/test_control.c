/* SPDX-License-Identifier: ISC
 *
 * test_control.c - savepoints and channels in texts, with names as the server reads them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/control.h"

#include <stdio.h>
#include <string.h>

static const struct sql_env env = { .standard_strings = true, .ascii_safe = true };

static void test_one_command(void **state)
{
	static const struct {
		const char *text;
		enum sql_control_kind kind;
		const char *name;
	} rows[] = {
		{"listen x",                            CONTROL_LISTEN,       "x"      },
		{ "LISTEN Channel;;",                   CONTROL_LISTEN,       "channel"},
		{ " /* a */ listen -- b\n \"A \"\"b\"", CONTROL_LISTEN,       "A \"b"  },
		{ "listen U&\"d!0061t\" uescape '!'",   CONTROL_LISTEN,       "dat"    },
		{ "listen begin",                       CONTROL_LISTEN,       "begin"  },
		{ "unlisten x",                         CONTROL_UNLISTEN,     "x"      },
		{ "unlisten *",                         CONTROL_UNLISTEN_ALL, ""       },
		{ "savepoint S",                        CONTROL_SAVEPOINT,    "s"      },
		{ "release s",                          CONTROL_RELEASE,      "s"      },
		{ "release savepoint \"S\"",            CONTROL_RELEASE,      "S"      },
		{ "rollback to s",                      CONTROL_ROLLBACK_TO,  "s"      },
		{ "rollback work to savepoint s",       CONTROL_ROLLBACK_TO,  "s"      },
		{ "rollback transaction to s",          CONTROL_ROLLBACK_TO,  "s"      },
	};
	struct sql_control c[2];
	unsigned n;

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		assert_true(sql_controls(slice_str(rows[i].text), &env, c, 2, &n));
		assert_int_equal(n, 1);
		assert_int_equal(c[0].kind, rows[i].kind);
		assert_int_equal(c[0].statement, 0);
		assert_string_equal(c[0].name, rows[i].name);
	}
}

/* What the server may read in another way, or refuse. */
static void test_not_understood(void **state)
{
	static const char *const texts[] = {
		"listen",
		"listen select",
		"listen left",
		"listen \"\"",
		"listen a.b",
		"listen 'a'",
		"listen a b",
		"listen Gr\xc3\xbc\xc3\x9f",
		"listen U&\"\\00fc\"",
		"listen x12345678901234567890123456789012345678901234567890123456789012345",
		"unlisten",
		"unlisten * x",
		"savepoint",
		"release savepoint",
		"rollback to",
		"listen \"a",
		"create function f() returns int begin atomic select 1; listen x; end",
	};
	struct sql_control c[2];
	unsigned n;

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		if (sql_controls(slice_str(texts[i]), &env, c, 2, &n))
			fail_msg("understood: %s", texts[i]);
}

static void test_several(void **state)
{
	const char *text =
	    "begin;; savepoint a; insert into t values (';'); select f(1; listen no);"
	    "release a; select $$ ; unlisten no $$; rollback; unlisten *";
	struct sql_control c[4];
	unsigned n;

	assert_true(sql_controls(slice_str(text), &env, c, 4, &n));
	assert_int_equal(n, 3);
	assert_int_equal(c[0].kind, CONTROL_SAVEPOINT);
	assert_int_equal(c[0].statement, 1);
	assert_int_equal(c[1].kind, CONTROL_RELEASE);
	assert_int_equal(c[1].statement, 4);
	assert_int_equal(c[2].kind, CONTROL_UNLISTEN_ALL);
	assert_int_equal(c[2].statement, 7);
	assert_false(sql_controls(slice_str(text), &env, c, 2, &n));
	assert_true(sql_controls(slice_str("select 1; select 2"), &env, c, 4, &n));
	assert_int_equal(n, 0);
}

/* Letters outside ASCII in quotes are bytes of the client's encoding, as they are. */
static void test_quoted_letters(void **state)
{
	struct sql_control c;
	unsigned n;

	assert_true(sql_controls(slice_str("listen \"Gr\xc3\xbc\""), &env, &c, 1, &n));
	assert_string_equal(c.name, "Gr\xc3\xbc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_command),
		cmocka_unit_test(test_not_understood),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_quoted_letters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
