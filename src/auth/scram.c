/* SPDX-License-Identifier: ISC
 *
 * scram.c - SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, server and client role.
 *
 * Reads what strangers send before login, so every attribute is checked for its name, place and
 * length before it is used, and every comparison of a secret takes constant time.  Names in
 * comments are RFC 5802's.  Knows no sockets, no users and no policy.  Fuzzed by
 * test/fuzz/fuzz_scram.c.
 */
/* ADR 51: SHA-256 without the contexts that OpenSSL 3 asks for. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "auth/scram.h"

#include "auth/base64.h"
#include "auth/saslprep.h"
#include "base/mem.h"
#include "base/random.h"

#include <ctype.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>

/* RFC 5802, 7: gs2-header.  No binding; none was offered; the only one there is. */
#define BINDING_TYPE     "tls-server-end-point"
#define HEADER_UNBOUND   "n,,"
#define HEADER_UNOFFERED "y,,"
#define HEADER_BOUND     "p=" BINDING_TYPE ",,"

#define NONCE_RAW_LEN    18
#define MAX_ERROR_NAME   64
#define MAX_TYPE_NAME    64

/* --- hashes --- */

static void sha256(const uint8_t in[SCRAM_KEY_LEN], uint8_t out[SCRAM_KEY_LEN])
{
	SHA256_CTX ctx;

	SHA256_Init(&ctx);
	SHA256_Update(&ctx, in, SCRAM_KEY_LEN);
	SHA256_Final(out, &ctx);
	mem_wipe(&ctx, sizeof(ctx));
}

/* RFC 2104: what a key that is padded with one byte leaves of the hash. */
static void hash_pad(const uint8_t key[SCRAM_KEY_LEN], uint8_t pad, uint32_t state[8])
{
	uint8_t block[SHA256_CBLOCK];
	SHA256_CTX ctx;

	memset(block, pad, sizeof(block));
	for (size_t i = 0; i < SCRAM_KEY_LEN; i++)
		block[i] ^= key[i];
	SHA256_Init(&ctx);
	SHA256_Update(&ctx, block, sizeof(block));
	memcpy(state, ctx.h, sizeof(ctx.h));
	mem_wipe(block, sizeof(block));
	mem_wipe(&ctx, sizeof(ctx));
}

static void mac_make(const uint8_t key[SCRAM_KEY_LEN], struct scram_mac *out)
{
	hash_pad(key, 0x36, out->inner);
	hash_pad(key, 0x5c, out->outer);
}

/* Goes on behind the block that hash_pad() has hashed. */
static void hash_behind(const uint32_t state[8], struct slice text, uint8_t out[SCRAM_KEY_LEN])
{
	SHA256_CTX ctx;

	SHA256_Init(&ctx);
	memcpy(ctx.h, state, sizeof(ctx.h));
	ctx.Nl = SHA256_CBLOCK * CHAR_BIT;
	SHA256_Update(&ctx, text.p, text.n);
	SHA256_Final(out, &ctx);
	mem_wipe(&ctx, sizeof(ctx));
}

static void mac_of(const struct scram_mac *key, struct slice text, uint8_t out[SCRAM_KEY_LEN])
{
	uint8_t inner[SCRAM_KEY_LEN];

	hash_behind(key->inner, text, inner);
	hash_behind(key->outer, slice_of((const char *)inner, sizeof(inner)), out);
	mem_wipe(inner, sizeof(inner));
}

static void hmac(const uint8_t key[SCRAM_KEY_LEN], struct slice text, uint8_t out[SCRAM_KEY_LEN])
{
	struct scram_mac mac;

	mac_make(key, &mac);
	mac_of(&mac, text, out);
	mem_wipe(&mac, sizeof(mac));
}

