/* SPDX-License-Identifier: ISC
 *
 * doctor.h - looks at every configured database for what is dangerous, and says what mends it.
 *
 * A program of its own behind --doctor: no thread, no loop, blocking connections.  It changes
 * nothing: every transaction is read-only and rolled back.
 */
#ifndef PGT_DOCTOR_DOCTOR_H
#define PGT_DOCTOR_DOCTOR_H

#include "base/err.h"
#include "config/config.h"

struct finding;

/* One thing found. */
struct case_found {
	const struct finding *finding;
	char *object;
	char *mend;
};

/* What was found in one database. */
struct examination {
	const char *database;
	struct case_found *found;
	size_t nfound;
	size_t ndangers;
	char *note;       /* what could not be looked at, or NULL */
	struct err error; /* nothing could; or empty */
};

/* Looks at one database.  False: e->error says why not. */
bool doctor_examine(const struct config *config, const struct database_conf *database,
		    struct examination *e);
void examination_fini(struct examination *e);

/* Appends the report, for people or as a JSON document. */
void doctor_report_text(const struct examination *all, size_t n, struct buf *out);
void doctor_report_json(const struct examination *all, size_t n, struct buf *out);

/* All of them, reported to stdout.  The exit status: 0 when nothing dangerous was found, 1 when
 * something was, 2 when a database could not be looked at. */
int doctor_run(const struct config *config, bool as_json);

#endif
