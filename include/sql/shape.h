/* SPDX-License-Identifier: ISC
 *
 * shape.h - texts that differ in literals only have their facts looked up.
 *
 * The shape of a text is the text with its plain literals replaced: numbers by 0, strings by ''. It
 * is a text itself, with the same facts wherever those hold nothing of a literal.  A text with a
 * comment, a backslash, a dollar quote, a prefixed, doubled or continued quote has none.
 */
#ifndef PGT_SQL_SHAPE_H
#define PGT_SQL_SHAPE_H

#include "sql/scan.h"

/* The longest text that may have one. */
#define SQL_SHAPE_MAX 1024

/* Writes the shape of a text that has no NUL but one behind it.  Its length, at most that of the
 * text; 0: it has none.  Strings with letters stay where they could spell the tenant's setting. */
size_t sql_shape(struct slice text, const struct sql_env *env, char out[SQL_SHAPE_MAX]);

/* Whether facts are the same for all texts of a shape. */
bool sql_facts_are_of_shape(const struct sql_facts *f);

/* A bounded memory of facts by shape; one thread. */
struct sql_shapes;
struct sql_shapes *sql_shapes_new(void);
void sql_shapes_free(struct sql_shapes *shapes); /* NULL is allowed */
/* Nothing is remembered any more. */
void sql_shapes_forget(struct sql_shapes *shapes);

/* What sql_scan() tells of a text that has a NUL behind it and none in it, but that a fingerprint
 * may be there unasked.  meaning: stands for *env, and is another one for another.  last: of a
 * session, 0 at first, for sql_shapes_expect().  True: sql_facts_are_of_shape(). */
bool sql_shapes_scan(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning, struct slice text,
		     const struct sql_env *env, struct sql_facts *f);
/* The same if the text has the shape that came behind the session's last one the last time; then it
 * has no NUL in it, which needs not be known before.  Of the environment, which must be ascii_safe,
 * only has_tenants (there is a tenant_setting) and wants_fingerprint are asked for.  False: nothing
 * is told. */
bool sql_shapes_expect(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning,
		       struct slice text, bool has_tenants, bool wants_fingerprint,
		       struct sql_facts *f);
/* Behind either of them, if it has said true: what the caller has noted of the shape, as long as it
 * is remembered; 0: nothing yet. */
uint64_t *sql_shapes_note(struct sql_shapes *shapes, uint16_t last);

#endif
