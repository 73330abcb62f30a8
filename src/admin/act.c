/* SPDX-License-Identifier: ISC
 *
 * act.c - commands that do something: PAUSE, KILL, RELOAD …
 *
 * A command that concerns sessions is an errand: each worker runs it on its own thread, and the
 * answer is sent when all have.  PAUSE and WAIT_CLOSE repeat theirs until no worker finds anything
 * left.  A client may leave while its errand is under way; the errand then ends by itself.
 *
 * PAUSE, KILL and DISABLE of databases are flags in a database's shared record, which the relay
 * obeys; the console holds the record as long as one is set.
 */
#include "admin/parts.h"
#include "base/log.h"
#include "base/mem.h"
#include "stats/event.h"
#include "tenant/shared.h"

#include <stdlib.h>

/* How often an errand that repeats is run. */
#define ERRAND_PERIOD (50 * USEC_PER_MSEC)

/* ---- errands ----------------------------------------------------------------------------------
 */

static const char *database_of(const struct errand *errand)
{
	return *errand->name ? errand->name : NULL;
}

static void errand_free(struct errand *errand)
{
	list_del(&errand->link);
	free(errand);
}

/* The client is gone: what workers are at is finished, what waits for its next turn is not. */
static void errand_forget(void *arg)
{
	struct errand *errand = arg;

	errand->session = NULL;
	if (!errand->is_out)
		errand_free(errand);
}

static void errand_finish(struct control *control, struct errand *errand, unsigned found)
{
	struct session *s = errand->session;
	const char *tag = errand->tag;
	struct err failure;

	if (errand->over)
		errand->over(control, errand);
	failure = errand->failure;
	if (errand->end == ERRAND_FINDS && !found)
		err_set(&failure, "42704", "client not found");
	errand_free(errand);
	if (!s)
		return;
	if (*failure.text)
		session_fail(s, &failure);
	else
		session_complete(s, tag);
}

static void on_errand_timer(struct loop_timer *timer);

static void wait_for_turn(struct console *console)
{
	if (console->errand_timer_runs)
		return;
	console->errand_timer_runs = true;
	loop_timer_start(console->control->loop, &console->errand_timer, ERRAND_PERIOD, 0,
			 on_errand_timer);
}

static void on_visit(struct worker *w, void *slot, void *arg)
{
	const struct errand *errand = arg;

	*(unsigned *)slot = errand->visit ? errand->visit(&w->relay, errand) : 0;
}

static void on_visited(struct control *c, void **slots, unsigned n, void *arg)
{
	struct errand *errand = arg;
	unsigned found = 0;

	errand->is_out = false;
	for (unsigned i = 0; i < n; i++)
		found += *(unsigned *)slots[i];
	if (errand->end == ERRAND_UNTIL_NONE && found && errand->session && !*errand->failure.text)
		wait_for_turn(c->console);
	else
		errand_finish(c, errand, found);
}

static void errand_go(struct control *c, struct errand *errand)
{
	errand->is_out = true;
	control_gather(c, sizeof(unsigned), on_visit, on_visited, errand);
}

static void on_errand_timer(struct loop_timer *timer)
{
	struct console *console = container_of(timer, struct console, errand_timer);

	console->errand_timer_runs = false;
	LIST_FOREACH_SAFE (at, &console->errands) {
		struct errand *errand = container_of(at, struct errand, link);

		if (!errand->is_out)
			errand_go(console->control, errand);
	}
}

/* s: who waits for the answer, or NULL. */
static struct errand *errand_new(struct console *console, struct session *s, const char *tag,
				 const char *database)
{
	struct errand *errand = xnew(struct errand);

	errand->session = s;
	errand->tag = tag;
	memcpy(errand->name, database, strlen(database) + 1);
	list_push_back(&console->errands, &errand->link);
	if (s)
		session_wait(s, errand_forget, errand);
	return errand;
}

struct errand *run_errand(struct console *console, struct session *s, const char *tag,
			  const char *database, enum errand_end end,
			  unsigned (*visit)(struct relay *r, const struct errand *errand))
{
	struct errand *errand = errand_new(console, s, tag, database);

	errand->end = end;
	errand->visit = visit;
	errand_go(console->control, errand);
	return errand; /* which cannot be over yet: done() is never called before this */
}

void answer_after_workers(struct session *s, const char *tag)
{
	run_errand(s->console, s, tag, "", ERRAND_ONCE, NULL);
}

/* ---- what workers do ---------------------------------------------------------------------------
 */

