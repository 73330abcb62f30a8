/* SPDX-License-Identifier: ISC
 *
 * findings.h - what --doctor looks for: one table, made from findings.def.
 */
#ifndef PGT_DOCTOR_FINDINGS_H
#define PGT_DOCTOR_FINDINGS_H

#include "base/buf.h"

enum severity { SEVERITY_DANGER, SEVERITY_WARNING, SEVERITY_ADVICE, NSEVERITIES };

enum probe { PROBE_NONE, PROBE_OPEN, PROBE_CAST };

struct finding {
	const char *id;
	enum severity severity;
	enum probe probe;
	const char *title;
	const char *remedy;
	const char *query;
};

extern const struct finding findings[];
extern const size_t nfindings;

/* "danger" … */
const char *severity_name(enum severity severity);

/* docs/doctor.md */
void findings_describe_markdown(struct buf *out);

#endif
