/* SPDX-License-Identifier: ISC
 *
 * test_addr.c - addresses: what is kept of them, how they read, and which are one peer to limits.
 */
#include "net/addr.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* As the kernel gives it; "unix": of a Unix socket. */
static struct addr addr_of(const char *text, uint16_t port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} sa = { .any = { .sa_family = AF_UNIX } };
	struct addr addr;

	if (strchr(text, ':')) {
		sa.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
		assert_int_equal(inet_pton(AF_INET6, text, &sa.in6.sin6_addr), 1);
	} else if (strcmp(text, "unix") != 0) {
		sa.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		assert_int_equal(inet_pton(AF_INET, text, &sa.in.sin_addr), 1);
	}
	memset(&addr, 0xff, sizeof(addr));
	addr_set(&addr, &sa.any);
	return addr;
}

static void test_what_is_kept_reads_as_it_came(void **state)
{
	static const struct {
		const char *text;
		sa_family_t family;
		uint16_t port;
	} rows[] = {
		{"127.0.0.1",        AF_INET,  5432 },
                { "255.255.255.255", AF_INET,  65535},
		{ "0.0.0.0",         AF_INET,  0    },
                { "::1",             AF_INET6, 6432 },
		{ "2001:db8::ff",    AF_INET6, 1    },
                { "::ffff:10.0.0.1", AF_INET6, 5432 },
		{ "unix",            AF_UNIX,  0    },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct addr addr = addr_of(rows[i].text, rows[i].port);
		char text[INET6_ADDRSTRLEN];

		addr_text(&addr, text);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(addr.family, rows[i].family);
		assert_int_equal(addr.port, rows[i].port);
	}
}

static uint64_t origin_of(const char *text)
{
	struct addr addr = addr_of(text, 0);

	return addr_origin(&addr);
}

static void test_what_is_one_peer_to_limits(void **state)
{
	static const struct {
		const char *one, *other;
		bool is_same;
	} pairs[] = {
		{"10.0.0.1",        "10.0.0.1",           true },
		{ "10.0.0.1",       "10.0.0.2",           false},
		{ "10.0.0.1",       "::ffff:10.0.0.1",    true },
		{ "::ffff:1.2.3.4", "::ffff:1.2.3.5",     false},
		{ "2001:db8::1",    "2001:db8::ffff:1:2", true },
		{ "2001:db8::1",    "2001:db8:0:1::1",    false},
		{ "::1",            "127.0.0.1",          false},
		{ "unix",           "unix",               true },
		{ "unix",           "::1",                false},
		{ "unix",           "255.255.255.255",    false},
	};

	for (size_t i = 0; i < PGT_NELEMS(pairs); i++)
		assert_int_equal(origin_of(pairs[i].one) == origin_of(pairs[i].other),
				 pairs[i].is_same);
}

static void test_an_origin_reads_as_what_shares_it(void **state)
{
	static const struct {
		const char *from, *text;
	} rows[] = {
		{"127.0.0.1",        "127.0.0.1"        },
		{ "255.255.255.255", "255.255.255.255"  },
		{ "::ffff:10.0.0.1", "10.0.0.1"         },
		{ "2001:db8::1",     "2001:db8::/64"    },
		{ "2001:db8:a:b::1", "2001:db8:a:b::/64"},
		{ "::1",             "::/64"            },
		{ "unix",            "unix"             },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		char text[ADDR_ORIGIN_TEXT_MAX];

		addr_origin_text(origin_of(rows[i].from), text);
		assert_string_equal(text, rows[i].text);
	}
}

/* A socket's file is told with the byte that ends it, a name of the abstract namespace without:
 * there it would be a part of the name. */
static void test_unix_sockets_of_a_port(void **state)
{
	struct sockaddr_un un;
	struct err e;
	socklen_t len;

	assert_true(addr_unix_of_port("/run", 5432, &un, &len, &e));
	assert_int_equal(un.sun_family, AF_UNIX);
	assert_string_equal(un.sun_path, "/run/.s.PGSQL.5432");
	assert_int_equal(len,
			 offsetof(struct sockaddr_un, sun_path) + sizeof("/run/.s.PGSQL.5432"));

	assert_true(addr_unix_of_port("@run", 1, &un, &len, &e));
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + strlen("@run/.s.PGSQL.1"));
	assert_memory_equal(un.sun_path, "\0run/.s.PGSQL.1", strlen("@run/.s.PGSQL.1"));
}

static void test_unix_sockets_whose_path_is_too_long(void **state)
{
	const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	struct sockaddr_un un;
	struct err e;
	socklen_t len;
	size_t fits = room - sizeof("/.s.PGSQL.5432");

	memset(path, 'd', sizeof(path));
	path[fits] = '\0';
	assert_true(addr_unix_of_port(path, 5432, &un, &len, &e));
	assert_int_equal(len, sizeof(un));
	assert_false(addr_unix_of_port(path, 15432, &un, &len, &e));
	assert_string_equal(e.sqlstate, "F0000");

	path[fits] = 'd';
	path[room - 1] = '\0';
	assert_true(addr_unix_of_path(&un, path, &e));
	assert_string_equal(un.sun_path, path);
	path[room - 1] = 'd';
	path[room] = '\0';
	assert_false(addr_unix_of_path(&un, path, &e));
	assert_string_equal(e.sqlstate, "F0000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_kept_reads_as_it_came),
		cmocka_unit_test(test_what_is_one_peer_to_limits),
		cmocka_unit_test(test_an_origin_reads_as_what_shares_it),
		cmocka_unit_test(test_unix_sockets_of_a_port),
		cmocka_unit_test(test_unix_sockets_whose_path_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
