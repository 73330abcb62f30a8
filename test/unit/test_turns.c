/* SPDX-License-Identifier: ISC
 *
 * test_turns.c - a pool that tenants share, played with a clock of our own: who gets how much, and
 * who waits how long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/mem.h"
#include "pool/turns.h"

#define MSEC USEC_PER_MSEC

/* ---- a pool -----------------------------------------------------------------------------------
 */

#define SERVERS_MAX 10
#define TENANTS_MAX 3

struct player {
	struct turn_wait wait;
	struct tenant *tenant;
	usec_t since; /* it waits */
};

struct seat {
	struct turn turn;
	struct player *player; /* NULL: idle */
	usec_t ends_at;
};

/* Who has been served asks again at once. */
struct game {
	struct turns *turns;
	struct tenant *tenants[TENANTS_MAX];
	unsigned turns_of[TENANTS_MAX]; /* that have begun */
	usec_t served[TENANTS_MAX];     /* time of servers */
	usec_t longest_wait[TENANTS_MAX];
	unsigned waited_long[TENANTS_MAX]; /* turns for which they waited more than .is_long */
	usec_t is_long;
	usec_t takes[TENANTS_MAX]; /* a turn */
	struct seat seats[SERVERS_MAX];
	unsigned nseats;
	usec_t now;
};

static struct tenant *tenant_new(unsigned weight)
{
	struct tenant *t = xnew(struct tenant);

	t->refs = 1;
	settings_defaults(&t->set);
	t->set.weight = weight;
	list_init(&t->shares);
	return t;
}

static void game_begin(struct game *g, unsigned nseats)
{
	*g = (struct game){ .nseats = nseats, .now = USEC_PER_SEC };
	g->turns = turns_new();
	turns_configure(g->turns, nseats, g->now);
}

static unsigned index_of(const struct game *g, const struct tenant *tenant)
{
	unsigned i = 0;

	while (g->tenants[i] != tenant)
		i++;
	return i;
}

static void sit_down(struct game *g, struct seat *seat, struct player *p, bool was_next)
{
	unsigned i = index_of(g, p->tenant);
	usec_t waited = g->now - p->since;

	turns_begin(g->turns, &seat->turn, p->tenant, was_next, g->now);
	seat->player = p;
	/* Not all at the same instant, or they would stay in step for ever. */
	seat->ends_at = g->now + g->takes[i] + rand() % 201 - 100;
	g->turns_of[i]++;
	g->waited_long[i] += waited > g->is_long;
	if (waited > g->longest_wait[i])
		g->longest_wait[i] = waited;
}

static struct seat *free_seat(struct game *g)
{
	for (unsigned i = 0; i < g->nseats; i++)
		if (!g->seats[i].player)
			return &g->seats[i];
	return NULL;
}

static void ask(struct game *g, struct player *p)
{
	struct seat *seat = free_seat(g);

	p->since = g->now;
	if (seat && !g->turns->nready && turns_has_room(g->turns, p->tenant))
		sit_down(g, seat, p, false);
	else
		turns_wait(g->turns, &p->wait, p->tenant, g->now);
}

static void stand_up(struct game *g, struct seat *seat)
{
	struct player *p = seat->player;
	struct turn_wait *next;

	g->served[index_of(g, p->tenant)] += g->now - seat->turn.since;
	turn_end(&seat->turn, g->now);
	seat->player = NULL;
	next = turns_next(g->turns);
	if (next) {
		turns_leave(next, g->now);
		sit_down(g, seat, container_of(next, struct player, wait), true);
	}
	ask(g, p);
}

static struct seat *first_to_end(struct game *g)
{
	struct seat *first = NULL;

	for (unsigned i = 0; i < g->nseats; i++)
		if (g->seats[i].player && (!first || g->seats[i].ends_at < first->ends_at))
			first = &g->seats[i];
	return first;
}

static void play(struct game *g, usec_t until)
{
	usec_t pay_at = g->now;

	for (struct seat *s; (s = first_to_end(g)) && s->ends_at < until;) {
		for (; pay_at + 300 * MSEC <= s->ends_at; pay_at += 300 * MSEC)
			for (unsigned i = 0; i < g->nseats; i++)
				if (g->seats[i].player)
					turn_pay(&g->seats[i].turn, pay_at + 300 * MSEC);
		g->now = s->ends_at;
		stand_up(g, s);
	}
}

static void game_end(struct game *g, struct player *players, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (players[i].wait.share)
			turns_leave(&players[i].wait, g->now);
	for (unsigned i = 0; i < g->nseats; i++)
		if (g->seats[i].player)
			turn_end(&g->seats[i].turn, g->now);
	turns_free(g->turns);
	for (unsigned i = 0; i < TENANTS_MAX; i++) {
		assert_true(!g->tenants[i] || g->tenants[i]->refs == 1);
		free(g->tenants[i]);
	}
}

