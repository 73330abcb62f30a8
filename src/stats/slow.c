/* SPDX-License-Identifier: ISC
 *
 * slow.c - the last statements that took too long.
 */
#include "stats/slow.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void slow_log_fini(struct slow_log *log)
{
	for (unsigned i = 0; i < SLOW_KEPT; i++)
		free(log->ring[i].room);
	memset(log, 0, sizeof(*log));
}

static const char *put(char **p, const char *s)
{
	size_t n = strlen(s) + 1;
	char *at = memcpy(*p, s, n);

	*p += n;
	return at;
}

void slow_log_add(struct slow_log *log, const struct slow *slow)
{
	struct slow *to = &log->ring[log->n++ % SLOW_KEPT];
	char *p = xmalloc(strlen(slow->database) + strlen(slow->user) + strlen(slow->tenant) +
			  strlen(slow->text) + strlen(slow->as_sent) + 5);

	free(to->room);
	*to = *slow;
	to->room = p;
	to->database = put(&p, slow->database);
	to->user = put(&p, slow->user);
	to->tenant = put(&p, slow->tenant);
	to->text = put(&p, slow->text);
	to->as_sent = put(&p, slow->as_sent);
}

const struct slow *slow_log_at(const struct slow_log *log, unsigned i)
{
	if (i >= SLOW_KEPT || i >= log->n)
		return NULL;
	return &log->ring[(log->n - 1 - i) % SLOW_KEPT];
}
