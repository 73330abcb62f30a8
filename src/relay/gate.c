/* SPDX-License-Identifier: ISC
 *
 * gate.c - how the client's texts are to be read, what READONLY lets run, and where a text goes.
 *
 * Decides by the facts that sql/ reads off a text and by the settings of the client's group; sends
 * nothing.  What cannot be decided goes to the primary (I4).  Does not know what a tenant's texts
 * may not change: guard.c.
 */
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/reason.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "sql/leaving.h"
#include "sql/shape.h"
#include "wire/frame.h"

/* ---- how the server reads the client's texts ---------------------------------------------------
 */

/* Encodings in which bytes below 0x80 occur inside characters. */
static bool is_ascii_safe(struct slice encoding)
{
	static const char *const unsafe[] = { "SJIS", "SHIFT_JIS_2004", "BIG5", "GBK",
					      "UHC",  "GB18030",        "JOHAB" };

	for (size_t i = 0; i < PGT_NELEMS(unsafe); i++)
		if (slice_is_equal_nocase(encoding, slice_str(unsafe[i])))
			return false;
	return true;
}

/* What names of tables and literals mean to the client's session, as far as another's may share it:
 * who has temporary tables, or is changing it, shares it with nobody. */
static uint64_t add_path(const struct client *c, uint64_t key)
{
	for (size_t i = 0; sql_meaning_settings[i]; i++) {
		const char *value = param_set_get(c->wanted, slice_str(sql_meaning_settings[i]));

		if (value)
			key = hash_more(key + i, value, strlen(value) + 1);
	}
	if (c->path_unsure || (c->pins & PIN_BIT(PIN_TEMP))) {
		key = hash_more(key, &c->id, sizeof(c->id));
		key = hash_more(key, &c->rare->path_changes, sizeof(c->rare->path_changes));
	}
	return key;
}

static PGT_NOINLINE void renew_catalog(struct group *group, unsigned version)
{
	sql_catalog_unref(group->catalog);
	sql_leaving_unref(group->leaving);
	group->catalog = node_set_catalog(group->nodes);
	group->leaving = node_set_leaving(group->nodes);
	group->plans_tell =
	    group->nodes->leaving_is_old || sql_leaving_has_suspects(group->leaving);
	if (sql_leaving_is_empty(group->leaving)) {
		sql_leaving_unref(group->leaving);
		group->leaving = NULL;
	}
	group->catalog_version = version;
}

static void follow_catalog(struct group *group)
{
	unsigned version = atomic_load_explicit(&group->nodes->version, memory_order_relaxed);

	if (version != group->catalog_version)
		renew_catalog(group, version);
}

static const struct sql_catalog *catalog_of(struct group *group)
{
	follow_catalog(group);
	return group->catalog;
}

static const struct sql_leaving *leaving_of(struct group *group)
{
	follow_catalog(group);
	return group->leaving;
}

bool gate_plans_tell_anew(struct group *group)
{
	follow_catalog(group);
	return group->plans_tell;
}

/* What is set for the transaction only nobody else has, whatever code has done it. */
static bool may_set_locally(const struct client *c)
{
	return is_in_transaction(c) || c->touched || c->sets_locally;
}

uint64_t gate_plan_key(const struct client *c)
{
	uint64_t key;

	if (!gate_plans_tell(c->group))
		return 0;
	key = c->wanted->link.hash;
	if (c->tenant)
		key = hash_more(key, c->tenant->business_id, strlen(c->tenant->business_id));
	if (may_set_locally(c))
		key = hash_more(key, &c->id, sizeof(c->id));
	return key | 1;
}

static inline uint64_t meaning_of(const struct client *c)
{
	uint64_t ddl = atomic_load_explicit(&c->group->nodes->ddl, memory_order_relaxed);
	const struct sql_leaving *leaving = leaving_of(c->group);

	return (leaving ? sql_leaving_id(leaving) * 2 : 0) + node_set_is_learned(c->group->nodes) +
	       (ddl << 32);
}

