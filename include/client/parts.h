/* SPDX-License-Identifier: ISC
 *
 * parts.h - what the files of a login need of each other.  Private to client/.
 */
#ifndef PGT_CLIENT_PARTS_H
#define PGT_CLIENT_PARTS_H

#include "auth/jwt.h"
#include "auth/md5.h"
#include "auth/scram.h"
#include "client/client.h"

enum proof { PROOF_NONE, PROOF_PLAIN, PROOF_MD5, PROOF_SCRAM_FIRST, PROOF_SCRAM_FINAL };

/* Strings are the configuration's. */
struct way {
	enum auth_type type;
	const char *service;               /* of PAM; else NULL */
	const struct directory *directory; /* of LDAP; else NULL */
	const char *map;                   /* of user names, for tokens, or NULL */
	struct jwt_rules jwt;              /* what a token has to be */
};

struct client_login {
	struct identity id;
	bool has_identity;
	bool asked_tls, asked_gss;
	bool asked_cancel; /* it may say nothing more */
	bool came_late;    /* see client.h */
	enum proof due;
	bool is_sought;        /* its tenant is being looked up, or its secret */
	bool is_judged;        /* others are asked about its password */
	bool has_shown_token;  /* a good one, which says whose it is */
	struct config *config; /* in force when the proof was asked for */
	struct way way;        /* how it proves who it is, by that */
	const struct userlist_entry *entry;
	bool is_barred; /* whatever it proves: its user, or its tenant, may not come from there */
	bool was_looked_up;           /* in a database, as it is not in auth_file … */
	struct userlist_entry *found; /* … and this was found; NULL: nobody */
	enum password_kind usual;     /* of the secrets that others have there */
	uint8_t md5_salt[MD5_SALT_LEN];
	struct scram_server scram;
	bool has_scram;
	bool has_client_key;
	uint8_t client_key[SCRAM_KEY_LEN];
	char *given;              /* password of PROOF_PLAIN */
	struct passport passport; /* of a session that another process has had; else empty */
};

/* ---- way.c ------------------------------------------------------------------------------------
 */

/* How it has to prove who it is.  False: in no way (*e). */
bool way_find(const struct client *c, const struct config *config, struct way *way, struct err *e);
/* Whether its connection is as client_tls_sslmode asks, which may ask for more than when it began;
 * else *e. */
bool way_is_secured(const struct client *c, const struct config *config, struct err *e);
/* Whether what was proved in the one would do in the other. */
bool way_is_same(const struct way *a, const struct way *b);
/* Whether others say whether a password is right, and whose; auth_file need not know the user. */
bool way_is_for_others(const struct way *way);

/* ---- proof.c, scram_cache.c -------------------------------------------------------------------
 */

/* Asks for it; who has sent it already is not asked to send more. */
void proof_begin(struct client *c);
/* Takes what has come of it. */
void proof_read(struct client *c);
/* Of the user that it logs in as; of nobody, if there is none. */
void proof_scram_secret(struct client *c, struct scram_secret *out);

/* ---- brought.c --------------------------------------------------------------------------------
 */

/* It is at home: what it has proved was asked for by the other process. */
void brought_enter(struct client *c);
/* What it has proved to another process it has to prove to servers here. */
void brought_lend(const struct passport *p, struct credential *to);

/* ---- login.c ----------------------------------------------------------------------------------
 */

/* Refusals end the connection, and return STEP_CLOSED. */
enum step login_refuse(struct client *c, const struct err *e);
enum step login_refuse_text(struct client *c, const char *sqlstate, const char *text);
/* The same words whether the user does not exist, the password is wrong or it comes from where it
 * may not. */
enum step login_refuse_as_wrong(struct client *c);
/* So, and it counts as a guess. */
enum step login_refuse_proof(struct client *c);
/* Whether it has to wait: *e tells. */
bool login_is_throttled(const struct client *c, struct err *e);
/* Neither rules nor lists lock the operator out. */
bool login_is_exempt(const struct client *c);
/* It is who it says.  STEP_CLOSED: the connection is somebody else's business now. */
enum step login_proved(struct client *c);
/* Looks for where it is served, once it is known who it says it is. */
void login_go_home(struct client *c);
/* The password that it has sent; a connection that was refused may stay open for a while. */
void login_forget_given(struct client_login *login);
/* What comes now is the session's. */
void login_begin_session(struct client *c);

#endif
