/* SPDX-License-Identifier: ISC
 *
 * nodes.c - roles, health and lag of the nodes of a database, and the choice among them.
 *
 * Knows nothing of statements; who asks says whether a replica would do.
 */
#include "route/nodes.h"

#include "base/buf.h"
#include "base/mem.h"
#include "route/logins.h"
#include "sql/catalog.h"
#include "sql/leaving.h"
#include "tenant/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *node_role_name(enum node_role role)
{
	static const char *const names[] = { "unknown", "primary", "replica", "down", "fenced" };

	return names[role];
}

static struct shared *cluster_of(const struct node_conf *first)
{
	struct buf name = { 0 };
	struct shared *cluster;

	buf_printf(&name, "%s:%u", first->host, first->port);
	cluster = shared_get(SHARED_CLUSTER, buf_peek(&name));
	buf_fini(&name);
	return cluster;
}

const char *node_address(const struct node *node, char room[LOG_ADDRESS_MAX])
{
	snprintf(room, LOG_ADDRESS_MAX, "%s:%u", node->host, node->port);
	return room;
}

void node_forget_load(struct node *node)
{
	node->lock_waits = node->lock_wait = -1;
	node->blocks_hit = node->blocks_read = node->deadlocks = -1;
}

struct node_set *node_set_new(const char *database, const struct node_conf *nodes, size_t n)
{
	struct node_set *set = xnew(struct node_set);

	set->refs = 1;
	set->definitions = 1; /* of which nothing is known */
	set->database = xstrdup(database);
	set->cluster = cluster_of(nodes);
	set->n = (unsigned)n;
	set->retiring = -1;
	reign_init(&set->reign);
	/* Which of several it is, is not known before they have been asked. */
	set->monitored = n > 1;
	set->primary = n > 1 ? -1 : 0;
	set->nodes = xcalloc(n, sizeof(*set->nodes));
	for (size_t i = 0; i < n; i++) {
		set->nodes[i].host = xstrdup(nodes[i].host);
		set->nodes[i].port = nodes[i].port;
		set->nodes[i].logins = logins_get(nodes[i].host, nodes[i].port);
		set->nodes[i].weight = nodes[i].weight;
		set->nodes[i].zone = xstrdup(nodes[i].zone);
		set->nodes[i].said_weight = -1;
		set->nodes[i].lag_bytes = -1;
		set->nodes[i].lag_time = -1;
		node_forget_load(&set->nodes[i]);
	}
	pthread_mutex_init(&set->lock, NULL);
	return set;
}

struct node_set *node_set_ref(struct node_set *set)
{
	atomic_fetch_add(&set->refs, 1);
	return set;
}

void node_set_unref(struct node_set *set)
{
	if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
		return;
	sql_catalog_unref(set->catalog);
	sql_leaving_unref(set->leaving);
	for (unsigned i = 0; i < set->n; i++) {
		logins_put(set->nodes[i].logins);
		free(set->nodes[i].host);
		free(set->nodes[i].zone);
	}
	pthread_mutex_destroy(&set->lock);
	shared_put(set->cluster);
	free(set->nodes);
	free(set->database);
	free(set);
}

static int find_node(const struct node_set *set, const struct node *node)
{
	for (unsigned i = 0; i < set->n; i++)
		if (set->nodes[i].port == node->port && !strcmp(set->nodes[i].host, node->host))
			return (int)i;
	return -1;
}

void node_set_inherit(struct node_set *set, struct node_set *before)
{
	struct reign reign;
	int last, primary;

	pthread_mutex_lock(&before->lock);
	reign = before->reign;
	pthread_mutex_unlock(&before->lock);
	last = reign.primary;
	primary = last < 0 ? -1 : find_node(set, &before->nodes[last]);
	if (primary < 0)
		return;
	set->reign = reign;
	set->reign.primary = primary;
	if (node_set_primary(before) == last)
		set->primary = primary;
}

void node_set_pass_to(struct node_set *set, int node, const struct claim *claim)
{
	pthread_mutex_lock(&set->lock);
	reign_pass_to(&set->reign, node, claim);
	pthread_mutex_unlock(&set->lock);
}

