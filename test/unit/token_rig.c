/* SPDX-License-Identifier: ISC
 *
 * token_rig.c - tokens as those make them who have a key (RFC 7515).
 *
 * Signs whatever it is given; does not know what a token has to say.
 */
#include "token_rig.h"

#include "auth/base64.h"
#include "base/assert.h"

#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#define SIGNATURE_MAX 2048

void token_put_base64url(struct buf *out, struct slice s)
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

/* Of an elliptic curve: two numbers, not DER. */
static size_t to_raw(EVP_PKEY *key, const uint8_t *der, size_t n, uint8_t *out)
{
	size_t half = (size_t)(EVP_PKEY_get_bits(key) + 7) / 8;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);

	BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, (int)half);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + half, (int)half);
	ECDSA_SIG_free(sig);
	return 2 * half;
}

static size_t sign_by_key(const struct token_signer *by, struct slice text, uint8_t *out)
{
	uint8_t made[SIGNATURE_MAX];
	size_t n = sizeof(made);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *with;

	PGT_ASSERT(EVP_DigestSignInit_ex(ctx, &with, by->digest, NULL, NULL, by->key, NULL) == 1);
	if (by->is_pss) {
		EVP_PKEY_CTX_set_rsa_padding(with, RSA_PKCS1_PSS_PADDING);
		EVP_PKEY_CTX_set_rsa_pss_saltlen(with, RSA_PSS_SALTLEN_DIGEST);
	}
	PGT_ASSERT(EVP_DigestSign(ctx, made, &n, (const uint8_t *)text.p, text.n) == 1);
	EVP_MD_CTX_free(ctx);
	if (EVP_PKEY_is_a(by->key, "EC"))
		return to_raw(by->key, made, n, out);
	memcpy(out, made, n);
	return n;
}

static size_t sign(const struct token_signer *by, struct slice text, uint8_t *out)
{
	unsigned n;

	if (by->key)
		return sign_by_key(by, text, out);
	HMAC(EVP_get_digestbyname(by->digest), by->secret.p, (int)by->secret.n,
	     (const uint8_t *)text.p, text.n, out, &n);
	return n;
}

void token_put(struct buf *out, struct slice header, struct slice claims,
	       const struct token_signer *by)
{
	uint8_t signature[SIGNATURE_MAX];
	size_t before = buf_len(out), n;

	token_put_base64url(out, header);
	buf_put_u8(out, '.');
	token_put_base64url(out, claims);
	n = sign(by, slice_of(buf_head(out) + before, buf_len(out) - before), signature);
	buf_put_u8(out, '.');
	token_put_base64url(out, slice_of((char *)signature, n));
}
