/* SPDX-License-Identifier: ISC
 *
 * options.h - the command line.
 */
#ifndef PGT_MAIN_OPTIONS_H
#define PGT_MAIN_OPTIONS_H

#include "worker/setup.h"

enum mode { MODE_RUN, MODE_CHECK, MODE_DOCTOR, MODE_DESCRIBE, MODE_HELP, MODE_VERSION };

struct options {
	enum mode mode;
	struct setup_source source;
	const char *describe; /* what, of MODE_DESCRIBE */
	const char *user;     /* instead of the setting; "" */
	unsigned verbosity;
	bool as_json; /* of MODE_DOCTOR */
	bool quiet;
	bool daemon;
	bool takes_over;
	char *uri; /* of --upstream */
};

/* Strings are argv's and the environment's, but for what has a password in it, which argv has no
 * more afterwards.  False: what was wrong has been said on stderr. */
bool options_parse(struct options *options, int argc, char **argv);
void options_fini(struct options *options);
void options_put_usage(bool in_full);

#endif
