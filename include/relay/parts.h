/* SPDX-License-Identifier: ISC
 *
 * parts.h - what the files of relay/ need of each other.  Private to the folder.
 */
#ifndef PGT_RELAY_PARTS_H
#define PGT_RELAY_PARTS_H

#include "auth/sign.h"
#include "relay/relay.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "server/server.h"
#include "sql/scan.h"

struct buf;
struct statement;

/* Input of a client that waits is read on, to notice that it hangs up, up to this much. */
#define WAITING_INPUT_MAX 65536
/* Output that may be pending towards a peer before the other side is not read any more. */
#define UNSENT_MAX 65536
/* Requests that may be under way for one client. */
#define PIPELINE_MAX 16384
/* What is held of one message so that its text can be looked at. */
#define HOLD_MAX (1u << 20)

/* What reply.note says of an answer, and what reply.subject is then. */
enum reply_note {
	NOTE_NONE,
	NOTE_REFUSED,  /* the server was made to fail: the client gets the struct err */
	NOTE_NAMED,    /* Parse or Close of a client's name, or an Execute that gives or takes one:
			  the struct statement_name */
	NOTE_UNNAMED,  /* Parse of the unnamed statement: the struct statement before it, or NULL */
	NOTE_INJECTED, /* Parse or Close of ours on the server: the struct server_statement */
	NOTE_INJECTED_UNNAMED,
	NOTE_TOLD,  /* Describe of a client's name: the struct statement_name */
	NOTE_TEXT,  /* Query or Execute of a text that names prepared statements: the struct naming
		     */
	NOTE_BEGIN, /* a deferred BEGIN, or what goes with it; the Execute with which it has come
		       into effect: the struct statement */
	NOTE_CARRY, /* settings that go ahead of a request */
	NOTE_EARLY, /* a COMMIT that the client has been told of */
	NOTE_CHECK, /* whether the tenant's id is what it was made */
	NOTE_PUTBACK, /* Query of a text with commands of ours in it: the struct putback */
};

/* What a server is given to run so that it fails where we refuse: no statement starts like this. */
#define REFUSED_TEXT "pgturnstile refused this statement"

static inline struct relay *relay_of(const struct client *c)
{
	return c->host->relay;
}

static inline usec_t relay_now(const struct client *c)
{
	return loop_now(c->conn.net->loop);
}

/* The session has sent all of what it asks, and no answer is owed: nothing stands between what is
 * answered here and what came before.  A deferred BEGIN may wait. */
static inline bool is_at_start(const struct client *c)
{
	const struct server *s = c->server;

	return !c->in_batch &&
	       (!s || (s->tx == 'I' && s->replies.n == s->carrying && !s->skips_to_sync));
}

/* Whether the client has begun a transaction, which a server knows of or not. */
static inline bool is_in_transaction(const struct client *c)
{
	return c->begin || (c->server && c->server->tx != 'I');
}

/* ---- relay.c, sweep.c, operate.c: groups and the whole of a client ------------------------------
 */

/* The group of that key, which is made if need be.  tenant: whose its pools are, or NULL. */
struct group *relay_group(struct relay *r, const struct group_key *key,
			  const struct database_conf *database, struct tenant *tenant,
			  struct node_set *nodes);
/* Nobody uses the group any more: frees it. */
void relay_take_out_group(struct relay *r, struct group *group);
/* Closes servers that nobody uses, until a pool has no more than so many that can be used.  Those
 * that a client has left values of its sequences on stay, unless none is to. */
void relay_drop_idle(struct group *group, unsigned most);
/* A request in the queue never reached a server: it is answered here, with *e.  A BEGIN that has
 * been answered waits on, unless it was followed by one. */
void relay_end_waiting(struct client *c, const struct err *e);
/* Something of the client's own is to be answered, not only what we asked in its name. */
bool relay_has_request(const struct client *c);
/* Ends the client with a FATAL error; text is its reason in the log, too. */
void relay_close_client(struct client *c, const char *sqlstate, const char *text);
/* The group's first client, which is its last from now on; NULL: it has none.  For rounds of all of
 * them in which one that is closed may take others with it. */
static inline struct client *relay_next_in_turn(struct group *group)
{
	struct list *at = list_first(&group->clients);

	if (!at)
		return NULL;
	list_del(at);
	list_push_back(&group->clients, at);
	return container_of(at, struct client, link);
}
/* What the client has sent is looked at again, now that what it waited for may have come: it may
 * have been held back for that, and not be read any more. */
static inline void relay_go_on(struct client *c)
{
	conn_resume(&c->conn);
	conn_kick(&c->conn);
}
/* What those are told whose database or tenant is another one after a reload. */
extern const char relay_reconfigured[];
/* Makes sure that clients which wait for a limit are looked at in time. */
void relay_watch_limits(struct relay *r);
/* Makes sure that what the pool keeps idle for who comes back at once goes to others in time. */
void relay_watch_holds(struct relay *r, struct pool *pool);

/* ---- attach.c: servers for clients ------------------------------------------------------------
 */

/* Gives the client a server of the pool, now (STEP_DONE) or when one is free (STEP_AGAIN: it stands
 * in the queue).  STEP_CLOSED: it has been closed, with the reason. */
