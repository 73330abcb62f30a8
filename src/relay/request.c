/* SPDX-License-Identifier: ISC
 *
 * request.c - what a client sends, message by message, to the server that it has or gets.
 *
 * Each message has one row that says who handles it and whether it may come while an error waits
 * for its Sync.  A handler either passes the message on and notes what will be answered, or leaves
 * it where it is (STEP_AGAIN) until there are more bytes, a server, or a token.  Handlers may run
 * again for the same message, so they change nothing before they are sure.  Those of queries and of
 * the extended protocol stand in query.c and extended.c.
 *
 * Source: PostgreSQL manual, "Message Flow".
 */
#include "relay/request.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/admission.h"
#include "relay/early.h"
#include "relay/insight.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "sql/stream_guard.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <stdlib.h>

/* ---- small steps -------------------------------------------------------------------------------
 */

enum step request_protocol_error(struct client *c, const char *text)
{
	struct err e;

	err_set(&e, "08P01", "%s", text);
	client_close(c, &e, text);
	return STEP_CLOSED;
}

/* A request that may start a transaction is decided on for itself (limits, route), so it has to
 * wait until the one before has been answered.  Without either, pipelines just flow. */
bool request_must_wait_behind(struct client *c)
{
	const struct server *s = c->server;

	c->turn_missed = admit_is_gated(c) || (gate_has_choice(c) && !c->pins) || s->may_rescue ||
			 (s->commits_early && early_must_yield(s)) ||
			 (c->whose && s->replies.n > s->carrying && whose_is_pending(c));
	return c->turn_missed;
}

/* ---- what goes ahead of a request --------------------------------------------------------------
 */

/* Whose its session is, and its settings.  A client that keeps its server may have become another's
 * since, by what was answered here. */
static PGT_NOINLINE void bring_along(struct client *c)
{
	if (!is_at_start(c))
		return;
	if (!c->server->carry_due)
		context_look(c);
	if (c->server->carry_due)
		carry_send(c);
}

/* The request is not sent, whatever has gone wrong. */
static PGT_NOINLINE enum step refuse_unsettled(struct client *c)
{
	struct server *s = c->server;
	struct err e;

	log_error("C-%llu: S-%llu does not carry what its request needs, so both are closed",
		  (unsigned long long)c->id, (unsigned long long)s->id);
	s->doubtful = true;
	err_set(&e, "XX000", "the server is not that of the session's tenant");
	err_hint(&e, "The request has not been sent.");
	client_close(c, &e, e.text);
	return STEP_CLOSED;
}

enum step request_require_settled(struct client *c)
{
	return request_is_settled(c) ? STEP_DONE : refuse_unsettled(c);
}

enum step request_bring(struct client *c, uint8_t type)
{
	if (!request_is_settled(c))
		bring_along(c);
	if (c->begin)
		local_send_begin(c, type);
	return request_require_settled(c);
}

/* ---- refusals -----------------------------------------------------------------------------------
 */

/* Makes the server fail in our place, so that the transaction is as failed as the client is told.
 */
static void refuse_on_server(struct client *c, uint8_t type, const struct err *e)
{
	struct server *s = c->server;
	struct buf *out = conn_output(&s->conn);
	struct err *kept = xnew(struct err);
	struct reply r = {
		.kind = REPLY_QUERY, .way = REPLY_PASS, .note = NOTE_REFUSED, .subject = kept
	};

	*kept = *e;
	if (!request_is_settled(c))
		bring_along(c);
	if (type == MSG_QUERY || type == MSG_FUNCTION_CALL) {
		msg_put_query(out, REFUSED_TEXT);
	} else {
		msg_put_parse(out, "", REFUSED_TEXT);
		r.kind = REPLY_PARSE;
		c->in_batch = true;
	}
	s->unnamed_id = UNNAMED_UNKNOWN;
	replies_push(&s->replies, r);
}

static void refuse_here(struct client *c, uint8_t type, const struct err *e)
{
	msg_put_error(conn_output(&c->conn), "ERROR", e);
	if (c->begin)
		local_fail(c);
	if (type != MSG_QUERY && type != MSG_FUNCTION_CALL) {
		c->skips_to_sync = true;
		return;
	}
	if (c->whose && !c->begin)
		whose_end(c, false);
	local_ready(c);
}

