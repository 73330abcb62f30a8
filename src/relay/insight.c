/* SPDX-License-Identifier: ISC
 *
 * insight.c - what requests cost by the shape of their texts.
 *
 * Knows clients, servers and settings; the table of shapes is stats/queries.c's.
 */
#include "relay/insight.h"

#include "base/log.h"
#include "base/mem.h"
#include "route/nodes.h"
#include "wire/read.h"

#include <stdio.h>
#include <stdlib.h>

/* Of a statement that is kept with its literals. */
#define KEPT_MAX 1024

void insight_configure(struct relay *r)
{
	const struct settings *set = &r->config->global;

	if (!set->query_insight && r->has_insight)
		queries_clear(&r->queries);
	r->has_insight = set->query_insight;
	r->queries.terms = (struct query_terms){ set->advice_repeats, set->advice_within };
}

void insight_init(struct relay *r)
{
	queries_init(&r->queries, r->config->global.query_insight_size);
	insight_configure(r);
}

void insight_fini(struct relay *r)
{
	queries_fini(&r->queries);
	slow_log_fini(&r->slow_log);
}

/* ---- shapes that are met for the first time ----------------------------------------------------
 */

static bool is_in(struct slice text, const char *needle)
{
	struct slice word = slice_str(needle);

	for (size_t i = 0; word.n && i + word.n <= text.n; i++)
		if (slice_is_equal_nocase(slice_of(text.p + i, word.n), word))
			return true;
	return false;
}

/* Of a text that sets something. */
static enum query_sets sets_what(const struct client *c, struct slice text)
{
	if (is_in(text, c->group->set.tenant_setting))
		return QUERY_SETS_TENANT;
	return is_in(text, "statement_timeout") ? QUERY_SETS_TIMEOUT : QUERY_SETS_OTHER;
}

/* set_config() has the name in a literal. */
void insight_tell_settings_apart(const struct client *c, struct slice text, struct query_key *key)
{
	key->fingerprint[1] += sets_what(c, text);
}

/* A reference. */
static PGT_NOINLINE struct query_look *make_look(struct client *c, struct slice text,
						 const struct query_key *key)
{
	struct lex_env env = { c->env_standard_strings, c->env_ascii_safe && !c->env_unsure };
	struct sql_normal normal;
	struct buf room = { 0 };
	struct query_look *look;

	sql_normalise(text, &env, &normal, &room);
	look = query_look_new(key->fingerprint, c->group->serial, &normal, buf_peek(&room));
	if (normal.is_shown)
		queries_share_look(&relay_of(c)->queries, look);
	buf_fini(&room);
	return look;
}

/* As another tenant of the database has it, if its text can be read at all. */
static struct query_look *look_of(struct client *c, struct slice text, const struct query_key *key)
{
	struct query_look *look = NULL;

	if (c->env_ascii_safe && !c->env_unsure)
		look = queries_look(&relay_of(c)->queries, key->fingerprint, c->group->serial);
	if (!look)
		return make_look(c, text, key);
	look->refs++;
	return look;
}

struct query *insight_meet(struct client *c, struct slice text, const struct sql_facts *facts,
			   const struct query_key *key)
{
	bool sets = facts->kind == SQL_KIND_SET || facts->kind == SQL_KIND_SET_LOCAL ||
		    facts->calls_set_config;
	struct query_about about = { .database = c->group->name,
				     .tenant = tenant_name(c->tenant),
				     .look = look_of(c, text, key),
				     .reads = facts->kind == SQL_KIND_SELECT && !facts->effects &&
					      !facts->sequence && facts->statements == 1,
				     .sets = sets ? (uint8_t)sets_what(c, text) : 0 };
	struct query *x = queries_add(&relay_of(c)->queries, key, &about, relay_now(c));

	query_look_unref(about.look);
	return x;
}

