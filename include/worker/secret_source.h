/* SPDX-License-Identifier: ISC
 *
 * secret_source.h - asks databases for the secrets of users who are not in auth_file.
 *
 * One connection for each database, auth_user and auth_query, apart from all pools, which no client
 * ever has: nothing that a client says reaches its session, and a user's name travels as a
 * parameter.  What is found is kept for auth_query_ttl.  All on the control thread.
 */
#ifndef PGT_WORKER_SECRET_SOURCE_H
#define PGT_WORKER_SECRET_SOURCE_H

#include "auth/userlist.h"
#include "worker/lookup_queue.h"
#include "worker/monitor.h"

struct secret_source;

/* Borrows all of them until secret_source_free(). */
struct secret_source *secret_source_new(struct net *net, struct mailbox *mailbox,
					struct resolver *resolver, const struct monitor *monitor);
/* A configuration is in force: nothing that was found counts any more, and who waits is looked up
 * anew. */
void secret_source_configure(struct secret_source *ss, struct config *config,
			     struct tls_context *server_tls);
/* Whoever waits is told so. */
void secret_source_free(struct secret_source *ss);

/* What was found of a user. */
struct secret_found {
	const struct userlist_entry *entry; /* NULL: nobody; borrowed for the call */
	enum password_kind usual;           /* of the secrets that were found there */
	const struct err *why_not;          /* NULL, or nobody could be asked */
};

/* Looks up a user of a database ("": the console's); answer() is called once, with a struct
 * secret_found, maybe before this returns, or never after secret_source_withdraw(). */
void secret_source_find(struct secret_source *ss, struct slice database, struct slice user,
			const struct lookup_asker *who);
/* The asker with this id is gone.  Gives back its arg; NULL: it has been answered. */
void *secret_source_withdraw(struct secret_source *ss, uint64_t id);
/* It could not prove who it is: its secret may have changed, and is looked up again next time. */
void secret_source_doubt(struct secret_source *ss, struct slice database, struct slice user);

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

struct secret_facts {
	const char *database, *user;
	const char *state;
	const char *error; /* NULL: none */
	uint64_t cached;   /* users, those who are nobody included */
	uint64_t lookups;  /* so far */
	uint64_t waiting;  /* logins */
};

void secret_source_each(const struct secret_source *ss,
			void (*visit)(void *arg, const struct secret_facts *facts), void *arg);
void secret_source_visit(const struct secret_source *ss, monitor_visit_fn *visit, void *arg);

#endif
