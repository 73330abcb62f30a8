/* SPDX-License-Identifier: ISC
 *
 * lookup_queue.h - logins that wait until a database has been asked for a name.
 *
 * Those who wait for the same name share a lookup.  Addresses take turns, so that one with many
 * names does not make another wait longer; a lookup that nobody waits for any more is not made.
 * Private to secret_link.h, secret_source.h and tenant_source.h.
 */
#ifndef PGT_WORKER_LOOKUP_QUEUE_H
#define PGT_WORKER_LOOKUP_QUEUE_H

#include "base/clock.h"
#include "base/crowd.h"
#include "base/list.h"

struct lookup;

/* Who wants to know. */
struct lookup_asker {
	uint64_t id;     /* of the client, never used again */
	uint64_t origin; /* its address: addr_origin() */
	/* found is what the one who asks databases says it is. */
	void (*answer)(void *arg, const void *found);
	void *arg;
};

/* All who wait, in whichever queue. */
struct lookup_crowd {
	struct hmap by_id;
	struct crowd crowd; /* of their addresses */
};

struct lookup_queue {
	struct lookup_crowd *all;
	struct hmap lookups;  /* by name */
	struct hmap turns;    /* by origin: of those whose lookup is still to be made … */
	struct list order;    /* … the next one first */
	struct list ages;     /* of askers, who has waited longest first */
	struct lookup *asked; /* under way, or NULL */
	uint64_t nwaiting;
};

void lookup_queue_init(struct lookup_queue *q, struct lookup_crowd *all);
/* Nobody waits any more. */
void lookup_queue_fini(struct lookup_queue *q);

void lookup_queue_add(struct lookup_queue *q, struct slice name, const struct lookup_asker *who,
		      usec_t now);
/* Whether a lookup is still to be made. */
bool lookup_queue_has_next(const struct lookup_queue *q);
/* Begins the next one; only while none is under way.  False: there is none. */
bool lookup_queue_begin(struct lookup_queue *q);
/* What is asked for now. */
const char *lookup_queue_name(const struct lookup_queue *q);
/* All who wait for that are told what was found. */
void lookup_queue_answer(struct lookup_queue *q, const void *found);
/* Nothing came of it: it is the next one again. */
void lookup_queue_put_back(struct lookup_queue *q);
/* Who has waited since then, or longer, is told this, unless its lookup is under way. */
void lookup_queue_dismiss(struct lookup_queue *q, usec_t since, const void *found);

/* The asker with this id is gone.  Gives back its arg; NULL: it has been answered. */
void *lookup_crowd_withdraw(struct lookup_crowd *all, uint64_t id);
/* Nobody waits any more, in any queue. */
void lookup_crowd_fini(struct lookup_crowd *all);

#endif
