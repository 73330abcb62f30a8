/* SPDX-License-Identifier: ISC
 *
 * session.c - the conversation with one client of the console, by the simple or extended protocol.
 *
 * Knows messages; commands are run by act.c, tables are made by show.c.  One command is under way
 * at a time and nothing further is read until its answer is sent, so a PAUSE that waits holds up
 * its own connection only.  Output is bounded: rows go out as fast as the client reads, and what
 * waits is the table itself, about 300 bytes for each row; those of SHOW TENANTS are made as they
 * go.
 *
 * Source: PostgreSQL manual, "Message Flow: Simple Query", "Extended Query".
 */
#include "admin/parts.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <limits.h>
#include <stdlib.h>

/* The longest message that is read, and what may wait behind a command under way. */
#define MESSAGE_MAX 65536
/* Output that may wait before no more rows are added. */
#define UNSENT_MAX 65536
/* Of one client.  A portal keeps its table until the next Sync, hence so few. */
#define STATEMENTS_MAX 128
#define PORTALS_MAX    8

struct prepared {
	struct list link; /* of session.statements */
	char *name;
	struct command cmd;
};

static struct buf *out_of(const struct session *s)
{
	return conn_output(&s->client->conn);
}

/* ---- named things -----------------------------------------------------------------------------
 */

static struct prepared *find_prepared(const struct session *s, struct slice name)
{
	LIST_FOREACH (at, &s->statements) {
		struct prepared *p = container_of(at, struct prepared, link);

		if (slice_is_equal(slice_str(p->name), name))
			return p;
	}
	return NULL;
}

static struct portal *find_portal(const struct session *s, struct slice name)
{
	LIST_FOREACH (at, &s->portals) {
		struct portal *p = container_of(at, struct portal, link);

		if (slice_is_equal(slice_str(p->name), name))
			return p;
	}
	return NULL;
}

static void forget_rows(struct portal *p)
{
	table_fini(&p->rows);
	show_rest_fini(&p->rest);
	p->next = 0;
}

/* What a SET says may be secret, hence the wiping. */
static void close_prepared(struct session *s, struct prepared *p)
{
	list_del(&p->link);
	s->nstatements--;
	free(p->name);
	mem_wipe(p, sizeof(*p));
	free(p);
}

static void close_portal(struct session *s, struct portal *p)
{
	list_del(&p->link);
	s->nportals--;
	forget_rows(p);
	free(p->name);
	mem_wipe(p, sizeof(*p));
	free(p);
}

static void close_portals(struct session *s)
{
	while (!list_is_empty(&s->portals))
		close_portal(s, container_of(list_first(&s->portals), struct portal, link));
}

/* ---- answers ----------------------------------------------------------------------------------
 */

/* The command under way is answered: what the client has sent meanwhile has its turn. */
static void finish(struct session *s)
{
	s->portal = NULL;
	s->sends_rows = false;
	s->forget = NULL;
	if (s->is_simple) {
		forget_rows(&s->simple);
		msg_put_ready(out_of(s), 'I');
	}
	conn_resume(&s->client->conn);
	if (conn_input(&s->client->conn).n)
		conn_kick(&s->client->conn);
}

static void log_session(const struct session *s, enum log_level level, const char *text)
{
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(s->client, address);

	log_about(level, &about, "%s", text);
}

void session_complete(struct session *s, const char *tag)
{
	msg_put_command_complete(out_of(s), tag);
	if (s->portal)
		events_note_command(s, &s->portal->cmd);
	finish(s);
}

static void answer_error(struct session *s, const struct err *e)
{
	msg_put_error(out_of(s), "ERROR", e);
	s->skips_to_sync = !s->is_simple;
	finish(s);
}

void session_fail(struct session *s, const struct err *e)
{
	if (s->console->control->config->global.log_pooler_errors)
		log_session(s, LOG_LEVEL_WARNING, e->text);
	answer_error(s, e);
}

void session_wait(struct session *s, void (*forget)(void *arg), void *arg)
{
	s->forget = forget;
	s->forget_arg = arg;
}

/* A command that makes no sense is quoted in its error, which may hold a password and is not logged
 * (I9). */
static void refuse_command(struct session *s, bool is_simple, const struct err *e)
{
	s->is_simple = is_simple;
	answer_error(s, e);
}