enum step attach_acquire(struct client *c, struct pool *pool) PGT_MUST_USE;
/* Its session is not as one that began now, or not to be used any more. */
bool attach_is_stale(const struct server *s);
/* The server has answered everything: takes it from the client if it may go. */
void attach_settle(struct server *s);
/* The client goes away. */
void attach_abandon(struct client *c);
/* What the server was asked will be asked elsewhere: it goes, and nothing was asked.  What the
 * client has claimed of its limits it keeps. */
void attach_withdraw(struct client *c);
/* The client's transaction goes on elsewhere, since it has done nothing but read here: the server
 * is rolled back and given to others.  The same is kept. */
void attach_move(struct client *c);
/* Nobody uses the server: reset, check, the next client, or the idle list. */
void attach_recycle(struct server *s);
/* The client's session keeps it: pins, session pooling. */
static inline bool attach_keeps(const struct client *c)
{
	return c->pins || c->group->set.pool_mode == POOL_MODE_SESSION;
}
/* Its client loses nothing with it: all has been answered, and nothing of the session is left. */
bool attach_owes_nothing(const struct server *s);
/* After a RESUME, or when a tenant may have more servers: idle ones for those who wait. */
void attach_use_idle(struct pool *pool);
/* The server has answered session_apply()'s question. */
void attach_on_settled(struct server *s, const struct report *error);
/* The server has answered a survey, or context_check(). */
void attach_on_surveyed(struct server *s);
/* Whether a client that asks for a server of the pool now would get one without a question. */
bool attach_has_idle(const struct pool *pool);

/* A client, from its place in the queue. */
static inline struct client *attach_waiting(struct waiter *w)
{
	return w->owner;
}
static inline bool attach_is_paused(const struct pool *pool)
{
	return pool->group->database_shared->paused;
}
/* The client has no server any more; what becomes of the server is the caller's to say. */
void attach_take_away(struct server *s);
/* Something took so long, for a tenant or NULL. */
void attach_record(struct pool *pool, struct tenant *tenant, enum latency_part part, usec_t took);

/* ---- move.c: sessions that go to another process ------------------------------------------------
 */

/* The client has no server any more, and may have come to rest. */
void move_note_leaver(struct client *c);
static inline void move_note(struct client *c)
{
	if (relay_of(c)->give)
		move_note_leaver(c);
}
/* It is gone, perhaps in the same turn. */
void move_forget(struct client *c);
/* It has entered its group with what it takes along: its session goes on, or is ended. */
void move_settle_in(struct client *c);

/* ---- handover.c: servers that go to another process ---------------------------------------------
 */

/* Before a group's sessions go: its idle servers do, but for as many as those who stay have of
 * them.  Nothing, here and below, where the other process does not take any. */
void handover_begin(struct group *group);
/* One session goes: a server of each pool that it may have had, likewise. */
void handover_go_along(struct group *group);
/* Idle ones that no client of the group will need, until a pool has so many that can be used. */
void handover_give_idle(struct group *group, unsigned most);

/* ---- supply.c: connections of a pool ------------------------------------------------------------
 */

/* Starts a connection of the pool for whoever handles its events; *made is set before any of them.
 * c: the client that is to have it, with what it wants, or NULL.  False: a limit is reached. */
bool supply_open(struct pool *pool, const struct client *c, const struct server_events *on,
		 struct server **made, usec_t now);
/* A node's host, or the directory that stands for one that the configuration does not name. */
const char *supply_host(const struct group *group, const struct node *node);
/* Where a connection of the pool goes, and as whom; *options is what the target points to, the
 * caller's. */
struct server_target supply_target(struct pool *pool, bool caps_timeout, struct buf *options);
/* Whether a startup packet has to ask for the tier's timeout; *ask: the default is not known, or
 * not any more, and the new connection is to tell. */
bool supply_must_cap(const struct pool *pool, usec_t now, bool *ask);
/* Starts connections for those who wait, as far as limits allow. */
void supply_serve_waiters(struct pool *pool, usec_t now);
/* min_pool_size. */
void supply_keep_minimum(struct pool *pool, usec_t now);
/* A login has failed: when its pool may try again, and whose fault it was. */
void supply_note_failure(struct server *s, const char *why);
/* One more, which nobody waits for, if limits allow and none is being opened. */
void supply_open_spare(struct pool *pool, usec_t now);
/* Those who wait for this pool are sent to choose again. */
void supply_scatter_waiters(struct pool *pool);
/* One of these waits again. */
void supply_go_on_waiting(struct client *c);
/* Of a login_desk: pools of its thread may log in.  Any thread. */
void supply_tell(struct login_desk *desk);
/* A number for what the group's sessions begin with now. */
static inline unsigned supply_defaults(const struct group *group)
{
	return atomic_load_explicit(&group->login_shared->defaults, memory_order_relaxed) +
	       atomic_load_explicit(&group->nodes->cluster->defaults, memory_order_relaxed);
}
extern const struct server_events relay_server_events;

/* The server is not to be used any more; who has it is told why, and what became of what it asked.
 */
void supply_evict(struct server *s, const char *text);
/* What the end of its server means for a client, in words for it. */
const char *supply_outcome(const struct server *s);

/* ---- failover.c: the primary goes, and another one comes ----------------------------------------
 */

/* Whether nothing begins on the pool's node any more. */
static inline bool failover_is_shut(const struct pool *pool)
{
	return pool->group->nodes->nodes[pool->node].service != NODE_SERVES;
}
/* Sends those who wait where they need not choose again, and ends what uses a node that was the
 * primary. */
