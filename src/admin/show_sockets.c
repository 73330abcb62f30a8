/* SPDX-License-Identifier: ISC
 *
 * show_sockets.c - SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS and FDS: one row a connection.
 *
 * No address in memory is shown: "ptr" and "link" carry the ids that the log has too.  No secret
 * either: cancel keys, passwords and SCRAM keys are NULL.
 */
#include "admin/parts.h"
#include "net/tls.h"
#include "relay/hub.h"
#include "relay/statement.h"
#include "worker/monitor.h"
#include "worker/notifier.h"
#include "worker/secret_source.h"
#include "worker/tenant_source.h"

#include <stdio.h>

#define SOCKET_COLUMNS(X)                                                                          \
	X(TEXT, FIRST, type, "C: client, S: server.")                                              \
	X(TEXT, FIRST, user, "User: a client's as it said it.")                                    \
	X(TEXT, FIRST, database, "Database, as clients say it.")                                   \
	X(TEXT, FIRST, replication, "What it replicates: none, physical, logical.")                \
	X(TEXT, FIRST, state, "What it is doing.")                                                 \
	X(TEXT, FIRST, addr, "Address of the other end, or unix.")                                 \
	X(INT, FIRST, port, "Port of it.")                                                         \
	X(TEXT, FIRST, local_addr, "Our address.")                                                 \
	X(INT, FIRST, local_port, "Our port.")                                                     \
	X(TIME, FIRST, connect_time, "When it was made.")                                          \
	X(TIME, FIRST, request_time,                                                               \
	  "When the last request came; of a server: when it was last given out.")                  \
	X(INT, FIRST, wait, "Seconds that a client has been waiting.")                             \
	X(INT, FIRST, wait_us, "Microseconds of it.")                                              \
	X(INT, FIRST, close_needed, "1: closed as soon as it is free (RECONNECT, RELOAD).")        \
	X(TEXT, FIRST, ptr, "Its id, as in the log: C-… or S-….")                                  \
	X(TEXT, FIRST, link, "The ptr of the server that a client has, or of the client.")         \
	X(INT, FIRST, remote_pid, "Process at the other end of a server; of a client: 0.")         \
	X(TEXT, FIRST, tls, "TLS version and cipher, or empty.")                                   \
	X(TEXT, FIRST, application_name, "application_name of the session.")                       \
	X(INT, FIRST, prepared_statements, "Prepared statements that it has.")                     \
	X(INT, FIRST, id, "Number, for KILL_CLIENT.")
LAYOUT_DEFINE(socket, SOCKET_COLUMNS);

#define BUFFER_COLUMNS(X)                                                                          \
	SOCKET_COLUMNS(X)                                                                          \
	X(INT, FIRST, recv_pos, "Bytes received and not yet handled.")                             \
	X(INT, FIRST, pkt_pos, "Always 0.")                                                        \
	X(INT, FIRST, pkt_remain, "Bytes of the message under way that are still to come.")        \
	X(INT, FIRST, send_pos, "Always 0.")                                                       \
	X(INT, FIRST, send_remain, "Bytes that the other end has not taken yet.")                  \
	X(INT, FIRST, pkt_avail, "As recv_pos.")                                                   \
	X(INT, FIRST, send_avail, "As send_remain.")
LAYOUT_DEFINE(buffer, BUFFER_COLUMNS);

#define FD_COLUMNS(X)                                                                              \
	X(INT, FIRST, fd, "File descriptor.")                                                      \
	X(TEXT, FIRST, task, "client or server.")                                                  \
	X(TEXT, FIRST, user, "User.")                                                              \
	X(TEXT, FIRST, database, "Database.")                                                      \
	X(TEXT, FIRST, addr, "Address of the other end.")                                          \
	X(INT, FIRST, port, "Port of it.")                                                         \
	X(BIGINT, FIRST, cancel, "Always NULL: a secret.")                                         \
	X(INT, FIRST, link, "Descriptor of the other side, or 0.")                                 \
	X(TEXT, FIRST, client_encoding, "As reported by the server.")                              \
	X(TEXT, FIRST, std_strings, "As reported by the server.")                                  \
	X(TEXT, FIRST, datestyle, "As reported by the server.")                                    \
	X(TEXT, FIRST, timezone, "As reported by the server.")                                     \
	X(TEXT, FIRST, password, "Always NULL: a secret.")                                         \
	X(BYTES, FIRST, scram_client_key, "Always NULL: a secret.")                                \
	X(BYTES, FIRST, scram_server_key, "Always NULL: a secret.")
