/* SPDX-License-Identifier: ISC
 *
 * jury.c - passwords that others judge, on threads of its own.
 *
 * The lock covers the cases and what is counted.  It is not held while one is judged, but it is
 * while a verdict is posted, so that nothing is posted once the jury is closed.
 *
 * Knows who waits and in which order, not how a password is judged (judge.h).
 */
#include "worker/jury.h"

#include "base/crowd.h"
#include "base/heap.h"
#include "base/mem.h"
#include "net/mailbox.h"
#include "stats/event.h"
#include "worker/judge.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* Cases that wait or are under way. */
#define CASES_MAX 1000

/* Longer ones are nobody's.  Some are tokens. */
#define USER_MAX     255
#define PASSWORD_MAX 8191

/* How long the end waits for those under way. */
#define FAREWELL_S 1

struct jury_case {
	struct mail mail;
	struct hlink by_id;
	struct heap_link turn; /* of jury.waiting; the key: .before */
	struct list passed;    /* of jury.passed */
	unsigned before;       /* so many of its address were there when it came */
	struct client_host *host;
	struct mailbox *back;
	uint64_t id; /* of the client */
	uint64_t origin;
	enum auth_type way;
	char *user, *password;
	char address[INET6_ADDRSTRLEN];
	struct config *config; /* a reference; the next ones are a part of it */
	const char *service;
	const struct directory *directory;
	usec_t since; /* when it was begun */
	bool is_unwanted;
	enum judgement verdict;
};

/* Of one kind of judge. */
struct tally {
	uint64_t waiting, good, wrong, failed, refused;
	struct err error; /* without a text: the last one was answered */
};

struct jury {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct heap waiting;
	struct list passed; /* those of them whose address has threads enough */
	struct hmap by_id;  /* those under way, too */
	struct crowd crowd;
	struct crowd at_work; /* of those under way alone */
	struct tally tallies[AUTH_TYPE_N];
	bool closed;
	unsigned refs; /* the owner and the threads */
	unsigned nthreads, nidle, nwaiting;
	pthread_t threads[JURY_THREADS];
	struct jury_case *under_way[JURY_THREADS]; /* of each thread; or NULL */
};

static const struct judge {
	const char *name;
	enum judgement (*judge)(const struct judge_case *jc, struct err *why);
} judges[AUTH_TYPE_N] = {
	[AUTH_TYPE_PAM] = {"pam",   judge_pam },
	[AUTH_TYPE_LDAP] = { "ldap", judge_ldap},
};

/* ---- cases ------------------------------------------------------------------------------------
 */

static uint64_t id_hash(uint64_t id)
{
	return hash_bytes(&id, sizeof(id));
}

static struct jury_case *case_find(const struct jury *jury, uint64_t id)
{
	for (struct hlink *l = hmap_first(&jury->by_id, id_hash(id)); l; l = hmap_next(l)) {
		struct jury_case *jc = container_of(l, struct jury_case, by_id);

		if (jc->id == id)
			return jc;
	}
	return NULL;
}

static struct jury_case *case_new(const struct client *c, const struct client_claim *claim,
				  struct mailbox *back)
{
	struct jury_case *jc = xnew(struct jury_case);

	list_init(&jc->passed);
	jc->host = c->host;
	jc->back = back;
	jc->id = c->id;
	jc->origin = addr_origin(&c->conn.peer);
	jc->way = claim->way;
	jc->user = xstrdup(claim->user);
	jc->password = xmemdup0(claim->password.p, claim->password.n);
	if (c->conn.peer.family != AF_UNIX)
		addr_text(&c->conn.peer, jc->address);
	jc->config = config_ref(claim->config);
	jc->service = claim->service;
	jc->directory = claim->directory;
	return jc;
}

static void forget_password(struct jury_case *jc)
{
	if (jc->password)
		mem_wipe(jc->password, strlen(jc->password));
	free(jc->password);
	jc->password = NULL;
}

static void case_free(struct jury_case *jc)
{
	forget_password(jc);
	free(jc->user);
	config_unref(jc->config);
	free(jc);
}

/* On the client's thread, if it is still there. */
static void deliver(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct jury_case *jc = container_of(mail, struct jury_case, mail);
	struct client *c = client_find_newcomer(jc->host, jc->id);

	if (c && c->phase == CLIENT_AUTH) {
		client_judged(c, jc->verdict);
		net_flush(jc->host->net);
	}
	case_free(jc);
}

/* What no judge need be asked for: no password is empty, or longer than they can take. */
static bool is_nobodys(const struct client_claim *claim)
{
	return !claim->password.n || claim->password.n > PASSWORD_MAX ||
	       strlen(claim->user) > USER_MAX;
}

/* ---- the lock is held -------------------------------------------------------------------------
 */

static void case_take_out(struct jury *jury, struct jury_case *jc)
{
	hmap_remove(&jury->by_id, &jc->by_id);
	crowd_leave(&jury->crowd, jc->origin);
}

