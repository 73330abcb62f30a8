/* SPDX-License-Identifier: ISC
 *
 * conn.c - one socket: bytes in, bytes out, plain or TLS, closed at a safe moment.
 *
 * Knows nothing of messages.  The rules of conn.h about borrowed bytes rest on two facts: every
 * event of the loop ends with net_flush(), and buffers are given back only after all connections
 * have been flushed.
 */
#include "net/conn.h"

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/sockio.h"
#include "net/tls.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(sizeof(struct conn) ==
		   offsetof(struct conn, state) + sizeof(((struct conn *)0)->state),
	       "conn.state has all that stands beside it");

/* What a connection left is put in front of the next receive when it is at most this long;
 * longer input collects in the connection's own buffer. */
#define JOIN_MAX 65536
/* Of what conn.clear_left counts. */
#define CLEAR_MAX 3
/* Larger empty buffers go back to the allocator. */
#define SPARE_CAP_MAX         131072

#define TLS_RECORD_FIRST_BYTE 0x16

static void on_io(struct loop_io *io, int ready);
static PGT_INLINE void flush_all(struct net *net);

/* ---- buffers -------------------------------------------------------------------------------- */

static void buffer_take(struct net *net, struct buf **b)
{
	if (!*b)
		*b = net->nspare ? net->spare[--net->nspare] : xnew(struct buf);
}

static PGT_NOINLINE void give_back(struct net *net, struct buf **b)
{
	struct buf *empty = *b;

	*b = NULL;
	if (empty->cap <= SPARE_CAP_MAX && net->nspare < NET_SPARE_BUFFERS)
		net->spare[net->nspare++] = empty;
	else
		buf_free(empty);
}

/* One that has bytes stays. */
static inline void buffer_give_back(struct net *net, struct buf **b)
{
	if (*b && !buf_len(*b))
		give_back(net, b);
}

static void mark_dirty(struct conn *c)
{
	if (!list_is_linked(&c->dirty_link))
		list_push_back(&c->net->dirty, &c->dirty_link);
}

/* ---- the socket ----------------------------------------------------------------------------- */

/* Bytes of the owner's may flow, or those that are left. */
static bool is_flowing(const struct conn *c)
{
	return c->phase == CONN_OPEN || c->phase == CONN_LINGERING;
}

/* Connecting and the handshake choose for themselves. */
static void want_events(struct conn *c)
{
	int events = c->paused ? 0 : LOOP_READ;

	if (!is_flowing(c))
		return;
	if (c->blocked || c->tls_wants_write)
		events |= LOOP_WRITE;
	loop_io_want(c->net->loop, &c->io, events);
}

static ssize_t tls_receive(struct conn *c, char *p, size_t n)
{
	enum tls_want want = TLS_WANT_READ;
	ssize_t got = tls_read(c->tls, p, n, &want);

	if (c->tls_wants_write != (got < 0 && want == TLS_WANT_WRITE)) {
		c->tls_wants_write = !c->tls_wants_write;
		want_events(c);
	}
	return got;
}

/* TLS hands out a record at a time; takes as many as fit, so that they are handled at once. */
static ssize_t tls_receive_all(struct conn *c, char *p, size_t n)
{
	ssize_t total = tls_receive(c, p, n);

	while (total > 0 && (size_t)total < n && tls_has_pending(c->tls)) {
		ssize_t more = tls_receive(c, p + total, n - (size_t)total);

		if (more <= 0)
			break;
		total += more;
	}
	return total;
}

static inline ssize_t receive_bytes(struct conn *c, char *p, size_t n)
{
	return c->tls ? tls_receive_all(c, p, n) : sock_recv(c->fd, p, n);
}

static inline ssize_t send_bytes(struct conn *c, const char *p, size_t n)
{
	enum tls_want want;

	return c->tls ? tls_write(c->tls, p, n, &want) : sock_send(c->fd, p, n);
}

/* The first n bytes of a buffer that is about to lose them. */
static void forget(const struct conn *c, struct buf *b, size_t n)
{
	if (c->is_guarded && n)
		mem_wipe(buf_head(b), n);
}

static void drop_output(struct conn *c)
{
	c->borrowed_len = 0;
	forget(c, c->out, conn_kept(c->out));
	if (c->out)
		buf_clear(c->out);
	c->blocked = false;
}