void failover_follow(struct group *group);
/* Transactions under way on a primary that retires. */
unsigned failover_count_busy(const struct group *group);
/* What a request is told that has waited in limbo long enough. */
void failover_refuse(const struct client *c, struct err *e);

/* ---- replicate.c: a server for each client that replicates --------------------------------------
 */

/* Starts a connection for each of those who wait in the pool, as far as limits allow. */
void replicate_serve(struct pool *pool, usec_t now);
/* The client that a server was made for, if that still waits. */
struct client *replicate_owner(const struct server *s);
/* Whether a server of the pool that has come free has to go for one of those who wait: next is who
 * would get it, or NULL. */
bool replicate_needs_room(const struct pool *pool, const struct client *next, usec_t now);
/* The server has refused the login. */
void replicate_refuse(struct server *s);
/* The client has its server. */
void replicate_begin(struct client *c, struct server *s);

/* ---- request.c: from the client ---------------------------------------------------------------
 */

/* Handles what the client has sent, as far as it can be now. */
void request_process(struct client *c);
/* Ends the request under way with an error, in order with what the server still owes; the
 * transaction fails as if the server had said it.  type: of the request. */
void request_refuse(struct client *c, uint8_t type, const struct err *e);
extern const struct client_events relay_client_events;

/* ---- answer.c: from the server ----------------------------------------------------------------
 */

void answer_on_readable(struct server *s);
/* A NotificationResponse for its client, whose body this is.  False: it is none. */
bool answer_notified(struct server *s, struct slice body);
/* An answer of ours has taken the place of the last ReadyForQuery: goes on behind it. */
void answer_go_on(struct server *s);
/* Sends the answers at the head of the queue that no server gives. */
void answer_made_ones(struct server *s);
/* A string of so many statements goes to the client's server next. */
static inline void answer_note_many(struct server *s, unsigned statements)
{
	if (statements < 2)
		return;
	if (s->batch > s->many_until || s->many < statements)
		s->many = statements;
	s->many_until = s->batch + s->replies.ncycles;
}
/* A cancel that the client has asked for goes as soon as it can hit nothing but its request, or
 * what that stands and falls with. */
void answer_late_cancel(struct server *s);
/* A deferred BEGIN has been sent and not been answered. */
bool answer_owes_begin(const struct server *s);

/* ---- lane.c: in which lane a transaction runs --------------------------------------------------
 */

/* The client is in its group. */
void lane_enter(struct client *c);
/* Where its transaction runs, or the next one would; NULL: in none. */
struct lane *lane_of(const struct client *c);
/* Its pool on a node. */
struct pool *lane_pool_of(const struct client *c, unsigned node);
static inline struct pool *lane_pool(const struct client *c, unsigned node)
{
	return c->group->config->nlanes ? lane_pool_of(c, node) : &c->group->pools[node];
}
/* The ceiling of its statement_timeout; 0: none. */
usec_t lane_timeout_cap(const struct client *c);
/* Whether a text may still say where it goes: all that it costs those who may not say so. */
static inline bool lane_may_be_said(const struct client *c)
{
	return c->may_say_lane && !c->server && !c->chosen && c->group->config->nlanes;
}
/* Then: takes what it says.  False: *e. */
bool lane_hear_text(struct client *c, struct slice text, struct err *e);
static inline bool lane_hear(struct client *c, struct slice text, struct err *e)
{
	return !lane_may_be_said(c) || lane_hear_text(c, text, e);
}
/* After a reload: who was to go into a lane that is no more has to choose again. */
void lane_leave_gone(struct group *group);

/* ---- fence.c: who reads finds what was written --------------------------------------------------
 */

struct node_wish;

/* Of client.reads: what is known of the request under way. */
enum reads {
	READS_NOT,    /* it may write */
	READS_SO_FAR, /* nothing of its batch does yet; each Bind is looked at */
	READS_PROVEN, /* all of it reads */
};

/* Something has come from the client's server, and has not been passed on. */
void fence_note(struct server *s);
static inline void fence_on_answer(struct server *s)
{
	if (s->writes)
		fence_note(s);
}
/* The request under way goes out. */
static inline void fence_on_request(const struct client *c)
{
	if (c->reads == READS_NOT)
		c->server->writes |= c->group->has_fence;
}
/* … of which nothing is known. */
static inline void fence_on_unseen(struct client *c)
{
	c->reads = READS_NOT;
	fence_on_request(c);
}
/* A batch or transaction begins, of which nothing is known yet.  What a replica has refused may
 * write, whatever was proven. */