static PGT_NOINLINE struct query *meet_statement(struct client *c, const struct statement *st,
						 const struct query_key *key)
{
	struct sql_facts facts;

	statement_facts(st, &facts);
	return insight_meet(c, statement_text(st), &facts, key);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

/* Of a pipeline the last one only. */
void insight_keep_text(struct client *c, struct slice text)
{
	struct server *s = c->server;

	if (!s->kept_text)
		s->kept_text = xmalloc(KEPT_MAX);
	if (text.n >= KEPT_MAX)
		text.n = KEPT_MAX - 1;
	memcpy(s->kept_text, text.p, text.n);
	s->kept_text[text.n] = '\0';
	s->kept_in = s->batch + s->replies.ncycles;
}

static uint64_t digest_of(struct slice portal)
{
	return portal.n ? hash_bytes(portal.p, portal.n) : 0;
}

/* Behind the name of the statement; "" of a message that is not here as a whole. */
static struct slice params_of(const struct frame *f)
{
	struct slice body = frame_body(f);
	const char *portal = memchr(body.p, '\0', body.n), *name;
	size_t left = portal ? (size_t)(body.p + body.n - portal - 1) : 0;

	name = left ? memchr(portal + 1, '\0', left) : NULL;
	return name && frame_is_whole(f) ? slice_of(name + 1, (size_t)(body.p + body.n - name - 1))
					 : slice_of("", 0);
}

/* Its shape, looked for in the table. */
static PGT_NOINLINE struct query *find_statement(struct client *c, struct statement *st)
{
	struct relay *r = relay_of(c);
	struct query_key key = insight_key(c, st->fingerprint);
	struct query *x;

	if (st->calls_set_config)
		insight_tell_settings_apart(c, statement_text(st), &key);
	x = queries_find(&r->queries, &key);
	if (!x)
		x = meet_statement(c, st, &key);
	st->query = queries_ref(&r->queries, x);
	return x;
}

void insight_on_bind(struct client *c, struct statement *st, struct slice portal,
		     const struct frame *f)
{
	struct relay *r = relay_of(c);
	struct query *x;

	c->bound.at = 0;
	if (!r->has_insight || !st || !(st->fingerprint[0] || st->fingerprint[1]))
		return;
	x = queries_get(&r->queries, st->query);
	if (!x || x->key.whose != insight_whose(c))
		x = find_statement(c, st);
	c->bound = st->query;
	c->bound_portal = digest_of(portal);
	if (insight_watch(c, x))
		query_compare(x, params_of(f));
	if (r->config->global.slow_query_literals)
		insight_keep_text(c, statement_text(st));
}

/* Of an Execute. */
static struct slice portal_of(const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));

	return read_cstr(&r);
}

bool insight_is_bound(const struct client *c, const struct frame *f)
{
	return c->bound_portal == digest_of(portal_of(f));
}

/* ---- slow ones --------------------------------------------------------------------------------
 */

static void log_slow(const struct server *s, const struct slow *slow)
{
	char address[LOG_ADDRESS_MAX], node[LOG_ADDRESS_MAX];
	struct log_about about = client_about(s->client, address);

	snprintf(node, sizeof(node), "%s:%u", s->node->host, s->node->port);
	about.node = node;
	about.tenant = slow->tenant;
	log_about(LOG_LEVEL_WARNING, &about, "query took %lld ms, %llu rows: %s",
		  (long long)(slow->took / USEC_PER_MSEC), (unsigned long long)slow->rows,
		  *slow->as_sent ? slow->as_sent : slow->text);
}

