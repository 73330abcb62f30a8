/* SPDX-License-Identifier: ISC
 *
 * assess.c - what nodes are by what they said: who is the primary, who belongs to it, and how far
 * behind it is; published for the workers.
 *
 * Whether a node that does not answer is down, and when it is back, is decided in route/health; it
 * is the primary's replica only while it belongs to the same cluster.  Who is the primary of
 * several that think so is decided in route/primacy.  What replicas have of what was written is
 * told by numbers: route/fence.h.
 *
 * How far a replica is behind, in time: not at all when it has replayed what the primary had
 * written when it was last asked.  Else the age of the last transaction it replayed, but no more
 * than the time since it was last known to have everything, which is right on an idle primary too.
 */
#include "base/mem.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "route/primacy.h"
#include "server/server.h"
#include "stats/event.h"
#include "worker/watch.h"

/* A process that was met instead of the one asked counts for so long. */
#define STRANGER_TIME (60 * USEC_PER_SEC)

/* The first primary is not decided before all nodes have been heard, or have failed to answer; but
 * who neither answers nor fails (or refuses us, and would be asked for ever) is not waited for any
 * longer than this once another one would be it. */
#define AWAITED_MAX (3 * USEC_PER_SEC)

/* One name, or address, behind which several servers answer. */
#define IS_SEVERAL      "different servers answer here: reads of what was written go to the primary"

#define IS_NOT_YET_BACK "answers again, but not yet often enough (node_answers)"

static void say_role(const struct probe *p, enum node_role role, const char *why)
{
	bool is_out = role == NODE_DOWN || role == NODE_FENCED;
	char node[LOG_ADDRESS_MAX];
	struct log_about about = { .database = p->watch->set->database,
				   .node = node_address(probe_node(p), node),
				   .reason = why };

	event_say(is_out ? EVENT_node_down
		  : *why ? EVENT_node_warning
			 : EVENT_node_up,
		  &about, "node %s is %s%s%s", node, node_role_name(role), *why ? ": " : "", why);
}

void assess_set_role(struct probe *p, enum node_role role, const char *why)
{
	struct node *node = probe_node(p);
	enum node_role before = (enum node_role)atomic_exchange(&node->role, (int)role);
	/* Written by this thread alone, so that it may be read here without the lock. */
	bool is_news = before != role || strncmp(node->error, why, sizeof(node->error) - 1) != 0;

	if (before != role)
		node_set_note_standing(p->watch->set);
	if (!is_news)
		return;
	node_set_error(p->watch->set, node, why);
	say_role(p, role, why);
}

/* Whether it lives, as far as is known, although it has not been heard. */
static bool is_silent(const struct probe *p)
{
	return !p->was_heard || p->was_refused ||
	       (!p->has_answered && health_is_doubtful(&probe_node(p)->health));
}

static bool is_open(const struct probe *p)
{
	const struct watch *w = p->watch;

	if (w->set->reign.primary >= 0)
		return is_silent(p);
	/* It was down like all the others, and comes back like one of them. */
	return w->awaited < AWAITED_MAX && (is_silent(p) || (p->server && !p->has_answered));
}

static void gather_claims(struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++) {
		const struct probe *p = &w->probes[i];
		const struct health *health = &probe_node(p)->health;

		w->claims[i] =
		    (struct claim){ .is_open = is_open(p),
				    .has_answered = p->has_answered,
				    .is_primary = !p->answer.is_replica,
				    .is_unsettled = health_is_unsettled(
					health, w->settings.node_settle_time, watch_now(w)),
				    .vouch = p->vouch,
				    .timeline = p->answer.timeline,
				    .position = p->answer.position,
				    .cluster = p->cluster };
	}
}

static void say_not_awaited(const struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		if (w->claims[i].is_open)
			log_warning("database \"%s\": the primary is chosen without node %s:%u, "
				    "which has not been heard in %d s",
				    w->set->database, w->set->nodes[i].host, w->set->nodes[i].port,
				    (int)(AWAITED_MAX / USEC_PER_SEC));
}

/* Counted in looks, as a probe's silence is. */
void assess_awaited(struct watch *w)
{
	if (!w->is_awaited)
		return;
	w->awaited += w->pace;
	if (w->awaited < AWAITED_MAX)
		return;
	say_not_awaited(w);
	assess_nodes(w);
}

/* Nobody can ask any node, and nobody ever could: the configuration is all there is to go by. */
static bool is_blind(const struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		if (!w->probes[i].was_heard || w->set->nodes[i].seen_at)
			return false;
	return true;
}

static void log_primary(const struct watch *w, int primary)
{
	const struct node_set *set = w->set;
	struct log_about about = { .database = set->database };
	char node[LOG_ADDRESS_MAX];

	if (primary < 0) {
		event_say(EVENT_primary_lost, &about, "no primary is known: what needs it waits");
	} else if (set->reign.primary >= 0) {
		about.node = node_address(&set->nodes[primary], node);
		event_say(EVENT_primary, &about, "the primary is %s, on timeline %u", node,
			  set->reign.timeline);
	}
}

/* The process that a connection has met was another one, and the one asked then still answers. */
static bool is_several(const struct probe *p)
{
	return p->stranger && p->stranger != p->answer.process &&
	       p->stranger == probe_node(p)->stranger;
}