LAYOUT_DEFINE(fd, FD_COLUMNS);

/* ---- one connection ---------------------------------------------------------------------------
 */

/* One client or server, whichever is not NULL, and the words for its state. */
struct subject {
	const struct client *client;
	const struct server *server;
	const struct conn *conn;
	const char *database;
	const char *user;
	const char *state;
	struct param_set *told;
};

/* A point of the monotonic clock as one since 1970. */
static int64_t wall_time(const struct conn *conn, usec_t at)
{
	return at ? clock_wall() - (loop_now(conn->net->loop) - at) : NUMBER_NULL;
}

static const char *parameter(const struct subject *s, const char *name)
{
	return s->told ? param_set_get(s->told, slice_str(name)) : NULL;
}

struct texts {
	char addr[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN], tls[96], ptr[32], link[32];
};

static void fill_ids(const struct subject *s, struct buffer_row *row, struct texts *texts)
{
	const struct client *c = s->client;
	const struct server *sv = s->server;

	texts->link[0] = '\0';
	if (c) {
		snprintf(texts->ptr, sizeof(texts->ptr), "C-%llu", (unsigned long long)c->id);
		if (c->server)
			snprintf(texts->link, sizeof(texts->link), "S-%llu",
				 (unsigned long long)c->server->id);
	} else {
		snprintf(texts->ptr, sizeof(texts->ptr), "S-%llu", (unsigned long long)sv->id);
		if (sv->client)
			snprintf(texts->link, sizeof(texts->link), "C-%llu",
				 (unsigned long long)sv->client->id);
	}
	row->ptr = texts->ptr;
	row->link = texts->link;
	row->id = (int64_t)(c ? c->id : sv->id);
}

static void fill_addresses(const struct conn *conn, struct buffer_row *row, struct texts *texts)
{
	struct addr local;

	addr_text(&conn->peer, texts->addr);
	conn_local_addr(conn, &local);
	addr_text(&local, texts->local);
	texts->tls[0] = '\0';
	if (conn->tls)
		tls_describe(conn->tls, texts->tls, sizeof(texts->tls));
	row->addr = texts->addr;
	row->port = conn->peer.port;
	row->local_addr = texts->local;
	row->local_port = local.port;
	row->tls = texts->tls;
}

static void fill_client(const struct client *c, struct buffer_row *row)
{
	usec_t wait = show_client_wait(c, loop_now(c->conn.net->loop));

	row->type = "C";
	row->connect_time = wall_time(&c->conn, c->connected_at);
	row->request_time = wall_time(&c->conn, c->request_at);
	row->wait = wait / USEC_PER_SEC;
	row->wait_us = wait % USEC_PER_SEC;
	row->prepared_statements = statement_count(c);
	row->pkt_remain = (int64_t)c->stream_left;
}

static void fill_server(const struct server *s, struct buffer_row *row)
{
	row->type = "S";
	row->connect_time = wall_time(&s->conn, s->slot.made_at);
	row->request_time = wall_time(&s->conn, s->request_at);
	row->close_needed = s->pool && s->slot.generation != s->pool->generation;
	row->remote_pid = (int32_t)s->pid;
	row->prepared_statements = (int64_t)s->statements.count;
	row->pkt_remain = (int64_t)s->stream_left;
}

static const char *replication_of(const struct subject *s)
{
	static const char *const words[REPLICATION_NKINDS] = { "none", "physical", "logical" };
	const struct group *group = NULL;

	if (s->client)
		group = s->client->group;
	else if (s->server->pool)
		group = s->server->pool->group;
	return words[group ? group->replication : REPLICATION_NONE];
}

