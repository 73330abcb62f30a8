/* SPDX-License-Identifier: ISC
 *
 * passfile.c - the text of a password file.
 *
 * Source: PostgreSQL manual, "The Password File" (libpq).  Does not know where the file is.
 */
#include "config/passfile.h"

#include <stdio.h>

/* Takes a field and the colon behind it off *line, and its escapes out of it.  False: there is no
 * colon. */
static bool take_field(struct slice *line, struct buf *field)
{
	bool is_ended;
	size_t i = 0;

	for (; i < line->n && line->p[i] != ':'; i++) {
		if (line->p[i] == '\\' && i + 1 < line->n)
			i++;
		buf_put(field, &line->p[i], 1);
	}
	is_ended = i < line->n;
	i += is_ended;
	*line = slice_of(line->p + i, line->n - i);
	return is_ended;
}

static bool fits(struct slice *line, const char *wanted)
{
	bool is_any = line->n >= 2 && line->p[0] == '*' && line->p[1] == ':';
	struct buf field = { 0 };
	bool ok;

	ok = take_field(line, &field) &&
	     (is_any || slice_is_equal(buf_peek(&field), slice_str(wanted)));
	buf_fini(&field);
	return ok;
}

static bool line_fits(struct slice *line, const struct passfile_key *key, const char *port)
{
	return line->n && *line->p != '#' && fits(line, key->host) && fits(line, port) &&
	       fits(line, key->dbname) && fits(line, key->user);
}

bool passfile_find(struct slice text, const struct passfile_key *key, struct buf *password)
{
	char port[sizeof("65535")];

	snprintf(port, sizeof(port), "%u", key->port);
	while (text.n) {
		struct slice line = slice_cut(&text, '\n');

		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (!line_fits(&line, key, port))
			continue;
		/* Never moved, so that wiping it once is enough. */
		buf_reserve(password, line.n + 1);
		take_field(&line, password);
		return true;
	}
	return false;
}
