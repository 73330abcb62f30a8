/* SPDX-License-Identifier: ISC
 *
 * show_pins.c - SHOW PINS and PIN_COUNTS: which sessions keep a server to themselves, and why.
 */
#include "admin/parts.h"
#include "relay/pins.h"

#define PIN_COLUMNS(X)                                                                             \
	X(BIGINT, FIRST, client, "Number of the client, as in SHOW CLIENTS.")                      \
	X(TEXT, FIRST, database, "Database, as clients say it.")                                   \
	X(TEXT, FIRST, user, "User, as the client said it.")                                       \
	X(TEXT, FIRST, tenant, "Its tenant; empty without one.")                                   \
	X(TEXT, FIRST, reason, "What keeps the server with the client.")                           \
	X(TEXT, FIRST, help, "What that is.")                                                      \
	X(TEXT, FIRST, statement, "Beginning of the statement that made it.")                      \
	X(TIME, FIRST, since, "Since when.")                                                       \
	X(INT, FIRST, age, "For how many seconds.")
LAYOUT_DEFINE(pin, PIN_COLUMNS);

static void client_rows(const struct client *c, struct table *t)
{
	usec_t now = loop_now(c->conn.net->loop);

	for (unsigned i = 0; i < NPINS; i++) {
		const struct pin *pin = client_pin(c, i);

		if (!pin)
			continue;
		table_add(t, &(struct pin_row){ .client = (int64_t)c->id,
						.database = c->group->name,
						.user = c->user,
						.tenant = tenant_name(c->tenant),
						.reason = pin_name(i),
						.help = pin_help(i),
						.statement = pin->statement,
						.since = clock_wall() - (now - pin->since),
						.age = (now - pin->since) / USEC_PER_SEC });
	}
}

static void group_clients(struct group *group, struct table *t)
{
	LIST_FOREACH (at, &group->clients) {
		const struct client *c = container_of(at, struct client, link);

		if (c->pins)
			client_rows(c, t);
	}
}

static void pins_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_clients, t);
}

const struct show show_pins = { .shown = &pin_layout, .visit = pins_visit };

#define PIN_COUNT_COLUMNS(X)                                                                       \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, user, "User on the server.")                                                  \
	X(TEXT, KEY, tenant, "Tenant; empty without one.")                                         \
	X(TEXT, KEY, reason, "What kept servers with their clients.")                              \
	X(BIGINT, SUM, now, "Sessions that keep a server for it.")                                 \
	X(BIGINT, SUM, total, "Times that a session began to.")
LAYOUT_DEFINE(pin_count, PIN_COUNT_COLUMNS);

static struct pin_count_row row_of(const struct group *group, const char *tenant,
				   enum pin_reason reason)
{
	return (struct pin_count_row){ .database = group->name,
				       .user = group->user,
				       .tenant = tenant,
				       .reason = pin_name(reason) };
}

static void add_totals(const struct group *group, const struct pinner *p, struct table *t)
{
	for (unsigned i = 0; i < NPINS; i++) {
		struct pin_count_row row = row_of(group, p->tenant, i);

		row.total = (int64_t)p->counts[i];
		if (row.total)
			table_add(t, &row);
	}
}

/* Added to the totals of its tenant and reason. */
static void add_now(const struct client *c, struct table *t)
{
	for (unsigned i = 0; i < NPINS; i++) {
		struct pin_count_row row = row_of(c->group, tenant_name(c->tenant), i);

		row.now = 1;
		if (client_pin(c, i))
			table_add(t, &row);
	}
}

static void group_counts(struct group *group, struct table *t)
{
	for (struct hlink *l = hmap_walk(&group->pinners, NULL); l;
	     l = hmap_walk(&group->pinners, l))
		add_totals(group, container_of(l, struct pinner, link), t);
	LIST_FOREACH (at, &group->clients) {
		const struct client *c = container_of(at, struct client, link);

		if (c->pins)
			add_now(c, t);
	}
}

static void pin_counts_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_counts, t);
}

const struct show show_pin_counts = { .shown = &pin_count_layout, .visit = pin_counts_visit };