static void log_refusal(const struct client *c, const struct err *e)
{
	char address[LOG_ADDRESS_MAX];
	struct log_about about = client_about(c, address);

	about.reason = e->sqlstate;
	about.is_often = true;
	log_about(LOG_LEVEL_INFO, &about, "%s", e->text);
}

/* What was sent ahead of it waits for a Sync.  A COMMIT that the client knows of has its own. */
static bool is_behind_carried(const struct client *c)
{
	return c->server->carrying && (c->server->carried || !early_is_all(c));
}

void request_refuse(struct client *c, uint8_t type, const struct err *e)
{
	if (c->host->config->global.log_pooler_errors)
		log_refusal(c, e);
	if (c->server && (!is_at_start(c) || is_behind_carried(c))) {
		refuse_on_server(c, type, e);
		return;
	}
	refuse_here(c, type, e);
	/* It has got a server for nothing. */
	if (c->server)
		attach_settle(c->server);
}

enum step request_refuse_message(struct client *c, const struct frame *f, const struct err *e)
{
	request_refuse(c, f->type, e);
	if (!c->server) {
		c->chosen = NULL;
		if (!c->begin)
			c->lane = NULL;
		admit_leave(c);
	}
	c->prepaid = 0;
	return request_skip(c, f);
}

/* ---- a server for the request -------------------------------------------------------------------
 */

static bool knows_whose(const struct client *c, const struct frame *f, struct err *e)
{
	if (f->type != MSG_QUERY)
		c->whose->is_apart = false;
	return whose_may_run(c, e);
}

static PGT_NOINLINE enum step acquire_within_limits(struct client *c, const struct frame *f,
						    struct pool *pool, unsigned n)
{
	enum verdict verdict;
	struct err e;

	if (c->whose && is_at_start(c) && !knows_whose(c, f, &e)) {
		request_refuse_message(c, f, &e);
		return STEP_CLOSED;
	}
	if (admit_is_gated(c) && is_at_start(c)) {
		verdict = admit_transaction(c, c->begin ? 1 : n, &e);
		if (verdict == VERDICT_REFUSED) {
			request_refuse_message(c, f, &e);
			return STEP_CLOSED;
		}
		if (verdict == VERDICT_WAIT)
			return STEP_AGAIN;
	}
	return request_acquire(c, f->type, pool);
}

/* The same, within the limits.  n: statements that the request costs; a BEGIN that waits is the one
 * that is asked for, and they are within its transaction. */
enum step request_get_server(struct client *c, const struct frame *f, struct pool *pool, unsigned n)
{
	if (c->whose || admit_is_gated(c))
		return acquire_within_limits(c, f, pool, n);
	return request_acquire(c, f->type, pool);
}

/* A BEGIN has waited long enough for its first statement.  Over a limit it waits on, and its first
 * statement is told. */
static PGT_NOINLINE void send_begin_alone(struct client *c)
{
	struct err e;

	if (admit_is_gated(c))
		gate_begin(c);
	switch (admit_transaction(c, 1, &e)) {
	case VERDICT_PASS:
		/* Whatever comes of it, it comes by itself. */
		(void)!request_acquire(c, MSG_QUERY, NULL);
		break;
	case VERDICT_REFUSED:
		c->begin_due = false;
		break;
	case VERDICT_WAIT:
		break;
	}
}

/* Behind what ends its transaction or takes back what is guarded, a statement in the same batch
 * would run as nobody knows whom.  False: *e. */
bool request_may_stand_behind(struct client *c, struct err *e)
{
	if (c->resets && !guard_allow_behind_reset(c, e))
		return false;
	return !c->whose || whose_may_follow(c, e);
}

/* ---- what others say of a message ---------------------------------------------------------
 */

/* What is to be done with a message of a client that listens, or would; STEP_CLOSED: what is done
 * with any other. */
enum step request_on_listen(struct client *c, const struct frame *f, enum listen_way way,
			    const struct err *e)
{
	switch (way) {
	case LISTEN_WAITS:
		return STEP_AGAIN;
	case LISTEN_ANSWERED:
		return request_skip(c, f);
	case LISTEN_REFUSED:
		return request_refuse_message(c, f, e);
	case LISTEN_PASSES:
		break;
	}
	return STEP_CLOSED;
}