/* ClientKey and ServerKey of a prepared password. */
static void derive_keys(struct slice password, const uint8_t *salt, size_t salt_len,
			uint32_t iterations, uint8_t client_key[SCRAM_KEY_LEN],
			uint8_t server_key[SCRAM_KEY_LEN])
{
	uint8_t salted[SCRAM_KEY_LEN];

	PGT_ASSERT(password.n <= INT_MAX && iterations >= 1 && iterations <= INT_MAX);
	PGT_ASSERT(PKCS5_PBKDF2_HMAC(password.p, (int)password.n, salt, (int)salt_len,
				     (int)iterations, EVP_sha256(), SCRAM_KEY_LEN, salted));
	hmac(salted, SLICE("Client Key"), client_key);
	hmac(salted, SLICE("Server Key"), server_key);
	mem_wipe(salted, sizeof(salted));
}

/* ClientProof from ClientKey, and back. */
static void mask_key(const struct scram_mac *stored_key, struct slice auth_message,
		     const uint8_t in[SCRAM_KEY_LEN], uint8_t out[SCRAM_KEY_LEN])
{
	uint8_t signature[SCRAM_KEY_LEN];

	mac_of(stored_key, auth_message, signature);
	for (size_t i = 0; i < SCRAM_KEY_LEN; i++)
		out[i] = in[i] ^ signature[i];
	mem_wipe(signature, sizeof(signature));
}

/* --- secrets --- */

/* What stands before mark; *rest is moved behind it. */
static bool cut_at(struct slice *rest, char mark, struct slice *head)
{
	const char *at = rest->n ? memchr(rest->p, mark, rest->n) : NULL;

	if (!at)
		return false;
	*head = slice_of(rest->p, (size_t)(at - rest->p));
	*rest = slice_of(at + 1, rest->n - head->n - 1);
	return true;
}

static bool parse_iterations(struct slice text, uint32_t *out)
{
	uint64_t value = 0;

	if (text.n < 1 || text.n > 10)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (!isdigit((unsigned char)text.p[i]))
			return false;
		value = value * 10 + (uint64_t)(text.p[i] - '0');
	}
	if (value < 1 || value > INT_MAX)
		return false;
	*out = (uint32_t)value;
	return true;
}

static bool parse_salt(struct slice text, uint8_t salt[SCRAM_MAX_SALT], size_t *n)
{
	return base64_get(text, salt, SCRAM_MAX_SALT, n) && *n > 0;
}

static bool parse_key(struct slice text, uint8_t key[SCRAM_KEY_LEN])
{
	size_t n;

	return base64_get(text, key, SCRAM_KEY_LEN, &n) && n == SCRAM_KEY_LEN;
}

static void make_macs(struct scram_secret *secret)
{
	mac_make(secret->stored_key, &secret->stored_mac);
	mac_make(secret->server_key, &secret->server_mac);
}

bool scram_secret_parse(struct slice text, struct scram_secret *out)
{
	struct slice mechanism, iterations, salt, stored_key;
	bool ok;

	ok = cut_at(&text, '$', &mechanism) && slice_is_equal(mechanism, SLICE(SCRAM_MECHANISM)) &&
	     cut_at(&text, ':', &iterations) && parse_iterations(iterations, &out->iterations) &&
	     cut_at(&text, '$', &salt) && parse_salt(salt, out->salt, &out->salt_len) &&
	     cut_at(&text, ':', &stored_key) && parse_key(stored_key, out->stored_key) &&
	     parse_key(text, out->server_key);
	if (ok)
		make_macs(out);
	return ok;
}

void scram_secret_make(struct slice password, uint32_t iterations, const uint8_t *salt,
		       size_t salt_len, struct scram_secret *out)
{
	uint8_t client_key[SCRAM_KEY_LEN];
	struct buf prepared = { 0 };

	PGT_ASSERT(salt_len >= 1 && salt_len <= SCRAM_MAX_SALT);
	saslprep(password, &prepared);
	out->iterations = iterations;
	out->salt_len = salt_len;
	memcpy(out->salt, salt, salt_len);
	derive_keys(buf_peek(&prepared), salt, salt_len, iterations, client_key, out->server_key);
	sha256(client_key, out->stored_key);
	make_macs(out);
	mem_wipe(client_key, sizeof(client_key));
	buf_wipe(&prepared);
}

