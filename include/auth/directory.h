/* SPDX-License-Identifier: ISC
 *
 * directory.h - what an LDAP directory is asked to find out whether a password is right.
 *
 * Source: PostgreSQL manual, "LDAP Authentication"; RFC 4514 (names), 4515 (filters), 4516 (URLs).
 * Either the name of an entry is made of a user's (simple bind), or the entry is searched for
 * (search+bind).  Servers are not looked for in DNS.
 *
 * Never changes once it is checked, so threads may share it.  Asks nobody itself.
 */
#ifndef PGT_AUTH_DIRECTORY_H
#define PGT_AUTH_DIRECTORY_H

#include "base/assert.h"
#include "base/slice.h"

#include <stdbool.h>

enum directory_scope { DIRECTORY_SUBTREE, DIRECTORY_BASE, DIRECTORY_ONE };

/* Strings are NULL where nothing was said.  A zeroed one is empty. */
struct directory {
	char *servers; /* names or addresses, with blanks between */
	unsigned port; /* 0: the usual one */
	bool is_ldaps;
	bool starts_tls;
	char *prefix, *suffix;         /* of simple bind */
	char *base;                    /* of search+bind, as what follows */
	char *bind_name, *bind_secret; /* as whom it is searched; else as nobody */
	char *attribute;               /* that has the user's name */
	char *filter;                  /* instead */
	enum directory_scope scope;
};

/* Whether an option of a rule is for here. */
bool directory_has_option(const char *option);
/* Takes such an option, name=value.  NULL, or what is wrong; never the value. */
const char *directory_take(struct directory *d, const char *option) PGT_MUST_USE;
/* NULL, or what is wrong with all of them together. */
const char *directory_check(const struct directory *d) PGT_MUST_USE;
/* A whole one from options with blanks between, quoted as in rules.  NULL: *fault says why. */
struct directory *directory_parse(struct slice text, const char **fault);
void directory_fini(struct directory *d);
void directory_free(struct directory *d);                                     /* NULL is fine */
bool directory_is_same(const struct directory *a, const struct directory *b); /* or both NULL */

bool directory_searches(const struct directory *d);
/* What is made here is the caller's to free. */
/* The nth server, or NULL: there are no more. */
char *directory_uri(const struct directory *d, unsigned n);
/* The name to bind with; NULL: no entry can have such a user's. */
char *directory_name_of(const struct directory *d, const char *user);
/* What the one entry has that is the user's; NULL: as above. */
char *directory_filter_of(const struct directory *d, const char *user);

#endif
