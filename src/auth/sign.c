/* SPDX-License-Identifier: ISC
 *
 * sign.c - the signature of a tenant's id, which the database checks.
 *
 * Takes text and bytes; knows no files, no reload and no servers.  The verifier in
 * etc/sql/pgturnstile.sql puts the same message together.
 */
#include "auth/sign.h"

#include "base/hash.h"
#include "base/mem.h"

#include <ctype.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_LEN 32
/* Two numbers of 20 digits, the lengths' 10, signs between, and the key's id. */
#define MESSAGE_MAX (SIGN_KEY_ID_MAX + SIGN_ID_MAX + 64)

/* Only the key that signs is kept: the others are for the database to know. */
struct sign_keys {
	char id[SIGN_KEY_ID_MAX + 1];
	uint8_t key[SIGN_KEY_MAX];
	size_t n;
	uint64_t mark;
};

/* --- the file ------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Takes the next word off the line; empty at its end. */
static struct slice take_word(struct slice *line)
{
	struct slice word;
	size_t n = 0;

	while (line->n && is_blank(line->p[0]))
		*line = slice_of(line->p + 1, line->n - 1);
	while (n < line->n && !is_blank(line->p[n]))
		n++;
	word = slice_of(line->p, n);
	*line = slice_of(line->p + n, line->n - n);
	return word;
}

static bool is_key_id(struct slice word)
{
	for (size_t i = 0; i < word.n; i++)
		if (!isalnum((unsigned char)word.p[i]) && !memchr("_-.", word.p[i], 3))
			return false;
	return word.n > 0 && word.n <= SIGN_KEY_ID_MAX;
}

static bool hex_digit(char c, uint8_t *out)
{
	if (!isxdigit((unsigned char)c))
		return false;
	*out =
	    (uint8_t)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
	return true;
}

static bool hex_decode(struct slice hex, uint8_t *out)
{
	for (size_t i = 0; i < hex.n / 2; i++) {
		uint8_t high, low;

		if (!hex_digit(hex.p[2 * i], &high) || !hex_digit(hex.p[2 * i + 1], &low))
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* NULL, or what is wrong with the line.  A line without a key leaves *key empty. */
static const char *parse_line(struct slice line, struct sign_keys *key)
{
	struct slice id = take_word(&line), hex = take_word(&line);

	if (!id.n || id.p[0] == '#' || id.p[0] == ';')
		return NULL;
	if (!is_key_id(id))
		return "the line does not begin with a key's id: up to 32 letters, digits, _, - "
		       "and .";
	if (hex.n % 2 || hex.n < 2 * SIGN_KEY_MIN || hex.n > 2 * SIGN_KEY_MAX)
		return "behind the id has to stand a key of 16 to 64 bytes in hex";
	if (!hex_decode(hex, key->key))
		return "the key is not written in hex";
	if (take_word(&line).n)
		return "something stands behind the key";
	memcpy(key->id, id.p, id.n);
	key->n = hex.n / 2;
	return NULL;
}

struct sign_keys *sign_keys_parse(struct slice text, const char *file, sign_complain_fn *complain,
				  void *arg)
{
	struct sign_keys *keys = xnew(struct sign_keys);

	for (int number = 1; text.n; number++) {
		struct sign_keys found = { .n = 0 };
		const char *fault = parse_line(slice_cut(&text, '\n'), &found);

		if (fault)
			complain(arg, file, number, fault);
		else if (found.n && !keys->n)
			*keys = found;
		mem_wipe(&found, sizeof(found));
	}
	if (!keys->n) {
		complain(arg, file, 0, "no key in it: write a line \"id hex\"");
		sign_keys_free(keys);
		return NULL;
	}
	keys->mark = hash_more(hash_bytes(keys->id, strlen(keys->id)), keys->key, keys->n) | 1;
	return keys;
}

void sign_keys_free(struct sign_keys *keys)
{
	if (keys)
		mem_wipe(keys, sizeof(*keys));
	free(keys);
}

uint64_t sign_keys_mark(const struct sign_keys *keys)
{
	return keys->mark;
}

/* --- the signature -------------------------------------------------------------------------- */

bool sign_context(const struct sign_keys *keys, struct slice id, uint32_t backend_pid,
		  uint64_t backend_start_us, char out[SIGN_MAX])
{
	static const char hex[] = "0123456789abcdef";
	char message[MESSAGE_MAX];
	uint8_t digest[DIGEST_LEN];
	bool done;
	char *end;
	int n;

	if (id.n > SIGN_ID_MAX)
		return false;
	n = snprintf(message, sizeof(message), "%s:%zu:%.*s:%" PRIu32 ":%" PRIu64, keys->id, id.n,
		     SLICE_FMT(id), backend_pid, backend_start_us);
	PGT_ASSERT(n > 0 && (size_t)n < sizeof(message));
	done = HMAC(EVP_sha256(), keys->key, (int)keys->n, (const uint8_t *)message, (size_t)n,
		    digest, NULL);
	PGT_ASSERT(done);
	end = out + snprintf(out, SIGN_MAX, "%s:", keys->id);
	for (size_t i = 0; i < sizeof(digest); i++) {
		*end++ = hex[digest[i] >> 4];
		*end++ = hex[digest[i] & 15];
	}
	*end = '\0';
	return true;
}