static bool is_waiting(const struct jury_case *jc)
{
	return jc->turn.is_linked || list_is_linked(&jc->passed);
}

static void stop_waiting(struct jury *jury, struct jury_case *jc)
{
	heap_remove(&jury->waiting, &jc->turn);
	list_del(&jc->passed);
	jury->tallies[jc->way].waiting--;
	jury->nwaiting--;
}

static void count(struct tally *tally, enum judgement verdict, const struct err *why)
{
	switch (verdict) {
	case JUDGED_GOOD:
		tally->good++;
		break;
	case JUDGED_WRONG:
		tally->wrong++;
		break;
	case JUDGED_NOT:
		tally->failed++;
		break;
	}
	tally->error = *why;
}

static void settle(struct jury *jury, struct jury_case *jc)
{
	case_take_out(jury, jc);
	if (jc->is_unwanted || jury->closed)
		case_free(jc);
	else
		mailbox_post(jc->back, &jc->mail, deliver);
}

static void drop(struct jury *jury, struct jury_case *jc)
{
	stop_waiting(jury, jc);
	case_take_out(jury, jc);
	case_free(jc);
}

static bool may_begin(const struct jury *jury, const struct jury_case *jc)
{
	return crowd_has_room(&jury->at_work, jc->origin, JURY_THREADS);
}

/* The first in turn whose address leaves threads for others, if there is one.  Who is passed over
 * waits until one under way has ended. */
static struct jury_case *next_case(struct jury *jury)
{
	while (jury->waiting.root) {
		struct jury_case *jc = container_of(jury->waiting.root, struct jury_case, turn);

		if (may_begin(jury, jc))
			return jc;
		heap_remove(&jury->waiting, &jc->turn);
		list_push_back(&jury->passed, &jc->passed);
	}
	return NULL;
}

