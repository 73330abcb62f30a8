/* SPDX-License-Identifier: ISC
 *
 * signature.c - proves to the database whose statements a server runs, where there is a key.
 *
 * Knows when a signature is missing and how it is set; what is signed is auth/sign.c's, who has
 * lost it the relay's.
 */
#include "server/signature.h"

#include "tenant/tenant.h"

#include <stdlib.h>

/* Signed for this process, and for no later one of the same number. */
static const char ask_backend[] =
    "SELECT pid, pg_catalog.round(extract(epoch FROM backend_start) OPERATOR(pg_catalog.*) "
    "1000000)::pg_catalog.int8 FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())";

/* With parameters, since other sessions of the role read texts. */
static const char set_signature[] = "SELECT pg_catalog.set_config($1, $2, false)";

void signature_forget(struct server *s)
{
	s->signed_by = 0;
}

void signature_make(struct server *s, const struct tenant *tenant, char out[SIGN_MAX])
{
	const struct sign_keys *keys = signature_keys(s);

	*out = '\0';
	if (!keys || !s->started_at)
		return;
	s->signed_by = sign_keys_mark(keys);
	/* One that is too long stays unsigned, so that the database refuses it. */
	if (tenant &&
	    !sign_context(keys, slice_str(tenant->business_id), s->pid, s->started_at, out))
		*out = '\0';
}

static void on_signed(struct server *s, void *arg, const struct report *error)
{
	if (error)
		signature_forget(s);
	s->signature_done(s, arg, error);
}

/* A reload may have taken the keys away since it was asked for. */
static void set(struct server *s)
{
	struct question q = { .done = on_signed };
	char signature[SIGN_MAX];
	const char *values[] = { SIGN_SETTING, signature };

	if (!s->pool->group->tenant || !signature_keys(s)) {
		s->signature_done(s, NULL, NULL);
		return;
	}
	signature_make(s, s->pool->group->tenant, signature);
	server_ask_bound(s, set_signature, values, PGT_NELEMS(values), &q);
}

static uint64_t to_number(struct slice digits)
{
	char room[24] = "";

	if (digits.p && digits.n < sizeof(room))
		memcpy(room, digits.p, digits.n);
	return strtoull(room, NULL, 10);
}

static void on_backend(struct server *s, void *arg PGT_UNUSED, const struct slice *columns,
		       unsigned n)
{
	if (n == 2 && to_number(columns[0]) == s->pid)
		s->started_at = to_number(columns[1]);
}

static void on_backend_known(struct server *s, void *arg, const struct report *error)
{
	const struct report another = {
		.severity = SLICE("ERROR"),
		.sqlstate = SLICE("58000"),
		.message =
		    SLICE("the server is another process than it said at login: signing needs a "
			  "connection without a pooler in between")
	};

	if (error || !s->started_at)
		s->signature_done(s, arg, error ? error : &another);
	else
		set(s);
}

void signature_bring(struct server *s,
		     void (*done)(struct server *s, void *arg, const struct report *error))
{
	struct question q = { .row = on_backend, .done = on_backend_known };

	s->signature_done = done;
	if (s->started_at)
		set(s);
	else
		server_ask(s, ask_backend, &q);
}
