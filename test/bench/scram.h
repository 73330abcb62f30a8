/* SPDX-License-Identifier: ISC
 *
 * scram.h - the client's side of SCRAM-SHA-256, for programs that log in over and over.
 *
 * The work of the password is done once for each thread, as a thread's clients all have the same
 * one: what a login costs here is then a few hashes.  The nonce is a constant and the server's last
 * word is not checked: not for anything but tests.
 */
#ifndef PGT_TEST_SCRAM_H
#define PGT_TEST_SCRAM_H

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRAM_KEY   32 /* bytes of SHA-256 */
#define SCRAM_FIRST "n=,r=storm"

/* The body of SASLInitialResponse, without its last NUL. */
static const char scram_first[] = "SCRAM-SHA-256\0\0\0\0\xd"
				  "n,," SCRAM_FIRST;

static inline void scram_must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "SCRAM: %s\n", what);
	exit(1);
}

static inline void scram_hmac(const void *key, size_t nkey, const void *data, size_t n,
			      uint8_t out[SCRAM_KEY])
{
	scram_must(HMAC(EVP_sha256(), key, (int)nkey, data, n, out, NULL) != NULL, "HMAC");
}

static inline const uint8_t *scram_client_key(const char *password, const char *salt64,
					      int iterations)
{
	static _Thread_local char of[128];
	static _Thread_local uint8_t key[SCRAM_KEY];
	uint8_t salt[128], salted[SCRAM_KEY];
	size_t n = strlen(salt64);
	char name[128];
	int len;

	snprintf(name, sizeof(name), "%s %d", salt64, iterations);
	if (!strcmp(of, name))
		return key;
	len = n && n < 120 ? EVP_DecodeBlock(salt, (const uint8_t *)salt64, (int)n) : -1;
	scram_must(len > 0, "salt");
	len -= (salt64[n - 1] == '=') + (salt64[n - 2] == '=');
	scram_must(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, len, iterations,
				     EVP_sha256(), SCRAM_KEY, salted) == 1,
		   "PBKDF2");
	scram_hmac(salted, SCRAM_KEY, "Client Key", 10, key);
	strcpy(of, name);
	return key;
}

/* The client's last word to what the server has said first; returns its length. */
static inline int scram_prove(const char *password, const char *said, char *out, size_t room)
{
	char nonce[200], salt64[100], bare[300], whole[900], proof64[2 * SCRAM_KEY];
	uint8_t stored[SCRAM_KEY], proof[SCRAM_KEY];
	const uint8_t *key;
	int iterations;

	scram_must(sscanf(said, "r=%199[^,],s=%99[^,],i=%d", nonce, salt64, &iterations) == 3,
		   said);
	key = scram_client_key(password, salt64, iterations);
	scram_must(EVP_Digest(key, SCRAM_KEY, stored, NULL, EVP_sha256(), NULL), "SHA-256");
	snprintf(bare, sizeof(bare), "c=biws,r=%s", nonce);
	scram_hmac(stored, SCRAM_KEY, whole,
		   (size_t)snprintf(whole, sizeof(whole), SCRAM_FIRST ",%s,%s", said, bare), proof);
	for (int i = 0; i < SCRAM_KEY; i++)
		proof[i] ^= key[i];
	EVP_EncodeBlock((uint8_t *)proof64, proof, SCRAM_KEY);
	return snprintf(out, room, "%s,p=%s", bare, proof64);
}

#endif
