/* SPDX-License-Identifier: ISC
 *
 * logins.c - places for logins on a server, by turns.
 *
 * Knows databases as names only: any pointer that is the same for the same one.
 */
#include "route/logins.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/slice.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Behind this time a login leaves its place to others. */
#define LONG_LOGIN USEC_PER_SEC

struct logins {
	struct hlink link;
	unsigned refs;
	unsigned nfresh;    /* that do not take long … */
	struct list fresh;  /* … the oldest first */
	unsigned under_way; /* all of them */
	unsigned nwaiting;
	struct hmap lines;   /* by database */
	struct list waiting; /* lines in which somebody waits; the next one first */
	char name[];
};

/* Of a database on a server; it is there as long as one of its logins is under way or waits. */
struct login_line {
	struct hlink link;
	struct logins *logins;
	const void *database;
	unsigned under_way;
	unsigned nwaiting;
	struct list waits;
	struct list turn; /* of logins.waiting */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hmap servers;
static atomic_uint waiting_anywhere;
static unsigned max; /* 0: any number */

/* ---- servers and their databases --------------------------------------------------------------
 */

static struct logins *find_server(struct slice name, uint64_t hash)
{
	for (struct hlink *at = hmap_first(&servers, hash); at; at = hmap_next(at)) {
		struct logins *l = container_of(at, struct logins, link);

		if (slice_is_equal(slice_str(l->name), name))
			return l;
	}
	return NULL;
}

static struct logins *server_new(struct slice name, uint64_t hash)
{
	struct logins *l = xcalloc(1, sizeof(*l) + name.n + 1);

	memcpy(l->name, name.p, name.n);
	list_init(&l->fresh);
	list_init(&l->waiting);
	hmap_insert(&servers, &l->link, hash);
	return l;
}

struct logins *logins_get(const char *host, uint16_t port)
{
	struct buf name = { 0 };
	struct logins *l;
	uint64_t hash;

	buf_printf(&name, "%s:%u", host, port);
	hash = hash_bytes(buf_peek(&name).p, buf_peek(&name).n);
	pthread_mutex_lock(&lock);
	l = find_server(buf_peek(&name), hash);
	if (!l)
		l = server_new(buf_peek(&name), hash);
	l->refs++;
	pthread_mutex_unlock(&lock);
	buf_fini(&name);
	return l;
}

void logins_put(struct logins *l)
{
	pthread_mutex_lock(&lock);
	if (!--l->refs) {
		PGT_ASSERT(!l->under_way && !l->nwaiting);
		hmap_remove(&servers, &l->link);
		hmap_fini(&l->lines);
		if (!servers.count)
			hmap_fini(&servers);
		free(l);
	}
	pthread_mutex_unlock(&lock);
}

static struct login_line *line_of(struct logins *l, const void *database)
{
	uint64_t hash = hash_bytes((const char *)&database, sizeof(database));
	struct login_line *line;