/* What stands for the secrets of those who have none.  Nobody outside can tell one of these keys:
 * to pass, a proof would have to hold one whose SHA-256 is stored_key. */
static struct {
	struct scram_mac salt_key;
	struct scram_secret secret;
} mock;

static void draw_mock(void)
{
	uint8_t salt_key[SCRAM_KEY_LEN];

	random_bytes(salt_key, sizeof(salt_key));
	mac_make(salt_key, &mock.salt_key);
	mem_wipe(salt_key, sizeof(salt_key));
	random_bytes(mock.secret.stored_key, SCRAM_KEY_LEN);
	random_bytes(mock.secret.server_key, SCRAM_KEY_LEN);
	make_macs(&mock.secret);
}

void scram_salt_key(struct slice material, struct scram_mac *salt_key)
{
	static const uint8_t purpose[SCRAM_KEY_LEN] = "pgturnstile: salts of nobody";
	uint8_t key[SCRAM_KEY_LEN];

	hmac(purpose, material, key);
	mac_make(key, salt_key);
	mem_wipe(key, sizeof(key));
}

/* The salt is all that is told of it: it depends on the user, and is the same each time. */
void scram_secret_mock(const struct scram_mac *salt_key, struct slice user, uint32_t iterations,
		       struct scram_secret *out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint8_t salt[SCRAM_KEY_LEN];

	pthread_once(&once, draw_mock);
	mac_of(salt_key ? salt_key : &mock.salt_key, user, salt);
	*out = mock.secret;
	out->iterations = iterations;
	out->salt_len = SCRAM_SALT_LEN;
	memcpy(out->salt, salt, SCRAM_SALT_LEN);
}

/* --- messages --- */

/* A cursor over "a=value,b=value". */
struct attrs {
	struct slice rest;
	bool is_at_end; /* no comma promised another attribute */
};

static struct attrs attrs_of(struct slice text)
{
	return (struct attrs){ text, false };
}

static bool attr_next(struct attrs *a, char *name, struct slice *value)
{
	struct slice whole = a->rest;

	if (a->is_at_end)
		return false;
	a->is_at_end = !cut_at(&a->rest, ',', &whole);
	if (whole.n < 2 || !isalpha((unsigned char)whole.p[0]) || whole.p[1] != '=')
		return false;
	*name = whole.p[0];
	*value = slice_of(whole.p + 2, whole.n - 2);
	return true;
}

/* RFC 5802, 5.1.  None of these can be an extension: there it would be a second one, or one in the
 * wrong place. */
static bool is_defined(char name)
{
	return memchr("anmrcsipve", name, 10);
}

static bool attr_get(struct attrs *a, char wanted, struct slice *value)
{
	char name;

	return attr_next(a, &name, value) && name == wanted;
}

/* The attribute wanted, behind any extensions. */
static bool attr_find(struct attrs *a, char wanted, struct slice *value)
{
	char name;

	while (attr_next(a, &name, value)) {
		if (name == wanted)
			return true;
		if (is_defined(name))
			return false;
	}
	return false;
}

/* Nothing but extensions is left. */
static bool attrs_finish(struct attrs *a)
{
	char name;
	struct slice value;

	while (!a->is_at_end)
		if (!attr_next(a, &name, &value) || is_defined(name))
			return false;
	return true;
}

static bool is_printable(struct slice s, size_t max)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e)
			return false;
	return s.n >= 1 && s.n <= max;
}

static bool malformed(struct err *e, const char *message)
{
	return err_set(e, "08P01", "malformed SCRAM message (%s)", message);
}

/* Every message passes here first.  The exchange is over until the caller says what is due next. */
static bool accept_message(enum scram_due *due, enum scram_due now, struct slice message,
			   const char *name, struct err *e)
{
	bool is_due = *due == now;

	*due = SCRAM_DUE_NOTHING;
	if (!is_due)
		return err_set(e, "08P01", "SCRAM message out of turn (%s)", name);
	if (message.n == 0 || message.n > SCRAM_MAX_MESSAGE || memchr(message.p, '\0', message.n))
		return malformed(e, name);
	return true;
}

