/* SPDX-License-Identifier: ISC
 *
 * test_logins.c - places for logins on a server, with a clock of our own: how many there are, whose
 * turn it is, and what hanging logins do to others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "route/logins.h"

#define MAX   4
#define POOLS 8

/* A pool that logs in as often as it may. */
struct player {
	struct login_wait wait;
	struct login_place places[2 * MAX];
	unsigned n;
	const char *database;
};

static const char shop[] = "shop", books[] = "books";
static struct login_desk desk;
static unsigned told;
static struct logins *server;
static struct player players[POOLS];
static usec_t now;

static void on_told(struct login_desk *d)
{
	assert_ptr_equal(d, &desk);
	told++;
}

static int set_up(void **state)
{
	(void)state;
	told = 0;
	now = USEC_PER_SEC;
	login_desk_init(&desk, on_told);
	logins_configure(MAX, now);
	server = logins_get("10.0.0.5", 5432);
	for (unsigned i = 0; i < POOLS; i++)
		players[i] = (struct player){ .database = shop };
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < POOLS; i++) {
		login_wait_leave(&players[i].wait, now);
		while (players[i].n)
			login_end(&players[i].places[--players[i].n], now);
	}
	assert_int_equal(logins_count(server).under_way, 0);
	assert_int_equal(logins_count(server).waiting, 0);
	logins_put(server);
	return 0;
}

static bool begin(unsigned i)
{
	struct player *p = &players[i];

	if (!logins_begin(server, &p->places[p->n], &p->wait, &desk, p->database, now))
		return false;
	p->n++;
	return true;
}

static void finish(unsigned i)
{
	struct player *p = &players[i];

	login_end(&p->places[--p->n], now);
}

/* The pool whose turn it is now, which logs in; -1: nobody's. */
static int next(void)
{
	struct login_wait *w = login_desk_next(&desk);
	unsigned i;

	if (!w)
		return -1;
	i = (unsigned)(container_of(w, struct player, wait) - players);
	assert_true(begin(i));
	return (int)i;
}

static void all_begin_in(unsigned i)
{
	for (unsigned n = 0; n < MAX; n++)
		assert_true(begin(i));
}

static void no_more_than_there_are_places(void **state)
{
	(void)state;
	all_begin_in(0);
	for (unsigned i = 0; i < POOLS; i++)
		assert_false(begin(i));
	assert_int_equal(logins_count(server).under_way, MAX);
	assert_int_equal(logins_count(server).waiting, POOLS);
	assert_int_equal(told, 0);
	finish(0);
	assert_int_equal(told, 1);
	assert_int_equal(logins_count(server).under_way, MAX);
	assert_int_equal(next(), 0);
	assert_int_equal(next(), -1);
}

static void zero_is_any_number(void **state)
{
	struct login_place places[3 * MAX];

	(void)state;
	logins_configure(0, now);
	for (unsigned i = 0; i < 3 * MAX; i++)
		assert_true(logins_begin(server, &places[i], &players[0].wait, &desk, shop, now));
	assert_int_equal(logins_count(server).under_way, 3 * MAX);
	for (unsigned i = 0; i < 3 * MAX; i++)
		login_end(&places[i], now);
}

static void pools_get_one_place_each(void **state)
{
	(void)state;
	all_begin_in(0);
	for (unsigned i = 1; i < 4; i++)
		assert_false(begin(i));
	for (int round = 0; round < 3; round++)
		for (int i = 1; i < 4; i++) {
			unsigned from = players[0].n ? 0 : (unsigned)i;

			finish(from);
			assert_int_equal(next(), i);
			assert_false(begin((unsigned)i)); /* and stands at the end again */
		}
}

static void databases_take_turns(void **state)
{
	(void)state;
	all_begin_in(0);
	for (unsigned i = 1; i < 6; i++)
		assert_false(begin(i));
	players[6].database = players[7].database = books;
	assert_false(begin(6));
	assert_false(begin(7));
	for (int n = 0; n < 4; n++) {
		static const int order[] = { 1, 6, 2, 7 };

		finish(0);
		assert_int_equal(next(), order[n]);
	}
}

static void what_hangs_leaves_its_place_to_others(void **state)
{
	(void)state;
	players[2].database = players[3].database = books;
	all_begin_in(0);
	assert_false(begin(1));
	assert_false(begin(2));
	now += USEC_PER_SEC - 1;
	logins_sweep(now);
	assert_int_equal(next(), -1);
	now++;
	logins_sweep(now);
	assert_int_equal(next(), 2);
	/* Not to those of its own database, which has as many as it may have. */
	assert_int_equal(next(), -1);
	assert_true(begin(3));
	finish(0);
	assert_int_equal(next(), 1);
}

static void a_place_that_is_not_used_goes_on(void **state)
{
	(void)state;
	all_begin_in(0);
	assert_false(begin(1));
	assert_false(begin(2));
	finish(0);
	assert_int_equal(told, 1);
	assert_ptr_equal(login_desk_next(&desk), &players[1].wait);
	login_wait_leave(&players[1].wait, now);
	assert_int_equal(next(), 2);
	assert_int_equal(logins_count(server).under_way, MAX);
	assert_int_equal(next(), -1);
	/* Who leaves before the thread has heard of it gives it back too. */
	assert_false(begin(3));
	assert_false(begin(4));
	finish(0);
	assert_int_equal(told, 2);
	login_wait_leave(&players[3].wait, now);
	assert_int_equal(next(), 4);
	assert_int_equal(next(), -1);
}

static void who_leaves_the_queue_is_passed_over(void **state)
{
	(void)state;
	all_begin_in(0);
	for (unsigned i = 1; i < 4; i++)
		assert_false(begin(i));
	login_wait_leave(&players[1].wait, now);
	assert_int_equal(logins_count(server).waiting, 2);
	finish(0);
	assert_int_equal(next(), 2);
}

static void each_server_has_its_own(void **state)
{
	struct logins *other = logins_get("10.0.0.5", 5433), *same = logins_get("10.0.0.5", 5432);
	struct login_place place;

	(void)state;
	assert_ptr_equal(same, server);
	logins_put(same);
	all_begin_in(0);
	assert_false(begin(0));
	/* A pool whose node is another one now waits there, and here no more. */
	assert_true(logins_begin(other, &place, &players[0].wait, &desk, shop, now));
	assert_int_equal(logins_count(server).waiting, 0);
	assert_int_equal(logins_count(other).under_way, 1);
	login_end(&place, now);
	logins_put(other);
}

static void more_places_serve_who_waits(void **state)
{
	(void)state;
	all_begin_in(0);
	for (unsigned i = 1; i < 4; i++)
		assert_false(begin(i));
	logins_configure(MAX + 2, now);
	assert_int_equal(next(), 1);
	assert_int_equal(next(), 2);
	assert_int_equal(next(), -1);
	logins_configure(0, now);
	assert_int_equal(next(), 3);
	/* Fewer take none away, but serve nobody until they are kept. */
	logins_configure(1, now);
	assert_false(begin(1));
	while (logins_count(server).under_way > 1) {
		assert_int_equal(next(), -1);
		finish(players[0].n ? 0 : players[2].n ? 2 : 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_more_than_there_are_places, set_up, tear_down),
		cmocka_unit_test_setup_teardown(zero_is_any_number, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pools_get_one_place_each, set_up, tear_down),
		cmocka_unit_test_setup_teardown(databases_take_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_hangs_leaves_its_place_to_others, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_place_that_is_not_used_goes_on, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(who_leaves_the_queue_is_passed_over, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(each_server_has_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_places_serve_who_waits, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
