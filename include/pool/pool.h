/* SPDX-License-Identifier: ISC
 *
 * pool.h - server connections by state, clients that wait for one, and the limits on both.
 *
 * A group is the unit with a home worker: the pools to all nodes for one database, user and
 * tenant, or one part of them where several workers share them.  Its clients and servers live on
 * one thread and nothing in it takes a lock; what spans groups are the shared records of
 * tenant/shared.h.
 *
 * A pool knows slots (embedded in struct server) and waiters (which a client has while it waits),
 * not whose they are.
 */
#ifndef PGT_POOL_POOL_H
#define PGT_POOL_POOL_H

#include "base/err.h"
#include "base/hash.h"
#include "base/list.h"
#include "config/config.h"
#include "pool/node_times.h"
#include "pool/params.h"
#include "pool/turns.h"
#include "route/logins.h"
#include "stats/counters.h"
#include "tenant/shared.h"
#include "tenant/tenant.h"
#include "wire/startup.h"

struct hub;
struct net;
struct node_set;
struct sql_catalog;
struct sql_leaving;

/* The life of a server connection; state and list are one, so SHOW POOLS cannot disagree with
 * reality. */
#define SLOT_STATES(X)                                                                             \
	X(LOGIN)    /* connecting, TLS, login, first questions */                                  \
	X(IDLE)     /* ready to be given out */                                                    \
	X(ACTIVE)   /* a client has it */                                                          \
	X(TESTED)   /* being reset or checked */                                                   \
	X(CANCELED) /* free, but a cancel may still arrive */                                      \
	X(CLOSING)  /* said goodbye; counts until the server's process is gone */                  \
	X(CLOSED)   /* in no list, counts no more */

enum slot_state {
#define X(name) SLOT_##name,
	SLOT_STATES(X)
#undef X
	    SLOT_NSTATES
};

struct pool;

struct slot {
	struct list link;
	struct pool *pool;
	enum slot_state state;
	usec_t since;             /* in this state */
	usec_t made_at;           /* when the connection was started */
	unsigned generation;      /* of the pool, when it was made */
	struct turn turn;         /* of the tenant whose client has it, in a shared pool */
	struct login_place login; /* while it logs in */
};

/* A place in a queue; it is there for as long as somebody stands in it. */
struct waiter {
	struct list link;
	struct pool *pool;
	void *owner;           /* who waits */
	struct turn_wait turn; /* where it stands in the queue of a shared pool */
	usec_t since;
	usec_t elsewhere; /* of the relay: how long it had waited before, in queues of the other
			     kind */
	bool notified;    /* query_wait_notify */
};

struct pool {
	struct group *group;
	struct lane *lane;          /* NULL: the group's own */
	const struct settings *set; /* the group's, or the lane's */
	unsigned node;
	unsigned generation; /* RECONNECT raises it: older slots are closed when they come free */
	unsigned moves;      /* of its node's name, for which servers have been looked through */
	/* Of the group's own: sessions begin with default_transaction_read_only on its node. */
	bool reads_by_default;
	struct list slots[SLOT_NSTATES];
	unsigned count[SLOT_NSTATES];
	struct list waiting; /* as they came */
	unsigned nwaiting;
	struct turns *turns;     /* of the tenants that share it; NULL: who came first is next */
	struct latencies *times; /* of its node; NULL: nothing is measured */
	struct list
	    holding;       /* of relay.holding, while it keeps servers for who comes back at once */
	struct list mates; /* a ring: the pools that pool_size counts together with this one */
	uint64_t given_count;         /* of a lane: servers given to clients … */
	uint64_t wait_time;           /* … for which those have waited so long */
	usec_t retry_at;              /* no connect before: server_login_retry after a failure */
	struct login_wait login_wait; /* its place in the queue of its node … */
	bool awaits_login;            /* … where it stands: no connect before it is its turn */
	unsigned comebacks;           /* of its node, that it knows of */
	unsigned kept;     /* for clients that another process cannot have: of the relay */
	bool login_failed; /* the last attempt was answered by a refusal: .error tells */
	struct err error;
};

/* How to log in to the server in the clients' name. */
struct credential {
	bool has_password;
	char *password; /* plain, or "md5…" */
	bool has_scram_keys;
	uint8_t client_key[32];
	uint8_t server_key[32];
};

/* Takes a copy; the one before is wiped. */
void credential_set_password(struct credential *c, const char *password);

/* What a group has in a lane: made when it is first used, and kept as long as the group is. */
struct lane {
	struct list link; /* of group.lanes */
	struct group *group;
	char *name;
	struct settings set; /* the group's, with the lane's own over them */
	usec_t timeout;      /* its ceiling of statement_timeout; 0: that of the tenant */
	bool *serves;        /* by node: whether its reads go there */
	bool gone;           /* a reload has taken it away */
	struct pool *pools;  /* one for each node */
};

