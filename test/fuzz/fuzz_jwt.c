/* SPDX-License-Identifier: ISC
 *
 * fuzz_jwt.c - any bytes as a token, as its header and claims, and as a file of keys.
 *
 * The first byte says which.  A header and claims are signed here, so that both are read to the
 * end.
 */
#include "auth/base64.h"
#include "auth/jwt.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char secret[] = "0123456789abcdef0123456789abcdef";

static void base64url_put(struct buf *out, struct slice s)
{
	size_t before = buf_len(out);

	base64_put(out, s.p, s.n);
	for (size_t i = before; i < buf_len(out); i++) {
		char *c = buf_head(out) + i;

		*c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
	}
	while (buf_len(out) && buf_head(out)[buf_len(out) - 1] == '=')
		out->end--;
}

static void check(struct slice token, bool is_ours)
{
	struct jwt_keys *keys = jwt_keys_new();
	struct jwt_rules rules = { .keys = keys,
				   .algorithms = "HS256, RS256",
				   .audience = "db",
				   .issuer = "",
				   .role_claim = "role",
				   .tenant_claim = "tenant",
				   .leeway = 10 };
	struct jwt jwt;
	struct err e = { 0 };
	bool good;

	PGT_ASSERT(jwt_keys_add_secret(keys, slice_str(secret), &e));
	good = jwt_check(&rules, token, 1000000, &jwt, &e);
	PGT_ASSERT(good ? is_ours && jwt.roles : *e.text);
	jwt_fini(&jwt);
	jwt_keys_free(keys);
}

static void as_claims(struct slice text)
{
	const char *nul = memchr(text.p, '\0', text.n);
	struct slice header = slice_of(text.p, nul ? (size_t)(nul - text.p) : 0);
	struct slice claims = nul ? slice_of(nul + 1, text.n - header.n - 1) : text;
	struct buf token = { 0 };
	uint8_t signature[EVP_MAX_MD_SIZE];
	unsigned n;

	base64url_put(&token, header.n ? header : SLICE("{\"alg\":\"HS256\"}"));
	buf_put_u8(&token, '.');
	base64url_put(&token, claims);
	HMAC(EVP_sha256(), secret, (int)strlen(secret), (uint8_t *)buf_head(&token),
	     buf_len(&token), signature, &n);
	buf_put_u8(&token, '.');
	base64url_put(&token, slice_of((char *)signature, n));
	check(buf_peek(&token), true);
	buf_fini(&token);
}

static void as_keys(struct slice text)
{
	struct jwt_keys *keys = jwt_keys_new();
	struct err e = { 0 };

	PGT_ASSERT(jwt_keys_add_public(keys, text, &e) || *e.text);
	jwt_keys_free(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text;

	if (!size)
		return 0;
	text = slice_of((const char *)data + 1, size - 1);
	if (data[0] % 3 == 0)
		check(text, false);
	else if (data[0] % 3 == 1)
		as_claims(text);
	else
		as_keys(text);
	return 0;
}
