/* SPDX-License-Identifier: ISC
 *
 * table.c - rows of a SHOW, their merging and their form on the wire.
 *
 * Knows columns, not what they are about.
 */
#include "admin/table.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "stats/histogram.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Object ids of pg_type.dat, which never change, and the lengths that go with them. */
static const struct {
	const char *name;
	uint32_t oid;
	uint16_t len;
	bool is_text;
} types[] = {
	[COLUMN_TEXT] = {"text",     25,   0xffff, true },
	[COLUMN_INT] = { "int4",    23,   4,      false},
	[COLUMN_BIGINT] = { "int8",    20,   8,      false},
	[COLUMN_NUMERIC] = { "numeric", 1700, 0xffff, false},
	[COLUMN_TIME] = { "text",    25,   0xffff, false},
	[COLUMN_BYTES] = { "bytea",   17,   0xffff, true },
};

const char *column_type_name(enum column_type type)
{
	return types[type].name;
}

static int64_t *cell(const struct table *t, unsigned row, unsigned column)
{
	PGT_ASSERT(row < t->nrows && column < t->layout->n);
	return &t->cells[(size_t)row * t->layout->n + column];
}

static bool is_text(const struct table *t, unsigned column)
{
	return types[t->layout->columns[column].type].is_text;
}

void table_init(struct table *t, const struct layout *layout)
{
	*t = (struct table){ .layout = layout };
}

void table_fini(struct table *t)
{
	free(t->cells);
	buf_fini(&t->text);
	*t = (struct table){ 0 };
}

void table_clear(struct table *t)
{
	t->nrows = 0;
	buf_clear(&t->text);
}

/* ---- filling ----------------------------------------------------------------------------------
 */

unsigned table_add_empty(struct table *t)
{
	if (t->nrows == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->cells = xrealloc(t->cells, (size_t)t->cap * t->layout->n * sizeof(*t->cells));
	}
	t->nrows++;
	for (unsigned i = 0; i < t->layout->n; i++)
		*cell(t, t->nrows - 1, i) = NUMBER_NULL;
	return t->nrows - 1;
}

void table_set_number(struct table *t, unsigned row, unsigned column, int64_t number)
{
	*cell(t, row, column) = number;
}

/* Names that clients choose may be any bytes, but what is shown must be UTF-8, or no driver would
 * show the table. */
void table_set_text(struct table *t, unsigned row, unsigned column, const char *text)
{
	if (!text)
		return;
	*cell(t, row, column) = (int64_t)buf_len(&t->text);
	while (*text) {
		size_t n = utf8_len(text);

		if (n)
			buf_put(&t->text, text, n);
		else
			buf_put_u8(&t->text, '?');
		text += n ? n : 1;
	}
	buf_put_u8(&t->text, '\0');
}

unsigned table_add(struct table *t, const void *row)
{
	unsigned at = table_add_empty(t);

	for (unsigned i = 0; i < t->layout->n; i++) {
		const char *field = (const char *)row + 8 * (size_t)i;

		if (is_text(t, i))
			table_set_text(t, at, i, *(const column_TEXT_t *)(const void *)field);
		else
			table_set_number(t, at, i, *(const int64_t *)(const void *)field);
	}
	return at;
}

int64_t table_number(const struct table *t, unsigned row, unsigned column)
{
	return *cell(t, row, column);
}

const char *table_text(const struct table *t, unsigned row, unsigned column)
{
	int64_t at = *cell(t, row, column);

	return at == NUMBER_NULL ? NULL : buf_head(&t->text) + at;
}

void table_copy_row(struct table *t, const struct table *from, unsigned row)
{
	unsigned at = table_add_empty(t);

	for (unsigned i = 0; i < t->layout->n; i++) {
		if (is_text(t, i))
			table_set_text(t, at, i, table_text(from, row, i));
		else
			table_set_number(t, at, i, table_number(from, row, i));
	}
}

void table_absorb(struct table *t, const struct table *from)
{
	for (unsigned row = 0; row < from->nrows; row++)
		table_copy_row(t, from, row);
}

/* ---- merging ----------------------------------------------------------------------------------
 */

