/* SPDX-License-Identifier: ISC
 *
 * show_logins.c - SHOW LOGINS: who has failed to log in, and has to wait.
 */
#include "admin/parts.h"
#include "client/throttle.h"
#include "worker/control.h"

#define LOGIN_COLUMNS(X)                                                                           \
	X(TEXT, FIRST, address, "Where it came from: an address of IPv4, a /64 of IPv6.")          \
	X(TEXT, FIRST, user, "Whom it said that it is, there or not; empty: all of the address.")  \
	X(INT, FIRST, failures, "Wrong proofs, one after the other.")                              \
	X(INT, FIRST, refused, "Logins that were refused for that.")                               \
	X(INT, FIRST, wait, "Seconds for which further ones are; 0: it may try.")
LAYOUT_DEFINE(login, LOGIN_COLUMNS);

struct logins {
	struct table *table;
	usec_t now;
};

static void add_row(void *arg, const struct throttle_facts *facts)
{
	const struct logins *logins = arg;
	usec_t left = facts->until > logins->now ? facts->until - logins->now : 0;
	char address[ADDR_ORIGIN_TEXT_MAX];

	addr_origin_text(facts->origin, address);
	table_add(logins->table,
		  &(struct login_row){ .address = address,
				       .user = facts->user,
				       .failures = facts->failures,
				       .refused = facts->refused,
				       .wait = (left + USEC_PER_SEC - 1) / USEC_PER_SEC });
}

static void logins_local(struct control *c, struct table *t)
{
	struct logins logins = { .table = t, .now = loop_now(c->net.loop) };

	throttle_each(logins.now, add_row, &logins);
}

const struct show show_logins = { .shown = &login_layout, .local = logins_local };
