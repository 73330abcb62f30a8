/* SPDX-License-Identifier: ISC
 *
 * params.h - immutable, interned sets of parameters: name and value.
 *
 * Two uses.  What a server has reported (ParameterStatus), and what a client has been told of it.
 * What a session wants to be set, and what has been set on a server.  Nearly all sessions of a
 * group agree, so a set exists once per group, and "is this the same?" is a comparison of
 * pointers.  A set never changes, so undoing a change (a ROLLBACK) is going back to the old
 * pointer.
 *
 * Everything belongs to the thread of the group.
 */
#ifndef PGT_POOL_PARAMS_H
#define PGT_POOL_PARAMS_H

#include "base/hash.h"
#include "base/slice.h"

#include <stdint.h>

struct param {
	char *name; /* as given; compared without regard to case, as Postgres does */
	char *value;
};

struct param_set {
	struct hlink link; /* of param_sets.all, by what it holds */
	struct param_sets *home;
	unsigned refs;
	/* Of a set that sessions want: what a server reports once it is applied, or NULL as long as
	 * no server has been asked. */
	struct param_set *welcome;
	unsigned n;
	bool has_timeout;     /* statement_timeout is among them */
	uint8_t plain;        /* of the relay: whether plans depend on them; 0: not known yet */
	struct param items[]; /* sorted by name */
};

/* All sets of a group. */
struct param_sets {
	struct hmap all;
	struct param_set *empty;
};

void param_sets_init(struct param_sets *sets);
/* All references must have been given back. */
void param_sets_fini(struct param_sets *sets);

struct param_set *param_set_ref(struct param_set *set);
void param_set_unref(struct param_set *set); /* NULL is allowed */
/* Points *at to set (NULL to drop), moving the reference that *at held. */
void param_set_assign(struct param_set **at, struct param_set *set);

/* The value, or NULL. */
const char *param_set_get(const struct param_set *set, struct slice name);

/* The set that is like `set` except that name has value; value.p NULL takes the name out.  The
 * result is a new reference. */
struct param_set *param_set_with(struct param_set *set, struct slice name, struct slice value);

/* What a session wants lists anew when its members change what servers report (a server was
 * upgraded): forgets all welcomes. */
void param_sets_forget_welcomes(struct param_sets *sets);

#endif
