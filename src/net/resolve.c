/* SPDX-License-Identifier: ISC
 *
 * resolve.c - from a host's name to addresses, in threads, by getaddrinfo() or by name servers.
 *
 * The lock covers the names and their queues.  It is not held while a lookup runs, but it is while
 * answers are posted, so that nothing is posted once the resolver is closed.
 *
 * Does not know who connects, nor which of several addresses is tried first.
 */
#include "net/resolve.h"

#include "base/hash.h"
#include "base/mem.h"
#include "net/addr.h"
#include "net/dns.h"
#include "net/mailbox.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* More than one, so that a name whose servers do not answer does not hold up the others. */
#define NTHREADS 4
/* How long a name that nobody follows any more is kept behind its last answer, at least. */
#define FORGET_TIME (60 * USEC_PER_SEC)
/* How often a name that is followed is looked up within max_ttl, though its addresses hold for
 * longer as far as is known, and how many answers in a row have to lack an address that has gone:
 * one may be a part of it, or one of many in turn. */
#define LOOKS       4
#define LACKING_MIN 2
/* Of a name; those that were told last.  While there is room, no other one has been told within
 * max_ttl: who had to make room was told before all that have gone since.  Without room an address
 * that is not here may be one of the name's, and is taken for one: its servers would be left all
 * the time, though they are well. */
#define KNOWN_MAX 32

/* An address that some answer has told. */
struct known {
	struct addr addr;
	usec_t told_at;   /* by the last one that has … */
	unsigned lacking; /* … behind which so many have not */
};

struct name {
	struct hlink link;
	struct list todo;    /* while it waits for a thread */
	struct list askers;  /* queries to be answered */
	usec_t fresh_until;  /* 0: never looked up */
	usec_t look_at;      /* again, where it is followed */
	bool is_being_found; /* waits for a thread or has one */
	struct resolved found;
	usec_t followed_at;
	unsigned edition; /* another one when an address has gone; 0: there was no answer yet */
	unsigned nknown;
	struct known known[KNOWN_MAX];
	char *host;
};

/* Belongs to the resolver until it is posted.  fn is the asker's all the time. */
struct resolve_query {
	struct mail mail;
	struct list link; /* of name.askers */
	struct mailbox *box;
	resolved_fn *fn; /* NULL: cancelled */
	void *arg;
	uint16_t port;
	struct resolved found;
};

struct resolver {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct hmap names;
	struct list todo;
	char *resolv_conf; /* "": getaddrinfo() is asked */
	usec_t max_ttl;
	usec_t nxdomain_ttl;
	unsigned editions; /* of all names */
	bool closed;
	unsigned refs; /* the owner and the threads */
	pthread_t threads[NTHREADS];
	bool is_busy[NTHREADS]; /* with a lookup */
};

/* ---- addresses ------------------------------------------------------------------------------ */