void node_set_adopt(struct node_set *set, const struct node_conf *nodes, const char *zone)
{
	for (unsigned i = 0; i < set->n; i++) {
		struct node *node = &set->nodes[i];

		free(node->zone);
		node->zone = xstrdup(nodes[i].zone);
		node->is_near = *zone && !strcmp(node->zone, zone);
		node->weight =
		    node->said_weight < 0 ? nodes[i].weight : (unsigned)node->said_weight;
	}
	node_set_note_standing(set);
}

void node_weigh(struct node_set *set, unsigned node, unsigned weight)
{
	set->nodes[node].said_weight = (int)weight;
	set->nodes[node].weight = weight;
	node_set_note_standing(set);
}

/* The catalog, or what leaves something, is another; who sees the count sees that. */
static void become_version(struct node_set *set)
{
	atomic_fetch_add(&set->version, 1);
	node_set_note_standing(set);
}

bool node_set_matches(const struct node_set *set, const struct node_conf *nodes, size_t n)
{
	if (set->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(set->nodes[i].host, nodes[i].host) ||
		    set->nodes[i].port != nodes[i].port)
			return false;
	return true;
}

const struct sql_catalog *node_set_catalog(struct node_set *set)
{
	const struct sql_catalog *catalog = NULL;

	pthread_mutex_lock(&set->lock);
	if (set->judged == set->definitions)
		catalog = sql_catalog_ref(set->catalog);
	pthread_mutex_unlock(&set->lock);
	return catalog;
}

void node_set_publish_catalog(struct node_set *set, const struct sql_catalog *catalog,
			      unsigned definitions)
{
	const struct sql_catalog *old = set->catalog;

	if (set->judged == definitions && sql_catalog_is_same(old, catalog)) {
		sql_catalog_unref(catalog);
		return;
	}
	pthread_mutex_lock(&set->lock);
	set->catalog = catalog;
	set->judged = definitions;
	pthread_mutex_unlock(&set->lock);
	become_version(set);
	sql_catalog_unref(old);
}

void node_set_note_definition(struct node_set *set)
{
	atomic_fetch_add(&set->definitions, 1);
	become_version(set); /* behind it, so that who sees this one sees that */
}

const struct sql_leaving *node_set_leaving(struct node_set *set)
{
	const struct sql_leaving *leaving;

	pthread_mutex_lock(&set->lock);
	leaving = sql_leaving_ref(set->leaving);
	pthread_mutex_unlock(&set->lock);
	return leaving;
}

void node_set_publish_leaving(struct node_set *set, const struct sql_leaving *leaving,
			      unsigned definitions)
{
	const struct sql_leaving *old;

	pthread_mutex_lock(&set->lock);
	old = leaving ? set->leaving : NULL;
	if (leaving)
		set->leaving = leaving;
	set->leaving_is_old = !leaving;
	pthread_mutex_unlock(&set->lock);
	become_version(set);
	atomic_store(&set->learned, definitions);
	sql_leaving_unref(old);
}

void node_set_error(struct node_set *set, struct node *node, const char *why)
{
	pthread_mutex_lock(&set->lock);
	snprintf(node->error, sizeof(node->error), "%s", why);
	pthread_mutex_unlock(&set->lock);
}

static inline bool is_fresh(const struct node *node, const struct node_wish *wish)
{
	usec_t lag = node->lag_time;
	int64_t bytes = node->lag_bytes;

	return (!wish->max_lag || (lag >= 0 && lag <= wish->max_lag)) &&
	       (!wish->max_lag_bytes || (bytes >= 0 && (uint64_t)bytes <= wish->max_lag_bytes));
}

/* What it covers is of the process that it was before and after that was looked at. */
static inline bool covers(const struct node *node, uint64_t fence, int64_t *process,
			  uint64_t *covered)
{
	*process = node->process;
	*covered = node->covers;
	return *covered > fence && node->process == *process;
}