/* Each of these tenants has that many players. */
static struct player *invite(struct game *g, const unsigned *weights, const unsigned *counts,
			     unsigned ntenants)
{
	unsigned n = 0, total = 0;
	struct player *players;

	for (unsigned i = 0; i < ntenants; i++)
		total += counts[i];
	players = xcalloc(total, sizeof(*players));
	for (unsigned i = 0; i < ntenants; i++) {
		g->tenants[i] = tenant_new(weights[i]);
		if (!g->takes[i])
			g->takes[i] = 2 * MSEC;
		for (unsigned k = 0; k < counts[i]; k++)
			players[n++].tenant = g->tenants[i];
	}
	return players;
}

static void assert_ratio(usec_t a, usec_t b, double expected, double tolerance)
{
	double ratio = (double)a / (double)b;

	if (ratio < expected * (1 - tolerance) || ratio > expected * (1 + tolerance))
		fail_msg("%lld to %lld is %.3f, expected %.3f", (long long)a, (long long)b, ratio,
			 expected);
}

/* Both ask all the time; how many ask does not matter. */
static void share_out(unsigned weight, usec_t takes, unsigned nseats, double tolerance)
{
	const unsigned counts[] = { 400, 20 }, weights[] = { 1, weight };
	struct player *players;
	struct game g;

	srand(1);
	game_begin(&g, nseats);
	g.takes[1] = takes;
	players = invite(&g, weights, counts, 2);
	for (unsigned i = 0; i < 420; i++)
		ask(&g, &players[i]);
	play(&g, g.now + 60 * USEC_PER_SEC);
	assert_ratio(g.served[1], g.served[0], weight, tolerance);
	game_end(&g, players, 420);
	free(players);
}

static void test_equal_weights_share_equally(void **state)
{
	(void)state;
	share_out(1, 2 * MSEC, 10, 0.05);
	share_out(1, 2 * MSEC, 1, 0.05);
}

static void test_weights_are_kept(void **state)
{
	(void)state;
	share_out(8, 2 * MSEC, 10, 0.1);
	share_out(3, 2 * MSEC, 2, 0.1);
}

/* Nor does it help to have long transactions, which last over many turns of the other. */
static void test_time_counts_and_not_turns(void **state)
{
	(void)state;
	share_out(1, 100 * MSEC, 10, 0.05);
	share_out(1, 2 * USEC_PER_SEC, 1, 0.1);
}

/* The p99 of the one with a single client stays within 1.5 times what it has while servers are
 * idle, which is 2 ms. */
static void test_a_flood_does_not_keep_others_waiting(void **state)
{
	const unsigned counts[] = { 400, 1 }, weights[] = { 1, 1 };
	struct player *players;
	struct game g;

	(void)state;
	srand(2);
	game_begin(&g, 10);
	g.is_long = MSEC;
	players = invite(&g, weights, counts, 2);
	for (unsigned i = 0; i < 401; i++)
		ask(&g, &players[i]);
	play(&g, g.now + 30 * USEC_PER_SEC);
	assert_true(g.turns_of[1] > 10000);
	assert_true(g.waited_long[1] * 100 <= g.turns_of[1]);
	/* No longer than until somebody leaves. */
	assert_true(g.longest_wait[1] <= 2 * MSEC + 100);
	assert_true(g.longest_wait[0] > 50 * MSEC);
	game_end(&g, players, 401);
	free(players);
}

/* What was used while nobody waited is not held against a tenant, however long it took. */
/* ---- who comes back at once -------------------------------------------------------------------
 */

/* Two servers whose turns begin and end together, one tenant that always waits, and one that is
 * away for some time behind each of its turns. */
struct duet {
	struct turns *turns;
	struct tenant *noisy, *quiet;
	struct turn_wait noisy_wait, quiet_wait;
	struct turn seats[2];
	usec_t now;
};

static void duet_begin(struct duet *s, unsigned quiet_weight)
{
	*s = (struct duet){ .now = USEC_PER_SEC };
	s->turns = turns_new();
	turns_configure(s->turns, 2, s->now);
	s->noisy = tenant_new(1);
	s->quiet = tenant_new(quiet_weight);
	list_init(&s->noisy_wait.link);
	list_init(&s->quiet_wait.link);
	turns_wait(s->turns, &s->noisy_wait, s->noisy, s->now);
	turns_wait(s->turns, &s->quiet_wait, s->quiet, s->now);
}

