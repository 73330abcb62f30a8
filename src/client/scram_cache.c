/* SPDX-License-Identifier: ISC
 *
 * scram_cache.c - secrets made of plain passwords of auth_file, kept because making one takes a
 * millisecond.
 *
 * One cache for each thread that logs clients in, and one configuration.
 */
#include "client/login.h"

#include "auth/verify.h"
#include "base/mem.h"
#include "client/parts.h"

#include <stdlib.h>

struct scram_cache {
	struct hmap secrets;
};

struct scram_cached {
	struct hlink link;
	const struct userlist_entry *entry;
	struct scram_secret secret;
};

struct scram_cache *scram_cache_new(void)
{
	return xnew(struct scram_cache);
}

void scram_cache_clear(struct scram_cache *cache)
{
	HMAP_FOREACH_SAFE (l, &cache->secrets) {
		struct scram_cached *cached = container_of(l, struct scram_cached, link);

		hmap_remove(&cache->secrets, l);
		mem_wipe(&cached->secret, sizeof(cached->secret));
		free(cached);
	}
}

void scram_cache_free(struct scram_cache *cache)
{
	scram_cache_clear(cache);
	hmap_fini(&cache->secrets);
	free(cache);
}

/* A plain secret that is looked up costs each login of its user the making; who has none must not
 * be told by the time that is saved. */
static void do_the_work_of_others(const struct client_login *login, const struct scram_secret *mock)
{
	bool has_secret = login->entry && (login->entry->kind == PASSWORD_PLAIN ||
					   login->entry->kind == PASSWORD_SCRAM);
	struct scram_secret made;

	if (has_secret || !login->was_looked_up || login->usual != PASSWORD_PLAIN)
		return;
	scram_secret_make(SLICE("nobody's"), login->config->global.scram_iterations, mock->salt,
			  mock->salt_len, &made);
	mem_wipe(&made, sizeof(made));
}

/* Of a secret that is made here, or that nobody has: that looks as most others of its place. */
static uint32_t iterations_of(const struct client_login *login)
{
	bool is_plain = login->entry && login->entry->kind == PASSWORD_PLAIN;
	uint32_t usual = userlist_usual(login->config->userlist).iterations;

	return usual && !is_plain && !login->was_looked_up ? usual
							   : login->config->global.scram_iterations;
}

void proof_scram_secret(struct client *c, struct scram_secret *out)
{
	const struct config *config = c->login->config;
	const struct userlist_entry *entry = c->login->entry;
	struct scram_cache *cache = c->host->scram_cache;
	uint64_t hash = hash_bytes(&entry, sizeof(entry));
	/* What was looked up goes with this login, and its address may be another's then. */
	bool is_kept = entry && entry->kind == PASSWORD_PLAIN && entry != c->login->found;
	struct scram_cached *cached;

	if (is_kept)
		for (struct hlink *l = hmap_first(&cache->secrets, hash); l; l = hmap_next(l)) {
			cached = container_of(l, struct scram_cached, link);
			if (cached->entry == entry) {
				*out = cached->secret;
				return;
			}
		}
	password_scram_secret(entry, config->has_salt_key ? &config->salt_key : NULL,
			      slice_str(c->login->id.auth_user), iterations_of(c->login), out);
	do_the_work_of_others(c->login, out);
	if (!is_kept)
		return;
	cached = xnew(struct scram_cached);
	cached->entry = entry;
	cached->secret = *out;
	hmap_insert(&cache->secrets, &cached->link, hash);
}
