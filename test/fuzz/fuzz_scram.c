/* SPDX-License-Identifier: ISC
 *
 * fuzz_scram.c - each SCRAM message, and a stored secret, from a hostile peer.
 *
 * The first byte says which; a '%' in the rest stands for the nonce of our side, which the peer
 * would have seen.
 */
#include "auth/saslprep.h"
#include "auth/scram.h"
#include "base/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char nonce[] = "ours";

/* The message in a block of exactly its size, so that ASan sees a read past its end. */
static struct slice expand(struct slice in)
{
	struct buf b = { 0 };
	char *p;
	size_t n;

	for (size_t i = 0; i < in.n; i++) {
		if (in.p[i] == '%')
			buf_put_slice(&b, slice_str(nonce));
		else
			buf_put_u8(&b, (uint8_t)in.p[i]);
	}
	n = buf_len(&b);
	p = xmalloc(n);
	memcpy(p, buf_peek(&b).p, n);
	buf_fini(&b);
	return slice_of(p, n);
}

/* Of one whose password is "secret", or of nobody. */
static struct scram_secret secret_of(bool is_known)
{
	struct scram_secret secret;

	if (is_known)
		scram_secret_make(SLICE("secret"), 1, (const uint8_t *)"salt", 4, &secret);
	else
		scram_secret_mock(NULL, SLICE("u"), SCRAM_DEFAULT_ITERATIONS, &secret);
	return secret;
}

/* A server that expects its first message, or its second one. */
static void as_server(struct slice message, bool is_second, bool is_bound, bool is_known)
{
	const struct slice binding = is_bound ? SLICE("binding") : (struct slice){ 0 };
	const struct slice first =
	    is_bound ? SLICE("p=tls-server-end-point,,n=,r=x") : SLICE("n,,n=,r=x");
	const struct scram_secret secret = secret_of(is_known);
	struct scram_server s;
	struct buf out = { 0 };
	struct err err;
	uint8_t client_key[SCRAM_KEY_LEN];

	scram_server_init(&s, &secret, binding, nonce);
	PGT_ASSERT(scram_server_select(&s, is_bound ? SLICE(SCRAM_MECHANISM_PLUS)
						    : SLICE(SCRAM_MECHANISM)));
	PGT_ASSERT(scram_server_first(&s, is_second ? first : message, &out, &err) ||
		   (!is_second && buf_len(&out) == 0));
	/* No proof fits a mock secret, and none is a first message too. */
	PGT_ASSERT(!scram_server_final(&s, message, &out, client_key, &err) ||
		   (is_known && is_second));
	scram_server_fini(&s);
	buf_fini(&out);
}

/* A client that expects the server's first message, or its second one. */
static void as_client(struct slice message, bool is_second, bool is_known)
{
	static const uint8_t key[SCRAM_KEY_LEN];
	struct scram_client c;
	struct buf out = { 0 };
	struct err err;

	if (is_known)
		scram_client_init_password(&c, SLICE("secret"));
	else
		scram_client_init_keys(&c, key, key);
	memcpy(c.nonce, nonce, sizeof(nonce));
	scram_client_first(&c, &out);
	buf_clear(&out);
	PGT_ASSERT(scram_client_final(&c, is_second ? SLICE("r=oursx,s=c2FsdA==,i=1") : message,
				      &out, &err) ||
		   (!is_second && buf_len(&out) == 0));
	/* A server-first-message never is a server-final-message too. */
	PGT_ASSERT(!scram_client_verify(&c, message, &err) || is_second);
	scram_client_fini(&c);
	buf_fini(&out);
}

static void as_secret(struct slice text)
{
	struct scram_secret secret;

	PGT_ASSERT(
	    !scram_secret_parse(text, &secret) ||
	    (secret.iterations >= 1 && secret.salt_len >= 1 && secret.salt_len <= SCRAM_MAX_SALT));
}

static void as_password(struct slice password)
{
	struct buf out = { 0 };

	saslprep(password, &out);
	PGT_ASSERT((buf_len(&out) == 0) == (password.n == 0));
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice message;

	if (size == 0)
		return 0;
	message = expand(slice_of((const char *)data + 1, size - 1));
	switch (data[0] % 8) {
	case 0:
	case 1:
	case 6:
	case 7:
		as_server(message, data[0] % 2, data[0] % 8 >= 6, true);
		as_server(message, data[0] % 2, data[0] % 8 >= 6, false);
		break;
	case 2:
	case 3:
		as_client(message, data[0] % 2, true);
		as_client(message, data[0] % 2, false);
		break;
	case 4:
		as_secret(message);
		break;
	default:
		as_password(message);
	}
	free((char *)message.p);
	return 0;
}