static inline void fence_begin_batch(struct client *c)
{
	c->reads = c->was_rescued ? READS_NOT : READS_SO_FAR;
}
/* The request that is about to be given a node reads. */
static inline void fence_is_proven(struct client *c)
{
	c->reads = c->was_rescued ? READS_NOT : READS_PROVEN;
}
/* A text is about to be sent to the server that the client has: whether it reads. */
void fence_look(struct client *c, struct slice text, const struct sql_facts *facts);
/* The same for a Bind; st: its statement, or NULL: not known. */
void fence_look_bound(struct client *c, const struct statement *st);
static inline bool fence_is_sessions(const struct client *c)
{
	return c->group->set.read_your_writes == READ_YOUR_WRITES_SESSION;
}
/* Where it is raised for all that share it, where it is not the session's. */
static inline _Atomic uint64_t *fence_record(const struct client *c)
{
	return c->tenant ? &c->tenant->shared->fence : &c->group->fence_shared->login_fence;
}
/* What a replica has to cover for the client to read there, with read_your_writes. */
static inline uint64_t fence_of(const struct client *c)
{
	uint64_t fence, floor;

	if (fence_is_sessions(c))
		return c->rare->fence;
	fence = *fence_record(c);
	floor = fence_floor;
	return fence < floor ? floor : fence;
}
/* What a read of the client asks of a replica. */
void fence_wish(const struct client *c, struct node_wish *wish);
/* Whether the client's read may run there: on the process that has what was written. */
static inline bool fence_fits(const struct client *c, const struct server *s)
{
	return !c->covered_by || c->covered_by == s->process;
}
/* It may not: the primary's pool, where it goes instead. */
struct pool *fence_go_back(struct client *c);

/* ---- guard.c: what fixes the tenant's id and its ceilings stays as it is -----------------------
 */

enum verdict { VERDICT_PASS, VERDICT_WAIT, VERDICT_REFUSED };

/* A statement is refused for what it would change, or for what its session has lost. */
void guard_count_refused(struct client *c);
/* Guards the tenant's id and lowers timeouts.  VERDICT_REFUSED: *e.  When the text has to be
 * another one, it is built in *rewritten (else that stays empty). */
enum verdict guard_text(struct client *c, struct slice text, const struct sql_facts *facts,
			struct buf *rewritten, struct err *e);
/* The same for what a Bind gives the parameters of a text; after_names: the message from the
 * formats of parameters on. */
enum verdict guard_bind(struct client *c, const struct statement *st, struct slice after_names,
			struct buf *rewritten, struct err *e);
/* A Bind behind another in its batch that may take back what is guarded.  False: *e. */
bool guard_allow_behind_reset(struct client *c, struct err *e);
/* guard_text() of a function that is called by its OID, which no text names. */
enum verdict guard_call(struct client *c, uint32_t oid, struct err *e);
/* The rewritten message goes out: tells the client that its timeout was lowered. */
void guard_note_clamp(struct client *c);

/* ---- gate.c: how texts are read, what READONLY lets run, and where a text goes ------------------
 */

/* The environment in which the client's texts are read. */
struct sql_env gate_env(struct client *c);
/* The facts of a text in it that has the shape that came behind the client's last one the last time
 * (sql/shape.h).  False: it may have another. */
bool gate_expects(struct client *c, struct slice text, struct sql_facts *facts) PGT_MUST_USE;
/* Without it: c->env_key and the like hold after it, as they do after gate_env(). */
void gate_know_env(struct client *c);
/* Another one where a text may mean, or leave, something else than before. */
uint64_t gate_meaning(struct client *c);
/* Whether a plan that is kept may tell of the session that it was made for, by a function that is
 * declared IMMUTABLE and may not be (sql/suspect.h), or that is not known. */
bool gate_plans_tell_anew(struct group *group);
static inline bool gate_plans_tell(struct group *group)
{
	const struct node_set *nodes = group->nodes;

	/* Known first: what is published behind that is not older. */
	if (!node_set_is_learned(nodes))
		return true;
	return atomic_load_explicit(&nodes->version, memory_order_relaxed) == group->catalog_version
		   ? group->plans_tell
		   : gate_plans_tell_anew(group);
}
/* Equal for sessions, as they are now, that may share such a plan; 0: there is none. */
uint64_t gate_plan_key(const struct client *c);
/* Whether its texts must be looked at at all. */
static inline bool gate_must_look(const struct client *c)
{
	const struct group *group = c->group;

	return group->set.pool_mode != POOL_MODE_SESSION || group->has_tenants || group->readonly ||
	       group->set.log_statements != LOG_STATEMENTS_NONE;
}

/* READONLY holds for it. */
bool gate_is_readonly(const struct client *c);
/* A transaction may begin here: whether READONLY binds it. */
void gate_begin(struct client *c);
/* Whether READONLY lets a text run; it begins a transaction where one may begin.  False: *e. */
bool gate_may_write(struct client *c, struct slice text, const struct sql_facts *facts,
		    struct err *e);
/* The same for what nothing is known of. */
bool gate_may_write_unseen(struct client *c, struct err *e);
/* Whether a choice of nodes depends on what is asked. */
static inline bool gate_has_choice(const struct client *c)
{
	const struct group *group = c->group;

	return node_set_has_choice(group->nodes) && group->set.route == ROUTE_AUTO &&
	       group->set.pool_mode != POOL_MODE_SESSION;
}
/* Whether the text is a proven read, whatever it says of the route … */
bool gate_is_proven(struct client *c, struct slice text, const struct sql_facts *facts);
/* … the same of a text that was not looked at for it … */
bool gate_text_is_proven(struct client *c, struct slice text);
/* … and does not ask for the primary. */
bool gate_is_read(struct client *c, struct slice text, const struct sql_facts *facts);
/* The same of a prepared statement, which keeps the proof. */
bool gate_statement_is_read(struct client *c, struct statement *st);
/* … if it has it already. */
bool gate_has_proof(struct client *c, const struct statement *st);
/* A replica has refused it as a write: none of its shape goes there any more. */
void gate_remember_write(struct client *c, struct slice text);
/* With route_mode = observe: the transaction that would have been on a replica has ended. */
void gate_note_observed(struct client *c);
/* The session's settings are others: whether its transactions are SERIALIZABLE. */
void gate_note_isolation(struct client *c);
/* A replica has refused one for that, which the session itself may not have asked for. */
void gate_learn_isolation(struct client *c);
/* The pool for a transaction that starts with this text.  NULL: the client waits for a replica that
 * has what it has written, and is asked again (fence_wait). */
