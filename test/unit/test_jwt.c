/* SPDX-License-Identifier: ISC
 *
 * test_jwt.c - which tokens are good, and that nothing near one is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "token_rig.h"

#include "auth/jwt.h"
#include "base/mem.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW    1000000
#define CLAIMS "{\"aud\":\"db\",\"exp\":1000100,\"role\":\"app\",\"tenant\":\"42\"}"

static const char secret[] = "0123456789abcdef0123456789abcdef";
static EVP_PKEY *rsa, *other_rsa, *p256, *p521, *ed;
static char public_pem[8192]; /* of all but other_rsa */

/* A token, to be freed.  key NULL: HS256 with `with`. */
static char *token_of(const char *header, const char *claims, EVP_PKEY *key, const char *digest,
		      bool is_pss, struct slice with)
{
	const struct token_signer by = {
		.key = key, .digest = key ? digest : "SHA256", .is_pss = is_pss, .secret = with
	};
	struct buf text = { 0 };
	char *made;

	token_put(&text, slice_str(header), slice_str(claims), &by);
	made = xmemdup0(buf_head(&text), buf_len(&text));
	buf_fini(&text);
	return made;
}

static char *rs256(const char *claims)
{
	return token_of("{\"alg\":\"RS256\"}", claims, rsa, "SHA256", false, SLICE(""));
}

static struct jwt_keys *keys_of(const char *public, const char *hmac)
{
	struct jwt_keys *keys = jwt_keys_new();
	struct err e;

	if (public)
		assert_true(jwt_keys_add_public(keys, slice_str(public), &e));
	if (hmac)
		assert_true(jwt_keys_add_secret(keys, slice_str(hmac), &e));
	return keys;
}

static struct jwt_rules rules = {
	.algorithms = "HS256, RS256, PS256, ES256, ES512, EdDSA",
	.audience = "db",
	.issuer = "",
	.role_claim = "role",
	.tenant_claim = "tenant",
	.leeway = 10,
};

static bool is_good(struct slice token, struct jwt *jwt)
{
	struct err e;

	return jwt_check(&rules, token, NOW, jwt, &e);
}

static void expect(char *token, const char *fault)
{
	struct jwt jwt;
	struct err e = { 0 };
	bool good = jwt_check(&rules, slice_str(token), NOW, &jwt, &e);

	if (good != !fault || (fault && !strstr(e.text, fault)))
		fail_msg("%s: %s", token, good ? "good" : e.text);
	jwt_fini(&jwt);
	free(token);
}

static int setup(void **state PGT_UNUSED)
{
	BIO *bio = BIO_new(BIO_s_mem());
	EVP_PKEY *all[4];

	rsa = all[0] = EVP_RSA_gen(2048);
	p256 = all[1] = EVP_EC_gen("P-256");
	p521 = all[2] = EVP_EC_gen("P-521");
	ed = all[3] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	other_rsa = EVP_RSA_gen(2048);
	for (size_t i = 0; i < PGT_NELEMS(all); i++)
		PEM_write_bio_PUBKEY(bio, all[i]);
	BIO_read(bio, public_pem, sizeof(public_pem) - 1);
	BIO_free(bio);
	rules.keys = keys_of(public_pem, secret);
	return 0;
}

static int teardown(void **state PGT_UNUSED)
{
	EVP_PKEY *all[] = { rsa, other_rsa, p256, p521, ed };

	for (size_t i = 0; i < PGT_NELEMS(all); i++)
		EVP_PKEY_free(all[i]);
	jwt_keys_free((struct jwt_keys *)(uintptr_t)rules.keys);
	return 0;
}

static void test_each_algorithm(void **state PGT_UNUSED)
{
	struct jwt jwt;
	char *token = rs256(CLAIMS);

	assert_true(is_good(slice_str(token), &jwt));
	assert_string_equal(jwt.roles, "app");
	assert_string_equal(jwt.tenant, "42");
	jwt_fini(&jwt);
	free(token);
	expect(token_of("{\"alg\":\"HS256\"}", CLAIMS, NULL, NULL, false, slice_str(secret)), NULL);
	expect(token_of("{\"alg\":\"PS256\"}", CLAIMS, rsa, "SHA256", true, SLICE("")), NULL);
	expect(token_of("{\"alg\":\"ES256\"}", CLAIMS, p256, "SHA256", false, SLICE("")), NULL);
	expect(token_of("{\"alg\":\"ES512\"}", CLAIMS, p521, "SHA512", false, SLICE("")), NULL);
	expect(token_of("{\"alg\":\"EdDSA\"}", CLAIMS, ed, NULL, false, SLICE("")), NULL);
}

