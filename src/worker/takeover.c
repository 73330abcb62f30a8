/* SPDX-License-Identifier: ISC
 *
 * takeover.c - a process takes over from another one, and another one from it.
 *
 * Knows packets and what they mean; what a session is made of it does not.
 */
#include "worker/takeover.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/packet.h"
#include "net/sockopt.h"
#include "route/fence.h"
#include "server/server.h"
#include "stats/event.h"
#include "tenant/shared.h"
#include "wire/passport.h"
#include "wire/read.h"
#include "worker/cancels.h"
#include "worker/control.h"
#include "worker/departures.h"
#include "worker/inquiries.h"
#include "worker/lives.h"
#include "worker/offer.h"
#include "worker/peers.h"
#include "worker/voyages.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Within which a process that has come says what it wants. */
#define HELLO_PATIENCE (5 * USEC_PER_SEC)

struct takeover {
	struct control *control;
	char *path; /* where a successor comes to, and … */
	int fd;     /* … the socket that listens there; -1: nowhere */
	struct loop_io io;
	struct packets successor;     /* a process that would take over, or has */
	struct loop_timer patience;   /* until it has said so */
	bool has_offered;             /* it has what it needs to serve, and may do so already */
	pid_t heir;                   /* it has said that it does; 0: it has not yet */
	bool is_left;                 /* it has been told to end, or has handed on */
	struct departures departures; /* sessions that go to it */
	struct loop_timer deadline;
	struct packets predecessor; /* the one that this process has taken over from */
	pid_t from;
	struct lives *lives;  /* of that one, and of those before it */
	struct buf leftovers; /* sockets' files of its that are not ours: kinds and paths */
	struct buf ledger;    /* its quotas, as far as they have come … */
	struct buf session;   /* … and the passport of one of its sessions */
	unsigned arrivals;    /* that have come */
	unsigned servers;     /* the same of these */
	struct inquiries inquiries[2]; /* cancel keys that a neighbour is asked for */
};

static const struct log_about no_one;

/* ---- what others write --------------------------------------------------------------------------
 */

/* Whatever clients of another process write is not known here (I4): all of it is fenced as long as
 * there is one, and what there was by then when there is none any more. */
static void set_floor(const struct takeover *t)
{
	if (t->has_offered || t->predecessor.loop || lives_are_left(t->lives))
		fence_floor = FENCE_ALL;
	else if (fence_floor == FENCE_ALL)
		fence_floor = fence_now();
}

/* ---- a successor --------------------------------------------------------------------------------
 */

static void see_paused(void *arg, struct shared *s)
{
	bool *is_paused = arg;

	*is_paused |= s->paused || s->disabled;
}

/* What the operator has done to this process would not be so in the other.  NULL: nothing. */
static const char *why_not(const struct takeover *t)
{
	bool is_paused = false;

	if (t->heir || t->control->shutdown != SHUTDOWN_NOT)
		return "it is shutting down";
	shared_visit(SHARED_DATABASE, see_paused, &is_paused);
	if (t->control->suspended || is_paused)
		return "it is suspended, or a database is paused or disabled: RESUME or ENABLE "
		       "first";
	return NULL;
}

static void say(struct packets *to, enum takeover_word word, const char *text)
{
	struct buf packet = { 0 };

	buf_put_u8(&packet, (uint8_t)word);
	buf_put_cstr(&packet, text);
	packets_send(to, buf_peek(&packet), -1);
	buf_fini(&packet);
}

static void offer(struct takeover *t, enum offer_kind kind, const char *name, int fd,
		  bool is_supervised)
{
	struct buf packet = { 0 };

	if (fd < 0)
		return;
	buf_put_u8(&packet, WORD_SOCKET);
	buf_put_u8(&packet, (uint8_t)kind);
	buf_put_cstr(&packet, name);
	buf_put_u8(&packet, is_supervised);
	packets_send(&t->successor, buf_peek(&packet), fd);
	buf_fini(&packet);
}

static void offer_life(void *arg, int fd)
{
	offer(arg, OFFER_LIFE, "", fd, false);
}

