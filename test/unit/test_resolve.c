/* SPDX-License-Identifier: ISC
 *
 * test_resolve.c - names to addresses, with the names that every machine knows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_rig.h"

#include "net/mailbox.h"
#include "net/resolve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Reserved by RFC 6761: no name server may know it. */
#define NOBODY "nobody.invalid"

/* Leads to one address after the other, as told here; NULL: it cannot be looked up. */
#define MOVING "moving.test"

static struct rig rig;
static struct mailbox box;
static struct resolver *resolver;

static int setup(void **state)
{
	rig_init(&rig);
	mailbox_init(&box, rig.loop, NULL);
	resolver = resolver_new("", 3600 * USEC_PER_SEC, 3600 * USEC_PER_SEC);
	return 0;
}

static int teardown(void **state)
{
	resolver_free(resolver);
	mailbox_fini(&box);
	rig_fini(&rig);
	return 0;
}

struct answer {
	unsigned n;
	struct resolved found;
};

static void on_found(void *arg, const struct resolved *found)
{
	struct answer *a = arg;

	a->n++;
	a->found = *found;
}

static void test_addresses_at_once(void **state)
{
	static const struct {
		const char *host;
		int family;
	} table[] = {
		{"127.0.0.1", AF_INET },
		{ "::1",      AF_INET6},
	};

	for (size_t i = 0; i < PGT_NELEMS(table); i++) {
		char text[INET6_ADDRSTRLEN];
		struct addr addr;
		struct resolved found;

		assert_true(resolve_now(resolver, table[i].host, 5432, &found));
		assert_int_equal(found.n, 1);
		addr_set(&addr, (struct sockaddr *)&found.addrs[0]);
		assert_int_equal(addr.family, table[i].family);
		assert_int_equal(addr.port, 5432);
		addr_text(&addr, text);
		assert_string_equal(text, table[i].host);
	}
}

static void test_unix_sockets_at_once(void **state)
{
	struct resolved found;
	const struct sockaddr_un *un = (const void *)&found.addrs[0];
	char longer[200];

	assert_true(resolve_now(resolver, "/run/postgresql", 5433, &found));
	assert_int_equal(found.n, 1);
	assert_int_equal(un->sun_family, AF_UNIX);
	assert_string_equal(un->sun_path, "/run/postgresql/.s.PGSQL.5433");
	assert_true(resolve_now(resolver, "@pg", 5432, &found));
	assert_int_equal(un->sun_path[0], '\0');
	assert_memory_equal(un->sun_path + 1, "pg/.s.PGSQL.5432", 16);
	assert_int_equal(found.lens[0], offsetof(struct sockaddr_un, sun_path) + 17);
	memset(longer, '/', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_true(resolve_now(resolver, longer, 5432, &found));
	assert_int_equal(found.n, 0);
	assert_non_null(strstr(found.error.text, "too long"));
}

static void test_name_is_found_and_kept(void **state)
{
	struct answer answer = { 0 };
	struct resolved found;
	struct addr addr;

	assert_false(resolve_now(resolver, "localhost", 5432, &found));
	resolve_start(resolver, &box, "localhost", 5432, on_found, &answer);
	assert_int_equal(answer.n, 0);
	UNTIL(&rig, answer.n);
	assert_true(answer.found.n > 0);
	addr_set(&addr, (struct sockaddr *)&answer.found.addrs[0]);
	assert_int_equal(addr.port, 5432);
	/* What is kept serves every port. */
	assert_true(resolve_now(resolver, "localhost", 6432, &found));
	addr_set(&addr, (struct sockaddr *)&found.addrs[0]);
	assert_int_equal(addr.port, 6432);
}

static void test_nothing_is_kept_with_a_ttl_of_zero(void **state)
{
	struct answer answer = { 0 };
	struct resolved found;

	resolver_set_ttls(resolver, 0, 0);
	for (unsigned i = 1; i <= 3; i++) {
		resolve_start(resolver, &box, "localhost", 5432, on_found, &answer);
		UNTIL(&rig, answer.n == i);
		assert_false(resolve_now(resolver, "localhost", 5432, &found));
	}
}

static void test_failure_is_told_and_kept(void **state)
{
	struct answer answer = { 0 };
	struct resolved found;

	resolve_start(resolver, &box, NOBODY, 5432, on_found, &answer);
	UNTIL(&rig, answer.n);
	assert_int_equal(answer.found.n, 0);
	assert_string_equal(answer.found.error.sqlstate, "08001");
	assert_non_null(strstr(answer.found.error.text, NOBODY));
	assert_true(resolve_now(resolver, NOBODY, 5432, &found));
	assert_int_equal(found.n, 0);
	assert_string_equal(found.error.text, answer.found.error.text);
}

static void test_many_askers_of_one_name(void **state)
{
	struct answer answers[50] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < PGT_NELEMS(answers); i++)
		resolve_start(resolver, &box, "localhost", (uint16_t)(i + 1), on_found,
			      &answers[i]);
	for (unsigned i = 0; i < PGT_NELEMS(answers); i++) {
		struct addr addr;

		UNTIL(&rig, answers[i].n == 1);
		addr_set(&addr, (struct sockaddr *)&answers[i].found.addrs[0]);
		assert_int_equal(addr.port, i + 1);
		n += answers[i].n;
	}
	assert_int_equal(n, PGT_NELEMS(answers));
}

