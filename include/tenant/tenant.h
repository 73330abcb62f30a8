/* SPDX-License-Identifier: ISC
 *
 * tenant.h - a tenant as one thread knows it: its name, its id, what it may do.
 *
 * Made when the first group or session of the thread names it, and kept as long as somebody holds a
 * reference, and for a while after that: sessions that choose their tenant come back to it.  What
 * spans threads (its bucket, its counts of connections) is in the struct shared.
 */
#ifndef PGT_TENANT_TENANT_H
#define PGT_TENANT_TENANT_H

#include "config/config.h"
#include "stats/latency.h"
#include "tenant/limit.h"
#include "tenant/shared.h"

struct tenant {
	struct hlink link;
	struct tenants *table;
	unsigned refs;
	uint32_t serial;    /* no two of a table have the same one, nor 0 */
	struct list unused; /* of table->unused, without any */
	char *name;
	char *business_id;
	struct shared *shared;
	struct settings set;      /* what its tier and its own entry say; else what holds for all */
	struct limit_rules rules; /* of them, in the form of tenant/limit.h */
	unsigned nqueued;         /* sessions of this thread that wait for one of its slots … */
	unsigned nthirsty;        /* … or for tokens … */
	unsigned nwoken;          /* … and of them those that were told to try again, and will */
	usec_t limit_said_at;     /* when an event said that it is over a limit */
	usec_t yielded_at;        /* when this thread left a token to those of others */
	bool is_gated;            /* its transactions have to be asked for */
	usec_t parsed_until; /* its texts have had the parser's time up to here: relay/gate.c */
	uint64_t counts[NTENANT_COUNTS];
	struct latencies times; /* that its clients saw on this thread */
	struct list
	    servers; /* of the server/: whose sessions carry its id, by server.context_link */
	struct list shares; /* of the pool/: what it has of pools that it shares */
	bool gone;          /* a reload has taken it away, or given it another id */
};

/* Those of one thread. */
struct tenants {
	struct hmap by_name;
	struct latency_clock *clock;
	struct list unused; /* the last one used at the end */
	unsigned nunused;
	unsigned version; /* counts tenants_configure() */
	uint32_t last_serial;
	struct tenant unclear; /* stands for whoever it is when that is not known */
};

/* Tenants that a thread keeps although nobody uses them. */
#define TENANTS_KEPT 1024

/* Borrows the clock. */
void tenants_init(struct tenants *table, struct latency_clock *clock);
/* No reference may be left. */
void tenants_fini(struct tenants *table);

/* A new reference.  conf: its entry, or NULL: in unknown_tenant's tier.  The config must outlive
 * the table's use of it: until tenants_configure() or the end. */
struct tenant *tenant_get(struct tenants *table, const struct config *config, struct slice name,
			  const char *business_id, const struct tenant_conf *conf);
struct tenant *tenant_ref(struct tenant *tenant); /* NULL is allowed, here and below */
void tenant_unref(struct tenant *tenant);

/* After a reload: what they may do is resolved anew. */
void tenants_configure(struct tenants *table, const struct config *config);

/* What tenants owe is counted in tokens, so another rate finds as many, not as much time.  Before
 * the threads have the new config. */
void tenants_rescale(const struct config *old, const struct config *new, usec_t now);

/* "" for NULL, and where it is not known whose it is. */
const char *tenant_name(const struct tenant *tenant);

/* NULL: nobody's statement. */
static inline void tenant_count(struct tenant *tenant, enum tenant_count what, uint64_t n)
{
	if (tenant)
		tenant->counts[what] += n;
}
struct limit_rules settings_limit_rules(const struct settings *set);

/* The ceiling of statement_timeout; 0: none. */
static inline usec_t tenant_timeout_cap(const struct tenant *tenant)
{
	return tenant ? tenant->set.statement_timeout : 0;
}

#endif
