/* SPDX-License-Identifier: ISC
 *
 * set_node.c - SET NODE host:port weight = N: what share of the reads a node gets, at run time.
 *
 * Of all databases that have the node.  Holds until the hosts of a database change, or a restart;
 * a RELOAD leaves it.  Knows names of nodes, not who reads from them.
 */
#include "admin/parts.h"
#include "config/types.h"
#include "route/nodes.h"
#include "worker/sets.h"

#include <stdio.h>
#include <stdlib.h>

/* Whether this is host:port, or the host alone. */
static bool is_meant(const struct node *node, const char *said)
{
	char name[COMMAND_MAX_WORD + 8];

	snprintf(name, sizeof(name), strchr(node->host, ':') ? "[%s]:%u" : "%s:%u", node->host,
		 node->port);
	return !strcmp(said, name) || !strcmp(said, node->host);
}

static unsigned weigh(struct node_set *set, const char *said, unsigned weight)
{
	unsigned found = 0;

	for (unsigned i = 0; i < set->n; i++) {
		if (!is_meant(&set->nodes[i], said))
			continue;
		node_weigh(set, i, weight);
		found++;
	}
	return found;
}

static unsigned weigh_all(struct control *c, const char *said, unsigned weight)
{
	unsigned n, found = 0;
	struct node_set **sets = node_sets_list(c->node_sets, &n);

	for (unsigned i = 0; i < n; i++) {
		found += weigh(sets[i], said, weight);
		node_set_unref(sets[i]);
	}
	free(sets);
	return found;
}

void set_node(struct session *s, const struct command *cmd)
{
	uint64_t weight;
	struct err e;

	if (strcasecmp(cmd->word, "weight") != 0)
		err_set(&e, "42704", "a node has no setting \"%s\": weight is one", cmd->word);
	else if (!number_parse(slice_str(cmd->value), NODE_WEIGHT_MAX, &weight))
		err_set(&e, "22023", "\"%s\" is not a weight from 0 to %u", cmd->value,
			NODE_WEIGHT_MAX);
	else if (!weigh_all(s->console->control, cmd->name, (unsigned)weight))
		err_set(&e, "42704", "no such node: %s, SHOW NODES tells which there are",
			cmd->name);
	else {
		session_complete(s, "SET");
		return;
	}
	session_fail(s, &e);
}