/* Reasons that the relay may have, and tenants of a group that they are counted for; the others are
 * counted together, under no name. */
#define GROUP_PINS_MAX      16
#define GROUP_PINNERS_MAX   1000
#define GROUP_SPARE_WAITERS 16

/* How often sessions of a tenant kept a server. */
struct pinner {
	struct hlink link; /* of group.pinners, by .tenant */
	uint64_t counts[GROUP_PINS_MAX];
	char tenant[];
};

/* Of a pair there is one replica that reads can go to.  What was found out about it holds, but for
 * the fence, until something else is known of the nodes or the catalog (.standing), a reload, a
 * login there that fails, or a read that a replica refuses as a write.  See relay/gate.c. */
struct usual_replica {
	struct pool *pool; /* NULL: nothing is known */
	unsigned standing; /* node_set_standing() when it was looked at */
	uint64_t era;      /* the sql_classifier_era() that knows what reads */
	uint64_t covers;   /* it has what is written behind a fence below this … */
	int64_t process;   /* … as long as it is this process; 0: no matter */
	size_t longest;    /* request that goes there without another look: rescue_max_size */
};

struct group {
	struct hlink link; /* in the worker's table */
	uint64_t key_hash;
	struct net *net;
	void *owner;             /* the relay */
	struct login_desk *desk; /* of its thread */
	uint32_t serial;         /* of the relay: no two groups have the same one */
	char *name;              /* of the database, as clients say it */
	char *dbname;            /* as the server says it */
	char *user;              /* on the server */
	struct tenant *tenant;   /* whose the pools are, or NULL */
	bool has_tenants; /* tenant_by says so: sessions must not change the tenant's setting */
	bool is_shared;   /* … and any of them uses the pools */
	enum replication replication;
	unsigned part, parts;  /* its pools are this one of so many, each on a worker: part.c */
	struct config *config; /* whose strings the settings borrow */
	const struct database_conf *database_conf; /* of that config */
	struct settings set;
	bool readonly;           /* for all, or for its database; not for its tenant */
	bool is_gated;           /* this or the next is on: transactions have to be asked for */
	const char *maintenance; /* the same; "": it is off */
	usec_t maintenance_wait;
	struct credential credential;
	struct shared *database_shared, *user_shared, *login_shared;
	struct shared *fence_shared; /* of its writes, where there are no tenants */
	struct node_set *nodes;
	const struct sql_catalog *catalog; /* the version of nodes' that is in use here */
	const struct sql_leaving *leaving; /* the same; NULL: there are no such names */
	bool plans_tell; /* of sessions that they were made for, or that is not known; the same */
	unsigned catalog_version;
	struct node_times *times; /* of the nodes of its database */
	struct pool *pools;       /* one for each node */
	unsigned npools;
	struct usual_replica usual;
	struct list lanes; /* beside them */
	bool *serves;      /* by node: whether reads that are in no lane go there */
	struct pool limbo; /* of those who need a primary while there is none: has no servers */
	struct hub *hub;   /* of the relay: what listens for its clients, or NULL */
	struct param_sets params;
	struct list clients;                               /* logged in, all of them */
	struct waiter *spare_waiters[GROUP_SPARE_WAITERS]; /* for the next who have to wait */
	unsigned nspare_waiters;
	unsigned nclients;
	unsigned
	    nstayers; /* of them, when they were counted for the other process to have the rest */
	struct counters counters;
	struct hmap pinners;  /* of the relay: sessions by tenant and by why they kept a server */
	usec_t idle_since;    /* without clients and servers; 0: in use */
	bool reads_sequences; /* a client has asked for currval() or lastval() */
	usec_t parsed_until;  /* the same as a tenant's, of texts of no tenant */
	bool has_fence;       /* its writes matter to who reads on replicas */
	uint8_t isolation; /* that sessions begin with on the primary: enum server_isolation … */
	unsigned isolation_defaults; /* … as long as this is the number of their defaults */
	bool minds_isolation;        /* a transaction of it has been READ ONLY on a replica */
	bool is_serializable;        /* a replica has said that sessions begin so … */
	unsigned serializable_since; /* … as long as this is the number of their defaults */
	bool gone; /* its database or tenant left the config: closes when its clients do */
};

/* Walks all pools of a group, those of its lanes too: the one behind pool, or NULL. */
struct pool *group_next_pool(const struct group *group, struct pool *pool);
#define GROUP_FOREACH_POOL(pool, group)                                                            \
	for (struct pool *pool = group_next_pool((group), NULL); pool;                             \
	     pool = group_next_pool((group), pool))

