/* SPDX-License-Identifier: ISC
 *
 * journal.h - what a transaction has done to the channels that its session listens on.
 *
 * In order, with the savepoints made since its first entry, so that ROLLBACK TO and RELEASE do to
 * it what they do on the server.  A zeroed one has to be initialised.  Knows nothing of channels.
 */
#ifndef PGT_RELAY_JOURNAL_H
#define PGT_RELAY_JOURNAL_H

#include "base/list.h"
#include "sql/control.h"

struct journal {
	struct list entries; /* by journal_entry.link */
	unsigned n;
};

struct journal_entry {
	struct list link;
	struct sql_control control;
};

static inline const struct sql_control *journal_at(const struct list *at)
{
	return &container_of(at, struct journal_entry, link)->control;
}

void journal_init(struct journal *j);
/* The server has run this command. */
void journal_run(struct journal *j, const struct sql_control *control);
/* Whether a command of this kind stands in it. */
bool journal_has(const struct journal *j, enum sql_control_kind kind);
void journal_clear(struct journal *j);

#endif