static void offer_all(struct takeover *t)
{
	const struct control *c = t->control;
	const char *http = NULL;
	int http_fd = c->options.hooks->http_socket(c->options.http, &http);
	struct buf packet = { 0 };

	for (unsigned i = 0; i < c->listeners.n; i++)
		offer(t, OFFER_CLIENTS, c->listeners.at[i].name, c->listeners.at[i].fd,
		      c->listeners.at[i].is_supervised);
	offer(t, OFFER_HTTP, http, http_fd, false);
	offer(t, OFFER_PIDFILE, c->options.pidfile_path, c->options.pidfile_lock, false);
	offer(t, OFFER_TAKEOVER, t->path, t->fd, false);
	lives_each(t->lives, offer_life, t);
	buf_put_u8(&packet, WORD_OFFERED);
	buf_put_u32(&packet, TAKEOVER_FORMAT);
	buf_put_u32(&packet, (uint32_t)getpid());
	packets_send(&t->successor, buf_peek(&packet), -1);
	buf_fini(&packet);
}

static void on_hello(struct takeover *t, struct reader *r)
{
	uint32_t format = read_u32(r);
	struct slice version = read_cstr(r);
	const char *reason = why_not(t);

	loop_timer_stop(t->control->loop, &t->patience);
	if (!reason && (r->failed || format < TAKEOVER_FORMAT))
		reason = "it is of a version that you do not know how to take over from";
	log_info("TAKEOVER: %.*s asks for our sockets%s%s", SLICE_FMT(version),
		 reason ? ", and is refused: " : "", reason ? reason : "");
	if (reason) {
		say(&t->successor, WORD_REFUSED, reason);
		packets_stop(&t->successor);
		return;
	}
	/* It may serve from the moment on that it is granted, before this process goes on. */
	t->has_offered = true;
	set_floor(t);
	offer_all(t);
}

static void send_quotas(struct takeover *t)
{
	struct buf ledger = { 0 }, packet = { 0 };

	state_give(&t->control->state, &ledger);
	while (buf_len(&ledger)) {
		size_t n =
		    buf_len(&ledger) < TAKEOVER_PART_MAX ? buf_len(&ledger) : TAKEOVER_PART_MAX;

		buf_clear(&packet);
		buf_put_u8(&packet, WORD_QUOTAS);
		buf_put_u8(&packet, n < buf_len(&ledger));
		buf_put(&packet, buf_head(&ledger), n);
		buf_consume(&ledger, n);
		packets_send(&t->successor, buf_peek(&packet), -1);
	}
	buf_fini(&packet);
	buf_fini(&ledger);
}

static struct packets *link_to(struct takeover *t, enum neighbour whom)
{
	return whom == NEIGHBOUR_BEFORE ? &t->predecessor : &t->successor;
}

static void on_cancel(struct takeover *t, enum neighbour from, struct reader *r)
{
	uint64_t number = takeover_read_number(r);
	uint32_t pid = read_u32(r);
	struct slice secret = read_bytes(r, read_left(r));

	if (!r->failed && secret.n && secret.n <= CANCEL_KEY_MAX)
		cancels_deliver(t->control, from, number, pid, secret);
}

static void send_number(struct packets *to, enum takeover_word word, uint64_t number)
{
	struct buf packet = { 0 };

	takeover_put_number(&packet, word, number);
	packets_send(to, buf_peek(&packet), -1);
	buf_fini(&packet);
}

void takeover_answer_cancel(struct takeover *t, enum neighbour whom, uint64_t number)
{
	send_number(link_to(t, whom), WORD_CANCEL_DONE, number);
}

static void on_cancelled(struct takeover *t, enum neighbour from, struct reader *r)
{
	inquiries_answered(&t->inquiries[from], takeover_read_number(r));
}

static void bring(struct takeover *t, int fd, struct passport *passport)
{
	struct control *c = t->control;

	voyages_bring_session(&c->workers[t->arrivals++ % c->nworkers], fd, passport);
}