uint64_t gate_meaning(struct client *c)
{
	return meaning_of(c);
}

static PGT_NOINLINE void learn_env(struct client *c, uint64_t meaning)
{
	const char *strings =
	    c->told ? param_set_get(c->told, SLICE("standard_conforming_strings")) : NULL;
	const char *encoding = c->told ? param_set_get(c->told, SLICE("client_encoding")) : NULL;

	encoding = encoding ? encoding : "";
	c->env_standard_strings = !strings || strcmp(strings, "off") != 0;
	c->env_ascii_safe = !*encoding || is_ascii_safe(slice_str(encoding));
	c->env_is_utf8 = !strcasecmp(encoding, "UTF8");
	c->env_key = hash_more(meaning, &c->group, sizeof(c->group));
	c->env_key = hash_more(c->env_key + c->env_standard_strings, encoding, strlen(encoding));
	c->env_key = add_path(c, c->env_key);
	c->env_meaning = meaning;
	c->env_known = true;
}

static inline void know_env(struct client *c)
{
	uint64_t meaning = meaning_of(c);

	if (!c->env_known || c->env_meaning != meaning)
		learn_env(c, meaning);
}

void gate_know_env(struct client *c)
{
	know_env(c);
}

static inline bool wants_fingerprint(const struct client *c)
{
	return relay_of(c)->has_insight ||
	       ((!c->server || !c->server->writes) && gate_has_choice(c)) || c->only_reads ||
	       (c->begin && c->group->set.early_commit);
}

bool gate_expects(struct client *c, struct slice text, struct sql_facts *facts)
{
	know_env(c);
	return c->env_ascii_safe && !c->env_unsure &&
	       sql_shapes_expect(relay_of(c)->shapes, &c->last_shape, c->env_key, text,
				 c->group->has_tenants, wants_fingerprint(c), facts);
}

struct sql_env gate_env(struct client *c)
{
	know_env(c);
	return (struct sql_env){ .leaving = c->group->leaving,
				 .unproven = !node_set_is_learned(c->group->nodes),
				 .standard_strings = c->env_standard_strings,
				 .ascii_safe = c->env_ascii_safe && !c->env_unsure,
				 .tenant_setting =
				     c->group->has_tenants ? c->group->set.tenant_setting : NULL,
				 .wants_fingerprint = wants_fingerprint(c) };
}

/* ---- READONLY -------------------------------------------------------------------------------
 */

bool gate_is_readonly(const struct client *c)
{
	return c->group->readonly || (c->tenant && c->tenant->set.readonly);
}

void gate_begin(struct client *c)
{
	if (!is_at_start(c))
		return;
	c->xact &= XACT_ADMITTED;
	c->unnamed_is_read = false;
	/* What replicates reads. */
	if (!gate_is_readonly(c) || c->group->replication)
		return;
	c->xact |= XACT_READS;
	if (c->begin && c->begin->begin_read_only)
		c->xact |= XACT_READ_ONLY;
}

static bool refuse_write(const struct client *c, struct err *e)
{
	const bool is_wide = c->group->readonly;

	err_set(e, "25006", "%s \"%.100s\" is read-only for now, and this may write",
		is_wide ? "database" : "tenant", is_wide ? c->group->name : c->tenant->name);
	return err_hint(e,
			"READONLY was said on the console, or readonly in the configuration. What "
			"is not a plain read runs in a READ ONLY transaction.");
}

/* They change nothing, or decide about what was let run before. */
static bool is_harmless(enum sql_kind kind)
{
	const uint64_t kinds =
	    1ull << SQL_KIND_EMPTY | 1ull << SQL_KIND_BEGIN | 1ull << SQL_KIND_COMMIT |
	    1ull << SQL_KIND_ROLLBACK | 1ull << SQL_KIND_SAVEPOINT | 1ull << SQL_KIND_RELEASE |
	    1ull << SQL_KIND_ROLLBACK_TO | 1ull << SQL_KIND_SET | 1ull << SQL_KIND_SET_LOCAL |
	    1ull << SQL_KIND_SET_TRANSACTION | 1ull << SQL_KIND_RESET | 1ull << SQL_KIND_SHOW |
	    1ull << SQL_KIND_DISCARD | 1ull << SQL_KIND_PREPARE | 1ull << SQL_KIND_DEALLOCATE |
	    1ull << SQL_KIND_FETCH | 1ull << SQL_KIND_CLOSE | 1ull << SQL_KIND_LISTEN |
	    1ull << SQL_KIND_UNLISTEN;

	return kinds >> kind & 1;
}

