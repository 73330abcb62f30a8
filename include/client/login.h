/* SPDX-License-Identifier: ISC
 *
 * login.h - private to client/: from accept to the first ReadyForQuery.
 */
#ifndef PGT_CLIENT_LOGIN_H
#define PGT_CLIENT_LOGIN_H

#include "client/client.h"

/* Bytes have come from a client that has no session yet. */
void client_login_on_readable(struct client *c);
/* Whether its tenant is being looked up, or its secret. */
bool client_login_awaits_tenant(const struct client *c);
bool client_login_awaits_secret(const struct client *c);
/* Whether others are asked about its password; and that they take too long. */
bool client_login_awaits_verdict(const struct client *c);
void client_login_give_up(struct client *c);
/* What a login keeps; wipes what is secret. */
struct client_login *client_login_new(void);
void client_login_free(struct client_login *login);

/* A connection that another process has had: finds it a home.  Takes what it takes along. */
void client_login_bring(struct client *c, struct passport *passport);

/* A direct TLS handshake begins. */
void client_login_direct_tls(struct client *c);

struct scram_cache *scram_cache_new(void);
void scram_cache_free(struct scram_cache *cache);
/* Of an older configuration. */
void scram_cache_clear(struct scram_cache *cache);

#endif
