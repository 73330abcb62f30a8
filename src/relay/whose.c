/* SPDX-License-Identifier: ISC
 *
 * whose.c - the tenants of a session that may choose: now, when its transaction has ended, and to
 * begin with.
 *
 * A transaction is one of BEGIN's, or a batch up to its Sync.  What is chosen in it before its
 * first statement goes to a server ends with it or stays, as SET LOCAL and SET do; nothing is
 * chosen later, so no savepoint can lie between.  Knows no message.
 */
#include "relay/whose.h"

#include "base/mem.h"
#include "relay/parts.h"

#include <stdlib.h>

/* ---- counted among a tenant's clients ---------------------------------------------------------
 */

static bool is_held(const struct client *c, const struct tenant *tenant)
{
	const struct whose *w = c->whose;

	return tenant == c->tenant || tenant == w->session || tenant == w->pending;
}

/* It has to be put somewhere next.  False: it has as many clients as it may. */
static bool hold(const struct client *c, struct tenant *tenant, struct err *e)
{
	if (!tenant || is_held(c, tenant) ||
	    slot_take(&tenant->shared->clients, tenant->set.tenant_max_client_conn))
		return true;
	return err_set(e, "53300", "no more connections allowed (max_client_conn of the tenant)");
}

/* One that is held. */
static void put(struct client *c, struct tenant **at, struct tenant *tenant)
{
	struct tenant *before = *at;

	*at = tenant_ref(tenant);
	if (before && !is_held(c, before))
		slot_give_back(&before->shared->clients);
	tenant_unref(before);
}

/* A server that the client keeps is brought in line before its next statement. */
static void be(struct client *c, struct tenant *tenant)
{
	if (tenant == c->tenant)
		return;
	put(c, &c->tenant, tenant);
	if (c->server)
		context_look(c);
}

static void forget_sought(struct whose *w)
{
	free(w->sought);
	free(w->why_not);
	w->sought = NULL;
	w->why_not = NULL;
}

/* ---- a session ----------------------------------------------------------------------------------
 */

void whose_begin(struct client *c)
{
	const struct tenant_by *by = &c->group->set.tenant_by;
	struct whose *w = c->whose = xnew(struct whose);

	w->base = tenant_ref(c->tenant);
	w->session = tenant_ref(c->tenant);
	w->pending = tenant_ref(c->tenant);
	w->by_set = tenant_by_has(by, TENANT_BY_SET);
	w->by_comment = tenant_by_has(by, TENANT_BY_COMMENT);
	list_init(&w->portals);
}

/* What c->tenant is stays counted. */
void whose_forget(struct client *c)
{
	struct whose *w = c->whose;

	if (!w)
		return;
	whose_close_portals(c);
	put(c, &w->session, c->tenant);
	put(c, &w->pending, c->tenant);
	tenant_unref(w->session);
	tenant_unref(w->pending);
	tenant_unref(w->base);
	forget_sought(w);
	free(w);
	c->whose = NULL;
}

bool whose_may_run(const struct client *c, struct err *e)
{
	const struct settings *set = &c->group->set;

	if (c->tenant || c->whose->is_apart || set->no_tenant == NO_TENANT_EMPTY)
		return true;
	err_set(e, "42501", "permission denied: the session has not said whose it is");
	if (c->whose->by_set)
		return err_hint(e, "Set \"%s\" to the tenant's id first (no_tenant = reject).",
				set->tenant_setting);
	return err_hint(e, "Give the id in a comment, /*%s='…'*/ (no_tenant = reject).",
			set->tenant_comment_key);
}

bool whose_is_pending(const struct client *c)
{
	return c->tenant != c->whose->session || c->whose->pending != c->whose->session;
}

/* ---- tenants ------------------------------------------------------------------------------------
 */

static bool is_sought(const struct whose *w, struct slice id)
{
	return w->sought && slice_is_equal(slice_str(w->sought), id);
}

bool whose_must_seek(struct client *c, struct slice id)
{
	const struct config *config = relay_of(c)->config;
	struct whose *w = c->whose;

	if (!id.n || !config_may_look_up(config) || config_tenant_by_business_id(config, id) ||
	    (is_sought(w, id) && w->is_answered))
		return false;
	c->turn_missed = true;
	if (is_sought(w, id))
		return true;
	forget_sought(w);
	w->sought = xmemdup0(id.p, id.n);
	w->sought_at = relay_now(c);
	w->is_answered = false;
	c->host->seek_tenant(c, id);
	return true;
}

bool whose_is_seeking(const struct client *c)
{
	return c->whose && c->whose->sought && !c->whose->is_answered;
}