/* One that was on its way to the other process.  Traits: PASSPORT_… that it has from now on. */
static void bring_back(struct takeover *t, int fd, struct buf *bytes, uint64_t traits)
{
	struct passport passport;
	struct err e;

	/* We wrote it. */
	PGT_ASSERT(passport_take(&passport, bytes, &e));
	passport.traits |= traits;
	bring(t, fd, &passport);
}

static void bring_back_all(struct takeover *t)
{
	struct buf passport = { 0 };
	int fd;

	while ((fd = departures_take_back_any(&t->departures, &passport)) >= 0)
		bring_back(t, fd, &passport, 0);
}

/* What the other process cannot have does not try again. */
static void on_returned(struct takeover *t, struct reader *r)
{
	struct buf passport = { 0 };
	int fd = departures_take_back(&t->departures, takeover_read_number(r), &passport);

	if (fd >= 0)
		bring_back(t, fd, &passport, PASSPORT_STAYS);
}

void takeover_send_session(struct takeover *t, int fd, struct buf *passport)
{
	if (t->successor.loop)
		departures_add(&t->departures, fd, passport);
	else
		bring_back(t, fd, passport, 0);
}

bool takeover_send_server(struct takeover *t, int fd, struct slice passport)
{
	struct buf packet = { 0 };

	if (!t->successor.loop || !t->heir || passport.n > TAKEOVER_PART_MAX)
		return false;
	buf_put_u8(&packet, WORD_SERVER);
	buf_put_slice(&packet, passport);
	packets_send(&t->successor, buf_peek(&packet), fd);
	buf_wipe(&packet);
	return true;
}

static void on_deadline(struct loop_timer *timer)
{
	struct takeover *t = container_of(timer, struct takeover, deadline);

	log_info("TAKEOVER: takeover_timeout is over");
	control_shutdown(t->control, SHUTDOWN_NOW);
}

/* It has not taken over. */
static void end_successor(struct takeover *t)
{
	loop_timer_stop(t->control->loop, &t->patience);
	packets_stop(&t->successor);
	t->has_offered = false;
	set_floor(t);
}

/* Said twice by one that has waited for its last client. */
static void on_leaving(struct takeover *t)
{
	if (t->heir && !t->is_left)
		control_let_go(t->control);
	t->is_left = true;
}

void takeover_leave(struct takeover *t)
{
	if (t->predecessor.loop)
		say(&t->predecessor, WORD_LEAVING, "");
}

static void on_heir(struct takeover *t, struct reader *r)
{
	struct control *c = t->control;
	pid_t pid = (pid_t)read_u32(r);
	uint8_t can = read_left(r) ? read_u8(r) : 0;
	const char *reason = why_not(t);

	if (r->failed || !t->has_offered) {
		end_successor(t);
		return;
	}
	if (reason) {
		log_info("TAKEOVER: process %d is refused: %s", (int)pid, reason);
		say(&t->successor, WORD_REFUSED, reason);
		end_successor(t);
		return;
	}
	c->has_successor = can & READY_KNOWS_KEYS;
	c->gives_servers = can & READY_TAKES_SERVERS;
	say(&t->successor, WORD_GRANTED, "");
	t->heir = pid;
	/* If this one dies now, there is one that serves, and it is not the one before. */
	takeover_leave(t);
	event_say(EVENT_takeover, &no_one,
		  "TAKEOVER: process %d serves from now on; waiting until the last client has left",
		  (int)pid);
	loop_io_want(c->loop, &t->io, 0);
	control_hand_over(c, true);
	c->options.hooks->http_rest(c);
	c->options.hooks->hand_on(c->options.pidfile, pid);
	send_quotas(t);
	if (c->config->global.takeover_timeout)
		loop_timer_start(c->loop, &t->deadline, c->config->global.takeover_timeout, 0,
				 on_deadline);
}

