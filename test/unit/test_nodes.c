/* SPDX-License-Identifier: ISC
 *
 * test_nodes.c - which replica a read goes to: by what it has to do, its weight and its zone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "route/nodes.h"
#include "sql/catalog.h"

#define N 4

/* A primary and three replicas, of these weights and zones; this process stands in zone "a". */
static struct node_set *set_of(const unsigned *weights, const char *const *zones)
{
	struct node_conf conf[N];
	struct node_set *set;

	for (unsigned i = 0; i < N; i++)
		conf[i] = (struct node_conf){ .host = "h",
					      .port = (uint16_t)(i + 1),
					      .weight = weights[i],
					      .zone = zones ? zones[i] : "" };
	set = node_set_new("shop", conf, N);
	node_set_adopt(set, conf, "a");
	set->nodes[0].role = NODE_PRIMARY;
	for (unsigned i = 1; i < N; i++)
		set->nodes[i].role = NODE_REPLICA;
	return set;
}

static int choose(const struct node_set *set, unsigned turn)
{
	static const bool serves[N] = { true, true, true, true };
	struct node_wish wish = { .serves = serves, .turn = turn };

	return node_set_replica(set, &wish);
}

/* How often each of them is chosen in so many turns. */
static void check_shares(const struct node_set *set, unsigned turns, const unsigned *expected)
{
	unsigned counts[N] = { 0 };

	for (unsigned turn = 0; turn < turns; turn++)
		counts[choose(set, turn)]++;
	assert_memory_equal(counts, expected, sizeof(counts));
}

static void test_idle_replicas_take_turns_by_weight(void **state PGT_UNUSED)
{
	struct node_set *equal = set_of((const unsigned[N]){ 1, 1, 1, 1 }, NULL);
	struct node_set *set = set_of((const unsigned[N]){ 9, 1, 3, 2 }, NULL);

	check_shares(equal, 60, (const unsigned[N]){ 0, 20, 20, 20 });
	check_shares(set, 60, (const unsigned[N]){ 0, 10, 30, 20 });
	node_set_unref(equal);
	node_set_unref(set);
}

static void test_who_has_less_to_do_for_its_weight_is_chosen(void **state PGT_UNUSED)
{
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 3, 1 }, NULL);

	set->nodes[1].active = 1;
	set->nodes[2].active = 2;
	set->nodes[3].active = 1;
	check_shares(set, 10, (const unsigned[N]){ 0, 0, 10, 0 });
	set->nodes[2].active = 4;
	check_shares(set, 10, (const unsigned[N]){ 0, 5, 0, 5 });
	node_set_unref(set);
}

static void test_work_under_way_is_shared_by_weight(void **state PGT_UNUSED)
{
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 2, 5 }, NULL);

	for (unsigned turn = 0; turn < 80; turn++)
		set->nodes[choose(set, turn)].active++;
	assert_int_equal(set->nodes[1].active, 10);
	assert_int_equal(set->nodes[2].active, 20);
	assert_int_equal(set->nodes[3].active, 50);
	node_set_unref(set);
}

static void test_no_weight_no_reads(void **state PGT_UNUSED)
{
	struct node_set *set = set_of((const unsigned[N]){ 1, 0, 1, 0 }, NULL);

	check_shares(set, 10, (const unsigned[N]){ 0, 0, 10, 0 });
	node_weigh(set, 2, 0);
	assert_int_equal(choose(set, 0), -1);
	node_weigh(set, 1, 1);
	assert_int_equal(choose(set, 0), 1);
	node_set_unref(set);
}

