/* SPDX-License-Identifier: ISC
 *
 * worker.c - one thread that serves clients: its loop, its way to other workers, its end.
 *
 * Knows where a client lives and how it gets there; what a session does is the relay's business.
 */
#include "worker/worker.h"

#include "base/log.h"
#include "base/mem.h"
#include "client/login.h"
#include "net/sockopt.h"
#include "worker/cancels.h"
#include "worker/control.h"
#include "worker/jury.h"
#include "worker/secret_mail.h"
#include "worker/sets.h"
#include "worker/tenant_mail.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define SWEEP_PERIOD (100 * USEC_PER_MSEC)

static const struct err going_down = { "57P01", "the pooler is shutting down", "" };

/* ---- where a client lives ---------------------------------------------------------------------
 */

struct moving {
	struct mail mail;
	struct client *client;
};

static struct client *unpack(struct mail *mail)
{
	struct moving *m = container_of(mail, struct moving, mail);
	struct client *c = m->client;

	free(m);
	return c;
}

static struct moving *pack(struct client *c)
{
	struct moving *m = xnew(struct moving);

	client_release(c);
	m->client = c;
	return m;
}

static void deliver_client(struct mail *mail, void *receiver)
{
	struct worker *w = receiver;
	struct client *c = unpack(mail);

	client_adopt(c, &w->host);
	if (w->is_over)
		client_close(c, &going_down, going_down.text);
	else
		client_login_begin(c);
	net_flush(&w->net);
}

static void deliver_to_console(struct mail *mail, void *receiver)
{
	struct control *control = receiver;
	struct client *c = unpack(mail);

	client_adopt(c, &control->host);
	if (control->is_over)
		client_close(c, &going_down, going_down.text);
	else
		client_login_begin(c);
	net_flush(&control->net);
}

static unsigned parts_of(const struct worker *w, const struct identity *id)
{
	const struct group_key key = identity_group_key(id);

	return group_parts(w->setup.config, id->database_conf, &key);
}

unsigned worker_home(const struct control *control, const struct group_key *key)
{
	return (unsigned)((group_key_hash(key) + key->part) % control->nworkers);
}

static unsigned home_of(const struct worker *w, const struct identity *id)
{
	const struct group_key key = identity_group_key(id);

	return worker_home(w->control, &key);
}

/* The parts get as many logins each, and in an order that changes: applications that open their
 * connections by a pattern, the second of each pair being idle, would else fill one part only. */
static unsigned part_for(const struct worker *w, const struct identity *id)
{
	const struct group_key key = identity_group_key(id);
	unsigned parts = parts_of(w, id), ticket, round;

	if (parts == 1)
		return 0;
	ticket = atomic_fetch_add(&w->control->tickets[group_key_hash(&key) % CONTROL_NTICKETS], 1);
	round = ticket / parts;
	return (unsigned)((ticket + hash_bytes(&round, sizeof(round)) % parts) % parts);
}

static void find_home(struct client *c)
{
	struct worker *w = worker_of(c->host);
	const struct identity *id = client_identity(c);
	unsigned home;

	if (id->is_console) {
		mailbox_post(&w->control->mailbox, &pack(c)->mail, deliver_to_console);
		return;
	}
	/* Whoever is to be refused can be refused anywhere. */
	if (!id->is_refused)
		client_choose_part(c, part_for(w, id));
	home = id->is_refused ? w->index : home_of(w, id);
	if (home == w->index)
		client_login_begin(c);
	else
		worker_post(&w->control->workers[home], &pack(c)->mail, deliver_client);
}

/* ---- questions of a login -----------------------------------------------------------------------
 */

static void seek_secret(struct client *c)
{
	struct worker *w = worker_of(c->host);

	secret_mail_ask(w->control, c, &w->mailbox);
}

static void withdraw_secret(struct client *c)
{
	secret_mail_withdraw(worker_of(c->host)->control, c);
}

static void doubt_secret(struct client *c)
{
	secret_mail_doubt(worker_of(c->host)->control, c);
}

static void seek_verdict(struct client *c, const struct client_claim *claim)
{
	struct worker *w = worker_of(c->host);

	jury_ask(w->control->jury, c, claim, &w->mailbox);
}

