/* SPDX-License-Identifier: ISC
 *
 * jwt.c - JSON Web Tokens as passwords.
 *
 * Knows tokens and keys, no logins.  Nothing that a token says of itself is believed before it is
 * known who has signed it, but for the algorithm and the key's name, which only choose among what
 * is allowed.  Fuzzed by test/fuzz/fuzz_jwt.c.
 */
#include "auth/jwt.h"

#include "auth/base64.h"
#include "base/json_read.h"
#include "base/mem.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX     32
#define SECRET_MIN   32
#define SECRET_MAX   1024
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192

enum key_kind { KEY_SECRET, KEY_RSA, KEY_P256, KEY_P384, KEY_P521, KEY_ED25519 };

struct key {
	enum key_kind kind;
	EVP_PKEY *public; /* NULL: a secret */
	char *id;         /* "kid"; NULL: none */
	char *algorithm;  /* the only one that it is for; NULL: any of its kind */
};

struct jwt_keys {
	struct key keys[KEYS_MAX + 1]; /* and the secret */
	unsigned n;
	uint8_t secret[SECRET_MAX];
	size_t secret_len;
};

static const struct algorithm {
	const char *name;
	enum key_kind kind;
	const char *digest; /* NULL: the signature's own */
	bool is_pss;
	size_t half; /* of an elliptic curve: the length of each of two numbers */
} algorithms[] = {
	{"HS256",  KEY_SECRET,  "SHA256", false, 0 },
        { "HS384", KEY_SECRET,  "SHA384", false, 0 },
	{ "HS512", KEY_SECRET,  "SHA512", false, 0 },
        { "RS256", KEY_RSA,     "SHA256", false, 0 },
	{ "RS384", KEY_RSA,     "SHA384", false, 0 },
        { "RS512", KEY_RSA,     "SHA512", false, 0 },
	{ "PS256", KEY_RSA,     "SHA256", true,  0 },
        { "PS384", KEY_RSA,     "SHA384", true,  0 },
	{ "PS512", KEY_RSA,     "SHA512", true,  0 },
        { "ES256", KEY_P256,    "SHA256", false, 32},
	{ "ES384", KEY_P384,    "SHA384", false, 48},
        { "ES512", KEY_P521,    "SHA512", false, 66},
	{ "EdDSA", KEY_ED25519, NULL,     false, 0 },
};

static const struct curve {
	const char *name, *group;
	enum key_kind kind;
	size_t len; /* of a coordinate */
} curves[] = {
	{"P-256",  "prime256v1", KEY_P256, 32},
	{ "P-384", "secp384r1",  KEY_P384, 48},
	{ "P-521", "secp521r1",  KEY_P521, 66},
};

static const struct algorithm *algorithm_find(struct slice name)
{
	for (size_t i = 0; i < PGT_NELEMS(algorithms); i++)
		if (slice_is_equal(name, slice_str(algorithms[i].name)))
			return &algorithms[i];
	return NULL;
}

bool jwt_knows_algorithm(struct slice name)
{
	return algorithm_find(name) != NULL;
}

/* Without padding, in the alphabet for addresses (RFC 7515, appendix C).  Appends. */
static bool base64url_get(struct slice text, struct buf *out)
{
	struct buf plain = { 0 };
	size_t n = 0, room = text.n / 4 * 3 + 3;
	bool ok = text.n % 4 != 1;

	/* Neither is moved, so that wiping it once is enough. */
	buf_reserve(&plain, text.n + 4);
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		ok = ok && !memchr("+/=", c, 3);
		buf_put_u8(&plain, (uint8_t)(c == '-' ? '+' : c == '_' ? '/' : c));
	}
	while (buf_len(&plain) % 4)
		buf_put_u8(&plain, '=');
	ok = ok && base64_get(buf_peek(&plain), (uint8_t *)buf_reserve(out, room), room, &n);
	if (ok)
		buf_produced(out, n);
	buf_wipe(&plain);
	return ok;
}

/* A member that is text; NULL: there is none. */
static char *member_text(const struct json *object, const char *name)
{
	struct buf text = { 0 };
	struct json value;
	char *said = NULL;

	if (json_member(object, name, &value) && json_string(&value, &text))
		said = xmemdup0(buf_peek(&text).p, buf_len(&text));
	buf_fini(&text);
	return said;
}

/* ---- keys -------------------------------------------------------------------------------------
 */

