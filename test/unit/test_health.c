/* SPDX-License-Identifier: ISC
 *
 * test_health.c - when a node is out and back, and whose role goes to and fro.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "route/health.h"

#define FAILURES 2
#define ANSWERS  3
#define SETTLE   (10 * USEC_PER_SEC)

static usec_t now;

static void answer(struct health *h, bool is_primary)
{
	now += USEC_PER_SEC;
	health_answer(h, is_primary, ANSWERS, SETTLE, now);
}

static void fail_once(struct health *h)
{
	health_fail(h, FAILURES, false);
}

static void test_one_failure_is_a_doubt(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, false);
	fail_once(&h);
	assert_true(health_is_doubtful(&h));
	assert_false(h.is_out);
	answer(&h, false);
	assert_false(health_is_doubtful(&h));
	fail_once(&h);
	assert_false(h.is_out);
	fail_once(&h);
	assert_true(h.is_out);
	assert_false(health_is_doubtful(&h));
}

static void test_silence_is_none(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, false);
	health_fail(&h, FAILURES, true);
	assert_true(h.is_out);
}

static void test_who_was_never_heard_is_out_at_once_and_in_at_once(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	fail_once(&h);
	assert_true(h.is_out);
	answer(&h, false);
	assert_false(h.is_out);
}

static void test_a_replica_comes_back_after_some_answers_in_a_row(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, false);
	health_fail(&h, FAILURES, true);
	answer(&h, false);
	answer(&h, false);
	assert_true(h.is_out);
	fail_once(&h);
	answer(&h, false);
	answer(&h, false);
	assert_true(h.is_out);
	answer(&h, false);
	assert_false(h.is_out);
}

static void test_a_primary_comes_back_at_once(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, true);
	health_fail(&h, FAILURES, true);
	answer(&h, true);
	assert_false(h.is_out);
}

static void test_a_promotion_counts_at_once(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, false);
	answer(&h, true);
	assert_false(health_is_unsettled(&h, SETTLE, now));
}

static void test_to_and_fro_has_to_settle(void **state PGT_UNUSED)
{
	struct health h = { 0 };
	usec_t turned;

	answer(&h, true);
	answer(&h, false);
	answer(&h, true);
	turned = now;
	assert_true(health_is_unsettled(&h, SETTLE, now));
	answer(&h, true);
	assert_true(health_is_unsettled(&h, SETTLE, turned + SETTLE - 1));
	assert_false(health_is_unsettled(&h, SETTLE, turned + SETTLE));
	/* And from the next change anew. */
	answer(&h, false);
	answer(&h, true);
	assert_true(health_is_unsettled(&h, SETTLE, now + SETTLE - 1));
}

static void test_changes_that_are_far_apart_are_failovers(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	answer(&h, true);
	answer(&h, false);
	now += SETTLE;
	answer(&h, true);
	assert_false(health_is_unsettled(&h, SETTLE, now));
}

static void test_no_settle_time_no_doubt(void **state PGT_UNUSED)
{
	struct health h = { 0 };

	for (int i = 0; i < 6; i++)
		health_answer(&h, i % 2, ANSWERS, 0, now += USEC_PER_SEC);
	assert_false(health_is_unsettled(&h, 0, now));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_failure_is_a_doubt),
		cmocka_unit_test(test_silence_is_none),
		cmocka_unit_test(test_who_was_never_heard_is_out_at_once_and_in_at_once),
		cmocka_unit_test(test_a_replica_comes_back_after_some_answers_in_a_row),
		cmocka_unit_test(test_a_primary_comes_back_at_once),
		cmocka_unit_test(test_a_promotion_counts_at_once),
		cmocka_unit_test(test_to_and_fro_has_to_settle),
		cmocka_unit_test(test_changes_that_are_far_apart_are_failovers),
		cmocka_unit_test(test_no_settle_time_no_doubt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
