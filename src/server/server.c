/* SPDX-License-Identifier: ISC
 *
 * server.c - one connection to a PostgreSQL server: birth, questions of our own, death.
 *
 * Knows what a session on the server looks like, not who uses it.
 */
#include "server/server.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "net/tls.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "server/cancel.h"
#include "server/login.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(offsetof(struct server, is_unbound) ==
		   offsetof(struct server, unusual) + sizeof(((struct server *)0)->unusual),
	       "server.unusual has all that stands beside it");

/* How long a server's process may take to go after our goodbye before its slot is free again. */
#define GOODBYE_PATIENCE (5 * USEC_PER_SEC)
/* How long it may run what a client that said goodbye left behind. */
#define FINISH_PATIENCE (3600 * USEC_PER_SEC)
/* An answer to a question of ours that is longer than this is skipped, not looked at. */
#define ANSWER_MAX 65536
/* More parameters than a server reports: what comes beyond is not remembered. */
#define PARAMETERS_MAX 64

static struct server *server_of(struct conn *c)
{
	return container_of(c, struct server, conn);
}

/* ---- questions ------------------------------------------------------------------------------ */

void server_ask(struct server *s, const char *sql, const struct question *q)
{
	PGT_ASSERT(!s->question.done && q->done);
	s->question = *q;
	buf_clear(&s->question_error);
	s->unnamed_id = UNNAMED_NONE; /* a Query drops it */
	msg_put_query(conn_output(&s->conn), sql);
}

void server_await(struct server *s, const struct question *q)
{
	PGT_ASSERT(!s->question.done && q->done);
	s->question = *q;
	buf_clear(&s->question_error);
}

static void put_bound(struct server *s, const char *sql, const char *const *values, unsigned n,
		      bool describes)
{
	struct buf *out = conn_output(&s->conn);

	msg_put_parse(out, "", sql);
	msg_put_bind(out, "", "", values, n);
	if (describes)
		msg_put_target(out, MSG_DESCRIBE, 'P', "");
	msg_put_execute(out, "");
}

static void ask_bound(struct server *s, const char *const *sql, unsigned nsql,
		      const char *const *values, unsigned n, const struct question *q)
{
	PGT_ASSERT(!s->question.done && q->done);
	s->question = *q;
	buf_clear(&s->question_error);
	s->unnamed_id = UNNAMED_UNKNOWN;
	for (unsigned i = 0; i < nsql; i++)
		put_bound(s, sql[i], values, n, q->columns != NULL);
	msg_put_empty(conn_output(&s->conn), MSG_SYNC);
}

void server_ask_bound(struct server *s, const char *sql, const char *const *values, unsigned n,
		      const struct question *q)
{
	ask_bound(s, &sql, 1, values, n, q);
}

void server_ask_both(struct server *s, const char *const sql[2], const char *const *values,
		     unsigned n, const struct question *q)
{
	ask_bound(s, sql, 2, values, n, q);
}

static void on_row(struct server *s, struct slice body)
{
	struct slice columns[QUESTION_MAX_COLUMNS];
	struct reader r = reader_of(body);
	unsigned n = read_u16(&r);

	if (!s->question.row)
		return;
	n = n < QUESTION_MAX_COLUMNS ? n : QUESTION_MAX_COLUMNS;
	for (unsigned i = 0; i < n; i++) {
		uint32_t len = read_u32(&r);

		columns[i] = len == UINT32_MAX ? slice_of(NULL, 0) : read_bytes(&r, len);
	}
	if (!r.failed)
		s->question.row(s, s->question.arg, columns, n);
}

/* Of each column: its name, and 18 bytes about its type. */
static void on_description(struct server *s, struct slice body)
{
	struct slice names[QUESTION_MAX_COLUMNS];
	struct reader r = reader_of(body);
	unsigned n = read_u16(&r);

	if (!s->question.columns)
		return;
	n = n < QUESTION_MAX_COLUMNS ? n : QUESTION_MAX_COLUMNS;
	for (unsigned i = 0; i < n; i++) {
		names[i] = read_cstr(&r);
		read_bytes(&r, 18);
	}
	if (!r.failed)
		s->question.columns(s, s->question.arg, names, n);
}

static void on_answered(struct server *s, char tx)
{
	struct question q = s->question;
	struct report report;
	bool failed = buf_len(&s->question_error) > 0;

	s->tx = tx;
	s->question = (struct question){ 0 };
	if (failed)
		report_parse(buf_peek(&s->question_error), &report);
	q.done(s, q.arg, failed ? &report : NULL);
}

static void notify(struct server *s, struct slice body)
{
	if (s->on->notified)
		s->on->notified(s, body);
}

/* One message of an answer.  False: it is complete, and what comes next belongs to somebody else.
 */
