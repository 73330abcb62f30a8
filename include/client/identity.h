/* SPDX-License-Identifier: ISC
 *
 * identity.h - who a client is, from its startup packet and the configuration.
 *
 * Decides the database entry, the user whose secret is checked, the user on the server and the
 * tenant, and freezes them before anything is proved: nothing later in a login changes them.
 * Pure.
 */
#ifndef PGT_CLIENT_IDENTITY_H
#define PGT_CLIENT_IDENTITY_H

#include "base/err.h"
#include "config/config.h"
#include "pool/pool.h"
#include "wire/passport.h"
#include "wire/startup.h"

struct startup_setting {
	char *name;
	char *value;
};

struct identity {
	char *host;        /* that it asked for over TLS, or NULL */
	char *host_tenant; /* the tenant's part of that */
	char *user;        /* as the client says it */
	char *auth_user;   /* whose secret is asked for: without a tenant's suffix */
	char *server_user; /* on the server */
	char *database;    /* as the client says it */
	bool is_console;
	enum replication replication;
	uint16_t minor;                            /* of the protocol */
	const struct database_conf *database_conf; /* borrowed from the config; NULL: refused */
	const struct tenant_conf *tenant_conf; /* or NULL: none, or an unknown one with a tier */
	char *tenant;                          /* name, "" for none */
	char *business_id;                     /* "" for none */
	bool may_switch;   /* may choose another one within its session, and begin with none */
	bool shares_pools; /* with the other tenants of the database */
	unsigned part;     /* that it has of a pool that several workers share; its host's choice */
	struct startup_setting *settings; /* of the session: all other parameters, options split */
	unsigned nsettings;
	bool is_refused; /* to be said after proof, so that strangers learn nothing */
	struct err refusal;
	char *token_tenant;  /* that a token gives it; NULL: none */
	char *sought;        /* a tenant that has to be looked up first; "": none … */
	uint8_t sought_way;  /* … found by this enum tenant_by_way */
	uint32_t answered;   /* ways, as bits, whose tenant has been looked up */
	struct err *why_not; /* or could not be, because of this; NULL: they have */
	char *brought;       /* of a session of another process: the tenant that it is of, "": of
			      * none; NULL: it is of this process … */
	char *brought_id;    /* … and the id of the one that it has chosen, or "" */
};

/* Reads the packet.  False: it makes no sense (*e), and needs no proof to be told so. */
bool identity_init(struct identity *id, const struct startup *startup, struct err *e);
/* Of a session that another process has had. */
void identity_bring(struct identity *id, const struct passport *p);
/* The host name that it asked for over TLS, when it did. */
void identity_set_host(struct identity *id, const char *host);
/* The tenant that a token gives it, which somebody we trust has signed; to be resolved anew. */
void identity_take_token(struct identity *id, const char *tenant);
/* Looks it up in a config; may be repeated with another.  While something is sought it counts as
 * refused. */
void identity_resolve(struct identity *id, const struct config *config);
/* What was sought is in the roster now, or not known; why_not: it could not be looked up.  To be
 * resolved anew. */
void identity_answer(struct identity *id, const struct err *why_not);
/* The console has two; NULL: its database has none but its own. */
const char *identity_other_name(const struct identity *id);
/* Whose pools it uses; borrowed. */
struct group_key identity_group_key(const struct identity *id);
void identity_fini(struct identity *id);

#endif
