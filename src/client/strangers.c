/* SPDX-License-Identifier: ISC
 *
 * strangers.c - connections of the process that have not proved who they are: how many there may
 * be.
 *
 * Counts; does not know how they prove it.
 */
#include "client/strangers.h"

#include "base/crowd.h"

#include <pthread.h>

/* Room for cancel requests and logins where max_client_conn leaves little. */
#define STRANGERS_MIN 256

static struct {
	pthread_mutex_t lock;
	struct crowd trying;
	unsigned turned_away;
} strangers = { .lock = PTHREAD_MUTEX_INITIALIZER };

unsigned strangers_max(const struct settings *set)
{
	unsigned max = set->max_client_conn;

	return max && max < STRANGERS_MIN ? STRANGERS_MIN : max;
}

static enum stranger admit(const struct addr *peer, unsigned max)
{
	uint64_t origin = addr_origin(peer);

	if (peer->family == AF_UNIX)
		return STRANGER_LET_TRY;
	if (!max || crowd_has_room(&strangers.trying, origin, 2 * max)) {
		crowd_enter(&strangers.trying, origin);
		return STRANGER_LET_TRY;
	}
	if (strangers.turned_away >= max)
		return STRANGER_UNHEARD;
	strangers.turned_away++;
	return STRANGER_TURNED_AWAY;
}

enum stranger strangers_enter(const struct addr *peer, unsigned max)
{
	enum stranger as;

	pthread_mutex_lock(&strangers.lock);
	as = admit(peer, max);
	pthread_mutex_unlock(&strangers.lock);
	return as;
}

void strangers_leave(const struct addr *peer, enum stranger as)
{
	pthread_mutex_lock(&strangers.lock);
	if (as == STRANGER_LET_TRY && peer->family != AF_UNIX)
		crowd_leave(&strangers.trying, addr_origin(peer));
	else if (as == STRANGER_TURNED_AWAY)
		strangers.turned_away--;
	pthread_mutex_unlock(&strangers.lock);
}
