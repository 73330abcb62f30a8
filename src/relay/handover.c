/* SPDX-License-Identifier: ISC
 *
 * handover.c - server connections that go to another process, and that come from one.
 *
 * Only what nobody uses goes, and it goes as if it had just logged in: where it arrives, DISCARD
 * ALL ends what sessions have left there before anybody gets it.  So nothing of a session is told,
 * and what is told are names, not rights.  How the two processes talk is not known here.
 */
#include "base/mem.h"
#include "net/resolve.h"
#include "relay/parts.h"
#include "relay/relay.h"
#include "route/nodes.h"
#include "server/login.h"
#include "wire/passport.h"

#include <limits.h>
#include <string.h>

static struct server *server_at(struct list *at)
{
	return container_of(container_of(at, struct slot, link), struct server, slot);
}

/* ---- going ------------------------------------------------------------------------------------
 */

/* What a client has that never moves needs a server here, now and then. */
static bool stays(const struct client *c)
{
	return c->conn.tls || c->pins || c->rare->stays || c->rare->listening ||
	       c->group->replication || (c->keeps_sequence && c->sequence_server);
}

/* Nothing is under way on it, and nothing was read that is not handled. */
static bool is_at_rest(const struct server *s)
{
	return !s->client && !s->cancel && !s->replies.n && !s->question.done && s->tx == 'I' &&
	       !s->stream_left && !s->has_cut_request && conn_is_usual(&s->conn) && !s->conn.tls &&
	       !conn_input(&s->conn).n && !conn_unsent(&s->conn);
}

/* How many of the pool's servers those who stay can have: whoever has one now and goes as soon as
 * it comes free leaves none behind. */
static unsigned left_to_stayers(const struct pool *pool)
{
	unsigned n = pool->count[SLOT_IDLE];

	LIST_FOREACH (at, &pool->slots[SLOT_ACTIVE])
		n += server_at(at)->client && stays(server_at(at)->client);
	return n;
}

static bool may_go(const struct server *s)
{
	const struct group *group = s->pool->group;

	return is_at_rest(s) && !s->made_for && s->cancel_key_len && !attach_is_stale(s) &&
	       !server_is_elsewhere(s, s->node->host) && !sequence_is_kept(group, s);
}

static void write_passport(const struct server *s, struct buf *out)
{
	const struct group *group = s->pool->group;
	int64_t dflt = group->login_shared->default_timeout_ms;
	struct buf params = { 0 };
	struct server_passport p = {
		.database = group->name,
		.user = group->user,
		.tenant = tenant_name(group->tenant),
		.tenant_id = group->tenant ? group->tenant->business_id : "",
		.lane = s->pool->lane ? s->pool->lane->name : "",
		.host = supply_host(group, s->node),
		.port = s->node->port,
		.sslmode = (uint64_t)group->set.server_tls_sslmode,
		.startup = s->startup,
		.traits = s->caps_timeout ? SERVER_PASSPORT_CAPPED : 0,
		.default_timeout = dflt < 0 ? 0 : (uint64_t)dflt + 1,
		.made_at = (uint64_t)s->slot.made_at,
		.pid = s->pid,
		.secret = slice_of((const char *)s->cancel_key, s->cancel_key_len),
	};

	for (unsigned i = 0; i < s->params->n; i++)
		passport_put_pair(&params, s->params->items[i].name, s->params->items[i].value);
	p.params = buf_peek(&params);
	server_passport_put(out, &p);
	buf_fini(&params);
}

static void give(struct relay *r, struct server *s)
{
	struct buf passport = { 0 };

	write_passport(s, &passport);
	r->give->server(r->give_arg, server_give_away(s), &passport);
	buf_wipe(&passport);
}

/* Idle ones, the one used last first, so many at most, until those who stay have so many left. */
static void give_some(struct pool *pool, unsigned n, unsigned kept)
{
	struct group *group = pool->group;
	struct relay *r = group->owner;
	unsigned left;

	if (!r->give->server || group->replication || group->gone || pool_ready_waiters(pool) ||
	    list_is_empty(&pool->slots[SLOT_IDLE]))
		return;
	left = left_to_stayers(pool);
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_IDLE]) {
		if (!n || left <= kept)
			return;
		if (!may_go(server_at(at)))
			continue;
		give(r, server_at(at));
		left--;
		n--;
	}
}

/* Their share: more of them they open themselves, if they need them at one time. */
static void count_kept(struct group *group)
{
	unsigned nstayers = 0;

	LIST_FOREACH (at, &group->clients)
		nstayers += stays(container_of(at, struct client, link));
	GROUP_FOREACH_POOL (pool, group) {
		uint64_t all = (uint64_t)pool_size_ready(pool) * nstayers;

		pool->kept =
		    nstayers ? (unsigned)((all + group->nclients - 1) / group->nclients) : 0;
	}
}

void handover_begin(struct group *group)
{
	count_kept(group);
	GROUP_FOREACH_POOL (pool, group)
		give_some(pool, UINT_MAX, pool->kept);
}

void handover_go_along(struct group *group)
{
	GROUP_FOREACH_POOL (pool, group)
		give_some(pool, 1, pool->kept);
}

void handover_give_idle(struct group *group, unsigned most)
{
	GROUP_FOREACH_POOL (pool, group) {
		unsigned n = pool->count[SLOT_IDLE] + pool->count[SLOT_ACTIVE];

		give_some(pool, n > most ? n - most : 0, 0);
	}
}

/* ---- coming -----------------------------------------------------------------------------------
 */

