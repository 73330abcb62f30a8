/* SPDX-License-Identifier: ISC
 *
 * client.c - the life of a client connection: birth, moving, death.
 *
 * Knows how a session ends, not what it does.
 */
#include "client/client.h"

#include "base/log.h"
#include "base/mem.h"
#include "client/login.h"
#include "net/sockopt.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

_Static_assert(offsetof(struct client, phase) ==
		   offsetof(struct client, unusual) + sizeof(((struct client *)0)->unusual),
	       "client.unusual has all that stands beside it");

/* How long a client may take to read its last error. */
#define FAREWELL_PATIENCE (5 * USEC_PER_SEC)

/* Without client_login_timeout: those who judge passwords may never answer. */
#define VERDICT_PATIENCE (60 * USEC_PER_SEC)

/* What those have who never had any of it. */
static const struct client_rare nothing_rare;

static bool has_rare(const struct client *c)
{
	return c->rare != &nothing_rare;
}

struct client_rare *client_make_rare(struct client *c)
{
	if (!has_rare(c))
		c->rare = xnew(struct client_rare);
	return (struct client_rare *)c->rare;
}

uint8_t *client_secret(struct client *c)
{
	return c->secret_len > CLIENT_KEY_SHORT ? client_make_rare(c)->secret : c->secret;
}

static struct client *client_of(struct conn *conn)
{
	return container_of(conn, struct client, conn);
}

static void on_readable(struct conn *conn)
{
	struct client *c = client_of(conn);

	if (c->phase == CLIENT_READY)
		c->on->readable(c);
	else
		client_login_on_readable(c);
}

static void on_drained(struct conn *conn)
{
	struct client *c = client_of(conn);

	if (c->phase == CLIENT_READY)
		c->on->drained(c);
}

static void on_ended(struct conn *conn, const char *why)
{
	struct err e;

	if (conn_is_starved(conn, &e)) {
		err_hint(&e, "What was under way may have run, or not.");
		client_close(client_of(conn), &e, why);
		return;
	}
	client_close(client_of(conn), NULL, why ? why : "client unexpected eof");
}

static void on_ready(struct conn *conn)
{
	client_of(conn)->conn.sniff = false;
}

static void on_direct_tls(struct conn *conn)
{
	client_login_direct_tls(client_of(conn));
}

static void uncount(struct client *c)
{
	if (!c->counted)
		return;
	slot_give_back(&shared_clients);
	slot_give_back(&c->group->database_shared->clients);
	slot_give_back(&c->group->user_shared->clients);
	if (c->tenant)
		slot_give_back(&c->tenant->shared->clients);
	c->group->nclients--;
	c->counted = false;
}

static void on_freed(struct conn *conn)
{
	struct client *c = client_of(conn);

	client_vouch(c);
	client_login_free(c->login);
	mem_wipe(client_secret(c), c->secret_len);
	if (has_rare(c))
		free(client_make_rare(c));
	free(c->user);
	free(c);
}

static const struct conn_events client_conn_events = { .readable = on_readable,
						       .drained = on_drained,
						       .ended = on_ended,
						       .ready = on_ready,
						       .direct_tls = on_direct_tls,
						       .freed = on_freed };

void client_vouch(struct client *c)
{
	if (c->stranger != STRANGER_NO)
		strangers_leave(&c->conn.peer, c->stranger);
	c->stranger = STRANGER_NO;
}

static struct client *make(struct client_host *host, int fd, const struct addr *peer)
{
	static _Atomic uint64_t last_id;
	struct client *c = xnew(struct client);

	c->host = host;
	c->rare = &nothing_rare;
	c->id = atomic_fetch_add(&last_id, 1) + 1;
	c->login = client_login_new();
	list_init(&c->link);
	list_init(&c->begin_link);
	conn_open(&c->conn, host->net, fd, &client_conn_events);
	conn_guard(&c->conn, true);
	c->conn.peer = *peer;
	c->connected_at = loop_now(host->net->loop);
	c->request_at = c->connected_at;
	list_push_back(&host->newcomers, &c->link);
	host->nnewcomers++;
	return c;
}

struct net_origin client_from(const struct client *c)
{
	struct net_origin from = { .is_local = c->conn.peer.family == AF_UNIX,
				   .is_ipv6 = c->conn.peer.family == AF_INET6,
				   .is_near = sock_is_near };

	memcpy(from.ip, c->conn.peer.ip, sizeof(from.ip));
	return from;
}

struct client *client_new(struct client_host *host, int fd, const struct addr *peer)
{
	struct client *c = make(host, fd, peer);

