/* SPDX-License-Identifier: ISC
 *
 * secret_source.c - the secrets of users that databases know.
 *
 * Knows which database knows a user, not how it is asked.
 */
#include "worker/secret_source.h"

#include "base/mem.h"
#include "net/tls.h"
#include "worker/secret_link.h"

#include <stdlib.h>

/* How often it looks whether something is overdue. */
#define LOOK_PERIOD (100 * USEC_PER_MSEC)
/* Who fails to prove itself with what was found longer ago is asked for again. */
#define DOUBT_AGE USEC_PER_SEC

/* Connections, and logins that may wait for all of them. */
#define LINKS_MAX  32
#define ASKERS_MAX 10000

static void on_look(struct loop_timer *timer)
{
	struct secret_source *ss = container_of(timer, struct secret_source, look);
	usec_t now = secret_source_now(ss);

	LIST_FOREACH_SAFE (at, &ss->links)
		secret_link_look(container_of(at, struct secret_link, link), now);
	net_flush(ss->net);
}

/* ---- where to ask -------------------------------------------------------------------------------
 */

static struct secret_link *find_link(const struct secret_source *ss, const char *name,
				     const struct settings *set)
{
	LIST_FOREACH (at, &ss->links) {
		struct secret_link *sl = container_of(at, struct secret_link, link);

		if (!strcmp(sl->name, name) && !strcmp(sl->settings.auth_user, set->auth_user) &&
		    !strcmp(sl->settings.auth_query, set->auth_query))
			return sl;
	}
	return NULL;
}

/* The one that nobody waits for and that was used longest ago makes room.  False: there is none. */
static bool make_room(struct secret_source *ss)
{
	if (ss->nlinks < LINKS_MAX)
		return true;
	for (struct list *at = ss->links.prev; at != &ss->links; at = at->prev) {
		struct secret_link *sl = container_of(at, struct secret_link, link);

		if (!sl->queue.nwaiting) {
			secret_link_free(sl);
			return true;
		}
	}
	return false;
}

static struct secret_link *add_link(struct secret_source *ss, const char *name,
				    const struct database_conf *database,
				    const struct settings *set)
{
	if (!make_room(ss))
		return NULL;
	if (!ss->nlinks)
		loop_timer_start(ss->net->loop, &ss->look, LOOK_PERIOD, LOOK_PERIOD, on_look);
	return secret_link_new(ss, name, database, set);
}

/* Where a user of a database is looked up, which may be there already; NULL: nowhere.  *is_full:
 * there is too much going on. */
static struct secret_link *link_for(struct secret_source *ss, struct slice name, bool *is_full)
{
	const struct database_conf *database = NULL;
	const char *asked;
	struct secret_link *sl;
	struct settings set;
	char *said;

	*is_full = false;
	if (name.n)
		database = config_database_for(ss->config, name);
	if (!config_asks_secrets(ss->config, database, &set))
		return NULL;
	said = xmemdup0(name.p, name.n);
	asked = *set.auth_dbname ? set.auth_dbname : said;
	database = *asked ? config_database_for(ss->config, slice_str(asked)) : NULL;
	sl = database ? find_link(ss, asked, &set) : NULL;
	if (database && !sl) {
		sl = add_link(ss, asked, database, &set);
		*is_full = !sl;
	}
	free(said);
	return sl;
}

/* ---- for those who ask ------------------------------------------------------------------------
 */

/* What is kept is told whoever else waits; only who has to wait too may be one too many. */
void secret_source_find(struct secret_source *ss, struct slice database, struct slice user,
			const struct lookup_asker *who)
{
	struct secret_found found = { .usual = ss->usual };
	bool is_full;
	struct secret_link *sl = link_for(ss, database, &is_full);
	struct err e;

	if (sl && user.n <= USERLIST_MAX_USER) {
		list_del(&sl->link);
		list_push_front(&ss->links, &sl->link);
		found.usual = sl->usual;
		if (!secret_cache_find(&sl->cache, user, secret_source_now(ss), &found.entry)) {
			is_full = !crowd_has_room(&ss->crowd.crowd, who->origin, ASKERS_MAX);
			if (!is_full) {
				secret_link_find(sl, user, who);
				return;
			}
		}
	}
	if (is_full) {
		secret_link_say_unavailable(&e);
		found.why_not = &e;
	}
	who->answer(who->arg, &found);
}

void *secret_source_withdraw(struct secret_source *ss, uint64_t id)
{
	return lookup_crowd_withdraw(&ss->crowd, id);
}

void secret_source_doubt(struct secret_source *ss, struct slice database, struct slice user)
{
	bool is_full;
	struct secret_link *sl = link_for(ss, database, &is_full);

	if (sl)
		secret_cache_forget(&sl->cache, user, secret_source_now(ss) - DOUBT_AGE);
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

struct secret_source *secret_source_new(struct net *net, struct mailbox *mailbox,
					struct resolver *resolver, const struct monitor *monitor)
{
	struct secret_source *ss = xnew(struct secret_source);

	*ss = (struct secret_source){ .net = net,
				      .mailbox = mailbox,
				      .resolver = resolver,
				      .monitor = monitor,
				      .usual = PASSWORD_SCRAM };
	list_init(&ss->links);
	return ss;
}

static void free_links(struct secret_source *ss)
{
	if (ss->nlinks)
		loop_timer_stop(ss->net->loop, &ss->look);
	LIST_FOREACH_SAFE (at, &ss->links)
		secret_link_free(container_of(at, struct secret_link, link));
}

static void let_go_of_config(struct secret_source *ss)
{
	config_unref(ss->config);
	tls_context_unref(ss->tls);
}

void secret_source_configure(struct secret_source *ss, struct config *config,
			     struct tls_context *server_tls)
{
	free_links(ss);
	let_go_of_config(ss);
	ss->config = config_ref(config);
	ss->tls = server_tls ? tls_context_ref(server_tls) : NULL;
}

void secret_source_free(struct secret_source *ss)
{
	free_links(ss);
	let_go_of_config(ss);
	lookup_crowd_fini(&ss->crowd);
	free(ss);
}

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

static struct secret_facts facts_of(const struct secret_link *sl)
{
	return (struct secret_facts){ .database = sl->name,
				      .user = sl->settings.auth_user,
				      .state = !sl->server     ? "not connected"
					       : !sl->is_ready ? "connects"
					       : sl->is_asking ? "looks up"
							       : "idle",
				      .error = *sl->failure ? sl->failure : NULL,
				      .cached = sl->cache.secrets.count,
				      .lookups = sl->nlookups,
				      .waiting = sl->queue.nwaiting };
}

void secret_source_each(const struct secret_source *ss,
			void (*visit)(void *arg, const struct secret_facts *facts), void *arg)
{
	LIST_FOREACH (at, &ss->links) {
		const struct secret_facts facts =
		    facts_of(container_of(at, struct secret_link, link));

		visit(arg, &facts);
	}
}

void secret_source_visit(const struct secret_source *ss, monitor_visit_fn *visit, void *arg)
{
	LIST_FOREACH (at, &ss->links) {
		const struct secret_link *sl = container_of(at, struct secret_link, link);

		if (sl->is_ready)
			visit(arg, sl->server, sl->name, sl->settings.auth_user);
	}
}
