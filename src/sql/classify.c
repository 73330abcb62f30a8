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

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* libpg_query recurses with the tree of a text; see sql/grammar.h. */
#define NESTING_MAX 200
#define CHAIN_MAX   4000
/* Its scanner takes what begins a comment together with all signs that follow, and gives back all
 * but two of them.  Of signs read so in vain, comments that anybody writes have a line's or two. */
#define SIGNS_MAX 8192

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
	uint32_t refusals; /* times that a proof was found to be wrong */
	char *text;        /* parse_max + 1 bytes: libpg_query wants a NUL */
	struct sql_classifier_stats stats;
};

struct sql_classifier *sql_classifier_new(size_t entries, size_t parse_max)
{
	struct sql_classifier *c = xnew(struct sql_classifier);

	PGT_ASSERT(entries > 0);
	c->entries = xcalloc(entries, sizeof(*c->entries));
	c->nentries = entries;
	sql_classifier_set_parse_max(c, parse_max);
	return c;
}

void sql_classifier_set_parse_max(struct sql_classifier *c, size_t parse_max)
{
	c->parse_max = parse_max;
	c->text = xrealloc(c->text, parse_max + 1);
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

static struct entry *find(const struct sql_classifier *c, const struct sql_catalog *catalog,
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
	c->refusals++;
	if (has_fingerprint(facts))
		remember(c, catalog, facts, SQL_CLASS_WRITE_OR_UNKNOWN);
}

uint64_t sql_classifier_era(const struct sql_classifier *c, const struct sql_catalog *catalog)
{
	return sql_catalog_id(catalog) << 32 | (catalog ? c->refusals : 0);
}

static PGT_PRINTF(2, 3) bool find_fault(char *why, const char *format, ...)
{
	va_list args;

	if (why) {
		va_start(args, format);
		vsnprintf(why, SQL_WHY_MAX, format, args);
		va_end(args);
	}
	return false;
}

static const char *name_of_effect(uint32_t effects)
{
	static const char *const names[] = {
#define X(enumerator, name) name,
		SQL_EFFECTS(X)
#undef X
	};

	return names[__builtin_ctz(effects)];
}

static bool is_kind_of_read(enum sql_kind kind)
{
	return kind == SQL_KIND_SELECT || kind == SQL_KIND_SHOW || kind == SQL_KIND_EXPLAIN ||
	       kind == SQL_KIND_COPY;
}

/* What tokens rule out needs no grammar and no place in the cache. */
static bool may_be_read(const struct sql_facts *f, char *why)
{
	const uint32_t effects = f->effects & ~SQL_HARMLESS_EFFECTS;

	if (f->hint == SQL_HINT_PRIMARY)
		return find_fault(why, "its comment asks for the primary");
	if (f->flags & SQL_UNCLEAN)
		return find_fault(why, "it cannot be read as the server reads it");
	if (!is_kind_of_read(f->kind))
		return find_fault(why, "%s is no read", sql_kind_name(f->kind));
	if (effects)
		return find_fault(why, "it does something to its session: %s",
				  name_of_effect(effects));
	return (!f->flags && !f->nchanges) || find_fault(why, "it sets what is guarded");
}

static inline bool is_sign(char c)
{
	return c && strchr("+-*/<>=~!@#%^&|`?", c);
}

/* How many signs the grammar's scanner looks at in vain: the square of their number in a row of
 * comments, within each other or not, with nothing in them. */
static size_t signs_in_vain(struct slice text)
{
	size_t run = 0, sum = 0;

	for (size_t i = text.n; i-- > 0;) {
		run = is_sign(text.p[i]) ? run + 1 : 0;
		if (run > 1 && text.p[i] == '/' && text.p[i + 1] == '*')
			sum += run;
	}
	return sum;
}

static bool may_be_parsed(const struct sql_facts *facts, struct slice text, size_t parse_max,
			  char *why)
{
	if (text.n > parse_max)
		return find_fault(why, "it is longer than parse_max_size");
	if (memmem(text.p, text.n, "/*", 2) && signs_in_vain(text) > SIGNS_MAX)
		return find_fault(why, "its comments take too long to be read");
	return (facts->nesting <= NESTING_MAX && facts->chain <= CHAIN_MAX) ||
	       find_fault(why, "it is nested too deeply to be parsed");
}

static enum sql_class class_of(bool is_read)
{
	return is_read ? SQL_CLASS_READ : SQL_CLASS_WRITE_OR_UNKNOWN;
}

bool sql_classify_known(struct sql_classifier *c, const struct sql_catalog *catalog,
			struct slice text, const struct sql_facts *facts, enum sql_class *class)
{
	struct entry *e;

	*class = SQL_CLASS_WRITE_OR_UNKNOWN;
	if (!catalog || !has_fingerprint(facts) || !may_be_read(facts, NULL))
		return true;
	e = find(c, catalog, facts);
	if (!e)
		return !may_be_parsed(facts, text, c->parse_max, NULL);
	e->was_used = true;
	c->stats.hits++;
	*class = e->class;
	return true;
}

enum sql_class sql_classify_parse(struct sql_classifier *c, const struct sql_catalog *catalog,
				  struct slice text, const struct sql_facts *facts)
{
	enum sql_class class;

	memcpy(c->text, text.p, text.n);
	c->text[text.n] = '\0';
	c->stats.parses++;
	class = class_of(sql_grammar_proves_read(c->text, catalog, NULL));
	remember(c, catalog, facts, class);
	return class;
}

enum sql_class sql_classify(struct sql_classifier *c, const struct sql_catalog *catalog,
			    struct slice text, const struct sql_facts *facts)
{
	enum sql_class class;

	return sql_classify_known(c, catalog, text, facts, &class)
		   ? class
		   : sql_classify_parse(c, catalog, text, facts);
}

enum sql_class sql_classify_explain(const struct sql_catalog *catalog, struct slice text,
				    const struct sql_facts *facts, size_t parse_max,
				    char why[SQL_WHY_MAX])
{
	char *copy;
	bool proven;

	*why = '\0';
	if (!catalog)
		return class_of(find_fault(why, "the catalog of the primary has not been read, or "
						"not since something was defined"));
	if (!may_be_read(facts, why) || !may_be_parsed(facts, text, parse_max, why))
		return SQL_CLASS_WRITE_OR_UNKNOWN;
	copy = xmemdup0(text.p, text.n);
	proven = sql_grammar_proves_read(copy, catalog, why);
	free(copy);
	return class_of(proven);
}

bool sql_classifier_distrusts(const struct sql_classifier *c, const struct sql_catalog *catalog,
			      const struct sql_facts *facts)
{
	const struct entry *e = has_fingerprint(facts) ? find(c, catalog, facts) : NULL;

	return e && e->class == SQL_CLASS_WRITE_OR_UNKNOWN;
}