struct pool *gate_choose(struct client *c, struct slice text, const struct sql_facts *facts);
/* The same, for one that is not sent there. */
struct pool *gate_peek(struct client *c, struct slice text, const struct sql_facts *facts);
/* Whether a client's server is not the primary's. */
static inline bool gate_is_replicas(const struct server *s)
{
	return (int)s->pool->node != node_set_primary(s->pool->group->nodes);
}
/* The same of the replica that reads of its group go to, as a rule.  False: it may be, too. */
static inline bool gate_is_usual_replicas(const struct server *s)
{
	const struct group *group = s->pool->group;

	return s->pool == group->usual.pool &&
	       node_set_standing(group->nodes) == group->usual.standing;
}
/* The pool for one of which it is known whether it reads only.  NULL: as of gate_choose(). */
struct pool *gate_choose_known(struct client *c, bool is_read);
/* The pool of what has to be sent to the primary, or waits for one. */
static inline struct pool *gate_primary(const struct client *c)
{
	int primary = node_set_primary(c->group->nodes);

	return primary < 0 ? &c->group->limbo : lane_pool(c, (unsigned)primary);
}
/* The pool for one that was proven to read in that era, if it is the usual replica's: all that is
 * asked then is whether anything has become known since, and the fence.  NULL: gate_choose() and
 * the like say. */
static inline struct pool *gate_choose_usual(struct client *c, uint64_t proven)
{
	struct group *group = c->group;
	const struct usual_replica *usual = &group->usual;

	if (!usual->pool || proven != usual->era ||
	    node_set_standing(group->nodes) != usual->standing || c->was_rescued ||
	    c->is_serializable || c->admission || fence_of(c) >= usual->covers)
		return NULL;
	c->reads = READS_PROVEN;
	c->is_routed = true;
	c->covered_by = usual->process;
	group->counters.replica_count++;
	tenant_count(c->tenant, TENANT_ON_REPLICA, 1);
	return usual->pool;
}
/* gate_choose() of a text of which nothing but its shape counts; proven: what is kept with that,
 * the sql_classifier_era() that knows it as a read. */
struct pool *gate_choose_among(struct client *c, struct slice text, const struct sql_facts *facts,
			       uint64_t *proven); /* for what follows only */
static inline struct pool *gate_choose_shape(struct client *c, struct slice text,
					     const struct sql_facts *facts, uint64_t *proven)
{
	struct pool *usual = gate_choose_usual(c, *proven);

	if (usual)
		return usual;
	if (gate_has_choice(c))
		return gate_choose_among(c, text, facts, proven);
	c->reads = READS_NOT;
	c->covered_by = 0;
	return gate_primary(c);
}

/* ---- admit.c: may a transaction start now ------------------------------------------------------
 */

/* Whether that has to be asked: all that it costs those who have no limit. */
static inline bool admit_is_gated(const struct client *c)
{
	return c->group->is_gated || (c->tenant && c->tenant->is_gated);
}

/* Of client.xact. */
#define XACT_ADMITTED  1 /* it may start */
#define XACT_READS     2 /* READONLY was on when it began: it may read only … */
#define XACT_READ_ONLY 4 /* … and has said so itself, so the server will see to it */

/* n statements want to start a transaction, or it is not known yet how many (0).  VERDICT_WAIT: the
 * client has been put on the list of those who wait; VERDICT_REFUSED: *e. */
enum verdict admit_transaction(struct client *c, unsigned n, struct err *e);
/* n statements within a transaction. */
void admit_charge(struct client *c, unsigned n);
/* One of which it was not known whether it would come; it may be paid for. */
void admit_count(struct client *c);
/* A server has worked so long for it; so many bytes were sent to it.  Of one that is gated. */
void admit_note_time(struct client *c, usec_t took);
void admit_note_bytes(struct client *c, size_t n);
/* What it has claimed of its tenant's limits: bits of client.claims. */
#define CLAIM_TRANSACTION 1
#define CLAIM_SERVER      2
void admit_release(struct client *c, uint8_t claims);
/* Its transaction has ended; its server has left it. */
static inline void admit_end(struct client *c)
{
	c->xact = 0;
	if (c->claims)
		admit_release(c, CLAIM_TRANSACTION);
}
static inline void admit_leave(struct client *c)
{
	c->xact = 0;
	if (c->claims)
		admit_release(c, CLAIM_TRANSACTION | CLAIM_SERVER);
}
/* Its read waits for a replica, for a moment.  False: it has done so long enough. */
bool admit_wait_for_replica(struct client *c);
/* It waits for none any more. */
void admit_has_node(struct client *c);
/* Whether it is known what code leaves in sessions; who waited for that does so no more. */
bool admit_has_proof(struct client *c);
/* Its batch waits until that is known, and a server is asked as soon as one may be.  False: it has
 * waited long enough. */