/* What is kept of a choice is void by then. */
static void test_i4_what_a_choice_goes_by_is_counted(void **state PGT_UNUSED)
{
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 1, 1 }, NULL);
	unsigned before = node_set_standing(set);

	set->nodes[0].process = 5;
	assert_true(node_set_meet(set, &set->nodes[0], 5));
	assert_int_equal(node_set_standing(set), before);
	node_weigh(set, 1, 0);
	assert_int_not_equal(node_set_standing(set), before);
	before = node_set_standing(set);
	node_set_note_definition(set);
	assert_int_not_equal(node_set_standing(set), before);
	before = node_set_standing(set);
	node_set_publish_catalog(set, NULL, 1);
	assert_int_not_equal(node_set_standing(set), before);
	before = node_set_standing(set);
	assert_false(node_set_meet(set, &set->nodes[0], 6));
	assert_int_not_equal(node_set_standing(set), before);
	node_set_unref(set);
}

/* What is kept of a choice is one that could not have been another. */
static void test_only_the_replica_of_a_known_primary_is_the_only_one(void **state PGT_UNUSED)
{
	static const struct node_conf conf[] = {
		{.host = "h",  .port = 1, .weight = 1, .zone = ""},
		{ .host = "h", .port = 2, .weight = 1, .zone = ""}
	};
	static const bool serves[] = { true, true };
	struct node_set *set = node_set_new("pair", conf, PGT_NELEMS(conf));
	struct node_wish wish = { .serves = serves, .is_fenced = true, .fence = 4 };

	for (unsigned i = 0; i < set->n; i++)
		set->nodes[i].role = NODE_REPLICA;
	set->nodes[0].covers = 7;
	set->nodes[1].covers = 9;
	set->primary = -1;
	assert_int_equal(node_set_replica(set, &wish), 0);
	assert_false(wish.is_only);
	wish.turn = 1;
	assert_int_equal(node_set_replica(set, &wish), 1);
	assert_false(wish.is_only);
	set->nodes[1].role = NODE_PRIMARY;
	set->primary = 1;
	assert_int_equal(node_set_replica(set, &wish), 0);
	assert_true(wish.is_only);
	assert_int_equal(wish.covers, 7);
	node_set_unref(set);
}

static struct node_set *hosts_of(const char *letters, struct node_set *before)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct node_conf conf[N];
	struct node_set *set;
	size_t n = 0;

	for (; letters[n]; n++)
		conf[n] = (struct node_conf){
			.host = names[letters[n] - 'a'], .port = 1, .weight = 1, .zone = ""
		};
	set = node_set_new("shop", conf, n);
	if (before) {
		node_set_inherit(set, before);
		node_set_unref(before);
	}
	return set;
}

static void check_reign(const struct node_set *set, int primary, int last, uint32_t timeline)
{
	assert_int_equal(node_set_primary(set), primary);
	assert_int_equal(set->reign.primary, last);
	assert_int_equal(set->reign.timeline, timeline);
}

/* Whoever was superseded in the old list is so in the new one. */
static void test_i4_another_list_remembers_the_primary(void **state PGT_UNUSED)
{
	const struct claim second = { .timeline = 2, .cluster = "7001" };
	struct node_set *set = hosts_of("ab", NULL);

	check_reign(set, -1, -1, 0);
	node_set_pass_to(set, 1, &second);
	set->primary = 1;
	set = hosts_of("cab", set);
	check_reign(set, 2, 2, 2);
	assert_string_equal(set->reign.cluster, "7001");
	/* Where there is none now, there is none now. */
	set->nodes[2].service = NODE_RETIRES;
	set = hosts_of("ba", set);
	check_reign(set, -1, 0, 2);
	/* Alone it is asked by nobody, and comes back into a list as what it was. */
	set = hosts_of("b", set);
	check_reign(set, 0, 0, 2);
	set = hosts_of("ab", set);
	check_reign(set, 1, 1, 2);
	/* Who takes it out of the list wants to go on without it. */
	set = hosts_of("ac", set);
	check_reign(set, -1, -1, 0);
	set = hosts_of("abc", set);
	check_reign(set, -1, -1, 0);
	node_set_unref(set);
}