/* Whether clients of this process would have it for that tenant (*conf, NULL: in the tier of those
 * that are not known, or none). */
static bool find_tenant(const struct config *config, const struct database_conf *database,
			const struct server_passport *p, const struct tenant_conf **conf)
{
	bool are_own = config->global.tenant_by.n &&
		       config_tenant_pool(config, database) != TENANT_POOL_SHARED;

	*conf = NULL;
	if (!*p->tenant || !are_own)
		return !*p->tenant && !are_own;
	*conf = config_tenant_by_name(config, slice_str(p->tenant));
	if (*conf)
		return !strcmp((*conf)->business_id, p->tenant_id);
	/* Whoever is looked up may be another one than it was. */
	return config->unknown_tenant_tier && !config_may_look_up(config) &&
	       !strcmp(p->tenant, p->tenant_id) &&
	       !config_tenant_by_business_id(config, slice_str(p->tenant));
}

static struct group *find_group(struct relay *r, const struct server_passport *p,
				const struct database_conf *database, unsigned part,
				struct node_set *nodes)
{
	const struct group_key key = { slice_str(p->database), slice_str(p->user),
				       slice_str(p->tenant), REPLICATION_NONE, part };
	const struct tenant_conf *conf;
	struct tenant *tenant = NULL;
	struct group *group;

	if ((*database->user && strcmp(database->user, p->user) != 0) ||
	    !find_tenant(r->config, database, p, &conf))
		return NULL;
	if (*p->tenant)
		tenant = tenant_get(&r->tenants, r->config, key.tenant, p->tenant_id, conf);
	group = relay_group(r, &key, database, tenant, nodes);
	tenant_unref(tenant);
	return group;
}

static struct pool *find_pool(struct group *group, const struct server_passport *p)
{
	struct lane *lane = *p->lane ? group_lane(group, slice_str(p->lane)) : NULL;

	for (unsigned i = 0; i < group->npools && (lane || !*p->lane); i++) {
		const struct node *node = &group->nodes->nodes[i];

		if (node->port == p->port && !strcmp(supply_host(group, node), p->host))
			return lane ? &lane->pools[i] : &group->pools[i];
	}
	return NULL;
}

/* What it has learned of it. */
static void read_passport(struct server *s, const struct server_passport *p)
{
	struct slice pairs = p->params;
	const char *name, *value;

	while (pairs.n && passport_next_pair(&pairs, &name, &value)) {
		struct param_set *next =
		    param_set_with(s->params, slice_str(name), slice_str(value));

		param_set_unref(s->params);
		s->params = next;
	}
	s->pid = (uint32_t)p->pid;
	s->cancel_key_len = (uint16_t)p->secret.n;
	memcpy(s->cancel_key, p->secret.p, p->secret.n);
	s->startup = p->startup;
	s->slot.made_at = (usec_t)p->made_at;
}

static void learn_default_timeout(struct shared *login, const struct server_passport *p, usec_t now)
{
	if (!p->default_timeout || login->default_timeout_ms >= 0)
		return;
	login->default_timeout_ms = (int64_t)p->default_timeout - 1;
	login->default_timeout_at = now;
}

/* Into a pool whose connections begin as it has begun.  False: it does not belong there, or there
 * is no room. */
static bool enter(struct pool *pool, const struct server_passport *p, int fd, usec_t now)
{
	struct server *s = server_new(pool, pool->group->net, &relay_server_events);
	struct buf options = { 0 };
	struct server_target target;
	bool ok;

	s->caps_timeout = p->traits & SERVER_PASSPORT_CAPPED;
	s->defaults = supply_defaults(pool->group);
	target = supply_target(pool, s->caps_timeout, &options);
	ok = login_digest(s, &target) == p->startup && pool_receive(pool, &s->slot, now);
	if (ok) {
		learn_default_timeout(pool->group->login_shared, p, now);
		(void)supply_must_cap(pool, now, &s->asks_default_timeout);
		read_passport(s, p);
		server_resume(s, &target, fd);
	} else {
		server_discard(s);
	}
	buf_fini(&options);
	return ok;
}

/* In the eyes of this process, which may know of a move that the other one does not. */
static bool is_where_its_name_leads(struct pool *pool, int fd)
{
	const struct group *group = pool->group;
	struct relay *r = group->owner;
	struct addr peer;

	conn_peer_of(fd, &peer);
	return resolve_leads_to(r->resolver, supply_host(group, &group->nodes->nodes[pool->node]),
				&peer);
}

/* Its session began behind whatever is known to have changed what sessions begin with. */
static bool begins_alike(const struct group *group, usec_t made_at)
{
	return made_at >= atomic_load(&group->login_shared->defaults_at) &&
	       made_at >= atomic_load(&group->nodes->cluster->defaults_at);
}

bool relay_take_server(struct relay *r, int fd, const struct server_passport *p, unsigned part,
		       struct node_set *nodes)
{
	const struct database_conf *database =
	    config_database_for(r->config, slice_str(p->database));
	struct group *group = find_group(r, p, database, part, nodes);
	struct pool *pool = group ? find_pool(group, p) : NULL;

	return pool && !group->database_shared->disabled && !attach_is_paused(pool) && !r->give &&
	       p->secret.n <= CANCEL_KEY_MAX && (usec_t)p->made_at >= r->reconnected_at &&
	       begins_alike(group, (usec_t)p->made_at) &&
	       p->sslmode == (uint64_t)group->set.server_tls_sslmode &&
	       is_where_its_name_leads(pool, fd) && enter(pool, p, fd, loop_now(r->net->loop));
}