struct jwt_keys *jwt_keys_new(void)
{
	return xnew(struct jwt_keys);
}

void jwt_keys_free(struct jwt_keys *keys)
{
	if (!keys)
		return;
	for (unsigned i = 0; i < keys->n; i++) {
		EVP_PKEY_free(keys->keys[i].public);
		free(keys->keys[i].id);
		free(keys->keys[i].algorithm);
	}
	mem_wipe(keys, sizeof(*keys));
	free(keys);
}

/* What a public key is good for.  False: nothing here. */
static bool kind_of(EVP_PKEY *public, enum key_kind *kind)
{
	int bits = EVP_PKEY_get_bits(public);
	char group[64];

	if (EVP_PKEY_is_a(public, "ED25519")) {
		*kind = KEY_ED25519;
		return true;
	}
	if (EVP_PKEY_is_a(public, "RSA")) {
		*kind = KEY_RSA;
		return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
	}
	if (!EVP_PKEY_is_a(public, "EC") ||
	    !EVP_PKEY_get_group_name(public, group, sizeof(group), NULL))
		return false;
	for (size_t i = 0; i < PGT_NELEMS(curves); i++)
		if (!strcmp(group, curves[i].group)) {
			*kind = curves[i].kind;
			return true;
		}
	return false;
}

/* Takes the key. */
static bool add_key(struct jwt_keys *keys, EVP_PKEY *public, char *id, char *algorithm)
{
	struct key key = { .public = public, .id = id, .algorithm = algorithm };

	if (public && keys->n < KEYS_MAX && kind_of(public, &key.kind)) {
		keys->keys[keys->n++] = key;
		return true;
	}
	EVP_PKEY_free(public);
	free(id);
	free(algorithm);
	return false;
}

static bool add_pem(struct jwt_keys *keys, struct slice text, struct err *e)
{
	BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
	unsigned before = keys->n;
	EVP_PKEY *public;
	bool ok = true;

	while (ok && (public = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL)))
		ok = add_key(keys, public, NULL, NULL);
	BIO_free(bio);
	if (!ok)
		return err_set(e, "F0000",
			       "a key is of no use: RSA of 2048 to 8192 bits, P-256, P-384, P-521 "
			       "and Ed25519 are, at most %d",
			       KEYS_MAX);
	return keys->n > before ||
	       err_set(e, "F0000", "has no public key: PEM has \"BEGIN PUBLIC KEY\"");
}

static bool member_bytes(const struct json *object, const char *name, struct buf *out)
{
	char *text = member_text(object, name);
	bool ok = text && base64url_get(slice_str(text), out) && buf_len(out);

	free(text);
	return ok;
}

static EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *parts)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(parts);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *public = NULL;

	if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &public, EVP_PKEY_PUBLIC_KEY, params) != 1)
	public = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return public;
}

static EVP_PKEY *read_rsa(const struct json *jwk)
{
	struct buf n = { 0 }, exponent = { 0 };
	OSSL_PARAM_BLD *parts = OSSL_PARAM_BLD_new();
	BIGNUM *bn = NULL, *be = NULL;
	EVP_PKEY *public = NULL;

	if (member_bytes(jwk, "n", &n) && member_bytes(jwk, "e", &exponent) &&
	    buf_len(&n) <= RSA_BITS_MAX / 8 + 1 && buf_len(&exponent) <= 8) {
		bn = BN_bin2bn((uint8_t *)buf_head(&n), (int)buf_len(&n), NULL);
		be = BN_bin2bn((uint8_t *)buf_head(&exponent), (int)buf_len(&exponent), NULL);
		if (OSSL_PARAM_BLD_push_BN(parts, OSSL_PKEY_PARAM_RSA_N, bn) &&
		    OSSL_PARAM_BLD_push_BN(parts, OSSL_PKEY_PARAM_RSA_E, be))
		public = key_from("RSA", parts);
	}
	BN_free(bn);
	BN_free(be);
	OSSL_PARAM_BLD_free(parts);
	buf_fini(&n);
	buf_fini(&exponent);
	return public;
}

