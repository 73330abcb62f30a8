/* SPDX-License-Identifier: ISC
 *
 * cancels.c - cancel keys, and the way of a request to the client whose key it has.
 *
 * Knows workers, peers and the processes of a takeover; what is cancelled is the relay's business.
 */
#include "worker/cancels.h"

#include "base/mem.h"
#include "base/random.h"
#include "wire/cancel_key.h"
#include "worker/control.h"
#include "worker/peers.h"

#include <stdlib.h>
#include <string.h>

/* Draws of a pid before one that another client has is as good. */
#define PID_DRAWS 64

/* ---- keys -------------------------------------------------------------------------------------
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

struct client *cancels_find_client(const struct worker *w, uint32_t pid, uint64_t id)
{
	const struct key key = { .pid = pid, .id = id };

	return pid ? find_key(w, &key) : NULL;
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

void cancels_assign_key(struct client *c)
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

void cancels_keep_key(struct client *c)
{
	struct worker *w = worker_of(c->host);

	if (!c->pid)
		return;
	hmap_insert(&w->keys, &c->by_pid, hash_of(c->pid));
	if (is_stray(w, c->pid))
		w->control->nstrays++;
}

void cancels_forget_key(struct client *c)
{
	struct worker *w = worker_of(c->host);

	if (!c->pid)
		return;
	hmap_remove(&w->keys, &c->by_pid);
	if (is_stray(w, c->pid))
		w->control->nstrays--;
	c->pid = 0;
}

/* ---- requests ---------------------------------------------------------------------------------
 */

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

void cancels_deliver(struct control *control, enum neighbour from, uint64_t number, uint32_t pid,
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
void cancels_ask(struct client *asker, uint32_t pid, struct slice secret)
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
