/* SPDX-License-Identifier: ISC
 *
 * repeat.h - unnamed statements that repeat, prepared on servers behind their clients' backs.
 *
 * A text that has come auto_prepare_after times is parsed under a name of ours instead of none.
 * From then on its Parse is answered here, but not before the server has answered what uses it: if
 * that fails, the request is taken back and asked again as the client has sent it, so that errors,
 * results and types are those of a Parse of now.  That is possible at the start of a transaction
 * only; behind it a statement stands in for an unnamed one if that has just been done in the same
 * batch.  See docs/adr/0027-auto-prepare.md.
 */
#ifndef PGT_RELAY_REPEAT_H
#define PGT_RELAY_REPEAT_H

#include "base/clock.h"
#include "server/replies.h"

#include <stdbool.h>

struct client;
struct frame;
struct group;
struct relay;
struct server;
struct server_statement;
struct statement;

/* The client's next message is a Parse of st without a name: notes whether what servers have of it
 * may take its place (client.repeats).  is_used: what follows is known to bind it. */
void repeat_look(struct client *c, struct statement *st, bool is_used);
/* The Parse is about to go to the client's server.  True: something has been sent there, or not
 * even that, in its place.  Takes the reference on st then. */
bool repeat_parse(struct client *c, struct statement *st);
/* In the middle of a batch: what stands in for st once more, and how often it may; NULL: nothing.
 */
struct server_statement *repeat_again(struct client *c, struct statement *st, unsigned *most);
/* It has done so n times, and was bound each time: the client's unnamed statement is st.  Takes n
 * references. */
void repeat_stood_in(struct client *c, struct statement *st, struct server_statement *ss,
		     unsigned n);
/* It goes there as it is. */
void repeat_count(struct client *c, struct statement *st);
/* What the server has of the client's unnamed statement, or NULL: nothing that could stand in for
 * it. */
struct server_statement *repeat_find(const struct client *c, const struct statement *st);
/* The same for a Bind that is sent now. */
struct server_statement *repeat_require(struct client *c, const struct statement *st);
/* A statement of the client's batch is bound; NULL: not known. */
void repeat_on_bind(struct client *c, const struct statement *st);
/* A notice has come while the server parsed: that is to be heard each time. */
void repeat_on_notice(struct server *s, const struct reply *r);
/* A server could not parse it; NULL is allowed. */
void repeat_is_void(struct statement *st);
/* What was known of it does not fit: as a Parse of now would have it, it may be another. */
void repeat_has_failed(struct statement *st);
/* The request that has run server.timed has ended. */
void repeat_on_ready(struct server *s, usec_t took);
/* … will not end well. */
void repeat_forget_time(struct server *s);
/* All that has come lately, or of one group. */
void repeat_forget(struct relay *r, const struct group *group);

#endif
