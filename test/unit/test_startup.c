/* SPDX-License-Identifier: ISC
 *
 * test_startup.c - the packets that open a connection, what they may ask for, and options.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/startup.h"

#include <stdio.h>

#define PACKET(lit) lit, sizeof(lit) - 1

static const char session[] = "\0\0\0\x20\0\3\0\0user\0app\0database\0shop\0";

static void test_session(void **state)
{
	struct startup s;
	struct slice at, name, value;
	struct err e;

	(void)state;
	for (size_t n = 0; n < sizeof(session); n++)
		assert_int_equal(startup_parse(session, n, &s, &e), STEP_AGAIN);
	assert_int_equal(startup_parse(session, sizeof(session), &s, &e), STEP_DONE);
	assert_int_equal(s.kind, STARTUP_SESSION);
	assert_int_equal(s.len, sizeof(session));
	assert_int_equal(s.minor, 0);
	at = s.params;
	assert_true(startup_next_param(&at, &name, &value));
	assert_true(slice_is_equal(name, SLICE("user")) && slice_is_equal(value, SLICE("app")));
	assert_true(startup_next_param(&at, &name, &value));
	assert_true(slice_is_equal(name, SLICE("database")) &&
		    slice_is_equal(value, SLICE("shop")));
	assert_false(startup_next_param(&at, &name, &value));
}

static void test_requests(void **state)
{
	static const char cancel[] = "\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\7abcd";
	struct startup s;
	struct err e;

	(void)state;
	assert_int_equal(startup_parse(PACKET("\0\0\0\x08\x04\xd2\x16\x2f"), &s, &e), STEP_DONE);
	assert_int_equal(s.kind, STARTUP_SSL);
	assert_int_equal(startup_parse(PACKET("\0\0\0\x08\x04\xd2\x16\x30"), &s, &e), STEP_DONE);
	assert_int_equal(s.kind, STARTUP_GSSENC);
	assert_int_equal(startup_parse(cancel, 16, &s, &e), STEP_DONE);
	assert_int_equal(s.kind, STARTUP_CANCEL);
	assert_int_equal(s.cancel_pid, 7);
	assert_true(slice_is_equal(s.cancel_key, SLICE("abcd")));
}

static void test_refused(void **state)
{
	static const struct {
		const char *packet;
		size_t n;
		const char *sqlstate;
	} cases[] = {
		{PACKET("\0\0\0\0"),                               "08P01"},
		{ PACKET("\0\0\0\x07\0\3\0"),                      "08P01"},
		{ PACKET("\xff\xff\xff\xff"),                      "08P01"},
		{ PACKET("\0\0\x27\x11"),                          "08P01"}, /* longer than allowed */
		{ PACKET("GET / HTTP/1.1"),                        "08P01"},
		{ PACKET("\0\0\0\x08\0\2\0\0"),                    "0A000"}, /* version 2 */
		{ PACKET("\0\0\0\x08\0\4\0\0"),                    "0A000"},
		{ PACKET("\0\0\0\x08\0\3\0\0"),                    "08P01"}, /* no terminator */
		{ PACKET("\0\0\0\x0f\0\3\0\0user\0x\0"),           "08P01"},
		{ PACKET("\0\0\0\x0a\0\3\0\0\0x"),                 "08P01"}, /* bytes behind it */
		{ PACKET("\0\0\0\x0c\0\3\0\0user"),                "08P01"}, /* a name without its NUL */
		{ PACKET("\0\0\0\x09\x04\xd2\x16\x2fx"),           "08P01"},
		{ PACKET("\0\0\0\x0f\x04\xd2\x16\x2e\0\0\0\7abc"), "08P01"}, /* a short key */
		{ PACKET("\0\0\0\x0b\x04\xd2\x16\x2e\0\0\0"),      "08P01"},
	};
	struct startup s;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(startup_parse(cases[i].packet, cases[i].n, &s, &e), STEP_CLOSED);
		assert_string_equal(e.sqlstate, cases[i].sqlstate);
	}
}

static enum step parse_options(const char *text, char *out, size_t cap)
{
	struct slice at = slice_str(text);
	struct buf name = { 0 }, value = { 0 };
	struct err e;
	enum step step;