void whose_tenant_told(struct client *c, struct slice id, const struct err *why_not)
{
	struct whose *w = c->whose;

	/* Nobody waits for that any more. */
	if (!whose_is_seeking(c) || !is_sought(w, id))
		return;
	w->is_answered = true;
	w->why_not = err_copy(why_not);
	relay_go_on(c);
}

void whose_sweep(struct client *c, usec_t now)
{
	usec_t limit = c->group->set.query_wait_timeout;
	struct err e;

	if (!limit || !whose_is_seeking(c) || !conn_input(&c->conn).n ||
	    now - c->whose->sought_at < limit)
		return;
	err_set(&e, "57P03",
		"tenant \"%.100s\" could not be looked up in time (query_wait_timeout)",
		c->whose->sought);
	err_hint(&e, "SHOW TENANT_QUERY on the console says what is wrong.");
	whose_tenant_told(c, slice_str(c->whose->sought), &e);
}

/* An answer counts once. */
static bool was_unanswered(struct whose *w, struct slice id, struct err *e)
{
	bool is_unanswered = is_sought(w, id) && w->why_not;

	if (is_unanswered)
		*e = *w->why_not;
	forget_sought(w);
	return is_unanswered;
}

/* A session may come from where one of its tenants may not. */
static bool may_choose(const struct client *c, const struct tenant *tenant, struct err *e)
{
	const char *list = tenant->set.allow_from;
	struct net_origin from;

	if (!*list)
		return true;
	from = client_from(c);
	return networks_have(list, &from) ||
	       err_set(e, "42501",
		       "permission denied: tenant \"%.100s\" may not be chosen from this address "
		       "(allow_from)",
		       tenant->name);
}

struct tenant *whose_find(struct client *c, struct slice id, struct err *e)
{
	struct relay *r = relay_of(c);
	const struct config *config = r->config;
	const struct tenant_conf *conf = config_tenant_by_business_id(config, id);
	struct tenant *tenant;
	char *business_id;

	if (!id.n) {
		err_set(e, "42501", "permission denied: the tenant is empty");
		return NULL;
	}
	if (!conf && was_unanswered(c->whose, id, e))
		return NULL;
	if (!conf && (!config->unknown_tenant_tier || memchr(id.p, '\0', id.n) ||
		      config_tenant_by_name(config, id))) {
		err_set(e, "28000", "tenant \"%.*s\" is not known (unknown_tenant)",
			(int)(id.n < 100 ? id.n : 100), id.p);
		return NULL;
	}
	business_id = xmemdup0(id.p, id.n);
	tenant =
	    tenant_get(&r->tenants, config, conf ? slice_str(conf->name) : id, business_id, conf);
	free(business_id);
	if (context_may_carry(c->group, tenant, e) && may_choose(c, tenant, e))
		return tenant;
	tenant_unref(tenant);
	return NULL;
}

bool whose_become(struct client *c, struct tenant *tenant, bool is_local, struct err *e)
{
	struct whose *w = c->whose;

	if (!hold(c, tenant, e))
		return false;
	be(c, tenant);
	if (!is_local)
		put(c, &w->pending, tenant);
	if (!c->begin && !w->in_batch && !is_local)
		whose_end(c, true);
	return true;
}

bool whose_become_later(struct client *c, struct tenant *tenant, struct err *e)
{
	if (!hold(c, tenant, e))
		return false;
	put(c, &c->whose->pending, tenant);
	return true;
}

/* ---- the end of a transaction -------------------------------------------------------------------
 */

void whose_end(struct client *c, bool commits)
{
	struct whose *w = c->whose;

	if (commits)
		put(c, &w->session, w->pending);
	else
		put(c, &w->pending, w->session);
	be(c, w->session);
	w->failed = w->committed = w->has_end = false;
	whose_close_portals(c);
}

void whose_on_error(struct client *c)
{
	c->whose->failed |= !c->whose->committed;
}

/* ROLLBACK TO has the tag of ROLLBACK, and more behind it; the last tag is that of the end. */
void whose_on_tag(struct client *c, struct slice tag)
{
	if (slice_is_equal(tag, SLICE("ROLLBACK")))
		c->whose->failed = true;
	else if (slice_is_equal(tag, SLICE("COMMIT")) ||
		 slice_is_equal(tag, SLICE("PREPARE TRANSACTION")))
		c->whose->committed = true;
}

void whose_on_ready(struct client *c, char tx)
{
	struct whose *w = c->whose;

	w->in_batch = false;
	w->is_over = tx == 'I';
	if (!w->is_over)
		w->failed = w->committed = w->has_end = false;
}

void whose_settle(struct client *c)
{
	if (!c->whose->is_over)
		return;
	c->whose->is_over = false;
	whose_end(c, c->whose->committed || !c->whose->failed);
}
