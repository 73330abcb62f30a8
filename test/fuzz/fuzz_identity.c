/* SPDX-License-Identifier: ISC
 *
 * fuzz_identity.c - any startup packet before configurations with tenants: who it is has a
 * database, or is refused; and whoever is a tenant has its id.
 *
 * The first byte says which configuration; up to a zero byte stands the host that is asked for over
 * TLS, or nothing; or, behind a '=', the tenant that a token has; or, behind a '<', the tenant of a
 * session that another process has had and, behind a '/', the id of the one that it has chosen. The
 * rest is a packet behind its length.
 */
#include "client/identity.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const ways[] = {
	"",
	"tenant_by = user_suffix",
	"tenant_by = startup, user",
	"tenant_by = database",
	"tenant_by = user_suffix, set\npool_mode = transaction\ntenant_pool = shared\n"
	"unknown_tenant = basic",
	"tenant_by = sni, startup\ntenant_sni_suffix = .db.example.com\n"
	"client_tls_sslmode = allow\nclient_tls_key_file = k.pem\nclient_tls_cert_file = c.pem\n"
	"unknown_tenant = basic",
	"tenant_by = user_suffix, startup, comment\npool_mode = transaction\n"
	"tenant_pool = shared\ntenant_query = SELECT 1\nmonitor_user = m",
	"auth_type = jwt\njwt_secret_file = secret\njwt_audience = x\ntenant_by = token",
};
#define NWAYS PGT_NELEMS(ways)

static bool read_file(void *arg, const char *path, bool is_secret PGT_UNUSED, struct buf *text,
		      struct err *e PGT_UNUSED)
{
	const char *way = arg;

	if (!strcmp(path, "secret")) {
		buf_put_slice(text, SLICE("0123456789abcdef0123456789abcdef"));
		return true;
	}
	buf_printf(text,
		   "[pgturnstile]\n%sadmin_users = ops\n%s\n"
		   "[databases]\nshop = host=127.0.0.1\nown = host=127.0.0.1 user=owner\n"
		   "%s",
		   strstr(way, "auth_type") ? "" : "auth_type = trust\n", way,
		   *way ? "* = host=127.0.0.1\n"
			  "[tiers]\nbasic = weight=1\n"
			  "[tenants]\nacme = tier=basic business_id=42 user=anna database=own\n"
			  "[users]\nu = tenant_switch=yes\n"
			: "");
	return true;
}

static const struct config *config_of(size_t way)
{
	static struct config *configs[NWAYS];
	struct config_problems problems = { 0 };

	if (!configs[way])
		configs[way] = config_load("ini", read_file, (void *)ways[way], &problems);
	PGT_ASSERT(configs[way]);
	return configs[way];
}

static void check_resolved(const struct identity *id, const struct config *config)
{
	if (id->is_refused)
		PGT_ASSERT(*id->refusal.text);
	else
		PGT_ASSERT(id->is_console || (id->database_conf && *id->server_user));
	if (!id->is_refused && !id->is_console && config->global.tenant_by.n && !id->may_switch)
		PGT_ASSERT(*id->business_id);
	PGT_ASSERT(!id->is_console == !identity_other_name(id));
	if (!id->is_refused && !id->is_console)
		PGT_ASSERT(identity_group_key(id).database.n);
}

/* It is the same session in another process. */
static void bring(struct identity *id, const struct startup *startup, const char *tenant)
{
	const char *slash = strchr(tenant, '/');
	char *name = slash ? xmemdup0(tenant, (size_t)(slash - tenant)) : xstrdup(tenant);
	struct passport passport = { .user = id->user,
				     .database = id->database,
				     .tenant = name,
				     .session_id = slash ? slash + 1 : "",
				     .base = startup->params };
	struct identity brought;

	identity_bring(&brought, &passport);
	brought.is_console = id->is_console;
	identity_fini(id);
	*id = brought;
	free(name);
}

/* What is sought is answered as the input's first bit says, once for each way. */
static void check(const struct startup *startup, const struct config *config, const char *host,
		  bool is_down)
{
	const struct err down = { .sqlstate = "57P01", .text = "down" };
	struct identity id;
	struct err e = { 0 };

	if (!identity_init(&id, startup, &e)) {
		PGT_ASSERT(*e.text);
		identity_fini(&id);
		return;
	}
	if (*host == '<')
		bring(&id, startup, host + 1);
	else if (*host == '=')
		identity_take_token(&id, host + 1);
	else if (*host)
		identity_set_host(&id, host);
	identity_resolve(&id, config);
	for (unsigned i = 0; *id.sought; i++) {
		PGT_ASSERT(id.is_refused && i < config->global.tenant_by.n);
		identity_answer(&id, is_down ? &down : NULL);
		identity_resolve(&id, config);
	}
	check_resolved(&id, config);
	identity_fini(&id);
}

/* A block of exactly its size, so that ASan sees a read past its end. */
static char *packet_of(struct slice body)
{
	char *packet = xmalloc(body.n + 4);

	for (unsigned i = 0; i < 4; i++)
		packet[i] = (char)((body.n + 4) >> (24 - 8 * i));
	memcpy(packet + 4, body.p, body.n);
	return packet;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *host = (const char *)data + 1, *nul;
	struct startup startup;
	struct slice body;
	struct err e;
	char *packet;

	if (size == 0 || size > STARTUP_MAX_LEN)
		return 0;
	nul = memchr(host, '\0', size - 1);
	if (!nul)
		return 0;
	body = slice_of(nul + 1, (size_t)((const char *)data + size - nul - 1));
	packet = packet_of(body);
	if (startup_parse(packet, body.n + 4, &startup, &e) == STEP_DONE &&
	    startup.kind == STARTUP_SESSION)
		check(&startup, config_of(data[0] / 2 % NWAYS), host, data[0] & 1);
	free(packet);
	return 0;
}
