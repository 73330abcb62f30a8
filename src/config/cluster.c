/* SPDX-License-Identifier: ISC
 *
 * cluster.c - which entries of [databases] are of the same servers, by what the file says of them.
 *
 * Two are when they have a host and port in common, or are both so with a third.  That one server
 * has two names is not seen here.
 */
#include "base/mem.h"
#include "config/build.h"

#include <stdlib.h>

struct server {
	struct hlink link;
	struct server *leader; /* of the same cluster, or on the way to it; NULL: it leads */
	bool has_replicas;     /* of who leads: somebody's list of its cluster has several nodes */
	const char *name;
};

static struct server *leader_of(struct server *s)
{
	while (s->leader)
		s = s->leader;
	return s;
}

static struct server *find_server(struct hmap *servers, struct config *c,
				  const struct node_conf *node)
{
	struct buf name = { 0 };
	struct server *s;
	uint64_t hash;

	buf_printf(&name, "%s:%u", node->host, node->port);
	hash = hash_bytes(buf_head(&name), buf_len(&name));
	s = CONFIG_FIND(servers, buf_peek(&name), struct server, link, name);
	if (!s) {
		s = xnew(struct server);
		s->name = config_string(c, buf_peek(&name));
		hmap_insert(servers, &s->link, hash);
	}
	buf_fini(&name);
	return s;
}

/* The same one leads whatever the order of the entries is. */
static void join(struct server *a, struct server *b)
{
	struct server *leader = leader_of(a), *other = leader_of(b), *first = leader;

	if (leader == other)
		return;
	if (strcmp(other->name, leader->name) < 0) {
		leader = other;
		other = first;
	}
	other->leader = leader;
	leader->has_replicas |= other->has_replicas;
}

static void join_nodes(struct hmap *servers, struct config *c, const struct database_conf *d)
{
	struct server *first = find_server(servers, c, &d->nodes[0]);

	for (size_t i = 1; i < d->nnodes; i++)
		join(first, find_server(servers, c, &d->nodes[i]));
	leader_of(first)->has_replicas |= d->nnodes > 1;
}

void config_find_clusters(struct config *c)
{
	struct hmap servers = { 0 };

	for (size_t i = 0; i < c->ndatabases; i++)
		if (c->databases[i]->nnodes)
			join_nodes(&servers, c, c->databases[i]);
	for (size_t i = 0; i < c->ndatabases; i++) {
		struct database_conf *d = c->databases[i];
		const struct server *leader =
		    d->nnodes ? leader_of(find_server(&servers, c, &d->nodes[0])) : NULL;

		d->cluster = leader ? leader->name : "";
		d->has_replicas = leader && leader->has_replicas;
	}
	HMAP_FOREACH_SAFE (l, &servers)
		free(container_of(l, struct server, link));
	hmap_fini(&servers);
}
