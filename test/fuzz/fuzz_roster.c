/* SPDX-License-Identifier: ISC
 *
 * fuzz_roster.c - any answer to tenant_query: names of columns, then rows of values.
 *
 * Words end with a zero byte; the first byte says how many columns there are, and a word of 0x01
 * stands for NULL.  The first row is looked up singly behind the others.  What was taken is found
 * by its name and by its id.
 */
#include "config/roster.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char ini[] = "[pgturnstile]\nauth_type = trust\ntenant_by = user\n"
			  "tenant_query = SELECT 1\nmonitor_user = m\n"
			  "[databases]\nshop = host=127.0.0.1\n"
			  "[tiers]\nbasic = weight=1\n"
			  "[tenants]\nacme = tier=basic business_id=42\n";

/* The same after a reload: without that tier, and with a tenant more. */
static const char ini_of_later[] = "[pgturnstile]\nauth_type = trust\ntenant_by = user\n"
				   "tenant_query = SELECT 1\nmonitor_user = m\n"
				   "[databases]\nshop = host=127.0.0.1\n"
				   "[tiers]\nother = weight=1\n"
				   "[tenants]\na = tier=other business_id=43\n";

static bool read_file(void *arg, const char *path PGT_UNUSED, bool is_secret PGT_UNUSED,
		      struct buf *text, struct err *e PGT_UNUSED)
{
	buf_put_slice(text, slice_str(arg));
	return true;
}

static const struct config *config_of(const char *text)
{
	struct config_problems problems = { 0 };
	struct config *config = config_load("ini", read_file, (void *)text, &problems);

	PGT_ASSERT(config);
	return config;
}

static const struct config *the_config(void)
{
	static const struct config *config;

	return config ? config : (config = config_of(ini));
}

static const struct config *the_later_config(void)
{
	static const struct config *config;

	return config ? config : (config = config_of(ini_of_later));
}

static bool take_word(struct slice *rest, struct slice *word)
{
	const char *end = rest->n ? memchr(rest->p, '\0', rest->n) : NULL;

	if (!end)
		return false;
	*word = slice_of(rest->p, (size_t)(end - rest->p));
	*rest = slice_of(end + 1, rest->n - word->n - 1);
	if (slice_is_equal(*word, SLICE("\x01")))
		*word = slice_of(NULL, 0);
	return true;
}

static bool take_words(struct slice *rest, struct slice *words, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!take_word(rest, &words[i]))
			return false;
	return true;
}

static void check_found(const struct roster *r)
{
	for (size_t i = 0; i < roster_count(r); i++) {
		const struct tenant_conf *t = roster_at(r, i);

		PGT_ASSERT(roster_by_name(r, slice_str(t->name)) == t);
		PGT_ASSERT(roster_by_business_id(r, slice_str(t->business_id)) == t);
	}
}

static void read_rows(struct slice rest, unsigned n)
{
	struct slice words[ROSTER_MAX_COLUMNS], last[ROSTER_MAX_COLUMNS];
	struct roster_columns columns;
	struct roster *r, *copy, *later;
	struct err e = { 0 };

	if (!take_words(&rest, words, n) || !roster_read_columns(&columns, words, n, &e))
		return;
	r = roster_new();
	/* The first row comes singly later on. */
	if (!take_words(&rest, last, n)) {
		roster_unref(r);
		return;
	}
	while (take_words(&rest, words, n)) {
		e.text[0] = '\0';
		if (roster_take(r, the_config(), &columns, words, &e) == ROSTER_REFUSED)
			PGT_ASSERT(*e.text);
	}
	check_found(r);
	copy = roster_copy(r, the_config());
	PGT_ASSERT(roster_is_equal(r, copy));
	roster_unref(roster_ref(copy));
	roster_publish(copy);
	if (roster_take(copy, the_config(), &columns, last, &e) == ROSTER_TAKEN)
		PGT_ASSERT(roster_singles(copy) == 1 && !roster_is_equal(r, copy));
	PGT_ASSERT(roster_is_equal(copy, copy) == !roster_singles(copy));
	check_found(copy);
	later = roster_copy(r, the_later_config());
	check_found(later);
	PGT_ASSERT(roster_count(later) <= roster_count(r));
	PGT_ASSERT(!roster_is_equal(r, later) || roster_count(later) == roster_count(r));
	roster_unref(copy);
	roster_unref(later);
	roster_unref(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy;

	if (size == 0)
		return 0;
	/* A block of exactly its size, so that ASan sees a read past its end. */
	copy = xmalloc(size);
	memcpy(copy, data, size);
	read_rows(slice_of(copy + 1, size - 1), data[0] % 6 + 1);
	free(copy);
	return 0;
}
