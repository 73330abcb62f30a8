/* SPDX-License-Identifier: ISC
 *
 * context.c - whose statements a server of a shared pool runs.
 *
 * A server's session carries the id of one tenant, the ceiling of its timeout, and nothing of any
 * other.  Both stay on it from one transaction to the next, so that a tenant which comes back finds
 * them there; for another one they go ahead of its first statement (carry.c), which does not run
 * unless they are in force (I1, ADR 13).  Those of a tenant that is chosen in a transaction go with
 * its BEGIN, and then the server is nobody's again (ADR 20).  What may have changed them is treated
 * as if it had.
 *
 * Knows what has to be there and when it is due, not which client comes next.
 */
#include "base/log.h"
#include "base/mem.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/whose.h"
#include "server/signature.h"
#include "sql/timeout.h"

/* Nothing that a session wants, so it is brought anew. */
#define TIMEOUT_UNCLEAR "?"

static struct tenants *tenants_of(const struct server *s)
{
	struct relay *r = s->pool->group->owner;

	return &r->tenants;
}

static void keep_timeout(struct server *s, const char *value)
{
	size_t n = strlen(value) + 1;

	if (n > sizeof(s->timeout))
		memcpy(s->timeout, TIMEOUT_UNCLEAR, sizeof(TIMEOUT_UNCLEAR));
	else
		memcpy(s->timeout, value, n);
}

bool context_brings(const struct group *group, const char *name)
{
	return group->is_shared && !strcasecmp(name, "statement_timeout");
}

/* What the session's timeout has to be: its own, as these settings have it, within the ceiling,
 * else the ceiling where what the role or the database has by default is beyond it.  "": that
 * default. */
static const char *timeout_for(const struct client *c, const struct param_set *settings,
			       char room[SESSION_CLAMPED_MAX])
{
	const char *own = param_set_get(settings, SLICE("statement_timeout"));
	int64_t dflt = c->group->login_shared->default_timeout_ms;
	usec_t cap = lane_timeout_cap(c);

	if (own)
		return session_clamp(c, "statement_timeout", own, room);
	if (!cap || (dflt > 0 && dflt * USEC_PER_MSEC <= cap))
		return "";
	sql_timeout_write(cap / USEC_PER_MSEC, room);
	return room;
}

bool context_may_carry(const struct group *group, const struct tenant *tenant, struct err *e)
{
	if (group->is_shared && group->set.pool_mode == POOL_MODE_SESSION)
		return err_set(e, "0A000",
			       "a user with pool_mode = session cannot use shared tenant pools");
	if (!group->is_shared || !tenant || slice_is_ascii(slice_str(tenant->business_id)))
		return true;
	err_set(e, "22023", "the id of tenant \"%.100s\" is not ASCII", tenant->name);
	return err_hint(e,
			"Where tenant_pool = shared, an id travels as it is to sessions with any "
			"client_encoding.");
}

static void add(struct context *x, const char *name, const char *value)
{
	x->values[2 * x->n] = name;
	x->values[2 * x->n + 1] = value;
	x->n++;
}

/* Whether the tenant's context goes with the client's own BEGIN: where the session has chosen it in
 * this transaction, and the server is not its tenant's already. */
static bool goes_with_begin(const struct client *c, const struct server *s)
{
	return c->begin && c->tenant && c->whose && s->context != c->tenant && whose_is_pending(c);
}

/* Whose the session on the server has to be ahead of the request. */
static struct tenant *ahead(const struct client *c, const struct server *s)
{
	return goes_with_begin(c, s) ? NULL : c->tenant;
}

static void find_for(const struct client *c, const struct server *s, struct tenant *tenant,
		     struct context *x)
{
	bool moves = s->context != tenant;

	x->tenant = tenant;
	x->n = 0;
	if (moves)
		add(x, c->group->set.tenant_setting, tenant ? tenant->business_id : "");
	x->is_signed = signature_is_lacking(s, moves);
	*x->signature = '\0';
	if (x->is_signed)
		add(x, SIGN_SETTING, x->signature);
}

