/* SPDX-License-Identifier: ISC
 *
 * show_lists.c - SHOW LISTS and SHOW MEM: how many there are of what, and what they take.
 */
#include "admin/parts.h"
#include "relay/hub.h"

#define LIST_COLUMNS(X)                                                                            \
	X(TEXT, FIRST, list, "What is counted.")                                                   \
	X(INT, FIRST, items, "How many there are.")
LAYOUT_DEFINE(list, LIST_COLUMNS);

/* Gathered as one row, and shown as one row for each column but the first, in PgBouncer's order. */
#define COUNT_COLUMNS(X)                                                                           \
	X(INT, KEY, all, "Always 0, so that all rows are one.")                                    \
	X(INT, SUM, databases, "Databases of the configuration, and the console.")                 \
	X(INT, SUM, users, "Users of the configuration, and the console's.")                       \
	X(INT, SUM, peers, "Peers.")                                                               \
	X(INT, SUM, pools, "Pools: one for each database, user, tenant and node.")                 \
	X(INT, SUM, peer_pools, "The same.")                                                       \
	X(INT, SUM, free_clients, "Always 0: none are kept.")                                      \
	X(INT, SUM, used_clients, "Clients.")                                                      \
	X(INT, SUM, login_clients, "Clients that have not logged in yet.")                         \
	X(INT, SUM, free_servers, "Always 0: none are kept.")                                      \
	X(INT, SUM, used_servers, "Servers.")                                                      \
	X(INT, SUM, dns_names, "Always 0.")                                                        \
	X(INT, SUM, dns_zones, "Always 0.")                                                        \
	X(INT, SUM, dns_queries, "Always 0.")                                                      \
	X(INT, SUM, dns_pending, "Always 0.")
LAYOUT_DEFINE(count, COUNT_COLUMNS);

static void group_counts(struct group *group, struct table *t)
{
	struct count_row row = { .used_clients = group->nclients };

	GROUP_FOREACH_POOL (pool, group) {
		row.pools++;
		row.used_servers += pool_size(pool);
	}
	if (group->hub)
		row.used_servers += pool_size(&group->hub->pool);
	table_add(t, &row);
}

static void counts_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_counts, t);
	table_add(t, &(struct count_row){ .login_clients = w->host.nnewcomers });
}

static void counts_local(struct control *c, struct table *t)
{
	struct count_row row = { .databases = (int64_t)c->config->ndatabases + 1,
				 .users = (int64_t)c->config->nusers + 1,
				 .peers = (int64_t)c->config->npeers,
				 .peer_pools = (int64_t)c->config->npeers,
				 .used_clients = c->console->nsessions,
				 .login_clients = c->host.nnewcomers };

	table_add(t, &row);
}

static void counts_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			  struct table *shown)
{
	for (unsigned i = 1; i < count_layout.n; i++)
		table_add(shown, &(struct list_row){ .list = count_columns[i].name,
						     .items = table_number(gathered, 0, i) });
}

const struct show show_lists = { .shown = &list_layout,
				 .gathered = &count_layout,
				 .visit = counts_visit,
				 .local = counts_local,
				 .derive = counts_derive };

/* ---- memory -----------------------------------------------------------------------------------
 */

#define MEM_COLUMNS(X)                                                                             \
	X(TEXT, KEY, name, "What.")                                                                \
	X(INT, FIRST, size, "Bytes of one.")                                                       \
	X(INT, SUM, used, "How many there are.")                                                   \
	X(INT, SUM, free, "Always 0: none are kept.")                                              \
	X(INT, SUM, memtotal, "Bytes of all of them.")
LAYOUT_DEFINE(mem, MEM_COLUMNS);

static void add_mem(struct table *t, const char *name, size_t size, size_t used)
{
	table_add(t, &(struct mem_row){ .name = name,
					.size = (int64_t)size,
					.used = (int64_t)used,
					.memtotal = (int64_t)(size * used) });
}

static void group_mem(struct group *group, struct table *t)
{
	size_t servers = 0, pools = 0;

	GROUP_FOREACH_POOL (pool, group) {
		pools++;
		servers += pool_size(pool);
	}
	add_mem(t, "client_cache", sizeof(struct client), group->nclients);
	add_mem(t, "server_cache", sizeof(struct server), servers);
	add_mem(t, "pool_cache", sizeof(struct pool), pools);
	add_mem(t, "group_cache", sizeof(struct group), 1);
}

static void mem_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_mem, t);
	add_mem(t, "client_cache", sizeof(struct client), w->host.nnewcomers);
	add_mem(t, "iobuf_cache", NET_RECEIVE_MAX, 1);
	add_mem(t, "latency_cache", sizeof(struct latency_page), w->relay.latency_clock.npages);
}

static void mem_local(struct control *c, struct table *t)
{
	add_mem(t, "client_cache", sizeof(struct client), c->console->nsessions);
	add_mem(t, "iobuf_cache", NET_RECEIVE_MAX, 1);
}

const struct show show_mem = { .shown = &mem_layout, .visit = mem_visit, .local = mem_local };