static bool refuse_mandatory_extension(struct slice message, struct err *e)
{
	if (message.n >= 2 && memcmp(message.p, "m=", 2) == 0)
		return err_set(e, "0A000", "unsupported mandatory SCRAM extension");
	return true;
}

static void draw_nonce(char nonce[SCRAM_NONCE_CAP])
{
	uint8_t raw[NONCE_RAW_LEN];
	struct buf text = { 0 };

	random_bytes(raw, sizeof(raw));
	base64_put(&text, raw, sizeof(raw));
	PGT_ASSERT(buf_len(&text) < SCRAM_NONCE_CAP);
	memcpy(nonce, buf_head(&text), buf_len(&text));
	nonce[buf_len(&text)] = '\0';
	buf_fini(&text);
}

/* c=: the header that the exchange has begun with, and what it is bound to.  In base64 the one
 * stands by itself before the other, as each header is a multiple of three bytes long. */
static struct slice header_in_base64(const char *header)
{
	_Static_assert((sizeof(HEADER_BOUND) - 1) % 3 == 0, "base64 takes three at a time");
	switch (*header) {
	case 'n':
		return SLICE("biws");
	case 'y':
		return SLICE("eSws");
	default:
		return SLICE("cD10bHMtc2VydmVyLWVuZC1wb2ludCws");
	}
}

static void put_binding(struct buf *out, const char *header, const uint8_t *binding, size_t n)
{
	buf_put_slice(out, header_in_base64(header));
	base64_put(out, binding, n);
}

static size_t copy_binding(uint8_t to[SCRAM_MAX_BINDING], struct slice binding)
{
	PGT_ASSERT(binding.n <= SCRAM_MAX_BINDING);
	if (binding.n)
		memcpy(to, binding.p, binding.n);
	return binding.n;
}

/* --- server role --- */

void scram_server_init(struct scram_server *s, const struct scram_secret *secret,
		       struct slice binding, const char *nonce)
{
	*s = (struct scram_server){ .due = SCRAM_DUE_FIRST, .secret = *secret };
	s->binding_len = copy_binding(s->binding, binding);
	if (!nonce) {
		draw_nonce(s->nonce);
		return;
	}
	PGT_ASSERT(strlen(nonce) < sizeof(s->nonce));
	memcpy(s->nonce, nonce, strlen(nonce));
}

void scram_server_offer(const struct scram_server *s, struct buf *out)
{
	if (s->binding_len)
		buf_put_cstr(out, SCRAM_MECHANISM_PLUS);
	buf_put_cstr(out, SCRAM_MECHANISM);
}

bool scram_server_select(struct scram_server *s, struct slice mechanism)
{
	s->is_bound = s->binding_len && slice_is_equal(mechanism, SLICE(SCRAM_MECHANISM_PLUS));
	return s->is_bound || slice_is_equal(mechanism, SLICE(SCRAM_MECHANISM));
}

/* "p=" and a type.  Ours may be asked for with PLUS only. */
static bool read_binding_type(struct scram_server *s, struct slice type, struct err *e)
{
	s->header = HEADER_BOUND;
	if (!s->is_bound) {
		malformed(e, "client-first-message");
		return err_detail(e, "The client selected " SCRAM_MECHANISM
				     " without channel binding, but the SCRAM message includes "
				     "channel binding data.");
	}
	if (type.n && !is_printable(type, MAX_TYPE_NAME))
		return malformed(e, "client-first-message");
	return slice_is_equal(type, SLICE(BINDING_TYPE)) ||
	       err_set(e, "08P01", "unsupported SCRAM channel-binding type \"%.*s\"",
		       SLICE_FMT(type));
}

/* A client that could bind and has heard of no PLUS, where it is offered, has heard of it from one
 * in between, or not. */