static unsigned visit_pause(struct relay *r, const struct errand *errand)
{
	relay_close_idle(r, database_of(errand));
	return relay_busy_servers(r, database_of(errand));
}

static unsigned visit_resume(struct relay *r, const struct errand *errand)
{
	relay_resume(r, database_of(errand));
	return 0;
}

static unsigned visit_reconnect(struct relay *r, const struct errand *errand)
{
	relay_reconnect(r, database_of(errand));
	return 0;
}

static unsigned visit_stale(struct relay *r, const struct errand *errand)
{
	return relay_stale_servers(r, database_of(errand));
}

static unsigned visit_kill(struct relay *r, const struct errand *errand)
{
	relay_kill(r, database_of(errand));
	return 0;
}

static unsigned visit_kill_client(struct relay *r, const struct errand *errand)
{
	return relay_kill_client(r, errand->client_id);
}

/* ---- flags of databases ------------------------------------------------------------------------
 */

struct hold {
	struct list link; /* of console.holds */
	struct shared *database;
};

static struct hold *find_hold(struct console *console, const char *name)
{
	LIST_FOREACH (at, &console->holds) {
		struct hold *hold = container_of(at, struct hold, link);

		if (!strcmp(hold->database->name, name))
			return hold;
	}
	return NULL;
}

static struct shared *hold(struct console *console, const char *name)
{
	struct hold *h = find_hold(console, name);

	if (!h) {
		h = xnew(struct hold);
		h->database = shared_get(SHARED_DATABASE, slice_str(name));
		list_push_back(&console->holds, &h->link);
	}
	return h->database;
}

/* Lets go of those that are neither paused nor disabled. */
static void release_holds(struct console *console)
{
	LIST_FOREACH_SAFE (at, &console->holds) {
		struct hold *h = container_of(at, struct hold, link);

		if (h->database->paused || h->database->disabled)
			continue;
		list_del(&h->link);
		shared_put(h->database);
		free(h);
	}
}

static bool is_any_paused(struct console *console)
{
	LIST_FOREACH (at, &console->holds)
		if (container_of(at, struct hold, link)->database->paused)
			return true;
	return false;
}

static void collect_name(void *arg, struct shared *s)
{
	buf_put_cstr(arg, s->name);
}

/* All that the configuration names, and all that are in use besides. */
static void pause_all(struct console *console)
{
	const struct config *config = console->control->config;
	struct buf names = { 0 };
	const char *name;

	for (size_t i = 0; i < config->ndatabases; i++)
		if (strcmp(config->databases[i]->name, "*"))
			hold(console, config->databases[i]->name)->paused = true;
	shared_visit(SHARED_DATABASE, collect_name, &names);
	name = buf_peek(&names).p;
	for (size_t left = buf_len(&names), n; left; left -= n, name += n) {
		n = strlen(name) + 1;
		hold(console, name)->paused = true;
	}
	buf_fini(&names);
}

void give_up_errands(struct console *console,
		     unsigned (*visit)(struct relay *r, const struct errand *errand),
		     const char *name)
{
	LIST_FOREACH_SAFE (at, &console->errands) {
		struct errand *errand = container_of(at, struct errand, link);

		if (errand->visit != visit || (*name && strcmp(errand->name, name)))
			continue;
		err_set(&errand->failure, "57014", "%s was ended by RESUME", errand->tag);
		if (!errand->is_out)
			errand_finish(console->control, errand, 0);
	}
}

static void resume(struct console *console, const char *database)
{
	LIST_FOREACH (at, &console->holds) {
		struct hold *h = container_of(at, struct hold, link);

		if (!*database || !strcmp(h->database->name, database))
			h->database->paused = false;
	}
	if (!*database)
		console->paused = false;
	release_holds(console);
	give_up_errands(console, visit_pause, database);
}

/* ---- the commands ------------------------------------------------------------------------------
 */

static void fail(struct session *s, const char *sqlstate, const char *text)
{
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	session_fail(s, &e);
}

static bool is_console_name(const char *name)
{
	return !strcmp(name, "pgbouncer") || !strcmp(name, "pgturnstile");
}

bool check_database(struct session *s, const char *name, const char *what)
{
	const struct config *config = s->console->control->config;
	struct err e;

	if (!*name)
		return true;
	if (is_console_name(name))
		err_set(&e, "0A000", "cannot %s admin db: %s", what, name);
	else if (!config_database(config, slice_str(name)) && !config_database_fallback(config))
		err_set(&e, "3D000", "no such database: %s", name);
	else
		return true;
	session_fail(s, &e);
	return false;
}

