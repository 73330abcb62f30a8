/* SPDX-License-Identifier: ISC
 *
 * verify.c - does this answer match what is stored?
 *
 * Knows nothing of messages, of who may log in from where, or of the log.
 */
#include "auth/verify.h"

#include "base/mem.h"

#include <openssl/evp.h>

/* Stands for users that do not exist. */
static char empty[] = "";
static const struct userlist_entry nobody = { .user = empty, .password = empty };

/* Through digests, so that time tells neither where a difference is nor how long the stored
 * password. */
static bool is_same_plain(struct slice stored, struct slice given)
{
	uint8_t a[SCRAM_KEY_LEN], b[SCRAM_KEY_LEN];
	bool same = EVP_Digest(stored.p, stored.n, a, NULL, EVP_sha256(), NULL) &&
		    EVP_Digest(given.p, given.n, b, NULL, EVP_sha256(), NULL) &&
		    mem_is_equal_ct(a, b, sizeof(a));

	mem_wipe(a, sizeof(a));
	mem_wipe(b, sizeof(b));
	return same;
}

static bool is_same_md5(const struct userlist_entry *entry, struct slice given)
{
	char hash[MD5_BUF_LEN];

	return md5_hash_password(slice_str(entry->user), given, hash) &&
	       mem_is_equal_ct(hash, entry->password, MD5_TEXT_LEN);
}

bool password_verify_plain(const struct userlist_entry *entry, struct slice given, uint32_t usual)
{
	const struct userlist_entry *e = entry ? entry : &nobody;
	bool is_bearable = usual && usual <= SCRAM_MAX_ITERATIONS;
	/* Gives the work of a stored secret where there is none. */
	const struct scram_secret decoy = {
		.iterations = is_bearable ? usual : SCRAM_DEFAULT_ITERATIONS,
		.salt_len = SCRAM_SALT_LEN,
	};
	const struct scram_secret *stored = e->kind == PASSWORD_SCRAM ? &e->scram : &decoy;
	struct scram_secret made;
	bool same = false;

	if (given.n == 0 || stored->iterations > SCRAM_MAX_ITERATIONS)
		return false;
	scram_secret_make(given, stored->iterations, stored->salt, stored->salt_len, &made);
	switch (e->kind) {
	case PASSWORD_NONE:
		break;
	case PASSWORD_PLAIN:
		same = is_same_plain(slice_str(e->password), given);
		break;
	case PASSWORD_MD5:
		same = is_same_md5(e, given);
		break;
	case PASSWORD_SCRAM:
		same = mem_is_equal_ct(made.stored_key, stored->stored_key, SCRAM_KEY_LEN);
		break;
	}
	mem_wipe(&made, sizeof(made));
	return same;
}

bool password_verify_md5(const struct userlist_entry *entry, const uint8_t salt[MD5_SALT_LEN],
			 struct slice given)
{
	const struct userlist_entry *e = entry ? entry : &nobody;
	char hashed[MD5_BUF_LEN], expected[MD5_BUF_LEN];
	const char *stored = e->kind == PASSWORD_MD5 ? e->password : hashed;

	/* Both hashes are made in every case; what they are of is decided at the end. */
	return md5_hash_password(slice_str(e->user), slice_str(e->password), hashed) &&
	       md5_answer(stored, salt, expected) && given.n == MD5_TEXT_LEN &&
	       mem_is_equal_ct(expected, given.p, MD5_TEXT_LEN) &&
	       (e->kind == PASSWORD_PLAIN || e->kind == PASSWORD_MD5);
}

void password_scram_secret(const struct userlist_entry *entry, const struct scram_mac *salt_key,
			   struct slice user, uint32_t iterations, struct scram_secret *out)
{
	struct scram_secret mock;

	/* Made in every case, so that time does not tell for whom it is used. */
	scram_secret_mock(salt_key, user, iterations, &mock);
	switch (entry ? entry->kind : PASSWORD_NONE) {
	case PASSWORD_SCRAM:
		*out = entry->scram;
		break;
	case PASSWORD_PLAIN:
		scram_secret_make(slice_str(entry->password), iterations, mock.salt, mock.salt_len,
				  out);
		break;
	case PASSWORD_NONE:
	case PASSWORD_MD5:
		*out = mock;
		break;
	}
}
