/* SPDX-License-Identifier: ISC
 *
 * watch.h - what the monitor, its probes and its judgement share: a database that is watched, and
 * what is known of each of its nodes.  Private to the folder; the control thread's alone.
 */
#ifndef PGT_WORKER_WATCH_H
#define PGT_WORKER_WATCH_H

#include "auth/userlist.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "route/primacy.h"
#include "server/server.h"
#include "worker/catalog_read.h"
#include "worker/monitor.h"
#include "worker/patroni.h"

/* What a node said of itself. */
struct answer {
	bool is_replica;
	uint64_t position;
	usec_t replay_age; /* -1: not known */
	uint32_t timeline; /* 0: not known */
	int64_t process;
};

struct probe {
	struct watch *watch;
	unsigned node;
	struct server *server; /* or NULL */
	bool is_ready;         /* logged in */
	bool has_answered;     /* on this connection */
	bool may_see_control;  /* of its cluster */
	bool tells_load;       /* it has not refused to on this connection … */
	usec_t load_at;        /* … and was asked for it last */
	bool was_heard;        /* it has answered, or failed to */
	bool was_refused;      /* it lives, and did not let us in when that was tried last */
	usec_t retry_at;       /* no attempt before: who refuses us is not pestered */
	struct patroni_question *patroni; /* under way, or NULL */
	enum vouch vouch;
	usec_t asked_at;              /* the attempt or question under way; 0: none */
	usec_t silence;               /* how long its answer has been looked for in vain */
	char cluster[CLUSTER_ID_MAX]; /* system identifier, "" while it is not known */
	struct answer answer;
	uint64_t question; /* its number: route/fence.h */
	int64_t stranger;  /* that was known at the node when it was asked */
	usec_t covered_at; /* it has replayed all that was written by then; 0: not known */
};

struct watch {
	struct list link;
	struct monitor *monitor;
	struct node_set *set;
	const struct database_conf *database; /* of the monitor's config */
	struct settings settings;
	const char *user;
	struct credential credential;
	struct loop_timer timer;
	usec_t pace;         /* of the timer */
	usec_t urgent_since; /* 0: it is not */
	struct probe *probes;
	struct claim *claims; /* what the probes know, whenever that is judged */
	bool is_awaited; /* a node would be the first primary, and others are to be heard … */
	usec_t awaited;  /* … for so long already */
	int primary;     /* index, or -1 while none answers */
	struct fence_line line; /* of its log */
	usec_t primary_at;      /* when it was asked for the position in its answer; 0: never */
	struct catalog_read *reading;
	usec_t reading_since;
	usec_t catalog_since; /* that of this primary was read first; 0: it was not */
	usec_t catalog_due;   /* whatever happens … */
	usec_t catalog_again; /* … but no sooner than this when something was defined */
	unsigned definitions; /* of the set when .reading began */
	bool catalog_failed;  /* and that was said */
};

struct monitor {
	struct net *net;
	struct mailbox *mailbox;
	struct resolver *resolver;
	struct node_sets *sets;
	struct config *config;
	struct tls_context *tls;
	struct list watches;
	struct loop_timer look;
};

static inline usec_t watch_now(const struct watch *w)
{
	return loop_now(w->monitor->net->loop);
}

static inline struct node *probe_node(const struct probe *p)
{
	return &p->watch->set->nodes[p->node];
}

/* ---- monitor.c: databases ---------------------------------------------------------------------
 */

/* The database that a client's servers log in to. */
const char *watch_own_dbname(const struct watch *w);
/* A connection of the monitor's own to one of the nodes. */
struct server_target watch_target(const struct watch *w, unsigned node, const char *dbname);
/* Its nodes are asked as often as what is known of them asks for. */
void watch_keep_pace(struct watch *w);
/* The catalog of the primary is read, if it is due, or given up when that takes too long. */
void watch_mind_catalog(struct watch *w);

/* ---- probe.c: asking one node -----------------------------------------------------------------
 */

/* Asks what is due, and gives up what has been silent for too long. */
void probe_tick(struct probe *p, usec_t now);
/* The node's name has lost an address: if that is where it asks, it asks elsewhere. */
void probe_follow(struct probe *p);

/* ---- assess.c: what nodes are -----------------------------------------------------------------
 */

/* why: "" when there is nothing wrong with it. */
void assess_set_role(struct probe *p, enum node_role role, const char *why);
/* One of the nodes has said something new, or nothing any more. */
void assess_nodes(struct watch *w);
/* Another look has passed: the first primary is not waited for without end. */
void assess_awaited(struct watch *w);
/* How far a node that has answered is behind the primary. */
void assess_lag(struct probe *p, usec_t now);
/* What it has of what was written. */
void assess_log(struct probe *p, usec_t now);

#endif