static void socket_row(const struct subject *s, struct table *t)
{
	const char *application = parameter(s, "application_name");
	struct buffer_row row = { .user = s->user,
				  .database = s->database,
				  .replication = replication_of(s),
				  .state = s->state,
				  .application_name = application ? application : "",
				  .recv_pos = (int64_t)conn_kept(s->conn->in),
				  .send_remain = (int64_t)conn_unsent(s->conn) };
	struct texts texts;

	row.pkt_avail = row.recv_pos;
	row.send_avail = row.send_remain;
	fill_ids(s, &row, &texts);
	fill_addresses(s->conn, &row, &texts);
	if (s->client)
		fill_client(s->client, &row);
	else
		fill_server(s->server, &row);
	/* The columns of SHOW CLIENTS are the first ones of SHOW SOCKETS. */
	table_add(t, &row);
}

static void active_row(const struct subject *s, struct table *t)
{
	if (conn_kept(s->conn->in) || conn_unsent(s->conn))
		socket_row(s, t);
}

static void fd_row(const struct subject *s, struct table *t)
{
	char addr[INET6_ADDRSTRLEN];
	int link = 0;

	/* A TLS session cannot be handed over with its descriptor, so PgBouncer leaves it out. */
	if (s->conn->tls)
		return;
	if (s->client && s->client->server)
		link = s->client->server->conn.fd;
	else if (s->server && s->server->client)
		link = s->server->client->conn.fd;
	addr_text(&s->conn->peer, addr);
	table_add(t, &(struct fd_row){ .fd = s->conn->fd,
				       .task = s->client ? "client" : "server",
				       .user = s->user,
				       .database = s->database,
				       .addr = addr,
				       .port = s->conn->peer.port,
				       .cancel = NUMBER_NULL,
				       .link = link,
				       .client_encoding = parameter(s, "client_encoding"),
				       .std_strings = parameter(s, "standard_conforming_strings"),
				       .datestyle = parameter(s, "DateStyle"),
				       .timezone = parameter(s, "TimeZone") });
}

/* ---- all connections --------------------------------------------------------------------------
 */

typedef void row_fn(const struct subject *s, struct table *t);

/* What CLIENTS and SERVERS say, and what SOCKETS says. */
static const char *const doing_words[] = {
	[CLIENT_IS_IDLE] = "idle", [CLIENT_IS_ACTIVE] = "active", [CLIENT_IS_WAITING] = "waiting"
};
static const char *const doing_socket_words[] = { [CLIENT_IS_IDLE] = "cl_active",
						  [CLIENT_IS_ACTIVE] = "cl_active",
						  [CLIENT_IS_WAITING] = "cl_waiting" };
static const char *const slot_words[SLOT_NSTATES] = { [SLOT_LOGIN] = "new",
						      [SLOT_IDLE] = "idle",
						      [SLOT_ACTIVE] = "active",
						      [SLOT_TESTED] = "tested",
						      [SLOT_CANCELED] = "being_canceled",
						      [SLOT_CLOSING] = "closing" };
static const char *const slot_socket_words[SLOT_NSTATES] = {
	[SLOT_LOGIN] = "sv_login",   [SLOT_IDLE] = "sv_idle",         [SLOT_ACTIVE] = "sv_active",
	[SLOT_TESTED] = "sv_tested", [SLOT_CANCELED] = "sv_canceled", [SLOT_CLOSING] = "sv_closing"
};

static void one_client(const struct client *c, const char *database, const char *state, row_fn *add,
		       struct table *t)
{
	struct subject s = { .client = c,
			     .conn = &c->conn,
			     .database = database,
			     .user = c->user ? c->user : "(nouser)",
			     .state = state,
			     .told = c->told };

	add(&s, t);
}

static void group_clients(struct group *group, const char *const *words, row_fn *add,
			  struct table *t)
{
	LIST_FOREACH (at, &group->clients) {
		const struct client *c = container_of(at, struct client, link);

		one_client(c, group->name, words[show_client_doing(c)], add, t);
	}
}

