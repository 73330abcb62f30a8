/* SPDX-License-Identifier: ISC
 *
 * fuzz_startup.c - any first packet: what is taken lies within it, options survive quoting.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "wire/startup.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What options_put() writes, options_next() reads back. */
static void check_round_trip(const struct buf *name, const struct buf *value)
{
	struct buf text = { 0 }, name2 = { 0 }, value2 = { 0 };
	char *n = xmemdup0(buf_head(name), buf_len(name)),
	     *v = xmemdup0(buf_head(value), buf_len(value));
	struct slice at;
	struct err e;

	options_put(&text, n, v);
	options_put(&text, n, v);
	at = buf_peek(&text);
	for (int i = 0; i < 2; i++) {
		PGT_ASSERT(options_next(&at, &name2, &value2, &e) == STEP_DONE);
		PGT_ASSERT(slice_is_equal(buf_peek(&name2), buf_peek(name)));
		PGT_ASSERT(slice_is_equal(buf_peek(&value2), buf_peek(value)));
	}
	buf_fini(&text);
	buf_fini(&name2);
	buf_fini(&value2);
	free(n);
	free(v);
}

static void check_options(struct slice text)
{
	struct buf name = { 0 }, value = { 0 };
	struct err e;

	while (options_next(&text, &name, &value, &e) == STEP_DONE)
		check_round_trip(&name, &value);
	buf_fini(&name);
	buf_fini(&value);
}

static void check_session(const struct startup *s)
{
	struct slice at = s->params, name, value;
	struct buf out = { 0 };

	while (startup_next_param(&at, &name, &value)) {
		enum replication replication;

		if (!replication_parse(value, &replication))
			PGT_ASSERT(replication == REPLICATION_NONE);
		check_options(value);
	}
	startup_negotiate(s, &out);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A block of exactly its size, so that ASan sees a read past its end. */
	char *copy = xmalloc(size ? size : 1);
	struct startup s;
	struct err e;

	memcpy(copy, data, size);
	if (startup_parse(copy, size, &s, &e) == STEP_DONE) {
		PGT_ASSERT(s.len <= size && s.len <= STARTUP_MAX_LEN);
		if (s.kind == STARTUP_SESSION)
			check_session(&s);
		else if (s.kind == STARTUP_CANCEL)
			PGT_ASSERT(s.cancel_key.n >= 4 && s.cancel_key.n <= CANCEL_KEY_MAX);
	}
	free(copy);
	return 0;
}