/* What may take back that a transaction is READ ONLY, which the server allows before its first
 * query, or end it in the middle of a batch. */
static bool may_change_xact(enum sql_kind kind)
{
	return kind == SQL_KIND_SET || kind == SQL_KIND_SET_LOCAL ||
	       kind == SQL_KIND_SET_TRANSACTION || kind == SQL_KIND_RESET ||
	       kind == SQL_KIND_COMMIT || kind == SQL_KIND_ROLLBACK;
}

/* The route's proof, whatever a hint says of the route. */
bool gate_text_is_proven(struct client *c, struct slice text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	env.wants_fingerprint = true;
	sql_scan(text, &env, &facts);
	return gate_is_proven(c, text, &facts);
}

bool gate_may_write(struct client *c, struct slice text, const struct sql_facts *facts,
		    struct err *e)
{
	bool is_single = facts->statements <= 1 && !(facts->flags & SQL_UNCLEAN);

	gate_begin(c);
	if (!(c->xact & XACT_READS))
		return true;
	if (is_single && facts->kind == SQL_KIND_BEGIN) {
		c->xact &= (uint8_t)~XACT_READ_ONLY;
		if (facts->begin_read_only && (!c->server || c->server->tx == 'I'))
			c->xact |= XACT_READ_ONLY;
	} else if (may_change_xact(facts->kind)) {
		c->xact &= (uint8_t)~XACT_READ_ONLY;
	}
	if (is_single && (is_harmless(facts->kind) || (c->xact & XACT_READ_ONLY)))
		return true;
	return gate_text_is_proven(c, text) || refuse_write(c, e);
}

bool gate_may_write_unseen(struct client *c, struct err *e)
{
	gate_begin(c);
	return (c->xact & (XACT_READS | XACT_READ_ONLY)) != XACT_READS || refuse_write(c, e);
}

/* ---- the route ------------------------------------------------------------------------------
 */

static bool is_observed(const struct client *c)
{
	return c->group->set.route_mode == ROUTE_MODE_OBSERVE;
}

/* 0: nothing is proven. */
static uint64_t era_of(const struct client *c)
{
	return sql_classifier_era(relay_of(c)->classifier, catalog_of(c->group));
}

/* That of a pair, which it is for all reads of the group; standing: before it was chosen.  While no
 * primary is known it may be either, and they take turns. */
static void note_usual(const struct client *c, struct pool *replica, unsigned standing,
		       const struct node_wish *wish)
{
	struct group *group = c->group;
	uint64_t era = era_of(c);

	size_t longest = group->set.rescue_max_size ? group->set.rescue_max_size : SIZE_MAX;

	/* Of a text its length is not looked at again. */
	if (!wish->is_only || group->config->nlanes || is_observed(c) || !era ||
	    longest < FRAME_HEADER_LEN + SQL_SHAPE_MAX + 1)
		return;
	group->usual =
	    (struct usual_replica){ .pool = replica,
				    .standing = standing,
				    .era = era,
				    .covers = wish->is_fenced ? wish->covers : UINT64_MAX,
				    .process = wish->process,
				    .longest = longest };
}

static bool begins_serializable(const struct group *group)
{
	return group->is_serializable && group->serializable_since == supply_defaults(group);
}

void gate_note_isolation(struct client *c)
{
	const char *said = param_set_get(c->wanted, SLICE(PARAM_ISOLATION));

	c->is_serializable =
	    said ? !strcasecmp(said, "serializable") : begins_serializable(c->group);
}

