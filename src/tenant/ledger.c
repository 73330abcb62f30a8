/* SPDX-License-Identifier: ISC
 *
 * ledger.c - the text that quotas are kept in.
 *
 *     pgturnstile quotas 1
 *     490000 17 489984 230 acme
 *     end 0123456789abcdef
 *
 * A line for each tenant: the hour since 1970 in which its hour began, what was used in it, the
 * same of its day, and its name, in which what is not a plain character is written as %XX.  The
 * last line is a check of all before it: a file that was cut or changed is not believed.
 */
#include "tenant/ledger.h"

#include "tenant/shared.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_LEN 1024

static const char head[] = "pgturnstile quotas 1\n";

/* FNV-1a, because base/hash.h's keys are drawn anew at each start. */
static uint64_t check_of(struct slice text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < text.n; i++)
		h = (h ^ (uint8_t)text.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

/* Whether it stands in a name as it is. */
static bool is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '%';
}

static void put_name(struct buf *out, const char *name)
{
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (is_plain(c))
			buf_put_u8(out, c);
		else
			buf_printf(out, "%%%02x", c);
	}
}

struct putting {
	struct buf *out;
	usec_t wall;
};

static void put_tenant(void *arg, struct shared *s)
{
	struct putting *p = arg;
	uint64_t hour = limit_quota_used(&s->limit, LIMIT_PER_HOUR, p->wall);
	uint64_t day = limit_quota_used(&s->limit, LIMIT_PER_DAY, p->wall);

	if (!hour && !day)
		return;
	buf_printf(p->out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
		   limit_period_begin(LIMIT_PER_HOUR, p->wall), hour,
		   limit_period_begin(LIMIT_PER_DAY, p->wall), day);
	put_name(p->out, s->name);
	buf_put_u8(p->out, '\n');
}

void ledger_put(struct buf *out, usec_t wall)
{
	struct putting p = { out, wall };
	size_t before = buf_len(out);

	buf_put(out, head, sizeof(head) - 1);
	shared_visit(SHARED_TENANT, put_tenant, &p);
	buf_printf(out, "end %016" PRIx64 "\n",
		   check_of(slice_of(buf_head(out) + before, buf_len(out) - before)));
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* The line at the front of the text, without its end. */
static bool next_line(struct slice *text, struct slice *line)
{
	const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;

	if (!end)
		return false;
	*line = slice_of(text->p, (size_t)(end - text->p));
	*text = slice_of(end + 1, text->n - line->n - 1);
	return true;
}

static bool take_number(struct slice *line, uint64_t *out)
{
	uint64_t v = 0;
	size_t n = 0;

	for (; n < line->n && isdigit((unsigned char)line->p[n]); n++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(line->p[n] - '0'), &v))
			return false;
	if (!n || n == line->n || line->p[n] != ' ')
		return false;
	*line = slice_of(line->p + n + 1, line->n - n - 1);
	*out = v;
	return true;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_name(struct slice line, struct buf *name)
{
	if (!line.n || line.n > 3 * NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < line.n; i++) {
		int high, low;

		if (is_plain((unsigned char)line.p[i])) {
			buf_put_u8(name, (uint8_t)line.p[i]);
			continue;
		}
		if (line.p[i] != '%')
			return false;
		high = i + 2 < line.n ? hex_digit(line.p[i + 1]) : -1;
		low = high >= 0 ? hex_digit(line.p[i + 2]) : -1;
		if (low < 0 || (high == 0 && low == 0))
			return false;
		buf_put_u8(name, (uint8_t)(high << 4 | low));
		i += 2;
	}
	return true;
}

/* A clock that was ahead has counted in a period that has not come: that is not known. */
static void restore(struct shared *s, enum limit_period period, uint64_t begin, uint64_t used,
		    usec_t wall)
{
	if (begin == limit_period_begin(period, wall))
		limit_restore(&s->limit, period, begin,
			      used + limit_quota_used(&s->limit, period, wall));
}

/* apply: not only to see whether it can be read. */
static bool take_line(struct slice line, usec_t wall, bool apply)
{
	uint64_t hour_begin, hour, day_begin, day;
	struct buf name = { 0 };
	struct shared *s;
	bool ok = take_number(&line, &hour_begin) && take_number(&line, &hour) &&
		  take_number(&line, &day_begin) && take_number(&line, &day) &&
		  take_name(line, &name);

	if (ok && apply) {
		s = shared_get(SHARED_TENANT, buf_peek(&name));
		s->is_known = true;
		restore(s, LIMIT_PER_HOUR, hour_begin, hour, wall);
		restore(s, LIMIT_PER_DAY, day_begin, day, wall);
		shared_put(s);
	}
	buf_fini(&name);
	return ok;
}

/* The lines of tenants.  False: line *n is wrong. */
static bool take_lines(struct slice body, usec_t wall, bool apply, unsigned *n)
{
	struct slice line;

	for (*n = 2; next_line(&body, &line); ++*n)
		if (!take_line(line, wall, apply))
			return false;
	return true;
}

bool ledger_take(struct slice text, usec_t wall, struct err *e)
{
	const size_t head_len = sizeof(head) - 1, tail_len = sizeof("end 0123456789abcdef\n") - 1;
	char tail[sizeof("end 0123456789abcdef\n")];
	struct slice all, body;
	unsigned n;

	if (text.n < head_len + tail_len || memcmp(text.p, head, head_len) != 0)
		return err_set(e, "XX001", "it does not begin as such a file does");
	all = slice_of(text.p, text.n - tail_len);
	snprintf(tail, sizeof(tail), "end %016" PRIx64 "\n", check_of(all));
	if (memcmp(text.p + all.n, tail, tail_len) != 0)
		return err_set(e, "XX001", "its check does not fit: it was cut or changed");
	body = slice_of(all.p + head_len, all.n - head_len);
	if (!take_lines(body, wall, false, &n))
		return err_set(e, "XX001", "line %u makes no sense", n);
	take_lines(body, wall, true, &n);
	return true;
}
