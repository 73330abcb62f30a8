/* SPDX-License-Identifier: ISC
 *
 * sign.h - the signature of a tenant's id, which the database checks (etc/sql/pgturnstile.sql).
 *
 * HMAC-SHA256 over "key id:length of the tenant's id:tenant's id:backend's pid:backend's start in
 * microseconds since 1970", written "key id:hex".  Whoever may run any SQL in a session may set the
 * id, but cannot sign it, and a signature holds for one backend only.
 *
 * Keys stand in a file, one a line, "id hex"; the first one signs.  Empty lines and lines that
 * begin with # or ; are skipped.  Pure; what has been parsed never changes, so threads may share
 * it.
 */
#ifndef PGT_AUTH_SIGN_H
#define PGT_AUTH_SIGN_H

#include "base/assert.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Letters, digits, "_", "-" and "." of a key's id. */
#define SIGN_KEY_ID_MAX 32
/* Bytes of a key: a longer one would be hashed first, a shorter one can be guessed. */
#define SIGN_KEY_MIN 16
#define SIGN_KEY_MAX 64
/* Bytes of a tenant's id. */
#define SIGN_ID_MAX 1024
/* A signature and its NUL. */
#define SIGN_MAX (SIGN_KEY_ID_MAX + 1 + 64 + 1)

/* The setting that a signature stands in, next to the tenant's. */
#define SIGN_SETTING "app.context_signature"

struct sign_keys;

/* Told of each fault: the 1-based line (0: the file as a whole), and a text without any part of a
 * key. */
typedef void sign_complain_fn(void *arg, const char *file, int line, const char *text);

/* NULL when no line has a key; whoever wants all or nothing counts the calls of complain.  file is
 * only handed on. */
struct sign_keys *sign_keys_parse(struct slice text, const char *file, sign_complain_fn *complain,
				  void *arg);
/* Wipes the keys.  NULL is fine. */
void sign_keys_free(struct sign_keys *keys);
/* Never 0; differs from that of other keys: what was signed before these came is signed again. */
uint64_t sign_keys_mark(const struct sign_keys *keys);

/* Signs a tenant's id for one backend.  False: the id is longer than SIGN_ID_MAX. */
bool sign_context(const struct sign_keys *keys, struct slice id, uint32_t backend_pid,
		  uint64_t backend_start_us, char out[SIGN_MAX]) PGT_MUST_USE;

#endif
