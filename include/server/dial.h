/* SPDX-License-Identifier: ISC
 *
 * dial.h - the way to a node: resolve the name, connect, agree on TLS.
 *
 * Shared by server connections, which log in afterwards, and cancel requests, which do not.  All on
 * the thread of the net.
 */
#ifndef PGT_SERVER_DIAL_H
#define PGT_SERVER_DIAL_H

#include "config/settings.h"
#include "net/conn.h"
#include "net/resolve.h"
#include "net/sockopt.h"

struct mailbox;
struct tls_context;

/* Where to, and how; strings are borrowed until done() or failed(). */
struct dial_target {
	const char *host;
	uint16_t port;
	const struct addr *address; /* or NULL: the host is looked up */
	const struct settings *set; /* sslmode, socket options; borrowed for the call */
	struct tls_context *tls;    /* of server connections, or NULL: TLS is not possible */
	struct resolver *resolver;
	struct mailbox *mailbox; /* of the thread, where the resolver answers */
};

enum dial_phase { DIAL_RESOLVE, DIAL_CONNECT, DIAL_ASK_TLS, DIAL_TLS, DIAL_DONE, DIAL_FAILED };

struct dial {
	struct conn *conn;
	enum dial_phase phase;
	int sslmode;
	struct tls_context *tls;
	const char *host;
	struct resolve_query *lookup;
	struct resolved *found; /* until it is done */
	unsigned next_address;
	struct sock_options socket_options;
	/* The connection is open: set conn->on to your own handlers. */
	void (*done)(struct dial *d);
	/* It is not, and why; the caller closes the connection. */
	void (*failed)(struct dial *d, const char *why);
	void (*freed)(struct conn *c);
};

/* Starts; conn is prepared here and belongs to the dial until done().  failed() may be called
 * before this returns, when the address is known and refuses at once.  freed is called for a
 * connection that was closed meanwhile. */
void dial_start(struct dial *d, struct conn *conn, struct net *net,
		const struct dial_target *target, void (*done)(struct dial *),
		void (*failed)(struct dial *, const char *), void (*freed)(struct conn *));
/* Lets go of what it holds; the owner closes the connection. */
void dial_stop(struct dial *d);

#endif
