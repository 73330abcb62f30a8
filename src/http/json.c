/* SPDX-License-Identifier: ISC
 *
 * json.c - tables as JSON, RFC 8259.
 *
 * Texts of tables are UTF-8.
 */
#include "base/json.h"
#include "http/parts.h"

#include <inttypes.h>

static void put_value(struct buf *out, const struct table *t, unsigned row, unsigned column)
{
	enum column_type type = t->layout->columns[column].type;

	if (table_number(t, row, column) == NUMBER_NULL)
		buf_printf(out, "null");
	else if (type == COLUMN_TEXT)
		json_put_string(out, table_text(t, row, column));
	else
		buf_printf(out, "%" PRId64, table_number(t, row, column));
}

static bool is_among(const char *name, const char *const *names)
{
	while (*names && strcmp(*names, name))
		names++;
	return *names != NULL;
}

void json_put_columns(struct buf *out, const struct table *t, unsigned row,
		      const char *const *names)
{
	const char *between = "";

	buf_put_u8(out, '{');
	for (unsigned i = 0; i < t->layout->n; i++) {
		if (names && !is_among(t->layout->columns[i].name, names))
			continue;
		buf_printf(out, "%s\"%s\":", between, t->layout->columns[i].name);
		put_value(out, t, row, i);
		between = ",";
	}
	buf_put_u8(out, '}');
}

void json_put(struct buf *out, const struct tables *tables)
{
	const char *between = "";

	buf_put_u8(out, '{');
	for (unsigned i = 0; i < NSOURCES; i++) {
		const struct table *t = &tables->of[i];

		if (!t->layout)
			continue;
		buf_printf(out, "%s\n\"%s\":[", between, source_name(i));
		between = ",";
		for (unsigned row = 0; row < t->nrows; row++) {
			buf_printf(out, "%s\n", row ? "," : "");
			json_put_columns(out, t, row, NULL);
		}
		buf_put_u8(out, ']');
	}
	buf_printf(out, "}\n");
}