static void say_all(struct conn *c)
{
	if (c->tls)
		tls_goodbye(c->tls);
	shutdown(c->fd, SHUT_WR);
	c->said_all = true;
}

/* Of its own output.  Whoever's event it is, it is this connection that leaves when memory is gone:
 * what a slow client is sent comes from a server that may be another's by then. */
static PGT_NOINLINE void make_room(struct conn *c, size_t n)
{
	struct loop_io *at_hand = loop_handling(c->net->loop);

	loop_handle(c->net->loop, &c->io);
	buf_reserve(c->out, n);
	loop_handle(c->net->loop, at_hand);
}

static void keep(struct conn *c, const char *p, size_t n)
{
	if (c->out->cap - c->out->end < n)
		make_room(c, n);
	buf_put(c->out, p, n);
}

/* Makes a copy of what is borrowed, from its n-th byte on. */
static void keep_borrowed(struct conn *c, size_t n)
{
	if (n < c->borrowed_len) {
		buffer_take(c->net, &c->out);
		keep(c, c->borrowed + n, c->borrowed_len - n);
	}
	c->borrowed_len = 0;
}

/* The socket has taken all of its own output. */
static inline void end_output(struct conn *c)
{
	if (c->sent && c->out->cap <= CONN_KEEP_MAX) {
		*c->sent = c->out;
		c->out = NULL;
	} else {
		buf_clear(c->out);
	}
}

/* Whether send(2) may take more later.  The kernel's memory comes back, and the socket counts as
 * writable meanwhile, so that it is asked in each turn. */
static bool is_for_now(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS ||
	       error == ENOMEM;
}

/* Of n bytes that were pending, its own or borrowed, the socket has taken so many: keeps a copy of
 * the rest. */
static PGT_NOINLINE void note_sent(struct conn *c, bool own, size_t n, ssize_t sent)
{
	bool was_blocked = c->blocked;

	if (sent < 0 && !is_for_now(errno)) {
		/* What the peer said before it went away is still to be read, and its end of the
		 * connection will show there. */
		c->write_failed = true;
		drop_output(c);
	} else {
		size_t done = sent > 0 ? (size_t)sent : 0;

		c->active_at = loop_now(c->net->loop);
		if (own)
			forget(c, c->out, done);
		if (own && done == n)
			end_output(c);
		else if (own)
			buf_consume(c->out, done);
		else
			keep_borrowed(c, done);
		c->blocked = done < n;
	}
	c->sent = NULL;
	if (c->blocked != was_blocked)
		want_events(c);
}

/* Sends what is pending, as much as the socket takes. */
static PGT_NOINLINE void flush_output(struct conn *c)
{
	bool own = conn_kept(c->out) > 0;
	const char *p = own ? buf_head(c->out) : c->borrowed;
	size_t n = own ? buf_len(c->out) : c->borrowed_len;

	if (c->phase < CONN_OPEN)
		keep_borrowed(c, 0);
	if (n && is_flowing(c))
		note_sent(c, own, n, send_bytes(c, p, n));
}

/* The usual case of flush_output(): something is pending and goes out in the clear; as a rule the
 * socket takes all of it.  False: it is another, and nothing was done. */
static PGT_NOINLINE bool flush_own_plainly(struct conn *c)
{
	size_t n = buf_len(c->out);
	ssize_t sent;

	if (!n || !conn_is_usual(c))
		return false;
	sent = sock_send(c->fd, buf_head(c->out), n);
	if (sent != (ssize_t)n) {
		note_sent(c, true, n, sent);
		return true;
	}
	c->active_at = loop_now(c->net->loop);
	c->borrowed_len = 0;
	end_output(c);
	c->sent = NULL;
	return true;
}

static inline bool flush_plainly(struct conn *c)
{
	size_t n = c->borrowed_len;
	ssize_t sent;

	if (c->out)
		return flush_own_plainly(c);
	if (!n || !conn_is_usual(c))
		return false;
	sent = sock_send(c->fd, c->borrowed, n);
	if (sent != (ssize_t)n) {
		note_sent(c, false, n, sent);
		return true;
	}
	c->active_at = loop_now(c->net->loop);
	c->borrowed_len = 0;
	c->sent = NULL;
	return true;
}

