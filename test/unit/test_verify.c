/* SPDX-License-Identifier: ISC
 *
 * test_verify.c - every stored form against every way to ask.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/verify.h"

static const uint8_t salt[MD5_SALT_LEN] = { 1, 2, 3, 4 };

/* User m5, password secret, in each form; the SCRAM secret is PostgreSQL's for "pencil". */
static const struct {
	const char *stored;
	const char *password;
	bool may_md5;
} forms[] = {
	{"secret",						  "secret", true },
	{ "md59a96608d07d97a3bb68405788126af00",                    "secret", true },
	{ "SCRAM-SHA-256$4096:Hz3CPU9tpLByH7Tr7D28dw==$gxgfDfXQ+VyQooHoikjrxwmJjHOtmVfSvNNhKalcxvE="
	  ":SOwK5K4zLvToELaFFhYg9fMlJkBYlFin72cSAuEro5s=", "pencil", false},
};

static void answer_of(const char *password, char out[MD5_BUF_LEN])
{
	char stored[MD5_BUF_LEN];

	assert_true(md5_hash_password(SLICE("m5"), slice_str(password), stored));
	assert_true(md5_answer(stored, salt, out));
}

static void test_each_form(void **state)
{
	char answer[MD5_BUF_LEN];

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(forms); i++) {
		struct userlist_entry e;

		assert_true(userlist_entry_init(&e, SLICE("m5"), slice_str(forms[i].stored)));
		assert_true(password_verify_plain(&e, slice_str(forms[i].password), 0));
		assert_false(password_verify_plain(&e, SLICE("wrong"), 0));
		assert_false(password_verify_plain(&e, SLICE(""), 0));
		/* What is stored is no password. */
		assert_int_equal(password_verify_plain(&e, slice_str(forms[i].stored), 0), i == 0);

		answer_of(forms[i].password, answer);
		assert_int_equal(password_verify_md5(&e, salt, slice_str(answer)),
				 forms[i].may_md5);
		assert_false(password_verify_md5(&e, salt, slice_of(answer, MD5_TEXT_LEN - 1)));
		answer_of("wrong", answer);
		assert_false(password_verify_md5(&e, salt, slice_str(answer)));
		userlist_entry_fini(&e);
	}
}

static void test_nobody(void **state)
{
	struct userlist_entry none;
	char answer[MD5_BUF_LEN], stored[MD5_BUF_LEN];

	(void)state;
	assert_true(userlist_entry_init(&none, SLICE("m5"), SLICE("")));
	answer_of("", answer);
	assert_false(password_verify_plain(&none, SLICE(""), 0));
	assert_false(password_verify_plain(&none, SLICE("x"), 0));
	assert_false(password_verify_md5(&none, salt, slice_str(answer)));
	/* The answer that fits the stand-in for unknown users. */
	assert_true(md5_hash_password(SLICE(""), SLICE(""), stored));
	assert_true(md5_answer(stored, salt, answer));
	assert_false(password_verify_md5(NULL, salt, slice_str(answer)));
	assert_false(password_verify_plain(NULL, SLICE(""), 0));
	assert_false(password_verify_plain(NULL, SLICE("x"), 0));
	userlist_entry_fini(&none);
}

/* As in PostgreSQL and PgBouncer, whatever is stored. */
static void test_an_empty_password_never_matches(void **state)
{
	char hash[MD5_BUF_LEN];
	struct userlist_entry e;

	(void)state;
	assert_true(md5_hash_password(SLICE("m5"), SLICE(""), hash));
	assert_true(userlist_entry_init(&e, SLICE("m5"), slice_str(hash)));
	assert_false(password_verify_plain(&e, SLICE(""), 0));
	e.kind = PASSWORD_SCRAM;
	scram_secret_make(SLICE(""), 1, salt, sizeof(salt), &e.scram);
	assert_false(password_verify_plain(&e, SLICE(""), 0));
	userlist_entry_fini(&e);
}

/* It would take minutes if it were computed. */
static void test_i6_a_secret_with_too_many_iterations_is_not_computed(void **state)
{
	char text[] = "x";
	struct userlist_entry e = { .user = text, .password = text, .kind = PASSWORD_SCRAM };

	(void)state;
	scram_secret_make(SLICE("x"), 1, salt, sizeof(salt), &e.scram);
	assert_true(password_verify_plain(&e, SLICE("x"), 0));
	e.scram.iterations = 2147483647;
	assert_false(password_verify_plain(&e, SLICE("x"), 0));
}

/* Those let nobody in, and keep nobody out. */
static void test_most_secrets_may_have_too_many_iterations(void **state)
{
	struct userlist_entry e;

	(void)state;
	assert_true(userlist_entry_init(&e, SLICE("m5"), SLICE("geheim")));
	assert_true(password_verify_plain(&e, SLICE("geheim"), SCRAM_MAX_ITERATIONS + 1));
	assert_false(password_verify_plain(&e, SLICE("wrong"), SCRAM_MAX_ITERATIONS + 1));
	userlist_entry_fini(&e);
}

static void test_scram_secret(void **state)
{
	struct scram_secret first, second, unknown;
	struct userlist_entry e;

	(void)state;
	assert_true(userlist_entry_init(&e, SLICE("u"), SLICE("secret")));
	password_scram_secret(&e, NULL, SLICE("u"), 16, &first);
	password_scram_secret(&e, NULL, SLICE("u"), 16, &second);
	password_scram_secret(NULL, NULL, SLICE("u"), 16, &unknown);
	assert_memory_equal(&first.stored_key, &second.stored_key, SCRAM_KEY_LEN);
	/* An unknown user's challenge looks like that of a known one. */
	assert_int_equal(first.salt_len, unknown.salt_len);
	assert_memory_equal(first.salt, unknown.salt, first.salt_len);
	assert_memory_not_equal(first.stored_key, unknown.stored_key, SCRAM_KEY_LEN);
	userlist_entry_fini(&e);

	assert_true(userlist_entry_init(&e, SLICE("m5"), slice_str(forms[2].stored)));
	password_scram_secret(&e, NULL, SLICE("m5"), 16, &first);
	assert_int_equal(first.iterations, 4096);
	userlist_entry_fini(&e);

	assert_true(userlist_entry_init(&e, SLICE("m5"), slice_str(forms[1].stored)));
	password_scram_secret(&e, NULL, SLICE("m5"), 16, &first);
	password_scram_secret(NULL, NULL, SLICE("m5"), 16, &unknown);
	assert_memory_equal(first.stored_key, unknown.stored_key, SCRAM_KEY_LEN);
	userlist_entry_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_form),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_an_empty_password_never_matches),
		cmocka_unit_test(test_i6_a_secret_with_too_many_iterations_is_not_computed),
		cmocka_unit_test(test_most_secrets_may_have_too_many_iterations),
		cmocka_unit_test(test_scram_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
