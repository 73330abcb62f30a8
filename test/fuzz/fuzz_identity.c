/* SPDX-License-Identifier: ISC
 *
 * fuzz_identity.c - any startup packet before configurations with tenants: who it is has a
 * database, or is refused; and whoever is a tenant has its id.
 *
 * The first byte says which configuration, the rest is a packet behind its length.
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
};
#define NWAYS PGT_NELEMS(ways)

static bool read_file(void *arg, const char *path PGT_UNUSED, bool is_secret PGT_UNUSED,
		      struct buf *text, struct err *e PGT_UNUSED)
{
	const char *way = arg;

	buf_printf(text,
		   "[pgturnstile]\nauth_type = trust\nadmin_users = ops\n%s\n"
		   "[databases]\nshop = host=127.0.0.1\nown = host=127.0.0.1 user=owner\n"
		   "* = host=127.0.0.1\n%s",
		   way,
		   *way ? "[tiers]\nbasic = weight=1\n"
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

static void check(const struct startup *startup, const struct config *config)
{
	struct identity id;
	struct err e = { 0 };

	if (!identity_init(&id, startup, &e)) {
		PGT_ASSERT(*e.text);
		identity_fini(&id);
		return;
	}
	identity_resolve(&id, config);
	if (id.is_refused)
		PGT_ASSERT(*id.refusal.text);
	else
		PGT_ASSERT(id.is_console || (id.database_conf && *id.server_user));
	if (!id.is_refused && !id.is_console && config->global.tenant_by.n && !id.may_switch)
		PGT_ASSERT(*id.business_id);
	identity_fini(&id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct startup startup;
	struct err e;
	char *packet;

	if (size == 0 || size > STARTUP_MAX_LEN)
		return 0;
	/* A block of exactly its size, so that ASan sees a read past its end. */
	packet = xmalloc(size + 3);
	for (unsigned i = 0; i < 4; i++)
		packet[i] = (char)((size + 3) >> (24 - 8 * i));
	memcpy(packet + 4, data + 1, size - 1);
	if (startup_parse(packet, size + 3, &startup, &e) == STEP_DONE &&
	    startup.kind == STARTUP_SESSION)
		check(&startup, config_of(data[0] % NWAYS));
	free(packet);
	return 0;
}
