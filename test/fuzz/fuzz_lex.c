/* SPDX-License-Identifier: ISC
 *
 * fuzz_lex.c - any text: tokens lie in it one behind another, and values stay in their buffer.
 *
 * The first byte says under which settings.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "sql/lex.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A value is no longer than what it is written as, and the same wherever there is room for it. */
static void check_value(const struct lex_token *t)
{
	char *whole = xmalloc(t->inner.n + 1), *half = xmalloc(t->inner.n / 2 + 1);
	size_t n, again;

	if (lex_decode(t, half, t->inner.n / 2, &n)) {
		PGT_ASSERT(n <= t->inner.n / 2 && lex_decode(t, whole, t->inner.n, &again));
		PGT_ASSERT(n == again && !memcmp(half, whole, n));
	} else if (lex_decode(t, whole, t->inner.n, &n)) {
		PGT_ASSERT(n <= t->inner.n && n > t->inner.n / 2);
	}
	PGT_ASSERT(lex_param_number(t) == 0 || t->kind == LEX_PARAM);
	free(whole);
	free(half);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lex_env env = { .ascii_safe = true };
	const char *last;
	struct lex l;
	struct lex_token t;
	char *text;

	if (size == 0)
		return 0;
	env.standard_strings = data[0] & 1;
	/* A block of exactly its size, so that ASan sees a read past its end. */
	text = xmalloc(size - 1);
	memcpy(text, data + 1, size - 1);
	last = text;
	lex_init(&l, slice_of(text, size - 1), &env);
	while (lex_next(&l, &t)) {
		PGT_ASSERT(t.text.p >= last && t.text.n > 0);
		PGT_ASSERT(t.inner.p >= t.text.p);
		PGT_ASSERT(t.inner.p + t.inner.n <= t.text.p + t.text.n);
		last = t.text.p + t.text.n;
		PGT_ASSERT(last <= text + size - 1);
		check_value(&t);
	}
	free(text);
	return 0;
}