static PGT_NOINLINE void flush_unusual(struct conn *c)
{
	if (!c->blocked)
		flush_output(c);
	if (c->phase == CONN_LINGERING && !c->said_all && !conn_unsent(c))
		say_all(c);
}

static inline void flush_and_shut(struct conn *c)
{
	if (!flush_plainly(c))
		flush_unusual(c);
}

/* ---- events --------------------------------------------------------------------------------- */

static void report_end(struct conn *c, const char *why)
{
	if (c->phase == CONN_LINGERING)
		conn_close_soon(c);
	else
		c->on->ended(c, why);
}

/* Runs a handler that may release the connection.  False: it did, and another thread may be at work
 * on c by now.  Handlers nest: conn_start_tls() may call ready(). */
static bool is_ours_after(struct conn *c, void (*handler)(struct conn *))
{
	bool released = false;
	bool *outer = c->released;

	c->released = &released;
	handler(c);
	if (!released)
		c->released = outer;
	else if (outer)
		*outer = true;
	return !released;
}

/* Keeps what the handler left of the bytes at hand, which lie in the scratch buffer or, where there
 * were too many, in the connection's own. */
static inline void keep_rest(struct conn *c)
{
	if (conn_kept(c->in)) {
		buf_consume(c->in, buf_len(c->in) - c->cur_len);
	} else if (c->cur_len) {
		buffer_take(c->net, &c->in);
		buf_put(c->in, c->cur, c->cur_len);
	}
	c->cur = NULL;
	c->cur_len = 0;
}

/* What recv(2) says instead of bytes. */
static PGT_NOINLINE void on_nothing(struct conn *c, ssize_t got)
{
	if (got == 0)
		report_end(c, NULL);
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		report_end(c, strerror(errno));
}

/* False: c was released. */
static bool handle(struct conn *c, char *p, size_t n)
{
	c->cur = p;
	c->cur_len = (uint32_t)n;
	if (!is_ours_after(c, c->on->readable))
		return false;
	keep_rest(c);
	if (c->tls && !c->paused && c->phase == CONN_OPEN && tls_has_pending(c->tls))
		conn_kick(c);
	return true;
}

/* Into the connection's own buffer, which has too much in it to be moved. */
static void receive_behind(struct conn *c, size_t left, size_t got)
{
	PGT_ASSERT(left < UINT32_MAX - NET_RECEIVE_MAX);
	buf_produced(c->in, got);
	mark_dirty(c);
	handle(c, buf_head(c->in), left + got);
}

/* Into the thread's. */
static void receive_in_scratch(struct conn *c, size_t left, size_t got)
{
	char *room = c->net->scratch;
	bool is_guarded = c->is_guarded;

	if (left) {
		memcpy(room, buf_head(c->in), left);
		forget(c, c->in, left);
		buf_clear(c->in);
		mark_dirty(c);
	}
	if (c->phase != CONN_LINGERING)
		handle(c, room, left + got);
	if (is_guarded)
		mem_wipe(room, left + got);
}

/* True: bytes came and were handled; c may be released. */
static PGT_NOINLINE bool receive(struct conn *c)
{
	struct net *net = c->net;
	size_t left = conn_kept(c->in);
	bool in_scratch = left <= JOIN_MAX;
	char *room = in_scratch ? net->scratch : buf_reserve(c->in, NET_RECEIVE_MAX) - left;
	ssize_t got = receive_bytes(c, room + left, NET_RECEIVE_MAX);

	if (got <= 0) {
		on_nothing(c, got);
		return false;
	}
	c->active_at = c->received_at = loop_now(net->loop);
	if (in_scratch)
		receive_in_scratch(c, left, (size_t)got);
	else if (c->phase != CONN_LINGERING)
		receive_behind(c, left, (size_t)got);
	return true;
}

/* It has all it has asked for, out of a reserve that others may need, and gives that back. */
static PGT_NOINLINE void end_starved(struct conn *c)
{
	report_end(c, "out of memory");
	if (!c->in)
		return;
	forget(c, c->in, conn_kept(c->in));
	buf_clear(c->in);
	mark_dirty(c);
}