static void duet_end(struct duet *s)
{
	turns_leave(&s->noisy_wait, s->now);
	if (s->quiet_wait.share)
		turns_leave(&s->quiet_wait, s->now);
	turns_free(s->turns);
	assert_int_equal(s->noisy->refs, 1);
	assert_int_equal(s->quiet->refs, 1);
	free(s->noisy);
	free(s->quiet);
}

static void give_next(struct duet *s, struct turn *seat)
{
	struct turn_wait *next = turns_next(s->turns);
	struct tenant *tenant = next->share->tenant;

	turns_leave(next, s->now);
	turns_begin(s->turns, seat, tenant, true, s->now);
	if (tenant == s->noisy)
		turns_wait(s->turns, &s->noisy_wait, s->noisy, s->now);
}

/* Both servers are given out, but for what is held, the quiet tenant comes, and all turns end. */
static bool duet_go_on(struct duet *s, usec_t takes, usec_t away)
{
	bool is_held;

	for (unsigned i = s->turns->nholds; i < 2; i++)
		give_next(s, &s->seats[i]);
	s->now += away;
	is_held = turns_is_held(s->turns, s->quiet);
	if (is_held)
		turns_begin(s->turns, &s->seats[0], s->quiet, false, s->now);
	else if (!s->quiet_wait.share && s->seats[0].share->tenant == s->noisy &&
		 s->seats[1].share->tenant == s->noisy)
		turns_wait(s->turns, &s->quiet_wait, s->quiet, s->now);
	s->now += takes - away;
	turn_end(&s->seats[0], s->now);
	turn_end(&s->seats[1], s->now);
	return is_held;
}

static void test_who_comes_back_at_once_finds_its_server(void **state)
{
	struct duet s;

	(void)state;
	duet_begin(&s, 1);
	for (unsigned i = 0; i < 60; i++)
		duet_go_on(&s, 2 * MSEC, MSEC / 10);
	for (unsigned i = 0; i < 60; i++)
		assert_true(duet_go_on(&s, 2 * MSEC, MSEC / 10));
	/* Not for ever. */
	assert_int_equal(s.turns->nholds, 1);
	assert_true(turns_end_holds(s.turns, s.now + MSEC - 1));
	assert_false(turns_end_holds(s.turns, s.now + MSEC));
	assert_int_equal(s.turns->nholds, 0);
	assert_false(turns_is_held(s.turns, s.quiet));
	duet_end(&s);
}

static void assert_nothing_is_held(usec_t takes, usec_t away, unsigned weight)
{
	struct duet s;

	duet_begin(&s, weight);
	for (unsigned i = 0; i < 200; i++)
		assert_false(duet_go_on(&s, takes, away));
	duet_end(&s);
}

/* … for who stays away longer than half a turn, or than a millisecond. */
static void test_who_stays_away_finds_none(void **state)
{
	(void)state;
	assert_nothing_is_held(2 * MSEC, MSEC + MSEC / 2, 1);
	assert_nothing_is_held(100 * MSEC, 10 * MSEC, 1);
	assert_nothing_is_held(MSEC / 10, MSEC * 8 / 100, 1);
}

/* … for who has had more than its share. */
static void test_who_would_not_be_next_finds_none(void **state)
{
	struct duet s;
	unsigned held = 0;

	(void)state;
	duet_begin(&s, 1);
	s.noisy->set.weight = 20;
	for (unsigned i = 0; i < 1000; i++)
		held += duet_go_on(&s, 2 * MSEC, MSEC / 10);
	/* Its share is one of 21 parts of two servers. */
	assert_true(held <= 110);
	duet_end(&s);
}

static void test_what_nobody_wanted_is_free(void **state)
{
	const unsigned counts[] = { 29, 20 }, weights[] = { 1, 1 };
	struct player *players;
	struct game g;
	usec_t before[2];

	(void)state;
	srand(3);
	game_begin(&g, 10);
	g.takes[0] = 20 * USEC_PER_SEC;
	players = invite(&g, weights, counts, 2);
	for (unsigned i = 0; i < 9; i++)
		ask(&g, &players[i]);
	g.takes[0] = 2 * MSEC;
	g.now += 20 * USEC_PER_SEC - 100 * MSEC;
	for (unsigned i = 9; i < 49; i++)
		ask(&g, &players[i]);
	/* It owes nine tenths of a second, which the other gets back on ten servers. */
	play(&g, g.now + 200 * MSEC);
	for (int i = 0; i < 2; i++)
		before[i] = g.served[i];
	assert_true(before[0] > 179 * USEC_PER_SEC);
	play(&g, g.now + USEC_PER_SEC);
	assert_ratio(g.served[1] - before[1], g.served[0] - before[0], 1, 0.05);
	game_end(&g, players, 49);
	free(players);
}