static bool on_answer(struct server *s, const struct frame *f)
{
	struct slice body = frame_body(f);

	switch (f->type) {
	case MSG_DATA_ROW:
		on_row(s, body);
		return true;
	case MSG_ROW_DESCRIPTION:
		on_description(s, body);
		return true;
	case MSG_PARAMETER_STATUS:
		server_on_parameter(s, body);
		return true;
	case MSG_NOTIFICATION:
		notify(s, body);
		return true;
	case MSG_ERROR:
		if (!buf_len(&s->question_error))
			buf_put_slice(&s->question_error, body);
		return true;
	case MSG_READY:
		on_answered(s, body.n == 1 ? body.p[0] : 'E');
		return false;
	default:
		return true;
	}
}

/* Reads the answer to the question under way. */
static void read_answer(struct server *s)
{
	struct frame f;

	for (bool more = true; more;) {
		struct slice in = conn_input(&s->conn);
		enum frame_status status = frame_peek(in.p, in.n, &f);

		if (status == FRAME_INVALID || (status == FRAME_OK && f.len > ANSWER_MAX)) {
			s->on->ended(s, "the answer to a question of ours makes no sense");
			return;
		}
		if (status == FRAME_PARTIAL || !frame_is_whole(&f))
			return;
		conn_consume(&s->conn, f.len);
		more = on_answer(s, &f);
	}
}

/* ---- events --------------------------------------------------------------------------------- */

static PGT_NOINLINE void on_answer_readable(struct server *s)
{
	struct conn *c = &s->conn;

	read_answer(s);
	/* Bytes behind an answer belong to whoever the server belongs to now. */
	if (conn_is_usable(c) && !s->question.done && conn_input(c).n)
		conn_kick(c);
}

static void on_readable(struct conn *c)
{
	struct server *s = server_of(c);

	if (s->question.done)
		on_answer_readable(s);
	else if (s->login)
		login_on_readable(s);
	else
		s->on->readable(s);
}

static void on_drained(struct conn *c)
{
	struct server *s = server_of(c);

	s->on->drained(s);
}

static void on_ended(struct conn *c, const char *why)
{
	struct server *s = server_of(c);

	s->doubtful = true;
	s->on->ended(s, why ? why : "the server hung up");
}

static void on_ready(struct conn *c PGT_UNUSED)
{
}

static void server_free(struct server *s)
{
	usec_t now = loop_now(s->conn.net->loop);

	if (s->pool)
		slot_become(&s->slot, SLOT_CLOSED, now);
	if (s->node)
		atomic_fetch_sub(&s->node->servers, 1);
	server_forget_statements(s);
	hmap_fini(&s->statements);
	replies_fini(&s->replies);
	param_set_unref(s->params);
	param_set_unref(s->applied);
	server_set_context(s, NULL);
	login_free(s->login);
	backend_free(s->backend);
	if (s->tls_context)
		tls_context_unref(s->tls_context);
	buf_fini(&s->question_error);
	buf_free(s->sent);
	buf_fini(&s->asked);
	free(s->kept_text);
	mem_wipe(s->cancel_key, sizeof(s->cancel_key));
	if (s->on->freed)
		s->on->freed(s);
	free(s);
}

static void on_freed(struct conn *c)
{
	server_free(server_of(c));
}

static const struct conn_events server_conn_events = { .readable = on_readable,
						       .drained = on_drained,
						       .ended = on_ended,
						       .ready = on_ready,
						       .freed = on_freed };

/* ---- birth and death ------------------------------------------------------------------------ */

static void on_dialed(struct dial *d)
{
	struct server *s = server_of(d->conn);

	s->conn.on = &server_conn_events;
	/* Not before: whoever dials begins the connection anew. */
	conn_guard(&s->conn, true);
	login_begin(s);
}

static void on_dial_failed(struct dial *d, const char *why)
{
	struct server *s = server_of(d->conn);

	s->on->ended(s, why);
}

struct server *server_new(struct pool *pool, struct net *net, const struct server_events *on)
{
	static _Atomic uint64_t last_id;
	struct server *s = xnew(struct server);

	s->on = on;
	s->pool = pool;
	s->id = atomic_fetch_add(&last_id, 1) + 1;
	list_init(&s->statements_lru);
	list_init(&s->context_link);
	if (pool) {
		s->params = param_set_ref(pool->group->params.empty);
		s->applied = param_set_ref(pool->group->params.empty);
		server_set_context(s, pool->group->tenant);
	}
	conn_prepare(&s->conn, net, &server_conn_events);
	return s;
}

static void take_target(struct server *s, const struct server_target *target)
{
	s->node = target->node;
	if (s->node)
		atomic_fetch_add(&s->node->servers, 1);
	s->login = login_new(target);
	s->resolver = target->dial.resolver;
	s->mailbox = target->dial.mailbox;
	s->tls_context = target->dial.tls ? tls_context_ref(target->dial.tls) : NULL;
}

void server_connect(struct server *s, const struct server_target *target)
{
	take_target(s, target);
	dial_start(&s->dial, &s->conn, s->conn.net, &target->dial, on_dialed, on_dial_failed,
		   on_freed);
}

void server_resume(struct server *s, const struct server_target *target, int fd)
{
	take_target(s, target);
	s->is_brought = true;
	conn_open(&s->conn, s->conn.net, fd, &server_conn_events);
	conn_peer_of(fd, &s->conn.peer);
	resolve_learn(s->resolver, target->dial.host);
	login_resume(s);
}

