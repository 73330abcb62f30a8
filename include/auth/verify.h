/* SPDX-License-Identifier: ISC
 *
 * verify.h - does this answer match what is stored?
 *
 * The one place that decides it, for each way to ask.  NULL stands for a user that does not exist:
 * it takes the work of one that does, and fails.  An empty password, stored or given, never
 * matches, nor does a stored form from which the answer cannot be checked.  Any thread.
 */
#ifndef PGT_AUTH_VERIFY_H
#define PGT_AUTH_VERIFY_H

#include "auth/md5.h"
#include "auth/scram.h"
#include "auth/userlist.h"

/* The password itself was asked for.  Costs one SCRAM hash whatever is stored (where no secret says
 * of how many iterations, of `usual`, or of SCRAM_DEFAULT_ITERATIONS where that is 0 or more than
 * may be), so that time does not tell whether the user exists, but for secrets that are unlike most
 * (docs/threat-model.md).  A secret of more than SCRAM_MAX_ITERATIONS never matches: a role may set
 * its own, and would stop all other connections with it. */
bool password_verify_plain(const struct userlist_entry *entry, struct slice given,
			   uint32_t usual) PGT_MUST_USE;

/* given is the answer to AuthenticationMD5Password with this salt. */
bool password_verify_md5(const struct userlist_entry *entry, const uint8_t salt[MD5_SALT_LEN],
			 struct slice given) PGT_MUST_USE;

/* The secret for scram_server_init(): the stored one; or one made of the plain password; or one
 * that nothing fits.  The first and the last take the same time.  Making one of a plain password
 * costs `iterations` hashes, and has the salt that an unknown user would see: keep it with the
 * entry, as the next one is the same.  salt_key: as of scram_secret_mock(). */
void password_scram_secret(const struct userlist_entry *entry, const struct scram_mac *salt_key,
			   struct slice user, uint32_t iterations, struct scram_secret *out);

#endif
