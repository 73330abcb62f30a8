/* SPDX-License-Identifier: ISC
 *
 * signature.h - proves to the database whose statements a server runs, where there is a key.
 *
 * A signature holds for one server process, so it is made after the login, and again whenever the
 * session has lost it or another key signs.  Where pools are a tenant's own it is asked for here;
 * in a shared pool it goes with the tenant's id (relay/context.c).
 */
#ifndef PGT_SERVER_SIGNATURE_H
#define PGT_SERVER_SIGNATURE_H

#include "auth/sign.h"
#include "server/server.h"

struct tenant;

/* The keys that sign on this server, or NULL: all that it costs where nothing is signed. */
static inline const struct sign_keys *signature_keys(const struct server *s)
{
	const struct group *group = s->pool ? s->pool->group : NULL;

	return group && group->has_tenants && !group->replication ? group->config->sign_keys : NULL;
}
/* Whether there is something to set: moves, for another tenant than before; or else since what
 * stands there is gone, or made with another key. */
static inline bool signature_is_lacking(const struct server *s, bool moves)
{
	const struct sign_keys *keys = signature_keys(s);

	return keys && (moves || s->signed_by != sign_keys_mark(keys));
}
/* The same of a server that is a tenant's own. */
static inline bool signature_is_due(const struct server *s)
{
	return signature_is_lacking(s, false) && s->pool->group->tenant;
}
/* Whether signature_bring() has something to ask for. */
static inline bool signature_is_wanted(const struct server *s)
{
	return signature_keys(s) && (signature_is_due(s) || !s->started_at);
}

/* Asks the server for what there is to sign, if it has not been asked yet, and sets the signature
 * of one that is a tenant's own; signature_is_wanted() holds.  As server_ask(). */
void signature_bring(struct server *s,
		     void (*done)(struct server *s, void *arg, const struct report *error));

/* The value to be set for this tenant, which is on its way from here on; "" for NULL, and where
 * nothing can be signed. */
void signature_make(struct server *s, const struct tenant *tenant, char out[SIGN_MAX]);

/* The session may have lost it, or what stands there may be somebody else's. */
void signature_forget(struct server *s);

#endif
