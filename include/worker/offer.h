/* SPDX-License-Identifier: ISC
 *
 * offer.h - what a running process gives to the one that takes over from it, before that serves:
 * its listening sockets and the lock on its pidfile; and the words that the two speak.
 *
 * Both have them open from then on, so that at no moment there is nobody to connect to.  The new
 * process takes what its own configuration asks for by the same name, and closes the rest.
 */
#ifndef PGT_WORKER_OFFER_H
#define PGT_WORKER_OFFER_H

#include "base/buf.h"
#include "base/err.h"
#include "config/settings.h"

#include <stdbool.h>
#include <sys/types.h>

/* What the packets look like.  A running process refuses a successor that does not know its. */
#define TAKEOVER_FORMAT 1

/* The first byte of a packet. */
enum takeover_word {
	WORD_HELLO = 'H',       /* to the running process: the format, the version in words */
	WORD_REFUSED = 'R',     /* back: why not, in words */
	WORD_SOCKET = 'L',      /* back: one of the offer, with its descriptor */
	WORD_OFFERED = 'O',     /* back: that is all; the format, the version, the process */
	WORD_READY = 'Y',       /* to it: the new one serves; its process */
	WORD_QUOTAS = 'Q',      /* back: the ledger, in parts: whether there is more, and text */
	WORD_SESSION = 'S',     /* back: a part of a passport, more follows */
	WORD_SESSION_END = 'E', /* back: its last part, with the socket */
	WORD_CANCEL = 'C',      /* to it: a number, a cancel key */
	WORD_CANCEL_DONE = 'D', /* back: its number */
	WORD_LEAVING = 'B',     /* to it: it ends or hands on: nobody returns in its place */
};

enum offer_kind { OFFER_CLIENTS, OFFER_HTTP, OFFER_PIDFILE, OFFER_TAKEOVER };

struct offered {
	enum offer_kind kind;
	int fd;         /* -1: it has been taken */
	char name[256]; /* as the listener, the setting or the path is called */
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
/* Closes what nobody has taken; not the link. */
void offer_drop_rest(struct offer *offer);

#endif