/* Has readable() called for bytes that were left, or that TLS holds. */
static void handle_kick(struct conn *c)
{
	if (c->is_starved && conn_is_usable(c)) {
		end_starved(c);
		return;
	}
	if (c->phase != CONN_OPEN || c->paused)
		return;
	/* What TLS holds may be a part of a record, and then nothing is received. */
	if (c->tls && tls_has_pending(c->tls) && receive(c))
		return;
	if (c->phase != CONN_OPEN || !conn_kept(c->in))
		return;
	mark_dirty(c);
	is_ours_after(c, c->on->readable);
}

static void become_open(struct conn *c)
{
	c->phase = CONN_OPEN;
	want_events(c);
	mark_dirty(c);
	if (c->tls && tls_has_pending(c->tls))
		conn_kick(c);
	is_ours_after(c, c->on->ready);
}

static void finish_connect(struct conn *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		report_end(c, strerror(error));
	else
		become_open(c);
}

/* What was said before TLS, such as that it is spoken here, goes ahead in the clear; what has come
 * behind it since does not.  False: not yet. */
static bool has_said_it_in_the_clear(struct conn *c)
{
	ssize_t sent;

	if (!c->clear_left)
		return true;
	sent = sock_send(c->fd, buf_head(c->out), c->clear_left);
	if (sent < 0 && !is_for_now(errno)) {
		/* As the handshake will find. */
		c->write_failed = true;
		drop_output(c);
		c->clear_left = 0;
	} else if (sent > 0) {
		buf_consume(c->out, (size_t)sent);
		c->clear_left = (c->clear_left - (unsigned)sent) & CLEAR_MAX;
	}
	c->blocked = c->clear_left > 0;
	return !c->blocked;
}

static void step_handshake(struct conn *c)
{
	struct err e;

	if (!has_said_it_in_the_clear(c)) {
		loop_io_want(c->net->loop, &c->io, LOOP_WRITE);
		return;
	}
	switch (tls_handshake(c->tls, &e)) {
	case TLS_DONE:
		become_open(c);
		break;
	case TLS_WANT_READ:
		loop_io_want(c->net->loop, &c->io, LOOP_READ);
		break;
	case TLS_WANT_WRITE:
		loop_io_want(c->net->loop, &c->io, LOOP_WRITE);
		break;
	case TLS_FAILED:
		report_end(c, e.text);
		break;
	}
}

/* False: the connection was released. */
static bool on_writable(struct conn *c)
{
	bool was_blocked = c->blocked;

	c->tls_wants_write = false;
	c->blocked = false;
	flush_and_shut(c);
	want_events(c);
	mark_dirty(c);
	if (was_blocked && !c->blocked && c->phase == CONN_OPEN)
		return is_ours_after(c, c->on->drained);
	return true;
}

/* True: the first byte was looked at and starts a TLS handshake. */
static bool opens_tls(struct conn *c)
{
	unsigned char first;

	if (recv(c->fd, &first, 1, MSG_PEEK) != 1)
		return false;
	c->sniff = false;
	return first == TLS_RECORD_FIRST_BYTE;
}

/* The usual case of receive(): in the clear, with nothing left from before, and nothing left by the
 * handler.  False: it is another, and nothing was done. */
static inline bool receive_plainly(struct conn *c)
{
	struct net *net = c->net;
	ssize_t got;

	if (!conn_is_usual(c) || c->in)
		return false;
	got = sock_recv(c->fd, net->scratch, NET_RECEIVE_MAX);
	if (got <= 0) {
		on_nothing(c, got);
		return true;
	}
	c->active_at = c->received_at = loop_now(net->loop);
	c->cur = net->scratch;
	c->cur_len = (uint32_t)got;
	if (!is_ours_after(c, c->on->readable))
		return true;
	if (c->cur_len || c->in)
		keep_rest(c);
	else
		c->cur = NULL;
	return true;
}

static PGT_NOINLINE void on_open(struct conn *c, int ready)
{
	/* A read that waited to write goes on when it can. */
	if (c->tls_wants_write)
		ready |= LOOP_READ;
	if ((ready & LOOP_WRITE) && !on_writable(c))
		return;
	if (!(ready & LOOP_READ) || c->paused || !is_flowing(c))
		return;
	if (c->sniff && opens_tls(c))
		c->on->direct_tls(c);
	else
		receive(c);
}

