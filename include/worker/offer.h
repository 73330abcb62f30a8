/* SPDX-License-Identifier: ISC
 *
 * offer.h - what a running process gives to the one that takes over from it, before that serves:
 * its listening sockets and the lock on its pidfile; and the words that the two speak.
 *
 * Both have them open from then on, so that at no moment there is nobody to connect to.  The new
 * process takes what its own configuration asks for by the same name, and closes the rest.
 *
 * One version meets the next: what an offer or a packet has that is not known is passed over, and
 * so is what stands behind the last field that is.  What must not be passed over needs another
 * format.
 */
#ifndef PGT_WORKER_OFFER_H
#define PGT_WORKER_OFFER_H

#include "base/buf.h"
#include "base/err.h"
#include "config/settings.h"
#include "net/packet.h"
#include "wire/read.h"

#include <stdbool.h>
#include <sys/types.h>

/* What the packets look like.  A running process refuses a successor that does not know its. */
#define TAKEOVER_FORMAT 1

/* The first byte of a packet. */
enum takeover_word {
	WORD_HELLO = 'H',   /* to the running process: the format, the version in words */
	WORD_REFUSED = 'R', /* back: why not, in words */
	WORD_SOCKET = 'L',  /* back: one of the offer, with its descriptor */
	WORD_OFFERED = 'O', /* back: that is all; the format, the version, the process */
	WORD_READY = 'Y',   /* to it: the new one will serve, once it may; its process, READY_… */
	WORD_GRANTED = 'G', /* back: it may, and the running one takes no more clients; or 'R' */
	WORD_QUOTAS = 'Q',  /* back: the ledger, in parts: whether there is more, and text */
	WORD_SESSION = 'S', /* back: a part of a passport, more follows */
	WORD_SESSION_END = 'E', /* back: its number, the last part, with the socket */
	WORD_SERVER = 'V',      /* back: the passport of a server, with the socket; no answer */
	WORD_TAKEN = 'T', /* to it: the number; the session is the new one's, nothing is read yet */
	WORD_RETURNED =
	    'N', /* to it: the number; the session cannot be had here, and is the old one's */
	WORD_CANCEL =
	    'C', /* to it, or back: a number, a cancel key; not sent on to whence it came */
	WORD_CANCEL_DONE = 'D', /* the other way: its number */
	WORD_LEAVING = 'B',     /* to it: it ends or hands on: nobody returns in its place */
};

/* What a new process can do that one of before could not: a byte of bits. */
#define READY_KNOWS_KEYS    1 /* answers WORD_CANCEL */
#define READY_TAKES_SERVERS 2 /* knows WORD_SERVER */

/* How much of a session goes into one, beside what else stands there. */
#define TAKEOVER_PART_MAX (PACKET_MAX - 64)

/* Begins a packet, or is its next field. */
void takeover_put_number(struct buf *out, enum takeover_word word, uint64_t number);
uint64_t takeover_read_number(struct reader *r);

/* A life: the end for reading of a process's pipe (lives.h). */
enum offer_kind { OFFER_CLIENTS, OFFER_HTTP, OFFER_PIDFILE, OFFER_TAKEOVER, OFFER_LIFE };

struct offered {
	enum offer_kind kind;
	int fd;             /* -1: it has been taken */
	bool is_supervised; /* see listen.h */
	char name[256];     /* as the listener, the setting or the path is called */
};

#define OFFERED_MAX 128

struct offer {
	int link; /* to the running process; -1: there is none */
	pid_t from;
	unsigned n;
	struct offered at[OFFERED_MAX];
};

/* The socket that takeovers go by, as takeover_socket says; "": there is none. */
void offer_path(const struct settings *set, struct buf *path);

/* Asks the process that runs with this configuration; blocks.  False: *e says why not. */
bool offer_ask(struct offer *offer, const struct settings *set, struct err *e);
/* The descriptor, now the caller's; -1: it is not among what is offered. */
int offer_take(struct offer *offer, enum offer_kind kind, const char *name);
/* Likewise, of one for clients. */
int offer_take_listener(struct offer *offer, const char *name, bool *is_supervised);
/* The next one of this kind, whatever it is called. */
int offer_take_any(struct offer *offer, enum offer_kind kind);
/* False: *e (F0000) names a listener that a supervisor keeps, and that nobody has taken. */
bool offer_is_supervised_used_up(const struct offer *offer, struct err *e);
/* Says that this process, which has all it needs, will serve, and waits until it may.  False: *e
 * says why not, and nothing has changed for the running one.  Nothing, where there is none. */
bool offer_confirm(struct offer *offer, struct err *e);
/* Closes what nobody has taken; not the link. */
void offer_drop_rest(struct offer *offer);

#endif
