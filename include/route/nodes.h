/* SPDX-License-Identifier: ISC
 *
 * nodes.h - what is known about the nodes of a database: role, health, lag, its catalog.
 *
 * Written by the monitor on the control thread, read by all: through atomics, and the catalog by
 * reference count.  A set belongs to one version of a database's host list; a reload that changes
 * the list makes a new set, which remembers what the last one did of primaries.
 */
#ifndef PGT_ROUTE_NODES_H
#define PGT_ROUTE_NODES_H

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "route/health.h"
#include "route/primacy.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct logins;
struct shared;
struct sql_catalog;
struct sql_leaving;

/* UNKNOWN: nobody has asked yet.  FENCED: it thinks that it is the primary, and another one is. */
enum node_role { NODE_UNKNOWN, NODE_PRIMARY, NODE_REPLICA, NODE_DOWN, NODE_FENCED };

/* RETIRES: SWITCHOVER; transactions end there and none begins.  DEPOSED: it is, or was, a primary
 * in whose place there is another; nothing runs there any more. */
enum node_service { NODE_SERVES, NODE_RETIRES, NODE_DEPOSED };

const char *node_role_name(enum node_role role);

struct node {
	char *host;
	uint16_t port;
	struct logins *logins;     /* under way there, for whichever database */
	_Atomic unsigned weight;   /* its share of reads; 0: none */
	atomic_bool is_near;       /* in this process's zone */
	_Atomic int role;          /* enum node_role */
	_Atomic int service;       /* enum node_service */
	_Atomic int64_t lag_bytes; /* of a replica: behind the primary; -1: not known */
	_Atomic usec_t lag_time; /* of a replica: age of the last transaction it replayed, 0 when it
				  * has all that the primary has; -1: not known */
	_Atomic usec_t asked_at; /* monotonic; when the last question of the monitor was sent that
				  * was answered … */
	_Atomic usec_t seen_at;  /* … and when the answer came; 0: never */
	_Atomic usec_t latency;  /* of that answer */
	/* What it said then, which holds for this process of the server only. */
	_Atomic uint64_t position;  /* in the log: a primary's next record, what a replica has
				     * replayed */
	_Atomic uint32_t timeline;  /* 0: not known; of a replica: that it receives */
	_Atomic uint64_t system;    /* identifier of its cluster; 0: not known */
	_Atomic int64_t process;    /* when the server was started, in microseconds since 1970; 0:
				     * not known */
	_Atomic uint64_t covers;    /* of a replica: the last question to the primary whose answer
				     * it has replayed (route/fence.h); 0: not known */
	_Atomic int64_t stranger;   /* another process that a connection has met there; 0: none */
	_Atomic usec_t stranger_at; /* the last time */
	/* Of the whole server, its other databases too, when that was asked last; -1: not known. */
	_Atomic int64_t lock_waits; /* sessions that wait for a lock … */
	_Atomic usec_t lock_wait;   /* … and how long one of them has, the longest */
	_Atomic int64_t blocks_hit, blocks_read, deadlocks; /* since its statistics begin */
	_Atomic unsigned moves;     /* of its name: another number when an address is not one of
				     * that any more (net/resolve.h) */
	_Atomic unsigned comebacks; /* how often it has answered after it did not */
	_Atomic unsigned servers;   /* connections of all pools */
	_Atomic unsigned active;    /* in use, for the least busy choice */
	char error[200];            /* why it is down, under the set's lock */
	/* Of the control thread. */
	struct health health;
	char *zone;      /* "": not said */
	int said_weight; /* on the console, and holds until a restart; -1: none */
};

struct node_set {
	_Atomic unsigned refs;
	char *database;         /* as clients say it */
	struct shared *cluster; /* of all databases there */
	unsigned n;
	struct node *nodes;
	atomic_bool monitored; /* roles are asked, or will be; else the first node is the primary */
	_Atomic int primary;   /* index; -1: there is none now */
	/* Of the control thread. */
	int retiring;              /* the primary that retires, or -1 … */
	usec_t retiring_until;     /* … but no longer than this … */
	bool was_kept;             /* … which the last one did not */
	struct reign reign;        /* others read it under the lock */
	_Atomic unsigned standing; /* counts what becomes known of nodes, or of the catalog: what
				    * was found out before may be another matter now */
	_Atomic unsigned version;  /* of the catalog and of what leaves something */
	_Atomic unsigned ddl;      /* counts commands that change what texts mean, as far as seen */
	_Atomic unsigned definitions; /* and those that may bring code into tables and names … */
	_Atomic unsigned learned;  /* … up to this one it is known what that leaves, or nobody can
				      tell … */
	_Atomic unsigned judged;   /* … and up to this one the catalog knows them */
	_Atomic usec_t learned_at; /* monotonic; when that was asked last */
	atomic_bool unsure; /* writes go to another server than the monitor asks: no replica can
			     * be said to have them */
	pthread_mutex_t lock;
	const struct sql_catalog *catalog; /* or NULL as long as it was not read; .judged */
	const struct sql_leaving *leaving; /* the same */
	_Atomic bool leaving_is_old;       /* what there is now could not be had */
};

