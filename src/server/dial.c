/* SPDX-License-Identifier: ISC
 *
 * dial.c - the way to a node: resolve the name, connect, agree on TLS.
 *
 * Tries the addresses of a name one after the other.  Knows nothing of logins.  TLS is agreed on as
 * libpq does it: SSLRequest, one byte of answer, and nothing else may have come with it
 * (CVE-2021-23222).
 */
#include "server/dial.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "net/sockopt.h"
#include "net/tls.h"

#include <arpa/inet.h>
#include <stdlib.h>

static const char ssl_request[8] = { 0, 0, 0, 8, 0x04, (char)0xd2, 0x16, 0x2f };

static void fail(struct dial *d, const char *why)
{
	d->phase = DIAL_FAILED;
	d->failed(d, why);
}

static void finish(struct dial *d)
{
	dial_stop(d);
	d->phase = DIAL_DONE;
	d->done(d);
}

static struct dial *dial_of(struct conn *c)
{
	return c->owner;
}

static bool try_addresses(struct dial *d, struct err *e)
{
	while (d->next_address < d->found->n) {
		unsigned i = d->next_address++;

		if (conn_connect(d->conn, (const struct sockaddr *)&d->found->addrs[i],
				 d->found->lens[i], e))
			return true;
	}
	return false;
}

static bool wants_tls(const struct dial *d)
{
	return d->conn->peer.family != AF_UNIX && d->sslmode >= SSLMODE_PREFER && d->tls;
}

static void on_ready(struct conn *c)
{
	struct dial *d = dial_of(c);
	struct err e;

	if (d->phase == DIAL_CONNECT) {
		if (!sock_apply(c->fd, c->peer.family, &d->socket_options, &e))
			log_warning("connection to %s: %s", d->host, e.text);
		if (!wants_tls(d)) {
			finish(d);
			return;
		}
		d->phase = DIAL_ASK_TLS;
		conn_send(c, ssl_request, sizeof(ssl_request));
	} else {
		finish(d);
	}
}

static void start_tls(struct dial *d)
{
	d->phase = DIAL_TLS;
	conn_start_tls(d->conn, tls_new(d->tls, d->conn->fd, d->host,
					d->sslmode == SSLMODE_VERIFY_FULL ? d->host : NULL, false));
}

static void on_readable(struct conn *c)
{
	struct dial *d = dial_of(c);
	struct slice in = conn_input(c);
	char answer;

	PGT_ASSERT(d->phase == DIAL_ASK_TLS && in.n);
	answer = in.p[0];
	conn_consume(c, 1);
	if (answer == 'S')
		start_tls(d);
	else if (answer == 'N' && in.n > 1)
		fail(d, "unexpected bytes after the answer to SSLRequest");
	else if (answer == 'N' && d->sslmode >= SSLMODE_REQUIRE)
		fail(d, "the server does not support TLS, but server_tls_sslmode demands it");
	else if (answer == 'N')
		finish(d);
	else
		fail(d, "the server did not answer SSLRequest with S or N");
}

static void on_ended(struct conn *c, const char *why)
{
	struct dial *d = dial_of(c);
	struct err e;

	if (d->phase == DIAL_CONNECT && d->next_address < d->found->n) {
		conn_abandon(c);
		if (try_addresses(d, &e))
			return;
		why = e.text;
	}
	fail(d, why ? why : "the server hung up");
}

static void on_drained(struct conn *c PGT_UNUSED)
{
}

static void on_freed(struct conn *c)
{
	dial_of(c)->freed(c);
}

static const struct conn_events dial_events = { .readable = on_readable,
						.drained = on_drained,
						.ended = on_ended,
						.ready = on_ready,
						.freed = on_freed };

static void use_addresses(struct dial *d, const struct resolved *found)
{
	struct err e = { 0 };

	if (!found->n) {
		fail(d, found->error.text);
		return;
	}
	d->found = xmalloc(sizeof(*d->found));
	*d->found = *found;
	d->phase = DIAL_CONNECT;
	if (!try_addresses(d, &e))
		fail(d, e.text);
}

static void on_resolved(void *arg, const struct resolved *found)
{
	struct dial *d = arg;

	d->lookup = NULL;
	use_addresses(d, found);
}

void dial_start(struct dial *d, struct conn *conn, struct net *net,
		const struct dial_target *target, void (*done)(struct dial *),
		void (*failed)(struct dial *, const char *), void (*freed)(struct conn *))
{
	const struct settings *set = target->set;
	struct resolved found;

	*d = (struct dial){ .conn = conn,
			    .phase = DIAL_RESOLVE,
			    .sslmode = set->server_tls_sslmode,
			    .tls = target->tls,
			    .host = target->host,
			    .done = done,
			    .failed = failed,
			    .freed = freed };
	d->socket_options =
	    (struct sock_options){ .keepalive = set->tcp_keepalive,
				   .keep_idle_s = set->tcp_keepidle,
				   .keep_interval_s = set->tcp_keepintvl,
				   .keep_count = set->tcp_keepcnt,
				   .user_timeout_ms = set->tcp_user_timeout,
				   .buffer_bytes = (unsigned)set->tcp_socket_buffer };
	conn_prepare(conn, net, &dial_events);
	conn->owner = d;
	found.lens[0] = target->address ? addr_get(target->address, &found.addrs[0]) : 0;
	found.n = found.lens[0] != 0;
	if (found.n || resolve_now(target->resolver, target->host, target->port, &found))
		use_addresses(d, &found);
	else
		d->lookup = resolve_start(target->resolver, target->mailbox, target->host,
					  target->port, on_resolved, d);
}

void dial_stop(struct dial *d)
{
	if (d->lookup)
		resolve_cancel(d->lookup);
	d->lookup = NULL;
	free(d->found);
	d->found = NULL;
}