static void on_successor_says(struct packets *p, struct slice bytes, int passed)
{
	struct takeover *t = container_of(p, struct takeover, successor);
	struct reader r = reader_of(bytes);

	/* Nothing that a successor sends has one. */
	if (passed >= 0)
		close(passed);
	switch (read_u8(&r)) {
	case WORD_HELLO:
		if (!t->has_offered)
			on_hello(t, &r);
		break;
	case WORD_READY:
		if (!t->heir)
			on_heir(t, &r);
		break;
	case WORD_CANCEL:
		on_cancel(t, NEIGHBOUR_BEHIND, &r);
		break;
	case WORD_CANCEL_DONE:
		on_cancelled(t, NEIGHBOUR_BEHIND, &r);
		break;
	case WORD_TAKEN:
		departures_taken(&t->departures, takeover_read_number(&r));
		break;
	case WORD_RETURNED:
		on_returned(t, &r);
		break;
	case WORD_LEAVING:
		on_leaving(t);
		break;
	default:
		/* A later version may have more to say to one that it has taken over from. */
		if (!t->heir)
			end_successor(t);
	}
}

/* Nobody would take clients from the sockets that it had. */
static void return_to_service(struct takeover *t)
{
	struct control *c = t->control;

	if (t->is_left || c->shutdown != SHUTDOWN_TAKEN_OVER) {
		/* Told to end itself, it takes nobody in: the sockets are for others. */
		if (c->shutdown != SHUTDOWN_NOW)
			on_leaving(t);
		control_keep_sessions(c);
		return;
	}
	event_say(EVENT_takeover, &no_one,
		  "TAKEOVER: process %d is gone, this one serves again, but no metrics",
		  (int)t->heir);
	t->heir = 0;
	t->has_offered = false;
	set_floor(t);
	loop_timer_stop(c->loop, &t->deadline);
	loop_io_want(c->loop, &t->io, LOOP_READ);
	control_hand_over(c, false);
	state_go_on(&c->state);
	c->options.hooks->hand_on(c->options.pidfile, getpid());
}

static void on_successor_gone(struct packets *p)
{
	struct takeover *t = container_of(p, struct takeover, successor);

	if (!t->heir) {
		end_successor(t);
		return;
	}
	packets_stop(p);
	t->control->has_successor = false;
	inquiries_give_up(&t->inquiries[NEIGHBOUR_BEHIND]);
	return_to_service(t);
	bring_back_all(t);
}

static const struct packet_events successor_events = { .came = on_successor_says,
						       .ended = on_successor_gone };

static void on_silence(struct loop_timer *timer)
{
	log_warning("TAKEOVER: who has come to our socket does not say what for, and is let go");
	end_successor(container_of(timer, struct takeover, patience));
}

static void on_come(struct loop_io *io, int ready PGT_UNUSED)
{
	struct takeover *t = container_of(io, struct takeover, io);
	int fd = packet_accept(t->fd);

	if (fd < 0)
		return;
	if (!t->successor.loop) {
		packets_start(&t->successor, t->control->loop, fd, &successor_events);
		loop_timer_start(t->control->loop, &t->patience, HELLO_PATIENCE, 0, on_silence);
		return;
	}
	log_warning("TAKEOVER: a second process asks for our sockets, and is refused");
	close(fd);
}

/* ---- a predecessor ------------------------------------------------------------------------------
 */

static void on_quotas(struct takeover *t, struct reader *r)
{
	bool more = read_u8(r);

	buf_put_slice(&t->ledger, read_bytes(r, read_left(r)));
	if (more || !t->control->state.is_anothers)
		return;
	state_take(&t->control->state, buf_peek(&t->ledger));
	buf_fini(&t->ledger);
}

/* A part.  What is too long grows no further. */
static void on_part(struct takeover *t, struct reader *r)
{
	if (buf_len(&t->session) <= PASSPORT_MAX)
		buf_put_slice(&t->session, read_bytes(r, read_left(r)));
}

/* False: the other process keeps it. */
static bool take_session(struct takeover *t, uint64_t number, int fd, struct passport *passport,
			 struct err *e)
{
	struct buf word = { 0 };
	enum packet_fate fate;

