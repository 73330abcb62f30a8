/* SPDX-License-Identifier: ISC
 *
 * secret_link.c - one database that is asked for secrets of users, one question after the other.
 *
 * Knows when to ask and who waits for it, not what a client is told.  No secret and no text of a
 * server leaves it but for the answer and the log.
 */
#include "worker/secret_link.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "route/nodes.h"
#include "stats/event.h"

#include <stdio.h>
#include <stdlib.h>

#define APPLICATION_NAME "pgturnstile auth_query"

/* After a connection that failed. */
#define RETRY_PERIOD (500 * USEC_PER_MSEC)
/* An answer, or a connection, that takes longer has failed. */
#define ANSWER_MAX (5 * USEC_PER_SEC)
/* How long a login waits while nobody can be asked: a failover may be under way. */
#define PATIENCE (5 * USEC_PER_SEC)
/* A connection without questions is closed after this time, … */
#define IDLE_MAX (60 * USEC_PER_SEC)
/* … and one that leads to another node than the primary, or where its name does not any more,
 * behind the question under way, when it has served for so long: the primary may let nobody in. */
#define STRAY_MAX (5 * USEC_PER_SEC)
/* Between two failures that are said. */
#define QUIET_PERIOD (60 * USEC_PER_SEC)

/* Users that are kept. */
#define SECRETS_MAX 4096

/* Before the first lookup: what names mean is for nobody else to say. */
static const char pin_session[] = "SET search_path = pg_catalog";

/* Seconds until the password expires, whatever auth_query makes of that: NULL without a limit, or
 * where there is no such role. */
static const char seconds_left[] =
    "SELECT (SELECT extract(epoch FROM r.rolvaliduntil) OPERATOR(pg_catalog.-)"
    " extract(epoch FROM pg_catalog.now()) FROM pg_catalog.pg_roles AS r"
    " WHERE r.rolname OPERATOR(pg_catalog.=) $1)";

/* ---- those who wait ---------------------------------------------------------------------------
 */

/* The client learns no more than that. */
void secret_link_say_unavailable(struct err *e)
{
	err_set(e, "57P03", "authentication is not possible at the moment");
	err_hint(e, "Try again; the pooler's log says what is wrong.");
}

static void disappoint_asked(struct secret_link *sl)
{
	struct err e;

	secret_link_say_unavailable(&e);
	lookup_queue_answer(&sl->queue, &(struct secret_found){ .why_not = &e });
}

/* What is asked for now is what comes in answer. */
static void disappoint_those_who_waited(struct secret_link *sl, usec_t since)
{
	struct err e;

	secret_link_say_unavailable(&e);
	lookup_queue_dismiss(&sl->queue, since, &(struct secret_found){ .why_not = &e });
}

/* ---- failing ----------------------------------------------------------------------------------
 */

static struct log_about about(const struct secret_link *sl)
{
	return (struct log_about){ .database = sl->name, .user = sl->settings.auth_user };
}

/* Said once, until it is well again; a query that fails for some users only is not said with each
 * of them. */
static void fail(struct secret_link *sl, const char *why)
{
	const struct log_about who = about(sl);
	usec_t now = secret_source_now(sl->source);
	bool is_news = !*sl->failure && (!sl->said_at || now - sl->said_at >= QUIET_PERIOD);

	snprintf(sl->failure, sizeof(sl->failure), "%s", why);
	if (!is_news)
		return;
	sl->said_at = now;
	sl->was_said = true;
	event_say(EVENT_auth_query, &who, "auth_query as \"%s\" in database \"%s\": %s",
		  sl->settings.auth_user, sl->name, sl->failure);
}

static void recover(struct secret_link *sl)
{
	const struct log_about who = about(sl);

	if (sl->was_said)
		event_say(EVENT_auth_query_up, &who, "auth_query is answered again");
	sl->was_said = false;
	*sl->failure = '\0';
}

static void clear_finding(struct finding *f)
{
	buf_wipe(&f->secret);
	*f = (struct finding){ 0 };
}