static void withdraw_verdict(struct client *c)
{
	jury_withdraw(worker_of(c->host)->control->jury, c);
}

static bool enter(struct client *c, struct err *e)
{
	struct worker *w = worker_of(c->host);
	const struct identity *id = client_identity(c);
	struct node_set *nodes;
	bool ok;

	/* A reload during the login has moved the group, or divided it otherwise; here it would be
	 * a second one, with limits of its own. */
	if (home_of(w, id) != w->index || id->part >= parts_of(w, id))
		return err_set(e, "57P01", "the configuration has changed, please connect again");
	nodes = node_sets_get(w->control->node_sets, id->database, id->database_conf->nodes,
			      id->database_conf->nnodes, w->setup.config->edition);
	ok = relay_enter(&w->relay, c, nodes, e);
	node_set_unref(nodes);
	return ok;
}

/* By TCP one is accepted when it has spoken (tcp_defer_accept): the loop need not tell first. */
static void hear(struct worker *w, struct client *c)
{
	if (c->conn.peer.family == AF_UNIX)
		return;
	conn_receive_first(&c->conn);
	net_flush(&w->net);
}

static void take_in(struct worker *w, int fd, const struct addr *peer, bool is_late)
{
	const struct settings *set = &w->setup.config->global;
	struct sock_options options = { .keepalive = set->tcp_keepalive,
					.keep_idle_s = set->tcp_keepidle,
					.keep_interval_s = set->tcp_keepintvl,
					.keep_count = set->tcp_keepcnt,
					.user_timeout_ms = set->tcp_user_timeout,
					.buffer_bytes = (unsigned)set->tcp_socket_buffer };
	struct client *c;
	struct err e;

	if (!sock_apply(fd, peer->family, &options, &e))
		log_warning("connection of a client: %s", e.text);
	c = client_new(&w->host, fd, peer);
	if (is_late)
		client_came_late(c);
	/* Those who try leave descriptors for servers and for those who are in. */
	if (c->stranger == STRANGER_LET_TRY) {
		hear(w, c);
		return;
	}
	err_set(&e, "53300", "no more connections allowed that have not logged in");
	if (c->stranger == STRANGER_UNHEARD)
		client_dismiss(c, &e, e.text);
	else
		client_close(c, &e, e.text);
	net_flush(&w->net);
}

static void on_accept(void *arg, int fd, const struct addr *peer)
{
	struct worker *w = arg;

	take_in(w, fd, peer, w->drains);
}

static void watch_all(struct worker *w)
{
	const struct listeners *listeners = &w->control->listeners;

	for (unsigned i = 0; i < listeners->n; i++)
		if (listeners->at[i].fd >= 0 && (!w->drains || listener_is_unix(&listeners->at[i])))
			listener_watch(&w->acceptors[w->nacceptors++], &w->net, listeners->at[i].fd,
				       on_accept, w);
}

void worker_accept(struct worker *w, bool on)
{
	while (!on && w->nacceptors)
		listener_unwatch(&w->acceptors[--w->nacceptors]);
	if (on && !w->nacceptors)
		watch_all(w);
}

void worker_drain(struct worker *w)
{
	bool accepts = w->nacceptors > 0;

	worker_accept(w, false);
	w->drains = true;
	worker_accept(w, accepts);
}

/* To the worker that takes it in. */
struct newcomer {
	struct mail mail;
	int fd;
	struct addr peer;
};

static void deliver_newcomer(struct mail *mail, void *receiver)
{
	struct newcomer *n = container_of(mail, struct newcomer, mail);
	struct worker *w = receiver;

	if (w->is_over)
		close(n->fd);
	else
		take_in(w, n->fd, &n->peer, false);
	free(n);
}

void worker_take_in(struct worker *w, int fd, const struct addr *peer)
{
	struct newcomer *n = xnew(struct newcomer);

	*n = (struct newcomer){ .fd = fd, .peer = *peer };
	worker_post(w, &n->mail, deliver_newcomer);
}

