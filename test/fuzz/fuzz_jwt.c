/* SPDX-License-Identifier: ISC
 *
 * fuzz_jwt.c - any bytes as a token, as its header and claims, and as a file of keys or a secret.
 *
 * The first byte says which, who signs and what is asked for.  A header and claims are signed here,
 * by whoever is said, so that both are read to the end.
 */
#include "../unit/token_rig.h"

#include "auth/jwt.h"
#include "base/assert.h"
#include "base/mem.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AS_TOKEN, AS_CLAIMS, AS_KEYS, NWAYS };

static const char secret[] = "0123456789abcdef0123456789abcdef";

/* The last one is nobody's whom we know. */
static struct token_signer signers[] = {
	{NULL,  "SHA256", false, { 0 }},
        { NULL, "SHA512", false, { 0 }},
	{ NULL, "SHA256", false, { 0 }},
        { NULL, "SHA384", true,  { 0 }},
	{ NULL, "SHA256", false, { 0 }},
        { NULL, "SHA512", false, { 0 }},
	{ NULL, NULL,     false, { 0 }},
        { NULL, "SHA256", false, { 0 }},
};
#define NSIGNERS PGT_NELEMS(signers)
enum { BY_RSA = 2, BY_PSS, BY_P256, BY_P521, BY_ED25519, BY_STRANGER };

static struct jwt_keys *keys;

static void add_pem(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct err e;
	char *text;
	long n;

	PEM_write_bio_PUBKEY(bio, key);
	n = BIO_get_mem_data(bio, &text);
	PGT_ASSERT(jwt_keys_add_public(keys, slice_of(text, (size_t)n), &e));
	BIO_free(bio);
}

/* As one of a set: with a name, and for one algorithm. */
static void add_jwk(EVP_PKEY *key, const char *algorithm)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);
	struct buf text = { 0 };
	struct err e;

	PGT_ASSERT(EVP_PKEY_get_raw_public_key(key, raw, &n) == 1);
	buf_printf(&text,
		   "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"alg\":\"%s\","
		   "\"x\":\"",
		   algorithm);
	token_put_base64url(&text, slice_of((char *)raw, n));
	buf_printf(&text, "\"}]}");
	PGT_ASSERT(jwt_keys_add_public(keys, buf_peek(&text), &e));
	buf_fini(&text);
}

/* Before the first input, whose time is watched: to make that of RSA takes long on a busy machine.
 */
__attribute__((constructor)) static void make_keys(void)
{
	struct err e;

	keys = jwt_keys_new();
	PGT_ASSERT(jwt_keys_add_secret(keys, slice_str(secret), &e));
	signers[0].secret = signers[1].secret = slice_str(secret);
	signers[BY_RSA].key = signers[BY_PSS].key = EVP_RSA_gen(2048);
	signers[BY_P256].key = EVP_EC_gen("P-256");
	signers[BY_P521].key = EVP_EC_gen("P-521");
	signers[BY_ED25519].key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	signers[BY_STRANGER].key = EVP_EC_gen("P-256");
	add_pem(signers[BY_RSA].key);
	add_pem(signers[BY_P256].key);
	add_pem(signers[BY_P521].key);
	add_jwk(signers[BY_ED25519].key, "ES256");
	add_jwk(signers[BY_ED25519].key, "EdDSA");
}

/* may_be_good: we have signed it ourselves. */
static void check(struct slice token, bool asks_little, bool may_be_good)
{
	const struct jwt_rules rules = {
		.keys = keys,
		.algorithms = "HS256, HS512, RS256, PS384, ES256, ES512, EdDSA",
		.audience = "db",
		.issuer = asks_little ? "" : "u",
		.role_claim = "role",
		.tenant_claim = asks_little ? NULL : "tenant",
		.leeway = 10,
	};
	struct jwt jwt;
	struct err e = { 0 };
	bool good = jwt_check(&rules, token, 1000000, &jwt, &e);

	PGT_ASSERT(good ? may_be_good && jwt.roles : *e.text);
	PGT_ASSERT(!jwt.tenant || !asks_little);
	jwt_fini(&jwt);
}

static void as_claims(struct slice text, const struct token_signer *by, bool asks_little)
{
	const char *nul = memchr(text.p, '\0', text.n);
	struct slice header = slice_of(text.p, nul ? (size_t)(nul - text.p) : 0);
	struct slice claims = nul ? slice_of(nul + 1, text.n - header.n - 1) : text;
	struct buf token = { 0 };

	token_put(&token, header.n ? header : SLICE("{\"alg\":\"HS256\"}"), claims, by);
	check(buf_peek(&token), asks_little, by != &signers[BY_STRANGER]);
	buf_fini(&token);
}

static void as_keys(struct slice text)
{
	struct jwt_keys *made = jwt_keys_new();
	struct err e = { 0 };

	PGT_ASSERT(jwt_keys_add_public(made, text, &e) || *e.text);
	PGT_ASSERT(jwt_keys_add_secret(made, text, &e) || *e.text);
	PGT_ASSERT(!jwt_knows_algorithm(text) || text.n == 5);
	jwt_keys_free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text;
	unsigned how;

	if (!size)
		return 0;
	text = slice_of((const char *)data + 1, size - 1);
	how = data[0] / NWAYS;
	if (data[0] % NWAYS == AS_TOKEN)
		check(text, how % 2, false);
	else if (data[0] % NWAYS == AS_CLAIMS)
		as_claims(text, &signers[how / 2 % NSIGNERS], how % 2 == 0);
	else
		as_keys(text);
	return 0;
}
