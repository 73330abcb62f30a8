/* SPDX-License-Identifier: ISC
 *
 * cancel.c - a cancel request on its way to a server.
 *
 * Knows one server and its key, not which client asked or why.
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
	struct server *server; /* NULL: it is gone */
	char *host;
	struct tls_context *tls; /* or NULL; a reference */
	struct buf request;
	usec_t patience; /* for connecting, and again for the server to hang up */
};

static struct cancel *cancel_of(struct conn *c)
{
	return container_of(c, struct cancel, conn);
}

static void on_freed(struct conn *conn)
{
	struct cancel *c = cancel_of(conn);
	struct server *s = c->server;

	dial_stop(&c->dial);
	mem_wipe(c->request.data, c->request.cap);
	buf_fini(&c->request);
	free(c->host);
	if (c->tls)
		tls_context_unref(c->tls);
	free(c);
	if (s) {
		s->cancel = NULL;
		s->on->cancel_over(s);
	}
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
	buf_put_slice(conn_output(&c->conn), buf_peek(&c->request));
	/* The close that matters is the server's; lingering waits for it. */
	conn_finish(&c->conn, c->patience);
}

static void on_failed(struct dial *d, const char *why)
{
	log_warning("cancel request to %s: %s", d->host, why);
	conn_close_soon(d->conn);
}

struct cancel *cancel_start(struct server *s)
{
	struct cancel *c = xnew(struct cancel);
	const struct group *group = s->pool->group;
	struct dial_target target = { .port = s->node->port,
				      .set = &group->set,
				      .resolver = s->resolver,
				      .mailbox = s->mailbox };

	/* It may outlive the server, its group and the configuration. */
	c->host = xstrdup(*s->node->host ? s->node->host : group->config->global.unix_socket_dir);
	c->tls = s->conn.tls ? tls_context_ref(s->tls_context) : NULL;
	target.host = c->host;
	target.tls = c->tls;
	c->server = s;
	c->patience =
	    group->set.cancel_wait_timeout ? group->set.cancel_wait_timeout : CANCEL_PATIENCE_MAX;
	buf_put_u32(&c->request, 12 + s->cancel_key_len);
	buf_put_u32(&c->request, CANCEL_REQUEST_CODE);
	buf_put_u32(&c->request, s->pid);
	buf_put(&c->request, s->cancel_key, s->cancel_key_len);
	dial_start(&c->dial, &c->conn, s->conn.net, &target, on_dialed, on_failed, on_freed);
	if (conn_is_usable(&c->conn))
		conn_expire(&c->conn, c->patience);
	return c;
}

void cancel_forget(struct cancel *c)
{
	c->server->cancel = NULL;
	c->server = NULL;
}
