/* SPDX-License-Identifier: ISC
 *
 * secret_queue.h - logins that wait until a database has been asked for a user's secret.
 *
 * Those who wait for the same user share a lookup.  Addresses take turns, so that one with many
 * names does not make another wait longer; a lookup that nobody waits for any more is not made.
 * Private to secret_link.h and secret_source.h.
 */
#ifndef PGT_WORKER_SECRET_QUEUE_H
#define PGT_WORKER_SECRET_QUEUE_H

#include "base/crowd.h"
#include "base/list.h"
#include "worker/secret_source.h"

struct lookup;

/* All who wait, in whichever queue. */
struct secret_crowd {
	struct hmap by_id;
	struct crowd crowd; /* of their addresses */
};

struct secret_queue {
	struct secret_crowd *all;
	struct hmap lookups;  /* by user */
	struct hmap turns;    /* by origin: of those whose lookup is still to be made … */
	struct list order;    /* … the next one first */
	struct list ages;     /* of askers, who has waited longest first */
	struct lookup *asked; /* under way, or NULL */
	uint64_t nwaiting;
};

void secret_queue_init(struct secret_queue *q, struct secret_crowd *all);
/* Nobody waits any more. */
void secret_queue_fini(struct secret_queue *q);

void secret_queue_add(struct secret_queue *q, struct slice user, const struct secret_asker *who,
		      usec_t now);
/* Whether a lookup is still to be made. */
bool secret_queue_has_next(const struct secret_queue *q);
/* Begins the next one; only while none is under way.  False: there is none. */
bool secret_queue_begin(struct secret_queue *q);
/* Whose secret is asked for now. */
const char *secret_queue_user(const struct secret_queue *q);
/* All who wait for that are told what was found. */
void secret_queue_answer(struct secret_queue *q, const struct secret_found *found);
/* Nothing came of it: it is the next one again. */
void secret_queue_put_back(struct secret_queue *q);
/* Who has waited since then, or longer, is told this, unless its lookup is under way. */
void secret_queue_dismiss(struct secret_queue *q, usec_t since, const struct secret_found *found);

/* The asker with this id is gone.  Gives back its arg; NULL: it has been answered. */
void *secret_crowd_withdraw(struct secret_crowd *all, uint64_t id);

#endif