/* What workers go by.  Of a single node nothing depends on it: everything goes there. */
static void publish_primary(struct watch *w, int primary)
{
	struct node_set *set = w->set;
	int last = set->reign.primary;

	if (set->n < 2)
		return;
	if (primary < 0 && is_blind(w))
		primary = 0;
	else if (primary >= 0 && w->probes[primary].has_answered)
		node_set_pass_to(set, primary, &w->claims[primary]);
	if (primary == set->primary)
		return;
	/* Nothing more may begin on the old one before anything does on the new one. */
	if (primary >= 0 && last >= 0 && last != primary)
		set->nodes[last].service = NODE_DEPOSED;
	if (primary >= 0 && primary != set->retiring) {
		set->retiring = -1;
		set->nodes[primary].service = NODE_SERVES;
	}
	set->primary = primary;
	node_set_note_standing(set);
	log_primary(w, primary);
}

static void publish_role(struct watch *w, unsigned node, int primary)
{
	static const enum node_role outcast[] = { [STANDING_DENIED] = NODE_FENCED,
						  [STANDING_UNSETTLED] = NODE_FENCED,
						  [STANDING_FENCED] = NODE_FENCED,
						  [STANDING_FOREIGN] = NODE_DOWN };
	struct probe *p = &w->probes[node];
	char why[160] = "";
	enum standing standing;

	standing = primacy_standing(w->claims, node, primary, &w->set->reign, why, sizeof(why));
	w->set->nodes[node].service = standing == STANDING_FENCED     ? NODE_DEPOSED
				      : (int)node == w->set->retiring ? NODE_RETIRES
								      : NODE_SERVES;
	if (standing != STANDING_MEMBER)
		assess_set_role(p, outcast[standing], why);
	else if (probe_node(p)->health.is_out)
		assess_set_role(p, NODE_DOWN, IS_NOT_YET_BACK);
	else
		assess_set_role(p, p->answer.is_replica ? NODE_REPLICA : NODE_PRIMARY,
				is_several(p) ? IS_SEVERAL : "");
}

void assess_nodes(struct watch *w)
{
	int before = w->primary, primary;

	gather_claims(w);
	w->is_awaited = primacy_is_awaited(w->claims, w->set->n, &w->set->reign);
	primary = primacy_decide(w->claims, w->set->n, &w->set->reign);
	w->primary = primary >= 0 && w->probes[primary].has_answered ? primary : -1;
	if (w->primary != before) {
		w->primary_at = 0;
		w->catalog_due = w->catalog_since = 0;
	}
	publish_primary(w, primary);
	for (unsigned i = 0; i < w->set->n; i++)
		if (w->probes[i].has_answered)
			publish_role(w, i, primary);
	watch_keep_pace(w);
}

static void publish_lag(const struct probe *p, int64_t bytes, usec_t time)
{
	struct node *node = probe_node(p);

	node->lag_bytes = bytes;
	node->lag_time = time;
	node_set_note_standing(p->watch->set);
}

void assess_lag(struct probe *p, usec_t now)
{
	const struct watch *w = p->watch;
	uint64_t written, replayed = p->answer.position;
	usec_t lag = p->answer.replay_age;

	if (!p->answer.is_replica) {
		publish_lag(p, -1, -1);
		return;
	}
	if (w->primary < 0 || !w->primary_at)
		return;
	written = w->probes[w->primary].answer.position;
	if (replayed >= written) {
		p->covered_at = w->primary_at;
		lag = 0;
	} else if (p->covered_at && (lag < 0 || lag > now - p->covered_at)) {
		lag = now - p->covered_at;
	}
	publish_lag(p, written > replayed ? (int64_t)(written - replayed) : 0, lag);
}

/* ---- what replicas have of what was written ----------------------------------------------------
 */

static void cover_nothing(struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		w->set->nodes[i].covers = 0;
	node_set_note_standing(w->set);
}

/* Where positions in two logs mean the same. */
static bool is_of_line(const struct fence_line *line, const struct node *node)
{
	return line->n && node->system && node->system == line->origin.system && node->timeline &&
	       node->timeline == line->origin.timeline;
}

static void cover(const struct probe *p)
{
	const struct fence_line *line = &p->watch->line;
	struct node *node = probe_node(p);
	uint64_t covered;

	if (!p->has_answered || !p->answer.is_replica || !is_of_line(line, node))
		return;
	covered = fence_line_covered(line, p->answer.position);
	if (covered <= node->covers)
		return;
	node->covers = covered;
	node_set_note_standing(p->watch->set);
}

/* A process met by a connection that nobody has met for a while; or that is the one asked now. */
static void forget_stranger(struct probe *p, usec_t now)
{
	struct node *node = probe_node(p);

	if (!node->stranger ||
	    (node->stranger != p->answer.process && now - node->stranger_at < STRANGER_TIME))
		return;
	node->stranger = 0;
	if ((int)p->node != p->watch->primary)
		return;
	p->watch->set->unsure = false;
	node_set_note_standing(p->watch->set);
}

void assess_log(struct probe *p, usec_t now)
{
	struct watch *w = p->watch;
	const struct node *node = probe_node(p);
	struct fence_origin origin = { p->node, node->system, node->timeline, node->process };

	if ((int)p->node == w->primary) {
		if (fence_line_add(&w->line, &origin, p->question, p->answer.position))
			cover_nothing(w);
		for (unsigned i = 0; i < w->set->n; i++)
			cover(&w->probes[i]);
	} else {
		cover(p);
	}
	forget_stranger(p, now);
}
