/* SPDX-License-Identifier: ISC
 *
 * worker.c - one thread that serves clients: its loop, its way to other workers, its end.
 *
 * Knows where a client lives and how it gets there; what a session does is the relay's business.
 */
#include "worker/worker.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/login.h"
#include "net/sockopt.h"
#include "relay/whose.h"
#include "wire/cancel_key.h"
#include "worker/control.h"
#include "worker/jury.h"
#include "worker/peers.h"
#include "worker/secret_mail.h"
#include "worker/sets.h"
#include "worker/takeover.h"
#include "worker/tenant_source.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define SWEEP_PERIOD (100 * USEC_PER_MSEC)

/* Draws of a pid before one that another client has is as good. */
#define PID_DRAWS 64

static const struct err going_down = { "57P01", "the pooler is shutting down", "" };

static struct worker *worker_of(struct client_host *host)
{
	return host->owner;
}

/* ---- cancel keys ------------------------------------------------------------------------------
 */

static uint64_t hash_of(uint32_t pid)
{
	return hash_bytes(&pid, sizeof(pid));
}

/* Whom a key is looked for by: one with this secret, or with this id.  With peers there are so few
 * pids that several clients may have the same. */
struct key {
	uint32_t pid;
	const uint8_t *secret; /* NULL: that of client `id` */
	size_t secret_len;
	uint64_t id;
};

static bool has_key(struct client *c, const struct key *key)
{
	if (c->pid != key->pid)
		return false;
	if (!key->secret)
		return c->id == key->id;
	return c->secret_len == key->secret_len &&
	       mem_is_equal_ct(client_secret(c), key->secret, key->secret_len);
}

static struct client *find_key(const struct worker *w, const struct key *key)
{
	for (struct hlink *l = hmap_first(&w->keys, hash_of(key->pid)); l; l = hmap_next(l)) {
		struct client *c = container_of(l, struct client, by_pid);

		if (has_key(c, key))
			return c;
	}
	return NULL;
}

/* Unique on this worker as long as there are some to spare. */
static uint32_t draw_pid(struct worker *w)
{
	uint32_t pid, random;
	unsigned draws = 0;

	do {
		random_bytes(&random, sizeof(random));
		pid = cancel_pid_make(&w->control->keys, w->index, random);
	} while (!pid || (++draws < PID_DRAWS && hmap_first(&w->keys, hash_of(pid))));
	return pid;
}

static void draw_key(struct client *c, struct worker *w)
{
	c->pid = draw_pid(w);
	random_bytes(client_secret(c), c->secret_len);
	if (w->control->keys.peer_id)
		cancel_secret_mark_fresh(client_secret(c), c->secret_len);
}

static void assign_key(struct client *c)
{
	struct worker *w = worker_of(c->host);
	struct key key;

	do {
		draw_key(c, w);
		key = (struct key){ c->pid, client_secret(c), c->secret_len, 0 };
	} while (find_key(w, &key));
	hmap_insert(&w->keys, &c->by_pid, hash_of(c->pid));
}

/* Another process has made its key. */
static bool is_stray(const struct worker *w, uint32_t pid)
{
	return cancel_pid_worker(&w->control->keys, pid) != w->index;
}

static void keep_key(struct client *c)
{
	struct worker *w = worker_of(c->host);

	if (!c->pid)
		return;
	hmap_insert(&w->keys, &c->by_pid, hash_of(c->pid));
	if (is_stray(w, c->pid))
		w->control->nstrays++;
}

static void forget_key(struct client *c)
{
	struct worker *w = worker_of(c->host);

	if (!c->pid)
		return;
	hmap_remove(&w->keys, &c->by_pid);
	if (is_stray(w, c->pid))
		w->control->nstrays--;
	c->pid = 0;
}

/* Goes to the worker of the key, or by way of the control thread to a peer, and comes back to the
 * asker's. */
struct cancel_mail {
	struct mail mail;
	struct worker *asked_at; /* NULL: a neighbour has … */
	enum neighbour from;     /* … this one */
	bool may_ask[2];         /* neighbours that have not been asked, and may be */
	uint64_t
	    asker; /* id of the connection that brought it, which may be gone by then; or its */
	unsigned tried; /* workers that do not know the key */
	struct peer_request request;
};

static void free_mail(struct cancel_mail *m)
{
	mem_wipe(m->request.secret, sizeof(m->request.secret));
	free(m);
}

static void deliver_receipt(struct mail *mail, void *receiver)
{
	struct cancel_mail *m = container_of(mail, struct cancel_mail, mail);
	struct worker *w = receiver;
	struct client *c = client_find_newcomer(&w->host, m->asker);

	if (c)
		client_close(c, NULL, "cancel request");
	free_mail(m);
}