static void pool_servers(struct pool *pool, const char *const *words, row_fn *add, struct table *t)
{
	for (unsigned state = 0; state < SLOT_CLOSED; state++)
		LIST_FOREACH (at, &pool->slots[state]) {
			const struct server *sv = container_of(at, struct server, slot.link);
			struct subject s = { .server = sv,
					     .conn = &sv->conn,
					     .database = pool->group->name,
					     .user = pool->group->user,
					     .state = words[state],
					     .told = sv->params };

			add(&s, t);
		}
}

static void group_servers(struct group *group, const char *const *words, row_fn *add,
			  struct table *t)
{
	GROUP_FOREACH_POOL (pool, group)
		pool_servers(pool, words, add, t);
	if (group->hub)
		pool_servers(&group->hub->pool, words, add, t);
}

static void newcomers(const struct client_host *host, row_fn *add, struct table *t)
{
	LIST_FOREACH (at, &host->newcomers)
		one_client(container_of(at, struct client, link), "(nodb)", "cl_login", add, t);
}

static void console_clients(struct control *c, const char *state, row_fn *add, struct table *t)
{
	LIST_FOREACH (at, &c->console->sessions)
		one_client(container_of(at, struct session, link)->client, CONSOLE_NAME, state, add,
			   t);
}

/* ---- SHOW CLIENTS and SERVERS -----------------------------------------------------------------
 */

static void clients_of(struct group *group, struct table *t)
{
	group_clients(group, doing_words, socket_row, t);
}

static void clients_visit(struct worker *w, struct table *t)
{
	show_each_group(w, clients_of, t);
}

static void clients_local(struct control *c, struct table *t)
{
	console_clients(c, "active", socket_row, t);
}

const struct show show_clients = { .shown = &socket_layout,
				   .visit = clients_visit,
				   .local = clients_local };

static void servers_of(struct group *group, struct table *t)
{
	group_servers(group, slot_words, socket_row, t);
}

static void servers_visit(struct worker *w, struct table *t)
{
	show_each_group(w, servers_of, t);
}

static void monitor_server(void *arg, struct server *sv, const char *database, const char *user)
{
	struct subject s = { .server = sv,
			     .conn = &sv->conn,
			     .database = database,
			     .user = user,
			     .state = sv->question.done ? "active" : "idle",
			     .told = sv->params };

	socket_row(&s, arg);
}

static void servers_local(struct control *c, struct table *t)
{
	if (c->monitor)
		monitor_visit(c->monitor, monitor_server, t);
	if (c->tenant_source)
		tenant_source_visit(c->tenant_source, monitor_server, t);
	if (c->secret_source)
		secret_source_visit(c->secret_source, monitor_server, t);
	if (c->notifier)
		notifier_visit(c->notifier, monitor_server, t);
}

const struct show show_servers = { .shown = &socket_layout,
				   .visit = servers_visit,
				   .local = servers_local };

/* ---- SHOW SOCKETS, ACTIVE_SOCKETS, FDS ---------------------------------------------------------
 */

#define SOCKETS_VISIT(name, add)                                                                   \
	static void name##_of(struct group *group, struct table *t)                                \
	{                                                                                          \
		group_clients(group, doing_socket_words, add, t);                                  \
		group_servers(group, slot_socket_words, add, t);                                   \
	}                                                                                          \
	static void name##_visit(struct worker *w, struct table *t)                                \
	{                                                                                          \
		show_each_group(w, name##_of, t);                                                  \
		newcomers(&w->host, add, t);                                                       \
	}                                                                                          \
	static void name##_local(struct control *c, struct table *t)                               \
	{                                                                                          \
		console_clients(c, "cl_active", add, t);                                           \
		newcomers(&c->host, add, t);                                                       \
	}

SOCKETS_VISIT(sockets, socket_row)
SOCKETS_VISIT(active_sockets, active_row)
SOCKETS_VISIT(fds, fd_row)

const struct show show_sockets = { .shown = &buffer_layout,
				   .visit = sockets_visit,
				   .local = sockets_local };
const struct show show_active_sockets = { .shown = &buffer_layout,
					  .visit = active_sockets_visit,
					  .local = active_sockets_local };
const struct show show_fds = { .shown = &fd_layout, .visit = fds_visit, .local = fds_local };
