/* SPDX-License-Identifier: ISC
 *
 * test_choice.c - texts that say whose they are, and texts that only seem to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/choice.h"

#include <stdio.h>
#include <string.h>

static const struct sql_env env = { .standard_strings = true,
				    .ascii_safe = true,
				    .tenant_setting = "app.current_business_id" };

#define ID "app.current_business_id"

static void test_set_and_reset(void **state)
{
	static const struct {
		const char *text;
		int verb, form;
		bool is_local;
		const char *value;
	} rows[] = {
		{"SET " ID " = '42'",                            CHOICE_SET,   CHOICE_LITERAL, false, "42"},
		{ "set session App.Current_Business_Id to '42'", CHOICE_SET,   CHOICE_LITERAL, false,
                 "42"										     },
		{ " ;/* x */ SET LOCAL " ID " TO 'a''b';; -- y", CHOICE_SET,   CHOICE_LITERAL, true,
                 "a'b"										    },
		{ "SET app . current_business_id = $$42$$",      CHOICE_SET,   CHOICE_LITERAL, false,
                 "42"										     },
		{ "SET " ID " = 42",                             CHOICE_SET,   CHOICE_LITERAL, false, "42"},
		{ "SET " ID " = 0",                              CHOICE_SET,   CHOICE_LITERAL, false, "0" },
		{ "SET " ID " = ''",                             CHOICE_SET,   CHOICE_LITERAL, false, ""  },
		{ "SET " ID " = E'42'",                          CHOICE_SET,   CHOICE_LITERAL, false, "42"},
		{ "SET " ID " TO DEFAULT",                       CHOICE_SET,   CHOICE_DEFAULT, false, ""  },
		{ "SET LOCAL " ID " TO default",                 CHOICE_SET,   CHOICE_DEFAULT, true,  ""  },
		{ "RESET " ID ";",                               CHOICE_RESET, CHOICE_DEFAULT, false, ""  },
	};
	struct sql_choice c;

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		if (!sql_choice_read(slice_str(rows[i].text), &env, &c))
			fail_msg("not read: %s", rows[i].text);
		assert_int_equal(c.verb, rows[i].verb);
		assert_int_equal(c.form, rows[i].form);
		assert_int_equal(c.is_local, rows[i].is_local);
		assert_string_equal(c.value, rows[i].value);
		assert_int_equal(c.nparams, 0);
	}
}

static void test_set_config(void **state)
{
	static const struct {
		const char *text;
		int form;
		bool is_local;
		const char *value;
		unsigned value_param, local_param;
		uint32_t types[2];
		const char *column;
	} rows[] = {
		{"select set_config('" ID "', '42', true)",
                 CHOICE_LITERAL,										     true,
                 "42",													    0,
                 0,														     { 0 },
                 "set_config"  },
		{ "SELECT pg_catalog.set_config('" ID
		  "'::text, '42'::text, false::boolean) AS \"X y\";",               CHOICE_LITERAL,
                 false,												     "42",
                 0,														  0,
                 { 0 },
                 "X y"         },
		{ "SELECT set_config('" ID "', $1, TRUE)",
                 CHOICE_PARAM,										       true,
                 "",													      1,
                 0,														     { 25 },
                 "set_config"  },
		{ "SELECT set_config('APP.current_business_id', $1::VARCHAR, true) AS Set_Config_1",
                 CHOICE_PARAM,										       true,
                 "",													      1,
                 0,														     { 1043 },
                 "set_config_1"},
		{ "SELECT set_config('" ID "', CAST($1 AS character varying), $2::bool)",
                 CHOICE_PARAM,										       false,
                 "",													      1,
                 2,														     { 1043, 16 },
                 "set_config"  },
		{ "SELECT set_config('" ID "', $2, $1)",
                 CHOICE_PARAM,										       false,
                 "",													      2,
                 1,														     { 16, 25 },
                 "set_config"  },
		{ "SELECT set_config('" ID "', '42', $1)",
                 CHOICE_LITERAL,										     false,
                 "42",													    0,
                 1,														     { 16 },
                 "set_config"  },
		{ "SELECT set_config('" ID "', NULL, false)",
                 CHOICE_DEFAULT,										     false,
                 "",													      0,
                 0,														     { 0 },
                 "set_config"  },
		{ "SELECT set_config('" ID "', '42', ' T ')",
                 CHOICE_LITERAL,										     true,
                 "42",													    0,
                 0,														     { 0 },
                 "set_config"  },
		{ "SELECT set_config('" ID "', '42', 'of'::bool) as true",
                 CHOICE_LITERAL,										     false,
                 "42",													    0,
                 0,														     { 0 },
                 "true"        },
	};
	struct sql_choice c;

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		if (!sql_choice_read(slice_str(rows[i].text), &env, &c))
			fail_msg("not read: %s", rows[i].text);
		assert_int_equal(c.verb, CHOICE_CALL);
		assert_int_equal(c.form, rows[i].form);
		assert_int_equal(c.is_local, rows[i].is_local);
		assert_string_equal(c.value, rows[i].value);
		assert_int_equal(c.value_param, rows[i].value_param);
		assert_int_equal(c.local_param, rows[i].local_param);
		assert_memory_equal(c.types, rows[i].types, sizeof(c.types));
		assert_string_equal(c.column, rows[i].column);
	}
}