static bool check_not_held(struct session *s)
{
	if (!s->console->paused && !s->console->control->suspended)
		return true;
	fail(s, "55000", "already suspended/paused");
	return false;
}

static void command_set(struct session *s, const struct command *cmd)
{
	struct err e;

	if (cmd->owner == OWNER_TENANT)
		set_tenant(s, cmd);
	else if (cmd->owner == OWNER_NODE)
		set_node(s, cmd);
	else if (control_set(s->console->control, slice_str(cmd->word), cmd->value, &e))
		answer_after_workers(s, "SET");
	else
		session_fail(s, &e);
}

static void command_reload(struct session *s, const struct command *cmd PGT_UNUSED)
{
	struct err why, e;

	if (control_reload(s->console->control, &why)) {
		answer_after_workers(s, "RELOAD");
		return;
	}
	err_set(&e, "F0000", "RELOAD failed, see logs for additional details");
	err_hint(&e, "%.*s", (int)strcspn(why.text, "\n"), why.text);
	session_fail(s, &e);
}

static void command_pause(struct session *s, const struct command *cmd)
{
	struct console *console = s->console;

	if (cmd->owner == OWNER_TENANT) {
		pause_tenant(s, cmd);
		return;
	}
	if (!check_not_held(s) || !check_database(s, cmd->word, "pause"))
		return;
	if (*cmd->word) {
		hold(console, cmd->word)->paused = true;
	} else {
		console->paused = true;
		pause_all(console);
	}
	run_errand(console, s, "PAUSE", cmd->word, ERRAND_UNTIL_NONE, visit_pause);
}

static void command_resume(struct session *s, const struct command *cmd)
{
	struct console *console = s->console;
	struct hold *h = find_hold(console, cmd->word);
	bool was_switching;
	struct err e;

	if (cmd->owner == OWNER_TENANT) {
		resume_tenant(s, cmd);
		return;
	}
	if (!check_database(s, cmd->word, "resume"))
		return;
	was_switching = resume_switchover(console, cmd->word);
	if (*cmd->word && !(h && h->database->paused) && !was_switching) {
		err_set(&e, "55000", "database %s is not paused", cmd->word);
		session_fail(s, &e);
		return;
	}
	if (!*cmd->word && console->control->shutdown != SHUTDOWN_NOT) {
		fail(s, "57P01", "pooler is shutting down");
		return;
	}
	if (!*cmd->word && !console->control->suspended && !is_any_paused(console) &&
	    !was_switching) {
		fail(s, "55000", "pooler is not paused/suspended");
		return;
	}
	if (!*cmd->word && console->control->suspended)
		control_suspend(console->control, false);
	resume(console, cmd->word);
	run_errand(console, s, "RESUME", cmd->word, ERRAND_ONCE, visit_resume);
}

static void command_disable(struct session *s, const struct command *cmd)
{
	if (!check_database(s, cmd->word, "disable"))
		return;
	hold(s->console, cmd->word)->disabled = true;
	session_complete(s, "DISABLE");
}

static void command_enable(struct session *s, const struct command *cmd)
{
	struct hold *h;

	if (!check_database(s, cmd->word, "enable"))
		return;
	h = find_hold(s->console, cmd->word);
	if (h)
		h->database->disabled = false;
	release_holds(s->console);
	session_complete(s, "ENABLE");
}

static void command_reconnect(struct session *s, const struct command *cmd)
{
	if (check_database(s, cmd->word, "reconnect"))
		run_errand(s->console, s, "RECONNECT", cmd->word, ERRAND_ONCE, visit_reconnect);
}

static void command_wait_close(struct session *s, const struct command *cmd)
{
	if (check_database(s, cmd->word, "wait in"))
		run_errand(s->console, s, "WAIT_CLOSE", cmd->word, ERRAND_UNTIL_NONE, visit_stale);
}

static void command_kill(struct session *s, const struct command *cmd)
{
	if (cmd->owner == OWNER_TENANT) {
		kill_tenant(s, cmd);
		return;
	}
	if (!check_not_held(s) || !check_database(s, cmd->word, "kill"))
		return;
	if (*cmd->word)
		hold(s->console, cmd->word)->paused = true;
	else
		pause_all(s->console);
	run_errand(s->console, s, "KILL", cmd->word, ERRAND_ONCE, visit_kill);
}

/* A client of the console itself: true when it was one, which may be who asks. */
static bool kill_session(struct console *console, uint64_t id)
{
	static const struct err killed = { .sqlstate = "57P01", .text = "admin forced disconnect" };

	LIST_FOREACH_SAFE (at, &console->sessions) {
		struct session *s = container_of(at, struct session, link);

		if (s->client->id != id)
			continue;
		client_close(s->client, &killed, killed.text);
		return true;
	}
	return false;
}