	if (fd < 0)
		return err_set(e, "XX000", "its socket has not come");
	if (buf_len(&t->session) > PASSPORT_MAX)
		return err_set(e, "XX000", "its passport is too long");
	if (!passport_take(passport, &t->session, e))
		return false;
	/* Only one of the two may read what the client says.  If this process dies behind this, the
	 * other has been told. */
	takeover_put_number(&word, WORD_TAKEN, number);
	fate = packets_send_now(&t->predecessor, buf_peek(&word));
	buf_fini(&word);
	return fate != PACKET_LATER || err_set(e, "XX000", "its process does not listen");
}

static void on_session(struct takeover *t, struct reader *r, int fd)
{
	uint64_t number = takeover_read_number(r);
	struct passport passport = { 0 };
	struct err e;

	on_part(t, r);
	if (take_session(t, number, fd, &passport, &e)) {
		bring(t, fd, &passport);
		return;
	}
	log_warning("TAKEOVER: a session stays in process %d: %s", (int)t->from, e.text);
	if (fd >= 0)
		close(fd);
	passport_fini(&passport);
	buf_wipe(&t->session);
	send_number(&t->predecessor, WORD_RETURNED, number);
}

/* What nobody here can use is told goodbye. */
static void on_server(struct takeover *t, struct reader *r, int fd)
{
	struct server_passport passport;
	struct buf bytes = { 0 };
	struct err e;

	if (fd < 0)
		return;
	buf_put_slice(&bytes, read_bytes(r, read_left(r)));
	if (server_passport_take(&passport, &bytes, &e)) {
		voyages_bring_server(t->control, fd, &passport, t->servers++);
		return;
	}
	log_warning("TAKEOVER: a server's connection of process %d is closed: %s", (int)t->from,
		    e.text);
	server_passport_fini(&passport);
	server_dismiss(fd);
}

void takeover_cancel(struct takeover *t, enum neighbour whom, struct peer_request *r)
{
	/* One that does not know the word would leave it open as long as it lives. */
	if (whom == NEIGHBOUR_BEFORE || t->control->has_successor)
		inquiries_add(&t->inquiries[whom], r);
	else
		r->over(r);
}

/* Nothing more comes from it. */
static void end_predecessor(struct takeover *t)
{
	packets_stop(&t->predecessor);
	t->control->has_predecessor = false;
	inquiries_give_up(&t->inquiries[NEIGHBOUR_BEFORE]);
	set_floor(t);
	if (t->control->state.is_anothers)
		state_take(&t->control->state, SLICE(""));
}

/* Files that it had and could not take away, because we might have died and it be back. */
static void remove_leftovers(struct takeover *t)
{
	struct reader r = reader_of(buf_peek(&t->leftovers));

	while (read_left(&r)) {
		int type = read_u8(&r) == OFFER_TAKEOVER ? SOCK_SEQPACKET : SOCK_STREAM;
		const char *path = read_cstr(&r).p;
		struct err e;

		if (!sock_remove_stale_at(type, path, &e))
			log_info("TAKEOVER: %s", e.text);
	}
	buf_clear(&t->leftovers);
}

static void on_last_life(void *arg)
{
	set_floor(arg);
	remove_leftovers(arg);
}

static void on_predecessor_says(struct packets *p, struct slice bytes, int passed)
{
	struct takeover *t = container_of(p, struct takeover, predecessor);
	struct reader r = reader_of(bytes);

	uint8_t word = read_u8(&r);

	if (word == WORD_SESSION_END) {
		on_session(t, &r, passed);
		return;
	}
	if (word == WORD_SERVER) {
		on_server(t, &r, passed);
		return;
	}
	if (passed >= 0)
		close(passed);
	switch (word) {
	case WORD_SESSION:
		on_part(t, &r);
		break;
	case WORD_QUOTAS:
		on_quotas(t, &r);
		break;
	case WORD_CANCEL_DONE:
		on_cancelled(t, NEIGHBOUR_BEFORE, &r);
		break;
	case WORD_CANCEL:
		on_cancel(t, NEIGHBOUR_BEFORE, &r);
		break;
	default:
		log_info("TAKEOVER: process %d says what is not known here", (int)t->from);
	}
}

