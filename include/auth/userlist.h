/* SPDX-License-Identifier: ISC
 *
 * userlist.h - users and their passwords, as in PgBouncer's userlist.txt.
 *
 * Source: PgBouncer manual, "Authentication file format".  One user a line: `"name" "password"`,
 * where "" inside quotes is one quote and the rest of the line is ignored.  Empty lines and lines
 * that begin with ; are skipped.  As in PgBouncer, the last line of a user counts, and an empty
 * password is kept but lets nobody in.  Unlike PgBouncer, a line with a fault does not silence
 * those behind it, and a string ends on its line.
 *
 * A list never changes once parsed, so threads may share it.
 */
#ifndef PGT_AUTH_USERLIST_H
#define PGT_AUTH_USERLIST_H

#include "auth/scram.h"
#include "base/hash.h"

/* Bytes, as in PgBouncer; longer ones are a fault. */
#define USERLIST_MAX_USER     127
#define USERLIST_MAX_PASSWORD 2047

enum password_kind { PASSWORD_NONE, PASSWORD_PLAIN, PASSWORD_MD5, PASSWORD_SCRAM };

struct userlist_entry {
	struct hlink link;
	char *user;
	char *password; /* as written, "" when there is none */
	enum password_kind kind;
	struct scram_secret scram; /* of kind PASSWORD_SCRAM */
};

struct userlist;

/* Told of each fault: the 1-based line, and a text without any part of a password. */
typedef void userlist_complain_fn(void *arg, const char *file, int line, const char *text);

/* Always a list, with the entries of all lines without a fault; userlist_free() it.  Whoever wants
 * all or nothing counts the calls of complain.  file is only handed on. */
struct userlist *userlist_parse(struct slice text, const char *file, userlist_complain_fn *complain,
				void *arg);

/* NULL when there is no such user (or no list); else lives as long as the list. */
const struct userlist_entry *userlist_find(const struct userlist *list, struct slice user);

/* What most secrets of a list are, as which one who has none has to appear. */
struct userlist_usual {
	bool is_scram;
	uint32_t iterations; /* of most of them then; else 0 */
};
struct userlist_usual userlist_usual(const struct userlist *list);

/* Calls visit for every user, in no order; list may be NULL. */
void userlist_each(const struct userlist *list,
		   void (*visit)(void *arg, const struct userlist_entry *entry), void *arg);

/* Wipes the passwords.  NULL is fine. */
void userlist_free(struct userlist *list);

/* For an entry that comes from elsewhere (auth_query): copies both strings and finds out the kind.
 * False, and nothing to free, when password has the form of a SCRAM secret but is none. */
bool userlist_entry_init(struct userlist_entry *entry, struct slice user,
			 struct slice password) PGT_MUST_USE;
/* Wipes and frees what the entry holds. */
void userlist_entry_fini(struct userlist_entry *entry);

#endif
