/* SPDX-License-Identifier: ISC
 *
 * roster.c - tenants by the hundred thousand: an arena of entries, two tables that only grow.
 *
 * An entry and its strings stand in one piece, so that a tenant costs little more than what is
 * said of it.  The tables are read while one thread inserts: a bucket's head is written last, and
 * buckets are multiplied only before others can see them.
 */
#include "config/roster.h"

#include "base/mem.h"
#include "config/build.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CHUNK_BYTES ((size_t)64 << 10)
/* All values of a row, of which one may be a message to clients. */
#define VALUES_MAX 2048
/* A name or an id: as much as a login may be looked up by. */
#define NAME_MAX_LEN 1024

struct chunk {
	struct chunk *next;
	size_t used;
	_Alignas(8) char bytes[CHUNK_BYTES];
};

typedef _Atomic(struct hlink *) bucket_t;

struct names {
	bucket_t *buckets;
	size_t nbuckets; /* a power of two */
};

struct roster {
	unsigned refs; /* atomic */
	struct names by_name, by_business_id;
	struct chunk *chunks;
	/* of the thread that fills it */
	struct tenant_conf **all;
	size_t n;
	size_t npublished;
	uint64_t digest; /* of the rows that were taken, in any order */
	bool is_published;
};

/* ---- lifetime ---------------------------------------------------------------------------------
 */

#define BUCKETS_MIN 1024

static void names_init(struct names *names, size_t nbuckets)
{
	names->nbuckets = nbuckets;
	names->buckets = xcalloc(nbuckets, sizeof(*names->buckets));
}

struct roster *roster_new(void)
{
	struct roster *r = xnew(struct roster);

	r->refs = 1;
	names_init(&r->by_name, BUCKETS_MIN);
	names_init(&r->by_business_id, BUCKETS_MIN);
	return r;
}

struct roster *roster_ref(struct roster *r)
{
	__atomic_add_fetch(&r->refs, 1, __ATOMIC_RELAXED);
	return r;
}