static bool read_binding_flag(struct scram_server *s, struct slice flag, struct err *e)
{
	if (flag.n >= 2 && memcmp(flag.p, "p=", 2) == 0)
		return read_binding_type(s, slice_of(flag.p + 2, flag.n - 2), e);
	if (flag.n != 1 || (flag.p[0] != 'n' && flag.p[0] != 'y'))
		return malformed(e, "client-first-message");
	if (s->is_bound) {
		malformed(e, "client-first-message");
		return err_detail(e, "The client selected " SCRAM_MECHANISM_PLUS
				     ", but the SCRAM message does not include channel binding "
				     "data.");
	}
	if (flag.p[0] == 'y' && s->binding_len) {
		err_set(e, "28000", "SCRAM channel binding negotiation error");
		return err_detail(e, "The client supports SCRAM channel binding but thinks the "
				     "server does not.  However, this server does support channel "
				     "binding.");
	}
	s->header = flag.p[0] == 'n' ? HEADER_UNBOUND : HEADER_UNOFFERED;
	return true;
}

/* *bare is what follows the header. */
static bool read_gs2_header(struct scram_server *s, struct slice message, struct slice *bare,
			    struct err *e)
{
	struct slice flag, authzid;

	if (!cut_at(&message, ',', &flag) || !cut_at(&message, ',', &authzid))
		return malformed(e, "client-first-message");
	if (!read_binding_flag(s, flag, e))
		return false;
	if (authzid.n)
		return err_set(e, "0A000", "SCRAM authorization identity is not supported");
	*bare = message;
	return true;
}

bool scram_server_first(struct scram_server *s, struct slice client_first, struct buf *server_first,
			struct err *e)
{
	const char *name = "client-first-message";
	struct slice bare, user, nonce;
	struct attrs a;
	size_t start;

	if (!accept_message(&s->due, SCRAM_DUE_FIRST, client_first, name, e) ||
	    !read_gs2_header(s, client_first, &bare, e) || !refuse_mandatory_extension(bare, e))
		return false;
	a = attrs_of(bare);
	if (!attr_get(&a, 'n', &user) || !attr_get(&a, 'r', &nonce) || !attrs_finish(&a) ||
	    !is_printable(nonce, SCRAM_MAX_NONCE))
		return malformed(e, name);

	buf_put_slice(&s->auth, bare);
	buf_put_u8(&s->auth, ',');
	start = buf_len(&s->auth);
	buf_put(&s->auth, "r=", 2);
	buf_put_slice(&s->auth, nonce);
	buf_put_slice(&s->auth, slice_str(s->nonce));
	buf_put(&s->auth, ",s=", 3);
	base64_put(&s->auth, s->secret.salt, s->secret.salt_len);
	buf_printf(&s->auth, ",i=%u", s->secret.iterations);
	buf_put(server_first, buf_head(&s->auth) + start, buf_len(&s->auth) - start);
	s->nonce_at = start + 2;
	s->nonce_len = nonce.n + strlen(s->nonce);
	s->due = SCRAM_DUE_FINAL;
	return true;
}

static bool is_own_binding(const struct scram_server *s, struct slice text)
{
	struct buf own = { 0 };
	bool same;

	if (!s->is_bound)
		return slice_is_equal(text, header_in_base64(s->header));
	put_binding(&own, s->header, s->binding, s->binding_len);
	same = slice_is_equal(text, buf_peek(&own));
	buf_fini(&own);
	return same;
}

/* Splits client-final-message; *without_proof is what the proof covers. */
static bool read_client_final(const struct scram_server *s, struct slice message,
			      struct slice *without_proof, uint8_t proof[SCRAM_KEY_LEN],
			      struct err *e)
{
	const char *name = "client-final-message";
	struct slice binding, nonce, text;
	struct attrs a = attrs_of(message);