	for (struct hlink *at = hmap_first(&l->lines, hash); at; at = hmap_next(at)) {
		line = container_of(at, struct login_line, link);
		if (line->database == database)
			return line;
	}
	line = xnew(struct login_line);
	line->logins = l;
	line->database = database;
	list_init(&line->waits);
	list_init(&line->turn);
	hmap_insert(&l->lines, &line->link, hash);
	return line;
}

static void forget_if_unused(struct login_line *line)
{
	if (line->under_way || line->nwaiting)
		return;
	hmap_remove(&line->logins->lines, &line->link);
	free(line);
}

/* ---- places -----------------------------------------------------------------------------------
 */

static bool may_begin(const struct login_line *line)
{
	return !max || (line->logins->nfresh < max && line->under_way < max);
}

static void begin(struct login_line *line, struct login_place *place, usec_t now)
{
	place->line = line;
	place->since = now;
	list_push_back(&line->logins->fresh, &place->link);
	line->logins->nfresh++;
	line->logins->under_way++;
	line->under_way++;
}

static void cease_to_be_fresh(struct login_place *place)
{
	list_del(&place->link);
	place->line->logins->nfresh--;
}

static void count_wait(struct login_line *line, int change)
{
	line->nwaiting += (unsigned)change;
	line->logins->nwaiting += (unsigned)change;
	atomic_fetch_add_explicit(&waiting_anywhere, (unsigned)change, memory_order_relaxed);
}

static void take_out_of_line(struct login_wait *w)
{
	struct login_line *line = w->line;

	w->line = NULL;
	list_del(&w->link);
	count_wait(line, -1);
	if (!line->nwaiting)
		list_del(&line->turn);
}

static void stand_in_line(struct login_wait *w, struct login_line *line)
{
	w->line = line;
	list_push_back(&line->waits, &w->link);
	if (!line->nwaiting)
		list_push_back(&line->logins->waiting, &line->turn);
	count_wait(line, 1);
}

/* A database that has all the logins that it may have is passed over. */
static struct login_line *next_line(const struct logins *l)
{
	LIST_FOREACH (at, &l->waiting) {
		struct login_line *line = container_of(at, struct login_line, turn);

		if (may_begin(line))
			return line;
	}
	return NULL;
}

static void grant(struct login_line *line, usec_t now)
{
	struct login_wait *w = container_of(list_first(&line->waits), struct login_wait, link);
	struct login_desk *desk = w->desk;

	take_out_of_line(w);
	/* The others of its database come behind those of the next one. */
	if (line->nwaiting) {
		list_del(&line->turn);
		list_push_back(&line->logins->waiting, &line->turn);
	}
	begin(line, &w->place, now);
	list_push_back(&desk->granted, &w->link);
	if (desk->is_told)
		return;
	desk->is_told = true;
	desk->wake(desk);
}

/* After it nobody waits who could begin. */
static void serve(struct logins *l, usec_t now)
{
	struct login_line *line;

	LIST_FOREACH_SAFE (at, &l->fresh) {
		struct login_place *place = container_of(at, struct login_place, link);

		if (now - place->since < LONG_LOGIN)
			break;
		cease_to_be_fresh(place);
	}
	while (l->nwaiting && (!max || l->nfresh < max) && (line = next_line(l)))
		grant(line, now);
}

static void end(struct login_place *place, usec_t now)
{
	struct login_line *line = place->line;
	struct logins *l = line->logins;

	if (list_is_linked(&place->link))
		cease_to_be_fresh(place);
	line->under_way--;
	l->under_way--;
	*place = (struct login_place){ 0 };
	forget_if_unused(line);
	serve(l, now);
}

/* What was granted goes to where it is used. */
static void move_place(struct login_place *to, struct login_place *from)
{
	*to = *from;
	list_init(&to->link);
	if (list_is_linked(&from->link)) {
		list_insert_between(&to->link, &from->link, from->link.next);
		list_del(&from->link);
	}
	*from = (struct login_place){ 0 };
}

static void leave(struct login_wait *w, usec_t now)
{
	struct login_line *line = w->line;

	if (w->place.line) {
		list_del(&w->link);
		end(&w->place, now);
	} else if (line) {
		take_out_of_line(w);
		forget_if_unused(line);
	}
}

bool logins_begin(struct logins *l, struct login_place *place, struct login_wait *w,
		  struct login_desk *desk, const void *database, usec_t now)
{
	bool begins = true;

	pthread_mutex_lock(&lock);
	/* Its pool is another server's now. */
	if ((w->line && w->line->logins != l) || (w->place.line && w->place.line->logins != l))
		leave(w, now);
	serve(l, now);
	if (w->place.line) {
		list_del(&w->link);
		move_place(place, &w->place);
	} else if (!w->line) {
		struct login_line *line = line_of(l, database);

		begins = may_begin(line);
		w->desk = desk;
		if (begins)
			begin(line, place, now);
		else
			stand_in_line(w, line);
	} else {
		begins = false;
	}
	pthread_mutex_unlock(&lock);
	return begins;
}

void login_end(struct login_place *place, usec_t now)
{
	if (!place->line)
		return;
	pthread_mutex_lock(&lock);
	end(place, now);
	pthread_mutex_unlock(&lock);
}

void login_wait_leave(struct login_wait *w, usec_t now)
{
	pthread_mutex_lock(&lock);
	leave(w, now);
	pthread_mutex_unlock(&lock);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

void login_desk_init(struct login_desk *desk, void (*wake)(struct login_desk *desk))
{
	list_init(&desk->granted);
	desk->is_told = false;
	desk->wake = wake;
}

struct login_wait *login_desk_next(struct login_desk *desk)
{
	struct list *first;

	pthread_mutex_lock(&lock);
	first = list_first(&desk->granted);
	if (first)
		list_del(first);
	else
		desk->is_told = false;
	pthread_mutex_unlock(&lock);
	return first ? container_of(first, struct login_wait, link) : NULL;
}

static void serve_all(usec_t now)
{
	for (struct hlink *at = hmap_walk(&servers, NULL); at; at = hmap_walk(&servers, at))
		serve(container_of(at, struct logins, link), now);
}

void logins_sweep(usec_t now)
{
	if (!atomic_load_explicit(&waiting_anywhere, memory_order_relaxed))
		return;
	pthread_mutex_lock(&lock);
	serve_all(now);
	pthread_mutex_unlock(&lock);
}

void logins_configure(unsigned new_max, usec_t now)
{
	pthread_mutex_lock(&lock);
	max = new_max;
	serve_all(now);
	pthread_mutex_unlock(&lock);
}

struct logins_count logins_count(struct logins *l)
{
	struct logins_count count;

	pthread_mutex_lock(&lock);
	count = (struct logins_count){ .under_way = l->under_way, .waiting = l->nwaiting };
	pthread_mutex_unlock(&lock);
	return count;
}