static void command_kill_client(struct session *s, const struct command *cmd)
{
	struct console *console = s->console;
	struct errand *errand;
	char *end;
	uint64_t id = strtoull(cmd->word, &end, 10);

	if (!*cmd->word || *end) {
		fail(s, "22023", "invalid client pointer supplied");
		return;
	}
	if (id == s->client->id) {
		kill_session(console, id);
		return;
	}
	if (kill_session(console, id)) {
		session_complete(s, "KILL_CLIENT");
		return;
	}
	errand = errand_new(console, s, "KILL_CLIENT", "");
	errand->end = ERRAND_FINDS;
	errand->visit = visit_kill_client;
	errand->client_id = id;
	errand_go(console->control, errand);
}

static void command_suspend(struct session *s, const struct command *cmd PGT_UNUSED)
{
	if (!check_not_held(s))
		return;
	if (is_any_paused(s->console)) {
		fail(s, "55000", "cannot suspend with paused databases");
		return;
	}
	control_suspend(s->console->control, true);
	answer_after_workers(s, "SUSPEND");
}

static void command_shutdown(struct session *s, const struct command *cmd)
{
	static const struct {
		const char *word;
		enum shutdown_mode mode;
	} modes[] = {
		{"",                  SHUTDOWN_NOW             },
		{ "WAIT_FOR_SERVERS", SHUTDOWN_WAIT_FOR_SERVERS},
		{ "WAIT_FOR_CLIENTS", SHUTDOWN_WAIT_FOR_CLIENTS},
	};
	struct control *control = s->console->control;

	for (size_t i = 0; i < PGT_NELEMS(modes); i++) {
		if (strcasecmp(cmd->word, modes[i].word))
			continue;
		/* As PgBouncer: an immediate end answers by hanging up. */
		if (modes[i].mode != SHUTDOWN_NOW)
			session_complete(s, "SHUTDOWN");
		control_shutdown(control, modes[i].mode);
		return;
	}
	fail(s, "08P01", "invalid shutdown mode, use WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS");
}

/* A command that has been answered cannot be taken back, and the state says that none is open. */
static void command_begin(struct session *s, const struct command *cmd PGT_UNUSED)
{
	session_complete(s, "BEGIN");
}

static void command_commit(struct session *s, const struct command *cmd PGT_UNUSED)
{
	session_complete(s, "COMMIT");
}

static void command_rollback(struct session *s, const struct command *cmd PGT_UNUSED)
{
	session_complete(s, "ROLLBACK");
}

/* Handled where rows are sent. */
#define command_show   NULL
#define command_select NULL

command_fn *const command_handlers[NCOMMANDS] = {
#define X(name, ...) command_##name,
	COMMANDS(X)
#undef X
};

/* ---- what is asked for by others ----------------------------------------------------------------
 */

void console_pause(struct control *control)
{
	struct console *console = control->console;

	if (console->paused || control->suspended) {
		log_info("already suspended/paused");
		return;
	}
	event_say(EVENT_pause, &(struct log_about){ 0 }, "PAUSE, by a signal");
	console->paused = true;
	pause_all(console);
	run_errand(console, NULL, "PAUSE", "", ERRAND_ONCE, visit_pause);
}

void console_resume(struct control *control)
{
	struct console *console = control->console;

	if (control->suspended)
		control_suspend(control, false);
	event_say(EVENT_resume, &(struct log_about){ 0 }, "RESUME, by a signal");
	resume(console, "");
	run_errand(console, NULL, "RESUME", "", ERRAND_ONCE, visit_resume);
}

void act_left_alone(struct console *console)
{
	/* Nobody could log in any more to end it. */
	if (!console->control->suspended || console->control->shutdown != SHUTDOWN_NOT)
		return;
	event_say(EVENT_resume, &(struct log_about){ 0 },
		  "admin disappeared when suspended, doing RESUME");
	control_suspend(console->control, false);
}

void act_stop(struct console *console)
{
	if (console->errand_timer_runs)
		loop_timer_stop(console->control->loop, &console->errand_timer);
	while (!list_is_empty(&console->errands))
		errand_free(container_of(list_first(&console->errands), struct errand, link));
	LIST_FOREACH_SAFE (at, &console->holds) {
		struct hold *h = container_of(at, struct hold, link);

		list_del(&h->link);
		shared_put(h->database);
		free(h);
	}
}