void roster_unref(struct roster *r)
{
	if (!r || __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (struct chunk *c = r->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(r->by_name.buckets);
	free(r->by_business_id.buckets);
	free(r->all);
	free(r);
}

static void *allocate(struct roster *r, size_t n)
{
	struct chunk *c = r->chunks;
	void *p;

	n = (n + 7) & ~(size_t)7;
	PGT_ASSERT(n <= CHUNK_BYTES);
	if (!c || CHUNK_BYTES - c->used < n) {
		c = xmalloc(sizeof(*c));
		c->next = r->chunks;
		c->used = 0;
		r->chunks = c;
	}
	p = c->bytes + c->used;
	c->used += n;
	return p;
}

/* ---- tables -----------------------------------------------------------------------------------
 */

static bucket_t *bucket_of(const struct names *names, uint64_t hash)
{
	return &names->buckets[hash & (names->nbuckets - 1)];
}

static void insert(struct names *names, struct hlink *l)
{
	bucket_t *bucket = bucket_of(names, l->hash);

	l->next = atomic_load_explicit(bucket, memory_order_relaxed);
	atomic_store_explicit(bucket, l, memory_order_release);
}

static void multiply(struct names *names)
{
	struct names old = *names;

	names_init(names, old.nbuckets * 2);
	for (size_t i = 0; i < old.nbuckets; i++)
		for (struct hlink *l = old.buckets[i], *next; l; l = next) {
			next = l->next;
			insert(names, l);
		}
	free(old.buckets);
}

static const struct tenant_conf *find(const struct names *names, struct slice key, size_t link_at,
				      size_t key_at)
{
	uint64_t hash = hash_bytes(key.p, key.n);
	const struct hlink *l = atomic_load_explicit(bucket_of(names, hash), memory_order_acquire);

	for (; l; l = l->next) {
		const char *tenant = (const char *)l - link_at;

		if (l->hash == hash &&
		    slice_is_equal(slice_str(*(const char *const *)(tenant + key_at)), key))
			return (const void *)tenant;
	}
	return NULL;
}

const struct tenant_conf *roster_by_name(const struct roster *r, struct slice name)
{
	return find(&r->by_name, name, offsetof(struct tenant_conf, by_name),
		    offsetof(struct tenant_conf, name));
}

const struct tenant_conf *roster_by_business_id(const struct roster *r, struct slice id)
{
	return find(&r->by_business_id, id, offsetof(struct tenant_conf, by_business_id),
		    offsetof(struct tenant_conf, business_id));
}

/* ---- columns ----------------------------------------------------------------------------------
 */

static const struct {
	const char *name;
	struct roster_column column;
	bool is_needed;
} fixed[] = {
	{"tenant",       { .what = ROSTER_NAME },        true },
	{ "business_id", { .what = ROSTER_BUSINESS_ID }, true },
	{ "tier",        { .what = ROSTER_TIER },        false},
};

static bool read_column(struct roster_column *column, struct slice name, struct err *e)
{
	const struct setting *setting = settings_find(name, SCOPE_TENANT);
	struct nearest nearest = { .wanted = name, .distance = UINT_MAX };

	for (size_t i = 0; i < PGT_NELEMS(fixed); i++) {
		if (slice_is_equal(slice_str(fixed[i].name), name)) {
			*column = fixed[i].column;
			return true;
		}
		nearest_try(&nearest, slice_str(fixed[i].name));
	}
	if (setting) {
		*column = (struct roster_column){ ROSTER_SETTING, setting };
		return true;
	}
	settings_nearest(&nearest, SCOPE_TENANT);
	if (nearest_is_near(&nearest))
		return err_set(e, "42703", "unknown column \"%.*s\", did you mean %.*s?",
			       SLICE_FMT(name), SLICE_FMT(nearest.name));
	return err_set(e, "42703", "unknown column \"%.*s\"", SLICE_FMT(name));
}

static bool has_column(const struct roster_columns *columns, const struct roster_column *wanted)
{
	for (unsigned i = 0; i < columns->n; i++)
		if (columns->at[i].what == wanted->what &&
		    columns->at[i].setting == wanted->setting)
			return true;
	return false;
}

bool roster_read_columns(struct roster_columns *columns, const struct slice *names, unsigned n,
			 struct err *e)
{
	*columns = (struct roster_columns){ 0 };
	for (unsigned i = 0; i < n && i < ROSTER_MAX_COLUMNS; i++) {
		struct roster_column column;

		if (!read_column(&column, names[i], e))
			return false;
		if (has_column(columns, &column))
			return err_set(e, "42701", "column \"%.*s\" comes twice",
				       SLICE_FMT(names[i]));
		columns->at[columns->n++] = column;
	}
	for (size_t i = 0; i < PGT_NELEMS(fixed); i++)
		if (fixed[i].is_needed && !has_column(columns, &fixed[i].column))
			return err_set(e, "42703", "there is no column \"%s\"", fixed[i].name);
	return true;
}

/* ---- rows -------------------------------------------------------------------------------------
 */

/* A row as it is understood, before anything of it is kept. */
struct draft_tenant {
	struct slice name, business_id;
	const struct tier_conf *tier;
	struct setting_override items[ROSTER_MAX_COLUMNS];
	size_t nitems;
	char values[VALUES_MAX]; /* texts, which those of strings borrow */
	size_t used;
};

static char *put_string(char *at, struct slice s)
{
	memcpy(at, s.p, s.n);
	at[s.n] = '\0';
	return at + s.n + 1;
}

static bool is_string(const struct setting_override *item)
{
	return settings_table[item->id].type->is_string;
}

static bool take_value(struct draft_tenant *d, const struct setting *setting, struct slice value,
		       struct err *e)
{
	char *text = d->values + d->used;
	struct setting_override *item = &d->items[d->nitems];
	struct slice name = setting_name(setting, SCOPE_TENANT);
	struct err why;

	if (value.n >= VALUES_MAX - d->used)
		return err_set(e, "22023", "%.*s: the value is too long", SLICE_FMT(name));
	d->used = (size_t)(put_string(text, value) - d->values);
	/* All of it counts in the digest. */
	memset(item, 0, sizeof(*item));
	item->id = (enum setting_id)(setting - settings_table);
	if (!setting->type->parse(setting->type, text, &item->value, &why))
		return err_set(e, "22023", "%.*s: %s", SLICE_FMT(name), why.text);
	d->nitems++;
	return true;
}

static bool read_row(struct draft_tenant *d, const struct config *config,
		     const struct roster_columns *columns, const struct slice *values,
		     struct err *e)
{
	d->name = d->business_id = slice_of(NULL, 0);
	d->tier = NULL;
	d->nitems = d->used = 0;
	for (unsigned i = 0; i < columns->n; i++) {
		const struct roster_column *column = &columns->at[i];
		struct slice value = values[i];

		if (column->what == ROSTER_NAME)
			d->name = value;
		else if (column->what == ROSTER_BUSINESS_ID)
			d->business_id = value;
		else if (column->what == ROSTER_SETTING && value.p &&
			 !take_value(d, column->setting, value, e))
			return false;
		if (column->what == ROSTER_TIER && value.n &&
		    !(d->tier = config_tier(config, value)))
			return err_set(e, "22023", "there is no tier \"%.*s\" in [tiers]",
				       (int)(value.n < 100 ? value.n : 100), value.p);
	}
	if (!d->name.n || d->name.n > NAME_MAX_LEN)
		return err_set(e, "22023", "tenant is %s", d->name.n ? "too long" : "empty");
	if (!d->business_id.n || d->business_id.n > NAME_MAX_LEN)
		return err_set(e, "22023", "business_id is %s",
			       d->business_id.n ? "too long" : "empty");
	return true;
}

static enum roster_verdict judge(const struct roster *r, const struct config *config,
				 const struct draft_tenant *d, struct err *e)
{
	const struct tenant_conf *other;

	if (config_file_tenant(config, d->name))
		return ROSTER_IN_FILE;
	other = config_file_tenant_by_business_id(config, d->business_id);
	if (other) {
		err_set(e, "23505", "business_id %.*s belongs to tenant %.100s of the file",
			(int)(d->business_id.n < 100 ? d->business_id.n : 100), d->business_id.p,
			other->name);
		return ROSTER_REFUSED;
	}
	other = roster_by_name(r, d->name);
	if (other && slice_is_equal(slice_str(other->business_id), d->business_id))
		return ROSTER_KNOWN;
	if (other) {
		err_set(e, "23505", "the tenant has business_id %.100s already",
			other->business_id);
		return ROSTER_REFUSED;
	}
	other = roster_by_business_id(r, d->business_id);
	if (other) {
		err_set(e, "23505", "business_id %.100s belongs to tenant %.100s already",
			other->business_id, other->name);
		return ROSTER_REFUSED;
	}
	return ROSTER_TAKEN;
}

/* What the strings among its settings take. */
static size_t strings_size(const struct draft_tenant *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->nitems; i++)
		if (is_string(&d->items[i]))
			n += strlen(d->items[i].value.str) + 1;
	return n;
}

static void keep_strings(struct tenant_conf *t, char *at)
{
	for (size_t i = 0; i < t->own.n; i++) {
		union setting_value *value = &t->own.items[i].value;
		const char *from = value->str;

		if (!is_string(&t->own.items[i]))
			continue;
		value->str = at;
		at = put_string(at, slice_str(from));
	}
}

static void keep(struct roster *r, const struct draft_tenant *d)
{
	size_t own = d->nitems * sizeof(*d->items);
	struct tenant_conf *t =
	    allocate(r, sizeof(*t) + own + d->name.n + d->business_id.n + 2 + strings_size(d));
	char *strings = (char *)(t + 1) + own;

	*t = (struct tenant_conf){
		.name = strings,
		.tier = d->tier,
		.users = "",
		.databases = "",
		.own = {(struct setting_override *)(t + 1), d->nitems},
		.index = r->n
	};
	memcpy(t->own.items, d->items, own);
	t->business_id = strings = put_string(strings, d->name);
	keep_strings(t, put_string(strings, d->business_id));
	t->by_name.hash = hash_bytes(d->name.p, d->name.n);
	t->by_business_id.hash = hash_bytes(d->business_id.p, d->business_id.n);
	if (!r->is_published && r->n >= r->by_name.nbuckets) {
		multiply(&r->by_name);
		multiply(&r->by_business_id);
	}
	r->all = items_grow(r->all, r->n, sizeof(*r->all));
	r->all[r->n++] = t;
	insert(&r->by_name, &t->by_name);
	insert(&r->by_business_id, &t->by_business_id);
}

static uint64_t digest_of(const struct draft_tenant *d)
{
	const char *tier = d->tier ? d->tier->name : "";
	uint64_t h = hash_more(d->name.n, d->name.p, d->name.n);

	h = hash_more(h, d->business_id.p, d->business_id.n);
	h = hash_more(h, tier, strlen(tier));
	for (size_t i = 0; i < d->nitems; i++) {
		const struct setting_override *item = &d->items[i];

		h = hash_more(h, &item->id, sizeof(item->id));
		h = is_string(item) ? hash_more(h, item->value.str, strlen(item->value.str))
				    : hash_more(h, &item->value, sizeof(item->value));
	}
	return h;
}

enum roster_verdict roster_take(struct roster *r, const struct config *config,
				const struct roster_columns *columns, const struct slice *values,
				struct err *e)
{
	struct draft_tenant d;
	struct tenant_conf tried;
	struct settings set;
	enum roster_verdict verdict;

	if (!read_row(&d, config, columns, values, e))
		return ROSTER_REFUSED;
	tried = (struct tenant_conf){
		.tier = d.tier, .own = {d.items, d.nitems}
	};
	settings_resolve(config, NULL, NULL, &tried, NULL, &set);
	if (!settings_check_limits(&set, e) || !config_check_lane(config, set.lane, e))
		return ROSTER_REFUSED;
	verdict = judge(r, config, &d, e);
	if (verdict != ROSTER_TAKEN)
		return verdict;
	r->digest += digest_of(&d);
	keep(r, &d);
	return ROSTER_TAKEN;
}

/* ---- as a whole -------------------------------------------------------------------------------
 */

struct roster *roster_copy(const struct roster *from, const struct config *config)
{
	struct roster *r = roster_new();
	struct err e;

	for (size_t i = 0; i < from->n; i++) {
		const struct tenant_conf *t = from->all[i];
		struct draft_tenant d;

		d.name = slice_str(t->name);
		d.business_id = slice_str(t->business_id);
		d.tier = NULL;
		d.nitems = t->own.n;

		if (t->tier && !(d.tier = config_tier(config, slice_str(t->tier->name))))
			continue;
		memcpy(d.items, t->own.items, t->own.n * sizeof(*d.items));
		if (judge(r, config, &d, &e) == ROSTER_TAKEN) {
			r->digest += digest_of(&d);
			keep(r, &d);
		}
	}
	return r;
}

/* One that was added to has told nobody yet whose terms it changes. */
bool roster_is_equal(const struct roster *a, const struct roster *b)
{
	return a->n == b->n && a->digest == b->digest && !roster_singles(a) && !roster_singles(b);
}

size_t roster_count(const struct roster *r)
{
	return r->n;
}

const struct tenant_conf *roster_at(const struct roster *r, size_t i)
{
	PGT_ASSERT(i < r->n);
	return r->all[i];
}

size_t roster_singles(const struct roster *r)
{
	return r->is_published ? r->n - r->npublished : 0;
}

void roster_publish(struct roster *r)
{
	r->is_published = true;
	r->npublished = r->n;
}