static void look_up(const char *host, int flags, struct resolved *out)
{
	const struct addrinfo hints = { .ai_flags = flags, .ai_socktype = SOCK_STREAM };
	struct addrinfo *all = NULL;
	int rc = getaddrinfo(host, NULL, &hints, &all);

	out->n = 0;
	if (rc) {
		err_set(&out->error, "08001", "cannot find host \"%s\": %s", host,
			rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return;
	}
	for (const struct addrinfo *ai = all; ai && out->n < RESOLVED_MAX; ai = ai->ai_next) {
		memcpy(&out->addrs[out->n], ai->ai_addr, ai->ai_addrlen);
		out->lens[out->n++] = ai->ai_addrlen;
	}
	freeaddrinfo(all);
}

static void set_port(struct resolved *found, uint16_t port)
{
	for (unsigned i = 0; i < found->n; i++) {
		struct sockaddr_storage *ss = &found->addrs[i];

		if (ss->ss_family == AF_INET6)
			((struct sockaddr_in6 *)ss)->sin6_port = htons(port);
		else
			((struct sockaddr_in *)ss)->sin_port = htons(port);
	}
}

/* ---- names; the lock is held ---------------------------------------------------------------- */

static uint64_t name_hash(const char *host)
{
	return hash_bytes(host, strlen(host));
}

static struct name *name_find(const struct resolver *r, const char *host)
{
	for (struct hlink *l = hmap_first(&r->names, name_hash(host)); l; l = hmap_next(l)) {
		struct name *name = container_of(l, struct name, link);

		if (strcmp(name->host, host) == 0)
			return name;
	}
	return NULL;
}

static void name_free(struct resolver *r, struct name *name)
{
	hmap_remove(&r->names, &name->link);
	free(name->host);
	free(name);
}

static struct name *name_add(struct resolver *r, const char *host)
{
	struct name *name = xnew(struct name);
	usec_t now = clock_monotonic();

	/* Names come from the config and are few; those that it lost go here. */
	HMAP_FOREACH_SAFE (l, &r->names) {
		struct name *old = container_of(l, struct name, link);

		if (!old->is_being_found && old->fresh_until <= now &&
		    now - old->followed_at > FORGET_TIME)
			name_free(r, old);
	}
	name->followed_at = now;
	list_init(&name->todo);
	list_init(&name->askers);
	name->host = xstrdup(host);
	hmap_insert(&r->names, &name->link, name_hash(host));
	return name;
}

/* Puts it in the queue of the threads. */
static void name_ask(struct resolver *r, struct name *name)
{
	if (name->is_being_found)
		return;
	name->is_being_found = true;
	list_push_back(&r->todo, &name->todo);
	pthread_cond_signal(&r->more);
}

/* ---- what it has been: to see that a name has moved; the lock is held -------------------------
 */

static bool has_room(const struct name *name)
{
	return name->nknown < KNOWN_MAX;
}

static struct known *find_known(struct name *name, const struct addr *addr)
{
	for (unsigned i = 0; i < name->nknown; i++)
		if (addr_is_same_host(&name->known[i].addr, addr))
			return &name->known[i];
	return NULL;
}

/* The place of one more, or of the one that was told longest ago. */
static struct known *place_for(struct name *name)
{
	struct known *oldest = name->known;

	if (has_room(name))
		return &name->known[name->nknown++];
	for (unsigned i = 1; i < name->nknown; i++)
		if (name->known[i].told_at < oldest->told_at)
			oldest = &name->known[i];
	return oldest;
}

static void note_told(struct name *name, const struct addr *addr, usec_t now)
{
	struct known *known = find_known(name, addr);

	if (!known)
		known = place_for(name);
	*known = (struct known){ .addr = *addr, .told_at = now };
}

static void note_answer(struct resolver *r, struct name *name, const struct resolved *found,
			usec_t now)
{
	bool has_gone = !name->edition;
	unsigned n = 0;

	for (unsigned i = 0; i < found->n; i++) {
		struct addr addr;

		addr_set(&addr, (const struct sockaddr *)&found->addrs[i]);
		note_told(name, &addr, now);
	}
	/* There may be more of them than an answer has room for. */
	if (found->n == RESOLVED_MAX)
		return;
	for (unsigned i = 0; i < name->nknown; i++) {
		struct known *known = &name->known[i];

		known->lacking += known->told_at != now;
		if (known->lacking >= LACKING_MIN && now - known->told_at > r->max_ttl)
			has_gone = true;
		else
			name->known[n++] = *known;
	}
	name->nknown = n;
	if (has_gone)
		name->edition = ++r->editions;
}

/* ---- answers -------------------------------------------------------------------------------- */

/* On the asker's thread. */
static void deliver(struct mail *mail, void *receiver)
{
	struct resolve_query *q = container_of(mail, struct resolve_query, mail);

	if (q->fn)
		q->fn(q->arg, &q->found);
	free(q);
}

static void query_answer(struct resolve_query *q, const struct name *name)
{
	q->found = name->found;
	set_port(&q->found, q->port);
	mailbox_post(q->box, &q->mail, deliver);
}

/* ttl: for how long the addresses hold. */
static void name_settle(struct resolver *r, struct name *name, const struct resolved *found,
			usec_t ttl)
{
	usec_t now = clock_monotonic(), pace = r->max_ttl / LOOKS;

	if (!found->n)
		ttl = pace = r->nxdomain_ttl;
	else if (ttl > r->max_ttl)
		ttl = r->max_ttl;
	name->look_at = now + (ttl < pace ? ttl : pace);
	if (found->n)
		note_answer(r, name, found, now);
	/* A failure is told to who has asked; what is kept does not suffer from one that nobody
	 * did. */
	if (found->n || !list_is_empty(&name->askers)) {
		name->found = *found;
		name->fresh_until = now + ttl;
	}
	name->is_being_found = false;
	while (!list_is_empty(&name->askers)) {
		struct list *first = list_first(&name->askers);

		list_del(first);
		query_answer(container_of(first, struct resolve_query, link), name);
	}
}

/* ---- threads -------------------------------------------------------------------------------- */

/* The lock is held, and given up. */
static void resolver_unref(struct resolver *r)
{
	bool last = --r->refs == 0;

	pthread_mutex_unlock(&r->lock);
	if (!last)
		return;
	HMAP_FOREACH_SAFE (l, &r->names)
		name_free(r, container_of(l, struct name, link));
	hmap_fini(&r->names);
	pthread_cond_destroy(&r->more);
	pthread_mutex_destroy(&r->lock);
	free(r->resolv_conf);
	free(r);
}

/* Looks up the first name of the queue.  The lock is held, but not meanwhile. */
static void find_one(struct resolver *r, bool *is_busy)
{
	struct name *name = container_of(list_first(&r->todo), struct name, todo);
	struct resolved found = { 0 };
	usec_t ttl = INT64_MAX;

	list_del(&name->todo);
	*is_busy = true;
	pthread_mutex_unlock(&r->lock);
	if (*r->resolv_conf)
		dns_find(r->resolv_conf, name->host, &found, &ttl);
	else
		look_up(name->host, AI_ADDRCONFIG, &found);
	pthread_mutex_lock(&r->lock);
	*is_busy = false;
	name_settle(r, name, &found, ttl);
}

struct thread_start {
	struct resolver *r;
	unsigned index;
};

static void *thread_main(void *arg)
{
	struct thread_start *start = arg;
	struct resolver *r = start->r;
	bool *is_busy = &r->is_busy[start->index];

	free(start);
	pthread_mutex_lock(&r->lock);
	while (!r->closed) {
		if (list_is_empty(&r->todo))
			pthread_cond_wait(&r->more, &r->lock);
		else
			find_one(r, is_busy);
	}
	resolver_unref(r);
	return NULL;
}

struct resolver *resolver_new(const char *resolv_conf, usec_t max_ttl, usec_t nxdomain_ttl)
{
	struct resolver *r = xnew(struct resolver);
	sigset_t all;
	sigset_t before;

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->more, NULL);
	list_init(&r->todo);
	dns_init();
	r->resolv_conf = xstrdup(resolv_conf);
	r->max_ttl = max_ttl;
	r->nxdomain_ttl = nxdomain_ttl;
	r->refs = 1 + NTHREADS;
	/* Signals are for the thread that handles them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < NTHREADS; i++) {
		struct thread_start *start = xnew(struct thread_start);
		int rc;

		*start = (struct thread_start){ .r = r, .index = i };
		rc = pthread_create(&r->threads[i], NULL, thread_main, start);
		PGT_ASSERT(rc == 0);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

void resolver_set_ttls(struct resolver *r, usec_t max_ttl, usec_t nxdomain_ttl)
{
	pthread_mutex_lock(&r->lock);
	r->max_ttl = max_ttl;
	r->nxdomain_ttl = nxdomain_ttl;
	pthread_mutex_unlock(&r->lock);
}

static void drop_askers(struct name *name)
{
	while (!list_is_empty(&name->askers)) {
		struct list *first = list_first(&name->askers);

		list_del(first);
		free(container_of(first, struct resolve_query, link));
	}
}

void resolver_free(struct resolver *r)
{
	bool hangs[NTHREADS];

	pthread_mutex_lock(&r->lock);
	r->closed = true;
	for (struct hlink *l = hmap_walk(&r->names, NULL); l; l = hmap_walk(&r->names, l))
		drop_askers(container_of(l, struct name, link));
	memcpy(hangs, r->is_busy, sizeof(hangs));
	pthread_cond_broadcast(&r->more);
	pthread_mutex_unlock(&r->lock);
	/* A lookup cannot be interrupted: its thread frees the rest when it comes back. */
	for (unsigned i = 0; i < NTHREADS; i++) {
		if (hangs[i])
			pthread_detach(r->threads[i]);
		else
			pthread_join(r->threads[i], NULL);
	}
	pthread_mutex_lock(&r->lock);
	resolver_unref(r);
}

