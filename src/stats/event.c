/* SPDX-License-Identifier: ISC
 *
 * event.c - the ring of the last events, and their lines in the log.
 *
 * Knows kinds and texts, not what made them.
 */
#include "stats/event.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The same that comes again so soon is not told again. */
#define REPEAT_TIME (60 * USEC_PER_SEC)
/* Of one kind within REPEAT_TIME; those beyond are told as a number. */
#define KIND_MAX   100
#define BURST_TIME (10 * USEC_PER_SEC)
#define TEXT_MAX   500

const struct event_spec event_specs[NEVENTS] = {
#define X(name, level, burst, doc) { #name, LOG_LEVEL_##level, burst, doc },
	EVENTS(X)
#undef X
};

/* How many of a kind there were since. */
struct tally {
	usec_t since;
	unsigned n;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Under the lock. */
static struct event *ring;
static unsigned ring_size;
static uint64_t last_number; /* its place is last_number % ring_size */
static struct tally tallies[NEVENTS];

/* Without it: windows of ten seconds. */
static struct {
	_Atomic usec_t since;
	_Atomic unsigned n;
} bursts[NEVENTS];

/* ---- the ring ---------------------------------------------------------------------------------
 */

static struct event *event_at(uint64_t number)
{
	return &ring[number % ring_size];
}

/* The number of the oldest one that is kept. */
static uint64_t first_number(void)
{
	return last_number > ring_size ? last_number - ring_size + 1 : 1;
}

/* Its texts are one block, which begins with the first of them. */
static void forget(struct event *e)
{
	free((char *)(uintptr_t)e->database);
	*e = (struct event){ 0 };
}

static char *append(char *at, const char **where, const char *text)
{
	*where = at;
	return stpcpy(at, text) + 1;
}

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

static void put(struct event *e, const struct log_about *about, const char *text)
{
	const char *database = or_empty(about->database), *tenant = or_empty(about->tenant);
	const char *node = or_empty(about->node);
	char *at = xmalloc(strlen(database) + strlen(tenant) + strlen(node) + strlen(text) + 4);

	at = append(at, &e->database, database);
	at = append(at, &e->tenant, tenant);
	at = append(at, &e->node, node);
	append(at, &e->text, text);
}

static void add(enum event_kind kind, const struct log_about *about, const char *text, usec_t now)
{
	struct event *e;

	last_number++;
	if (!ring_size)
		return;
	e = event_at(last_number);
	forget(e);
	*e = (struct event){ .number = last_number,
			     .kind = kind,
			     .count = 1,
			     .told = 1,
			     .first = clock_wall(),
			     .since = now };
	e->last = e->first;
	put(e, about, text);
}

static bool is_about(const struct event *e, const struct log_about *about)
{
	return !strcmp(e->database, or_empty(about->database)) &&
	       !strcmp(e->tenant, or_empty(about->tenant)) &&
	       !strcmp(e->node, or_empty(about->node));
}

/* The last one about the same, if it is the same: what is between two of a kind is not lost. */
static struct event *find_same(enum event_kind kind, const struct log_about *about,
			       const char *text, usec_t now)
{
	for (uint64_t n = last_number; ring_size && n && n >= first_number(); n--) {
		struct event *e = event_at(n);

		if (e->number != n || now - e->since >= REPEAT_TIME)
			return NULL;
		if (is_about(e, about))
			return e->kind == kind && !strcmp(e->text, text) ? e : NULL;
	}
	return NULL;
}

/* Whether there may be another of its kind now. */
static bool may_add(enum event_kind kind, usec_t now)
{
	struct tally *t = &tallies[kind];

	if (now - t->since >= REPEAT_TIME)
		*t = (struct tally){ .since = now };
	return t->n++ < KIND_MAX;
}

/* True: it is news. */
static bool keep(enum event_kind kind, const struct log_about *about, const char *text)
{
	usec_t now = clock_monotonic();
	struct event *same;
	bool is_news;

	pthread_mutex_lock(&lock);
	same = find_same(kind, about, text, now);
	if (same) {
		same->count++;
		same->last = clock_wall();
	}
	is_news = !same && may_add(kind, now);
	if (is_news)
		add(kind, about, text, now);
	pthread_mutex_unlock(&lock);
	return is_news;
}

void events_keep(unsigned n)
{
	struct event *old, *new = xcalloc(n ? n : 1, sizeof(*new));
	unsigned old_size;
	uint64_t first;

	pthread_mutex_lock(&lock);
	old = ring;
	old_size = ring_size;
	first = first_number();
	if (last_number > n && first < last_number - n + 1)
		first = last_number - n + 1;
	for (uint64_t i = first; old_size && n && i <= last_number; i++) {
		new[i % n] = old[i % old_size];
		old[i % old_size] = (struct event){ 0 };
	}
	ring = new;
	ring_size = n;
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < old_size; i++)
		forget(&old[i]);
	free(old);
}

