/* SPDX-License-Identifier: ISC
 *
 * test_networks.c - lists of networks: which make sense, and who comes from one.
 */
#include "auth/networks.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* 10.0.0.1 is ours, 10.0.0.* our network. */
static bool is_near(bool is_ipv6, const uint8_t *ip, bool whole_net)
{
	static const uint8_t own[] = { 10, 0, 0, 1 };

	return !is_ipv6 && !memcmp(ip, own, whole_net ? 3 : 4);
}

/* "": a Unix socket. */
static struct net_origin coming(const char *from)
{
	struct net_origin who = { .is_local = !*from,
				  .is_ipv6 = strchr(from, ':') != NULL,
				  .is_near = is_near };

	if (*from)
		assert_int_equal(inet_pton(who.is_ipv6 ? AF_INET6 : AF_INET, from, who.ip), 1);
	return who;
}

static void test_who_comes_from_where(void **state)
{
	static const struct {
		const char *list, *from;
		bool has;
	} rows[] = {
		{"10.0.0.0/8",                   "10.255.0.1",       true },
		{ "10.0.0.0/8",                  "11.0.0.1",         false},
		{ "10.0.0.0/8",                  "::ffff:10.1.2.3",  true },
		{ "10.0.0.0/8",                  "::1",              false},
		{ "10.0.0.0/8",                  "",                 false},
		{ "192.0.2.7",                   "192.0.2.7",        true },
		{ "192.0.2.7",                   "192.0.2.8",        false},
		{ "192.0.2.7/31",                "192.0.2.6",        true },
		{ "0.0.0.0/0",                   "203.0.113.9",      true },
		{ "0.0.0.0/0",                   "2001:db8::1",      false},
		{ "::/0",                        "203.0.113.9",      false},
		{ "2001:db8::/33",               "2001:db8:7fff::1", true },
		{ "2001:db8::/33",               "2001:db8:8000::1", false},
		{ "::1",			 "::1",              true },
		{ "::1",			 "::2",              false},
		{ "samehost",                    "10.0.0.1",         true },
		{ "samehost",                    "10.0.0.2",         false},
		{ "samenet",                     "10.0.0.2",         true },
		{ "samenet",                     "",                 false},
		{ "all",			 "203.0.113.9",      true },
		{ "all",			 "",                 true },
		{ "local",                       "",                 true },
		{ "local",                       "127.0.0.1",        false},
		{ "",			    "127.0.0.1",        false},
		{ " ,, ",                        "127.0.0.1",        false},
		{ "192.0.2.7,10.0.0.0/8, local", "10.1.1.1",         true },
		{ "192.0.2.7,10.0.0.0/8\tlocal", "",                 true },
		{ "192.0.2.7,10.0.0.0/8, local", "192.0.2.8",        false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct net_origin who = coming(rows[i].from);
		struct err e;

		assert_true(networks_check(rows[i].list, &e));
		if (networks_have(rows[i].list, &who) != rows[i].has)
			fail_msg("%s of \"%s\"", rows[i].from, rows[i].list);
	}
}

static void test_what_makes_no_sense(void **state)
{
	static const struct {
		const char *list, *why;
	} rows[] = {
		{"10.0.0.0/33",
                 "\"10.0.0.0/33\": behind the address stands no number of bits that it has"                 },
		{ "10.0.0.0/",
                 "\"10.0.0.0/\": behind the address stands no number of bits that it has"                   },
		{ "10.0.0.0/-1",
                 "\"10.0.0.0/-1\": behind the address stands no number of bits that it has"                 },
		{ "::1/129",
                 "\"::1/129\": behind the address stands no number of bits that it has"                     },
		{ "10.0.0",						  "\"10.0.0\": not an address"   },
		{ "10.0.0.0/8, 300.1.1.1",                                   "\"300.1.1.1\": not an address"},
		{ "db.example.com",
                 "\"db.example.com\": names of hosts are not supported, write addresses"                    },
		{ "10.0.0.0 255.0.0.0/8/9",
                 "\"255.0.0.0/8/9\": behind the address stands no number of bits that it has"               },
		{ "1111111111111111111111111111111111111111111111111111111",
                 "\"1111111111111111111111111111111111111111111111111111111\": not an address"              },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct err e;

		assert_false(networks_check(rows[i].list, &e));
		assert_string_equal(e.text, rows[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_comes_from_where),
		cmocka_unit_test(test_what_makes_no_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