static void drop_connection(struct secret_link *sl)
{
	struct server *s = sl->server;

	sl->server = NULL;
	sl->is_ready = sl->is_asking = false;
	clear_finding(&sl->finding);
	lookup_queue_put_back(&sl->queue);
	if (s)
		server_drop(s);
}

static void fail_connection(struct secret_link *sl, const char *why)
{
	drop_connection(sl);
	sl->failures++;
	sl->retry_at = secret_source_now(sl->source) + RETRY_PERIOD;
	fail(sl, why);
}

/* ---- one lookup -------------------------------------------------------------------------------
 */

static void go_on(struct secret_link *sl);

static void read_left_time(struct finding *f, struct slice text)
{
	char room[64] = "";

	f->verdicts++;
	if (!text.p || text.n >= sizeof(room))
		return;
	memcpy(room, text.p, text.n);
	f->left = strtod(room, NULL);
	f->has_limit = true;
}

/* Rows of auth_query have a name and a secret, those of seconds_left one column. */
static void on_row(struct server *s PGT_UNUSED, void *arg, const struct slice *columns, unsigned n)
{
	struct secret_link *sl = arg;
	struct finding *f = &sl->finding;

	if (n < 2) {
		read_left_time(f, n ? columns[0] : slice_of(NULL, 0));
		return;
	}
	if (f->rows++)
		return;
	f->is_another = !slice_is_equal(columns[0], slice_str(lookup_queue_name(&sl->queue)));
	f->has_secret = columns[1].p != NULL;
	/* Never moved, so that wiping it once is enough. */
	buf_reserve(&f->secret, columns[1].n + 1);
	buf_put_slice(&f->secret, columns[1]);
}

/* False: what came is no answer, and why stands in *why. */
static bool is_good(const struct finding *f, const struct report *error, struct err *why)
{
	static const struct {
		const char *sqlstate, *hint;
	} hints[] = {
		{"42883",  "; its search_path is pg_catalog: write schemas before names"},
		{ "42P01", "; its search_path is pg_catalog: write schemas before names"},
	};
	const char *hint = "";

	for (size_t i = 0; error && i < PGT_NELEMS(hints); i++)
		if (slice_is_equal(error->sqlstate, slice_str(hints[i].sqlstate)))
			hint = hints[i].hint;
	if (error)
		return err_set(why, "58000", "%.*s%s", SLICE_FMT(error->message), hint);
	if (f->rows > 1)
		return err_set(why, "42P10", "it gives more than one row");
	if (f->verdicts != 1)
		return err_set(why, "42P10", "it gives one column: a name and a secret are two");
	return true;
}

/* Up to when what was found holds. */
static usec_t holds_until(const struct secret_link *sl, usec_t now)
{
	const struct finding *f = &sl->finding;
	usec_t ttl = sl->source->config->global.auth_query_ttl;

	if (f->has_limit && f->left > 0 && f->left < (double)ttl / USEC_PER_SEC)
		ttl = (usec_t)(f->left * USEC_PER_SEC);
	/* For those who wait for it, at least. */
	return now + (ttl ? ttl : 1);
}

static struct slice secret_of(const struct secret_link *sl)
{
	const struct finding *f = &sl->finding;
	bool has_expired = f->has_limit && f->left <= 0;

	if (!f->rows || f->is_another || has_expired)
		return slice_of(NULL, 0);
	return f->has_secret ? buf_peek(&f->secret) : SLICE("");
}

static void tell(struct secret_link *sl, const struct userlist_entry *entry)
{
	if (entry && entry->kind != PASSWORD_NONE)
		sl->usual = sl->source->usual = entry->kind;
	lookup_queue_answer(&sl->queue,
			    &(struct secret_found){ .entry = entry, .usual = sl->usual });
}