static EVP_PKEY *make_point(const struct curve *curve, struct slice x, struct slice y)
{
	uint8_t point[1 + 2 * 66] = { 4 };
	OSSL_PARAM_BLD *parts;
	EVP_PKEY *public = NULL;

	if (x.n != curve->len || y.n != curve->len)
		return NULL;
	memcpy(point + 1, x.p, x.n);
	memcpy(point + 1 + x.n, y.p, y.n);
	parts = OSSL_PARAM_BLD_new();
	if (OSSL_PARAM_BLD_push_utf8_string(parts, OSSL_PKEY_PARAM_GROUP_NAME, curve->group, 0) &&
	    OSSL_PARAM_BLD_push_octet_string(parts, OSSL_PKEY_PARAM_PUB_KEY, point,
					     1 + 2 * curve->len))
	public = key_from("EC", parts);
	OSSL_PARAM_BLD_free(parts);
	return public;
}

static EVP_PKEY *read_curve(const struct json *jwk)
{
	struct buf x = { 0 }, y = { 0 };
	char *name = member_text(jwk, "crv");
	EVP_PKEY *public = NULL;

	if (name && member_bytes(jwk, "x", &x) && member_bytes(jwk, "y", &y))
		for (size_t i = 0; i < PGT_NELEMS(curves) && !public; i++)
			if (!strcmp(name, curves[i].name))
	public = make_point(&curves[i], buf_peek(&x), buf_peek(&y));
	free(name);
	buf_fini(&x);
	buf_fini(&y);
	return public;
}

static EVP_PKEY *read_ed25519(const struct json *jwk)
{
	struct buf x = { 0 };
	char *name = member_text(jwk, "crv");
	EVP_PKEY *public = NULL;

	if (name && !strcmp(name, "Ed25519") && member_bytes(jwk, "x", &x))
	public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (uint8_t *)buf_head(&x),
					     buf_len(&x));
	free(name);
	buf_fini(&x);
	return public;
}

/* One that is for something else, or of a kind that is not known, is left out. */
static void add_jwk(struct jwt_keys *keys, const struct json *jwk)
{
	static const struct {
		const char *type;
		EVP_PKEY *(*read)(const struct json *jwk);
	} types[] = {
		{"RSA",  read_rsa    },
		{ "EC",  read_curve  },
		{ "OKP", read_ed25519},
	};
	char *type = member_text(jwk, "kty"), *use = member_text(jwk, "use");

	for (size_t i = 0; type && i < PGT_NELEMS(types); i++)
		if (!strcmp(type, types[i].type) && (!use || !strcmp(use, "sig")))
			add_key(keys, types[i].read(jwk), member_text(jwk, "kid"),
				member_text(jwk, "alg"));
	free(type);
	free(use);
}

static bool add_set(struct jwt_keys *keys, struct slice text, struct err *e)
{
	struct json set, list, jwk;
	unsigned before = keys->n;
	size_t at = 0;

	if (!json_parse(text, &set) || !json_member(&set, "keys", &list) || list.kind != JSON_ARRAY)
		return err_set(e, "F0000", "is no set of JSON Web Keys: {\"keys\": [...]}");
	while (json_next(&list, &at, &jwk))
		add_jwk(keys, &jwk);
	return keys->n > before ||
	       err_set(e, "F0000",
		       "has no key that can check signatures: RSA of 2048 to 8192 "
		       "bits, P-256, P-384, P-521 or Ed25519");
}

bool jwt_keys_add_public(struct jwt_keys *keys, struct slice text, struct err *e)
{
	size_t blank = 0;

	while (blank < text.n && memchr(" \t\r\n", text.p[blank], 4))
		blank++;
	if (blank < text.n && text.p[blank] == '{')
		return add_set(keys, text, e);
	return add_pem(keys, text, e);
}

bool jwt_keys_add_secret(struct jwt_keys *keys, struct slice text, struct err *e)
{
	while (text.n && memchr(" \t\r\n", text.p[text.n - 1], 4))
		text.n--;
	if (text.n < SECRET_MIN || text.n > SECRET_MAX)
		return err_set(e, "F0000", "a secret has %d to %d characters", SECRET_MIN,
			       SECRET_MAX);
	if (slice_starts_with(text, SLICE("-----BEGIN")))
		return err_set(e, "F0000", "that is no secret but a key: see jwt_key_file");
	memcpy(keys->secret, text.p, text.n);
	keys->secret_len = text.n;
	keys->keys[keys->n++] = (struct key){ .kind = KEY_SECRET };
	return true;
}

/* ---- signatures -------------------------------------------------------------------------------
 */

