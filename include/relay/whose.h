/* SPDX-License-Identifier: ISC
 *
 * whose.h - whose statements a session's are, where it may say so itself (tenant_switch).
 *
 * c->tenant is the tenant of what is sent now.  It changes only while no server runs anything for
 * the client: outside of transactions, or in one whose BEGIN has not been sent yet.  Servers are
 * brought in line with it ahead of a transaction's first statement, so that the two cannot differ
 * (docs/adr/0014-choosing-a-tenant.md).
 */
#ifndef PGT_RELAY_WHOSE_H
#define PGT_RELAY_WHOSE_H

#include "client/client.h"
#include "sql/scan.h"

#include <stdint.h>

struct portal_here;
struct relay;
struct statement;

struct whose {
	struct tenant *base;    /* that it began with, or NULL: what RESET goes back to */
	struct tenant *session; /* outside of the transaction under way */
	struct tenant *pending; /* when that commits */
	struct list portals;    /* bound here, by portal_here.link */
	char *sought;           /* the id that was looked up last, or is being; NULL: none … */
	usec_t sought_at;       /* … since then … */
	struct err *why_not;    /* … could not be, because of this */
	bool is_answered;       /* … was, or could not be */
	bool by_set, by_comment;
	bool in_batch;  /* messages of a batch have been answered here, and its Sync has not come */
	bool failed;    /* what runs on the server, as far as its answers tell; … */
	bool committed; /* … it has before, and what comes behind in its batch undoes nothing */
	bool is_over;   /* that has come to its end; what is owed for it has not been counted yet */
	bool has_end;   /* the batch under way ends its transaction */
	bool is_apart;  /* the Query at hand touches no rows: it needs no tenant */
};

/* ---- whose.c: tenants and transactions ----------------------------------------------------------
 */

void whose_begin(struct client *c);
void whose_forget(struct client *c);
/* Whether what a statement of the client needs is known.  False: *e. */
bool whose_may_run(const struct client *c, struct err *e);
/* Whether the tenant will be another one when the transaction has ended. */
bool whose_is_pending(const struct client *c);
/* Whether the tenant of this id is being looked up in a database: the request waits. */
bool whose_must_seek(struct client *c, struct slice id);
/* A request waits for that. */
bool whose_is_seeking(const struct client *c);
/* It is known now, if anybody knows it; why_not: nobody could be asked. */
void whose_tenant_told(struct client *c, struct slice id, const struct err *why_not);
/* A request has waited too long for that: it is refused. */
void whose_sweep(struct client *c, usec_t now);
/* The tenant of this id, with a reference.  NULL: *e. */
struct tenant *whose_find(struct client *c, struct slice id, struct err *e);
/* It is the client's from here on: is_local ends with the transaction.  Borrowed, or NULL.  False:
 * *e, and nothing has changed. */
bool whose_become(struct client *c, struct tenant *tenant, bool is_local, struct err *e);
/* The same, once what is under way has committed. */
bool whose_become_later(struct client *c, struct tenant *tenant, struct err *e);
/* A transaction that no server knows of has ended, or a statement that none was sent. */
void whose_end(struct client *c, bool commits);

/* From the server: an error, the tag of a command of the client's, a ReadyForQuery. */
void whose_on_error(struct client *c);
void whose_on_tag(struct client *c, struct slice tag);
void whose_on_ready(struct client *c, char tx);
/* All that came with it has been counted. */
void whose_settle(struct client *c);

/* ---- choose.c: what a session says about it -----------------------------------------------------
 */

enum whose_way {
	WHOSE_PASSES, /* goes the way of any other message */
	WHOSE_WAITS,  /* for answers that are still to come */
	WHOSE_ANSWERED,
	WHOSE_REFUSED, /* *e */
};

enum whose_way whose_query(struct client *c, struct slice text, const struct sql_facts *facts,
			   struct err *e);
/* What was found of texts that came lately: settings that it depends on are others now. */
void whose_forget_said(struct relay *r);
/* body: of the message from the text on; known: the statement that this is, or NULL. */
enum whose_way whose_parse(struct client *c, struct slice name, struct slice body,
			   struct statement *known, struct err *e);
/* after_names: from the formats of parameters on. */
/* Whether a statement may come behind others in the batch under way.  False: *e. */
bool whose_may_follow(const struct client *c, struct err *e);
enum whose_way whose_bind(struct client *c, struct slice portal, struct slice name,
			  struct slice after_names, struct err *e);
enum whose_way whose_describe(struct client *c, uint8_t what, struct slice name);
enum whose_way whose_execute(struct client *c, struct slice portal, uint32_t max_rows,
			     struct err *e);
enum whose_way whose_close(struct client *c, uint8_t what, struct slice name);
/* No server is asked. */
void whose_sync(struct client *c, bool failed);
/* Those that are open are gone. */
void whose_close_portals(struct client *c);

#endif
