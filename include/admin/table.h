/* SPDX-License-Identifier: ISC
 *
 * table.h - rows of a SHOW: declared once, filled on any thread, merged over threads.
 *
 * A list of columns is written once, as X(type, merge, name, doc):
 *
 *     #define TIER_COLUMNS(X)                                  \
 *             X(TEXT, KEY, name, "Name of the tier.")          \
 *             X(INT, SUM, tenants, "Tenants that are in it.")
 *     LAYOUT_DEFINE(tier, TIER_COLUMNS)
 *
 * makes struct tier_row, with a field for each column, and tier_layout.  Whoever fills a row says
 * .name = …, so no list of values has to be kept in step.  Pure; a table belongs to one thread at a
 * time.
 */
#ifndef PGT_ADMIN_TABLE_H
#define PGT_ADMIN_TABLE_H

#include "base/buf.h"

#include <stdint.h>

enum column_type {
	COLUMN_TEXT,
	COLUMN_INT,     /* int4 */
	COLUMN_BIGINT,  /* int8 */
	COLUMN_NUMERIC, /* numeric, as PgBouncer's statistics are */
	COLUMN_TIME,    /* shown as text in local time; filled with microseconds since 1970 */
	COLUMN_BYTES,   /* bytea; always NULL here */
};

/* What becomes of rows with equal keys. */
enum column_merge {
	MERGE_KEY,
	MERGE_FIRST, /* the first value that is not NULL */
	MERGE_SUM,
	MERGE_MAX,
	MERGE_HISTOGRAM, /* of a text that histogram_put() has written; not shown */
};

struct column {
	const char *name;
	enum column_type type;
	enum column_merge merge;
	const char *doc;
};

struct layout {
	const struct column *columns;
	unsigned n;
};

/* A number that is NULL; a text that is, is a NULL pointer. */
#define NUMBER_NULL INT64_MIN

/* Fields of a row are all of one size, so that the n-th is found without a table of offsets. */
typedef const char *column_TEXT_t __attribute__((aligned(8)));
typedef const char *column_BYTES_t __attribute__((aligned(8)));
typedef int64_t column_INT_t;
typedef int64_t column_BIGINT_t;
typedef int64_t column_NUMERIC_t;
typedef int64_t column_TIME_t;

#define COLUMN_FIELD(type, merge, name, doc) column_##type##_t name;
#define COLUMN_ENTRY(type, merge, name, doc) { #name, COLUMN_##type, MERGE_##merge, doc },

#define LAYOUT_DEFINE(noun, LIST)                                                                  \
	struct noun##_row {                                                                        \
		LIST(COLUMN_FIELD)                                                                 \
	};                                                                                         \
	static const struct column noun##_columns[] = { LIST(COLUMN_ENTRY) };                      \
	_Static_assert(sizeof(struct noun##_row) == 8 * PGT_NELEMS(noun##_columns),                \
		       "the fields of a row are of one size");                                     \
	static const struct layout noun##_layout = { noun##_columns, PGT_NELEMS(noun##_columns) }

struct table {
	const struct layout *layout;
	int64_t *cells; /* row by row; a text is where it stands in .text */
	unsigned nrows;
	unsigned cap; /* rows */
	struct buf text;
};

/* layout must outlive the table. */
void table_init(struct table *t, const struct layout *layout);
void table_fini(struct table *t);
/* Forgets its rows and keeps their room. */
void table_clear(struct table *t);

/* Appends a copy of *row, which is the layout's struct; returns its number. */
unsigned table_add(struct table *t, const void *row);
/* Appends a row of NULLs. */
unsigned table_add_empty(struct table *t);
void table_set_number(struct table *t, unsigned row, unsigned column, int64_t number);
/* What is not UTF-8 becomes question marks.  NULL leaves the cell as it is. */
void table_set_text(struct table *t, unsigned row, unsigned column, const char *text);

int64_t table_number(const struct table *t, unsigned row, unsigned column);
/* NULL, or borrowed until the table is changed. */
const char *table_text(const struct table *t, unsigned row, unsigned column);

/* Appends a copy of a row of a table with the same layout, or one that begins with it. */
void table_copy_row(struct table *t, const struct table *from, unsigned row);
/* The first row whose text in that column is this one, which the table is sorted by; or nrows. */
unsigned table_search(const struct table *t, unsigned column, const char *text);
/* Appends copies of all rows of a table with the same layout. */
void table_absorb(struct table *t, const struct table *from);
/* Sorts by the key columns and folds rows with equal keys into one.  Without key columns, rows
 * stay as they are. */
void table_merge(struct table *t);

/* Sorts by a column of numbers, the greatest first; equal ones keep their order. */
void table_order(struct table *t, unsigned column);
/* Leaves out rows whose text in that column is another one. */
void table_keep(struct table *t, unsigned column, const char *text);
/* Leaves out all but the first n. */
void table_cut(struct table *t, unsigned n);

/* A bit for each column that is sent in the binary format; those beyond are text. */
typedef uint64_t formats_t;
#define FORMATS_TEXT 0

/* RowDescription and DataRow; PostgreSQL manual, "Message Formats". */
void layout_put_description(const struct layout *layout, formats_t formats, struct buf *out);
void table_put_row(const struct table *t, unsigned row, formats_t formats, struct buf *out);
/* The word for a column's type in docs. */
const char *column_type_name(enum column_type type);

#endif
