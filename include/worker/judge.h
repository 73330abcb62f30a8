/* SPDX-License-Identifier: ISC
 *
 * judge.h - those who judge a password that is not ours to judge; private to jury.h.
 *
 * They may take as long as they like, so they are asked on threads of the jury only, several at
 * once.  What they say goes to the log; a client learns good or not.
 */
#ifndef PGT_WORKER_JUDGE_H
#define PGT_WORKER_JUDGE_H

#include "base/err.h"
#include "client/client.h"

/* A password, and whose it is said to be. */
struct judge_case {
	const char *user;
	const char *password;              /* not empty */
	const char *address;               /* where it comes from; "": a Unix socket */
	const char *service;               /* of PAM */
	const struct directory *directory; /* of LDAP … */
	usec_t patience;                   /* … with one of its servers */
};

/* JUDGED_NOT: *why says what is wrong. */
enum judgement judge_pam(const struct judge_case *jc, struct err *why);
enum judgement judge_ldap(const struct judge_case *jc, struct err *why);

#endif