/* An error in a message, while no command is under way. */
static void refuse(struct session *s, bool is_simple, const struct err *e)
{
	s->is_simple = is_simple;
	session_fail(s, e);
}

static void refuse_text(struct session *s, bool is_simple, const char *sqlstate, const char *text)
{
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	refuse(s, is_simple, &e);
}

/* Whether there is one to be sent. */
static bool has_row(struct session *s)
{
	struct portal *p = s->portal;

	return show_rest_has_row(s->console->control, &p->rest, &p->rows, &p->next);
}

/* Sends rows until there are no more, or the client does not keep up: drained() goes on then. */
static void send_rows(struct session *s)
{
	struct portal *p = s->portal;
	struct conn *conn = &s->client->conn;

	while (p->wanted && has_row(s)) {
		if (conn_unsent(conn) < UNSENT_MAX) {
			table_put_row(&p->rows, p->next++, p->formats, conn_output(conn));
			p->wanted--;
			continue;
		}
		net_flush(conn->net);
		if (conn_unsent(conn))
			return;
	}
	if (has_row(s)) {
		msg_put_empty(out_of(s), MSG_PORTAL_SUSPENDED);
		finish(s);
	} else {
		session_complete(s, "SHOW");
	}
}

static const struct show *show_of(const struct command *cmd)
{
	if (cmd->fake >= 0 && cmd->id != COMMAND_set)
		return &fake_shows[cmd->fake];
	if (cmd->show < 0)
		return NULL;
	return cmd->has_old_columns && shows[cmd->show]->older ? shows[cmd->show]->older
							       : shows[cmd->show];
}

/* Which columns a table has is decided here, so that a RELOAD does not come between its
 * description and its rows. */
static bool read_command(const struct session *s, struct slice text, struct command *cmd,
			 struct err *e)
{
	if (!command_parse(text, cmd, e))
		return false;
	cmd->has_old_columns = s->console->control->config->global.console_old_columns;
	return true;
}

/* ---- running a command ------------------------------------------------------------------------
 */

static void send_table(struct session *s, unsigned max_rows)
{
	s->portal->wanted = max_rows ? max_rows : UINT_MAX;
	s->sends_rows = true;
	send_rows(s);
}

/* What a SHOW that is being made needs to find its way back. */
struct pending {
	struct session *session; /* NULL: it is gone */
	unsigned max_rows;
};

static void forget_pending(void *arg)
{
	((struct pending *)arg)->session = NULL;
}

static void on_shown(struct control *c, struct table *t, void *arg)
{
	struct pending *pending = arg;
	struct session *s = pending->session;
	const struct show *show;
	unsigned max_rows = pending->max_rows;

	free(pending);
	if (!s) {
		table_fini(t);
		return;
	}
	s->forget = NULL;
	show = show_of(&s->portal->cmd);
	if (show->arrange)
		show->arrange(&s->portal->cmd, t);
	if (s->is_simple)
		layout_put_description(show->shown, FORMATS_TEXT, out_of(s));
	if (show->more) {
		table_init(&s->portal->rows, show->shown);
		s->portal->rest = show_rest_of(c, show, t);
	} else {
		s->portal->rows = *t;
	}
	send_table(s, max_rows);
}

static void run_show(struct session *s, const struct show *show, unsigned max_rows)
{
	struct pending *pending;
	struct err e;

	if (!show->shown) {
		help_put_notice(out_of(s), s->portal->cmd.value);
		session_complete(s, "SHOW");
		return;
	}
	pending = xnew(struct pending);
	*pending = (struct pending){ s, max_rows };
	session_wait(s, forget_pending, pending);
	if (!show->ask) {
		show_run(s->console->control, show, on_shown, pending);
	} else if (!show->ask(s->console->control, &s->portal->cmd, on_shown, pending, &e)) {
		free(pending);
		session_fail(s, &e);
	}
}

static void ignore_setting(struct session *s)
{
	struct err notice;

	err_set(&notice, "00000", "SET ignored");
	msg_put_notice(out_of(s), "NOTICE", &notice);
	session_complete(s, "SET");
}

