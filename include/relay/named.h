/* SPDX-License-Identifier: ISC
 *
 * named.h - SQL texts that name prepared statements: PREPARE, EXECUTE, DEALLOCATE.
 *
 * The names of a client's statements are not those that servers know, so a text that spells one is
 * rewritten on its way, and what the server lacks is prepared before it.  The server's words are
 * turned back: names in its errors, and the position that it points at.
 */
#ifndef PGT_RELAY_NAMED_H
#define PGT_RELAY_NAMED_H

#include "base/err.h"
#include "base/slice.h"
#include "sql/scan.h"

struct buf;
struct client;
struct frame;
struct naming;
struct server;
struct statement;

/* ---- a simple Query ---------------------------------------------------------------------------
 */

/* Whether the text is a DEALLOCATE of one of the client's own statements and nothing else, which no
 * server needs to see: one that has answered everything and is in no failed transaction. */
bool named_is_ours(const struct client *c, const struct sql_facts *facts);
/* Answers it. */
void named_deallocate(struct client *c, const struct sql_facts *facts);
/* Adds to facts what the statements that the text executes leave behind. */
void named_add_effects(struct client *c, struct sql_facts *facts);
/* The same.  False: *e says why they may not be executed so. */
bool named_may_run(struct client *c, struct sql_facts *facts, struct err *e) PGT_MUST_USE;
/* Builds in *out the text as the client's server has to see it, and asks the server for what that
 * needs; *out stays empty when it is the same text.  What has to be kept in mind until the text has
 * been answered: the subject of a NOTE_TEXT, of malloc(). */
struct naming *named_rewrite(struct client *c, struct slice text, const struct sql_facts *facts,
			     struct buf *out);
/* A command of the text has been run. */
void named_on_tag(struct server *s, struct naming *naming, struct slice tag);

/* ---- the extended protocol ---------------------------------------------------------------------
 */

/* A Bind of a statement whose text names others: fills *facts of the text, and of what it executes.
 * False: *e. */
bool named_on_bind(struct client *c, struct slice portal, const struct statement *st,
		   struct sql_facts *facts, struct err *e) PGT_MUST_USE;
/* A Bind: the portal is not what it was. */
void named_unbind(struct client *c, struct slice portal);
/* Takes what named_rewrite() said of the text that was last bound. */
void named_keep(struct client *c, struct naming *naming);
/* Frees what is kept of it. */
void named_forget(struct client *c);
/* The Execute of a portal is passed on: expects its answer, with what it will do to the client's
 * names.  False: it is like any other. */
bool named_on_execute(struct client *c, struct slice portal) PGT_MUST_USE;

/* ---- errors ------------------------------------------------------------------------------------
 */

/* Builds in *out the whole ErrorResponse, an answer to the head of the queue of replies, as the
 * client has to see it; *out stays empty when it may be passed on as it is. */
void named_reword(const struct server *s, const struct frame *f, struct buf *out);

#endif