void gate_learn_isolation(struct client *c)
{
	struct group *group = c->group;

	if (!param_set_get(c->wanted, SLICE(PARAM_ISOLATION))) {
		group->is_serializable = true;
		group->serializable_since = supply_defaults(group);
	}
	LIST_FOREACH (at, &group->clients)
		gate_note_isolation(container_of(at, struct client, link));
}

/* What would fail on any replica, or could not be asked again when it does (I3). */
static bool is_for_primary_alone(struct client *c)
{
	if (c->is_serializable)
		gate_note_isolation(c); /* what sessions begin with may be another matter by now */
	return c->was_rescued || c->is_serializable || c->rare->listening || !rescue_has_room(c);
}

/* NULL: none will do. */
static struct pool *find_replica(struct client *c, struct node_wish *wish)
{
	unsigned standing = node_set_standing(c->group->nodes);
	struct pool *pool;
	int replica;

	fence_wish(c, wish);
	replica = node_set_replica(c->group->nodes, wish);
	pool = replica < 0 || is_for_primary_alone(c) ? NULL : lane_pool(c, (unsigned)replica);
	/* One that has just failed to connect is not asked again at once. */
	if (!pool || relay_now(c) < pool->retry_at)
		return NULL;
	if (!c->group->usual.pool || c->group->usual.standing != standing)
		note_usual(c, pool, standing, wish);
	return pool;
}

static struct pool *on_replica(struct client *c, struct pool *pool, const struct node_wish *wish)
{
	c->is_routed = true;
	c->covered_by = wish->process;
	admit_has_node(c);
	c->group->counters.replica_count++;
	tenant_count(c->tenant, TENANT_ON_REPLICA, 1);
	return pool;
}

/* lacks: a replica would have done but for what was written. */
static struct pool *on_primary(struct client *c, enum route_reason why, bool has_replica,
			       bool lacks)
{
	struct counters *counters = &c->group->counters;

	c->is_routed = false;
	c->covered_by = 0;
	if (lacks && !is_observed(c) && admit_wait_for_replica(c))
		return NULL;
	admit_has_node(c);
	counters->observed_count += has_replica;
	counters->routed_hint_count += why == ROUTED_HINT;
	counters->routed_write_count += why == ROUTED_WRITE;
	counters->routed_unfit_count += why == ROUTED_READ && !has_replica && !lacks;
	counters->routed_fenced_count += lacks;
	return gate_primary(c);
}

/* It goes to the primary; what becomes of that replica meanwhile is asked at its end. */
static void observe(struct client *c, const struct pool *replica)
{
	struct client_rare *rare = client_make_rare(c);

	rare->observed_node = replica->node;
	rare->observed_process = c->group->nodes->nodes[replica->node].process;
	c->is_observed = true;
}

void gate_note_observed(struct client *c)
{
	const struct node *node = &c->group->nodes->nodes[c->rare->observed_node];

	c->is_observed = false;
	c->group->counters.observed_lost_count +=
	    node->role != NODE_REPLICA || node->process != c->rare->observed_process;
}

static struct pool *counted(struct client *c, enum route_reason why)
{
	struct node_wish wish;
	struct pool *replica;

	if (why != ROUTED_READ)
		return on_primary(c, why, false, false);
	replica = find_replica(c, &wish);
	if (replica && is_observed(c))
		observe(c, replica);
	return replica && !is_observed(c) ? on_replica(c, replica, &wish)
					  : on_primary(c, why, replica, !replica && wish.lacks);
}

/* To parse takes the time of all clients of this thread.  Who sends a shape nobody has seen with
 * each request gets a share of it, and is for the rest judged by tokens alone.  What is paid for
 * lies at most a second ahead, so that a burst of new shapes, after a deployment, has its share at
 * once.
 */