bool node_set_covers(const struct node_set *set, unsigned node, int64_t process,
		     const struct node_wish *wish)
{
	uint64_t covered;
	int64_t asked;

	return !wish->is_fenced ||
	       (!set->unsure && covers(&set->nodes[node], wish->fence, &asked, &covered) &&
		asked == process);
}

/* What there is against a replica, in words; NULL: it will do, and *process, if it matters, is what
 * it has to be. */
static PGT_INLINE const char *object_to(const struct node_set *set, unsigned i,
					struct node_wish *wish, int64_t *process)
{
	const struct node *node = &set->nodes[i];

	*process = 0;
	if (!wish->serves[i])
		return "reserved for a lane";
	if (node->role != NODE_REPLICA)
		return "no replica that answers";
	if (!node->weight)
		return "its weight is 0";
	if (!is_fresh(node, wish))
		return "further behind than max_replica_lag allows, or nobody knows how far";
	if (!wish->is_fenced || (!set->unsure && covers(node, wish->fence, process, &wish->covers)))
		return NULL;
	wish->lacks = true;
	return set->unsure ? "writes go to another server than the monitor asks"
			   : "not known yet to have replayed what was written";
}

static inline bool will_do(const struct node_set *set, unsigned i, struct node_wish *wish,
			   int64_t *process)
{
	return !object_to(set, i, wish, process);
}

const char *node_set_objection(const struct node_set *set, unsigned i, struct node_wish *wish)
{
	int64_t process;

	return object_to(set, i, wish, &process);
}

/* What is looked at of a node once, since others change it meanwhile. */
struct load {
	bool is_near;
	uint64_t active, weight;
};

static struct load load_of(const struct node *node)
{
	return (struct load){ node->is_near, node->active, node->weight };
}

/* Below 0: a is to be preferred; 0: they take turns. */
static int compare(const struct load *a, const struct load *b)
{
	uint64_t ours = a->active * b->weight, theirs = b->active * a->weight;

	if (a->is_near != b->is_near)
		return a->is_near ? -1 : 1;
	return ours < theirs ? -1 : ours > theirs;
}

/* Of those that are as good as the best one: whose turn it is, by weight.  They may have changed
 * since, so that it is nobody's: -1. */
static int whose_turn(const struct node_set *set, struct node_wish *wish, const struct load *least,
		      uint64_t together)
{
	uint64_t turn = wish->turn % together;

	for (unsigned i = 0; i < set->n; i++) {
		struct load load = load_of(&set->nodes[i]);
		int64_t process;

		if (compare(&load, least) || !will_do(set, i, wish, &process))
			continue;
		if (turn < load.weight) {
			wish->process = process;
			return (int)i;
		}
		turn -= load.weight;
	}
	return -1;
}

static PGT_NOINLINE int choose(const struct node_set *set, struct node_wish *wish)
{
	struct load least = { 0 };
	uint64_t together = 0;
	int best = -1, other;

	for (unsigned i = 0; i < set->n; i++) {
		struct load load = load_of(&set->nodes[i]);
		int order = best < 0 ? -1 : compare(&load, &least);
		int64_t process;

		if (order > 0 || !will_do(set, i, wish, &process))
			continue;
		together = order ? load.weight : together + load.weight;
		if (order) {
			best = (int)i;
			least = load;
			wish->process = process;
		}
	}
	if (best < 0 || together == least.weight)
		return best;
	other = whose_turn(set, wish, &least, together);
	return other < 0 ? best : other;
}

int node_set_replica(const struct node_set *set, struct node_wish *wish)
{
	int primary = set->primary;

	wish->process = 0;
	wish->lacks = false;
	wish->is_only = set->n == 2 && primary >= 0;
	if (!wish->is_only)
		return choose(set, wish);
	return will_do(set, !primary, wish, &wish->process) ? !primary : -1;
}

bool node_set_meet(struct node_set *set, struct node *node, int64_t process)
{
	int64_t asked = node->process;

	if (!asked || !process || asked == process)
		return true;
	node->stranger_at = clock_monotonic();
	node->stranger = process;
	if (node->role != NODE_REPLICA) {
		set->unsure = true;
		node_set_note_standing(set);
	}
	return false;
}
