/* SPDX-License-Identifier: ISC
 *
 * conn.h - one socket: bytes in, bytes out, plain or TLS, closed at a safe moment.
 *
 * Bytes are received into a buffer that all connections of a thread share and handed over at once;
 * what the handler leaves is kept by the connection until the next time.  Bytes to be sent may be
 * borrowed from there: they go out, or are copied, before the event ends.  So an idle connection
 * owns no buffer, and forwarding copies nothing.
 *
 * Handlers never free a connection: conn_close_soon() marks it, and conn_events.freed is called
 * when the turn of the loop ends and nobody holds a pointer any more.
 *
 * Everything belongs to the thread that runs the net's loop.
 */
#ifndef PGT_NET_CONN_H
#define PGT_NET_CONN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "net/addr.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct tls;

/* What one receive takes at most. */
#define NET_RECEIVE_MAX 65536
/* Empty buffers that a thread keeps at hand for the next connection in need. */
#define NET_SPARE_BUFFERS 32

/* The per-thread part: loop, shared receive buffer, lists of connections with something to do. */
struct net {
	struct loop *loop;
	char *scratch;         /* NET_RECEIVE_MAX bytes beyond what a connection had left */
	struct list dirty;     /* output to be sent, buffers to be given back */
	struct list kicked;    /* bytes are at hand that no readiness will announce */
	struct list closing;   /* to be freed at the end of the turn */
	struct list lingering; /* to be closed when their time is up: most have said all they had to
				* say and wait for the peer to hang up */
	struct buf *spare[NET_SPARE_BUFFERS];
	unsigned nspare;
	size_t wanted; /* by whoever is starved: of the last of them */
};

struct conn_events {
	/* New bytes are there: conn_input(), conn_consume(). */
	void (*readable)(struct conn *c);
	/* Output had to wait for the peer, and has gone now. */
	void (*drained)(struct conn *c);
	/* The peer hung up, or the socket failed, or memory is gone (why tells).  The connection is
	 * still open on our side: call conn_close_soon(). */
	void (*ended)(struct conn *c, const char *why);
	/* A connect or a TLS handshake is done. */
	void (*ready)(struct conn *c);
	/* The first byte of a connection with ->sniff set opens a TLS handshake: conn_start_tls()
	 * or conn_close_soon(). */
	void (*direct_tls)(struct conn *c);
	/* It is closed; free what it is embedded in. */
	void (*freed)(struct conn *c);
};

enum conn_phase {
	CONN_PREPARED, /* no socket yet */
	CONN_CONNECTING,
	CONN_HANDSHAKE, /* TLS */
	CONN_OPEN,
	CONN_LINGERING, /* no more output; input is thrown away until the peer hangs up */
	CONN_CLOSED,
};

/* An idle one should be small: there are thousands of them. */
struct conn {
	struct loop_io io;
	struct net *net;
	const struct conn_events *on;
	void *owner; /* of whoever set the handlers */
	struct tls *tls;
	struct buf *in;    /* what the handler left, or NULL */
	struct buf *out;   /* what the socket has not taken yet, or NULL */
	struct buf **sent; /* where the next send leaves its bytes, or NULL; see conn_keep_sent() */
	const char *cur;   /* while an event is handled: the bytes at hand */
	const char *borrowed;  /* to be sent, not ours */
	uint32_t cur_len;      /* of what a receive and a buffer of its own hold at most … */
	uint32_t borrowed_len; /* … and of what is borrowed from those */
	struct list dirty_link;
	struct list kick_link;
	struct list close_link; /* of net.closing or net.lingering */
	bool *released;         /* while a handler runs: to be set when it releases c */
	usec_t active_at;       /* when bytes last came or went */
	usec_t received_at;     /* when bytes last came */
	usec_t deadline;        /* of lingering */
	struct addr peer;
	int fd;
	union {
		struct {
			uint8_t phase; /* enum conn_phase */
			bool paused;   /* the owner does not want to read */
			bool blocked;  /* the socket does not take what we have to send */
			bool
			    tls_wants_write; /* a read that TLS can go on with only after writing */
			bool sniff : 1; /* the first byte decides between plain and direct TLS */
			bool is_guarded : 1; /* secrets come and go: see conn_guard() */
			/* of .out, what goes ahead of a TLS handshake in the clear: an answer to a
			 * request for GSSAPI, and one to that for TLS, a byte each */
			uint8_t clear_left : 2;
			/* memory was gone when something was asked for on its behalf */
			bool is_starved : 1;
			bool write_failed; /* the peer takes nothing any more; what it said last may
					    * be unread */
			bool said_all;     /* lingering: our end is shut down */
			bool is_tls;       /* ->tls is there */
		};
		uint8_t state[8]; /* all of these, to be compared at once */
	};
};

/* Open, in the clear, and none of the rest: one comparison. */
static inline bool conn_is_usual(const struct conn *c)
{
	static const uint8_t usual[sizeof(c->state)] = { CONN_OPEN };

	return !memcmp(c->state, usual, sizeof(usual));
}

/* A net is embedded in its thread. */
void net_init(struct net *net, struct loop *loop);
void net_fini(struct net *net);
/* In the thread that runs its loop: when memory is gone, the connection at hand is ended. */
void net_begin(struct net *net);
/* Sends what is pending and gives back buffers; each event ends with it.  For mail and timers. */
void net_flush(struct net *net);
/* Call now and then (tenths of a second): ends what lingers too long. */
void net_sweep(struct net *net, usec_t now);

/* Runs at the end of each turn of the loop: hands over left bytes, sends, frees what was closed. */
void net_turn_end(struct net *net);

