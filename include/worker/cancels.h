/* SPDX-License-Identifier: ISC
 *
 * cancels.h - cancel keys, and the way of a request to the client whose key it has.
 *
 * The pid of a key names the worker that has made it, and with peer_id the process too; the secret
 * is compared as a whole, there.
 */
#ifndef PGT_WORKER_CANCELS_H
#define PGT_WORKER_CANCELS_H

#include "base/slice.h"
#include "worker/takeover.h"

#include <stdint.h>

struct client;
struct control;
struct worker;

/* ---- the worker's own thread ------------------------------------------------------------------
 */

/* A new key, which no other client of this worker has; c->secret_len bytes of secret. */
void cancels_assign_key(struct client *c);
/* The client has come with its key, if it has one; and goes. */
void cancels_keep_key(struct client *c);
void cancels_forget_key(struct client *c);
/* The one with that pid in its key and that id; NULL: it is gone, or pid is 0. */
struct client *cancels_find_client(const struct worker *w, uint32_t pid, uint64_t id);

/* The newcomer `asker` wants the client of this key to be cancelled.  It is closed when that has
 * been seen to, and sees the same whether the key was right or not. */
void cancels_ask(struct client *asker, uint32_t pid, struct slice secret);

/* ---- the control thread -----------------------------------------------------------------------
 */

/* A request that has come to another process, and from there by way of a neighbour;
 * takeover_answer_cancel() with its number follows.  The secret is no longer than CANCEL_KEY_MAX.
 */
void cancels_deliver(struct control *control, enum neighbour from, uint64_t number, uint32_t pid,
		     struct slice secret);

#endif