static void test_the_key_says_the_algorithm(void **state PGT_UNUSED)
{
	static const char *const none[] = { "none", "None", "NONE", "", "HS256, RS256", "RS384" };
	const char *pem_end = strstr(public_pem, "-----END PUBLIC KEY-----\n") + 25;
	char header[64];

	for (size_t i = 0; i < PGT_NELEMS(none); i++) {
		snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", none[i]);
		expect(token_of(header, CLAIMS, rsa, "SHA256", false, SLICE("")),
		       "not one of jwt_algorithms");
	}
	/* A public key is known to all: what it "signs" as a secret is signed by nobody. */
	expect(token_of("{\"alg\":\"HS256\"}", CLAIMS, NULL, NULL, false, slice_str(public_pem)),
	       "not signed");
	expect(token_of("{\"alg\":\"HS256\"}", CLAIMS, NULL, NULL, false,
			slice_of(public_pem, (size_t)(pem_end - public_pem))),
	       "not signed");
	expect(token_of("{\"alg\":\"HS256\"}", CLAIMS, NULL, NULL, false, SLICE("")), "not signed");
	expect(token_of("{\"alg\":\"RS256\"}", CLAIMS, rsa, "SHA256", true, SLICE("")),
	       "not signed");
	expect(token_of("{\"alg\":\"ES256\"}", CLAIMS, rsa, "SHA256", false, SLICE("")),
	       "not signed");
	expect(token_of("{\"alg\":\"RS256\"}", CLAIMS, other_rsa, "SHA256", false, SLICE("")),
	       "not signed");
	expect(token_of("{\"alg\":\"RS256\",\"crit\":[\"b64\"]}", CLAIMS, rsa, "SHA256", false,
			SLICE("")),
	       "crit");
	expect(token_of("{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"crit\":[\"b64\"]}", CLAIMS, rsa,
			"SHA256", false, SLICE("")),
	       "a member twice");
	expect(token_of("{\"alg\":\"none\",\"alg\":\"RS256\"}", CLAIMS, rsa, "SHA256", false,
			SLICE("")),
	       "a member twice");
}

static void test_what_it_has_to_say(void **state PGT_UNUSED)
{
	static const struct {
		const char *claims, *fault;
	} rows[] = {
		{"{\"aud\":[\"x\",\"db\"],\"exp\":1000001,\"role\":[\"a\"]}",         NULL               },
		{ "{\"aud\":\"db\",\"exp\":999991}",                                  NULL               },
		{ "{\"aud\":\"db\",\"exp\":999990}",                                  "has expired"      },
		{ "{\"aud\":\"db\",\"exp\":1000000.5}",                               NULL               },
		{ "{\"aud\":\"db\"}",						 "how long it holds"},
		{ "{\"aud\":\"db\",\"exp\":\"2000000\"}",                             "how long it holds"},
		{ "{\"aud\":\"db\",\"exp\":1e300}",                                   "how long it holds"},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"exp\":2000000}",                 "a member twice"   },
		{ "{\"aud\":\"db\",\"exp\":1000100,\"nbf\":2000000,\"nbf\":2000000}",
                 "a member twice"									},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"nbf\":1,\"n\\u0062f\":2000000}",
                 "a member twice"									},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"x\":1,\"x\":1}",                 "a member twice"   },
		{ "{\"aud\":\"db\",\"aud\":\"db\",\"exp\":1000100}",                  "a member twice"   },
		{ "{\"aud\":\"db\",\"exp\":1000100,\"nbf\":1000010}",                 NULL               },
		{ "{\"aud\":\"db\",\"exp\":1000100,\"nbf\":1000011}",                 "does not hold yet"},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"nbf\":\"0\"}",                   "does not hold yet"},
		{ "{\"aud\":\"other\",\"exp\":1000100}",                              "jwt_audience"     },
		{ "{\"exp\":1000100}",						"jwt_audience"     },
		{ "[]",							       "no JSON"          },
		{ "{\"aud\":\"db\",\"exp\":1000100}x",                                "no JSON"          },
		{ "",								 "no JSON"          },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++)
		expect(rs256(rows[i].claims), rows[i].fault);
	rules.issuer = "us";
	expect(rs256(CLAIMS), "jwt_issuer");
	expect(rs256("{\"aud\":\"db\",\"exp\":1000100,\"iss\":\"us\"}"), NULL);
	rules.issuer = "";
}