	*out = '\0';
	while ((step = options_next(&at, &name, &value, &e)) == STEP_DONE) {
		size_t used = strlen(out);

		snprintf(out + used, cap - used, "[%.*s|%.*s]", SLICE_FMT(buf_peek(&name)),
			 SLICE_FMT(buf_peek(&value)));
	}
	buf_fini(&name);
	buf_fini(&value);
	return step;
}

static void test_options(void **state)
{
	static const struct {
		const char *text, *parsed;
		enum step end;
	} cases[] = {
		{"",		       "",                 STEP_AGAIN },
		{ "  \t ",                 "",                 STEP_AGAIN },
		{ "-c a=b",                "[a|b]",            STEP_AGAIN },
		{ " -ca=b --c-d=e  -c f=", "[a|b][c_d|e][f|]", STEP_AGAIN },
		{ "-c a=b\\ c\\\\d",       "[a|b c\\d]",       STEP_AGAIN },
		{ "-c a=b=c",              "[a|b=c]",          STEP_AGAIN },
		{ "-c",                    "",                 STEP_CLOSED},
		{ "-c a",                  "",                 STEP_CLOSED},
		{ "-c =a",                 "",                 STEP_CLOSED},
		{ "-c a=b -d",             "[a|b]",            STEP_CLOSED},
		{ "hello",                 "",                 STEP_CLOSED},
	};
	char out[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(parse_options(cases[i].text, out, sizeof(out)), cases[i].end);
		assert_string_equal(out, cases[i].parsed);
	}
}

static void test_options_come_back(void **state)
{
	struct buf text = { 0 };
	char out[256];

	(void)state;
	options_put(&text, "app.id", "a b\\c=d\t'");
	options_put(&text, "x", "");
	assert_int_equal(parse_options(buf_cstr(&text), out, sizeof(out)), STEP_AGAIN);
	assert_string_equal(out, "[app.id|a b\\c=d\t'][x|]");
	buf_fini(&text);
}

static void test_negotiation(void **state)
{
	static const char plain[] = "user\0app\0", grease[] = "user\0app\0_pq_.x\0y\0_pq_.z\0\0";
	struct startup s = { .kind = STARTUP_SESSION, .params = slice_of(plain, sizeof(plain)) };
	struct buf out = { 0 };

	(void)state;
	for (s.minor = 0; s.minor <= PROTOCOL_MINOR_MAX; s.minor++)
		assert_false(startup_negotiate(&s, &out));
	assert_int_equal(buf_len(&out), 0);
	s.minor = 9999;
	assert_true(startup_negotiate(&s, &out));
	assert_true(slice_is_equal(buf_peek(&out), slice_of("v\0\0\0\x0c\0\3\0\2\0\0\0\0", 13)));
	buf_clear(&out);
	s.minor = 0;
	s.params = slice_of(grease, sizeof(grease));
	assert_true(startup_negotiate(&s, &out));
	assert_true(slice_is_equal(buf_peek(&out),
				   slice_of("v\0\0\0\x1a\0\3\0\0\0\0\0\2_pq_.x\0_pq_.z\0", 27)));
	buf_fini(&out);
}

static void test_replication(void **state)
{
	static const struct {
		const char *values[8];
		bool ok;
		enum replication replication;
	} rows[] = {
		{{ "database" },					true,  REPLICATION_LOGICAL },
		{ { "true", "T", "tr", "on", "ON", "yes", "y", "1" },   true,  REPLICATION_PHYSICAL},
		{ { "false", "F", "fal", "off", "of", "no", "n", "0" }, true,  REPLICATION_NONE    },
		{ { "", "o", "2", "truest", "Database", "data", "00" }, false, REPLICATION_NONE    },
	};
	enum replication got;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (size_t j = 0; j < 8 && rows[i].values[j]; j++) {
			assert_int_equal(replication_parse(slice_str(rows[i].values[j]), &got),
					 rows[i].ok);
			assert_int_equal(got, rows[i].replication);
		}
	for (unsigned kind = REPLICATION_PHYSICAL; kind < REPLICATION_NKINDS; kind++) {
		assert_true(replication_parse(slice_str(replication_value(kind)), &got));
		assert_int_equal(got, kind);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session),           cmocka_unit_test(test_requests),
		cmocka_unit_test(test_refused),           cmocka_unit_test(test_options),
		cmocka_unit_test(test_options_come_back), cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_replication),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
