/* SPDX-License-Identifier: ISC
 *
 * show_pools.c - SHOW POOLS and SHOW PEER_POOLS.
 *
 * A row is a database and a user; the groups of tenants and the pools of nodes are summed.
 */
#include "admin/parts.h"
#include "worker/peers.h"

#define POOL_COLUMNS(X)                                                                            \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, user, "User on the server.")                                                  \
	X(INT, SUM, cl_active, "Clients that do not wait: with a server, or without a request.")   \
	X(INT, SUM, cl_waiting, "Clients that wait for a server or for their rate limit.")         \
	X(INT, SUM, cl_active_cancel_req, "Always 0: cancel requests need no pool.")               \
	X(INT, SUM, cl_waiting_cancel_req, "Always 0.")                                            \
	X(INT, SUM, sv_active, "Servers that a client has.")                                       \
	X(INT, SUM, sv_active_cancel, "Always 0.")                                                 \
	X(INT, SUM, sv_being_canceled, "Servers that a cancel request may still hit.")             \
	X(INT, SUM, sv_idle, "Servers ready to be given out.")                                     \
	X(INT, SUM, sv_used, "Always 0: one idle for `server_check_delay` is still idle here.")    \
	X(INT, SUM, sv_tested, "Servers that are being reset or checked.")                         \
	X(INT, SUM, sv_login, "Servers that are logging in.")                                      \
	X(INT, MAX, maxwait, "Seconds that the first client in the queue has waited.")             \
	X(INT, MAX, maxwait_us, "Microseconds of it.")                                             \
	X(TEXT, FIRST, pool_mode, "Pool mode.")                                                    \
	X(TEXT, FIRST, load_balance_hosts, "Of a database with several hosts.")
LAYOUT_DEFINE(pool, POOL_COLUMNS);

/* As for the clients that do not replicate, who share the row. */
static const char *pool_mode_of(const struct group *group, struct buf *room)
{
	struct settings set;

	if (!group->replication)
		return show_setting(SETTING_pool_mode, &group->set, room);
	settings_resolve(group->config, group->database_conf,
			 config_user(group->config, slice_str(group->user)), NULL, NULL, &set);
	return show_setting(SETTING_pool_mode, &set, room);
}

/* The wait travels as microseconds in maxwait_us, so that its greatest can be found; split_wait()
 * makes the two columns of it. */
static void group_row(struct group *group, struct table *t)
{
	usec_t now = loop_now(group->net->loop), maxwait = 0;
	struct buf mode = { 0 }, balance = { 0 };
	struct pool_row row = { .database = group->name, .user = group->user };

	LIST_FOREACH (at, &group->clients) {
		const struct client *c = container_of(at, struct client, link);
		usec_t wait = show_client_wait(c, now);

		if (show_client_doing(c) == CLIENT_IS_WAITING)
			row.cl_waiting++;
		else
			row.cl_active++;
		maxwait = wait > maxwait ? wait : maxwait;
	}
	GROUP_FOREACH_POOL (pool, group) {
		const unsigned *count = pool->count;

		row.sv_active += count[SLOT_ACTIVE];
		row.sv_being_canceled += count[SLOT_CANCELED];
		row.sv_idle += count[SLOT_IDLE];
		row.sv_tested += count[SLOT_TESTED];
		row.sv_login += count[SLOT_LOGIN];
	}
	row.maxwait_us = maxwait;
	row.pool_mode = pool_mode_of(group, &mode);
	if (group->npools > 1)
		row.load_balance_hosts =
		    show_setting(SETTING_load_balance_hosts, &group->set, &balance);
	table_add(t, &row);
	buf_fini(&mode);
	buf_fini(&balance);
}

static void pools_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_row, t);
}

static void pools_local(struct control *c, struct table *t)
{
	table_add(t, &(struct pool_row){ .database = CONSOLE_NAME,
					 .user = CONSOLE_NAME,
					 .cl_active = c->console->nsessions,
					 .pool_mode = "statement" });
}

static unsigned column_of(const struct layout *layout, const char *name)
{
	unsigned i = 0;

	while (strcmp(layout->columns[i].name, name))
		i++;
	return i;
}

static void split_wait(struct control *c PGT_UNUSED, const struct table *gathered,
		       struct table *shown)
{
	unsigned seconds = column_of(&pool_layout, "maxwait"), usecs = seconds + 1;

	table_absorb(shown, gathered);
	for (unsigned row = 0; row < shown->nrows; row++) {
		int64_t wait = table_number(shown, row, usecs);

		table_set_number(shown, row, seconds, wait / USEC_PER_SEC);
		table_set_number(shown, row, usecs, wait % USEC_PER_SEC);
	}
}

const struct show show_pools = {
	.shown = &pool_layout, .visit = pools_visit, .local = pools_local, .derive = split_wait
};

#define PEER_POOL_COLUMNS(X)                                                                       \
	X(INT, KEY, peer_id, "Number of the peer.")                                                \
	X(INT, SUM, cl_active_cancel_req, "Cancel requests on their way.")                         \
	X(INT, SUM, cl_waiting_cancel_req, "Cancel requests that wait.")                           \
	X(INT, SUM, sv_active_cancel, "Connections that carry one.")                               \
	X(INT, SUM, sv_login, "Connections being made.")
LAYOUT_DEFINE(peer_pool, PEER_POOL_COLUMNS);

static void add_peer_pool(void *arg, const struct peer_facts *facts)
{
	table_add(arg,
		  &(struct peer_pool_row){ .peer_id = facts->id,
					   .cl_active_cancel_req = facts->connecting + facts->sent,
					   .cl_waiting_cancel_req = facts->waiting,
					   .sv_active_cancel = facts->sent,
					   .sv_login = facts->connecting });
}

static void peer_pools_local(struct control *c, struct table *t)
{
	peers_each(c->peers, add_peer_pool, t);
}

const struct show show_peer_pools = { .shown = &peer_pool_layout, .local = peer_pools_local };