static PGT_NOINLINE void note_slow(struct server *s, const struct query *x, usec_t took)
{
	struct client *c = s->client;
	struct relay *r = relay_of(c);
	bool has_literals = r->config->global.slow_query_literals && s->kept_text &&
			    s->kept_in + 1 == s->batch; /* which has ended */
	struct slow slow = { .at = clock_wall(),
			     .took = took,
			     .client = c->id,
			     .rows = s->rows,
			     .bytes = s->bytes,
			     .node = s->pool->node,
			     .database = x->about.database,
			     .user = c->user,
			     .tenant = x->about.tenant,
			     .text = x->about.look->text,
			     .as_sent = has_literals ? s->kept_text : "" };

	memcpy(slow.id, x->about.look->normal.id, sizeof(slow.id));
	c->group->counters.slow_count++;
	slow_log_add(&r->slow_log, &slow);
	log_slow(s, &slow);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static usec_t slow_limit(const struct server *s)
{
	return s->context ? s->context->set.slow_query_time : s->pool->group->set.slow_query_time;
}

static inline bool is_on_replica(const struct server *s)
{
	return atomic_load_explicit(&s->node->role, memory_order_relaxed) == NODE_REPLICA;
}

/* What ran last has come to its end. */
static void charge(struct server *s, usec_t until)
{
	struct query *x = queries_get(&relay_of(s->client)->queries, s->ran);
	usec_t from = s->split_at > s->asked_at ? s->split_at : s->asked_at;
	usec_t took = until > from ? until - from : 0, limit = slow_limit(s);

	if (x) {
		x->calls++;
		x->time += took;
		x->rows += s->rows;
		x->bytes += s->bytes;
		x->node = s->pool->node;
		x->on_replica += is_on_replica(s);
		if (took > x->longest)
			x->longest = took;
		if (s->rows > x->most_rows)
			x->most_rows = s->rows;
		if (x->watch.client == s->client->id)
			x->watch.time += took;
		if (limit && took >= limit)
			note_slow(s, x, took);
	}
	s->split_at = until;
	s->last_ran = s->ran;
	s->ran.at = 0;
	s->rows = s->bytes = 0;
}

/* The number at the end of a tag, of which the NUL is the last byte. */
uint64_t insight_rows(struct slice tag)
{
	const char *p = tag.p + tag.n - 1;
	uint64_t rows = 0, unit = 1;

	while (p > tag.p && (uint8_t)(*--p - '0') < 10) {
		rows += unit * (uint8_t)(*p - '0');
		unit *= 10;
	}
	return rows;
}

/* Of a batch each Execute has its own part of the time and of the answer: from the end of the one
 * before to its own.  What is behind the last is the last one's, so that each is counted when the
 * next has ended.  ref.at 0: it is one whose part is nobody's. */
static void end_one(struct server *s, struct query_ref ref)
{
	usec_t now = loop_now(s->conn.net->loop);

	if (s->ran.at)
		charge(s, s->ran_at);
	if (ref.at) {
		s->ran = ref;
		s->ran_at = now;
		s->bytes = s->answered;
	} else {
		s->split_at = now;
	}
	s->answered = 0;
}

/* A Query of which something has run. */
static inline bool is_in_query(const struct server *s)
{
	return s->ran.at && !s->ran_at;
}

void insight_count_row(struct server *s, struct insight_row *row)
{
	struct query *x = queries_get(&relay_of(s->client)->queries, s->ran);

	if (x) {
		x->calls += row->n;
		x->rows += row->rows;
		x->bytes += s->bytes + s->answered - row->last;
		x->node = s->pool->node;
		x->on_replica += is_on_replica(s) ? row->n : 0;
		if (row->most_rows > x->most_rows)
			x->most_rows = row->most_rows;
	}
	s->last_ran = s->ran;
	s->bytes = row->last;
	s->answered = 0;
	*row = (struct insight_row){ 0 };
}

void insight_count_command(struct server *s, const struct reply *head, const struct frame *f)
{
	struct slice body = frame_body(f);

	if (!is_in_query(s))
		end_one(s, head->query);
	if (!s->ran.at)
		return;
	if (head->kind == REPLY_QUERY)
		s->ran_at = 0;
	if (f->type == MSG_COMMAND_COMPLETE && frame_is_whole(f) && body.n)
		s->rows += insight_rows(body);
}

/* What failed, or what was to be run behind it. */
static struct query_ref first_owed(const struct server *s)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);
		bool is_run = r->kind == REPLY_EXECUTE && r->way == REPLY_PASS;

		if (is_run || reply_ends_cycle(r))
			return r->query;
	}
	return (struct query_ref){ 0 };
}

void insight_on_error(struct server *s)
{
	struct query_ref ref = first_owed(s);
	struct query *x = queries_get(&relay_of(s->client)->queries, ref);

	if (x)
		x->errors++;
	if (!is_in_query(s))
		end_one(s, ref);
}

void insight_count_cycle(struct server *s, usec_t now)
{
	s->bytes += s->answered;
	charge(s, now);
}

void insight_on_idle(struct client *c, usec_t now)
{
	struct server *s = c->server;
	usec_t idle = now - s->query_at, limit = c->host->config->global.advice_idle_transaction;
	struct query *x = queries_get(&relay_of(c)->queries, s->last_ran);

	if (!limit || idle < limit || !x)
		return;
	if (s->idle_from != s->query_at) {
		s->idle_from = s->query_at;
		s->idle_counted = 0;
		x->idles.times++;
		x->idles.count++;
	}
	x->idles.time += idle - s->idle_counted;
	s->idle_counted = idle;
}
