/* SPDX-License-Identifier: ISC
 *
 * saslprep.h - the form of a password that SCRAM hashes.
 *
 * PostgreSQL's rule: a password is hashed as SASLprep (RFC 4013) makes it, and as its plain bytes
 * when SASLprep refuses it or it is not UTF-8; ASCII never changes.
 */
#ifndef PGT_AUTH_SASLPREP_H
#define PGT_AUTH_SASLPREP_H

#include "base/buf.h"

/* Appends the prepared password to out; out never grows half-written, so no copy stays behind in
 * freed memory.
 *
 * Exactly PostgreSQL's result for text of these characters, and for any text that SASLprep leaves
 * alone or refuses: Latin letters and signs up to U+0233, Greek, Cyrillic, kana, Han and Hangul
 * syllables, typographic quotes and dashes, the euro sign, the ideographic blank.  Text with any
 * other character passes as it is, which differs from PostgreSQL only for what SASLprep would
 * rewrite: letters typed with combining marks, ligatures, full-width and presentation forms,
 * blanks of other widths.
 * Any thread. */
void saslprep(struct slice password, struct buf *out);

#endif