/* Takes an open, non-blocking socket. */
void conn_open(struct conn *c, struct net *net, int fd, const struct conn_events *on);
/* A connection without a socket yet, which may be closed like any other. */
void conn_prepare(struct conn *c, struct net *net, const struct conn_events *on);
/* Starts to connect a prepared one; ready() or ended() follows, later.  False: *e tells, nothing
 * was started. */
bool conn_connect(struct conn *c, const struct sockaddr *addr, socklen_t len, struct err *e);
/* Gives up an attempt, so that another address can be tried. */
void conn_abandon(struct conn *c);
/* Starts TLS on an open connection; ready() or ended() follows.  Bytes received before it that
 * nobody consumed end the connection: they came in the clear.  Takes the session. */
void conn_start_tls(struct conn *c, struct tls *tls);

/* While secrets come and go on it: what has held its bytes is wiped when they have been handled. */
void conn_guard(struct conn *c, bool on);

/* The bytes of a buffer that is there only while it is needed. */
static inline size_t conn_kept(const struct buf *b)
{
	return b ? buf_len(b) : 0;
}

/* The bytes at hand. */
static inline struct slice conn_input(const struct conn *c)
{
	if (c->cur)
		return slice_of(c->cur, c->cur_len);
	return c->in ? buf_peek(c->in) : slice_of("", 0);
}

/* Drops the first n of them.  They may still be borrowed until the event ends. */
static inline void conn_consume(struct conn *c, size_t n)
{
	if (c->cur) {
		c->cur += n;
		c->cur_len -= (uint32_t)n;
	} else if (n) {
		buf_consume(c->in, n);
	}
}
/* Puts bytes in front of those that wait; not from within its own readable(). */
void conn_unread(struct conn *c, struct slice bytes);
/* Has readable() called again, at the end of this turn, for bytes that were left waiting. */
void conn_kick(struct conn *c);
/* Handles at once what has come and was not received yet; not from within a handler.  It may be
 * closed by that. */
void conn_receive(struct conn *c);
/* The same of one that was just opened, whose first bytes may have come ahead of it. */
void conn_receive_first(struct conn *c);

/* Sends bytes that stay valid until the event ends: the input of any connection, or static ones.
 * Before it is connected, and during the TLS handshake, they are kept until it is. */
void conn_send_unusual(struct conn *c, const char *p, size_t n); /* for what follows only */
static inline void conn_send(struct conn *c, const char *p, size_t n)
{
	if (!conn_is_usual(c) || c->out || c->borrowed_len || list_is_linked(&c->dirty_link)) {
		conn_send_unusual(c, p, n);
		return;
	}
	c->borrowed = p;
	c->borrowed_len = (uint32_t)n;
	list_push_back(&c->net->dirty, &c->dirty_link);
}
/* Where messages are built to be sent.  Do not keep the pointer. */
struct buf *conn_output(struct conn *c);
/* What was built by conn_output() and is sent next, at the end of this event, is moved to *kept
 * (NULL so far) if it is short and goes out at once; without a copy.  The owner gives it back. */
#define CONN_KEEP_MAX 16384
static inline void conn_keep_sent(struct conn *c, struct buf **kept)
{
	c->sent = kept;
}
void conn_give_back(struct conn *c, struct buf **kept);
/* How many bytes wait for the peer to take them. */
static inline size_t conn_unsent(const struct conn *c)
{
	return conn_kept(c->out) + c->borrowed_len;
}

/* Takes back what was put behind the first n of them in this event. */
void conn_unsend(struct conn *c, size_t n);

/* Stops and resumes receiving. */
void conn_pause(struct conn *c);
void conn_receive_again(struct conn *c);
static inline void conn_resume(struct conn *c)
{
	if (c->paused)
		conn_receive_again(c);
}

/* Sends what is left, tells the peer that no more comes, waits at most `patience` for it to hang up
 * and frees.  For an error message that must arrive, and for a server whose slot counts as
 * taken until its process is gone. */
void conn_finish(struct conn *c, usec_t patience);
/* Sends what the socket takes at once, and ends it: for a few words to one that may take no room
 * while it reads them. */
void conn_dismiss(struct conn *c);
/* Ends it after `patience` whatever it is doing by then, or with its net; in any phase but
 * lingering.  For a connection that nobody keeps an eye on. */
void conn_expire(struct conn *c, usec_t patience);
/* Whether it was ended because memory was gone; *e says so, as PostgreSQL would. */
bool conn_is_starved(const struct conn *c, struct err *e);
/* Of one that is paused: whether the peer has hung up, which ended() is told.  A system call. */
void conn_look_for_end(struct conn *c);
/* Ends it at the end of this turn, whatever is unsent. */
void conn_close_soon(struct conn *c);
static inline bool conn_is_usable(const struct conn *c)
{
	return c->phase <= CONN_OPEN;
}

/* Takes the connection off its loop so that another thread can have it; conn_adopt() on that
 * thread goes on, with the bytes that are unread or unsent.  Only in CONN_OPEN; also in its own
 * readable(), ready() and drained(), which must not touch it after that. */
void conn_release(struct conn *c);
void conn_adopt(struct conn *c, struct net *net);

/* Its socket, the caller's from here on; nothing is read or written any more, and the connection is
 * to be closed.  Only in CONN_OPEN. */
int conn_take_fd(struct conn *c);

/* Of the other end of a socket that is no connection yet. */
void conn_peer_of(int fd, struct addr *out);
/* Of our own end. */
void conn_local_addr(const struct conn *c, struct addr *out);

#endif