static void on_io(struct loop_io *io, int ready)
{
	struct conn *c = container_of(io, struct conn, io);
	struct net *net = c->net;

	if (ready == LOOP_READ && receive_plainly(c)) {
		/* the usual case */
	} else if (is_flowing(c)) {
		on_open(c, ready);
	} else if (c->phase == CONN_CONNECTING) {
		finish_connect(c);
	} else if (c->phase == CONN_HANDSHAKE) {
		step_handshake(c);
	}
	flush_all(net);
}

/* ---- the thread's part ---------------------------------------------------------------------- */

static void turn_end(void *arg)
{
	net_turn_end(arg);
}

void net_init(struct net *net, struct loop *loop)
{
	*net = (struct net){ .loop = loop };
	net->scratch = xmalloc(JOIN_MAX + NET_RECEIVE_MAX);
	list_init(&net->dirty);
	list_init(&net->kicked);
	list_init(&net->closing);
	list_init(&net->lingering);
	loop_on_turn_end(loop, turn_end, net);
}

static void on_shortage(void *arg, size_t n)
{
	struct net *net = arg;
	struct loop_io *io = loop_handling(net->loop);
	struct conn *c;

	if (!io || io->fn != on_io)
		return;
	c = container_of(io, struct conn, io);
	c->is_starved = true;
	net->wanted = n;
	conn_kick(c);
}

void net_begin(struct net *net)
{
	mem_on_shortage(on_shortage, net);
}

static void close_marked(struct net *net)
{
	if (list_is_empty(&net->closing))
		return;
	loop_handle(net->loop, NULL);
	while (!list_is_empty(&net->closing)) {
		struct conn *c = container_of(list_first(&net->closing), struct conn, close_link);

		list_del(&c->close_link);
		list_del(&c->dirty_link);
		list_del(&c->kick_link);
		if (c->tls)
			tls_free(c->tls);
		if (c->fd >= 0)
			close(c->fd);
		forget(c, c->in, conn_kept(c->in));
		forget(c, c->out, conn_kept(c->out));
		buf_free(c->in);
		buf_free(c->out);
		c->on->freed(c);
	}
}

void net_fini(struct net *net)
{
	while (!list_is_empty(&net->lingering))
		conn_close_soon(container_of(list_first(&net->lingering), struct conn, close_link));
	close_marked(net);
	while (net->nspare)
		buf_free(net->spare[--net->nspare]);
	free(net->scratch);
}

static inline void end_flush(struct net *net, struct conn *c)
{
	list_del(&c->dirty_link);
	buffer_give_back(net, &c->in);
	buffer_give_back(net, &c->out);
}

static inline struct conn *first_dirty(const struct net *net)
{
	return container_of(net->dirty.next, struct conn, dirty_link);
}

/* What one has received may be borrowed by another, so all are flushed before buffers go back. */
static PGT_NOINLINE void flush_several(struct net *net)
{
	LIST_FOREACH (at, &net->dirty)
		flush_and_shut(container_of(at, struct conn, dirty_link));
	while (!list_is_empty(&net->dirty))
		end_flush(net, first_dirty(net));
}

static PGT_INLINE void flush_all(struct net *net)
{
	if (net->dirty.next != net->dirty.prev) {
		flush_several(net);
	} else if (!list_is_empty(&net->dirty)) {
		struct conn *only = first_dirty(net);

		flush_and_shut(only);
		end_flush(net, only);
	}
}

void net_flush(struct net *net)
{
	flush_all(net);
}

static void process_kicked(struct net *net)
{
	struct list kicked;

	list_init(&kicked);
	list_splice_back(&kicked, &net->kicked);
	while (!list_is_empty(&kicked)) {
		struct conn *c = container_of(list_first(&kicked), struct conn, kick_link);

		list_del(&c->kick_link);
		loop_handle(net->loop, &c->io);
		handle_kick(c);
		net_flush(net);
		loop_handle(net->loop, NULL);
	}
}

void net_turn_end(struct net *net)
{
	process_kicked(net);
	net_flush(net);
	close_marked(net);
	/* freed() of one may have sent to another. */
	net_flush(net);
	/* What was kicked meanwhile waits a turn, so that sockets get theirs. */
	if (!list_is_empty(&net->kicked))
		loop_wake(net->loop);
}

void net_sweep(struct net *net, usec_t now)
{
	LIST_FOREACH_SAFE (at, &net->lingering) {
		struct conn *c = container_of(at, struct conn, close_link);

		if (now >= c->deadline)
			conn_close_soon(c);
	}
	if (mem_reserve_renew())
		log_warning("memory was gone, and is there again");
}

