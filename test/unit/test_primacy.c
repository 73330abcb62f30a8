/* SPDX-License-Identifier: ISC
 *
 * test_primacy.c - who is the primary: promotions, two of them, ones that come back, strangers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "route/primacy.h"

#define OURS "7001"
#define DEAD                                                                                       \
	{                                                                                          \
		.cluster = ""                                                                      \
	}
#define OPEN                                                                                       \
	{                                                                                          \
		.is_open = true, .cluster = ""                                                     \
	}
#define PRIMARY(tl, pos)                                                                           \
	{                                                                                          \
		.has_answered = true, .is_primary = true, .timeline = (tl), .position = (pos),     \
		.cluster = OURS                                                                    \
	}
#define REPLICA                                                                                    \
	{                                                                                          \
		.has_answered = true, .cluster = OURS                                              \
	}
#define STRANGER(tl)                                                                               \
	{                                                                                          \
		.has_answered = true, .is_primary = true, .timeline = (tl), .cluster = "6999"      \
	}

static struct reign reign_of(int node, uint32_t timeline)
{
	struct claim claim = { .timeline = timeline, .cluster = OURS };
	struct reign reign;

	reign_init(&reign);
	if (node >= 0)
		reign_pass_to(&reign, node, &claim);
	return reign;
}

static void check(const struct claim *claims, unsigned n, struct reign reign, int expected)
{
	assert_int_equal(primacy_decide(claims, n, &reign), expected);
}

static void check_standing(const struct claim *claims, unsigned node, int primary,
			   struct reign reign, enum standing expected, const char *part)
{
	char why[200] = "";

	assert_int_equal(primacy_standing(claims, node, primary, &reign, why, sizeof(why)),
			 expected);
	assert_non_null(strstr(why, part));
}

static void test_the_only_one(void **state)
{
	const struct claim claims[] = { REPLICA, PRIMARY(1, 100) };

	(void)state;
	check(claims, 2, reign_of(-1, 0), 1);
	check(claims, 2, reign_of(0, 1), 1);
	check_standing(claims, 0, 1, reign_of(1, 1), STANDING_MEMBER, "");
}

static void test_who_goes_to_and_fro_is_not_written_to(void **state)
{
	struct claim claims[] = { PRIMARY(1, 100), REPLICA, PRIMARY(1, 50) };

	(void)state;
	claims[0].is_unsettled = true;
	check(claims, 2, reign_of(0, 1), -1);
	check_standing(claims, 0, -1, reign_of(0, 1), STANDING_UNSETTLED, "to and fro");
	/* There is never a second one beside it. */
	check(claims, 3, reign_of(0, 1), 2);
	check_standing(claims, 0, 2, reign_of(2, 1), STANDING_FENCED, "second primary");
}

static void test_nobody_is_one(void **state)
{
	const struct claim claims[] = { DEAD, REPLICA };

	(void)state;
	check(claims, 2, reign_of(-1, 0), -1);
	check(claims, 2, reign_of(0, 1), -1);
}

static void test_i4_the_highest_timeline_wins(void **state)
{
	const struct claim claims[] = { PRIMARY(1, 900), PRIMARY(2, 100) };

	(void)state;
	check(claims, 2, reign_of(0, 1), 1);
	check(claims, 2, reign_of(-1, 0), 1);
	check_standing(claims, 0, 1, reign_of(1, 2), STANDING_FENCED, "on timeline 1; the other");
}

static void test_i4_on_one_timeline_the_primary_stays_the_primary(void **state)
{
	const struct claim claims[] = { PRIMARY(1, 100), PRIMARY(1, 900) };

	(void)state;
	check(claims, 2, reign_of(0, 1), 0);
	check(claims, 2, reign_of(1, 1), 1);
	check(claims, 2, reign_of(-1, 0), 1);
}

static void test_i4_one_that_was_superseded_is_none(void **state)
{
	const struct claim claims[] = { PRIMARY(1, 900), DEAD };

	(void)state;
	check(claims, 2, reign_of(1, 2), -1);
	check(claims, 2, reign_of(0, 1), 0);
	check_standing(claims, 0, -1, reign_of(1, 2), STANDING_FENCED, "the last one is on 2");
}