static void take_finding(struct secret_link *sl)
{
	struct slice user = slice_str(lookup_queue_name(&sl->queue));
	usec_t now = secret_source_now(sl->source);
	const struct userlist_entry *entry = NULL;

	if (!secret_cache_keep(&sl->cache, user, secret_of(sl), now, holds_until(sl, now)))
		log_warning("auth_query: the secret of \"%s\" is malformed", user.p);
	clear_finding(&sl->finding);
	if (!secret_cache_find(&sl->cache, user, now, &entry))
		PGT_ASSERT(false);
	tell(sl, entry);
}

/* A name that is no text to the server is nobody's, and so is one for which a function finds no
 * data. */
static bool is_of_nobody(const struct report *error)
{
	return error && (slice_is_equal(error->sqlstate, SLICE("22021")) ||
			 slice_is_equal(error->sqlstate, SLICE("P0002")));
}

static void on_answer(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct secret_link *sl = arg;
	struct err why;

	sl->is_asking = false;
	sl->since = secret_source_now(sl->source);
	if (is_of_nobody(error)) {
		clear_finding(&sl->finding);
		sl->finding.verdicts = 1;
		error = NULL;
	}
	if (is_good(&sl->finding, error, &why)) {
		recover(sl);
		take_finding(sl);
	} else {
		clear_finding(&sl->finding);
		fail(sl, why.text);
		disappoint_asked(sl);
	}
	go_on(sl);
}

static void ask(struct secret_link *sl)
{
	const char *sql[] = { sl->settings.auth_query, seconds_left };
	struct question q = { .row = on_row, .done = on_answer, .arg = sl };
	const char *user;

	if (!lookup_queue_begin(&sl->queue))
		return;
	user = lookup_queue_name(&sl->queue);
	sl->is_asking = true;
	sl->since = secret_source_now(sl->source);
	sl->nlookups++;
	server_ask_both(sl->server, sql, &user, 1, &q);
}

/* ---- the connection ---------------------------------------------------------------------------
 */

static void on_pinned(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct secret_link *sl = arg;
	char why[sizeof(sl->failure)];

	if (error) {
		snprintf(why, sizeof(why), "%s: %.*s", pin_session, SLICE_FMT(error->message));
		fail_connection(sl, why);
		return;
	}
	sl->is_ready = true;
	sl->failures = 0;
	sl->connected_at = sl->since = secret_source_now(sl->source);
	go_on(sl);
}

static void on_ready(struct server *s)
{
	struct secret_link *sl = s->owner;
	struct question q = { .done = on_pinned, .arg = sl };

	server_ask(s, pin_session, &q);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		fail_connection(s->owner, "the server says what nobody asked for");
}