void worker_suspend(struct worker *w, bool on)
{
	worker_accept(w, !on);
	relay_suspend(&w->relay, on);
}

/* ---- the thread -------------------------------------------------------------------------------
 */

static void on_sweep(struct loop_timer *timer)
{
	struct worker *w = container_of(timer, struct worker, sweep);
	usec_t now = loop_now(w->loop);

	net_sweep(&w->net, now);
	client_sweep_newcomers(&w->host, now);
	relay_sweep(&w->relay, now);
	net_flush(&w->net);
}

static void on_turn_end(void *arg)
{
	struct worker *w = arg;

	relay_give_leavers(&w->relay);
	net_turn_end(&w->net);
}

static void use_setup(struct worker *w, struct setup setup)
{
	w->setup = setup;
	w->host.config = setup.config;
	w->host.tls = setup.client_tls;
}

struct setup worker_reconfigure(struct worker *w, struct setup setup)
{
	struct setup old = w->setup;

	use_setup(w, setup);
	/* Its keys are addresses of the user list, and its secrets were made with that number. */
	if (setup.config->userlist != old.config->userlist ||
	    setup.config->global.scram_iterations != old.config->global.scram_iterations)
		scram_cache_clear(w->host.scram_cache);
	relay_reconfigure(&w->relay, setup.config, setup.server_tls);
	net_flush(&w->net);
	return old;
}

static void init_host(struct worker *w)
{
	w->host = (struct client_host){ .net = &w->net,
					.owner = w,
					.relay = &w->relay,
					.scram_cache = scram_cache_new(),
					.find_home = find_home,
					.seek_tenant = tenant_mail_ask,
					.withdraw_tenant = tenant_mail_withdraw,
					.seek_secret = seek_secret,
					.withdraw_secret = withdraw_secret,
					.doubt_secret = doubt_secret,
					.seek_verdict = seek_verdict,
					.withdraw_verdict = withdraw_verdict,
					.cancel = cancels_ask,
					.enter = enter,
					.assign_key = cancels_assign_key,
					.keep_key = cancels_keep_key,
					.forget_key = cancels_forget_key };
	list_init(&w->host.newcomers);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	net_begin(&w->net);
	loop_run(w->loop);
	return NULL;
}

void worker_init(struct worker *w, struct control *control, unsigned index)
{
	w->index = index;
	w->control = control;
	w->loop = loop_new();
	net_init(&w->net, w->loop);
	loop_on_turn_end(w->loop, on_turn_end, w);
	mailbox_init(&w->mailbox, w->loop, w);
	init_host(w);
	use_setup(w, setup_ref(&control->setup));
	relay_init(&w->relay, &w->net, w->setup.config, w->setup.server_tls, control->resolver,
		   &w->mailbox);
	worker_accept(w, true);
	loop_timer_start(w->loop, &w->sweep, SWEEP_PERIOD, SWEEP_PERIOD, on_sweep);
}

void worker_start(struct worker *w)
{
	sigset_t all, before;
	int error;

	/* Signals are the control thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	PGT_ASSERT(error == 0);
}

void worker_post(struct worker *w, struct mail *mail, mail_fn *deliver)
{
	mailbox_post(&w->mailbox, mail, deliver);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void deliver_stop(struct mail *mail, void *receiver)
{
	struct worker *w = receiver;

	free(mail);
	loop_stop(w->loop);
}

void worker_join(struct worker *w)
{
	worker_post(w, xnew(struct mail), deliver_stop);
	pthread_join(w->thread, NULL);
}

void worker_close(struct worker *w)
{
	w->is_over = true;
	worker_accept(w, false);
	loop_timer_stop(w->loop, &w->sweep);
	LIST_FOREACH_SAFE (at, &w->host.newcomers)
		client_close(container_of(at, struct client, link), &going_down, going_down.text);
	relay_fini(&w->relay);
}

void worker_free(struct worker *w)
{
	mailbox_fini(&w->mailbox);
	net_turn_end(&w->net);
	net_fini(&w->net);
	loop_free(w->loop);
	scram_cache_free(w->host.scram_cache);
	hmap_fini(&w->keys);
	setup_unref(&w->setup);
}