/* An empty pool of the group on one of its nodes. */
void pool_init(struct pool *pool, struct group *group, unsigned node);
/* No slots and no waiters are left. */
void pool_fini(struct pool *pool);
/* After its group is configured: whether tenants share it, its size, whether it is measured. */
void pool_configure(struct pool *pool);

/* The ceiling of statement_timeout for a tenant's statements (NULL: nobody's) there; 0: none. */
static inline usec_t pool_timeout_cap(const struct pool *pool, const struct tenant *tenant)
{
	return pool->lane && pool->lane->timeout ? pool->lane->timeout : tenant_timeout_cap(tenant);
}
/* The same, as far as a session there begins with it: where tenants share the pool, none. */
static inline usec_t pool_session_cap(const struct pool *pool)
{
	return pool->group->is_shared ? 0 : pool_timeout_cap(pool, pool->group->tenant);
}

/* ---- slots ---------------------------------------------------------------------------------- */

/* Whether the pool itself may grow: cheap, asked whenever a client waits. */
bool pool_has_room(const struct pool *pool, usec_t now);
/* Whether somebody, on any thread, has just met a limit that this group is under too: idle
 * connections should make room. */
#define SHARED_STARVED_FOR USEC_PER_SEC /* then those are let go */
static inline bool shared_is_starved(const struct shared *s, usec_t now)
{
	usec_t at = atomic_load_explicit(&s->starved_at, memory_order_relaxed);

	return at && now - at < SHARED_STARVED_FOR;
}
static inline bool group_is_starved(const struct group *group, usec_t now)
{
	return shared_is_starved(group->database_shared, now) ||
	       shared_is_starved(group->user_shared, now) ||
	       (group->tenant && group->tenant->is_gated &&
		shared_is_starved(group->tenant->shared, now));
}
/* Reserves the right to one more connection: of the pool (the reserve counts when a client has
 * waited long enough), the database, the user, the tenant.  False: a limit is reached, or too many
 * log in to its node now, and the pool waits for its turn (.awaits_login); nothing is reserved. */
bool pool_reserve(struct pool *pool, struct slot *slot, usec_t now);
/* The same for one that is there and does not log in: nobody makes room for it. */
bool pool_receive(struct pool *pool, struct slot *slot, usec_t now);
/* For what follows only: the one writer of slot->state.  It is in no list then. */
static inline void slot_leave(struct slot *slot, enum slot_state next, usec_t now)
{
	list_del(&slot->link);
	slot->pool->count[slot->state]--;
	slot->state = next;
	slot->since = now;
}
/* Moves it between the lists.  To SLOT_CLOSED gives back what was reserved. */
void slot_become(struct slot *slot, enum slot_state next, usec_t now);
/* slot_become() of an idle one that a client gets … */
static inline void slot_give(struct slot *slot, usec_t now)
{
	PGT_ASSERT(slot->state == SLOT_IDLE);
	slot_leave(slot, SLOT_ACTIVE, now);
	slot->pool->count[SLOT_ACTIVE]++;
	list_push_back(&slot->pool->slots[SLOT_ACTIVE], &slot->link);
}
/* … and of one to be given out next.  The last one used stands first: it is warm, and the others
 * grow old and can be closed. */
static inline void slot_rest(struct slot *slot, usec_t now)
{
	struct list *idle = &slot->pool->slots[SLOT_IDLE];

	slot_leave(slot, SLOT_IDLE, now);
	slot->pool->count[SLOT_IDLE]++;
	if (slot->pool->group->set.server_round_robin)
		list_push_back(idle, &slot->link);
	else
		list_push_front(idle, &slot->link);
}
/* The idle slot to be used next: the last one used, or, with server_round_robin, the one idle
 * longest.  NULL: none. */
static inline struct slot *pool_idle(const struct pool *pool)
{
	struct list *first = list_first(&pool->slots[SLOT_IDLE]);

	return first ? container_of(first, struct slot, link) : NULL;
}
/* Connections that have logged in. */
static inline unsigned pool_size_ready(const struct pool *pool)
{
	return pool->count[SLOT_IDLE] + pool->count[SLOT_ACTIVE] + pool->count[SLOT_TESTED] +
	       pool->count[SLOT_CANCELED];
}
/* Connections that exist or are being made. */
static inline unsigned pool_size(const struct pool *pool)
{
	return pool->count[SLOT_LOGIN] + pool_size_ready(pool) + pool->count[SLOT_CLOSING];
}

/* ---- waiters -------------------------------------------------------------------------------- */

