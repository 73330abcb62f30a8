/* SPDX-License-Identifier: ISC
 *
 * cancel.c - a cancel request on its way to a server, or to another pooler.
 *
 * Knows where it goes and the key, not which client asked or why.
 */
#include "server/cancel.h"

#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "net/tls.h"
#include "route/nodes.h"
#include "server/server.h"

#include <stdlib.h>

#define CANCEL_REQUEST_CODE 80877102u
/* What cancel_wait_timeout = 0 comes to: beyond any statement that is still worth ending. */
#define CANCEL_PATIENCE_MAX (24 * 3600 * USEC_PER_SEC)

struct cancel {
	struct conn conn;
	struct dial dial;
	const struct cancel_events *on; /* NULL: nobody wants to know */
	void *arg;
	char *host;
	struct tls_context *tls; /* or NULL; a reference */
	struct buf request;
	usec_t patience; /* for connecting, and again for the server to hang up */
	bool is_sent;
};

static struct cancel *cancel_of(struct conn *c)
{
	return container_of(c, struct cancel, conn);
}

static void on_freed(struct conn *conn)
{
	struct cancel *c = cancel_of(conn);
	const struct cancel_events *on = c->on;
	void *arg = c->arg;
	bool was_sent = c->is_sent;

	dial_stop(&c->dial);
	buf_wipe(&c->request);
	free(c->host);
	if (c->tls)
		tls_context_unref(c->tls);
	free(c);
	if (on)
		on->over(arg, was_sent);
}

static void on_readable(struct conn *conn)
{
	conn_consume(conn, conn_input(conn).n);
}

/* The server hears of it when the connection is really closed, so that it may use its slot again.
 */
static void on_ended(struct conn *conn, const char *why PGT_UNUSED)
{
	conn_close_soon(conn);
}

static void on_nothing(struct conn *conn PGT_UNUSED)
{
}

static const struct conn_events cancel_events = { .readable = on_readable,
						  .drained = on_nothing,
						  .ended = on_ended,
						  .ready = on_nothing,
						  .freed = on_freed };

static void on_dialed(struct dial *d)
{
	struct cancel *c = cancel_of(d->conn);

	c->conn.on = &cancel_events;
	c->is_sent = true;
	buf_put_slice(conn_output(&c->conn), buf_peek(&c->request));
	/* The close that matters is the server's; lingering waits for it. */
	conn_finish(&c->conn, c->patience);
}

static void on_failed(struct dial *d, const char *why)
{
	struct cancel *c = cancel_of(d->conn);

	if (c->on)
		c->on->failed(c->arg, d->host, why);
	conn_close_soon(d->conn);
}

struct cancel *cancel_send(struct net *net, const struct dial_target *target, uint32_t pid,
			   struct slice secret, const struct cancel_events *on, void *arg)
{
	struct cancel *c = xnew(struct cancel);
	struct dial_target own = *target;

	/* It may outlive whoever has asked, and the configuration. */
	c->host = xstrdup(target->host);
	c->tls = target->tls ? tls_context_ref(target->tls) : NULL;
	own.host = c->host;
	c->on = on;
	c->arg = arg;
	c->patience = target->set->cancel_wait_timeout ? target->set->cancel_wait_timeout
						       : CANCEL_PATIENCE_MAX;
	buf_put_u32(&c->request, (uint32_t)(12 + secret.n));
	buf_put_u32(&c->request, CANCEL_REQUEST_CODE);
	buf_put_u32(&c->request, pid);
	buf_put_slice(&c->request, secret);
	dial_start(&c->dial, &c->conn, net, &own, on_dialed, on_failed, on_freed);
	if (conn_is_usable(&c->conn))
		conn_expire(&c->conn, c->patience);
	return c;
}

bool cancel_is_sent(const struct cancel *c)
{
	return c->is_sent;
}

void cancel_forget(struct cancel *c)
{
	c->on = NULL;
}

/* ---- to a server ------------------------------------------------------------------------------
 */

static void on_server_failed(void *arg PGT_UNUSED, const char *host, const char *why)
{
	log_warning("cancel request to %s: %s", host, why);
}

static void on_server_over(void *arg, bool was_sent PGT_UNUSED)
{
	struct server *s = arg;

	s->cancel = NULL;
	s->on->cancel_over(s);
}

struct cancel *cancel_start(struct server *s)
{
	static const struct cancel_events on = { .failed = on_server_failed,
						 .over = on_server_over };
	const struct group *group = s->pool->group;
	const struct dial_target target = { .host = *s->node->host
							? s->node->host
							: group->config->global.unix_socket_dir,
					    .port = s->node->port,
					    /* Its name may have others, or another by now. */
					    .address = &s->conn.peer,
					    .set = &group->set,
					    .tls = s->conn.tls ? s->tls_context : NULL,
					    .resolver = s->resolver,
					    .mailbox = s->mailbox };

	return cancel_send(s->conn.net, &target, s->pid,
			   slice_of((const char *)s->cancel_key, s->cancel_key_len), &on, s);
}
