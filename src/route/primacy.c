/* SPDX-License-Identifier: ISC
 *
 * primacy.c - which of the nodes that say they are the primary is it.
 *
 * Knows what nodes said, not how they were asked.
 */
#include "route/primacy.h"

#include <stdio.h>
#include <string.h>

void reign_init(struct reign *reign)
{
	*reign = (struct reign){ .primary = -1 };
}

void reign_pass_to(struct reign *reign, int node, const struct claim *claim)
{
	reign->primary = node;
	reign->timeline = claim->timeline;
	if (*claim->cluster)
		snprintf(reign->cluster, sizeof(reign->cluster), "%s", claim->cluster);
}

/* Whether two system identifiers are known to be different. */
static bool differ(const char *a, const char *b)
{
	return *a && *b && strcmp(a, b) != 0;
}

static bool is_candidate(const struct claim *claim, const struct reign *reign)
{
	return claim->has_answered && claim->is_primary && claim->vouch != VOUCH_DENIED &&
	       !claim->is_unsettled && claim->timeline >= reign->timeline &&
	       !differ(claim->cluster, reign->cluster);
}

/* Whether a candidate is to be preferred to an earlier one in the list. */
static bool is_better(const struct claim *claims, int a, int b, const struct reign *reign)
{
	if (differ(claims[a].cluster, claims[b].cluster))
		return false;
	if (claims[a].timeline != claims[b].timeline)
		return claims[a].timeline > claims[b].timeline;
	if (a == reign->primary || b == reign->primary)
		return a == reign->primary;
	return claims[a].position > claims[b].position;
}

static int find_best(const struct claim *claims, unsigned n, const struct reign *reign)
{
	int best = -1;

	for (int i = 0; i < (int)n; i++)
		if (is_candidate(&claims[i], reign) &&
		    (best < 0 || is_better(claims, i, best, reign)))
			best = i;
	return best;
}

static bool has_open(const struct claim *claims, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (claims[i].is_open)
			return true;
	return false;
}

bool primacy_is_awaited(const struct claim *claims, unsigned n, const struct reign *reign)
{
	return reign->primary < 0 && has_open(claims, n) && find_best(claims, n, reign) >= 0;
}

int primacy_decide(const struct claim *claims, unsigned n, const struct reign *reign)
{
	int best = find_best(claims, n, reign), last = reign->primary;

	/* Nothing is known that a node could be measured by but what the others say. */
	if (last < 0)
		return has_open(claims, n) ? -1 : best;
	/* It counts as it was while it cannot be asked, unless another one has been promoted. */
	if (claims[last].is_open && claims[last].vouch != VOUCH_DENIED &&
	    (best < 0 || claims[best].timeline == reign->timeline))
		return last;
	return best;
}

enum standing primacy_standing(const struct claim *claims, unsigned node, int primary,
			       const struct reign *reign, char *why, size_t n)
{
	const struct claim *claim = &claims[node];

	if ((int)node == primary)
		return STANDING_MEMBER;
	if (differ(claim->cluster, reign->cluster)) {
		snprintf(why, n, "belongs to another cluster than the primary (%s, not %s)",
			 claim->cluster, reign->cluster);
		return STANDING_FOREIGN;
	}
	if (claim->is_primary && primary < 0 && claim->vouch == VOUCH_DENIED &&
	    claim->timeline >= reign->timeline) {
		snprintf(why, n, "is not the leader, says Patroni");
		return STANDING_DENIED;
	}
	if (claim->is_primary && claim->is_unsettled && primary < 0) {
		snprintf(why, n, "changes its role to and fro (node_settle_time)");
		return STANDING_UNSETTLED;
	}
	if (!claim->is_primary || reign->primary < 0)
		return STANDING_MEMBER;
	snprintf(why, n, "is a second primary, on timeline %u; %s is on %u", claim->timeline,
		 primary < 0 ? "the last one" : "the other", reign->timeline);
	return STANDING_FENCED;
}