/* Of another process's request. */
static void deliver_answer(struct mail *mail, void *receiver)
{
	struct cancel_mail *m = container_of(mail, struct cancel_mail, mail);
	struct control *control = receiver;

	if (!control->is_over)
		takeover_answer_cancel(control->takeover, m->from, m->asker);
	free_mail(m);
}

static void end_cancel(struct control *control, struct cancel_mail *m)
{
	if (m->asked_at)
		worker_post(m->asked_at, &m->mail, deliver_receipt);
	else
		mailbox_post(&control->mailbox, &m->mail, deliver_answer);
}

static void ask_neighbour(struct cancel_mail *m);

static void on_passed_back(struct peer_request *r)
{
	ask_neighbour(container_of(r, struct cancel_mail, request));
}

/* Sessions go one way only, and so one that has been found behind this process is not found again
 * before it, with what it does next. */
static void ask_neighbour(struct cancel_mail *m)
{
	struct control *control = m->request.owner;
	enum neighbour whom = m->may_ask[NEIGHBOUR_BEHIND] ? NEIGHBOUR_BEHIND : NEIGHBOUR_BEFORE;

	if (!m->may_ask[whom]) {
		end_cancel(control, m);
		return;
	}
	m->may_ask[whom] = false;
	takeover_cancel(control->takeover, whom, &m->request);
}

static void deliver_to_neighbours(struct mail *mail, void *receiver)
{
	struct cancel_mail *m = container_of(mail, struct cancel_mail, mail);
	struct control *control = receiver;

	if (control->is_over) {
		free_mail(m);
		return;
	}
	m->request.over = on_passed_back;
	m->request.owner = control;
	ask_neighbour(m);
}

static void deliver_cancel(struct mail *mail, void *receiver);

/* A session that has come from another process has a key that names a worker of that one: all are
 * asked, and then the processes where it may have stayed, or have gone to. */
static bool ask_next(struct worker *w, struct cancel_mail *m)
{
	struct control *control = w->control;

	if (control->nstrays && ++m->tried < control->nworkers)
		worker_post(&control->workers[(w->index + 1) % control->nworkers], &m->mail,
			    deliver_cancel);
	else if ((m->may_ask[NEIGHBOUR_BEHIND] && control->has_successor) ||
		 (m->may_ask[NEIGHBOUR_BEFORE] && control->has_predecessor))
		mailbox_post(&control->mailbox, &m->mail, deliver_to_neighbours);
	else
		return false;
	return true;
}

static void deliver_cancel(struct mail *mail, void *receiver)
{
	struct cancel_mail *m = container_of(mail, struct cancel_mail, mail);
	struct peer_request *r = &m->request;
	struct worker *w = receiver;
	const struct key key = { r->pid, r->secret, r->secret_len, 0 };
	struct client *c;

	/* Its clients are gone, as are those who have asked, and who would be asked next may be. */
	if (w->is_over) {
		free_mail(m);
		return;
	}
	/* A peer may have forwarded it. */
	if (w->control->keys.peer_id)
		cancel_secret_mark_fresh(r->secret, r->secret_len);
	c = find_key(w, &key);
	if (c) {
		relay_cancel(c);
		net_flush(&w->net);
	}
	if (c || !ask_next(w, m))
		end_cancel(w->control, m);
}

void worker_cancel(struct control *control, enum neighbour from, uint64_t number, uint32_t pid,
		   struct slice secret)
{
	struct cancel_mail *m = xnew(struct cancel_mail);

	m->from = from;
	/* On and on in one direction: it never comes back to who has asked. */
	m->may_ask[from == NEIGHBOUR_BEFORE ? NEIGHBOUR_BEHIND : NEIGHBOUR_BEFORE] = true;
	m->asker = number;
	m->request.pid = pid;
	m->request.secret_len = (uint16_t)secret.n;
	memcpy(m->request.secret, secret.p, secret.n);
	worker_post(&control->workers[cancel_pid_worker(&control->keys, pid)], &m->mail,
		    deliver_cancel);
}

static void on_forwarded(struct peer_request *r)
{
	struct cancel_mail *m = container_of(r, struct cancel_mail, request);

	worker_post(m->asked_at, &m->mail, deliver_receipt);
}

static void deliver_to_peer(struct mail *mail, void *receiver)
{
	struct cancel_mail *m = container_of(mail, struct cancel_mail, mail);
	struct control *control = receiver;

	if (control->is_over) {
		free_mail(m);
		return;
	}
	m->request.over = on_forwarded;
	peers_forward(control->peers, &m->request);
	net_flush(&control->net);
}