static void run(struct session *s, struct portal *p, unsigned max_rows)
{
	const struct command *cmd = &p->cmd;
	const struct show *show = show_of(cmd);
	struct err e;

	s->portal = p;
	if (cmd->is_empty) {
		msg_put_empty(out_of(s), MSG_EMPTY_QUERY);
		finish(s);
		return;
	}
	/* The one check of access: commands.def says who may do what. */
	if (command_access(cmd) == ACCESS_ADMIN && !s->is_admin) {
		err_set(&e, "42501", "admin access needed");
		session_fail(s, &e);
		return;
	}
	s->console->counters.query_count++;
	s->console->counters.xact_count++;
	if (show) {
		run_show(s, show, max_rows);
		return;
	}
	if (cmd->fake >= 0) {
		ignore_setting(s);
		return;
	}
	log_info("C-%llu: %s: %s %s command issued", (unsigned long long)s->client->id,
		 s->client->user, command_specs[cmd->id].verb, cmd->word);
	command_handlers[cmd->id](s, cmd);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static void on_query(struct session *s, struct reader *r)
{
	struct slice text = read_cstr(r);
	struct err e;

	s->is_simple = true;
	if (!read_is_complete(r))
		refuse_text(s, true, "08P01", "invalid Query message");
	else if (!read_command(s, text, &s->simple.cmd, &e))
		refuse_command(s, true, &e);
	else
		run(s, &s->simple, 0);
}

static void refuse_more(struct session *s, const char *what)
{
	struct err e;

	err_set(&e, "53400", "too many %s on the admin console", what);
	refuse(s, false, &e);
}

static void on_parse(struct session *s, struct reader *r)
{
	struct slice name = read_cstr(r), text = read_cstr(r);
	struct prepared *old = find_prepared(s, name), *p;
	struct command cmd;
	struct err e;

	read_bytes(r, 4 * (size_t)read_u16(r));
	if (!read_is_complete(r)) {
		refuse_text(s, false, "08P01", "invalid Parse message");
		return;
	}
	if (old && name.n) {
		err_set(&e, "42P05", "prepared statement \"%.*s\" already exists", SLICE_FMT(name));
		refuse(s, false, &e);
		return;
	}
	if (!read_command(s, text, &cmd, &e)) {
		refuse_command(s, false, &e);
		return;
	}
	if (old)
		close_prepared(s, old);
	if (s->nstatements == STATEMENTS_MAX) {
		refuse_more(s, "prepared statements");
		return;
	}
	p = xnew(struct prepared);
	p->name = xmemdup0(name.p, name.n);
	p->cmd = cmd;
	list_push_back(&s->statements, &p->link);
	s->nstatements++;
	msg_put_empty(out_of(s), MSG_PARSE_COMPLETE);
}

static struct prepared *require_prepared(struct session *s, struct slice name)
{
	struct prepared *p = find_prepared(s, name);
	struct err e;

	if (p)
		return p;
	err_set(&e, "26000", "prepared statement \"%.*s\" does not exist", SLICE_FMT(name));
	refuse(s, false, &e);
	return NULL;
}

static struct portal *require_portal(struct session *s, struct slice name)
{
	struct portal *p = find_portal(s, name);
	struct err e;

	if (p)
		return p;
	err_set(&e, "34000", "portal \"%.*s\" does not exist", SLICE_FMT(name));
	refuse(s, false, &e);
	return NULL;
}

static void make_portal(struct session *s, struct slice name, const struct command *cmd,
			formats_t formats)
{
	struct portal *p = find_portal(s, name);

	if (p)
		close_portal(s, p);
	if (s->nportals == PORTALS_MAX) {
		refuse_more(s, "portals");
		return;
	}
	p = xnew(struct portal);
	p->name = xmemdup0(name.p, name.n);
	p->cmd = *cmd;
	p->formats = formats;
	list_push_back(&s->portals, &p->link);
	s->nportals++;
	msg_put_empty(out_of(s), MSG_BIND_COMPLETE);
}

/* Of the columns: none, one for all, or one for each.  False: other ones. */
static bool read_formats(struct reader *r, const struct command *cmd, formats_t *out)
{
	const struct show *show = show_of(cmd);
	unsigned columns = show && show->shown ? show->shown->n : 0, n = read_u16(r);
	bool is_known = n < 2 || n == columns;

	*out = FORMATS_TEXT;
	for (unsigned i = 0; i < n; i++) {
		uint16_t format = read_u16(r);

		is_known = is_known && format < 2;
		if (format && i < 64)
			*out |= n == 1 ? ~(formats_t)0 : (formats_t)1 << i;
	}
	return is_known;
}

static void on_bind(struct session *s, struct reader *r)
{
	struct slice portal = read_cstr(r), name = read_cstr(r);
	struct prepared *p;
	formats_t formats;
	uint16_t nvalues;

	read_bytes(r, 2 * (size_t)read_u16(r));
	nvalues = read_u16(r);
	if (nvalues) {
		refuse_text(s, false, "08P01", "commands of the console take no parameters");
		return;
	}
	p = require_prepared(s, name);
	if (!p)
		return;
	if (!read_formats(r, &p->cmd, &formats) || !read_is_complete(r))
		refuse_text(s, false, "08P01", "invalid Bind message");
	else
		make_portal(s, portal, &p->cmd, formats);
}

static void describe(struct session *s, const struct command *cmd, formats_t formats)
{
	const struct show *show = show_of(cmd);

	if (show && show->shown)
		layout_put_description(show->shown, formats, out_of(s));
	else
		msg_put_empty(out_of(s), MSG_NO_DATA);
}

static void on_describe(struct session *s, struct reader *r)
{
	uint8_t kind = read_u8(r);
	struct slice name = read_cstr(r);

	if (!read_is_complete(r) || (kind != 'S' && kind != 'P')) {
		refuse_text(s, false, "08P01", "invalid Describe message");
	} else if (kind == 'P') {
		struct portal *p = require_portal(s, name);

		if (p)
			describe(s, &p->cmd, p->formats);
	} else {
		struct prepared *p = require_prepared(s, name);
		size_t m;

		if (!p)
			return;
		m = msg_begin(out_of(s), MSG_PARAMETER_DESCRIPTION);
		buf_put_u16(out_of(s), 0);
		msg_end(out_of(s), m);
		describe(s, &p->cmd, FORMATS_TEXT);
	}
}

static void on_execute(struct session *s, struct reader *r)
{
	struct slice name = read_cstr(r);
	uint32_t max_rows = read_u32(r);
	struct portal *p;

	if (!read_is_complete(r)) {
		refuse_text(s, false, "08P01", "invalid Execute message");
		return;
	}
	p = require_portal(s, name);
	if (!p)
		return;
	s->is_simple = false;
	if (!p->rows.layout) {
		run(s, p, max_rows);
		return;
	}
	s->portal = p;
	send_table(s, max_rows);
}

static void on_close(struct session *s, struct reader *r)
{
	uint8_t kind = read_u8(r);
	struct slice name = read_cstr(r);

	if (!read_is_complete(r) || (kind != 'S' && kind != 'P')) {
		refuse_text(s, false, "08P01", "invalid Close message");
		return;
	}
	if (kind == 'S' && find_prepared(s, name))
		close_prepared(s, find_prepared(s, name));
	else if (kind == 'P' && find_portal(s, name))
		close_portal(s, find_portal(s, name));
	msg_put_empty(out_of(s), MSG_CLOSE_COMPLETE);
}

/* The implicit transaction ends, and portals with it. */
static void on_sync(struct session *s, struct reader *r PGT_UNUSED)
{
	s->skips_to_sync = false;
	close_portals(s);
	msg_put_ready(out_of(s), 'I');
}

static void on_flush(struct session *s PGT_UNUSED, struct reader *r PGT_UNUSED)
{
	/* Nothing is held back. */
}

static void on_function_call(struct session *s, struct reader *r PGT_UNUSED)
{
	refuse_text(s, true, "0A000", "function calls are not supported by the admin console");
}

static void on_terminate(struct session *s, struct reader *r PGT_UNUSED)
{
	client_close(s->client, NULL, "client close request");
}

/* Of a COPY that failed before it began; PostgreSQL ignores them too. */
static void on_copy(struct session *s PGT_UNUSED, struct reader *r PGT_UNUSED)
{
}

static const struct rule {
	uint8_t type;
	bool always; /* even when an extended message has failed */
	void (*handle)(struct session *s, struct reader *r);
} rules[] = {
	{MSG_QUERY,          false, on_query        },
	{ MSG_PARSE,         false, on_parse        },
	{ MSG_BIND,          false, on_bind         },
	{ MSG_DESCRIBE,      false, on_describe     },
	{ MSG_EXECUTE,       false, on_execute      },
	{ MSG_CLOSE,         false, on_close        },
	{ MSG_SYNC,          true,  on_sync         },
	{ MSG_FLUSH,         false, on_flush        },
	{ MSG_FUNCTION_CALL, false, on_function_call},
	{ MSG_TERMINATE,     true,  on_terminate    },
	{ MSG_COPY_DATA,     false, on_copy         },
	{ MSG_COPY_DONE,     false, on_copy         },
	{ MSG_COPY_FAIL,     false, on_copy         },
};

static const struct rule *find_rule(uint8_t type)
{
	for (size_t i = 0; i < PGT_NELEMS(rules); i++)
		if (rules[i].type == type)
			return &rules[i];
	return NULL;
}

static void protocol_error(struct session *s, const char *what)
{
	struct err e;

	err_set(&e, "08P01", "%s on the admin console", what);
	client_close(s->client, &e, e.text);
}

static void refuse_long(struct session *s, const struct frame *f)
{
	struct err e;

	s->skip = f->len;
	if (s->skips_to_sync)
		return;
	err_set(&e, "54000", "a message of %zu bytes is too long for the admin console", f->len);
	refuse(s, f->type == MSG_QUERY, &e);
}

/* True: a message, or a part of one that is skipped, was handled. */
static bool next_message(struct session *s)
{
	struct conn *conn = &s->client->conn;
	struct slice in = conn_input(conn);
	const struct rule *rule;
	struct reader body;
	struct frame f;

	if (s->skip) {
		size_t n = in.n < s->skip ? in.n : s->skip;

		conn_consume(conn, n);
		s->skip -= n;
		return n > 0;
	}
	switch (frame_peek(in.p, in.n, &f)) {
	case FRAME_PARTIAL:
		return false;
	case FRAME_INVALID:
		protocol_error(s, "invalid message length");
		return false;
	case FRAME_OK:
		break;
	}
	rule = find_rule(f.type);
	if (!rule) {
		protocol_error(s, "unexpected message");
		return false;
	}
	if (f.len > MESSAGE_MAX) {
		refuse_long(s, &f);
		return true;
	}
	if (!frame_is_whole(&f))
		return false;
	/* The bytes stay readable until this event ends. */
	conn_consume(conn, f.len);
	s->client->request_at = loop_now(conn->net->loop);
	body = reader_of(frame_body(&f));
	if (rule->always || !s->skips_to_sync)
		rule->handle(s, &body);
	return true;
}

static void on_readable(struct client *c)
{
	struct session *s;

	while ((s = c->rare->console) && !s->portal && next_message(s))
		;
	if ((s = c->rare->console) && s->portal && conn_input(&c->conn).n > MESSAGE_MAX)
		conn_pause(&c->conn);
}

static void on_drained(struct client *c)
{
	struct session *s = c->rare->console;

	if (s && s->sends_rows)
		send_rows(s);
}

static void on_leaving(struct client *c)
{
	struct session *s = c->rare->console;
	struct console *console = s->console;

	if (s->forget)
		s->forget(s->forget_arg);
	close_portals(s);
	while (!list_is_empty(&s->statements))
		close_prepared(s, container_of(list_first(&s->statements), struct prepared, link));
	forget_rows(&s->simple);
	list_del(&s->link);
	client_make_rare(c)->console = NULL;
	mem_wipe(s, sizeof(*s));
	free(s);
	if (--console->nsessions == 0)
		act_left_alone(console);
}

static const struct client_events session_events = { .readable = on_readable,
						     .drained = on_drained,
						     .leaving = on_leaving };

void session_start(struct console *console, struct client *c, bool is_admin)
{
	struct session *s = xnew(struct session);

	s->console = console;
	s->client = c;
	s->is_admin = is_admin;
	list_init(&s->statements);
	list_init(&s->portals);
	list_push_back(&console->sessions, &s->link);
	console->nsessions++;
	client_make_rare(c)->console = s;
	c->on = &session_events;
}
