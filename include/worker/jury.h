/* SPDX-License-Identifier: ISC
 *
 * jury.h - passwords that others judge, who may take their time: on threads of its own.
 *
 * There are as many threads as cases are under way, up to JURY_THREADS, of one address as many as
 * it leaves.  Whoever waits is bounded in the same way, and the address that has fewest cases there
 * is next.  One that hangs keeps its thread; its client is let go by client_login_timeout.  Any
 * thread.
 */
#ifndef PGT_WORKER_JURY_H
#define PGT_WORKER_JURY_H

#include "client/client.h"

struct jury;
struct mailbox;

#define JURY_THREADS 16

struct jury *jury_new(void);
/* Nothing is posted any more when it returns: call it when nobody asks, and before the askers'
 * mailboxes go.  Does not wait for long for one that hangs. */
void jury_free(struct jury *jury);

/* Has a client's password judged; client_judged() is called by mail to `back`, that of the calling
 * thread. */
void jury_ask(struct jury *jury, const struct client *c, const struct client_claim *claim,
	      struct mailbox *back);
/* It is gone: nobody waits for the answer, and if it is still to be asked for, it is not. */
void jury_withdraw(struct jury *jury, const struct client *c);

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

struct jury_facts {
	const char *way;      /* as in auth_type */
	uint64_t waiting;     /* logins for which a thread is still to be found */
	uint64_t under_way;   /* of which some may be without their client */
	uint64_t good, wrong; /* so far */
	uint64_t failed;      /* nobody could say */
	uint64_t refused;     /* there were too many */
	usec_t longest;       /* that one of those under way has taken */
	const char *error;    /* why nobody could say; NULL: the last one was answered */
};

/* One for each that was ever asked; what they point to is borrowed for the call. */
void jury_each(struct jury *jury, void (*visit)(void *arg, const struct jury_facts *facts),
	       void *arg);

#endif