/* What was forwarded to us stays here, whatever it says. */
static bool is_of_peer(const struct worker *w, const struct peer_request *r)
{
	unsigned own = w->control->keys.peer_id, id = cancel_pid_peer(r->pid);

	return own && id != own && cancel_secret_is_fresh(r->secret, r->secret_len) &&
	       config_peer(w->setup.config, id);
}

/* Whoever sends the request sees the same whether the key was right or not.  A key that names no
 * worker goes the same way, to one that does not know it. */
static void cancel(struct client *asker, uint32_t pid, struct slice secret)
{
	struct worker *w = worker_of(asker->host);
	struct control *control = w->control;
	struct cancel_mail *m = xnew(struct cancel_mail);
	struct peer_request *r = &m->request;

	m->asked_at = w;
	m->may_ask[NEIGHBOUR_BEFORE] = m->may_ask[NEIGHBOUR_BEHIND] = true;
	m->asker = asker->id;
	r->origin = addr_origin(&asker->conn.peer);
	r->pid = pid;
	r->secret_len = (uint16_t)(secret.n < CANCEL_KEY_MAX ? secret.n : CANCEL_KEY_MAX);
	memcpy(r->secret, secret.p, r->secret_len);
	if (is_of_peer(w, r))
		mailbox_post(&control->mailbox, &m->mail, deliver_to_peer);
	else
		worker_post(&control->workers[cancel_pid_worker(&control->keys, pid)], &m->mail,
			    deliver_cancel);
}

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

