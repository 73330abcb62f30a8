/* SPDX-License-Identifier: ISC
 *
 * patroni.c - asks Patroni's REST API whether a node is its cluster's leader.
 *
 * GET /primary is answered with 200 by the leader and with 503 by others; only that line is read.
 * What does not answer, or not so, says nothing.
 */
#include "worker/patroni.h"

#include "base/mem.h"

#include <stdlib.h>

/* As Patroni's own clients wait. */
#define PATIENCE   (2 * USEC_PER_SEC)

#define STATUS_LEN 12 /* of "HTTP/1.0 200" */

static const char request[] = "GET /primary HTTP/1.0\r\n\r\n";

struct patroni_question {
	struct conn conn;
	struct dial dial;
	char *host;
	enum vouch vouch;
	void (*done)(void *arg, enum vouch vouch); /* NULL: nobody waits for it */
	void *arg;
};

static struct patroni_question *question_of(struct conn *c)
{
	return container_of(c, struct patroni_question, conn);
}

static enum vouch read_status(const char *line)
{
	if (memcmp(line, "HTTP/1.", 7) != 0)
		return VOUCH_NONE;
	if (!memcmp(line + 8, " 200", 4))
		return VOUCH_LEADER;
	return memcmp(line + 8, " 503", 4) ? VOUCH_NONE : VOUCH_DENIED;
}

static void on_readable(struct conn *conn)
{
	struct slice in = conn_input(conn);

	if (in.n < STATUS_LEN)
		return;
	question_of(conn)->vouch = read_status(in.p);
	conn_consume(conn, in.n);
	conn_close_soon(conn);
}

static void on_ended(struct conn *conn, const char *why PGT_UNUSED)
{
	conn_close_soon(conn);
}

static void on_nothing(struct conn *conn PGT_UNUSED)
{
}

static void on_freed(struct conn *conn)
{
	struct patroni_question *q = question_of(conn);

	dial_stop(&q->dial);
	if (q->done)
		q->done(q->arg, q->vouch);
	free(q->host);
	free(q);
}

static const struct conn_events question_events = { .readable = on_readable,
						    .drained = on_nothing,
						    .ended = on_ended,
						    .ready = on_nothing,
						    .freed = on_freed };

static void on_dialed(struct dial *d)
{
	d->conn->on = &question_events;
	conn_send(d->conn, request, sizeof(request) - 1);
}

static void on_failed(struct dial *d, const char *why PGT_UNUSED)
{
	conn_close_soon(d->conn);
}

struct patroni_question *patroni_ask(struct net *net, const struct dial_target *target,
				     void (*done)(void *arg, enum vouch vouch), void *arg)
{
	struct patroni_question *q = xnew(struct patroni_question);
	struct settings plain = *target->set;
	struct dial_target own = *target;

	plain.server_tls_sslmode = SSLMODE_DISABLE;
	q->host = xstrdup(target->host);
	q->done = done;
	q->arg = arg;
	own.host = q->host;
	own.set = &plain;
	own.tls = NULL;
	dial_start(&q->dial, &q->conn, net, &own, on_dialed, on_failed, on_freed);
	if (conn_is_usable(&q->conn))
		conn_expire(&q->conn, PATIENCE);
	return q;
}

void patroni_stop(struct patroni_question *q)
{
	q->done = NULL;
	conn_close_soon(&q->conn);
}
