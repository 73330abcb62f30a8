/* SPDX-License-Identifier: ISC
 *
 * shared.h - what spans worker threads: one record for each database, user, tenant.
 *
 * A record is found by name under a lock, on cold paths only (a group of pools is made, a console
 * command runs), and used through atomics from then on.  It lives as long as somebody holds a
 * reference; that of a tenant which is known lives as long as the process, because its bucket and
 * quota must, and of those that anybody may name the last SHARED_STRANGERS are kept.  A slot of
 * a limit is reserved before the connection is made, so that the sum is never exceeded, at any
 * instant (I5).
 */
#ifndef PGT_TENANT_SHARED_H
#define PGT_TENANT_SHARED_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/slice.h"
#include "tenant/limit.h"

#include <stdatomic.h>
#include <stdbool.h>

enum shared_kind {
	SHARED_DATABASE, /* by the name clients use */
	SHARED_USER,     /* by the name on the server */
	SHARED_TENANT,   /* kept without references */
	SHARED_LOGIN,    /* by database and user */
	SHARED_FENCE,    /* by the servers, the database's name there, and user */
	SHARED_CLUSTER,  /* by host and port of its first node */
	SHARED_NKINDS
};

/* What is counted for each tenant, whosever pools it uses. */
enum tenant_count {
	TENANT_STATEMENTS, /* answered */
	TENANT_ON_REPLICA, /* transactions sent to a replica */
	TENANT_PINNED,     /* sessions that had to keep their server */
	TENANT_CANCELS,    /* requests */
	TENANT_REFUSED,    /* statements that would have changed the tenant's id */
	TENANT_CLAMPED,    /* … with a timeout that was lowered */
	NTENANT_COUNTS
};

/* There may be a hundred thousand of them: SHARED_TENANT_MAX. */
struct shared {
	struct hlink link;
	unsigned refs;            /* under the registry's lock */
	uint8_t kind;             /* enum shared_kind */
	bool is_stranger;         /* a tenant's, without references, not known; under the lock */
	atomic_bool is_known;     /* a tenant's: to a configuration, or a ledger */
	_Atomic unsigned servers; /* connections, from before connect to after close */
	_Atomic unsigned clients;
	union {
		struct list stranger; /* of one */
		/* as long as anybody holds a reference */
		struct {
			/* a pool last wanted a server and met this record's limit */
			_Atomic usec_t starved_at;
			/* the thread's tenant that was woken for a token last */
			_Atomic uintptr_t served;
		};
	};

	union {
		/* of a database */
		struct {
			atomic_bool paused;
			atomic_bool disabled;
		};
		/* of a tenant */
		struct {
			struct limit_state limit;
			_Atomic uint64_t fence;              /* of its writes: route/fence.h */
			_Atomic unsigned transactions;       /* under way, where they are limited */
			_Atomic unsigned held;               /* servers of shared pools, the same */
			_Atomic(struct limit_tally *) tally; /* shared_tally() */
			/* of those that threads have forgotten */
			_Atomic uint64_t counts[NTENANT_COUNTS];
		};
		struct {
			/* of a login or a cluster: commands that have changed what its sessions
			 * begin with, … */
			_Atomic unsigned defaults;
			/* of a login: the statement_timeout that a session of this user has in this
			 * database when nobody asks for another, in ms (0: none), and when it was
			 * asked for; -1: not known */
			_Atomic int64_t default_timeout_ms;
			_Atomic usec_t default_timeout_at;
			/* … and when the last one was seen */
			_Atomic usec_t defaults_at;
		};
		/* of a fence: the same as a tenant's, where there are none */
		_Atomic uint64_t login_fence;
	};
	char name[];
};

/* Beside its name; docs/memory.md says what that comes to. */
#define SHARED_TENANT_MAX 160
_Static_assert(sizeof(struct shared) <= SHARED_TENANT_MAX,
	       "a known tenant costs 400 bytes at most");

/* What limits have done to a tenant, by enum limit_kind. */
struct limit_tally {
	_Atomic uint64_t refused[NLIMITS];
	_Atomic uint64_t warned[NLIMITS];
	_Atomic unsigned waiting[NLIMITS];
};

/* Tenants that nobody knows and that are remembered all the same, after their last session: the
 * ones that left last.  Who may name tenants as it likes (unknown_tenant) would else fill the
 * memory (I6), and has a new quota under a new name anyway. */
#define SHARED_STRANGERS 10000

/* Clients of the whole process. */
extern _Atomic unsigned shared_clients;

/* Finds or makes the record; release with shared_put().  Any thread, takes a lock. */
struct shared *shared_get(enum shared_kind kind, struct slice name);
/* Finds it or returns NULL. */
struct shared *shared_find(enum shared_kind kind, struct slice name);
void shared_put(struct shared *s);
/* The name of a login's record … */
void shared_name_login(struct buf *out, const char *database, const char *user);
/* … and of a fence's. */
void shared_name_fence(struct buf *out, const char *cluster, const char *dbname, const char *user);

/* Of those of a kind that wants picks under the lock, a reference each; the list is the caller's.
 */
struct shared **shared_pick(enum shared_kind kind,
			    bool (*wants)(const void *arg, const struct shared *s), const void *arg,
			    size_t *n);

/* Calls visit for each record of a kind, under the lock: it must be short and not come back here.
 */
void shared_visit(enum shared_kind kind, void (*visit)(void *arg, struct shared *s), void *arg);

/* A tenant's, made when it is first needed: most tenants never meet a limit.  Any thread. */
struct limit_tally *shared_tally(struct shared *s);

/* Counts one more if that stays within max (0: no limit).  Any thread. */
bool slot_take(_Atomic unsigned *count, unsigned max);
void slot_give_back(_Atomic unsigned *count);

#endif