	c->conn.sniff = host->tls != NULL && peer->family != AF_UNIX;
	c->stranger = strangers_enter(peer, strangers_max(&host->config->global));
	return c;
}

void client_arrive(struct client_host *host, int fd, struct passport *passport)
{
	struct addr peer;

	conn_peer_of(fd, &peer);
	client_login_bring(make(host, fd, &peer), passport);
}

struct log_about client_about(const struct client *c, char room[LOG_ADDRESS_MAX])
{
	char host[INET6_ADDRSTRLEN];

	addr_text(&c->conn.peer, host);
	snprintf(room, LOG_ADDRESS_MAX, "%s:%u", host, c->conn.peer.port);
	return (struct log_about){ .client = c->id,
				   .database = c->group ? c->group->name : NULL,
				   .user = c->user,
				   .tenant = c->tenant ? c->tenant->name : NULL,
				   .address = room };
}

static void log_end(const struct client *c, const char *why)
{
	char address[LOG_ADDRESS_MAX];
	struct log_about about;

	if (!c->host->config->global.log_disconnections || !c->user)
		return;
	about = client_about(c, address);
	about.reason = why;
	log_about(LOG_LEVEL_INFO, &about, "closing because: %s (age=%llds)", why,
		  (long long)((loop_now(c->conn.net->loop) - c->connected_at) / USEC_PER_SEC));
}

/* Takes it out of everything.  False: it was closed before. */
static bool leave(struct client *c, const char *why)
{
	if (c->phase == CLIENT_CLOSING)
		return false;
	log_end(c, why);
	if (client_login_awaits_tenant(c))
		c->host->withdraw_tenant(c);
	if (client_login_awaits_secret(c))
		c->host->withdraw_secret(c);
	if (client_login_awaits_verdict(c))
		c->host->withdraw_verdict(c);
	if (c->on)
		c->on->leaving(c);
	waiter_leave(&c->waiter, loop_now(c->conn.net->loop));
	if (!c->group && list_is_linked(&c->link))
		c->host->nnewcomers--;
	list_del(&c->link);
	uncount(c);
	/* The group and the thread's tenants may go before we do. */
	param_set_assign(&c->base, NULL);
	param_set_assign(&c->wanted, NULL);
	param_set_assign(&c->told, NULL);
	tenant_unref(c->tenant);
	c->tenant = NULL;
	/* A key that still worked would cancel for somebody who is not there any more. */
	c->host->forget_key(c);
	c->phase = CLIENT_CLOSING;
	return true;
}

/* An error in the middle of another message would be taken for a part of that. */
static void put_last_error(struct client *c, const struct err *error)
{
	if (c->conn.phase == CONN_OPEN && !c->has_cut_answer)
		msg_put_error(conn_output(&c->conn), "FATAL", error);
}

void client_close(struct client *c, const struct err *error, const char *why)
{
	if (!leave(c, why))
		return;
	if (!error) {
		conn_close_soon(&c->conn);
		return;
	}
	put_last_error(c, error);
	conn_finish(&c->conn, FAREWELL_PATIENCE);
}

void client_dismiss(struct client *c, const struct err *error, const char *why)
{
	if (!leave(c, why))
		return;
	put_last_error(c, error);
	conn_dismiss(&c->conn);
}

void client_close_politely(struct client *c, const char *why)
{
	if (leave(c, why))
		conn_finish(&c->conn, FAREWELL_PATIENCE);
}

void client_release(struct client *c)
{
	list_del(&c->link);
	c->host->nnewcomers--;
	conn_release(&c->conn);
	c->host = NULL;
}

void client_adopt(struct client *c, struct client_host *host)
{
	c->host = host;
	list_push_back(&host->newcomers, &c->link);
	host->nnewcomers++;
	conn_adopt(&c->conn, host->net);
}

struct client *client_find_newcomer(const struct client_host *host, uint64_t id)
{
	LIST_FOREACH (at, &host->newcomers) {
		struct client *c = container_of(at, struct client, link);

		if (c->id == id)
			return c;
	}
	return NULL;
}

void client_sweep_newcomers(struct client_host *host, usec_t now)
{
	static const struct err too_slow = { "08P01", "client_login_timeout", "" };
	usec_t limit = host->config->global.client_login_timeout;

	LIST_FOREACH_SAFE (at, &host->newcomers) {
		struct client *c = container_of(at, struct client, link);
		usec_t age = now - c->connected_at;

		if (client_login_awaits_verdict(c) && age >= (limit ? limit : VERDICT_PATIENCE))
			client_login_give_up(c);
		else if (limit && age >= limit)
			client_close(c, &too_slow, "client_login_timeout");
	}
}
