/* SPDX-License-Identifier: ISC
 *
 * fuzz_ledger.c - any bytes as the text that quotas are kept in, as a file has it and as the
 * process before this sends it.
 *
 * An odd first byte: the rest is a text as it is; an even one: it is what stands between the head
 * and the check, which are right.  What was taken can be written, and taken again.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "tenant/ledger.h"
#include "tenant/shared.h"
#include "wire/read.h"

#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 490000 hours. */
#define WALL (INT64_C(490000) * 3600 * USEC_PER_SEC)

static const char head[] = "pgturnstile quotas 1\n";

/* As the check at the end of such a text is made: FNV-1a. */
static uint64_t check_of(const struct buf *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < buf_len(text); i++)
		h = (h ^ (uint8_t)buf_head(text)[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Who has used something is not lost. */
static void take_again(void)
{
	struct buf text = { 0 };
	struct err e;

	ledger_put(&text, WALL);
	PGT_ASSERT(ledger_take(buf_peek(&text), WALL, &e));
	buf_fini(&text);
}

static void forget(void *arg, struct shared *s)
{
	s->limit = (struct limit_state){ 0 };
	if (s->is_known)
		buf_put_cstr(arg, s->name);
	s->is_known = false;
}

/* As in a new process; a record that nobody knows and nobody holds is freed one day. */
static void forget_all(void)
{
	struct buf names = { 0 };
	struct reader r;

	shared_visit(SHARED_TENANT, forget, &names);
	r = reader_of(buf_peek(&names));
	while (read_left(&r))
		shared_put(shared_get(SHARED_TENANT, read_cstr(&r)));
	buf_fini(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf text = { 0 };
	struct err e = { 0 };

	if (size == 0)
		return 0;
	if (data[0] % 2 == 0)
		buf_put(&text, head, sizeof(head) - 1);
	buf_put(&text, data + 1, size - 1);
	if (data[0] % 2 == 0)
		buf_printf(&text, "end %016" PRIx64 "\n", check_of(&text));
	if (ledger_take(buf_peek(&text), WALL, &e))
		take_again();
	else
		PGT_ASSERT(*e.text);
	buf_fini(&text);
	forget_all();
	return 0;
}