static void test_none_of_the_forms(void **state)
{
	static const char *const texts[] = {
		"",
		"SET " ID,
		"SET " ID " =",
		"SET " ID " = '42', '43'",
		"SET " ID " = '42'; SELECT 1",
		"SELECT 1; SET " ID " = '42'",
		"SET " ID " = 042",
		"SET " ID " = 4.2",
		"SET " ID " = -42",
		"SET " ID " = 12345678901",
		"SET " ID " = acme",
		"SET " ID " = E'\\x34\\x32'",
		"SET " ID " = U&'\\0034'",
		"SET " ID " FROM CURRENT",
		"SET app.\"current_business_id\" = '42'",
		"SET \"" ID "\" = '42'",
		"SET U&\"app\".current_business_id = '42'",
		"SET app.current_business_id.x = '42'",
		"SET app.current_business = '42'",
		"SET appcurrent_business_id = '42'",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
		"SET LOCAL SESSION " ID " = '42'",
		"SET " ID " TO DEFAULT '42'",
		"RESET ALL",
		"RESET " ID " x",
		"SET " ID " = 'open",
		"SET " ID " = '42' /* open",
		"SELECT set_config('" ID "', '42')",
		"SELECT set_config('" ID "', '42', true, 1)",
		"SELECT set_config('" ID "', '42', true), 1",
		"SELECT 1, set_config('" ID "', '42', true)",
		"SELECT set_config('" ID "', '42', true) FROM t",
		"SELECT set_config('" ID "', '42', true) WHERE false",
		"SELECT set_config('" ID "', '42', true) AS a b",
		"SELECT set_config('" ID "', '42', true) AS U&\"a\"",
		"SELECT set_config('" ID "', '42' || '1', true)",
		"SELECT set_config('" ID "', E'\\x34', true)",
		"SELECT set_config('" ID "', 42, true)",
		"SELECT set_config('" ID "', '042'::int::text, true)",
		"SELECT set_config('" ID "', '42'::int, true)",
		"SELECT set_config('" ID "', '42'::varchar(1), true)",
		"SELECT set_config('" ID "', '42'::char, true)",
		"SELECT set_config('" ID "', '42', maybe)",
		"SELECT set_config('" ID "', '42', 'o')",
		"SELECT set_config('" ID "', '42', NOT true)",
		"SELECT set_config('" ID "', $1, $1)",
		"SELECT set_config('" ID "', $2, true)",
		"SELECT set_config('" ID "', $3, true)",
		"SELECT set_config('" ID "', $1::int::text, true)",
		"SELECT set_config($1, $2, true)",
		"SELECT set_config('app.' || 'current_business_id', '42', true)",
		"SELECT set_config(E'app.current_business\\x5fid', '42', true)",
		"SELECT set_config(setting_name => '" ID "', new_value => '42', is_local => true)",
		"SELECT set_config(VARIADIC ARRAY['" ID "', '42'], true)",
		"SELECT public.set_config('" ID "', '42', true)",
		"SELECT \"set_config\"('" ID "', '42', true)",
		"SELECT pg_catalog.\"set_config\"('" ID "', '42', true)",
		"SELECT (set_config('" ID "', '42', true))",
		"SELECT * FROM set_config('" ID "', '42', true)",
		"VALUES (set_config('" ID "', '42', true))",
		"EXPLAIN ANALYZE SELECT set_config('" ID "', '42', true)",
		"PREPARE p AS SELECT set_config('" ID "', '42', true)",
	};
	struct sql_choice c;

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		if (sql_choice_read(slice_str(texts[i]), &env, &c))
			fail_msg("read: %s", texts[i]);
}

