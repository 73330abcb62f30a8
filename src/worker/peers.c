/* SPDX-License-Identifier: ISC
 *
 * peers.c - cancel requests that belong to another process, and their way there.
 *
 * Knows where peers are, not which keys there are: that is what the peer is asked.
 */
#include "worker/peers.h"

#include "base/crowd.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "net/conn.h"
#include "server/cancel.h"
#include "server/dial.h"
#include "wire/cancel_key.h"

#include <stdlib.h>

/* Requests that may wait for a peer. */
#define WAITING_MAX 1000
/* Connections to a peer where neither it nor default_pool_size says how many. */
#define SENT_MAX 20

struct peer {
	struct list link;
	struct peers *peers;
	unsigned id;
	struct list waiting, under_way;
	struct crowd crowd; /* of those who wait */
	unsigned nunder_way;
	bool is_lost; /* the last request could not be delivered, which was told */
};

struct peers {
	struct net *net;
	struct mailbox *mailbox;
	struct resolver *resolver;
	struct list all;
	const struct config *config;
	struct tls_context *tls;
};

struct peers *peers_new(struct net *net, struct mailbox *mailbox, struct resolver *resolver)
{
	struct peers *p = xnew(struct peers);

	*p = (struct peers){ .net = net, .mailbox = mailbox, .resolver = resolver };
	list_init(&p->all);
	return p;
}

static struct peer *find(const struct peers *p, unsigned id)
{
	LIST_FOREACH (at, &p->all) {
		struct peer *peer = container_of(at, struct peer, link);

		if (peer->id == id)
			return peer;
	}
	return NULL;
}

/* ---- one request ------------------------------------------------------------------------------
 */

static void end_wait(struct peer *peer, struct peer_request *r)
{
	list_del(&r->link);
	crowd_leave(&peer->crowd, r->origin);
}

static void give_up_waiting(struct peer *peer)
{
	while (!list_is_empty(&peer->waiting)) {
		struct peer_request *r =
		    container_of(list_first(&peer->waiting), struct peer_request, link);

		end_wait(peer, r);
		r->over(r);
	}
}

/* Once, until one has been delivered again. */
static void say_lost(struct peer *peer, const char *why)
{
	if (!peer->is_lost)
		log_warning("peer %u: cancel requests cannot be forwarded: %s", peer->id, why);
	peer->is_lost = true;
}

static void on_failed(void *arg, const char *host PGT_UNUSED, const char *why)
{
	struct peer_request *r = arg;

	say_lost(r->peer, why);
}

static void send_more(struct peer *peer);

static void on_over(void *arg, bool was_sent)
{
	struct peer_request *r = arg;
	struct peer *peer = r->peer;

	list_del(&r->link);
	peer->nunder_way--;
	if (was_sent)
		peer->is_lost = false;
	else
		say_lost(peer, "it does not answer");
	r->over(r);
	send_more(peer);
}

static void send_on(struct peer *peer, const struct peer_conf *conf, struct peer_request *r)
{
	static const struct cancel_events on = { .failed = on_failed, .over = on_over };
	const struct peers *p = peer->peers;
	const struct dial_target target = { .host = conf->node.host,
					    .port = conf->node.port,
					    .set = &p->config->global,
					    .tls = p->tls,
					    .resolver = p->resolver,
					    .mailbox = p->mailbox };

	end_wait(peer, r);
	list_push_back(&peer->under_way, &r->link);
	peer->nunder_way++;
	cancel_secret_mark_forwarded(r->secret, r->secret_len);
	r->cancel = cancel_send(p->net, &target, r->pid,
				slice_of((const char *)r->secret, r->secret_len), &on, r);
}

static unsigned pool_size(const struct peers *p, const struct peer_conf *conf)
{
	unsigned size = conf->pool_size ? conf->pool_size : p->config->global.default_pool_size;

	return size ? size : SENT_MAX;
}

static void send_more(struct peer *peer)
{
	const struct peers *p = peer->peers;
	const struct peer_conf *conf = config_peer(p->config, peer->id);

	while (conf && peer->nunder_way < pool_size(p, conf) && !list_is_empty(&peer->waiting))
		send_on(peer, conf,
			container_of(list_first(&peer->waiting), struct peer_request, link));
}

void peers_forward(struct peers *p, struct peer_request *r)
{
	struct peer *peer = find(p, cancel_pid_peer(r->pid));

	r->cancel = NULL;
	r->peer = peer;
	list_init(&r->link);
	if (!peer || !crowd_has_room(&peer->crowd, r->origin, WAITING_MAX)) {
		r->over(r);
		return;
	}
	r->since = loop_now(p->net->loop);
	list_push_back(&peer->waiting, &r->link);
	crowd_enter(&peer->crowd, r->origin);
	send_more(peer);
}

void peers_sweep(struct peers *p, usec_t now)
{
	usec_t patience = p->config->global.cancel_wait_timeout;

	LIST_FOREACH (at, &p->all) {
		struct peer *peer = container_of(at, struct peer, link);

		while (patience && !list_is_empty(&peer->waiting)) {
			struct peer_request *r =
			    container_of(list_first(&peer->waiting), struct peer_request, link);

			if (now - r->since < patience)
				break;
			end_wait(peer, r);
			r->over(r);
		}
	}
}

/* ---- which there are --------------------------------------------------------------------------
 */

static void add(struct peers *p, unsigned id)
{
	struct peer *peer = xnew(struct peer);

	peer->peers = p;
	peer->id = id;
	list_init(&peer->waiting);
	list_init(&peer->under_way);
	list_push_back(&p->all, &peer->link);
}

/* What is under way goes on by itself. */
static void end_under_way(struct peer *peer)
{
	LIST_FOREACH_SAFE (at, &peer->under_way) {
		struct peer_request *r = container_of(at, struct peer_request, link);

		list_del(&r->link);
		cancel_forget(r->cancel);
		r->over(r);
	}
}

static void drop(struct peer *peer)
{
	give_up_waiting(peer);
	crowd_fini(&peer->crowd);
	end_under_way(peer);
	list_del(&peer->link);
	free(peer);
}

void peers_configure(struct peers *p, const struct config *config, struct tls_context *server_tls)
{
	p->config = config;
	p->tls = server_tls;
	LIST_FOREACH_SAFE (at, &p->all) {
		struct peer *peer = container_of(at, struct peer, link);

		if (!config_peer(config, peer->id))
			drop(peer);
	}
	for (size_t i = 0; i < config->npeers; i++)
		if (!find(p, config->peers[i]->id))
			add(p, config->peers[i]->id);
}

void peers_free(struct peers *p)
{
	LIST_FOREACH_SAFE (at, &p->all)
		drop(container_of(at, struct peer, link));
	free(p);
}

void peers_each(const struct peers *p, void (*visit)(void *arg, const struct peer_facts *facts),
		void *arg)
{
	LIST_FOREACH (at, &p->all) {
		const struct peer *peer = container_of(at, struct peer, link);
		struct peer_facts facts = { .id = peer->id, .waiting = peer->crowd.n };

		LIST_FOREACH (one, &peer->under_way)
			if (cancel_is_sent(container_of(one, struct peer_request, link)->cancel))
				facts.sent++;
			else
				facts.connecting++;
		visit(arg, &facts);
	}
}
