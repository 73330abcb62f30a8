/* SPDX-License-Identifier: ISC
 *
 * move.c - sessions that go to another process, and sessions that come from one.
 *
 * Knows all that a session at rest is; when it cannot be told in a passport, the session stays.
 * How the two processes talk is not known here.
 */
#include "base/mem.h"
#include "relay/parts.h"
#include "relay/relay.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "route/fence.h"
#include "wire/passport.h"

#include <string.h>
#include <unistd.h>

/* ---- may it go --------------------------------------------------------------------------------
 */

/* Nothing is at hand that was read, or has to be written; what the socket has is the other
 * process's to read. */
static bool is_quiet(const struct conn *conn)
{
	return conn->phase == CONN_OPEN && !conn->tls && !conn->write_failed && !conn->cur &&
	       !conn_input(conn).n && !conn_unsent(conn);
}

static bool waits(const struct client *c)
{
	return c->waiter || c->admission || list_is_linked(&c->begin_link);
}

static bool is_in_request(const struct client *c)
{
	return c->server || c->begin || c->rare->begun || c->in_batch || c->stream_left ||
	       c->rare->guard || c->skips_to_sync || c->turn_missed || c->chosen || c->is_routed ||
	       c->xact || c->claims || c->resets || c->has_reset || c->rare->named ||
	       c->rare->putbacks || c->cancel_asked;
}

/* What a passport has no field for. */
static bool has_more(const struct client *c)
{
	return c->rare->stays || c->rare->listening || c->rare->lost || c->pins || c->touched ||
	       c->env_unsure || c->path_unsure || c->group->replication || c->group->gone ||
	       (c->keeps_sequence && c->sequence_server);
}

static bool is_choosing(const struct client *c)
{
	const struct whose *w = c->whose;

	return w && (whose_is_pending(c) || whose_is_seeking(c) || w->in_batch || w->failed ||
		     w->is_over || !list_is_empty(&w->portals));
}

static bool may_go(const struct client *c)
{
	return c->phase == CLIENT_READY && is_quiet(&c->conn) && !waits(c) && !is_in_request(c) &&
	       !has_more(c) && !is_choosing(c);
}

/* ---- going ------------------------------------------------------------------------------------
 */

static struct slice put_params(struct buf *out, const struct param_set *set)
{
	for (unsigned i = 0; set && i < set->n; i++)
		passport_put_pair(out, set->items[i].name, set->items[i].value);
	return buf_peek(out);
}

/* A secret that the other process would find in its own configuration stays here. */
static void put_credential(struct passport *p, const struct group *group)
{
	const struct credential *own = &group->credential;
	const struct userlist_entry *entry =
	    userlist_find(group->config->userlist, slice_str(group->user));

	if (*group->database_conf->user)
		return;
	if (own->has_scram_keys) {
		p->client_key = slice_of((const char *)own->client_key, sizeof(own->client_key));
		p->server_key = slice_of((const char *)own->server_key, sizeof(own->server_key));
	}
	if (own->has_password && !(entry && !strcmp(entry->password, own->password)))
		p->password = own->password;
}

/* False: it has statements that cannot be told. */
static bool write_passport(struct client *c, struct buf *out)
{
	const struct tenant *base = c->whose ? c->whose->base : c->tenant;
	struct buf params[3] = { { 0 } }, statements = { 0 };
	struct passport p = { .database = c->group->name,
			      .user = c->user,
			      .server_user = c->group->user,
			      .tenant = base ? base->name : "",
			      .tenant_id = base ? base->business_id : "",
			      .session_id = c->whose && c->tenant ? c->tenant->business_id : "",
			      .pid = c->pid,
			      .secret = slice_of((const char *)client_secret(c), c->secret_len),
			      .connected_at = (uint64_t)c->connected_at,
			      .base = put_params(&params[0], c->base),
			      .wanted = put_params(&params[1], c->wanted),
			      .told = put_params(&params[2], c->told),
			      .traits = (c->keeps_sequence ? PASSPORT_KEEPS_SEQUENCE : 0) |
					(c->sequence_server ? PASSPORT_LEAVES_SEQUENCE : 0),
			      .prepared_effects = c->prepared_effects,
			      .prepared_sequence = c->prepared_sequence };
	bool ok = statement_write_all(c, &statements);

	if (ok) {
		p.statements = buf_peek(&statements);
		put_credential(&p, c->group);
		passport_put(out, &p);
	}
	for (size_t i = 0; i < PGT_NELEMS(params); i++)
		buf_fini(&params[i]);
	buf_fini(&statements);
	return ok;
}