/* A database that the server does not have has no users: who asks for one must not learn that. */
static void on_ended(struct server *s, const char *why)
{
	struct secret_link *sl = s->owner;

	if (strcmp(s->refusal, "3D000") != 0 || strcmp(sl->database->name, "*") != 0) {
		fail_connection(sl, why);
		return;
	}
	drop_connection(sl);
	while (lookup_queue_begin(&sl->queue))
		tell(sl, NULL);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events link_events = { .ready = on_ready,
						  .readable = on_readable,
						  .drained = on_nothing,
						  .ended = on_ended,
						  .cancel_over = on_nothing };

/* The node that is the primary as far as is known, or -1. */
static int primary_of(const struct secret_link *sl)
{
	const struct database_conf *d = sl->database;
	struct server_target unused;
	const struct node *node = monitor_primary(sl->source->monitor, sl->name, &unused);

	for (size_t i = 0; node && i < d->nnodes; i++)
		if (node->port == d->nodes[i].port && !strcmp(node->host, d->nodes[i].host))
			return (int)i;
	return -1;
}

static void connect_to(struct secret_link *sl)
{
	struct secret_source *ss = sl->source;
	int primary = primary_of(sl);
	const struct node_conf *node;
	struct server_target target;

	sl->node =
	    ((primary < 0 ? 0 : (unsigned)primary) + sl->failures) % (unsigned)sl->database->nnodes;
	node = &sl->database->nodes[sl->node];
	target = (struct server_target){
		.config = ss->config,
		.dial = {.host = *node->host ? node->host : ss->config->global.unix_socket_dir,
                         .port = node->port,
                         .set = &sl->settings,
                         .tls = ss->tls,
                         .resolver = ss->resolver,
                         .mailbox = ss->mailbox},
		.dbname = *sl->database->dbname ? sl->database->dbname : sl->name,
		.user = sl->settings.auth_user,
		.credential = &sl->credential,
		.options = "",
		.application_name = APPLICATION_NAME
	};
	sl->since = secret_source_now(ss);
	sl->server = server_new(NULL, ss->net, &link_events);
	sl->server->owner = sl;
	server_connect(sl->server, &target);
}

/* ---- what is next -----------------------------------------------------------------------------
 */

static bool is_at_rest(const struct secret_link *sl)
{
	return sl->is_ready && !sl->is_asking;
}

static bool has_strayed(const struct secret_link *sl)
{
	int primary = primary_of(sl);

	if (secret_source_now(sl->source) - sl->connected_at < STRAY_MAX)
		return false;
	return (primary >= 0 && (unsigned)primary != sl->node) ||
	       server_is_elsewhere(sl->server, sl->database->nodes[sl->node].host);
}

/* Before each question, as there may always be one.  Nothing has failed: who waits is looked up on
 * the next connection. */
static void leave_if_strayed(struct secret_link *sl)
{
	if (is_at_rest(sl) && has_strayed(sl))
		drop_connection(sl);
}

static void go_on(struct secret_link *sl)
{
	leave_if_strayed(sl);
	if (is_at_rest(sl))
		ask(sl);
	else if (!sl->server && lookup_queue_has_next(&sl->queue) &&
		 secret_source_now(sl->source) >= sl->retry_at)
		connect_to(sl);
}

/* Nobody else may be connected by it. */
static void follow_name(struct secret_link *sl, usec_t now)
{
	if (now - sl->followed_at < USEC_PER_SEC)
		return;
	sl->followed_at = now;
	resolve_follow(sl->source->resolver, sl->database->nodes[sl->node].host);
}

void secret_link_look(struct secret_link *sl, usec_t now)
{
	if (sl->server)
		follow_name(sl, now);
	if (is_at_rest(sl) && now - sl->since >= IDLE_MAX)
		drop_connection(sl);
	else if (sl->server && !is_at_rest(sl) && now - sl->since >= ANSWER_MAX)
		fail_connection(sl, "no answer");
	disappoint_those_who_waited(sl, now - PATIENCE);
	go_on(sl);
}

/* ---- for the source ---------------------------------------------------------------------------
 */

struct secret_link *secret_link_new(struct secret_source *ss, const char *name,
				    const struct database_conf *database,
				    const struct settings *set)
{
	const char *password = config_own_password(ss->config, database, set->auth_user);
	struct secret_link *sl = xnew(struct secret_link);

	sl->source = ss;
	sl->name = xstrdup(name);
	sl->database = database;
	settings_resolve(ss->config, database, NULL, NULL, NULL, &sl->settings);
	sl->settings.auth_user = set->auth_user;
	sl->settings.auth_query = set->auth_query;
	sl->credential.has_password = *password != '\0';
	sl->credential.password = xstrdup(password);
	sl->usual = ss->usual;
	lookup_queue_init(&sl->queue, &ss->crowd);
	secret_cache_init(&sl->cache, SECRETS_MAX);
	list_push_front(&ss->links, &sl->link);
	ss->nlinks++;
	return sl;
}

void secret_link_free(struct secret_link *sl)
{
	drop_connection(sl);
	disappoint_those_who_waited(sl, secret_source_now(sl->source));
	lookup_queue_fini(&sl->queue);
	secret_cache_fini(&sl->cache);
	mem_wipe(sl->credential.password, strlen(sl->credential.password));
	free(sl->credential.password);
	list_del(&sl->link);
	sl->source->nlinks--;
	free(sl->name);
	free(sl);
}

void secret_link_find(struct secret_link *sl, struct slice user, const struct lookup_asker *who)
{
	lookup_queue_add(&sl->queue, user, who, secret_source_now(sl->source));
	go_on(sl);
}
