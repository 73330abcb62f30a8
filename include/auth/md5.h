/* SPDX-License-Identifier: ISC
 *
 * md5.h - PostgreSQL's md5 password authentication.
 *
 * Source: PostgreSQL manual, "Message Flow", AuthenticationMD5Password.  Where libcrypto refuses
 * MD5 (FIPS mode) the functions return false and leave an empty string, which matches nothing.
 * Any thread.
 */
#ifndef PGT_AUTH_MD5_H
#define PGT_AUTH_MD5_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* "md5" and 32 hexadecimal digits; MD5_BUF_LEN is with the NUL. */
#define MD5_TEXT_LEN 35
#define MD5_BUF_LEN  36
#define MD5_SALT_LEN 4

/* Has the form of a stored hash, which PostgreSQL takes for one: lower case. */
bool md5_is_hash(struct slice stored);

/* What a server stores: "md5" || hex(md5(password || user)). */
bool md5_hash_password(struct slice user, struct slice password, char out[MD5_BUF_LEN]);

/* What a client answers to salt: "md5" || hex(md5(stored without "md5" || salt)).  stored has the
 * form of md5_is_hash(), or is empty and gives an empty answer. */
bool md5_answer(const char *stored, const uint8_t salt[MD5_SALT_LEN], char out[MD5_BUF_LEN]);

#endif