/* The same of a client that may say whose its statements are. */
enum step request_on_whose(struct client *c, const struct frame *f, enum whose_way way,
			   const struct err *e)
{
	switch (way) {
	case WHOSE_WAITS:
		return STEP_AGAIN;
	case WHOSE_ANSWERED:
		return request_skip(c, f);
	case WHOSE_REFUSED:
		return request_refuse_message(c, f, e);
	case WHOSE_PASSES:
		break;
	}
	return STEP_CLOSED;
}

/* What a text asks of prepared statements is answered with the client's own. */
void request_hide_statements(struct client *c, struct slice text, struct buf *rewritten)
{
	struct buf out = { 0 };

	prepared_view_rewrite(c, buf_len(rewritten) ? buf_peek(rewritten) : text, &out);
	if (buf_len(&out)) {
		buf_fini(rewritten);
		*rewritten = out;
	}
}

/* ---- texts too long to be looked at ---------------------------------------------------------
 */

/* Nothing is known of it, so the server is asked afterwards what it has left, and a tenant's is
 * watched for anything that could change its id.  False: it was found already. */
bool request_watch_long_text(struct client *c, const struct frame *f)
{
	pins_note_unseen(c);
	c->env_unsure = true;
	if (!c->group->has_tenants)
		return true;
	client_make_rare(c)->guard = xnew(struct sql_stream_guard);
	sql_stream_guard_init(c->rare->guard, c->group->set.tenant_setting);
	return !sql_stream_guard_feed(c->rare->guard, slice_of(f->start, f->have));
}

static void end_watch(struct client *c)
{
	if (!c->rare->guard)
		return;
	free(c->rare->guard);
	client_make_rare(c)->guard = NULL;
}

/* The server has not run it, because it has not got all of it: the connection goes before it does.
 */
enum step request_found_in_long_text(struct client *c)
{
	struct err e;

	end_watch(c);
	guard_count_refused(c);
	err_set(
	    &e, "42501",
	    "permission denied: a statement too long to be checked spells the tenant's setting");
	client_close(c, &e, e.text);
	return STEP_CLOSED;
}

/* The server has the last byte of a message. */
static void end_stream(struct client *c)
{
	struct server *s = c->server;

	if (c->resets && conn_input(&s->conn).n) {
		/* Its last answer may have waited for this. */
		conn_resume(&s->conn);
		conn_kick(&s->conn);
	} else if (!s->replies.n) {
		/* It was data that the server had already refused. */
		attach_settle(s);
	}
}

/* The rest of a message of which the beginning has been dealt with. */
static enum step stream(struct client *c, struct slice in)
{
	size_t n = in.n < c->stream_left ? in.n : c->stream_left;
	bool last = n == c->stream_left;

	if (!c->stream_discard && c->rare->guard) {
		if (sql_stream_guard_feed(c->rare->guard, slice_of(in.p, n)))
			return request_found_in_long_text(c);
		if (last)
			end_watch(c);
		/* It may change how the next text has to be read, so that waits for the answer. */
		if (last && c->server && !c->in_batch)
			c->server->forgets = true;
	}
	if (!c->stream_discard && c->server)
		conn_send(&c->server->conn, in.p, n);
	conn_consume(&c->conn, n);
	c->stream_left -= n;
	if (last && c->server)
		end_stream(c);
	return STEP_DONE;
}

/* ---- COPY, and the end ----------------------------------------------------------------------
 */

/* Nothing of the client's own is under way that could be a COPY. */
static inline bool is_idle(const struct client *c)
{
	return !c->server || c->server->replies.n == c->server->carrying;
}

/* Without a COPY the server ignores it too.  Of many that are here all go at once. */
static enum step on_copy_data(struct client *c, const struct frame *f)
{
	struct slice in = conn_input(&c->conn);
	size_t n;

	if (is_idle(c))
		return request_skip(c, f);
	n = in.n <= c->host->config->global.max_packet_size ? frame_run(in.p, in.n, f->type) : 0;
	if (n <= f->len)
		return request_pass(c, f);
	conn_send(&c->server->conn, in.p, n);
	conn_consume(&c->conn, n);
	return STEP_DONE;
}

