/* SPDX-License-Identifier: ISC
 *
 * fingerprint.h - what stays of a text without its literals, comments, case and white space.
 *
 * A keyed hash of the tokens.  Knows no grammar.
 */
#ifndef PGT_SQL_FINGERPRINT_H
#define PGT_SQL_FINGERPRINT_H

#include "sql/lex.h"
#include "sql/words.h"

struct fingerprint {
	uint64_t hash[2];
	size_t n;
	char bytes[256]; /* not hashed yet */
};

void fingerprint_init(struct fingerprint *fp);
/* Takes the next token; word: what it is to scan.c.  Neither a comment nor the end. */
void fingerprint_add(struct fingerprint *fp, const struct lex_token *t, enum word word);
/* Never 0, 0. */
void fingerprint_finish(struct fingerprint *fp, uint64_t out[2]);

#endif