/* ---- what the owner calls ------------------------------------------------------------------- */

static void conn_setup(struct conn *c, struct net *net, int fd, const struct conn_events *on)
{
	*c = (struct conn){ .net = net, .on = on, .fd = fd };
	list_init(&c->dirty_link);
	list_init(&c->kick_link);
	list_init(&c->close_link);
	c->active_at = loop_now(net->loop);
}

void conn_open(struct conn *c, struct net *net, int fd, const struct conn_events *on)
{
	conn_setup(c, net, fd, on);
	c->phase = CONN_OPEN;
	loop_io_start(net->loop, &c->io, fd, LOOP_READ, on_io);
}

void conn_prepare(struct conn *c, struct net *net, const struct conn_events *on)
{
	conn_setup(c, net, -1, on);
	c->phase = CONN_PREPARED;
}

bool conn_connect(struct conn *c, const struct sockaddr *addr, socklen_t len, struct err *e)
{
	int fd = FAILPOINT_FAILS(socket_full, EMFILE)
		     ? -1
		     : socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	PGT_ASSERT(c->phase == CONN_PREPARED);
	if (fd < 0)
		return err_set(e, "08001", "cannot make a socket: %s", strerror(errno));
	if (FAILPOINT_FAILS(connect_fails, EADDRNOTAVAIL) ||
	    (connect(fd, addr, len) < 0 && errno != EINPROGRESS)) {
		err_set(e, "08001", "cannot connect: %s", strerror(errno));
		close(fd);
		return false;
	}
	c->fd = fd;
	c->phase = CONN_CONNECTING;
	addr_set(&c->peer, addr);
	loop_io_start(c->net->loop, &c->io, fd, LOOP_WRITE, on_io);
	return true;
}

void conn_abandon(struct conn *c)
{
	PGT_ASSERT(c->phase == CONN_CONNECTING);
	loop_io_stop(c->net->loop, &c->io);
	close(c->fd);
	c->fd = -1;
	c->is_starved = false; /* the next address is another try */
	c->phase = CONN_PREPARED;
}

void conn_start_tls(struct conn *c, struct tls *tls)
{
	flush_output(c);
	c->tls = tls;
	c->is_tls = true;
	tls_guard(tls, c->is_guarded);
	if (conn_input(c).n) {
		report_end(c, "unencrypted bytes after the request for encryption");
		return;
	}
	if (conn_kept(c->out) > CLEAR_MAX) {
		report_end(c, "encryption was granted before it was asked for");
		return;
	}
	c->clear_left = conn_kept(c->out) & CLEAR_MAX;
	c->phase = CONN_HANDSHAKE;
	step_handshake(c);
}

void conn_guard(struct conn *c, bool on)
{
	c->is_guarded = on;
	if (c->tls)
		tls_guard(c->tls, on);
}

void conn_unread(struct conn *c, struct slice bytes)
{
	struct buf *behind = c->in;

	PGT_ASSERT(!c->cur);
	c->in = NULL;
	buffer_take(c->net, &c->in);
	buf_put_slice(c->in, bytes);
	if (behind) {
		buf_put_slice(c->in, buf_peek(behind));
		buf_clear(behind);
		buffer_give_back(c->net, &behind);
	}
}

void conn_kick(struct conn *c)
{
	if (!list_is_linked(&c->kick_link))
		list_push_back(&c->net->kicked, &c->kick_link);
}

void conn_receive(struct conn *c)
{
	if (c->phase == CONN_OPEN && !c->paused && !c->sniff && is_flowing(c))
		receive(c);
}

void conn_send_unusual(struct conn *c, const char *p, size_t n)
{
	if (!conn_is_usable(c) || c->write_failed || !n)
		return;
	if (conn_kept(c->out)) {
		keep(c, p, n);
	} else if (!c->borrowed_len) {
		c->borrowed = p;
		c->borrowed_len = (uint32_t)n;
	} else if (c->borrowed + c->borrowed_len == p) {
		c->borrowed_len += (uint32_t)n;
	} else {
		conn_output(c);
		keep(c, p, n);
	}
	mark_dirty(c);
}

void conn_receive_first(struct conn *c)
{
	if (c->phase == CONN_OPEN)
		on_open(c, LOOP_READ);
}