/* Its "host:port" in *room, which it returns. */
const char *node_address(const struct node *node, char room[LOG_ADDRESS_MAX]);

/* What was known of its locks and its cache no longer is. */
void node_forget_load(struct node *node);

/* One reference, the caller's. */
struct node_set *node_set_new(const char *database, const struct node_conf *nodes, size_t n);
struct node_set *node_set_ref(struct node_set *set);
void node_set_unref(struct node_set *set);
/* A set whose hosts are others begins with what is remembered of primaries in the one before,
 * unless the last primary is none of its nodes.  Any thread, before others know of the set. */
void node_set_inherit(struct node_set *set, struct node_set *before);
/* The node is the primary, and has said so.  Control thread. */
void node_set_pass_to(struct node_set *set, int node, const struct claim *claim);
/* What the configuration says of the same nodes besides, and of where this process stands.  Control
 * thread. */
void node_set_adopt(struct node_set *set, const struct node_conf *nodes, const char *zone);
/* Something has been written that a choice among the nodes goes by.  Any thread, behind that: who
 * sees the count sees what it is for. */
static inline void node_set_note_standing(struct node_set *set)
{
	atomic_fetch_add(&set->standing, 1);
}
/* Of the count, before that is looked at. */
static inline unsigned node_set_standing(const struct node_set *set)
{
	return atomic_load_explicit(&set->standing, memory_order_acquire);
}
/* The console says a weight.  Control thread. */
void node_weigh(struct node_set *set, unsigned node, unsigned weight);
/* The same hosts and ports in the same order. */
bool node_set_matches(const struct node_set *set, const struct node_conf *nodes, size_t n);

/* The catalog with a reference for the caller, or NULL: it was not read, or something has been
 * defined since. */
const struct sql_catalog *node_set_catalog(struct node_set *set);
/* Takes the reference.  It was read when there had been so many definitions.  One that says the
 * same as that before, between which nothing was defined, is that: what was proven, or found to be
 * wrong (sql/classify.h), stays so.  Control thread. */
void node_set_publish_catalog(struct node_set *set, const struct sql_catalog *catalog,
			      unsigned definitions);
/* Something has been defined: what is known of the catalog is not to be relied on. */
void node_set_note_definition(struct node_set *set);
/* The same for the names of code that leaves something, asked for when there had been so many
 * definitions.  leaving NULL: it could not be had; what was known before stays. */
const struct sql_leaving *node_set_leaving(struct node_set *set);
void node_set_publish_leaving(struct node_set *set, const struct sql_leaving *leaving,
			      unsigned definitions);
static inline bool node_set_is_learned(const struct node_set *set)
{
	/* Who sees this sees what was learned. */
	return atomic_load_explicit(&set->learned, memory_order_acquire) ==
	       atomic_load_explicit(&set->definitions, memory_order_relaxed);
}
void node_set_error(struct node_set *set, struct node *node, const char *why);

/* Where transactions that may write begin: on the primary; of a single node, or when nobody can ask
 * any, on the first one; -1: there is none, so they wait. */
static inline int node_set_primary(const struct node_set *set)
{
	int primary = set->monitored ? set->primary : 0;

	return primary >= 0 && set->nodes[primary].service != NODE_SERVES ? -1 : primary;
}

/* What a read asks of a replica. */
struct node_wish {
	const bool *serves;     /* for each node, whether it will do */
	usec_t max_lag;         /* 0: however far behind */
	uint64_t max_lag_bytes; /* the same */
	unsigned turn; /* another one each time, so that those that are equally busy take turns */
	bool is_fenced;
	uint64_t fence;  /* that it has to cover */
	int64_t process; /* told: which it is, where it matters (is_fenced) … */
	uint64_t covers; /* … and that it covers all fences below this one … */
	bool is_only;    /* … that it is the one of a pair that it can be … */
	bool lacks;      /* … or that one would have done but for the fence */
};

/* The healthy replica of that kind that is nearest, and of those has least to do for its weight; or
 * -1. */
int node_set_replica(const struct node_set *set, struct node_wish *wish);
/* Whether a replica, and this process of it, has what is asked of one by then. */
bool node_set_covers(const struct node_set *set, unsigned node, int64_t process,
		     const struct node_wish *wish);
/* What there is against a node for such a read, in words, for SHOW ROUTE; NULL: it will do. */
const char *node_set_objection(const struct node_set *set, unsigned i, struct node_wish *wish);
/* A connection has met this process there.  False: it is another than the one that is asked. */
bool node_set_meet(struct node_set *set, struct node *node, int64_t process);
/* Whether anything could be routed at all: cheap, for the hot path. */
static inline bool node_set_has_choice(const struct node_set *set)
{
	return set->n > 1 && atomic_load_explicit(&set->monitored, memory_order_relaxed);
}

#endif