/* Each worker has one part of a pool that so many share. */
static unsigned home_of(const struct worker *w, const struct identity *id)
{
	const struct group_key key = identity_group_key(id);

	return (unsigned)((group_key_hash(&key) + id->part) % w->control->nworkers);
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

/* ---- tenants that are not known ----------------------------------------------------------------
 */

/* Goes to the control thread and comes back with the answer. */
struct seek_mail {
	struct mail mail;
	struct worker *asked_at;
	uint64_t origin;
	uint64_t asker; /* id of a client that may be gone by then … */
	uint32_t pid;   /* … and that of its key, if it has a session */
	struct err *why_not;
	size_t len;
	char said[];
};

static struct client *find_asker(struct worker *w, const struct seek_mail *m)
{
	const struct key key = { .pid = m->pid, .id = m->asker };
	struct client *c = m->pid ? find_key(w, &key) : NULL;

	return c ? c : client_find_newcomer(&w->host, m->asker);
}

static void deliver_told(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct worker *w = receiver;
	struct client *c = w->is_over ? NULL : find_asker(w, m);

	if (c && c->whose)
		whose_tenant_told(c, slice_of(m->said, m->len), m->why_not);
	else if (c && c->phase == CLIENT_STARTUP)
		client_tenant_told(c, m->why_not);
	net_flush(&w->net);
	free(m->why_not);
	free(m);
}

static void on_told(void *arg, const void *why_not)
{
	struct seek_mail *m = arg;

	m->why_not = err_copy(why_not);
	worker_post(m->asked_at, &m->mail, deliver_told);
}

static void deliver_seek(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct control *control = receiver;
	const struct lookup_asker who = {
		.id = m->asker, .origin = m->origin, .answer = on_told, .arg = m
	};

	if (control->is_over) {
		free(m);
		return;
	}
	tenant_source_find(control->tenant_source, slice_of(m->said, m->len), &who);
	net_flush(&control->net);
}

static void seek_tenant(struct client *c, struct slice said)
{
	struct worker *w = worker_of(c->host);
	struct seek_mail *m = xcalloc(1, sizeof(*m) + said.n);

	m->asked_at = w;
	m->asker = c->id;
	m->origin = addr_origin(&c->conn.peer);
	m->pid = c->pid;
	m->len = said.n;
	memcpy(m->said, said.p, said.n);
	mailbox_post(&w->control->mailbox, &m->mail, deliver_seek);
}

/* The answer may be on its way, and finds nobody then. */
static void deliver_withdrawal(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct control *control = receiver;

	if (!control->is_over)
		free(tenant_source_withdraw(control->tenant_source, m->asker));
	free(m);
}

static void withdraw_tenant(struct client *c)
{
	struct seek_mail *m = xcalloc(1, sizeof(*m));

	m->asker = c->id;
	mailbox_post(&worker_of(c->host)->control->mailbox, &m->mail, deliver_withdrawal);
}

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

/* ---- sessions that go to another process, and come from one -------------------------------------
 */

/* To the control thread, and from there. */
struct voyage {
	struct mail mail;
	int fd;
	struct buf bytes;         /* of one that goes … */
	struct passport passport; /* … or comes */
};

static void end_voyage(struct voyage *v)
{
	if (v->fd >= 0)
		close(v->fd);
	buf_wipe(&v->bytes);
	passport_fini(&v->passport);
	free(v);
}

static void deliver_departure(struct mail *mail, void *receiver)
{
	struct voyage *v = container_of(mail, struct voyage, mail);
	struct control *control = receiver;

	if (!control->is_over) {
		takeover_send_session(control->takeover, v->fd, &v->bytes);
		v->bytes = (struct buf){ 0 };
		v->fd = -1;
	}
	end_voyage(v);
}

static void deliver_server_departure(struct mail *mail, void *receiver)
{
	struct voyage *v = container_of(mail, struct voyage, mail);
	struct control *control = receiver;

	if (control->is_over ||
	    !takeover_send_server(control->takeover, v->fd, buf_peek(&v->bytes))) {
		server_dismiss(v->fd);
		v->fd = -1;
	}
	end_voyage(v);
}

static void depart_by(struct worker *w, int fd, struct buf *passport, mail_fn *deliver)
{
	struct voyage *v = xnew(struct voyage);

	v->fd = fd;
	v->bytes = *passport;
	*passport = (struct buf){ 0 };
	mailbox_post(&w->control->mailbox, &v->mail, deliver);
}

static void depart(void *arg, int fd, struct buf *passport)
{
	depart_by(arg, fd, passport, deliver_departure);
}

static void depart_as_server(void *arg, int fd, struct buf *passport)
{
	depart_by(arg, fd, passport, deliver_server_departure);
}

void worker_give_away(struct worker *w, bool on)
{
	static const struct relay_givers sessions = { .session = depart },
					 both = { .session = depart, .server = depart_as_server };

	relay_give_away(&w->relay, !on ? NULL : w->control->gives_servers ? &both : &sessions, w);
	net_flush(&w->net);
}

static void deliver_arrival(struct mail *mail, void *receiver)
{
	struct voyage *v = container_of(mail, struct voyage, mail);
	struct worker *w = receiver;

	if (!w->is_over) {
		client_arrive(&w->host, v->fd, &v->passport);
		v->fd = -1;
		net_flush(&w->net);
	}
	end_voyage(v);
}

void worker_bring(struct worker *w, int fd, struct passport *passport)
{
	struct voyage *v = xnew(struct voyage);

	v->fd = fd;
	v->passport = *passport;
	*passport = (struct passport){ 0 };
	worker_post(w, &v->mail, deliver_arrival);
}

/* ---- servers that come --------------------------------------------------------------------------
 */

struct server_voyage {
	struct mail mail;
	int fd;
	unsigned part;
	struct server_passport passport;
};

static bool take_server(struct worker *w, const struct server_voyage *v)
{
	const struct server_passport *p = &v->passport;
	struct config *config = w->setup.config;
	const struct database_conf *database = config_database_for(config, slice_str(p->database));
	const struct group_key key = { slice_str(p->database), slice_str(p->user),
				       slice_str(p->tenant), REPLICATION_NONE, v->part };
	struct node_set *nodes;
	bool ok;

	/* A reload on the way may have divided it otherwise. */
	if (w->is_over || !database || v->part >= group_parts(config, database, &key))
		return false;
	nodes = node_sets_get(w->control->node_sets, p->database, database->nodes, database->nnodes,
			      config->edition);
	ok = relay_take_server(&w->relay, v->fd, p, v->part, nodes);
	node_set_unref(nodes);
	net_flush(&w->net);
	return ok;
}

static void deliver_server(struct mail *mail, void *receiver)
{
	struct server_voyage *v = container_of(mail, struct server_voyage, mail);

	if (!take_server(receiver, v))
		server_dismiss(v->fd);
	server_passport_fini(&v->passport);
	free(v);
}

void worker_bring_server(struct control *control, int fd, struct server_passport *p, unsigned turn)
{
	const struct database_conf *database =
	    config_database_for(control->config, slice_str(p->database));
	struct group_key key = { slice_str(p->database), slice_str(p->user), slice_str(p->tenant),
				 REPLICATION_NONE, 0 };
	struct server_voyage *v = xnew(struct server_voyage);

	v->fd = fd;
	v->part = database ? turn % group_parts(control->config, database, &key) : 0;
	v->passport = *p;
	*p = (struct server_passport){ 0 };
	worker_post(&control->workers[(group_key_hash(&key) + v->part) % control->nworkers],
		    &v->mail, deliver_server);
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
					.seek_tenant = seek_tenant,
					.withdraw_tenant = withdraw_tenant,
					.seek_secret = seek_secret,
					.withdraw_secret = withdraw_secret,
					.doubt_secret = doubt_secret,
					.seek_verdict = seek_verdict,
					.withdraw_verdict = withdraw_verdict,
					.cancel = cancel,
					.enter = enter,
					.assign_key = assign_key,
					.keep_key = keep_key,
					.forget_key = forget_key };
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