void conn_unsend(struct conn *c, size_t n)
{
	if (n >= conn_unsent(c))
		return;
	if (c->borrowed_len)
		c->borrowed_len = (uint32_t)n;
	else
		c->out->end = c->out->start + n;
}

void conn_give_back(struct conn *c, struct buf **kept)
{
	buf_clear(*kept);
	buffer_give_back(c->net, kept);
}

struct buf *conn_output(struct conn *c)
{
	buffer_take(c->net, &c->out);
	keep_borrowed(c, 0);
	mark_dirty(c);
	return c->out;
}

void conn_pause(struct conn *c)
{
	if (c->paused || !conn_is_usable(c))
		return;
	c->paused = true;
	want_events(c);
}

void conn_receive_again(struct conn *c)
{
	if (!conn_is_usable(c))
		return;
	c->paused = false;
	want_events(c);
	if (conn_kept(c->in) || (c->tls && tls_has_pending(c->tls)))
		conn_kick(c);
}

bool conn_is_starved(const struct conn *c, struct err *e)
{
	if (!c->is_starved)
		return false;
	err_set(e, "53200", "out of memory");
	err_detail(e, "Failed on request of size %zu.", c->net->wanted);
	return true;
}

void conn_look_for_end(struct conn *c)
{
	struct pollfd look = { .fd = c->fd, .events = POLLRDHUP };

	if (c->paused && c->phase == CONN_OPEN && poll(&look, 1, 0) > 0)
		report_end(c, NULL);
}

void conn_expire(struct conn *c, usec_t patience)
{
	c->deadline = loop_now(c->net->loop) + patience;
	list_del(&c->close_link);
	list_push_back(&c->net->lingering, &c->close_link);
}

void conn_finish(struct conn *c, usec_t patience)
{
	if (!conn_is_usable(c))
		return;
	if (c->phase != CONN_OPEN || c->write_failed) {
		conn_close_soon(c);
		return;
	}
	c->phase = CONN_LINGERING;
	c->paused = false;
	conn_expire(c, patience);
	want_events(c);
	mark_dirty(c);
}

void conn_dismiss(struct conn *c)
{
	if (c->phase == CONN_OPEN) {
		flush_output(c);
		/* Closing a socket with bytes unread resets it, and what was sent is lost. */
		(void)!recv(c->fd, NULL, INT_MAX, MSG_TRUNC | MSG_DONTWAIT);
	}
	conn_close_soon(c);
}

void conn_close_soon(struct conn *c)
{
	if (c->phase == CONN_CLOSED)
		return;
	c->phase = CONN_CLOSED;
	if (c->fd >= 0)
		loop_io_stop(c->net->loop, &c->io);
	list_del(&c->close_link);
	list_push_back(&c->net->closing, &c->close_link);
}

void conn_release(struct conn *c)
{
	struct net *net = c->net;

	PGT_ASSERT(c->phase == CONN_OPEN);
	/* Others may have borrowed of its bytes, and it of others'. */
	net_flush(net);
	if (c->cur)
		keep_rest(c);
	list_del(&c->dirty_link);
	list_del(&c->kick_link);
	loop_io_stop(net->loop, &c->io);
	if (c->released)
		*c->released = true;
	c->released = NULL;
	c->net = NULL;
}

void conn_adopt(struct conn *c, struct net *net)
{
	c->net = net;
	loop_io_start(net->loop, &c->io, c->fd, 0, on_io);
	want_events(c);
	if (conn_kept(c->out))
		mark_dirty(c);
	if (c->is_starved || conn_kept(c->in) || (c->tls && tls_has_pending(c->tls)))
		conn_kick(c);
}

int conn_take_fd(struct conn *c)
{
	int fd = c->fd;

	PGT_ASSERT(c->phase == CONN_OPEN);
	loop_io_stop(c->net->loop, &c->io);
	c->fd = -1;
	return fd;
}

void conn_peer_of(int fd, struct addr *out)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	getpeername(fd, (struct sockaddr *)&ss, &len);
	addr_set(out, (struct sockaddr *)&ss);
}

void conn_local_addr(const struct conn *c, struct addr *out)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	getsockname(c->fd, (struct sockaddr *)&ss, &len);
	addr_set(out, (struct sockaddr *)&ss);
}