static void on_predecessor_gone(struct packets *p)
{
	struct takeover *t = container_of(p, struct takeover, predecessor);

	end_predecessor(t);
	log_info("TAKEOVER: process %d has ended", (int)t->from);
}

static const struct packet_events predecessor_events = { .came = on_predecessor_says,
							 .ended = on_predecessor_gone };

static void note_leftovers(struct takeover *t, const struct offer *given)
{
	for (unsigned i = 0; i < given->n; i++) {
		const struct offered *at = &given->at[i];

		if (at->fd < 0 || at->is_supervised || *at->name != '/' ||
		    (at->kind != OFFER_CLIENTS && at->kind != OFFER_TAKEOVER))
			continue;
		buf_put_u8(&t->leftovers, (uint8_t)at->kind);
		buf_put_cstr(&t->leftovers, at->name);
	}
}

void takeover_begin(struct takeover *t)
{
	struct control *c = t->control;
	struct offer *given = c->options.offer;

	if (!given || given->link < 0)
		return;
	t->from = given->from;
	packets_start(&t->predecessor, c->loop, given->link, &predecessor_events);
	given->link = -1;
	note_leftovers(t, given);
	offer_drop_rest(given);
	listeners_lend(&c->listeners, false);
	c->options.hooks->hand_on(c->options.pidfile, getpid());
	event_say(EVENT_takeover, &no_one, "TAKEOVER: this process serves instead of process %d",
		  (int)t->from);
}

bool takeover_goes_on(const struct takeover *t)
{
	return t->predecessor.loop || !departures_are_over(&t->departures);
}

unsigned takeover_arrivals(const struct takeover *t)
{
	return t->arrivals;
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

static bool is_asked_for(const struct takeover *t)
{
	return strcmp(t->control->config->global.takeover_socket, "auto") != 0;
}

struct takeover *takeover_new(struct control *c)
{
	struct takeover *t = xnew(struct takeover);
	struct buf path = { 0 };
	struct err e;
	int life;

	t->control = c;
	for (enum neighbour n = NEIGHBOUR_BEFORE; n <= NEIGHBOUR_BEHIND; n++)
		inquiries_init(&t->inquiries[n], link_to(t, n));
	departures_init(&t->departures, &t->successor);
	t->lives = lives_new(c->loop, on_last_life, t);
	while (c->options.offer && (life = offer_take_any(c->options.offer, OFFER_LIFE)) >= 0)
		lives_add(t->lives, life);
	c->has_predecessor = c->options.offer && c->options.offer->link >= 0;
	if (c->has_predecessor)
		fence_floor = FENCE_ALL;
	offer_path(&c->config->global, &path);
	t->path = xstrdup(buf_cstr(&path));
	buf_fini(&path);
	t->fd = c->options.offer ? offer_take(c->options.offer, OFFER_TAKEOVER, t->path) : -1;
	if (t->fd < 0 && *t->path)
		t->fd = packet_listen(t->path, &e);
	if (t->fd >= 0)
		loop_io_start(c->loop, &t->io, t->fd, LOOP_READ, on_come);
	else if (*t->path && is_asked_for(t))
		log_error("no process will be able to take over from this one: %s", e.text);
	else if (*t->path)
		log_info("no process will be able to take over from this one: %s", e.text);
	return t;
}

void takeover_free(struct takeover *t)
{
	struct loop *loop = t->control->loop;

	takeover_leave(t);
	departures_fini(&t->departures);
	packets_stop(&t->successor);
	packets_stop(&t->predecessor);
	lives_free(t->lives);
	loop_timer_stop(loop, &t->patience);
	loop_timer_stop(loop, &t->deadline);
	if (t->fd >= 0) {
		loop_io_stop(loop, &t->io);
		close(t->fd);
		if (!t->heir)
			unlink(t->path);
	}
	remove_leftovers(t);
	buf_fini(&t->leftovers);
	for (enum neighbour n = NEIGHBOUR_BEFORE; n <= NEIGHBOUR_BEHIND; n++)
		inquiries_fini(&t->inquiries[n]);
	buf_wipe(&t->session);
	buf_fini(&t->ledger);
	free(t->path);
	free(t);
}
