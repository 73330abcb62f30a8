/* SPDX-License-Identifier: ISC
 *
 * channels.h - pg_listening_channels() in texts of clients that listen through the hub.
 */
#ifndef PGT_RELAY_CHANNELS_H
#define PGT_RELAY_CHANNELS_H

#include "base/slice.h"

#include <stdbool.h>

#define CHANNELS_FUNCTION "pg_listening_channels"

struct buf;
struct client;
struct statement;

/* Whether the text may call it, and the answer would be another one than its server's. */
bool channels_are_asked(const struct client *c, struct slice text);
/* The text with each call replaced by the set that it would give on a connection of the client's
 * own; nothing where there is none. */
void channels_rewrite(struct client *c, struct slice text, struct buf *out);
/* The same of a prepared statement, which asks anew each time that it is bound: what it is now,
 * with a reference; NULL: as it is. */
struct statement *channels_statement(struct client *c, const struct statement *st);

#endif