static void end_work(struct jury *jury, const struct jury_case *jc)
{
	crowd_leave(&jury->at_work, jc->origin);
	LIST_FOREACH_SAFE (at, &jury->passed) {
		struct jury_case *passed = container_of(at, struct jury_case, passed);

		list_del(at);
		heap_insert(&jury->waiting, &passed->turn, passed->before);
	}
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static enum judgement judge(struct jury_case *jc, struct err *why)
{
	const struct judge_case to_judge = { .user = jc->user,
					     .password = jc->password,
					     .address = jc->address,
					     .service = jc->service,
					     .directory = jc->directory,
					     .patience = jc->config->global.auth_ldap_timeout };
	enum judgement verdict = judges[jc->way].judge(&to_judge, why);

	if (verdict == JUDGED_NOT)
		event_say(EVENT_judge, &(struct log_about){ .user = jc->user },
			  "%s gives no answer: %s", judges[jc->way].name, why->text);
	forget_password(jc);
	return verdict;
}

static void find_thread(struct jury *jury);

/* The lock is held, but not meanwhile. */
static void judge_one(struct jury *jury, struct jury_case *jc, struct jury_case **mine)
{
	struct err why = { 0 }; /* unless there is a verdict */

	stop_waiting(jury, jc);
	crowd_enter(&jury->at_work, jc->origin);
	jc->since = clock_monotonic();
	*mine = jc;
	/* One that ends may make room for two, of different addresses. */
	if (next_case(jury))
		find_thread(jury);
	pthread_mutex_unlock(&jury->lock);
	jc->verdict = judge(jc, &why);
	pthread_mutex_lock(&jury->lock);
	*mine = NULL;
	end_work(jury, jc);
	count(&jury->tallies[jc->way], jc->verdict, &why);
	settle(jury, jc);
}

/* The lock is held, and given up. */
static void jury_unref(struct jury *jury)
{
	bool last = --jury->refs == 0;

	pthread_mutex_unlock(&jury->lock);
	if (!last)
		return;
	crowd_fini(&jury->crowd);
	crowd_fini(&jury->at_work);
	hmap_fini(&jury->by_id);
	pthread_cond_destroy(&jury->more);
	pthread_mutex_destroy(&jury->lock);
	free(jury);
}

struct thread_start {
	struct jury *jury;
	unsigned index;
};

static void *thread_main(void *arg)
{
	struct thread_start *start = arg;
	struct jury *jury = start->jury;
	struct jury_case **mine = &jury->under_way[start->index];
	sigset_t none;

	free(start);
	/* Modules run programs, which get the thread's mask.  Handlers of our signals run well on
	 * any thread. */
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	pthread_mutex_lock(&jury->lock);
	while (!jury->closed) {
		struct jury_case *jc = next_case(jury);

		if (jc) {
			judge_one(jury, jc, mine);
			continue;
		}
		jury->nidle++;
		pthread_cond_wait(&jury->more, &jury->lock);
		jury->nidle--;
	}
	jury_unref(jury);
	return NULL;
}

/* Wakes one that is idle, and makes one more if those may not be enough.  The lock is held.  Where
 * there can be no more, those that there are have to do. */
static void find_thread(struct jury *jury)
{
	struct thread_start *start;

	pthread_cond_signal(&jury->more);
	if (jury->nwaiting <= jury->nidle || jury->nthreads == JURY_THREADS)
		return;
	start = xnew(struct thread_start);
	*start = (struct thread_start){ .jury = jury, .index = jury->nthreads };
	jury->refs++;
	if (pthread_create(&jury->threads[jury->nthreads], NULL, thread_main, start) == 0) {
		jury->nthreads++;
		return;
	}
	jury->refs--;
	free(start);
}

/* ---- asking -----------------------------------------------------------------------------------
 */

/* False: nobody will judge it. */
static bool take_in(struct jury *jury, struct jury_case *jc)
{
	if (!crowd_has_room(&jury->crowd, jc->origin, CASES_MAX)) {
		jury->tallies[jc->way].refused++;
		return false;
	}
	jc->before = crowd_count(&jury->crowd, jc->origin);
	crowd_enter(&jury->crowd, jc->origin);
	hmap_insert(&jury->by_id, &jc->by_id, id_hash(jc->id));
	heap_insert(&jury->waiting, &jc->turn, jc->before);
	jury->tallies[jc->way].waiting++;
	jury->nwaiting++;
	if (may_begin(jury, jc))
		find_thread(jury);
	return true;
}

void jury_ask(struct jury *jury, const struct client *c, const struct client_claim *claim,
	      struct mailbox *back)
{
	struct jury_case *jc = case_new(c, claim, back);
	bool is_taken;

	jc->verdict = is_nobodys(claim) ? JUDGED_WRONG : JUDGED_NOT;
	if (jc->verdict == JUDGED_WRONG) {
		mailbox_post(back, &jc->mail, deliver);
		return;
	}
	pthread_mutex_lock(&jury->lock);
	is_taken = take_in(jury, jc);
	pthread_mutex_unlock(&jury->lock);
	if (!is_taken)
		mailbox_post(back, &jc->mail, deliver);
}

/* The verdict may be on its way, and finds nobody then. */
void jury_withdraw(struct jury *jury, const struct client *c)
{
	struct jury_case *jc;

	pthread_mutex_lock(&jury->lock);
	jc = case_find(jury, c->id);
	if (jc && is_waiting(jc))
		drop(jury, jc);
	else if (jc)
		jc->is_unwanted = true;
	pthread_mutex_unlock(&jury->lock);
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

struct jury *jury_new(void)
{
	struct jury *jury = xnew(struct jury);

	pthread_mutex_init(&jury->lock, NULL);
	pthread_cond_init(&jury->more, NULL);
	jury->refs = 1;
	list_init(&jury->passed);
	return jury;
}

static void drop_waiting(struct jury *jury)
{
	LIST_FOREACH_SAFE (at, &jury->passed)
		drop(jury, container_of(at, struct jury_case, passed));
	while (jury->waiting.root)
		drop(jury, container_of(jury->waiting.root, struct jury_case, turn));
}

/* What is under way ends in a moment, mostly; a thread that stays beyond the end of the process may
 * use what is being taken down. */
static void see_off(struct jury *jury)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FAREWELL_S;
	for (unsigned i = 0; i < jury->nthreads; i++)
		if (pthread_timedjoin_np(jury->threads[i], NULL, &until) != 0)
			pthread_detach(jury->threads[i]);
}

void jury_free(struct jury *jury)
{
	pthread_mutex_lock(&jury->lock);
	jury->closed = true;
	drop_waiting(jury);
	pthread_cond_broadcast(&jury->more);
	pthread_mutex_unlock(&jury->lock);
	see_off(jury);
	pthread_mutex_lock(&jury->lock);
	jury_unref(jury);
}

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

static void add_under_way(const struct jury *jury, enum auth_type way, struct jury_facts *facts)
{
	usec_t now = clock_monotonic();

	for (unsigned i = 0; i < jury->nthreads; i++) {
		const struct jury_case *jc = jury->under_way[i];

		if (!jc || jc->way != way)
			continue;
		facts->under_way++;
		if (now - jc->since > facts->longest)
			facts->longest = now - jc->since;
	}
}

void jury_each(struct jury *jury, void (*visit)(void *arg, const struct jury_facts *facts),
	       void *arg)
{
	pthread_mutex_lock(&jury->lock);
	for (unsigned way = 0; way < AUTH_TYPE_N; way++) {
		const struct tally *t = &jury->tallies[way];
		struct jury_facts facts = { .way = judges[way].name,
					    .waiting = t->waiting,
					    .good = t->good,
					    .wrong = t->wrong,
					    .failed = t->failed,
					    .refused = t->refused,
					    .error = *t->error.text ? t->error.text : NULL };

		if (!judges[way].name)
			continue;
		add_under_way(jury, (enum auth_type)way, &facts);
		visit(arg, &facts);
	}
	pthread_mutex_unlock(&jury->lock);
}
