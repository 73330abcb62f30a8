/* SPDX-License-Identifier: ISC
 *
 * hba.h - who may come from where, and how it proves who it is: pg_hba.conf's rules.
 *
 * Sources: PostgreSQL manual, "The pg_hba.conf File"; PgBouncer manual, "HBA file format".  The
 * first rule that fits decides.  What would need the server to answer (+group, samerole) or a name
 * service (host names) is refused, and so is each method that is not there: a rule is never
 * replaced by another.
 *
 * Rules never change once parsed, so threads may share them.  Opens no file itself.
 */
#ifndef PGT_AUTH_HBA_H
#define PGT_AUTH_HBA_H

#include "auth/directory.h"
#include "auth/ident.h"
#include "auth/networks.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum hba_method {
	HBA_TRUST,
	HBA_REJECT,
	HBA_PASSWORD, /* in the clear */
	HBA_MD5,
	HBA_SCRAM,
	HBA_CERT,
	HBA_PEER,
	HBA_PAM,
	HBA_JWT,
	HBA_LDAP,
};

/* A certificate besides. */
enum hba_clientcert { CLIENTCERT_NO, CLIENTCERT_VERIFY_CA, CLIENTCERT_VERIFY_FULL };

struct hba;

/* What the one who matches a rule has to show. */
struct hba_rule {
	int line;
	enum hba_method method;
	enum hba_clientcert clientcert;
	const char *map;                   /* of user names, or NULL */
	const char *pam_service;           /* or NULL: the usual one */
	const struct directory *directory; /* of ldap; else NULL */
};

/* What the parser asks of its caller. */
struct hba_reader {
	/* Appends the content of an @file; its path is made from that of the file that names it. */
	bool (*read)(void *arg, const char *path, struct buf *text, struct err *e);
	/* Told of each fault: the file, its 1-based line, and what is wrong. */
	void (*complain)(void *arg, const char *file, int line, const char *text);
	void *arg;
};

/* Always a set of rules, without those that have a fault; whoever wants all or nothing counts the
 * calls of complain. */
struct hba *hba_parse(struct slice text, const char *file, const struct hba_reader *reader);
void hba_free(struct hba *hba); /* NULL is fine */

/* A connection, as far as rules ask. */
struct hba_who {
	struct net_origin from;
	bool is_tls;
	bool is_physical; /* replication without a database */
	const char *database, *user;
	const char *also; /* another name of the database, or NULL */
};

/* The first rule that fits, or NULL. */
const struct hba_rule *hba_find(const struct hba *hba, const struct hba_who *who);
/* The line of the first rule that asks for a certificate; 0: none does. */
int hba_wants_certificate(const struct hba *hba);
/* Whether others than auth_file may say who somebody is: PAM, a directory, or who signs tokens. */
bool hba_asks_others(const struct hba *hba);
bool hba_has(const struct hba *hba, enum hba_method method);

#endif
