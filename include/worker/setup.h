/* SPDX-License-Identifier: ISC
 *
 * setup.h - one version of all that a reload replaces: configuration and TLS contexts.
 *
 * Made as a whole or not at all (I8), then handed from thread to thread by reference.
 */
#ifndef PGT_WORKER_SETUP_H
#define PGT_WORKER_SETUP_H

#include "config/config.h"

struct tls_context;

/* Where the configuration comes from, as the command line says; strings are borrowed. */
struct setup_source {
	const char *path;         /* of the file, or NULL */
	struct upstream upstream; /* --upstream, when there is no file; else its uri is NULL */
};

struct setup {
	struct config *config;
	struct tls_context *client_tls; /* NULL: clients get no TLS */
	struct tls_context *server_tls; /* NULL: servers are not asked for it */
};

/* Reads the configuration, and with the running one (or NULL) keeps what only a start can change
 * and what the console has changed. NULL: p->errors has all that is wrong.  The caller's reference.
 */
struct config *setup_read(const struct setup_source *source, const struct config *running,
			  struct config_problems *p);
/* Makes the TLS contexts that a configuration asks for and takes its reference over when it
 * succeeds.  False: *e says which file or setting is wrong, and nothing is taken. */
bool setup_make(struct setup *setup, struct config *config, struct err *e);
/* References to all of it. */
struct setup setup_ref(const struct setup *setup);
void setup_unref(struct setup *setup);

#endif
