/* SPDX-License-Identifier: ISC
 *
 * rls.c - whether row-level security binds the role of a server connection (require_rls).
 *
 * Knows who is above policies: superusers, roles with BYPASSRLS, owners of tables, and whoever may
 * become one of these.  FORCE ROW LEVEL SECURITY does not bind an owner for good: it can take it
 * off.
 */
#include "server/rls.h"

/* What is wrong and what mends it, the worst first; no row: nothing. */
static const char ask_role[] =
    "SELECT what, mend FROM ("
    "SELECT 1, 'is a superuser',"
    " pg_catalog.format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS;', current_user)"
    " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND rolsuper"
    " UNION ALL SELECT 2, 'has BYPASSRLS',"
    " pg_catalog.format('ALTER ROLE %I NOBYPASSRLS;', current_user)"
    " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND rolbypassrls"
    " UNION ALL SELECT 3, pg_catalog.format("
    "'may become %I, which row-level security does not bind', rolname),"
    " pg_catalog.format('REVOKE %I FROM %I;', rolname, current_user)"
    " FROM pg_catalog.pg_roles WHERE (rolsuper OR rolbypassrls)"
    " AND rolname OPERATOR(pg_catalog.<>) current_user AND pg_catalog.pg_has_role(oid, 'MEMBER')"
    " UNION ALL SELECT 4, pg_catalog.format('has the rights of the owner of %s',"
    " oid::pg_catalog.regclass), pg_catalog.format('ALTER TABLE %s OWNER TO another_role;"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON %1$s TO %2$I;', oid::pg_catalog.regclass,"
    " current_user)"
    " FROM pg_catalog.pg_class WHERE relrowsecurity"
    " AND pg_catalog.pg_has_role(relowner, 'MEMBER')"
    ") AS found (rank, what, mend) ORDER BY rank, what LIMIT 1";

bool rls_is_due(const struct server *s)
{
	const struct group *group = s->pool ? s->pool->group : NULL;

	return group && group->has_tenants && group->set.require_rls && !group->replication;
}

static void on_row(struct server *s, void *arg PGT_UNUSED, const struct slice *columns, unsigned n)
{
	struct err *e = &s->pool->error;

	if (n != 2 || !columns[0].p || !columns[1].p)
		return;
	s->is_unbound = true;
	err_set(e, "42501", "role \"%s\" must not serve tenants (require_rls): it %.*s",
		s->pool->group->user, SLICE_FMT(columns[0]));
	err_hint(e, "%.*s", SLICE_FMT(columns[1]));
}

void rls_ask(struct server *s,
	     void (*done)(struct server *s, void *arg, const struct report *error))
{
	struct question q = { .row = on_row, .done = done };

	server_ask(s, ask_role, &q);
}
