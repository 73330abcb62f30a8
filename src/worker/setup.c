/* SPDX-License-Identifier: ISC
 *
 * setup.c - one version of all that a reload replaces: configuration and TLS contexts.
 *
 * Reads files; knows which settings make a TLS context, and not who uses it.
 */
#include "worker/setup.h"

#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than any configuration; a device that never ends is not read for ever. */
#define FILE_MAX_BYTES (256 << 20)
#define READ_STEP      65536
/* A copy of so much has used all registers that larger ones use. */
#define WASH_MAX 4096

/* Files have secrets in them: what grows is copied and wiped, not moved by the allocator. */
static char *make_room(struct buf *text)
{
	struct buf larger = { 0 };

	if (text->cap - text->end < READ_STEP) {
		buf_reserve(&larger, 2 * text->cap + READ_STEP);
		buf_put_slice(&larger, buf_peek(text));
		buf_wipe(text);
		*text = larger;
	}
	return buf_reserve(text, READ_STEP);
}

static bool read_all(int fd, const char *path, struct buf *text, struct err *e)
{
	size_t before = buf_len(text);

	for (;;) {
		ssize_t n = read(fd, make_room(text), READ_STEP);

		if (n == 0)
			return true;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, "58P01", "%s", strerror(errno));
		buf_produced(text, (size_t)n);
		if (buf_len(text) - before > FILE_MAX_BYTES)
			return err_set(e, "54000", "%s is too large", path);
	}
}

/* As PostgreSQL looks at a private key: the owner's alone, or root's and its group's. */
static bool is_private(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, "58P01", "%s", strerror(errno));
	if (st.st_mode & (st.st_uid == 0 && geteuid() != 0 ? S_IRWXO | S_IWGRP : S_IRWXO | S_IRWXG))
		return err_set(
		    e, "42501",
		    "its group or others may read or change it: chmod 600 (or, of root's, "
		    "640)");
	return true;
}

static bool read_file(void *arg PGT_UNUSED, const char *path, bool is_secret, struct buf *text,
		      struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return err_set(e, "58P01", "%s", strerror(errno));
	ok = (!is_secret || is_private(fd, e)) && read_all(fd, path, text, e);
	close(fd);
	return ok;
}

/* A copy leaves what it has copied in vector registers, of which a new thread gets its own, and the
 * dynamic linker saves those on a thread's stack: nothing of the files is to be in them. */
static void wash_registers(void)
{
	static char nothing[2 * WASH_MAX];
	void *(*volatile copy)(void *to, const void *from, size_t n) = memcpy;

	/* Which ones it uses depends on the size. */
	for (size_t n = WASH_MAX; n; n /= 2)
		copy(nothing, nothing + WASH_MAX, n);
}

struct config *setup_read(const struct setup_source *source, const struct config *running,
			  struct config_problems *p)
{
	struct config *config = source->upstream.uri
				    ? config_from_upstream(&source->upstream, read_file, NULL, p)
				    : config_load(source->path, read_file, NULL, p);

	wash_registers();
	if (config && running) {
		config_keep_started(config, running, p);
		config_keep_changes(config, running);
	}
	return config;
}

/* Clients are asked for certificates where all have to have one, or somebody may need one.  Where
 * nobody does, one that is no good is not to stop a handshake. */
static bool make_client_tls(struct setup *setup, const struct config *config, struct err *e)
{
	const struct settings *set = &config->global;
	struct tls_options options = {
		.is_server = true,
		.verify_peer = config_wants_certificates(config),
		.spares_peer = set->client_tls_sslmode < SSLMODE_VERIFY_CA,
		.ca_file = set->client_tls_ca_file,
		.cert_file = set->client_tls_cert_file,
		.key_file = set->client_tls_key_file,
		.protocols = set->client_tls_protocols,
		.ciphers = set->client_tls_ciphers,
		.ciphersuites = set->client_tls13_ciphers,
		.ecdhcurve = set->client_tls_ecdhcurve,
		.session_lifetime_s = (uint64_t)(set->client_tls_session_lifetime / USEC_PER_SEC)
	};

	if (set->client_tls_sslmode == SSLMODE_DISABLE)
		return true;
	setup->client_tls = tls_context_new(&options, e);
	return setup->client_tls != NULL;
}

static bool make_server_tls(struct setup *setup, const struct settings *set, struct err *e)
{
	struct tls_options options = { .verify_peer = set->server_tls_sslmode >= SSLMODE_VERIFY_CA,
				       .ca_file = set->server_tls_ca_file,
				       .cert_file = set->server_tls_cert_file,
				       .key_file = set->server_tls_key_file,
				       .protocols = set->server_tls_protocols,
				       .ciphers = set->server_tls_ciphers,
				       .ciphersuites = set->server_tls13_ciphers,
				       .ecdhcurve = "" };

	if (set->server_tls_sslmode == SSLMODE_DISABLE)
		return true;
	setup->server_tls = tls_context_new(&options, e);
	return setup->server_tls != NULL;
}

bool setup_make(struct setup *setup, struct config *config, struct err *e)
{
	*setup = (struct setup){ 0 };
	if (make_client_tls(setup, config, e) && make_server_tls(setup, &config->global, e)) {
		setup->config = config;
		return true;
	}
	setup_unref(setup);
	return false;
}

struct setup setup_ref(const struct setup *setup)
{
	return (struct setup){ config_ref(setup->config),
			       setup->client_tls ? tls_context_ref(setup->client_tls) : NULL,
			       setup->server_tls ? tls_context_ref(setup->server_tls) : NULL };
}

void setup_unref(struct setup *setup)
{
	config_unref(setup->config);
	if (setup->client_tls)
		tls_context_unref(setup->client_tls);
	if (setup->server_tls)
		tls_context_unref(setup->server_tls);
	*setup = (struct setup){ 0 };
}