static void test_i4_strangers_are_none(void **state)
{
	const struct claim claims[] = { DEAD, STRANGER(9) };
	const struct claim both[] = { PRIMARY(1, 100), STRANGER(9) };

	(void)state;
	check(claims, 2, reign_of(0, 1), -1);
	check_standing(claims, 1, -1, reign_of(0, 1), STANDING_FOREIGN, "another cluster");
	check(both, 2, reign_of(-1, 0), 0);
}

static void test_one_that_cannot_be_asked_stays_the_primary(void **state)
{
	const struct claim alone[] = { OPEN, REPLICA };
	const struct claim twin[] = { OPEN, PRIMARY(1, 900) };
	const struct claim promoted[] = { OPEN, PRIMARY(2, 100) };

	(void)state;
	check(alone, 2, reign_of(0, 1), 0);
	check(twin, 2, reign_of(0, 1), 0);
	check(promoted, 2, reign_of(0, 1), 1);
}

static void check_awaited(const struct claim *claims, unsigned n, struct reign reign, bool expected)
{
	assert_int_equal(primacy_is_awaited(claims, n, &reign), expected);
	if (expected)
		check(claims, n, reign, -1);
}

static void test_i4_the_first_decision_waits_for_all(void **state)
{
	const struct claim before[] = { OPEN, STRANGER(9) };
	const struct claim behind[] = { PRIMARY(1, 100), OPEN };
	const struct claim heard[] = { PRIMARY(1, 100), PRIMARY(2, 50) };
	const struct claim given_up[] = { PRIMARY(1, 100), DEAD };
	const struct claim nobody[] = { REPLICA, OPEN };

	(void)state;
	check_awaited(before, 2, reign_of(-1, 0), true);
	check_awaited(behind, 2, reign_of(-1, 0), true);
	check_standing(before, 1, -1, reign_of(-1, 0), STANDING_MEMBER, "");
	check_awaited(heard, 2, reign_of(-1, 0), false);
	check(heard, 2, reign_of(-1, 0), 1);
	check_awaited(given_up, 2, reign_of(-1, 0), false);
	check(given_up, 2, reign_of(-1, 0), 0);
	check_awaited(given_up, 1, reign_of(-1, 0), false);
	check(given_up, 1, reign_of(-1, 0), 0);
	/* There is none to wait with, or one is known already. */
	check_awaited(nobody, 2, reign_of(-1, 0), false);
	check(nobody, 2, reign_of(-1, 0), -1);
	check_awaited(behind, 2, reign_of(0, 1), false);
	check(behind, 2, reign_of(0, 1), 0);
}

static void test_i4_patroni_may_say_no(void **state)
{
	struct claim claims[] = { PRIMARY(1, 900), PRIMARY(2, 100) };
	struct claim alone[] = { OPEN, REPLICA };

	(void)state;
	claims[1].vouch = VOUCH_DENIED;
	check(claims, 2, reign_of(0, 1), 0);
	check(claims, 2, reign_of(1, 2), -1);
	check_standing(claims, 1, -1, reign_of(1, 2), STANDING_DENIED, "says Patroni");
	check_standing(claims, 0, -1, reign_of(1, 2), STANDING_FENCED, "the last one is on 2");
	claims[1].vouch = VOUCH_LEADER;
	check(claims, 2, reign_of(0, 1), 1);
	alone[0].vouch = VOUCH_DENIED;
	check(alone, 2, reign_of(0, 1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_only_one),
		cmocka_unit_test(test_who_goes_to_and_fro_is_not_written_to),
		cmocka_unit_test(test_nobody_is_one),
		cmocka_unit_test(test_i4_the_highest_timeline_wins),
		cmocka_unit_test(test_i4_on_one_timeline_the_primary_stays_the_primary),
		cmocka_unit_test(test_i4_one_that_was_superseded_is_none),
		cmocka_unit_test(test_i4_strangers_are_none),
		cmocka_unit_test(test_one_that_cannot_be_asked_stays_the_primary),
		cmocka_unit_test(test_i4_the_first_decision_waits_for_all),
		cmocka_unit_test(test_i4_patroni_may_say_no),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