bool admit_wait_for_proof(struct client *c);
/* An event, at most one each second and tenant. */
void admit_say_limit(struct tenant *t, const struct group *group, enum limit_kind kind,
		     const char *outcome, usec_t now);
/* It waits no more, and has no transaction. */
void admit_forget(struct client *c);
/* Those who may go on by now are looked at again. */
void admit_wake(struct relay *r, usec_t now);
/* Limits and switches are others now: for those who wait, stand in the queue, or are in the middle
 * of a transaction that nobody has asked for. */
void admit_reconfigure(struct relay *r);

/* ---- local.c: what is answered without a server ------------------------------------------------
 */

/* The longest SELECT that may be a health check's. */
#define PING_MAX 32

/* Whether a Query of these facts may be one that local_query() answers. */
static inline bool local_may_know(struct slice text, const struct sql_facts *facts)
{
	const uint64_t kinds = 1ull << SQL_KIND_EMPTY | 1ull << SQL_KIND_BEGIN |
			       1ull << SQL_KIND_COMMIT | 1ull << SQL_KIND_ROLLBACK |
			       1ull << SQL_KIND_DISCARD | 1ull << SQL_KIND_SET |
			       1ull << SQL_KIND_SET_TRANSACTION;

	return facts->kind == SQL_KIND_SELECT ? text.n <= PING_MAX : kinds >> facts->kind & 1;
}

/* Answers a Query without a server; false: that is the server's to say. */
bool local_query(struct client *c, struct slice text, const struct sql_facts *facts);

/* The end of an answer to a Query that has been given here. */
void local_answer(struct client *c, const char *tag);
/* Whether a BEGIN may wait for its statement; outside of a transaction, with nothing owed. */
bool local_may_begin(const struct client *c, const struct sql_facts *facts);
/* It waits; its tag, or NULL: it cannot. */
const char *local_begin(struct client *c, struct slice text, const struct sql_facts *facts);
/* One of the extended protocol, outside of a batch that a server has, and the end of one that
 * waits: its Parse is answered; then its Bind, Describe or not, and Execute, by one tag or NULL: it
 * is the server's. */
bool local_parse(struct client *c, struct slice name, struct slice body, struct statement *known);
bool local_may_run(const struct client *c, const struct statement *st);
const char *local_run(struct client *c, const struct statement *st);
/* A Close that a batch begins with is answered; false: it is the server's. */
bool local_close(struct client *c, uint8_t what, struct slice name);
/* A SET TRANSACTION whose modes go with the BEGIN that waits. */
bool local_may_set_modes(struct client *c, struct slice text);
bool local_set_modes(struct client *c, struct slice text);
/* The end of a transaction whose BEGIN has waited all the while; its tag. */
const char *local_end(struct client *c, enum sql_kind kind);

/* What a ReadyForQuery says to a client that is owed nothing. */
static inline char local_tx(const struct client *c)
{
	if (c->begin)
		return c->begin_failed ? 'E' : 'T';
	return c->server ? c->server->tx : 'I';
}

/* A ReadyForQuery of ours. */
void local_ready(struct client *c);
/* The node for the transaction of a deferred BEGIN. */
struct pool *local_pool(struct client *c);
/* The client has a server for it: sends the deferred BEGIN, with what brings the transaction to
 * where the client believes it to be.  A message of this type may follow. */
void local_send_begin(struct client *c, uint8_t type);
/* The transaction of a deferred BEGIN has failed here. */
void local_fail(struct client *c);
/* The same for one that was sent, on a server that is not the client's any more.  Takes the
 * reference. */
void local_take_failed(struct client *c, struct statement *begin);
/* One that went to a replica, and of which nobody has heard there, waits again.  Takes the
 * reference. */
void local_take_back(struct client *c, struct statement *begin);
/* It will never be sent.  Harmless without one. */
void local_forget(struct client *c);
/* A BEGIN that is due could not be sent, and can now. */
void local_hurry(struct client *c);
/* begin_defer_max is another one, or SUSPEND is over. */
void local_rearm(struct relay *r);

/* ---- prepared_view.c --------------------------------------------------------------------------
 */

/* The text as it has to be where it asks pg_prepared_statements; nothing in *out: as it is. */
void prepared_view_rewrite(struct client *c, struct slice text, struct buf *out);

/* ---- putback.c --------------------------------------------------------------------------------
 */

struct putback;

/* The text of a session that began with settings of its own, so that RESET and DEFAULT go back to
 * them.  *back: what has to be kept with its reply, if anything; to be freed.  back NULL: a text of
 * the extended protocol.  False: it cannot be. */
bool putback_rewrite(struct client *c, struct slice text, struct putback **back, struct buf *out);
/* Whether the next command to be answered is one of ours. */
bool putback_is_next(const struct putback *back);
/* It has been answered; whether it was. */
bool putback_takes(struct putback *back);

/* In the extended protocol: a portal of the client that started with settings of its own is being
 * bound to a statement that takes some back.  False: what that takes back cannot be set again
 * behind its Execute. */
bool putback_bind(struct client *c, struct slice portal, struct statement *st);
/* The portal is bound anew, closed, or executed: its statement with its reference, or NULL. */
struct statement *putback_unbind(struct client *c, struct slice portal);
/* Behind the Execute.  Takes the reference. */
void putback_send(struct client *c, struct statement *st);
/* The client's portals are gone. */
void putback_forget(struct client *c);

/* ---- session.c: settings of a session ----------------------------------------------------------
 */