static void test_cancelled_is_not_called(void **state)
{
	struct answer cancelled = { 0 };
	struct answer after = { 0 };
	struct resolve_query *q =
	    resolve_start(resolver, &box, "localhost", 5432, on_found, &cancelled);

	resolve_cancel(q);
	resolve_start(resolver, &box, "localhost", 5432, on_found, &after);
	UNTIL(&rig, after.n);
	assert_int_equal(cancelled.n, 0);
}

static void test_free_drops_what_is_asked(void **state)
{
	/* teardown() frees the resolver with lookups on their way, and answers on theirs. */
	static struct answer answer;

	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "n%d.invalid", i);
		resolve_start(resolver, &box, name, 5432, on_found, &answer);
	}
}

/* More than are remembered. */
#define MANY 40

/* Told in turn. */
struct cycle {
	unsigned n;
	const char *addresses[MANY];
};

static const struct cycle *_Atomic moving;
static _Atomic unsigned nlookups; /* of MOVING */

/* In place of the C library's. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		struct addrinfo **out)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
	    (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
		RTLD_NEXT, "getaddrinfo");
	const struct cycle *cycle = moving;
	struct addrinfo numeric = *hints;
	const char *address;

	if (strcmp(host, MOVING) != 0 || hints->ai_flags & AI_NUMERICHOST)
		return next(host, service, hints, out);
	address = cycle->addresses[nlookups++ % cycle->n];
	numeric.ai_flags = AI_NUMERICHOST;
	return address ? next(address, service, &numeric, out) : EAI_AGAIN;
}

static struct addr addr_of(const char *ipv4)
{
	struct addr addr = { .family = AF_INET };

	inet_pton(AF_INET, ipv4, addr.ip);
	return addr;
}

static bool leads_to(const char *ipv4)
{
	const struct addr addr = addr_of(ipv4);

	return resolve_leads_to(resolver, MOVING, &addr);
}

static const struct cycle both = {
	2, {"192.0.2.1", "192.0.2.2"}
};
static const struct cycle second = { 1, { "192.0.2.2" } };
static const struct cycle nowhere = { 1, { NULL } };

/* Looks it up as one that connects does. */
static void ask_for_moving(void)
{
	struct answer answer = { 0 };

	resolve_start(resolver, &box, MOVING, 5432, on_found, &answer);
	UNTIL(&rig, answer.n);
}

/* Its edition, when it has been looked up. */
static unsigned look_up_moving(usec_t max_ttl)
{
	nlookups = 0;
	moving = &both;
	resolver_set_ttls(resolver, max_ttl, 3600 * USEC_PER_SEC);
	ask_for_moving();
	return resolve_follow(resolver, MOVING);
}

