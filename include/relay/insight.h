/* SPDX-License-Identifier: ISC
 *
 * insight.h - what requests cost by the shape of their texts, on their way through the relay.
 *
 * A request's shape is found once, when its text has been read, by the fingerprint that its facts
 * have.  The reply that is owed for it refers to it; what the answer costs is counted there, with
 * the times that are measured anyway.  What its session does again and again is watched when it is
 * sent.  All else is left to who asks.
 */
#ifndef PGT_RELAY_INSIGHT_H
#define PGT_RELAY_INSIGHT_H

#include "relay/parts.h"
#include "relay/statement.h"
#include "wire/frame.h"

void insight_init(struct relay *r);
void insight_fini(struct relay *r);
/* After a reload. */
void insight_configure(struct relay *r);

/* ---- requests ---------------------------------------------------------------------------------
 */

/* For what follows only. */
struct query *insight_meet(struct client *c, struct slice text, const struct sql_facts *facts,
			   const struct query_key *key);
void insight_tell_settings_apart(const struct client *c, struct slice text, struct query_key *key);
void insight_keep_text(struct client *c, struct slice text);

/* Of struct query_key. */
static inline uint64_t insight_whose(const struct client *c)
{
	return (uint64_t)c->group->serial << 32 | (c->tenant ? c->tenant->serial : 0);
}

static inline struct query_key insight_key(const struct client *c, const uint64_t fingerprint[2])
{
	return (struct query_key){
		{fingerprint[0], fingerprint[1]},
                insight_whose(c)
	};
}

/* Whether its values have to be compared. */
static inline bool insight_watch(struct client *c, struct query *x)
{
	return x->about.reads && query_watch(&relay_of(c)->queries, x, c->id, relay_now(c));
}

/* A Query that is about to ask for a server; facts with a fingerprint, or 0, 0. */
static inline void insight_ask(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct relay *r = relay_of(c);
	struct query_key key = insight_key(c, facts->fingerprint);
	struct query *x = NULL;

	if (facts->calls_set_config)
		insight_tell_settings_apart(c, text, &key);
	if (r->has_insight && (key.fingerprint[0] || key.fingerprint[1])) {
		x = queries_find(&r->queries, &key);
		if (!x)
			x = insight_meet(c, text, facts, &key);
	}
	c->asks = x ? queries_ref(&r->queries, x) : (struct query_ref){ 0 };
}

/* One of which nothing is known. */
static inline void insight_ask_unseen(struct client *c)
{
	c->asks.at = 0;
}

/* What was asked is sent.  text: of the Query. */
static inline void insight_on_sent(struct client *c, struct slice text)
{
	struct query *x = queries_get(&relay_of(c)->queries, c->asks);

	if (x && insight_watch(c, x))
		query_compare(x, text);
	if (x && c->group->config->global.slow_query_literals)
		insight_keep_text(c, text);
}

/* A Bind is sent. */
void insight_on_bind(struct client *c, struct statement *st, struct slice portal,
		     const struct frame *f);
/* The same of the statement and the portal of the Bind before it, in the same event; params: its
 * bytes behind its names.  False: nor is anything to be noted of those behind it. */
static inline bool insight_on_bind_again(struct client *c, struct slice params)
{
	const struct queries *all = &relay_of(c)->queries;
	struct query *x = queries_get(all, c->bound);

	if (!x || !x->about.reads || query_watches_another(all, x, c->id, relay_now(c)))
		return false;
	if (query_watch_on(all, x, c->id, relay_now(c)))
		query_compare(x, params);
	return true;
}
/* For what follows only: whether an Execute runs the portal, which has a name, that was bound last.
 */
bool insight_is_bound(const struct client *c, const struct frame *f);

/* An Execute is: the last reply is owed for it. */
static inline void insight_on_execute(struct client *c, const struct frame *f)
{
	struct replies *owed = &c->server->replies;
	bool is_unnamed = f->len == FRAME_HEADER_LEN || !f->start[FRAME_HEADER_LEN];

	if (c->bound.at && (is_unnamed ? !c->bound_portal : insight_is_bound(c, f)))
		replies_at(owed, owed->n - 1)->query = c->bound;
}

/* ---- answers ----------------------------------------------------------------------------------
 */

/* For what follows only. */
void insight_count_command(struct server *s, const struct reply *head, const struct frame *f);
void insight_count_cycle(struct server *s, usec_t now);

/* The first request of a client that nothing was owed to; behind a Flush what ran before it in its
 * batch has not been counted yet. */
static inline void insight_on_request(struct server *s)
{
	if (s->ran.at)
		insight_count_cycle(s, s->ran_at);
	s->answered = 0;
}

/* CommandComplete and the like, for the head of the queue, which the client has asked.  What of the
 * answer is counted (server.answered) ends with it. */
static inline void insight_on_command(struct server *s, const struct reply *head,
				      const struct frame *f)
{
	if (head->query.at || relay_of(s->client)->has_insight)
		insight_count_command(s, head, f);
}

/* The same of the only command of a Query, by its tag, where nothing has run that is still to be
 * counted. */
uint64_t insight_rows(struct slice tag); /* for what follows only */
static inline void insight_on_tag(struct server *s, struct query_ref query, struct slice tag)
{
	const char *end = tag.p + tag.n; /* behind the NUL */

	if (!query.at)
		return;
	s->ran = query;
	/* One digit, as a rule. */
	if (tag.n > 3 && end[-3] == ' ' && (uint8_t)(end[-2] - '0') < 10)
		s->rows += (uint8_t)(end[-2] - '0');
	else
		s->rows += insight_rows(tag);
}

/* Commands of one shape that come one behind the other in the same turn of the loop: what of those
 * is added up, to be counted behind the last. */
struct insight_row {
	uint64_t n;
	uint64_t rows, most_rows; /* of each but the last … */
	uint64_t last;            /* … of whose answer these are the bytes */
};

/* The command of this tag at the end of an answer of so many bytes, whose cost is ref's: adds it
 * up, if it comes behind such a one and has taken no time of its own.  False: it is to be counted
 * by itself. */
static inline bool insight_adds_up(struct server *s, struct query_ref ref, struct slice tag,
				   size_t len, struct insight_row *row)
{
	if (!ref.at || s->ran.at != ref.at || s->ran.life != ref.life || s->ran_at != s->split_at ||
	    s->ran_at != loop_now(s->conn.net->loop))
		return false;
	row->n++;
	row->rows += s->rows;
	if (s->rows > row->most_rows)
		row->most_rows = s->rows;
	row->last = len;
	s->rows = insight_rows(tag);
	return true;
}
/* The same of one with that tag and length behind one that was added up, in the same event. */
static inline bool insight_adds_again(struct server *s, struct query_ref ref,
				      struct insight_row *row)
{
	if (s->ran.at != ref.at || s->ran.life != ref.life)
		return false;
	row->n++;
	row->rows += s->rows;
	if (s->rows > row->most_rows)
		row->most_rows = s->rows;
	return true;
}
/* What was added up, before anything else of the answer is counted. */
void insight_count_row(struct server *s, struct insight_row *row);

/* An error that the client gets, before the queue is put right for it. */
void insight_on_error(struct server *s);

/* ReadyForQuery. */
static inline void insight_on_cycle(struct server *s, usec_t now)
{
	if (s->ran.at)
		insight_count_cycle(s, now);
	s->answered = 0;
}

/* Some times a second, of a server that its client has and that owes nothing, in a transaction. */
void insight_on_idle(struct client *c, usec_t now);

#endif
