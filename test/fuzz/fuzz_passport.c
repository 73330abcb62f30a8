/* SPDX-License-Identifier: ISC
 *
 * fuzz_passport.c - any bytes as what a session, or a server, takes along: refused, or the same
 * again when they are written anew.
 */
#include "base/assert.h"
#include "wire/passport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t walk(const struct passport *p)
{
	struct slice pairs = p->wanted, statements = p->statements;
	struct passport_statement st;
	const char *name, *value;
	size_t n = strlen(p->database) + strlen(p->user) + strlen(p->password);

	while (pairs.n) {
		PGT_ASSERT(passport_next_pair(&pairs, &name, &value));
		n += strlen(name) + strlen(value);
	}
	while (statements.n) {
		PGT_ASSERT(passport_next_statement(&statements, &st));
		n += strlen(st.name) + strlen(st.body.p);
	}
	return n;
}

static void try_session(const uint8_t *data, size_t size)
{
	struct buf bytes = { 0 }, again = { 0 }, third = { 0 };
	struct passport p, q, nothing = { 0 };
	struct err e;

	/* A field that nobody has given is none. */
	passport_put(&again, &nothing);
	PGT_ASSERT(!buf_len(&again));

	buf_put(&bytes, data, size);
	if (passport_take(&p, &bytes, &e)) {
		size_t n = walk(&p);

		passport_put(&again, &p);
		PGT_ASSERT(buf_len(&again) <= size);
		PGT_ASSERT(passport_take(&q, &again, &e) && walk(&q) == n);
		passport_put(&third, &q);
		PGT_ASSERT(slice_is_equal(buf_peek(&third), buf_peek(&q.bytes)));
		passport_fini(&q);
	}
	passport_fini(&p);
	buf_fini(&again);
	buf_fini(&third);
}

static size_t walk_server(const struct server_passport *p)
{
	struct slice pairs = p->params;
	const char *name, *value;
	size_t n = strlen(p->database) + strlen(p->user) + strlen(p->host) + p->secret.n;

	while (pairs.n) {
		PGT_ASSERT(passport_next_pair(&pairs, &name, &value));
		n += strlen(name) + strlen(value);
	}
	return n;
}

static void try_server(const uint8_t *data, size_t size)
{
	struct buf bytes = { 0 }, again = { 0 }, third = { 0 };
	struct server_passport p, q, nothing = { 0 };
	struct err e;

	server_passport_put(&again, &nothing);
	PGT_ASSERT(!buf_len(&again));

	buf_put(&bytes, data, size);
	if (server_passport_take(&p, &bytes, &e)) {
		size_t n = walk_server(&p);

		server_passport_put(&again, &p);
		PGT_ASSERT(buf_len(&again) <= size);
		PGT_ASSERT(server_passport_take(&q, &again, &e) && walk_server(&q) == n);
		server_passport_put(&third, &q);
		PGT_ASSERT(slice_is_equal(buf_peek(&third), buf_peek(&q.bytes)));
		server_passport_fini(&q);
	}
	server_passport_fini(&p);
	buf_fini(&again);
	buf_fini(&third);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_session(data, size);
	try_server(data, size);
	return 0;
}
