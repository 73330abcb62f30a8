/* SPDX-License-Identifier: ISC
 *
 * login.h - from an open connection to a session: startup packet, authentication, first questions.
 *
 * Source: PostgreSQL manual, "Message Flow: Start-up"; RFC 5802 through auth/scram.h.
 */
#ifndef PGT_SERVER_LOGIN_H
#define PGT_SERVER_LOGIN_H

#include "server/server.h"

struct server_login;

/* Begins once the connection is open.  Calls ready(s) or failed(s, why), which come from a message
 * or from here. */
struct server_login *login_new(const struct server_target *target);
void login_begin(struct server *s);
/* Another process has logged in on it: ends what sessions have left there, and asks the same
 * questions as behind a login.  Calls the same. */
void login_resume(struct server *s);
/* A digest of the startup packet that it would be sent: what begins alike has the same one, in any
 * process. */
uint64_t login_digest(const struct server *s, const struct server_target *target);
/* Bytes have come. */
void login_on_readable(struct server *s);
/* Wipes what is secret. */
void login_free(struct server_login *login);

#endif