static enum sql_class parse_within_share(struct client *c, struct slice text,
					 const struct sql_facts *facts)
{
	usec_t *until = c->tenant ? &c->tenant->parsed_until : &c->group->parsed_until;
	usec_t share = c->group->set.parse_max_time, began = clock_monotonic();
	enum sql_class class;

	if (share && *until > began + USEC_PER_SEC) {
		c->group->counters.unparsed_count++;
		return SQL_CLASS_WRITE_OR_UNKNOWN;
	}
	class = sql_classify_parse(relay_of(c)->classifier, c->group->catalog, text, facts);
	if (*until < began)
		*until = began;
	if (share)
		*until += (clock_monotonic() - began) * USEC_PER_SEC / share;
	return class;
}

bool gate_is_read(struct client *c, struct slice text, const struct sql_facts *facts)
{
	enum sql_class class;

	if (facts->hint == SQL_HINT_PRIMARY || (facts->effects & ~SQL_HARMLESS_EFFECTS))
		return false;
	if (!sql_classify_known(relay_of(c)->classifier, catalog_of(c->group), text, facts, &class))
		class = parse_within_share(c, text, facts);
	return class == SQL_CLASS_READ;
}

static PGT_NOINLINE bool prove(struct client *c, struct statement *st)
{
	uint64_t era = era_of(c); /* the catalog may be another one behind this */
	struct sql_facts facts;

	statement_facts(st, &facts);
	if (!gate_is_read(c, statement_text(st), &facts))
		return false;
	st->proven = era;
	return true;
}

bool gate_has_proof(struct client *c, const struct statement *st)
{
	uint64_t era = era_of(c);

	return era && st->proven == era;
}

bool gate_statement_is_read(struct client *c, struct statement *st)
{
	return gate_has_proof(c, st) || prove(c, st);
}

void gate_remember_write(struct client *c, struct slice text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	env.wants_fingerprint = true;
	sql_scan(text, &env, &facts);
	sql_classifier_remember_write(relay_of(c)->classifier, catalog_of(c->group), &facts);
	HMAP_FOREACH_SAFE (l, &relay_of(c)->groups)
		container_of(l, struct group, link)->usual.pool = NULL; /* another era */
}

bool gate_is_proven(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct sql_facts unhinted;

	if (facts->hint != SQL_HINT_PRIMARY)
		return gate_is_read(c, text, facts);
	unhinted = *facts;
	unhinted.hint = SQL_HINT_NONE;
	return gate_is_read(c, text, &unhinted);
}

static enum route_reason reason_of(struct client *c, struct slice text,
				   const struct sql_facts *facts)
{
	enum route_reason why;

	if (reason_is_said(facts, statement_is_mapped(c), &why))
		return why;
	return gate_is_read(c, text, facts) ? ROUTED_READ : ROUTED_WRITE;
}

struct pool *gate_peek(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct pool *replica = NULL;
	struct node_wish wish;

	if (gate_has_choice(c) && !is_observed(c) && reason_of(c, text, facts) == ROUTED_READ)
		replica = find_replica(c, &wish);
	return replica ? replica : gate_primary(c);
}

struct pool *gate_choose(struct client *c, struct slice text, const struct sql_facts *facts)
{
	enum route_reason why;

	c->reads = READS_NOT;
	c->covered_by = 0;
	if (!gate_has_choice(c))
		return gate_primary(c);
	why = reason_of(c, text, facts);
	if (why == ROUTED_READ || (why == ROUTED_HINT && gate_is_proven(c, text, facts)))
		fence_is_proven(c);
	return counted(c, why);
}

struct pool *gate_choose_among(struct client *c, struct slice text, const struct sql_facts *facts,
			       uint64_t *proven)
{
	uint64_t era = era_of(c);
	struct pool *pool;

	if (era && *proven == era) {
		fence_is_proven(c);
		return counted(c, ROUTED_READ);
	}
	pool = gate_choose(c, text, facts);
	if (c->reads == READS_PROVEN)
		*proven = era;
	return pool;
}

struct pool *gate_choose_known(struct client *c, bool is_read)
{
	if (!gate_has_choice(c))
		return gate_primary(c);
	if (is_read)
		fence_is_proven(c);
	return counted(c, is_read ? ROUTED_READ : ROUTED_WRITE);
}
