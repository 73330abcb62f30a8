/* SPDX-License-Identifier: ISC
 *
 * test_userlist.c - the text of userlist.txt and its faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/userlist.h"

#include <stdio.h>

#define MD5 "md59a96608d07d97a3bb68405788126af00"
#define SECRET                                                                                     \
	"SCRAM-SHA-256$4096:Hz3CPU9tpLByH7Tr7D28dw==$gxgfDfXQ+VyQooHoikjrxwmJjHOtmVfSvNNhKalcxvE=" \
	":SOwK5K4zLvToELaFFhYg9fMlJkBYlFin72cSAuEro5s="

/* Lines complained of, as "1 4 7 ". */
struct faults {
	char lines[64];
	char text[128];
};

static void on_fault(void *arg, const char *file, int line, const char *text)
{
	struct faults *f = arg;
	size_t n = strlen(f->lines);

	assert_string_equal(file, "userlist.txt");
	snprintf(f->lines + n, sizeof(f->lines) - n, "%d ", line);
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static struct userlist *parse(struct slice text, const char *faults)
{
	struct faults f = { 0 };
	struct userlist *list = userlist_parse(text, "userlist.txt", on_fault, &f);

	assert_string_equal(f.lines, faults);
	assert_null(strstr(f.text, "geheim"));
	return list;
}

static void assert_user(const struct userlist *list, const char *user, enum password_kind kind,
			const char *password)
{
	const struct userlist_entry *entry = userlist_find(list, slice_str(user));

	assert_non_null(entry);
	assert_string_equal(entry->user, user);
	assert_string_equal(entry->password, password);
	assert_int_equal(entry->kind, kind);
}

#define SCRAM_OF(n)                                                                                \
	"SCRAM-SHA-256$" #n                                                                        \
	":Hz3CPU9tpLByH7Tr7D28dw==$gxgfDfXQ+VyQooHoikjrxwmJjHOtmVfSvNNhKalcxvE="                   \
	":SOwK5K4zLvToELaFFhYg9fMlJkBYlFin72cSAuEro5s="

static void test_what_is_usual(void **state)
{
	static const struct {
		const char *lines;
		struct userlist_usual usual;
	} cases[] = {
		{"",								{ false, 0 }},
		{ "\"a\" \"\"",						     { false, 0 }},
		{ "\"a\" \"x\"",						    { false, 0 }},
		{ "\"a\" \"" SCRAM_OF(5) "\"",                                      { true, 5 } },
 /* Nobody's secret does not count, nor does one that a later line replaces. */
		{ "\"a\" \"" SCRAM_OF(5) "\"\n\"b\" \"\"\n\"c\" \"x\"\n\"c\" \"\"", { true, 5 } },
		{ "\"a\" \"" SCRAM_OF(5) "\"\n\"b\" \"x\"",                         { false, 0 }},
		{ "\"a\" \"" SCRAM_OF(5) "\"\n\"b\" \"" MD5 "\"",                   { false, 0 }},
		{ "\"a\" \"" SCRAM_OF(5) "\"\n\"b\" \"" SCRAM_OF(4096) "\"\n\"c\" \"" SCRAM_OF(
		      4096) "\"\n\"d\" \"x\"",
                 { true, 4096 }								 },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++) {
		struct userlist *list = parse(slice_str(cases[i].lines), "");
		struct userlist_usual usual = userlist_usual(list);

		assert_int_equal(usual.is_scram, cases[i].usual.is_scram);
		assert_int_equal(usual.iterations, cases[i].usual.iterations);
		userlist_free(list);
	}
}

static void test_kinds(void **state)
{
	struct userlist *list = parse(SLICE("\"plain\" \"geheim\"\n"
					    "\"old\" \"" MD5 "\"\n"
					    "\"new\" \"" SECRET "\"\n"
					    "\"none\" \"\""),
				      "");

	(void)state;
	assert_user(list, "plain", PASSWORD_PLAIN, "geheim");
	assert_user(list, "old", PASSWORD_MD5, MD5);
	assert_user(list, "new", PASSWORD_SCRAM, SECRET);
	assert_user(list, "none", PASSWORD_NONE, "");
	assert_int_equal(userlist_find(list, SLICE("new"))->scram.iterations, 4096);
	assert_null(userlist_find(list, SLICE("nobody")));
	assert_null(userlist_find(list, SLICE("")));
	userlist_free(list);
}

static void test_form_of_lines(void **state)
{
	struct userlist *list = parse(SLICE("; \"commented\" \"out\"\r\n"
					    "\n"
					    " \t \r\n"
					    "  ;\"also\" \"commented\"\n"
					    "\t\"quo\"\"ted\" \"a\"\"\"\"b;\" ignored \"too\"\r\n"
					    "\"tight\"\"\"\"\"\n"
					    "\"near\":\"p\"x"),
				      "6 ");

	(void)state;
	assert_null(userlist_find(list, SLICE("commented")));
	assert_user(list, "quo\"ted", PASSWORD_PLAIN, "a\"\"b;");
	assert_user(list, "near", PASSWORD_PLAIN, "p");
	userlist_free(list);
}

static void test_the_last_line_of_a_user_counts(void **state)
{
	struct userlist *list =
	    parse(SLICE("\"u\" \"" SECRET "\"\n\"v\" \"1\"\n\"u\" \"2\"\n"), "");

	(void)state;
	assert_user(list, "u", PASSWORD_PLAIN, "2");
	assert_user(list, "v", PASSWORD_PLAIN, "1");
	userlist_free(list);
}

static void test_faults_name_their_line_and_silence_no_other(void **state)
{
	struct userlist *list = parse(SLICE("bare \"geheim\"\n"
					    "\"a\" \"1\"\n"
					    "\"unfinished\n"
					    "\"no password\"\n"
					    "\"unfinished\" \"geheim\n"
					    "\"\" \"geheim\"\n"
					    "\"broken\" \"SCRAM-SHA-256$geheim\"\n"
					    "# \"hash\" \"geheim\"\n"
					    "\"nul\0\" \"geheim\"\n"
					    "\"b\" \"2\"\n"),
				      "1 3 4 5 6 7 8 9 ");

	(void)state;
	assert_user(list, "a", PASSWORD_PLAIN, "1");
	assert_user(list, "b", PASSWORD_PLAIN, "2");
	assert_null(userlist_find(list, SLICE("broken")));
	assert_null(userlist_find(list, SLICE("unfinished")));
	userlist_free(list);
}

static void test_lengths(void **state)
{
	static const struct {
		int user;
		int password;
		const char *faults;
	} cases[] = {
		{USERLIST_MAX_USER,      USERLIST_MAX_PASSWORD,     ""  },
		{ USERLIST_MAX_USER + 1, 1,                         "1 "},
		{ 1,		     USERLIST_MAX_PASSWORD + 1, "1 "},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++) {
		struct buf b = { 0 };

		buf_printf(&b, "\"%0*d\" \"%0*d\"", cases[i].user, 7, cases[i].password, 7);
		userlist_free(parse(buf_peek(&b), cases[i].faults));
		buf_fini(&b);
	}
}

static void test_many_and_none(void **state)
{
	struct buf b = { 0 };
	struct userlist *list = parse(slice_of(NULL, 0), "");

	(void)state;
	assert_null(userlist_find(list, SLICE("u")));
	assert_null(userlist_find(NULL, SLICE("u")));
	userlist_free(list);
	userlist_free(NULL);
	for (int i = 0; i < 5000; i++)
		buf_printf(&b, "\"u%d\" \"p%d\"\n", i, i);
	list = parse(buf_peek(&b), "");
	assert_user(list, "u4999", PASSWORD_PLAIN, "p4999");
	assert_user(list, "u0", PASSWORD_PLAIN, "p0");
	userlist_free(list);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_what_is_usual),
		cmocka_unit_test(test_form_of_lines),
		cmocka_unit_test(test_the_last_line_of_a_user_counts),
		cmocka_unit_test(test_faults_name_their_line_and_silence_no_other),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_many_and_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
