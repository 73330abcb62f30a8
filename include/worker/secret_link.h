/* SPDX-License-Identifier: ISC
 *
 * secret_link.h - one database that is asked for secrets of users; private to secret_source.h.
 */
#ifndef PGT_WORKER_SECRET_LINK_H
#define PGT_WORKER_SECRET_LINK_H

#include "auth/secret_cache.h"
#include "server/server.h"
#include "worker/lookup_queue.h"
#include "worker/secret_source.h"

struct secret_source {
	struct net *net;
	struct mailbox *mailbox;
	struct resolver *resolver;
	const struct monitor *monitor;
	struct config *config;   /* in force; a reference, or NULL */
	struct tls_context *tls; /* or NULL; a reference */
	struct loop_timer look;
	struct list links;
	unsigned nlinks;
	struct lookup_crowd crowd; /* that waits */
	enum password_kind usual;  /* of the secrets found last */
};

/* What the two questions of a lookup have given. */
struct finding {
	struct buf secret;
	unsigned rows, verdicts; /* of auth_query; of seconds_left */
	bool has_secret;         /* a secret that is not NULL */
	bool is_another;         /* the row is another user's */
	double left;             /* seconds; negative: it has expired */
	bool has_limit;
};

/* One database, asked as one user with one query. */
struct secret_link {
	struct list link; /* of secret_source.links, the last used first */
	struct secret_source *source;
	char *name; /* of the database, as it was asked for */
	const struct database_conf *database;
	struct settings settings; /* auth_user and auth_query among them */
	struct credential credential;
	struct server *server; /* or NULL */
	unsigned node;         /* of the database, that it leads to */
	unsigned failures;     /* of connections, in a row */
	bool is_ready;         /* logged in, and pinned */
	bool is_asking;
	usec_t since; /* when the attempt, the question or the rest began */
	usec_t connected_at;
	usec_t followed_at; /* its host's name */
	usec_t retry_at;
	char failure[200]; /* "": all is well, as far as is known */
	usec_t said_at;    /* when a failure was said last; 0: never */
	bool was_said;     /* that of .failure */
	struct lookup_queue queue;
	struct finding finding;
	struct secret_cache cache;
	enum password_kind usual;
	uint64_t nlookups;
};

static inline usec_t secret_source_now(const struct secret_source *ss)
{
	return loop_now(ss->net->loop);
}

/* What every login is told that could not be looked up: the client learns no more. */
void secret_link_say_unavailable(struct err *e);

/* set: auth_user and auth_query. */
struct secret_link *secret_link_new(struct secret_source *ss, const char *name,
				    const struct database_conf *database,
				    const struct settings *set);
/* Whoever waits is told so. */
void secret_link_free(struct secret_link *sl);
/* Looks a user up, with others who wait for the same. */
void secret_link_find(struct secret_link *sl, struct slice user, const struct lookup_asker *who);
/* Now and then. */
void secret_link_look(struct secret_link *sl, usec_t now);

#endif