static void find_timeout(const struct client *c, const struct server *s, struct context *x)
{
	x->timeout = timeout_for(c, c->wanted, x->room);
	if (strcmp(x->timeout, s->timeout) != 0)
		add(x, "statement_timeout", *x->timeout ? x->timeout : NULL);
}

void context_find(const struct client *c, const struct server *s, struct context *x)
{
	x->n = 0;
	if (!c->group->is_shared)
		return;
	find_for(c, s, ahead(c, s), x);
	x->timeout = s->timeout;
	/* One of the session's own belongs to its settings, and stays with them. */
	if (!goes_with_begin(c, s) || param_set_get(c->wanted, SLICE("statement_timeout")))
		find_timeout(c, s, x);
}

void context_find_local(const struct client *c, const struct server *s, struct context *x)
{
	x->n = 0;
	if (!c->group->is_shared || !goes_with_begin(c, s))
		return;
	find_for(c, s, c->tenant, x);
	find_timeout(c, s, x);
}

void context_sign(const struct client *c, struct server *s, struct context *x)
{
	if (c->group->is_shared && x->is_signed)
		signature_make(s, x->tenant, x->signature);
}

/* Whether the server lacks nothing, as far as that is seen at a glance. */
static bool is_in_line(const struct client *c, const struct server *s)
{
	return s->context == ahead(c, s) && s->applied == c->wanted &&
	       (goes_with_begin(c, s) || s->context_version == tenants_of(s)->version) &&
	       !signature_is_lacking(s, false);
}

void context_look_closely(struct client *c)
{
	struct server *s = c->server;
	struct context x;

	if (c->phase != CLIENT_READY || is_in_line(c, s))
		return;
	context_find(c, s, &x);
	if (x.n)
		s->carry_due = true;
	else
		s->context_version = tenants_of(s)->version;
}

void context_brought(const struct client *c, struct server *s, const struct context *x)
{
	if (!c->group->is_shared)
		return;
	server_set_context(s, x->tenant);
	if (x->timeout != s->timeout)
		keep_timeout(s, x->timeout);
	s->context_version = tenants_of(s)->version;
}

void context_brought_local(const struct client *c, struct server *s, const struct context *x)
{
	memcpy(s->timeout_after, s->timeout, sizeof(s->timeout));
	context_brought(c, s, x);
	s->context_is_local = true;
	s->context_is_mixed = false;
}

void context_look_again(struct server *s)
{
	s->context_version = tenants_of(s)->version - 1;
}

void context_leave(struct server *s)
{
	if (s->context_is_mixed)
		context_forget(s);
	else
		server_set_context(s, NULL);
	memcpy(s->timeout, s->timeout_after, sizeof(s->timeout));
	context_look_again(s); /* that timeout may be anybody's */
	s->context_is_local = false;
}

void context_forget(struct server *s)
{
	signature_forget(s);
	if (!s->pool->group->is_shared)
		return;
	server_set_context(s, &tenants_of(s)->unclear);
	keep_timeout(s, TIMEOUT_UNCLEAR);
	s->context_is_local = false;
}

bool context_is_reset(const struct group *group, const struct sql_facts *facts)
{
	bool is_carried = group->is_shared || (group->has_tenants && group->config->sign_keys);

	return is_carried && (facts->resets || facts->sets_many ||
			      (facts->effects & (SQL_EFFECT_DISCARD_ALL | SQL_EFFECT_BLOCK)));
}

static void put_set(struct buf *sql, const char *value, bool is_local)
{
	buf_printf(sql, "%s", "pg_catalog.set_config(name, ");
	session_put_literal(sql, value);
	buf_printf(sql, ", %s)", is_local ? "true" : "false");
}