static enum step on_copy_end(struct client *c, const struct frame *f)
{
	struct server *s = c->server;

	if (is_idle(c))
		return request_skip(c, f);
	if (s->copy_in)
		s->copy_in = false;
	else
		request_expect(c, REPLY_COPY_END);
	return request_pass(c, f);
}

/* What was asked before it is run to its end, as on a connection of its own. */
static enum step on_terminate(struct client *c, const struct frame *f PGT_UNUSED)
{
	c->said_goodbye = true;
	client_close(c, NULL, "client close request");
	return STEP_CLOSED;
}

/* ---- the table ------------------------------------------------------------------------------
 */

struct request_rule {
	enum step (*handle)(struct client *c, const struct frame *f);
	bool ends_skip; /* counts although an error has made everything up to the Sync void */
};

static const struct request_rule rules[256] = {
	[MSG_QUERY] = {query_on_query,          false},
	[MSG_FUNCTION_CALL] = { query_on_function_call, false},
	[MSG_PARSE] = { extended_on_parse,      false},
	[MSG_BIND] = { extended_on_bind,       false},
	[MSG_DESCRIBE] = { extended_on_describe,   false},
	[MSG_EXECUTE] = { extended_on_execute,    false},
	[MSG_CLOSE] = { extended_on_close,      false},
	[MSG_FLUSH] = { extended_on_flush,      false},
	[MSG_SYNC] = { extended_on_sync,       true },
	[MSG_COPY_DATA] = { on_copy_data,           false},
	[MSG_COPY_DONE] = { on_copy_end,            false},
	[MSG_COPY_FAIL] = { on_copy_end,            false},
	[MSG_TERMINATE] = { on_terminate,           true },
};

/* Its session is not what it takes it for, and it learns that before anything more is done. */
static PGT_NOINLINE enum step tell_lost(struct client *c, const struct frame *f)
{
	struct err e;

	pins_put_lost(c, &e);
	return request_refuse_message(c, f, &e);
}

static enum step dispatch(struct client *c, const struct frame *f)
{
	const struct request_rule *rule = &rules[f->type];

	if (!rule->handle)
		return request_protocol_error(c, "unknown or unexpected message type");
	if (f->len > c->host->config->global.max_packet_size)
		return request_protocol_error(c, "message longer than max_packet_size");
	if (!rule->ends_skip && (c->skips_to_sync || (c->server && c->server->skips_to_sync)))
		return request_skip(c, f);
	if (c->rare->lost && !rule->ends_skip && rule->handle != on_copy_data &&
	    rule->handle != on_copy_end)
		return tell_lost(c, f);
	return rule->handle(c, f);
}

/* What it has sent may change how the next message has to be read, or what it finds. */
static inline bool must_hear_first(const struct client *c)
{
	const struct server *s = c->server;

	return s->forgets || s->begins_in_batch || s->check == CHECK_ASKED ||
	       s->check == CHECK_CHANGED || (c->resets && !c->in_batch);
}

/* The client's next message has to wait for something that is not the client.  Only for cycles: the
 * server may keep back what it has to say to a batch until it gets the batch's Sync, and one that a
 * COPY has read as a part of its data was none. */
static PGT_INLINE bool is_parked(const struct client *c)
{
	const struct server *s = c->server;

	if (c->waiter || admit_is_waiting(c) || relay_of(c)->suspended)
		return true;
	return s &&
	       (s->question.done || s->check == CHECK_CHANGED || (s->cancel && !s->replies.n) ||
		(must_hear_first(c) && (s->replies.ncycles || s->holds_ready) && !s->copy_in &&
		 !c->stream_left) ||
		s->replies.n > PIPELINE_MAX);
}

/* Input that cannot be handled now is kept, within bounds. */
static void hold_back(struct client *c)
{
	size_t n = conn_input(&c->conn).n;

	if (n > HOLD_MAX + WAITING_INPUT_MAX ||
	    (n > WAITING_INPUT_MAX && (c->turn_missed || is_parked(c))))
		conn_pause(&c->conn);
	else
		conn_resume(&c->conn);
}

static enum step next(struct client *c)
{
	struct slice in = conn_input(&c->conn);
	struct frame f;