static int compare_texts(const char *a, const char *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int compare_keys(const struct table *t, unsigned a, unsigned b)
{
	for (unsigned i = 0; i < t->layout->n; i++) {
		int64_t x = *cell(t, a, i), y = *cell(t, b, i);
		int order;

		if (t->layout->columns[i].merge != MERGE_KEY)
			continue;
		order = is_text(t, i) ? compare_texts(table_text(t, a, i), table_text(t, b, i))
				      : (x > y) - (x < y);
		if (order)
			return order;
	}
	return 0;
}

unsigned table_search(const struct table *t, unsigned column, const char *text)
{
	unsigned low = 0, high = t->nrows;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (compare_texts(table_text(t, middle, column), text) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->nrows && !compare_texts(table_text(t, low, column), text) ? low : t->nrows;
}

/* Rows with equal keys keep their order, so that the first of them is the first. */
static int compare_rows(const void *a, const void *b, void *table)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	int order = compare_keys(table, x, y);

	return order ? order : (x > y) - (x < y);
}

/* Appends the sum to the table's texts. */
static int64_t merged_histograms(struct table *t, int64_t a, int64_t b)
{
	struct histogram sum = { 0 };
	int64_t at = (int64_t)buf_len(&t->text);

	histogram_take(&sum, buf_head(&t->text) + a);
	histogram_take(&sum, buf_head(&t->text) + b);
	histogram_put(&sum, &t->text);
	buf_put_u8(&t->text, '\0');
	return at;
}

static int64_t merged(struct table *t, enum column_merge merge, int64_t a, int64_t b)
{
	if (a == NUMBER_NULL || b == NUMBER_NULL)
		return a == NUMBER_NULL ? b : a;
	switch (merge) {
	case MERGE_HISTOGRAM:
		return merged_histograms(t, a, b);
	case MERGE_SUM:
		return a + b;
	case MERGE_MAX:
		return a > b ? a : b;
	default:
		return a;
	}
}

static bool has_key(const struct layout *layout)
{
	for (unsigned i = 0; i < layout->n; i++)
		if (layout->columns[i].merge == MERGE_KEY)
			return true;
	return false;
}

void table_merge(struct table *t)
{
	unsigned n = t->layout->n, kept = 0;
	unsigned *order;
	int64_t *cells;

	if (!t->nrows || !has_key(t->layout))
		return;
	order = xcalloc(t->nrows, sizeof(*order));
	cells = xcalloc((size_t)t->nrows * n, sizeof(*cells));
	for (unsigned i = 0; i < t->nrows; i++)
		order[i] = i;
	qsort_r(order, t->nrows, sizeof(*order), compare_rows, t);
	for (unsigned i = 0; i < t->nrows; i++) {
		bool is_new = i == 0 || compare_keys(t, order[i - 1], order[i]);
		int64_t *to = cells + (size_t)(kept += is_new) * n - n;

		for (unsigned column = 0; column < n; column++) {
			int64_t value = *cell(t, order[i], column);

			to[column] =
			    is_new ? value
				   : merged(t, t->layout->columns[column].merge, to[column], value);
		}
	}
	free(order);
	free(t->cells);
	t->cells = cells;
	t->cap = t->nrows;
	t->nrows = kept;
}

/* ---- a part of it, in another order
 * --------------------------------------------------------------
 */

struct ordering {
	const struct table *table;
	unsigned column;
};

static int compare_numbers(const void *a, const void *b, void *arg)
{
	const struct ordering *by = arg;
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	int64_t p = *cell(by->table, x, by->column), q = *cell(by->table, y, by->column);

	return p != q ? (p < q) - (p > q) : (x > y) - (x < y);
}

/* Rows as they are listed; there may be fewer than there were. */
static void pick_rows(struct table *t, const unsigned *rows, unsigned n)
{
	int64_t *cells = xcalloc((size_t)n * t->layout->n + 1, sizeof(*cells));

	for (unsigned i = 0; i < n; i++)
		memcpy(cells + (size_t)i * t->layout->n, cell(t, rows[i], 0),
		       t->layout->n * sizeof(*cells));
	free(t->cells);
	t->cells = cells;
	t->nrows = t->cap = n;
}

void table_order(struct table *t, unsigned column)
{
	struct ordering by = { t, column };
	unsigned *rows = xcalloc(t->nrows + 1, sizeof(*rows));

	for (unsigned i = 0; i < t->nrows; i++)
		rows[i] = i;
	qsort_r(rows, t->nrows, sizeof(*rows), compare_numbers, &by);
	pick_rows(t, rows, t->nrows);
	free(rows);
}

void table_keep(struct table *t, unsigned column, const char *text)
{
	unsigned *rows = xcalloc(t->nrows + 1, sizeof(*rows)), n = 0;

	for (unsigned i = 0; i < t->nrows; i++)
		if (!compare_texts(table_text(t, i, column), text))
			rows[n++] = i;
	pick_rows(t, rows, n);
	free(rows);
}

void table_cut(struct table *t, unsigned n)
{
	if (t->nrows > n)
		t->nrows = n;
}

/* ---- on the wire ------------------------------------------------------------------------------
 */

static bool is_binary(formats_t formats, unsigned column)
{
	return column < 64 && (formats >> column & 1);
}

void layout_put_description(const struct layout *layout, formats_t formats, struct buf *out)
{
	size_t m = msg_begin(out, MSG_ROW_DESCRIPTION);

	buf_put_u16(out, (uint16_t)layout->n);
	for (unsigned i = 0; i < layout->n; i++) {
		const struct column *column = &layout->columns[i];

		buf_put_cstr(out, column->name);
		buf_put_u32(out, 0); /* of no table, */
		buf_put_u16(out, 0); /* and no column of it */
		buf_put_u32(out, types[column->type].oid);
		buf_put_u16(out, types[column->type].len);
		buf_put_u32(out, UINT32_MAX); /* no type modifier */
		buf_put_u16(out, is_binary(formats, i));
	}
	msg_end(out, m);
}

/* 2026-11-21 09:47:53 UTC, as PgBouncer. */
static size_t format_time(int64_t usec, char *out, size_t room)
{
	time_t seconds = (time_t)(usec / USEC_PER_SEC);
	struct tm tm;

	localtime_r(&seconds, &tm);
	return strftime(out, room, "%Y-%m-%d %H:%M:%S %Z", &tm);
}

static void put_text_value(const struct table *t, unsigned row, unsigned column, struct buf *out)
{
	int64_t value = table_number(t, row, column);
	char digits[64];
	struct slice s = slice_of(digits, 0);

	if (is_text(t, column))
		s = slice_str(table_text(t, row, column));
	else if (t->layout->columns[column].type == COLUMN_TIME)
		s.n = format_time(value, digits, sizeof(digits));
	else
		s.n = (size_t)snprintf(digits, sizeof(digits), "%" PRId64, value);
	buf_put_u32(out, (uint32_t)s.n);
	buf_put_slice(out, s);
}

/* Digits of base 10,000, the first one first; PostgreSQL's numeric_send(). */
static void put_numeric(int64_t value, struct buf *out)
{
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	uint16_t digits[5];
	unsigned n = 0;

	for (; rest; rest /= 10000)
		digits[n++] = (uint16_t)(rest % 10000);
	buf_put_u32(out, 8 + 2 * n);
	buf_put_u16(out, (uint16_t)n);
	buf_put_u16(out, (uint16_t)(n ? n - 1 : 0)); /* of the first one */
	buf_put_u16(out, value < 0 ? 0x4000 : 0);
	buf_put_u16(out, 0); /* behind the point */
	while (n)
		buf_put_u16(out, digits[--n]);
}

static void put_binary_value(const struct table *t, unsigned row, unsigned column, struct buf *out)
{
	int64_t value = table_number(t, row, column);

	switch (t->layout->columns[column].type) {
	case COLUMN_INT:
		buf_put_u32(out, 4);
		buf_put_u32(out, (uint32_t)value);
		break;
	case COLUMN_BIGINT:
		buf_put_u32(out, 8);
		buf_put_u32(out, (uint32_t)((uint64_t)value >> 32));
		buf_put_u32(out, (uint32_t)value);
		break;
	case COLUMN_NUMERIC:
		put_numeric(value, out);
		break;
	case COLUMN_TEXT:
	case COLUMN_TIME:
	case COLUMN_BYTES:
		put_text_value(t, row, column, out);
		break;
	}
}

void table_put_row(const struct table *t, unsigned row, formats_t formats, struct buf *out)
{
	size_t m = msg_begin(out, MSG_DATA_ROW);

	buf_put_u16(out, (uint16_t)t->layout->n);
	for (unsigned i = 0; i < t->layout->n; i++) {
		if (table_number(t, row, i) == NUMBER_NULL)
			buf_put_u32(out, UINT32_MAX);
		else if (is_binary(formats, i))
			put_binary_value(t, row, i, out);
		else
			put_text_value(t, row, i, out);
	}
	msg_end(out, m);
}