/* Without any, what the session began with is there again: for the session, and lowered for the
 * transaction only. */
static void put_unset(struct buf *sql, const struct client *c)
{
	const char *base = param_set_get(c->base, SLICE("statement_timeout"));
	char room[SESSION_CLAMPED_MAX];
	const char *lowered = timeout_for(c, c->base, room);

	if (!*lowered)
		return;
	buf_printf(sql, "%s",
		   " WHEN source OPERATOR(pg_catalog.<>) 'session' THEN pg_catalog.concat(");
	if (base) {
		put_set(sql, base, false);
		buf_put(sql, ", ", 2);
	}
	put_set(sql, lowered, true);
	buf_put(sql, ")", 1);
}

static void put_beyond(struct buf *sql, const struct client *c)
{
	usec_t cap = lane_timeout_cap(c);
	char room[SESSION_CLAMPED_MAX];

	if (cap < USEC_PER_MSEC)
		return;
	sql_timeout_write(cap / USEC_PER_MSEC, room);
	buf_printf(sql,
		   " WHEN setting::pg_catalog.int8 OPERATOR(pg_catalog.=) 0 OR "
		   "setting::pg_catalog.int8 OPERATOR(pg_catalog.>) %s THEN ",
		   room);
	put_set(sql, room, true);
}

/* A timeout that the transaction has set stays, up to the ceiling: what the session has behind it
 * the server says then.  Goes behind carry_put_text()'s condition, which is never true. */
static void put_timeout(struct buf *sql, const struct client *c)
{
	buf_printf(sql, "%s", " OR pg_catalog.concat((SELECT CASE WHEN false THEN ''");
	put_unset(sql, c);
	put_beyond(sql, c);
	buf_printf(sql, "%s",
		   " END FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) "
		   "'statement_timeout')) IS NULL");
}

bool context_restore(struct client *c, struct server *s, const struct question *q)
{
	bool was_local = s->context_is_local;
	char timeout[SERVER_TIMEOUT_MAX];
	struct buf sql = { 0 };
	struct context x;

	memcpy(timeout, s->timeout, sizeof(timeout));
	context_forget(s);
	if (!c->group->is_shared)
		return false;
	/* The survey to come tells it from one of the session's own by what was brought. */
	if (c->touched & TOUCHED_SETTINGS)
		memcpy(s->timeout, timeout, sizeof(timeout));
	/* Outside of a transaction it goes ahead of the next statement. */
	if (s->tx != 'T')
		return false;
	find_for(c, s, ahead(c, s), &x);
	x.timeout = s->timeout;
	context_sign(c, s, &x);
	carry_put_text(&sql, x.n, false);
	put_timeout(&sql, c);
	server_ask_bound(s, buf_cstr(&sql), x.values, 2 * x.n, q);
	buf_fini(&sql);
	context_brought(c, s, &x);
	/* A ROLLBACK takes this back too, and then it is nobody's. */
	s->context_is_local = s->context_is_mixed = was_local;
	return true;
}

bool context_has_brought(const struct server *s, struct slice timeout)
{
	int64_t ours, found;

	return s->pool->group->is_shared && sql_timeout_parse(slice_str(s->timeout), &ours) &&
	       sql_timeout_parse(timeout, &found) && ours == found;
}

void context_found_timeout(struct server *s, const char *value)
{
	if (!s->pool->group->is_shared)
		return;
	keep_timeout(s, value ? value : "");
	context_look_again(s);
}

/* ---- tenant_context_check ---------------------------------------------------------------------
 */

#define TO(state) (1u << CHECK_##state)
static const unsigned legal_next[CHECK_NSTATES] = {
	[CHECK_DUE] = TO(ASKED),
	[CHECK_ASKED] = TO(DUE) | TO(HOLDS) | TO(CHANGED),
	[CHECK_HOLDS] = TO(DUE),
};
#undef TO