void events_free(void)
{
	events_keep(0);
	free(ring);
	ring = NULL;
}

/* The oldest one above a number that is kept, or NULL. */
static const struct event *next_of(uint64_t above)
{
	uint64_t n = first_number() > above ? first_number() : above + 1;

	for (; ring_size && n <= last_number; n++)
		if (event_at(n)->number == n)
			return event_at(n);
	return NULL;
}

uint64_t events_each(uint64_t above, void (*see)(const struct event *event, void *arg), void *arg)
{
	const struct event *e;
	uint64_t last;

	pthread_mutex_lock(&lock);
	last = last_number;
	for (e = next_of(above); e; e = next_of(e->number))
		see(e, arg);
	pthread_mutex_unlock(&lock);
	return last;
}

bool events_next(uint64_t above, void (*see)(const struct event *event, void *arg), void *arg)
{
	const struct event *e;

	pthread_mutex_lock(&lock);
	e = next_of(above);
	if (e)
		see(e, arg);
	pthread_mutex_unlock(&lock);
	return e != NULL;
}

uint64_t events_last(void)
{
	uint64_t last;

	pthread_mutex_lock(&lock);
	last = last_number;
	pthread_mutex_unlock(&lock);
	return last;
}

/* ---- saying -----------------------------------------------------------------------------------
 */

static void PGT_PRINTF(3, 0)
    say(enum event_kind kind, const struct log_about *about, const char *fmt, va_list ap)
{
	struct log_about with_kind = *about;
	char text[TEXT_MAX] = "";

	vsnprintf(text, sizeof(text), fmt, ap);
	with_kind.event = event_specs[kind].name;
	if (keep(kind, about, text))
		log_about(event_specs[kind].level, &with_kind, "%s", text);
}

void event_say(enum event_kind kind, const struct log_about *about, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(kind, about, fmt, ap);
	va_end(ap);
}

/* Whether this one makes it a burst.  Two threads at the end of a window may count into either. */
static bool is_burst(enum event_kind kind)
{
	usec_t now = clock_monotonic(), since = bursts[kind].since;

	if (now - since >= BURST_TIME &&
	    atomic_compare_exchange_strong(&bursts[kind].since, &since, now))
		bursts[kind].n = 0;
	return atomic_fetch_add(&bursts[kind].n, 1) + 1 == event_specs[kind].burst;
}

void event_count(enum event_kind kind, const struct log_about *about, const char *fmt, ...)
{
	va_list ap;

	if (!is_burst(kind))
		return;
	va_start(ap, fmt);
	say(kind, about, fmt, ap);
	va_end(ap);
}

/* ---- what came again --------------------------------------------------------------------------
 */

/* Of one event that is to be told. */
struct repeat {
	enum event_kind kind;
	unsigned n;
	char database[128], tenant[128], node[LOG_ADDRESS_MAX], text[TEXT_MAX];
};

/* The next one whose minute is over. */
static bool next_repeat(usec_t now, struct repeat *out)
{
	bool found = false;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < ring_size && !found; i++) {
		struct event *e = &ring[i];

		if (e->count == e->told || now - e->since < REPEAT_TIME)
			continue;
		found = true;
		out->kind = e->kind;
		out->n = e->count - e->told;
		snprintf(out->database, sizeof(out->database), "%s", e->database);
		snprintf(out->tenant, sizeof(out->tenant), "%s", e->tenant);
		snprintf(out->node, sizeof(out->node), "%s", e->node);
		snprintf(out->text, sizeof(out->text), "%s", e->text);
		e->told = e->count;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

/* The next kind of which there were more than are kept. */
static bool next_excess(usec_t now, struct repeat *out)
{
	bool found = false;

	*out = (struct repeat){ 0 };
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < NEVENTS && !found; i++) {
		if (tallies[i].n <= KIND_MAX || now - tallies[i].since < REPEAT_TIME)
			continue;
		found = true;
		out->kind = i;
		out->n = tallies[i].n - KIND_MAX;
		tallies[i] = (struct tally){ 0 };
	}
	pthread_mutex_unlock(&lock);
	return found;
}

void events_sweep(void)
{
	usec_t now = clock_monotonic();
	struct repeat r;

	while (next_repeat(now, &r))
		log_about(event_specs[r.kind].level,
			  (&(struct log_about){ .event = event_specs[r.kind].name,
						.database = r.database,
						.tenant = r.tenant,
						.node = r.node }),
			  "repeated %u times: %s", r.n, r.text);
	while (next_excess(now, &r))
		log_about(event_specs[r.kind].level,
			  (&(struct log_about){ .event = event_specs[r.kind].name }),
			  "%u more events of the kind %s in a minute", r.n,
			  event_specs[r.kind].name);
}