static void give(struct client *c)
{
	struct relay *r = relay_of(c);
	struct buf passport = { 0 };

	if (may_go(c) && write_passport(c, &passport)) {
		int fd;

		/* First: its session finds it there. */
		handover_go_along(c->group);
		/* From here on nothing is read: what comes is the other process's. */
		fd = conn_take_fd(&c->conn);
		client_close(c, NULL, "it goes on in another process");
		r->give->session(r->give_arg, fd, &passport);
	}
	buf_wipe(&passport);
}

static void give_sessions(struct group *group)
{
	LIST_FOREACH_SAFE (at, &group->clients)
		give(container_of(at, struct client, link));
	/* A client needs one server at a time: the others make room for the other process's. */
	handover_give_idle(group, group->nclients);
	relay_drop_idle(group, group->nclients);
}

void relay_give_away(struct relay *r, const struct relay_givers *givers, void *arg)
{
	r->give = givers;
	r->give_arg = arg;
	if (!givers)
		return;
	HMAP_FOREACH_SAFE (l, &r->groups)
		handover_begin(container_of(l, struct group, link));
	relay_give_on(r);
}

void relay_give_on(struct relay *r)
{
	HMAP_FOREACH_SAFE (l, &r->groups)
		give_sessions(container_of(l, struct group, link));
}

void move_note_leaver(struct client *c)
{
	buf_put(&relay_of(c)->leavers, &c, sizeof(c));
}

void move_forget(struct client *c)
{
	struct buf *leavers = &relay_of(c)->leavers;

	for (size_t i = leavers->start; i < leavers->end; i += sizeof(c))
		if (!memcmp(leavers->data + i, &c, sizeof(c)))
			memset(leavers->data + i, 0, sizeof(c));
}

void relay_give_leavers(struct relay *r)
{
	struct client *c;

	while (buf_len(&r->leavers) >= sizeof(c)) {
		memcpy(&c, buf_head(&r->leavers), sizeof(c));
		buf_consume(&r->leavers, sizeof(c));
		if (c && r->give)
			give(c);
	}
}

/* ---- coming -----------------------------------------------------------------------------------
 */

static void read_params(struct param_set **at, struct group *group, struct slice pairs)
{
	struct param_set *set = param_set_ref(group->params.empty);
	const char *name, *value;

	while (pairs.n && passport_next_pair(&pairs, &name, &value)) {
		struct param_set *next = param_set_with(set, slice_str(name), slice_str(value));

		param_set_unref(set);
		set = next;
	}
	param_set_assign(at, set);
	param_set_unref(set);
}

/* False: it cannot be whose it was (*e). */
static bool choose_again(struct client *c, const char *id, struct err *e)
{
	struct tenant *tenant;
	bool ok;

	if (!*id || (c->tenant && !strcmp(c->tenant->business_id, id)))
		return true;
	if (!c->whose)
		return err_set(e, "57P01", "the configuration has changed, please connect again");
	tenant = whose_find(c, slice_str(id), e);
	ok = tenant && whose_become(c, tenant, false, e);
	tenant_unref(tenant);
	return ok;
}

void move_settle_in(struct client *c)
{
	const struct passport *p = client_passport(c);
	struct err e;

	read_params(&c->wanted, c->group, p->wanted);
	gate_note_isolation(c);
	read_params(&c->told, c->group, p->told);
	if (!choose_again(c, p->session_id, &e)) {
		client_close(c, &e, e.text);
		return;
	}
	statement_read_all(c, p->statements);
	c->prepared_effects = (uint32_t)p->prepared_effects;
	c->prepared_sequence = (uint8_t)p->prepared_sequence;
	c->keeps_sequence = p->traits & PASSPORT_KEEPS_SEQUENCE;
	if (p->traits & PASSPORT_LEAVES_SEQUENCE)
		sequence_lose(c);
	/* What it has written it has written before. */
	client_make_rare(c)->fence = fence_now();
	client_make_rare(c)->stays = p->traits & PASSPORT_STAYS;
	client_go_on(c);
}