static void test_tenants_and_roles(void **state PGT_UNUSED)
{
	static const struct {
		const char *claims, *tenant, *roles;
		size_t roles_len;
	} rows[] = {
		{"{\"aud\":\"db\",\"exp\":1000100,\"tenant\":7}",              "7",        "",       0},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"tenant\":7.0}",           NULL,       "",       0},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"tenant\":null}",          NULL,       "",       0},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"tenant\":\"\"}",          "",         "",       0},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"tenant\":\"a\\u0000b\"}", NULL,       "",       0},
		{ "{\"aud\":\"db\",\"exp\":1000100,\"role\":[\"a\",1,\"\",\"b\"],"
		  "\"tenant\":\"\\u00fc\\ud83d\\ude00\\n\"}", "ü😀\n", "a\0b\0", 4},
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		char *token = rs256(rows[i].claims);
		struct jwt jwt;

		assert_true(is_good(slice_str(token), &jwt));
		if (rows[i].tenant)
			assert_string_equal(jwt.tenant, rows[i].tenant);
		else
			assert_null(jwt.tenant);
		assert_memory_equal(jwt.roles, rows[i].roles, rows[i].roles_len + 1);
		jwt_fini(&jwt);
		free(token);
	}
}

/* Every bit flipped, every cut, and one more behind it: none is good. */
static void test_nothing_near_a_token_is_good(void **state PGT_UNUSED)
{
	char *tokens[] = {
		rs256(CLAIMS),
		token_of("{\"alg\":\"HS256\"}", CLAIMS, NULL, NULL, false, slice_str(secret)),
		token_of("{\"alg\":\"ES256\"}", CLAIMS, p256, "SHA256", false, SLICE(""))
	};
	struct jwt jwt;

	for (size_t t = 0; t < PGT_NELEMS(tokens); t++) {
		size_t n = strlen(tokens[t]);
		char *copy = xmemdup0(tokens[t], n + 1);

		for (size_t bit = 0; bit < 8 * n; bit++) {
			copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
			assert_false(is_good(slice_of(copy, n), &jwt));
			jwt_fini(&jwt);
			copy[bit / 8] = tokens[t][bit / 8];
		}
		for (size_t cut = 0; cut < n; cut++) {
			assert_false(is_good(slice_of(copy, cut), &jwt));
			jwt_fini(&jwt);
		}
		assert_false(is_good(slice_of(copy, n + 1), &jwt));
		jwt_fini(&jwt);
		assert_true(is_good(slice_of(copy, n), &jwt));
		jwt_fini(&jwt);
		free(copy);
		free(tokens[t]);
	}
}

static void test_sets_of_keys(void **state PGT_UNUSED)
{
	/* RFC 8037, appendix A: a public key and a token. */
	static const char set[] =
	    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"},{\"kty\":\"OKP\",\"crv\":\"X25519\"},"
	    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"use\":\"sig\","
	    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
	static const char *const wrong[] = {
		"{}",
		"{\"keys\":{}}",
		"{\"keys\":[]}",
		"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
		"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}",
		"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
		"",
		"secret",
	};
	struct jwt_keys *keys = keys_of(set, NULL);
	struct err e;

	jwt_keys_free(keys);
	for (size_t i = 0; i < PGT_NELEMS(wrong); i++) {
		keys = jwt_keys_new();
		if (jwt_keys_add_public(keys, slice_str(wrong[i]), &e))
			fail_msg("%s", wrong[i]);
		jwt_keys_free(keys);
	}
	keys = jwt_keys_new();
	assert_false(jwt_keys_add_secret(keys, SLICE("too short"), &e));
	assert_false(jwt_keys_add_secret(keys, slice_str(public_pem), &e));
	jwt_keys_free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_algorithm),
		cmocka_unit_test(test_the_key_says_the_algorithm),
		cmocka_unit_test(test_what_it_has_to_say),
		cmocka_unit_test(test_tenants_and_roles),
		cmocka_unit_test(test_nothing_near_a_token_is_good),
		cmocka_unit_test(test_sets_of_keys),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