static void check_become(struct server *s, enum server_check next)
{
	PGT_ASSERT(legal_next[s->check] & (1u << next));
	s->check = (uint8_t)next;
}

void context_check_again(struct server *s)
{
	if (s->check != CHECK_CHANGED && s->check != CHECK_DUE)
		check_become(s, CHECK_DUE);
}

static bool must_check(const struct client *c)
{
	const struct server *s = c->server;

	return c->group->set.tenant_context_check == CONTEXT_CHECK_ON_RELEASE &&
	       c->group->has_tenants && s->context != &tenants_of(s)->unclear;
}

bool context_check_is_missing(const struct client *c)
{
	return c->server->check == CHECK_DUE && must_check(c);
}

void context_put_check(const struct server *s, const char *values[2])
{
	values[0] = s->pool->group->set.tenant_setting;
	values[1] = s->context && !s->context_is_local ? s->context->business_id : "";
}

/* It fails by this where the id is another one; else it has not been answered. */
static bool is_verdict(const struct report *error)
{
	return slice_is_equal(error->sqlstate, SLICE("22012"));
}

void context_check_failed(struct server *s, const struct report *error)
{
	struct client *c = s->client;
	const char *name = tenant_name(c ? c->tenant : s->context);
	unsigned long long id = s->id;

	/* The transaction has not ended after all, and will be asked about when it has. */
	if (s->tx == 'E')
		return;
	check_become(s, CHECK_CHANGED);
	s->doubtful = true;
	if (!is_verdict(error)) {
		log_warning("S-%llu: the id of tenant \"%s\" could not be checked: %.*s", id, name,
			    SLICE_FMT(error->message));
		return;
	}
	s->pool->group->counters.changed_count++;
	log_warning("S-%llu: the tenant's id was changed by what \"%s\" has run "
		    "(tenant_context_check)",
		    id, name);
}

void context_checked(struct server *s)
{
	if (s->check == CHECK_ASKED)
		check_become(s, s->tx == 'I' ? CHECK_HOLDS : CHECK_DUE);
}

static void on_checked(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error)
		context_check_failed(s, error);
	context_checked(s);
	attach_on_surveyed(s);
}

void context_check(struct client *c)
{
	const struct question q = { .done = on_checked };
	const char *values[2];

	check_become(c->server, CHECK_ASKED);
	context_put_check(c->server, values);
	server_ask_bound(c->server, CONTEXT_CHECK_TEXT, values, 2, &q);
}

bool context_ends_with(const struct sql_facts *facts, char tx)
{
	if (tx == 'I')
		return !(facts->effects & CONTEXT_MAY_GO_ON);
	return facts->is_exact &&
	       (facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK);
}

void context_check_behind(struct client *c)
{
	struct server *s = c->server;

	/* What may have reset it is followed by a survey, or by a question; and a batch that may
	 * have to be sent again has to be the last thing that was sent. */
	if (c->stream_left || c->in_batch || c->resets || c->touched || s->sent ||
	    s->replies.ncycles != 1 || !context_check_is_due(c))
		return;
	check_become(s, CHECK_ASKED);
	carry_check(c);
}

/* ---- which server -------------------------------------------------------------------------------
 */

struct slot *context_slot(const struct client *c, const struct pool *pool)
{
	struct list *oldest = list_last(&pool->slots[SLOT_IDLE]);
	struct server *newest;

	if (!oldest || !c->group->is_shared)
		return NULL;
	if (c->tenant)
		LIST_FOREACH (at, &c->tenant->servers) {
			struct server *s = container_of(at, struct server, context_link);

			if (s->pool == pool && s->slot.state == SLOT_IDLE)
				return &s->slot;
		}
	newest = container_of(list_first(&pool->slots[SLOT_IDLE]), struct server, slot.link);
	if (!newest->context)
		return &newest->slot;
	/* The others' are kept for them as long as possible. */
	return container_of(oldest, struct slot, link);
}
