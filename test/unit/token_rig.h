/* SPDX-License-Identifier: ISC
 *
 * token_rig.h - tokens as those make them who have a key (RFC 7515).
 *
 * Shared by the test of auth/jwt.c and its fuzzer.
 */
#ifndef PGT_TEST_TOKEN_RIG_H
#define PGT_TEST_TOKEN_RIG_H

#include "base/buf.h"
#include "base/slice.h"

#include <openssl/evp.h>
#include <stdbool.h>

struct token_signer {
	EVP_PKEY *key;      /* NULL: by the secret */
	const char *digest; /* NULL: the key's own */
	bool is_pss;
	struct slice secret; /* of HMAC */
};

/* In the alphabet for addresses, without padding.  Appends. */
void token_put_base64url(struct buf *out, struct slice s);
/* A whole one.  Appends. */
void token_put(struct buf *out, struct slice header, struct slice claims,
	       const struct token_signer *by);

#endif
