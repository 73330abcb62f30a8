/* SPDX-License-Identifier: ISC
 *
 * classify.c - may this text run on a replica?
 *
 * The cache is a fixed array under a hash table; a hand goes round it and takes the first entry
 * that was not used since it last came by (CLOCK).
 */
#include "sql/classify.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sql/grammar.h"

#include <stdlib.h>

/* libpg_query recurses with the tree of a text; see sql/grammar.h. */
#define NESTING_MAX 200
#define CHAIN_MAX   4000

struct entry {
	struct hlink link;
	uint64_t catalog;        /* its id */
	uint64_t fingerprint[2]; /* the first half is the link's hash */
	enum sql_class class;
	bool is_linked;
	bool was_used;
};

struct sql_classifier {
	struct hmap map;
	struct entry *entries;
	size_t nentries;
	size_t hand;
	size_t parse_max;
	char *text; /* parse_max + 1 bytes: libpg_query wants a NUL */
	struct sql_classifier_stats stats;
};

struct sql_classifier *sql_classifier_new(size_t entries, size_t parse_max)
{
	struct sql_classifier *c = xnew(struct sql_classifier);

	PGT_ASSERT(entries > 0);
	c->entries = xcalloc(entries, sizeof(*c->entries));
	c->nentries = entries;
	c->parse_max = parse_max;
	c->text = xmalloc(parse_max + 1);
	return c;
}

void sql_classifier_free(struct sql_classifier *c)
{
	if (!c)
		return;
	hmap_fini(&c->map);
	free(c->entries);
	free(c->text);
	free(c);
}

const struct sql_classifier_stats *sql_classifier_stats(const struct sql_classifier *c)
{
	return &c->stats;
}

static bool has_fingerprint(const struct sql_facts *facts)
{
	return facts->fingerprint[0] || facts->fingerprint[1];
}

static struct entry *find(struct sql_classifier *c, const struct sql_catalog *catalog,
			  const struct sql_facts *facts)
{
	struct hlink *l = hmap_first(&c->map, facts->fingerprint[0]);

	for (; l; l = hmap_next(l)) {
		struct entry *e = container_of(l, struct entry, link);

		if (e->fingerprint[1] == facts->fingerprint[1] &&
		    e->catalog == sql_catalog_id(catalog))
			return e;
	}
	return NULL;
}

static struct entry *make_room(struct sql_classifier *c)
{
	struct entry *e;

	for (;;) {
		e = &c->entries[c->hand];
		c->hand = (c->hand + 1) % c->nentries;
		if (!e->was_used)
			break;
		e->was_used = false;
	}
	if (e->is_linked) {
		hmap_remove(&c->map, &e->link);
		c->stats.evictions++;
	}
	return e;
}

static void remember(struct sql_classifier *c, const struct sql_catalog *catalog,
		     const struct sql_facts *facts, enum sql_class class)
{
	struct entry *e = find(c, catalog, facts);

	if (!e) {
		e = make_room(c);
		*e = (struct entry){ .catalog = sql_catalog_id(catalog), .is_linked = true };
		memcpy(e->fingerprint, facts->fingerprint, sizeof(e->fingerprint));
		hmap_insert(&c->map, &e->link, facts->fingerprint[0]);
	}
	e->class = class;
}

void sql_classifier_remember_write(struct sql_classifier *c, const struct sql_catalog *catalog,
				   const struct sql_facts *facts)
{
	if (has_fingerprint(facts))
		remember(c, catalog, facts, SQL_CLASS_WRITE_OR_UNKNOWN);
}

/* What tokens rule out needs no grammar and no place in the cache. */
static bool may_be_read(const struct sql_facts *f)
{
	switch (f->kind) {
	case SQL_KIND_SELECT:
	case SQL_KIND_SHOW:
	case SQL_KIND_EXPLAIN:
	case SQL_KIND_COPY:
		return f->flags == 0 && f->hint != SQL_HINT_PRIMARY && f->nchanges == 0 &&
		       !(f->effects & ~SQL_HARMLESS_EFFECTS);
	default:
		return false;
	}
}

static enum sql_class parse(struct sql_classifier *c, const struct sql_catalog *catalog,
			    struct slice text)
{
	memcpy(c->text, text.p, text.n);
	c->text[text.n] = '\0';
	c->stats.parses++;
	return sql_grammar_proves_read(c->text, catalog) ? SQL_CLASS_READ
							 : SQL_CLASS_WRITE_OR_UNKNOWN;
}

enum sql_class sql_classify(struct sql_classifier *c, const struct sql_catalog *catalog,
			    struct slice text, const struct sql_facts *facts)
{
	struct entry *e;
	enum sql_class class;

	if (!catalog || !has_fingerprint(facts) || !may_be_read(facts))
		return SQL_CLASS_WRITE_OR_UNKNOWN;
	e = find(c, catalog, facts);
	if (e) {
		e->was_used = true;
		c->stats.hits++;
		return e->class;
	}
	if (text.n > c->parse_max || facts->nesting > NESTING_MAX || facts->chain > CHAIN_MAX)
		return SQL_CLASS_WRITE_OR_UNKNOWN;
	class = parse(c, catalog, text);
	remember(c, catalog, facts, class);
	return class;
}