static bool is_hmac(const struct jwt_keys *keys, const struct algorithm *a, struct slice text,
		    struct slice signature)
{
	uint8_t made[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	return HMAC(EVP_get_digestbyname(a->digest), keys->secret, (int)keys->secret_len,
		    (const uint8_t *)text.p, text.n, made, &n) &&
	       signature.n == n && mem_is_equal_ct(made, signature.p, n);
}

/* Two numbers of a fixed length; OpenSSL wants them in DER. */
static uint8_t *to_der(const struct algorithm *a, struct slice raw, int *n)
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	const uint8_t *p = (const uint8_t *)raw.p;
	BIGNUM *r = BN_bin2bn(p, (int)a->half, NULL),
	       *s = BN_bin2bn(p + a->half, (int)a->half, NULL);
	uint8_t *der = NULL;

	ECDSA_SIG_set0(sig, r, s);
	*n = i2d_ECDSA_SIG(sig, &der);
	ECDSA_SIG_free(sig);
	return *n > 0 ? der : NULL;
}

static bool is_verified(EVP_PKEY *public, const struct algorithm *a, struct slice text,
			const uint8_t *signature, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *key = NULL;
	bool ok = EVP_DigestVerifyInit_ex(ctx, &key, a->digest, NULL, NULL, public, NULL) == 1;

	if (ok && a->is_pss)
		ok = EVP_PKEY_CTX_set_rsa_padding(key, RSA_PKCS1_PSS_PADDING) == 1 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(key, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_DigestVerify(ctx, signature, n, (const uint8_t *)text.p, text.n) == 1;
	EVP_MD_CTX_free(ctx);
	return ok;
}

static bool is_signed_by(const struct jwt_keys *keys, const struct key *key,
			 const struct algorithm *a, struct slice text, struct slice signature)
{
	uint8_t *der;
	int n;
	bool ok;

	if (key->kind == KEY_SECRET)
		return is_hmac(keys, a, text, signature);
	if (!a->half)
		return is_verified(key->public, a, text, (const uint8_t *)signature.p, signature.n);
	if (signature.n != 2 * a->half)
		return false;
	der = to_der(a, signature, &n);
	ok = der && is_verified(key->public, a, text, der, (size_t)n);
	OPENSSL_free(der);
	return ok;
}

/* The key's kind has to be the algorithm's, whatever the token says. */
static bool is_fit(const struct key *key, const struct algorithm *a, const char *id)
{
	return key->kind == a->kind && (!key->algorithm || !strcmp(key->algorithm, a->name)) &&
	       (!key->id || !id || !strcmp(key->id, id));
}

static bool is_signed(const struct jwt_keys *keys, const struct algorithm *a, const char *id,
		      struct slice text, struct slice signature)
{
	for (unsigned i = 0; i < keys->n; i++)
		if (is_fit(&keys->keys[i], a, id) &&
		    is_signed_by(keys, &keys->keys[i], a, text, signature))
			return true;
	return false;
}

/* ---- tokens -----------------------------------------------------------------------------------
 */

static bool is_in_list(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = list; n && (at = strstr(at, name)); at += n)
		if ((at == list || memchr(", ", at[-1], 2)) && (!at[n] || memchr(", ", at[n], 2)))
			return true;
	return false;
}

/* NULL, or what is wrong with the header. */
static const char *read_header(const struct jwt_rules *rules, struct slice text,
			       const struct algorithm **a, char **id)
{
	struct json header, ignored;
	char *name;

	if (!json_parse(text, &header) || header.kind != JSON_OBJECT)
		return "its header is no JSON";
	/* Of two, others may have looked at the other one (RFC 7515, section 4). */
	if (!json_is_distinct(&header))
		return "its header has a member twice";
	/* What must be understood is understood by nobody here. */
	if (json_member(&header, "crit", &ignored))
		return "its header has what must be understood (crit)";
	name = member_text(&header, "alg");
	*a = name && is_in_list(rules->algorithms, name) ? algorithm_find(slice_str(name)) : NULL;
	free(name);
	*id = member_text(&header, "kid");
	return *a ? NULL : "its algorithm is not one of jwt_algorithms";
}

/* A text, or one of several. */
static bool says(const struct json *value, const char *text)
{
	struct json element;
	size_t at = 0;

	if (json_is(value, text))
		return true;
	while (json_next(value, &at, &element))
		if (json_is(&element, text))
			return true;
	return false;
}

