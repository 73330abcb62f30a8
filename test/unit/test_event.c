/* SPDX-License-Identifier: ISC
 *
 * test_event.c - the ring of events: what is kept, counted and left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "stats/event.h"

#include <stdio.h>
#include <string.h>

static const struct log_about no_one;

/* The tests' own time. */
static usec_t wall = 1000 * 24 * 3600 * USEC_PER_SEC, monotonic = 1000 * USEC_PER_SEC;

usec_t clock_wall(void)
{
	return wall;
}

usec_t clock_monotonic(void)
{
	return monotonic;
}

static void pass(usec_t time)
{
	wall += time;
	monotonic += time;
}

static void describe(const struct event *e, void *arg)
{
	char *text = arg;
	size_t n = strlen(text);

	snprintf(text + n, 4096 - n, "%s/%s:%u ", e->text, e->tenant, e->count);
}

/* Those above a number, as "text/tenant:count ". */
static const char *kept(uint64_t above)
{
	static char text[4096];

	*text = '\0';
	events_each(above, describe, text);
	return text;
}

static uint64_t last(void)
{
	char ignored[4096] = "";

	return events_each(0, describe, ignored);
}

static void test_the_same_again_is_counted(void **state)
{
	uint64_t before = last();
	const struct log_about acme = { .tenant = "acme" }, globex = { .tenant = "globex" };

	for (int i = 0; i < 3; i++)
		event_say(EVENT_limit, &acme, "limit %d", 1);
	event_say(EVENT_limit, &globex, "limit %d", 1);
	event_say(EVENT_limit, &acme, "limit %d", 1);
	event_say(EVENT_limit, &acme, "limit %d", 2);
	assert_string_equal(kept(before), "limit 1/acme:4 limit 1/globex:1 limit 2/acme:1 ");
}

static void test_what_is_between_two_of_a_kind_is_not_lost(void **state)
{
	uint64_t before = last();
	const struct log_about node = { .database = "shop", .node = "a:1" };

	event_say(EVENT_node_down, &node, "down");
	event_say(EVENT_node_up, &node, "up");
	event_say(EVENT_node_down, &node, "down");
	assert_string_equal(kept(before), "down/:1 up/:1 down/:1 ");
}

static void test_another_size_keeps_the_last(void **state)
{
	events_keep(2);
	event_say(EVENT_pause, &no_one, "a");
	event_say(EVENT_pause, &no_one, "b");
	event_say(EVENT_pause, &no_one, "c");
	assert_string_equal(kept(0), "b/:1 c/:1 ");
	events_keep(8);
	assert_string_equal(kept(0), "b/:1 c/:1 ");
	event_say(EVENT_pause, &no_one, "d");
	assert_string_equal(kept(0), "b/:1 c/:1 d/:1 ");
	events_keep(1);
	assert_string_equal(kept(0), "d/:1 ");
	events_keep(0);
	assert_string_equal(kept(0), "");
	event_say(EVENT_pause, &no_one, "e");
	assert_string_equal(kept(0), "");
	events_keep(1000);
	assert_string_equal(kept(0), "");
}

static void test_no_kind_floods_the_ring(void **state)
{
	uint64_t before = last();
	unsigned n = 0;

	event_say(EVENT_resume, &no_one, "first");
	for (int i = 0; i < 5000; i++)
		event_say(EVENT_reconnect, &no_one, "another %d", i);
	for (const char *at = kept(before); (at = strchr(at, '/')); at++)
		n++;
	assert_in_range(n, 100, 101);
	assert_non_null(strstr(kept(before), "first"));
}

static void test_the_next_one_is_the_oldest_that_is_kept(void **state)
{
	uint64_t before = last();
	char text[4096] = "";

	for (int i = 0; i < 3; i++)
		event_say(EVENT_certificate, &(struct log_about){ 0 }, "next %d", i);
	assert_int_equal(events_last(), before + 3);
	assert_true(events_next(before, describe, text));
	assert_non_null(strstr(text, "next 0"));
	assert_null(strstr(text, "next 1"));
	events_keep(2);
	*text = '\0';
	assert_true(events_next(before, describe, text));
	assert_non_null(strstr(text, "next 1"));
	assert_false(events_next(before + 3, describe, text));
	events_keep(0);
	assert_false(events_next(before, describe, text));
	events_keep(100);
	(void)state;
}

/* Put ahead or back, it makes nothing of a minute that was none, and the other way round. */
static void test_a_clock_that_jumps_silences_nobody(void **state)
{
	const usec_t day = 24 * 3600 * USEC_PER_SEC, minute = 60 * USEC_PER_SEC;
	const struct log_about acme = { .tenant = "acme" };
	uint64_t before;

	pass(minute);
	before = last();
	event_say(EVENT_limit, &acme, "jump");
	wall += day;
	event_say(EVENT_limit, &acme, "jump");
	assert_string_equal(kept(before), "jump/acme:2 ");
	for (int i = 0; i < 200; i++)
		event_say(EVENT_limit, &no_one, "flood %d", i);
	wall -= day;
	pass(minute);
	before = last();
	event_say(EVENT_limit, &no_one, "flood 1");
	event_say(EVENT_limit, &acme, "jump");
	assert_string_equal(kept(before), "flood 1/:1 jump/acme:1 ");
}

static void test_many_at_once_are_one(void **state)
{
	uint64_t before = last();

	for (int i = 1; i <= 25; i++)
		event_count(EVENT_logins, &no_one, "number %d", i);
	assert_string_equal(kept(before), "number 10/:1 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_again_is_counted),
		cmocka_unit_test(test_what_is_between_two_of_a_kind_is_not_lost),
		cmocka_unit_test(test_another_size_keeps_the_last),
		cmocka_unit_test(test_no_kind_floods_the_ring),
		cmocka_unit_test(test_the_next_one_is_the_oldest_that_is_kept),
		cmocka_unit_test(test_many_at_once_are_one),
		cmocka_unit_test(test_a_clock_that_jumps_silences_nobody),
	};
	int failed;

	log_threshold = LOG_LEVEL_FATAL;
	events_keep(1000);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	events_free();
	return failed;
}