/* The place comes into *w, where there is none.  tenant: whose client it is; asked for in shared
 * pools only. */
void pool_wait(struct pool *pool, struct waiter **w, void *owner, struct tenant *tenant,
	       usec_t now);
/* Of one that waits. */
void waiter_leave_queue(struct waiter **w, usec_t now);
/* Harmless for one that does not. */
static inline void waiter_leave(struct waiter **w, usec_t now)
{
	if (*w)
		waiter_leave_queue(w, now);
}
/* The one that waits longest, or NULL. */
struct waiter *pool_first_waiter(const struct pool *pool);
/* The one whose turn is next, or NULL: nobody waits, or only those whose tenants have all that they
 * may have of the pool. */
struct waiter *pool_next_waiter(const struct pool *pool);
/* Those that would take a server now. */
static inline unsigned pool_ready_waiters(const struct pool *pool)
{
	return pool->turns ? pool->turns->nready : pool->nwaiting;
}
/* Whether somebody of this tenant need not wait if there is a server. */
static inline bool pool_has_turn(const struct pool *pool, const struct tenant *tenant)
{
	const struct turns *turns = pool->turns;

	if (!turns)
		return !pool->nwaiting;
	return (!turns->nready || turns_is_held(turns, tenant)) && turns_has_room(turns, tenant);
}

/* Servers that stay idle although others wait. */
static inline unsigned pool_holds(const struct pool *pool)
{
	return pool->turns ? pool->turns->nholds : 0;
}

/* A client has been given the slot; it may have waited for it, and waits no more. */
static inline void slot_begin_turn(struct slot *slot, struct waiter **w, struct tenant *tenant,
				   usec_t now)
{
	bool has_waited = *w != NULL;

	waiter_leave(w, now);
	if (slot->pool->turns)
		turns_begin(slot->pool->turns, &slot->turn, tenant, has_waited, now);
}

/* It has it no more. */
static inline void slot_end_turn(struct slot *slot, usec_t now)
{
	if (slot->turn.share)
		turn_end(&slot->turn, now);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Who a group is for. */
struct group_key {
	struct slice database; /* as clients say it */
	struct slice user;     /* on the server */
	struct slice tenant;   /* "" for none */
	enum replication replication;
	unsigned part; /* of a pool that several workers share */
};

/* Equal for keys that differ in replication or part only; with the part it tells on which thread a
 * group lives, so those of one part are together. */
uint64_t group_key_hash(const struct group_key *key);
bool group_is_for(const struct group *group, const struct group_key *key);
/* Its own, borrowed. */
struct group_key group_key(const struct group *group);

/* Takes references on config, tenant (NULL: none) and nodes; borrows times.  database: the entry of
 * that name or of "*". */
struct group *group_new(struct net *net, struct config *config,
			const struct database_conf *database, const struct group_key *key,
			struct tenant *tenant, struct node_set *nodes, struct node_times *times);
/* No client, server or waiter may be left. */
void group_free(struct group *group);
/* After a reload: resolves the settings anew. */
void group_configure(struct group *group, struct config *config,
		     const struct database_conf *database);

/* Counts its connections together with those of the other, which has as many nodes. */
void group_join(struct group *group, struct group *other);
/* … and with no other's any more. */
void group_part(struct group *group);

/* ---- part.c: pools that several workers share --------------------------------------------------
 */

/* What is set for the pools of a key, whose database has this entry. */
void group_settings(const struct config *config, const struct database_conf *database,
		    const struct group_key *key, struct settings *set);
/* Into how many parts they are divided: pool_workers, and no more than there are servers in any of
 * them, so that each part has one.  The key's own part does not matter. */
unsigned group_parts(const struct config *config, const struct database_conf *database,
		     const struct group_key *key);
/* Of a number of servers that all parts have together, those of this group's; the sum is exact. */
unsigned group_portion(const struct group *group, unsigned whole);
/* What its part may hold; 0: no limit. */
static inline unsigned pool_portion(const struct pool *pool)
{
	unsigned whole = pool->set->default_pool_size;

	return pool->group->parts == 1 ? whole : group_portion(pool->group, whole);
}

/* ---- lane.c: lanes --------------------------------------------------------------------------- */

/* The group's part in a lane of its configuration; NULL: there is no such lane. */
struct lane *group_lane(struct group *group, struct slice name);
/* For group.c: after a reload; at the end. */
void lanes_configure(struct group *group);
void lanes_free(struct group *group);

/* Where to count a session of the tenant (NULL: nobody's) that keeps a server. */
struct pinner *group_pinner(struct group *group, const struct tenant *tenant);

/* No client, no server, no waiter. */
bool group_is_unused(const struct group *group);

#endif