/* One that did not ask for long may not make up for it at the others' cost. */
static void test_nothing_is_saved_up(void **state)
{
	const unsigned counts[] = { 20, 20, 20 }, weights[] = { 1, 1, 1 };
	struct player *players;
	struct game g;
	usec_t before;

	(void)state;
	srand(4);
	game_begin(&g, 4);
	players = invite(&g, weights, counts, 3);
	for (unsigned i = 0; i < 40; i++)
		ask(&g, &players[i]);
	play(&g, g.now + 20 * USEC_PER_SEC);
	before = g.served[0];
	for (unsigned i = 40; i < 60; i++)
		ask(&g, &players[i]);
	play(&g, g.now + USEC_PER_SEC);
	assert_ratio(g.served[2], g.served[0] - before, 1, 0.05);
	game_end(&g, players, 60);
	free(players);
}

/* ---- by hand ----------------------------------------------------------------------------------
 */

static void test_first_come_first_served_within_a_tenant(void **state)
{
	struct turns *turns = turns_new();
	struct tenant *tenant = tenant_new(1);
	struct turn_wait w[4] = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++)
		turns_wait(turns, &w[i], tenant, i);
	turns_leave(&w[1], 5);
	assert_int_equal(turns->nready, 3);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			continue;
		assert_ptr_equal(turns_next(turns), &w[i]);
		turns_leave(&w[i], 6);
	}
	assert_null(turns_next(turns));
	turns_free(turns);
	free(tenant);
}

static void test_a_share_of_the_pool(void **state)
{
	struct turns *turns = turns_new();
	struct tenant *greedy = tenant_new(1), *other = tenant_new(1);
	struct turn_wait w[6] = { 0 }, o = { 0 };
	struct turn turn[3] = { 0 };

	(void)state;
	greedy->set.max_server_share = 50;
	turns_configure(turns, 5, 0);
	for (int i = 0; i < 6; i++)
		turns_wait(turns, &w[i], greedy, 0);
	assert_int_equal(turns->nready, 2);
	for (int i = 0; i < 2; i++) {
		assert_ptr_equal(turns_next(turns), &w[i]);
		turns_leave(&w[i], 0);
		turns_begin(turns, &turn[i], greedy, true, 0);
	}
	/* It has its share, and waits for itself. */
	assert_int_equal(turns->nready, 0);
	assert_null(turns_next(turns));
	assert_false(turns_may_go(&w[2]));
	assert_false(turns_has_room(turns, greedy));
	assert_true(turns_has_room(turns, other));
	turns_wait(turns, &o, other, 1);
	assert_ptr_equal(turns_next(turns), &o);
	turns_leave(&o, 1);
	turn_end(&turn[0], 2);
	assert_ptr_equal(turns_next(turns), &w[2]);
	/* A reload gives it more. */
	greedy->set.max_server_share = 80;
	turns_configure(turns, 5, 3);
	assert_int_equal(turns->nready, 3);
	/* Never less than one. */
	greedy->set.max_server_share = 1;
	turns_configure(turns, 5, 3);
	assert_int_equal(turns->nready, 0);
	turn_end(&turn[1], 4);
	assert_int_equal(turns->nready, 1);
	for (int i = 2; i < 6; i++)
		turns_leave(&w[i], 5);
	turns_free(turns);
	free(greedy);
	free(other);
}

static void test_who_rests_is_forgotten(void **state)
{
	struct turns *turns = turns_new();
	struct tenant *tenant = tenant_new(1);
	struct turn turn = { 0 };

	(void)state;
	turns_begin(turns, &turn, tenant, false, 0);
	turns_sweep(turns, 100 * USEC_PER_SEC);
	assert_int_equal(tenant->refs, 2);
	turn_end(&turn, 100 * USEC_PER_SEC);
	turns_sweep(turns, 101 * USEC_PER_SEC);
	assert_int_equal(tenant->refs, 2);
	turns_sweep(turns, 110 * USEC_PER_SEC);
	assert_int_equal(tenant->refs, 1);
	assert_true(list_is_empty(&tenant->shares));
	turns_free(turns);
	free(tenant);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_weights_share_equally),
		cmocka_unit_test(test_weights_are_kept),
		cmocka_unit_test(test_time_counts_and_not_turns),
		cmocka_unit_test(test_a_flood_does_not_keep_others_waiting),
		cmocka_unit_test(test_who_comes_back_at_once_finds_its_server),
		cmocka_unit_test(test_who_stays_away_finds_none),
		cmocka_unit_test(test_who_would_not_be_next_finds_none),
		cmocka_unit_test(test_what_nobody_wanted_is_free),
		cmocka_unit_test(test_nothing_is_saved_up),
		cmocka_unit_test(test_first_come_first_served_within_a_tenant),
		cmocka_unit_test(test_a_share_of_the_pool),
		cmocka_unit_test(test_who_rests_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