/* What its startup packet asks for, as a set of the group; a new reference. */
struct param_set *session_wanted(const struct identity *id, struct group *group);
/* Whether a setting says, or proves, who a tenant is. */
bool session_is_context(const struct group *group, struct slice name);
/* Brings the server in line with what the client wants.  STEP_DONE: it is.  STEP_AGAIN: it has
 * been asked to; attach_on_settled() goes on. */
enum step session_apply(struct client *c, struct server *s) PGT_MUST_USE;
/* Whether code on the server (PL/pgSQL) may have kept plans there that tell of others (I1). */
bool session_has_others_plans(const struct client *c, const struct server *s);
static inline bool session_must_forget_plans(const struct client *c, const struct server *s)
{
	return gate_plans_tell(c->group) && session_has_others_plans(c, s);
}
/* After a text that takes settings back to what the server began with: has those that the client
 * began with, and the tenant's signature, set again, and the ReadyForQuery that has come said when
 * they are.  False: there is nothing to wait for. */
bool session_restore(struct client *c, struct server *s);
/* Whether the session is as its startup packet made it: DISCARD ALL would find nothing but prepared
 * statements. */
bool session_is_clean(const struct client *c);
/* Tells the client what this server reports and it has not heard. */
void session_tell_news(struct client *c, struct server *s);
static inline void session_tell(struct client *c, struct server *s)
{
	if (c->told != s->params)
		session_tell_news(c, s);
}
/* The value that a session's setting may have: of statement_timeout no more than its tenant's
 * ceiling; room is where another value than the given one is put. */
#define SESSION_CLAMPED_MAX 32
const char *session_clamp(const struct client *c, const char *name, const char *value,
			  char room[SESSION_CLAMPED_MAX]);
/* Who the session acts as. */
bool session_is_role(const char *name);
bool session_has_role(const struct param_set *set);
/* What a transaction is that says nothing of it. */
#define PARAM_READ_ONLY "default_transaction_read_only"
#define PARAM_ISOLATION "default_transaction_isolation"
/* Whether the session itself has set that … */
bool session_says_read_only(const struct client *c);
/* … or began with it, as far as is known.  Which of them begin so may be another matter by now: a
 * server that the session has not met may know better. */
bool session_reads_by_default(const struct client *c);
/* A string constant that means the same whatever the session's settings are. */
void session_put_literal(struct buf *b, const char *s);
/* The startup options of a server connection of the pool. */
void session_options(const struct pool *pool, bool cap_timeout, struct buf *out);

/* ---- context.c: whose statements a server of a shared pool runs --------------------------------
 */

/* The id, its signature, the timeout. */
#define CONTEXT_MAX 3

/* What of a tenant's context a server lacks: pairs of name and value (NULL: the server's default).
 * Borrowed from the client, and good as long as the struct. */
struct context {
	const char *values[2 * CONTEXT_MAX];
	unsigned n; /* pairs */
	struct tenant *tenant;
	const char *timeout;
	bool is_signed; /* a signature is among them, which context_sign() makes */
	char signature[SIGN_MAX];
	char room[SESSION_CLAMPED_MAX];
};

/* All of these do nothing for pools that are not shared, except that a signature is forgotten. */
/* With the setting's name and the value that it has to have; fails when it has another. */
#define CONTEXT_CHECK_TEXT                                                                         \
	"SELECT WHERE 1 OPERATOR(pg_catalog./) CASE WHEN pg_catalog.current_setting($1, true) "    \
	"OPERATOR(pg_catalog.=) $2 THEN 1 ELSE 0 END OPERATOR(pg_catalog.=) 0"
/* Statements behind which a transaction or a COPY may be under way. */
#define CONTEXT_MAY_GO_ON ((uint32_t)(SQL_EFFECT_TRANSACTION_CONTROL | SQL_EFFECT_COPY))
/* Whether a client of this tenant may use the pools: its id can be brought to a server, whatever
 * encoding that session has.  False: *e. */
bool context_may_carry(const struct group *group, const struct tenant *tenant, struct err *e);
void context_find(const struct client *c, const struct server *s, struct context *x);
/* The same, of what goes with the client's own BEGIN and ends with its transaction: of a session
 * that has chosen its tenant in it (ADR 20). */
void context_find_local(const struct client *c, const struct server *s, struct context *x);
/* Before what was found is sent: a signature costs more than a look. */
void context_sign(const struct client *c, struct server *s, struct context *x);
/* Before the first statement of a transaction: has what the client's server lacks carried. */
void context_look_closely(struct client *c);
static inline void context_look(struct client *c)
{
	if (c->group->is_shared)
		context_look_closely(c);
}
/* What was found is on its way. */
void context_brought(const struct client *c, struct server *s, const struct context *x);
void context_brought_local(const struct client *c, struct server *s, const struct context *x);
/* The transaction has ended, and with it what went with its BEGIN. */
void context_leave(struct server *s);
static inline void context_end(struct server *s)
{
	if (s->context_is_local)
		context_leave(s);
}
/* What it carries is compared with what its next client wants, even where it is its tenant's. */
void context_look_again(struct server *s);
/* Nobody knows what the session carries. */
void context_forget(struct server *s);
/* Whether a text takes back what it carries. */
bool context_is_reset(const struct group *group, const struct sql_facts *facts);
/* After such a text: has it set again in the transaction under way, and the timeout lowered to the
 * ceiling if it is beyond.  False: nothing was asked. */
