/* SPDX-License-Identifier: ISC
 *
 * md5.c - PostgreSQL's md5 password authentication.
 *
 * Old and weak, but what existing installations use.  Knows nothing of messages or of who asks.
 */
#include "auth/md5.h"

#include "base/mem.h"

#include <openssl/evp.h>
#include <string.h>

#define MD5_LEN 16

/* "md5" || hex(md5(a || b)). */
static bool hash_pair(struct slice a, struct slice b, char out[MD5_BUF_LEN])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[MD5_LEN];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) &&
		  EVP_DigestUpdate(ctx, a.p, a.n) && EVP_DigestUpdate(ctx, b.p, b.n) &&
		  EVP_DigestFinal_ex(ctx, digest, NULL);

	EVP_MD_CTX_free(ctx);
	out[0] = '\0';
	if (!ok)
		return false;
	memcpy(out, "md5", 3);
	for (size_t i = 0; i < MD5_LEN; i++) {
		out[3 + 2 * i] = hex[digest[i] >> 4];
		out[4 + 2 * i] = hex[digest[i] & 15];
	}
	out[MD5_TEXT_LEN] = '\0';
	mem_wipe(digest, sizeof(digest));
	return true;
}

bool md5_is_hash(struct slice stored)
{
	if (stored.n != MD5_TEXT_LEN || memcmp(stored.p, "md5", 3) != 0)
		return false;
	for (size_t i = 3; i < stored.n; i++)
		if (!memchr("0123456789abcdef", stored.p[i], 16))
			return false;
	return true;
}

bool md5_hash_password(struct slice user, struct slice password, char out[MD5_BUF_LEN])
{
	return hash_pair(password, user, out);
}

bool md5_answer(const char *stored, const uint8_t salt[MD5_SALT_LEN], char out[MD5_BUF_LEN])
{
	out[0] = '\0';
	return stored[0] != '\0' && hash_pair(slice_of(stored + 3, MD5_TEXT_LEN - 3),
					      slice_of((const char *)salt, MD5_SALT_LEN), out);
}
