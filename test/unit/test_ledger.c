/* SPDX-License-Identifier: ISC
 *
 * test_ledger.c - quotas written and read again; files that were cut or changed at any byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tenant/ledger.h"
#include "tenant/shared.h"

#define HOUR (3600 * USEC_PER_SEC)
#define NOON (1000 * 24 * HOUR + 12 * HOUR)

static const struct limit_rules rules = { .quota = { [LIMIT_PER_HOUR] = 100 } };

static struct shared *tenant(const char *name)
{
	return shared_get(SHARED_TENANT, slice_str(name));
}

static void use(const char *name, uint64_t n, usec_t wall)
{
	struct shared *s = tenant(name);

	limit_charge(&s->limit, &rules, n, (struct limit_now){ .wall = wall });
	shared_put(s);
}

static void forget(void *arg, struct shared *s)
{
	s->limit = (struct limit_state){ 0 };
}

/* As a restart does. */
static void forget_all(void)
{
	shared_visit(SHARED_TENANT, forget, NULL);
}

static void expect_used(const char *name, usec_t wall, uint64_t hour, uint64_t day)
{
	struct shared *s = tenant(name);

	assert_int_equal(limit_quota_used(&s->limit, LIMIT_PER_HOUR, wall), hour);
	assert_int_equal(limit_quota_used(&s->limit, LIMIT_PER_DAY, wall), day);
	shared_put(s);
}

static const char odd[] = "a b%\n\x7f\xc3\xa4 end";

static void fill(struct buf *text)
{
	forget_all();
	use("acme", 5, NOON - 2 * HOUR);
	use("acme", 7, NOON);
	use(odd, 3, NOON);
	use("yesterday", 9, NOON - 13 * HOUR);
	ledger_put(text, NOON);
}

static void test_what_is_written_is_read(void **state)
{
	struct buf text = { 0 };
	struct err e;

	(void)state;
	fill(&text);
	forget_all();
	assert_true(ledger_take(buf_peek(&text), NOON + HOUR / 2, &e));
	expect_used("acme", NOON, 7, 12);
	expect_used(odd, NOON, 3, 3);
	expect_used("yesterday", NOON, 0, 0);
	buf_fini(&text);
}

static void test_periods_that_are_over_do_not_count(void **state)
{
	struct buf text = { 0 };
	struct err e;

	(void)state;
	fill(&text);
	forget_all();
	assert_true(ledger_take(buf_peek(&text), NOON + HOUR, &e));
	expect_used("acme", NOON + HOUR, 0, 12);
	forget_all();
	assert_true(ledger_take(buf_peek(&text), NOON + 12 * HOUR, &e));
	expect_used("acme", NOON + 12 * HOUR, 0, 0);
	buf_fini(&text);
}

/* The clock was ahead when it was written: nobody is shut out until that time comes. */
static void test_periods_to_come_do_not_count(void **state)
{
	struct buf text = { 0 };
	struct err e;

	(void)state;
	fill(&text);
	forget_all();
	assert_true(ledger_take(buf_peek(&text), NOON - 48 * HOUR, &e));
	expect_used("acme", NOON - 48 * HOUR, 0, 0);
	expect_used("acme", NOON, 0, 0);
	buf_fini(&text);
}

static void test_any_cut_and_any_change_is_found(void **state)
{
	struct buf text = { 0 };
	struct err e;

	(void)state;
	fill(&text);
	forget_all();
	for (size_t n = 0; n < buf_len(&text); n++)
		assert_false(ledger_take(slice_of(buf_head(&text), n), NOON, &e));
	for (size_t n = 0; n < buf_len(&text); n++) {
		buf_head(&text)[n] ^= 1;
		assert_false(ledger_take(buf_peek(&text), NOON, &e));
		buf_head(&text)[n] ^= 1;
	}
	expect_used("acme", NOON, 0, 0);
	assert_true(ledger_take(buf_peek(&text), NOON, &e));
	buf_fini(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_periods_that_are_over_do_not_count),
		cmocka_unit_test(test_periods_to_come_do_not_count),
		cmocka_unit_test(test_any_cut_and_any_change_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