bool context_restore(struct client *c, struct server *s, const struct question *q);
/* tenant_context_check: whether the server has still to be asked, and asks it when it owes nothing;
 * attach_on_surveyed() goes on. */
bool context_check_is_missing(const struct client *c); /* of a group that checks */
static inline bool context_check_is_due(const struct client *c)
{
	return c->group->set.tenant_context_check && context_check_is_missing(c);
}
/* The parameters of CONTEXT_CHECK_TEXT. */
void context_put_check(const struct server *s, const char *values[2]);
void context_check(struct client *c);
/* It has been answered, and maybe not as it should be. */
void context_checked(struct server *s);
void context_check_failed(struct server *s, const struct report *error);
/* Another statement, another client: what was found says nothing about it. */
void context_check_again(struct server *s);
/* Whether the transaction ends with a Query of these facts.  tx: of the server before it. */
bool context_ends_with(const struct sql_facts *facts, char tx);
/* The transaction ends with what has been sent: asks behind it, if nothing else is under way. */
void context_check_behind(struct client *c);
/* Whether the statement_timeout that a survey has found is the one that was brought. */
bool context_has_brought(const struct server *s, struct slice timeout);
/* A survey has found this statement_timeout of the session's own, or none. */
void context_found_timeout(struct server *s, const char *value);
/* Whether a setting of the session is brought with the tenant's. */
bool context_brings(const struct group *group, const char *name);
/* The idle server for the client: its tenant's, else the one that has rested longest.  NULL: any
 * will do. */
struct slot *context_slot(const struct client *c, const struct pool *pool);

/* ---- carry.c: settings ahead of a request ---------------------------------------------------
 */

/* Whether what the server lacks of the client's settings can go in one write with its request:
 * where texts are followed, and no value depends on an encoding that the server may not have. */
bool carry_is_possible(const struct client *c, const struct server *s);
/* The request follows. */
void carry_send(struct client *c);
/* tenant_context_check, behind a request: fails when the id is another one. */
void carry_check(struct client *c);
/* SELECT of n set_config() calls, names and values as parameters. */
void carry_put_text(struct buf *sql, unsigned n, bool is_local);
/* A COMMIT that the client has been told of, by itself. */
void carry_commit(struct server *s);
/* Runs a deferred BEGIN, and with it what its transaction has of the tenant's context.  Without a
 * Sync: when any of it fails, the server ignores what comes behind, a Query too. */
void carry_begin(struct client *c, struct statement *begin);

/* ---- learn.c: code that may leave something -----------------------------------------------------
 */

/* Asks a server that nobody uses, if nobody has for long enough; it is recycled afterwards.  False:
 * there is no need. */
bool learn_begin(struct server *s) PGT_MUST_USE;
/* The same, of an idle server of the pool. */
void learn_sweep(struct pool *pool, usec_t now);
/* Somebody waits for the answer: where no server is idle, one is opened for the question. */
void learn_hurry(struct pool *pool, usec_t now);

/* ---- sequence.c: currval() and lastval() --------------------------------------------------------
 */

/* A text with these bits of enum sql_sequence will ask for a server. */
void sequence_expect(struct client *c, uint8_t sequence);
/* Of client.sequence_server: the server with its values has been somebody else's. */
#define SEQUENCE_LOST UINT64_MAX
/* The server has been given to a client. */
static inline void sequence_on_given(struct client *c, struct server *s)
{
	if (s->sequence_user == c->id)
		return;
	if (c->sequence_server == s->id)
		c->sequence_server = SEQUENCE_LOST;
	s->sequence_mixed |= s->sequence_user != 0;
	s->sequence_user = c->id;
}
/* Whether the values on the server are this client's. */
static inline bool sequence_has_own(const struct client *c, const struct server *s)
{
	return c->sequence_server == s->id && s->sequence_user == c->id;
}
/* Whether the values on the server are those of a client that asks for them. */
bool sequence_is_kept(const struct group *group, const struct server *s);
/* Whether values of others have to be taken from the server before this client uses it. */
static inline bool sequence_must_clean(const struct client *c, const struct server *s)
{
	return s->sequence_mixed &&
	       (c->group->reads_sequences || c->group->set.sequence_state == SEQUENCE_STATE_PIN) &&
	       !(c->reads_sequence && sequence_has_own(c, s));
}
/* The idle server that has this client's values, or NULL. */
struct slot *sequence_slot(const struct client *c, const struct pool *pool);
/* Whether the client's server tells it its own values or none.  False: *e. */
bool sequence_allow(const struct client *c, uint8_t sequence, struct err *e);
/* The text goes out; true: the client has to keep its server from now on. */
bool sequence_note(struct client *c, uint8_t sequence);
/* Its values are on a server that it cannot get. */
void sequence_lose(struct client *c);
/* The session has discarded its values. */
void sequence_forget(struct client *c);

/* ---- survey.c: what a session has left on its server --------------------------------------------
 */

/* Whether the transaction that has ended may have left anything. */
static inline bool survey_is_due(const struct client *c)
{
	return c->touched != 0;
}
/* Asks the server, which owes nothing; attach_on_surveyed() goes on. */
void survey_begin(struct client *c, struct server *s);
void survey_free(struct survey *survey); /* NULL is allowed */

#endif