void server_dismiss(int fd)
{
	static const char goodbye[] = { MSG_TERMINATE, 0, 0, 0, 4 };

	(void)!send(fd, goodbye, sizeof(goodbye), MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

void server_discard(struct server *s)
{
	param_set_unref(s->params);
	param_set_unref(s->applied);
	server_set_context(s, NULL);
	free(s);
}

struct log_about server_about(const struct server *s, char room[LOG_ADDRESS_MAX])
{
	return (struct log_about){ .server = s->id,
				   .database = s->pool->group->name,
				   .user = s->pool->group->user,
				   .tenant = s->context ? s->context->name : NULL,
				   .node = node_address(s->node, room) };
}

static void log_goodbye(const struct server *s)
{
	char node[LOG_ADDRESS_MAX];
	struct log_about about;

	if (!s->pool->group->config->global.log_server_connections)
		return;
	about = server_about(s, node);
	log_about(LOG_LEVEL_INFO, &about, "closing, not needed any more (age=%llds)",
		  (long long)((loop_now(s->conn.net->loop) - s->slot.made_at) / USEC_PER_SEC));
}

static void say_goodbye(struct server *s, usec_t patience)
{
	bool knows_us = s->conn.phase == CONN_OPEN && !s->login;

	if (knows_us && s->pool)
		log_goodbye(s);
	dial_stop(&s->dial);
	if (s->cancel)
		cancel_forget(s->cancel);
	s->cancel = NULL;
	if (s->pool && s->slot.state != SLOT_CLOSING)
		slot_become(&s->slot, SLOT_CLOSING, loop_now(s->conn.net->loop));
	s->client = NULL;
	s->conn.on = &server_conn_events;
	if (s->conn.phase != CONN_OPEN) {
		conn_close_soon(&s->conn);
		return;
	}
	/* Behind half a request a Terminate would be taken for the other half. */
	if (knows_us && !s->has_cut_request)
		msg_put_empty(conn_output(&s->conn), MSG_TERMINATE);
	conn_finish(&s->conn, patience);
}

void server_drop(struct server *s)
{
	say_goodbye(s, GOODBYE_PATIENCE);
}

int server_give_away(struct server *s)
{
	int fd = conn_take_fd(&s->conn);

	slot_become(&s->slot, SLOT_CLOSING, loop_now(s->conn.net->loop));
	conn_close_soon(&s->conn);
	return fd;
}

void server_let_finish(struct server *s)
{
	say_goodbye(s, FINISH_PATIENCE);
}

/* ---- what is known about the session --------------------------------------------------------- */

void server_on_parameter(struct server *s, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice name = read_cstr(&r), value = read_cstr(&r);
	struct param_set *now;

	if (r.failed || !s->params)
		return;
	if (s->params->n >= PARAMETERS_MAX && !param_set_get(s->params, name))
		return;
	now = param_set_with(s->params, name, value);
	param_set_unref(s->params);
	s->params = now;
}

void server_set_context(struct server *s, struct tenant *tenant)
{
	struct tenant *old = s->context;

	s->context = tenant_ref(tenant);
	list_del(&s->context_link);
	if (tenant)
		list_push_back(&tenant->servers, &s->context_link);
	tenant_unref(old);
}

bool server_is_elsewhere(const struct server *s, const char *host)
{
	return s->conn.phase == CONN_OPEN && !resolve_leads_to(s->resolver, host, &s->conn.peer);
}

bool server_is_capped(const struct server *s)
{
	const struct group *group = s->pool->group;
	usec_t cap = pool_session_cap(s->pool);
	int64_t dflt = group->login_shared->default_timeout_ms;

	return !cap || s->caps_timeout || (dflt > 0 && dflt * USEC_PER_MSEC <= cap);
}

void server_cancel(struct server *s)
{
	if (!s->cancel)
		s->cancel = cancel_start(s);
}

void server_forget_statements(struct server *s)
{
	s->carry_parsed = 0;
	LIST_FOREACH_SAFE (at, &s->statements_lru) {
		struct server_statement *st = container_of(at, struct server_statement, lru);

		hmap_remove(&s->statements, &st->link);
		list_del(&st->lru);
		if (s->on->statement_gone)
			s->on->statement_gone(s, st->subject);
		free(st);
	}
	s->unnamed_id = UNNAMED_NONE;
}

bool server_on_idle_bytes(struct server *s)
{
	struct frame f;

	for (;;) {
		struct slice in = conn_input(&s->conn);
		enum frame_status status = frame_peek(in.p, in.n, &f);

		if (status == FRAME_PARTIAL)
			return true;
		if (status == FRAME_INVALID || f.len > ANSWER_MAX)
			return false;
		if (!frame_is_whole(&f))
			return true;
		conn_consume(&s->conn, f.len);
		if (f.type == MSG_PARAMETER_STATUS)
			server_on_parameter(s, frame_body(&f));
		else if (f.type == MSG_NOTIFICATION)
			notify(s, frame_body(&f));
		else if (f.type != MSG_NOTICE)
			return false;
	}
}