	if (c->stream_left)
		return stream(c, in);
	switch (frame_peek(in.p, in.n, &f)) {
	case FRAME_OK:
		return dispatch(c, &f);
	case FRAME_PARTIAL:
		return STEP_AGAIN;
	case FRAME_INVALID:
		break;
	}
	return request_protocol_error(c, "invalid message length");
}

/* What is to be looked at when a client's messages have been handled as far as they can be.
 * before: how much there was of them. */
static inline void end_process(struct client *c, size_t before)
{
	if (c->phase != CLIENT_READY)
		return;
	if (c->rare->listening)
		listen_flush(c);
	if (c->server && (must_hear_first(c) || c->server->replies.n > PIPELINE_MAX))
		c->turn_missed = true;
	if (c->cancel_asked && c->server)
		answer_late_cancel(c->server);
	c->group->counters.bytes_received += before - conn_input(&c->conn).n;
	hold_back(c);
}

static PGT_NOINLINE void process(struct client *c)
{
	size_t before = conn_input(&c->conn).n;
	enum step step = STEP_DONE;

	if (c->server && c->server->conn.blocked) {
		conn_pause(&c->conn);
		return;
	}
	/* Answers of ours that nobody reads must not pile up. */
	if (c->conn.blocked && conn_unsent(&c->conn) > UNSENT_MAX && is_at_start(c)) {
		conn_pause(&c->conn);
		return;
	}
	c->turn_missed = false;
	if (c->begin_due && !is_parked(c))
		send_begin_alone(c);
	while (step == STEP_DONE && conn_input(&c->conn).n && c->phase == CLIENT_READY &&
	       !is_parked(c)) {
		step = next(c);
		/* A long row of them, with nothing for the server between, must not fill the queue.
		 */
		if (c->server && c->server->replies.n > PIPELINE_MAX) {
			answer_made_ones(c->server);
			rescue_forget(c->server);
		}
	}
	end_process(c, before);
}

/* Nothing of a request is under way for the client, and nothing waits or holds it back. */
static inline bool is_free(const struct client *c)
{
	uintptr_t waits = (uintptr_t)c->waiter | (uintptr_t)c->admission | (uintptr_t)c->begin |
			  (uintptr_t)c->whose | c->stream_left;

	return client_is_usual(c) && conn_is_usual(&c->conn) && !waits && !c->rare->listening &&
	       !c->rare->lost && !relay_of(c)->suspended;
}

/* Its server has just been given to it, and was in line with it at once. */
static inline bool is_fresh(const struct server *s)
{
	return server_is_usual(s) && conn_is_usual(&s->conn) && !s->replies.n &&
	       !s->question.done && !s->cancel;
}

void request_end_waiting(struct client *c, size_t n)
{
	end_process(c, n);
}

/* A Query, or a prepared statement, that is all that there is of the client's: most requests are. A
 * usual one goes from its bytes to its server in one go.  False: it goes message by message. */
static inline bool process_whole(struct client *c)
{
	struct slice in = conn_input(&c->conn);

	if (!in.n || in.n > c->host->config->global.max_packet_size ||
	    c->group->set.tenant_context_check)
		return false;
	if ((uint8_t)*in.p != MSG_QUERY)
		return (uint8_t)*in.p == MSG_BIND && extended_is_usual(c, in);
	if (frame_whole(in.p, in.n) != in.n || c->host->config->global.disable_pqexec)
		return false;
	return c->server ? c->looked_at && query_was_looked_at(c, in) : query_is_usual(c, in);
}

void request_process(struct client *c)
{
	bool may_be_whole =
	    is_free(c) && (c->server ? is_fresh(c->server) : !c->chosen && !c->rare->begun);

	if (!may_be_whole || !process_whole(c))
		process(c);
}

static void on_drained(struct client *c)
{
	if (c->server)
		conn_resume(&c->server->conn);
	relay_go_on(c);
}

static void on_leaving(struct client *c)
{
	end_watch(c);
	attach_abandon(c);
	whose_forget(c);
	admit_forget(c);
	pins_forget(c);
	putback_forget(c);
	listen_forget(c);
	local_forget(c);
	statement_forget_client(c);
	move_forget(c);
}

const struct client_events relay_client_events = {
	.readable = request_process,
	.drained = on_drained,
	.leaving = on_leaving,
};
