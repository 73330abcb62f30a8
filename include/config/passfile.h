/* SPDX-License-Identifier: ISC
 *
 * passfile.h - the text of a password file: host:port:database:user:password in each line.
 */
#ifndef PGT_CONFIG_PASSFILE_H
#define PGT_CONFIG_PASSFILE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Whom a password is asked for. */
struct passfile_key {
	const char *host;
	uint16_t port;
	const char *dbname, *user;
};

/* Appends the password of the first line that fits.  False: none does. */
bool passfile_find(struct slice text, const struct passfile_key *key, struct buf *password);

#endif