static void test_a_name_that_tells_one_of_two_each_time_has_both(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);

	while (nlookups < 12) {
		assert_int_equal(resolve_follow(resolver, MOVING), edition);
		assert_true(leads_to(both.addresses[0]));
		rig_turn(&rig);
	}
	assert_true(leads_to(both.addresses[1]));
}

static void test_a_name_that_moves_leaves_its_address(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);

	moving = &second;
	assert_true(leads_to(both.addresses[0]));
	UNTIL(&rig, resolve_follow(resolver, MOVING) != edition);
	assert_false(leads_to(both.addresses[0]));
	assert_true(leads_to(both.addresses[1]));
}

static const struct cycle *make_many(void)
{
	static char texts[MANY][16];
	static struct cycle many = { .n = MANY };

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(texts[i], sizeof(texts[i]), "192.0.2.%u", i + 1);
		many.addresses[i] = texts[i];
	}
	return &many;
}

static void test_a_name_that_tells_one_of_many_each_time_has_all(void **state)
{
	const struct cycle *many = make_many();
	unsigned edition;

	nlookups = 0;
	moving = many;
	ask_for_moving();
	edition = resolve_follow(resolver, MOVING);
	for (unsigned k = 0; k < 2 * MANY; k++) {
		ask_for_moving();
		for (unsigned i = 0; i < MANY; i++)
			assert_true(k + 1 < i || leads_to(many->addresses[i]));
	}
	assert_int_equal(resolve_follow(resolver, MOVING), edition);
}

static unsigned count_led_to(const struct cycle *many)
{
	unsigned n = 0;

	for (unsigned i = 0; i < many->n; i++)
		n += leads_to(many->addresses[i]);
	return n;
}

static void test_a_name_of_many_that_moves_keeps_the_one_it_tells(void **state)
{
	static struct cycle last = { .n = 1 };
	const struct cycle *many = make_many();
	unsigned edition;

	nlookups = 0;
	moving = many;
	for (unsigned k = 0; k < MANY; k++)
		ask_for_moving();
	edition = resolve_follow(resolver, MOVING);
	*last.addresses = many->addresses[MANY - 1];
	moving = &last;
	resolver_set_ttls(resolver, USEC_PER_SEC / 10, 3600 * USEC_PER_SEC);
	ask_for_moving();
	while (count_led_to(many) > 1) {
		resolve_follow(resolver, MOVING);
		assert_true(leads_to(*last.addresses));
		rig_turn(&rig);
	}
	assert_true(leads_to(*last.addresses));
	assert_int_not_equal(resolve_follow(resolver, MOVING), edition);
}

/* Nobody has asked, so who connects next asks for itself. */
static void test_a_failure_of_what_is_followed_is_not_kept(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);
	struct resolved found;

	moving = &nowhere;
	UNTIL(&rig, resolve_follow(resolver, MOVING) && nlookups >= 2);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(!resolve_now(resolver, MOVING, 5432, &found) || found.n);
		rig_turn(&rig);
	}
	assert_int_equal(resolve_follow(resolver, MOVING), edition);
	assert_true(leads_to(both.addresses[0]));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_addresses_at_once),
		TEST(test_unix_sockets_at_once),
		TEST(test_name_is_found_and_kept),
		TEST(test_nothing_is_kept_with_a_ttl_of_zero),
		TEST(test_failure_is_told_and_kept),
		TEST(test_many_askers_of_one_name),
		TEST(test_cancelled_is_not_called),
		TEST(test_free_drops_what_is_asked),
		TEST(test_a_name_that_tells_one_of_two_each_time_has_both),
		TEST(test_a_name_that_moves_leaves_its_address),
		TEST(test_a_name_that_tells_one_of_many_each_time_has_all),
		TEST(test_a_name_of_many_that_moves_keeps_the_one_it_tells),
		TEST(test_a_failure_of_what_is_followed_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