	if (!attr_get(&a, 'c', &binding) || !attr_get(&a, 'r', &nonce) ||
	    !attr_find(&a, 'p', &text) || !a.is_at_end || !parse_key(text, proof))
		return malformed(e, name);
	if (!is_own_binding(s, binding))
		return s->is_bound
			   ? err_set(e, "28000", "SCRAM channel binding check failed")
			   : err_set(e, "08P01", "unexpected SCRAM channel-binding attribute in %s",
				     name);
	if (!slice_is_equal(nonce, slice_of(buf_head(&s->auth) + s->nonce_at, s->nonce_len)))
		return err_set(e, "08P01", "SCRAM nonce does not match");
	*without_proof = slice_of(message.p, (size_t)(text.p - message.p) - strlen(",p="));
	return true;
}

bool scram_server_final(struct scram_server *s, struct slice client_final, struct buf *server_final,
			uint8_t client_key[SCRAM_KEY_LEN], struct err *e)
{
	uint8_t proof[SCRAM_KEY_LEN], digest[SCRAM_KEY_LEN], signature[SCRAM_KEY_LEN];
	struct slice without_proof;

	memset(client_key, 0, SCRAM_KEY_LEN);
	if (!accept_message(&s->due, SCRAM_DUE_FINAL, client_final, "client-final-message", e) ||
	    !read_client_final(s, client_final, &without_proof, proof, e))
		return false;
	buf_put_u8(&s->auth, ',');
	buf_put_slice(&s->auth, without_proof);
	mask_key(&s->secret.stored_mac, buf_peek(&s->auth), proof, client_key);
	sha256(client_key, digest);
	if (!mem_is_equal_ct(digest, s->secret.stored_key, SCRAM_KEY_LEN)) {
		mem_wipe(client_key, SCRAM_KEY_LEN);
		return err_set(e, "28P01", "password authentication failed");
	}
	mac_of(&s->secret.server_mac, buf_peek(&s->auth), signature);
	buf_put(server_final, "v=", 2);
	base64_put(server_final, signature, sizeof(signature));
	return true;
}

void scram_server_fini(struct scram_server *s)
{
	buf_wipe(&s->auth);
	mem_wipe(s, sizeof(*s));
}

/* --- client role --- */

void scram_client_init_password(struct scram_client *c, struct slice password)
{
	*c = (struct scram_client){ .due = SCRAM_DUE_FIRST, .header = HEADER_UNBOUND };
	saslprep(password, &c->password);
	draw_nonce(c->nonce);
}

void scram_client_init_keys(struct scram_client *c, const uint8_t client_key[SCRAM_KEY_LEN],
			    const uint8_t server_key[SCRAM_KEY_LEN])
{
	*c = (struct scram_client){ .due = SCRAM_DUE_FIRST,
				    .has_keys = true,
				    .header = HEADER_UNBOUND };
	memcpy(c->client_key, client_key, SCRAM_KEY_LEN);
	memcpy(c->server_key, server_key, SCRAM_KEY_LEN);
	draw_nonce(c->nonce);
}

void scram_client_bind(struct scram_client *c, enum scram_binding how, struct slice binding)
{
	PGT_ASSERT(c->due == SCRAM_DUE_FIRST);
	c->header = how == SCRAM_IS_BOUND ? HEADER_BOUND : HEADER_UNOFFERED;
	c->binding_len = copy_binding(c->binding, binding);
}

void scram_client_first(struct scram_client *c, struct buf *out)
{
	PGT_ASSERT(c->due == SCRAM_DUE_FIRST);
	/* The name is in the startup packet; PostgreSQL ignores this one. */
	buf_printf(&c->auth, "n=,r=%s", c->nonce);
	buf_put_slice(out, slice_str(c->header));
	buf_put_slice(out, buf_peek(&c->auth));
	c->due = SCRAM_DUE_FINAL;
}

struct challenge {
	struct slice nonce;
	uint8_t salt[SCRAM_MAX_SALT];
	size_t salt_len;
	uint32_t iterations;
};

