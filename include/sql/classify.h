/* SPDX-License-Identifier: ISC
 *
 * classify.h - may this text run on a replica?
 *
 * Whatever is not proven to be a read is the primary's.  Proofs come from sql/grammar.h and are
 * remembered under the text's fingerprint.
 */
#ifndef PGT_SQL_CLASSIFY_H
#define PGT_SQL_CLASSIFY_H

#include "sql/catalog.h"
#include "sql/grammar.h"
#include "sql/scan.h"

#include <stddef.h>
#include <stdint.h>

enum sql_class { SQL_CLASS_READ, SQL_CLASS_WRITE_OR_UNKNOWN };

#define SQL_PARSE_MAX_DEFAULT (32 * 1024)

/* Of one thread. */
struct sql_classifier;

/* entries: shapes to remember (at least 1), the least used make room.  parse_max: bytes of a text
 * above which it is not parsed. */
struct sql_classifier *sql_classifier_new(size_t entries, size_t parse_max);
void sql_classifier_set_parse_max(struct sql_classifier *c, size_t parse_max);
void sql_classifier_free(struct sql_classifier *c);

/* facts: of the same text.  catalog: of the database the text is for.  Nothing is a read as long as
 * the catalog is NULL (not known yet), or when the facts came without a fingerprint.  Proofs of one
 * catalog are not used under another. */
enum sql_class sql_classify(struct sql_classifier *c, const struct sql_catalog *catalog,
			    struct slice text, const struct sql_facts *facts);

/* The same in two steps, for who counts what parsing costs: known() decides where nothing has to be
 * parsed; false: parse() has to. */
bool sql_classify_known(struct sql_classifier *c, const struct sql_catalog *catalog,
			struct slice text, const struct sql_facts *facts, enum sql_class *class);
enum sql_class sql_classify_parse(struct sql_classifier *c, const struct sql_catalog *catalog,
				  struct slice text, const struct sql_facts *facts);

/* The same without a memory, and in words what there is against a read ("": nothing); a hint for
 * the primary is one such thing.  Any thread. */
enum sql_class sql_classify_explain(const struct sql_catalog *catalog, struct slice text,
				    const struct sql_facts *facts, size_t parse_max,
				    char why[SQL_WHY_MAX]);
/* Whether it remembers texts of this shape as writes. */
bool sql_classifier_distrusts(const struct sql_classifier *c, const struct sql_catalog *catalog,
			      const struct sql_facts *facts);

/* A replica refused a text of this shape as a write (25006): it is one from now on. */
void sql_classifier_remember_write(struct sql_classifier *c, const struct sql_catalog *catalog,
				   const struct sql_facts *facts);

/* Until when a proof holds that is made now, to be kept with it: as long as this tells the same. It
 * goes with its catalog, and when a replica has refused anything.  0: there can be none. */
uint64_t sql_classifier_era(const struct sql_classifier *c, const struct sql_catalog *catalog);

struct sql_classifier_stats {
	uint64_t hits;
	uint64_t parses;
	uint64_t evictions;
};
const struct sql_classifier_stats *sql_classifier_stats(const struct sql_classifier *c);

#endif
