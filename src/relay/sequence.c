/* SPDX-License-Identifier: ISC
 *
 * sequence.c - currval() and lastval() of a session: what its own nextval() left, or an error,
 * never another client's value (I2).
 *
 * PostgreSQL keeps these values in the session, no question tells them apart, and every INSERT into
 * a serial column changes them.  So a client that reads them is noticed by its texts and keeps its
 * server from then on (pins.c), and in a group with such clients a server that changes hands
 * forgets them first (DISCARD SEQUENCES, in session.c).
 */
#include "relay/parts.h"
#include "route/nodes.h"

#define READS_ANY (SQL_SEQUENCE_READS | SQL_SEQUENCE_READS_LAST)

void sequence_expect(struct client *c, uint8_t sequence)
{
	if (!(sequence & READS_ANY))
		return;
	c->group->reads_sequences = true;
	c->reads_sequence = true;
}

struct slot *sequence_slot(const struct client *c, const struct pool *pool)
{
	LIST_FOREACH (at, &pool->slots[SLOT_IDLE]) {
		struct slot *slot = container_of(at, struct slot, link);

		if (sequence_has_own(c, container_of(slot, struct server, slot)))
			return slot;
	}
	return NULL;
}

bool sequence_is_kept(const struct group *group, const struct server *s)
{
	if (!group->reads_sequences)
		return false;
	LIST_FOREACH (at, &group->clients) {
		const struct client *c = container_of(at, struct client, link);

		if (c->keeps_sequence && sequence_has_own(c, s))
			return true;
	}
	return false;
}

bool sequence_allow(const struct client *c, uint8_t sequence, struct err *e)
{
	const struct server *s = c->server;
	bool is_elsewhere = c->sequence_server && c->sequence_server != s->id;
	bool is_mixed =
	    s->sequence_mixed && ((sequence & SQL_SEQUENCE_READS) || !sequence_has_own(c, s));

	/* In a failed transaction the server tells nothing. */
	if (!(sequence & READS_ANY) || !(is_elsewhere || is_mixed) || s->tx == 'E')
		return true;
	err_set(e, "55000",
		"the values of currval() and lastval() were left on a server that others have used "
		"since");
	return err_hint(e, "In transaction pooling they are kept for a session that asks for them, "
			   "from its next nextval() or INSERT on. Ask in the same transaction, use "
			   "INSERT … RETURNING, or set sequence_state = pin.");
}

bool sequence_note(struct client *c, uint8_t sequence)
{
	bool pins;

	/* None does in recovery, and nobody may be tied to a replica (I4). */
	if (c->server->node->role == NODE_REPLICA)
		sequence &= (uint8_t)~SQL_SEQUENCE_ADVANCES;
	pins = (sequence & SQL_SEQUENCE_ADVANCES) &&
	       (c->keeps_sequence || c->group->set.sequence_state == SEQUENCE_STATE_PIN);

	if (sequence & SQL_SEQUENCE_ADVANCES)
		c->sequence_server = c->server->id;
	if (sequence & READS_ANY)
		c->keeps_sequence = true;
	return pins;
}

void sequence_lose(struct client *c)
{
	c->sequence_server = SEQUENCE_LOST;
}

void sequence_forget(struct client *c)
{
	c->sequence_server = 0;
	c->server->sequence_mixed = false;
}