/* What a backslash is depends on the session. */
static void test_backslashes(void **state)
{
	struct sql_env off = env;
	struct sql_choice c;

	off.standard_strings = false;
	assert_true(sql_choice_read(SLICE("SET " ID " = '4\\2'"), &env, &c));
	assert_string_equal(c.value, "4\\2");
	assert_false(sql_choice_read(SLICE("SET " ID " = '4\\2'"), &off, &c));
	assert_true(sql_choice_read(SLICE("SET " ID " = '42'"), &off, &c));
}

static void test_comments(void **state)
{
	static const struct {
		const char *text;
		enum sql_comment found;
		const char *id;
	} rows[] = {
		{"SELECT 1",						   SQL_COMMENT_NONE,  ""  },
		{ "SELECT 1 /*business_id='42'*/",                             SQL_COMMENT_ID,    "42"},
		{ "/*business_id='42'*/ SELECT 1",                             SQL_COMMENT_ID,    "42"},
		{ "SELECT 1 /* app='x', business_id = '42' , z='%27' */ ;",    SQL_COMMENT_ID,    "42"},
		{ "SELECT 1; /*business_id='4%32'*/",                          SQL_COMMENT_ID,    "42"},
		{ "SELECT 1 /*a='\\',business_id=\\'7',business_id='a\\'b'*/", SQL_COMMENT_ID,
                 "a'b"										},
		{ "SELECT 1 /*business_id=42*/",                               SQL_COMMENT_ID,    "42"},
		{ "SELECT 1 /*business_id=''*/",                               SQL_COMMENT_ID,    ""  },
		{ "/*business_id='42'*/ SELECT 1 /*business_id='42'*/",        SQL_COMMENT_ID,    "42"},
		{ "/*business_id='42'*/ SELECT 1 /*business_id='7'*/",         SQL_COMMENT_WRONG, ""  },
		{ "SELECT 1 /*business_id='42',business_id='7'*/",             SQL_COMMENT_WRONG, ""  },
		{ "SELECT 1 /*business_id='4%3'*/",                            SQL_COMMENT_WRONG, ""  },
		{ "SELECT 1 /*business_id='4%00'*/",                           SQL_COMMENT_WRONG, ""  },
		{ "SELECT 1 /*business_id='42'*/ WHERE 'open",                 SQL_COMMENT_NONE,  ""  },
		{ "/*business_id='42'*/ SELECT 'open",                         SQL_COMMENT_WRONG, ""  },
		{ "SELECT /*business_id='42'*/ 1",                             SQL_COMMENT_NONE,  ""  },
		{ "SELECT '/*business_id=''42''*/'",                           SQL_COMMENT_NONE,  ""  },
		{ "SELECT 1 -- business_id='42'",                              SQL_COMMENT_NONE,  ""  },
		{ "SELECT 1 /*xbusiness_id='42'*/",                            SQL_COMMENT_NONE,  ""  },
		{ "SELECT 1 /*business_id*/",                                  SQL_COMMENT_NONE,  ""  },
		{ "SELECT 1 /**/",					     SQL_COMMENT_NONE,  ""  },
	};
	char id[SQL_ID_MAX + 1];

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		*id = '\0';
		if (sql_comment_id(slice_str(rows[i].text), &env, SLICE("business_id"), id) !=
		    rows[i].found)
			fail_msg("%s", rows[i].text);
		if (rows[i].found == SQL_COMMENT_ID)
			assert_string_equal(id, rows[i].id);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_reset),     cmocka_unit_test(test_set_config),
		cmocka_unit_test(test_none_of_the_forms), cmocka_unit_test(test_backslashes),
		cmocka_unit_test(test_comments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