static bool read_server_first(const struct scram_client *c, struct slice message,
			      struct challenge *out, struct err *e)
{
	struct attrs a = attrs_of(message);
	struct slice salt, iterations;
	size_t own = strlen(c->nonce);

	if (!refuse_mandatory_extension(message, e))
		return false;
	if (!attr_get(&a, 'r', &out->nonce) || !attr_get(&a, 's', &salt) ||
	    !attr_get(&a, 'i', &iterations) || !attrs_finish(&a) ||
	    !parse_salt(salt, out->salt, &out->salt_len) ||
	    !parse_iterations(iterations, &out->iterations) ||
	    !is_printable(out->nonce, own + SCRAM_MAX_NONCE))
		return malformed(e, "server-first-message");
	if (out->nonce.n <= own || memcmp(out->nonce.p, c->nonce, own) != 0)
		return err_set(e, "08P01", "SCRAM nonce of the server does not extend ours");
	if (!c->has_keys && out->iterations > SCRAM_MAX_ITERATIONS)
		return err_set(e, "08P01", "server asks for %u SCRAM iterations, more than %d",
			       out->iterations, SCRAM_MAX_ITERATIONS);
	return true;
}

bool scram_client_final(struct scram_client *c, struct slice server_first, struct buf *out,
			struct err *e)
{
	struct challenge ch;
	uint8_t stored_key[SCRAM_KEY_LEN], proof[SCRAM_KEY_LEN];
	struct scram_mac stored_mac;
	size_t start;

	if (!accept_message(&c->due, SCRAM_DUE_FINAL, server_first, "server-first-message", e) ||
	    !read_server_first(c, server_first, &ch, e))
		return false;
	if (!c->has_keys)
		derive_keys(buf_peek(&c->password), ch.salt, ch.salt_len, ch.iterations,
			    c->client_key, c->server_key);
	buf_put_u8(&c->auth, ',');
	buf_put_slice(&c->auth, server_first);
	buf_put_u8(&c->auth, ',');
	start = buf_len(&c->auth);
	buf_put(&c->auth, "c=", 2);
	put_binding(&c->auth, c->header, c->binding, c->binding_len);
	buf_printf(&c->auth, ",r=%.*s", SLICE_FMT(ch.nonce));
	sha256(c->client_key, stored_key);
	mac_make(stored_key, &stored_mac);
	mask_key(&stored_mac, buf_peek(&c->auth), c->client_key, proof);
	hmac(c->server_key, buf_peek(&c->auth), c->server_signature);

	buf_put(out, buf_head(&c->auth) + start, buf_len(&c->auth) - start);
	buf_put(out, ",p=", 3);
	base64_put(out, proof, sizeof(proof));
	mem_wipe(stored_key, sizeof(stored_key));
	mem_wipe(&stored_mac, sizeof(stored_mac));
	c->due = SCRAM_DUE_VERIFY;
	return true;
}

bool scram_client_verify(struct scram_client *c, struct slice server_final, struct err *e)
{
	const char *name = "server-final-message";
	struct attrs a = attrs_of(server_final);
	uint8_t signature[SCRAM_KEY_LEN];
	struct slice value;
	char attr;

	if (!accept_message(&c->due, SCRAM_DUE_VERIFY, server_final, name, e))
		return false;
	if (!attr_next(&a, &attr, &value) || !attrs_finish(&a))
		return malformed(e, name);
	if (attr == 'e' && is_printable(value, MAX_ERROR_NAME))
		return err_set(e, "28P01", "server refuses the SCRAM exchange: %.*s",
			       SLICE_FMT(value));
	if (attr != 'v' || !parse_key(value, signature))
		return malformed(e, name);
	if (!mem_is_equal_ct(signature, c->server_signature, SCRAM_KEY_LEN))
		return err_set(e, "28000",
			       "server does not know the password: "
			       "its SCRAM signature is wrong");
	return true;
}

void scram_client_fini(struct scram_client *c)
{
	buf_wipe(&c->password);
	buf_wipe(&c->auth);
	mem_wipe(c, sizeof(*c));
}