static const char *check_times(const struct json *claims, int64_t now, int64_t leeway)
{
	struct json value;
	int64_t at;

	if (!json_member(claims, "exp", &value) || !json_whole(&value, &at))
		return "it does not say how long it holds (exp)";
	if (now >= at + leeway)
		return "it has expired";
	if (!json_member(claims, "nbf", &value))
		return NULL;
	if (!json_whole(&value, &at) || now < at - leeway)
		return "it does not hold yet (nbf)";
	return NULL;
}

static void add_role(struct buf *roles, const struct json *value)
{
	struct buf said = { 0 };

	if (json_string(value, &said) && buf_len(&said)) {
		buf_put_slice(roles, buf_peek(&said));
		buf_put_u8(roles, 0);
	}
	buf_fini(&said);
}

static char *read_roles(const struct json *claims, const char *name)
{
	struct buf roles = { 0 };
	struct json value, element;
	size_t at = 0;
	char *made;

	if (json_member(claims, name, &value)) {
		add_role(&roles, &value);
		while (json_next(&value, &at, &element))
			add_role(&roles, &element);
	}
	made = xmemdup0(buf_peek(&roles).p, buf_len(&roles));
	buf_fini(&roles);
	return made;
}

/* Ids are often written as numbers. */
static char *read_tenant(const struct json *claims, const char *name)
{
	struct json value;
	int64_t number;

	if (!json_member(claims, name, &value))
		return NULL;
	if (json_whole(&value, &number) && !memchr(value.text.p, '.', value.text.n) &&
	    !memchr(value.text.p, 'e', value.text.n) && !memchr(value.text.p, 'E', value.text.n))
		return xmemdup0(value.text.p, value.text.n);
	return member_text(claims, name);
}

static const char *read_claims(const struct jwt_rules *rules, struct slice text, int64_t now,
			       struct jwt *out)
{
	struct json claims, value;
	const char *fault;

	if (!json_parse(text, &claims) || claims.kind != JSON_OBJECT)
		return "its claims are no JSON";
	if (!json_is_distinct(&claims))
		return "its claims have a member twice";
	fault = check_times(&claims, now, rules->leeway);
	if (fault)
		return fault;
	if (!json_member(&claims, "aud", &value) || !says(&value, rules->audience))
		return "it is not for jwt_audience (aud)";
	if (*rules->issuer &&
	    (!json_member(&claims, "iss", &value) || !json_is(&value, rules->issuer)))
		return "it is not from jwt_issuer (iss)";
	out->roles = read_roles(&claims, rules->role_claim);
	if (rules->tenant_claim)
		out->tenant = read_tenant(&claims, rules->tenant_claim);
	return NULL;
}

static const char *check(const struct jwt_rules *rules, struct slice token, int64_t now,
			 struct buf parts[3], struct jwt *out)
{
	struct slice rest = token, header = slice_cut(&rest, '.'), claims = slice_cut(&rest, '.'),
		     text = slice_of(token.p, header.n + 1 + claims.n);
	const struct algorithm *a;
	const char *fault;
	char *id = NULL;

	if (!token.n || token.n > JWT_MAX || text.n >= token.n || memchr(rest.p, '.', rest.n) ||
	    !base64url_get(header, &parts[0]) || !base64url_get(claims, &parts[1]) ||
	    !base64url_get(rest, &parts[2]))
		return "it is not a token of three parts";
	fault = read_header(rules, buf_peek(&parts[0]), &a, &id);
	if (!fault && !is_signed(rules->keys, a, id, text, buf_peek(&parts[2])))
		fault = "it is not signed by one of our keys";
	free(id);
	return fault ? fault : read_claims(rules, buf_peek(&parts[1]), now, out);
}

bool jwt_check(const struct jwt_rules *rules, struct slice token, int64_t now, struct jwt *out,
	       struct err *e)
{
	struct buf parts[3] = { 0 };
	const char *fault;

	*out = (struct jwt){ 0 };
	fault = check(rules, token, now, parts, out);
	for (size_t i = 0; i < PGT_NELEMS(parts); i++)
		buf_wipe(&parts[i]);
	return !fault || err_set(e, "28P01", "token refused: %s", fault);
}

void jwt_fini(struct jwt *jwt)
{
	free(jwt->roles);
	free(jwt->tenant);
	*jwt = (struct jwt){ 0 };
}
