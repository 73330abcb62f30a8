/* SPDX-License-Identifier: ISC
 *
 * test_secret_cache.c - what a database said of its users, while it holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/secret_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
	static struct secret_cache cache;

	secret_cache_init(&cache, 3);
	*state = &cache;
	return 0;
}

static int teardown(void **state)
{
	secret_cache_fini(*state);
	return 0;
}

/* "": nobody; NULL: not known. */
static const char *found(struct secret_cache *cache, const char *user, usec_t now)
{
	const struct userlist_entry *entry;

	if (!secret_cache_find(cache, slice_str(user), now, &entry))
		return NULL;
	return entry ? entry->password : "";
}

static void keep(struct secret_cache *cache, const char *user, const char *secret, usec_t now,
		 usec_t until)
{
	assert_true(secret_cache_keep(cache, slice_str(user),
				      secret ? slice_str(secret) : slice_of(NULL, 0), now, until));
}

static void test_a_secret_holds_up_to_its_time(void **state)
{
	keep(*state, "anna", "one", 0, 10);
	assert_string_equal(found(*state, "anna", 9), "one");
	assert_null(found(*state, "anna", 10));
	assert_null(found(*state, "anna", 9));
}

static void test_the_last_answer_counts(void **state)
{
	keep(*state, "anna", "one", 0, 10);
	keep(*state, "anna", "two", 1, 10);
	assert_string_equal(found(*state, "anna", 2), "two");
	keep(*state, "anna", NULL, 3, 10);
	assert_string_equal(found(*state, "anna", 4), "");
}

static void test_who_was_used_longest_ago_goes_first(void **state)
{
	keep(*state, "anna", "a", 0, 10);
	keep(*state, "bert", "b", 0, 10);
	keep(*state, "cleo", NULL, 0, 10);
	assert_string_equal(found(*state, "anna", 1), "a");
	keep(*state, "dora", "d", 1, 10);
	assert_null(found(*state, "bert", 1));
	assert_string_equal(found(*state, "anna", 1), "a");
	assert_string_equal(found(*state, "cleo", 1), "");
	assert_string_equal(found(*state, "dora", 1), "d");
}

/* What a full cache knows already takes nobody's place. */
static void test_a_known_user_takes_its_own_place(void **state)
{
	keep(*state, "anna", "a", 0, 10);
	keep(*state, "bert", "b", 0, 10);
	keep(*state, "cleo", "c", 0, 10);
	keep(*state, "cleo", "C", 0, 10);
	assert_string_equal(found(*state, "anna", 1), "a");
	assert_string_equal(found(*state, "bert", 1), "b");
	assert_string_equal(found(*state, "cleo", 1), "C");
}

static void test_a_doubtful_one_is_forgotten_once_it_is_old(void **state)
{
	keep(*state, "anna", "a", 5, 10);
	secret_cache_forget(*state, SLICE("anna"), 5);
	assert_string_equal(found(*state, "anna", 6), "a");
	secret_cache_forget(*state, SLICE("anna"), 6);
	assert_null(found(*state, "anna", 6));
	secret_cache_forget(*state, SLICE("anna"), 6);
}

static void test_what_makes_no_sense_is_nobodys(void **state)
{
	char *huge = malloc(USERLIST_MAX_PASSWORD + 2);

	assert_false(secret_cache_keep(*state, SLICE("anna"), SLICE("SCRAM-SHA-256$x"), 0, 10));
	assert_string_equal(found(*state, "anna", 1), "");
	memset(huge, 'x', USERLIST_MAX_PASSWORD + 1);
	huge[USERLIST_MAX_PASSWORD + 1] = '\0';
	assert_false(secret_cache_keep(*state, SLICE("bert"), slice_str(huge), 0, 10));
	assert_string_equal(found(*state, "bert", 1), "");
	free(huge);
}

/* Who exists without a secret is somebody: `auth_type = trust` lets it in. */
static void test_an_empty_secret_is_somebodys(void **state)
{
	const struct userlist_entry *entry = NULL;

	keep(*state, "anna", "", 0, 10);
	assert_true(secret_cache_find(*state, SLICE("anna"), 1, &entry));
	assert_non_null(entry);
	assert_int_equal(entry->kind, PASSWORD_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_a_secret_holds_up_to_its_time),
		TEST(test_the_last_answer_counts),
		TEST(test_who_was_used_longest_ago_goes_first),
		TEST(test_a_known_user_takes_its_own_place),
		TEST(test_a_doubtful_one_is_forgotten_once_it_is_old),
		TEST(test_what_makes_no_sense_is_nobodys),
		TEST(test_an_empty_secret_is_somebodys),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