/* ---- asking --------------------------------------------------------------------------------- */

static bool is_unix(const char *host)
{
	return *host == '/' || *host == '@';
}

static void unix_socket(const char *dir, uint16_t port, struct resolved *found)
{
	struct sockaddr_un addr;

	found->n = addr_unix_of_port(dir, port, &addr, &found->lens[0], &found->error);
	memcpy(&found->addrs[0], &addr, sizeof(addr));
}

static bool is_kept(struct resolver *r, const char *host, struct resolved *found)
{
	const struct name *name;
	bool fresh;

	pthread_mutex_lock(&r->lock);
	name = name_find(r, host);
	fresh = name && name->fresh_until > clock_monotonic();
	if (fresh)
		*found = name->found;
	pthread_mutex_unlock(&r->lock);
	return fresh;
}

bool resolve_now(struct resolver *r, const char *host, uint16_t port, struct resolved *found)
{
	if (is_unix(host)) {
		unix_socket(host, port, found);
		return true;
	}
	look_up(host, AI_NUMERICHOST, found);
	if (!found->n && !is_kept(r, host, found))
		return false;
	set_port(found, port);
	return true;
}

struct resolve_query *resolve_start(struct resolver *r, struct mailbox *box, const char *host,
				    uint16_t port, resolved_fn *fn, void *arg)
{
	struct resolve_query *q = xnew(struct resolve_query);
	struct name *name;

	*q = (struct resolve_query){ .box = box, .fn = fn, .arg = arg, .port = port };
	pthread_mutex_lock(&r->lock);
	name = name_find(r, host);
	if (!name)
		name = name_add(r, host);
	list_push_back(&name->askers, &q->link);
	name_ask(r, name);
	pthread_mutex_unlock(&r->lock);
	return q;
}

void resolve_cancel(struct resolve_query *q)
{
	q->fn = NULL;
}

/* ---- names that move ------------------------------------------------------------------------ */

unsigned resolve_follow(struct resolver *r, const char *host)
{
	usec_t now = clock_monotonic();
	struct name *name;
	unsigned edition = 0;

	pthread_mutex_lock(&r->lock);
	name = name_find(r, host);
	if (name) {
		name->followed_at = now;
		if (name->look_at <= now)
			name_ask(r, name);
		edition = name->edition;
	}
	pthread_mutex_unlock(&r->lock);
	return edition;
}

void resolve_learn(struct resolver *r, const char *host)
{
	struct resolved found;

	if (resolve_now(r, host, 0, &found))
		return;
	pthread_mutex_lock(&r->lock);
	if (!name_find(r, host))
		name_ask(r, name_add(r, host));
	pthread_mutex_unlock(&r->lock);
}

bool resolve_leads_to(struct resolver *r, const char *host, const struct addr *addr)
{
	struct name *name;
	bool leads_to;

	pthread_mutex_lock(&r->lock);
	name = name_find(r, host);
	leads_to = !name || !name->edition || !has_room(name) || find_known(name, addr);
	pthread_mutex_unlock(&r->lock);
	return leads_to;
}