static void test_ones_own_zone_comes_first(void **state PGT_UNUSED)
{
	static const char *const zones[N] = { "a", "b", "a", "b" };
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 1, 1 }, zones);

	set->nodes[2].active = 100;
	assert_int_equal(choose(set, 0), 2);
	set->nodes[2].role = NODE_DOWN;
	check_shares(set, 10, (const unsigned[N]){ 0, 5, 0, 5 });
	set->nodes[2].role = NODE_REPLICA;
	assert_int_equal(choose(set, 0), 2);
	node_set_unref(set);
}

static void test_i4_near_is_nothing_without_what_was_written(void **state PGT_UNUSED)
{
	static const char *const zones[N] = { "a", "b", "a", "b" };
	static const bool serves[N] = { true, true, true, true };
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 1, 1 }, zones);
	struct node_wish wish = { .serves = serves, .is_fenced = true, .fence = 5 };

	set->nodes[3].covers = 6;
	set->nodes[3].process = 77;
	for (wish.turn = 0; wish.turn < 6; wish.turn++) {
		assert_int_equal(node_set_replica(set, &wish), 3);
		assert_int_equal(wish.process, 77);
	}
	node_set_unref(set);
}

/* A function that reads, or not, and one behind an operator, if that is not NULL. */
static const struct sql_catalog *catalog_of(bool is_volatile, const char *behind)
{
	struct sql_catalog_builder *b = sql_catalog_builder_new();

	sql_catalog_builder_function(b, SLICE("public"), SLICE("f"), is_volatile);
	sql_catalog_builder_relation(b, SLICE("public"), SLICE("r"));
	if (behind)
		sql_catalog_builder_behind(b, SLICE("operator"), SLICE("="), SLICE("public"),
					   slice_str(behind));
	return sql_catalog_builder_finish(b);
}

static uint64_t id_of(struct node_set *set)
{
	const struct sql_catalog *catalog = node_set_catalog(set);
	uint64_t id = sql_catalog_id(catalog);

	sql_catalog_unref(catalog);
	return id;
}

static void test_i4_a_catalog_that_says_the_same_is_the_same(void **state PGT_UNUSED)
{
	struct node_set *set = set_of((const unsigned[N]){ 1, 1, 1, 1 }, NULL);
	unsigned standing;
	uint64_t first;

	node_set_publish_catalog(set, catalog_of(false, NULL), set->definitions);
	first = id_of(set);
	assert_true(first);
	standing = node_set_standing(set);
	node_set_publish_catalog(set, catalog_of(false, NULL), set->definitions);
	assert_true(id_of(set) == first);
	assert_int_equal(node_set_standing(set), standing);
	for (unsigned i = 0; i < 2; i++) {
		node_set_publish_catalog(set, catalog_of(!i, i ? "g" : NULL), set->definitions);
		assert_true(id_of(set) > first);
		first = id_of(set);
	}
	node_set_publish_catalog(set, catalog_of(false, "h"), set->definitions);
	assert_true(id_of(set) > first);
	first = id_of(set);
	/* What is called so may do something else by now. */
	node_set_note_definition(set);
	assert_false(id_of(set));
	node_set_publish_catalog(set, catalog_of(false, "h"), set->definitions);
	assert_true(id_of(set) > first);
	node_set_unref(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_i4_a_catalog_that_says_the_same_is_the_same),
		cmocka_unit_test(test_idle_replicas_take_turns_by_weight),
		cmocka_unit_test(test_who_has_less_to_do_for_its_weight_is_chosen),
		cmocka_unit_test(test_work_under_way_is_shared_by_weight),
		cmocka_unit_test(test_no_weight_no_reads),
		cmocka_unit_test(test_i4_what_a_choice_goes_by_is_counted),
		cmocka_unit_test(test_only_the_replica_of_a_known_primary_is_the_only_one),
		cmocka_unit_test(test_i4_another_list_remembers_the_primary),
		cmocka_unit_test(test_ones_own_zone_comes_first),
		cmocka_unit_test(test_i4_near_is_nothing_without_what_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
