/* SPDX-License-Identifier: ISC
 *
 * voyages.c - sessions and servers on their way between their worker and the control thread.
 *
 * Knows threads and who lives where; what a passport says is the relay's business, and how it gets
 * to the other process that of takeover.h.
 */
#include "worker/voyages.h"

#include "base/mem.h"
#include "worker/control.h"
#include "worker/sets.h"
#include "worker/takeover.h"

#include <stdlib.h>
#include <unistd.h>

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

void voyages_give_away(struct worker *w, bool on)
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

void voyages_bring_session(struct worker *w, int fd, struct passport *passport)
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

void voyages_bring_server(struct control *control, int fd, struct server_passport *p, unsigned turn)
{
	const struct database_conf *database =
	    config_database_for(control->config, slice_str(p->database));
	struct group_key key = { slice_str(p->database), slice_str(p->user), slice_str(p->tenant),
				 REPLICATION_NONE, 0 };
	struct server_voyage *v = xnew(struct server_voyage);

	if (database)
		key.part = turn % group_parts(control->config, database, &key);
	v->fd = fd;
	v->part = key.part;
	v->passport = *p;
	*p = (struct server_passport){ 0 };
	worker_post(&control->workers[worker_home(control, &key)], &v->mail, deliver_server);
}
