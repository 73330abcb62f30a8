/* SPDX-License-Identifier: ISC
 *
 * primacy.h - which of the nodes that say they are the primary is it.
 *
 * Pure: claims and memory in, a verdict out.  Of primaries of one cluster the one on the highest
 * timeline wins, because only a promotion begins a new one; on the same timeline the one that is
 * the primary already, else the one that has written most.  Timelines are remembered, so that a
 * primary that was superseded is not taken for one when it comes back alone; and so is the cluster,
 * which is that of the first node in the list that is a primary.  As long as there is nothing to
 * remember, nobody is the primary before all have been heard that may be it.  Where Patroni is
 * asked, no node is the primary that it says is not the leader.
 */
#ifndef PGT_ROUTE_PRIMACY_H
#define PGT_ROUTE_PRIMACY_H

#include "base/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A system identifier is a number of 64 bits. */
#define CLUSTER_ID_MAX 24

/* What Patroni says of a node, where it is asked. */
enum vouch { VOUCH_NONE, VOUCH_LEADER, VOUCH_DENIED };

/* What a node said of itself when it was last asked. */
struct claim {
	bool is_open; /* it lives, as far as is known, but has not been heard: it may be anything */
	bool has_answered;
	bool is_primary;   /* not in recovery */
	bool is_unsettled; /* it was something else a moment ago, and this before: route/health.h */
	enum vouch vouch;
	uint32_t timeline;
	uint64_t position;   /* in the log, in bytes */
	const char *cluster; /* system identifier; "": not known */
};

/* What is remembered of primaries. */
struct reign {
	int primary;                  /* the last one; -1: there has been none */
	uint32_t timeline;            /* the highest of any */
	char cluster[CLUSTER_ID_MAX]; /* "": not known */
};

void reign_init(struct reign *reign);
/* The node is the primary, and has said so. */
void reign_pass_to(struct reign *reign, int node, const struct claim *claim);

/* There has been no primary, a node would be it, and another that may be it has not been heard. */
bool primacy_is_awaited(const struct claim *claims, unsigned n, const struct reign *reign);
/* The primary, or -1: there is none. */
int primacy_decide(const struct claim *claims, unsigned n, const struct reign *reign) PGT_MUST_USE;

enum standing {
	STANDING_MEMBER,    /* the primary, or a replica that may serve beside it */
	STANDING_DENIED,    /* a primary that Patroni does not know as the leader */
	STANDING_UNSETTLED, /* a primary that may not be one for long */
	STANDING_FENCED,    /* another primary of the same cluster: nothing may be written there */
	STANDING_FOREIGN,   /* of another cluster */
};

/* What a node that has answered is beside the primary (or -1), and why, unless it is a member. */
enum standing primacy_standing(const struct claim *claims, unsigned node, int primary,
			       const struct reign *reign, char *why, size_t n);

#endif
