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

static const char *const *_Atomic moving; /* two addresses, in turn */
static _Atomic unsigned nlookups;         /* of MOVING */

/* In place of the C library's. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		struct addrinfo **out)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
	    (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
		RTLD_NEXT, "getaddrinfo");
	struct addrinfo numeric = *hints;
	const char *address;

	if (strcmp(host, MOVING) != 0 || hints->ai_flags & AI_NUMERICHOST)
		return next(host, service, hints, out);
	address = moving[nlookups++ % 2];
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

static const char *const in_turn[] = { "192.0.2.1", "192.0.2.2" };
static const char *const second[] = { "192.0.2.2", "192.0.2.2" };
static const char *const nowhere[] = { NULL, NULL };

/* Looks it up as one that connects does, and returns its edition. */
static unsigned look_up_moving(usec_t max_ttl)
{
	struct answer answer = { 0 };

	nlookups = 0;
	moving = in_turn;
	resolver_set_ttls(resolver, max_ttl, 3600 * USEC_PER_SEC);
	resolve_start(resolver, &box, MOVING, 5432, on_found, &answer);
	UNTIL(&rig, answer.n);
	return resolve_follow(resolver, MOVING);
}

static void test_a_name_that_tells_one_of_two_each_time_has_both(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);

	while (nlookups < 12) {
		assert_int_equal(resolve_follow(resolver, MOVING), edition);
		assert_true(leads_to(in_turn[0]));
		rig_turn(&rig);
	}
	assert_true(leads_to(in_turn[1]));
}

static void test_a_name_that_moves_leaves_its_address(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);

	moving = second;
	assert_true(leads_to(in_turn[0]));
	UNTIL(&rig, resolve_follow(resolver, MOVING) != edition);
	assert_false(leads_to(in_turn[0]));
	assert_true(leads_to(in_turn[1]));
}

/* Nobody has asked, so who connects next asks for itself. */
static void test_a_failure_of_what_is_followed_is_not_kept(void **state)
{
	unsigned edition = look_up_moving(USEC_PER_SEC / 10);
	struct resolved found;

	moving = nowhere;
	UNTIL(&rig, resolve_follow(resolver, MOVING) && nlookups >= 2);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(!resolve_now(resolver, MOVING, 5432, &found) || found.n);
		rig_turn(&rig);
	}
	assert_int_equal(resolve_follow(resolver, MOVING), edition);
	assert_true(leads_to(in_turn[0]));
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
		TEST(test_a_failure_of_what_is_followed_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
