/* SPDX-License-Identifier: ISC
 *
 * report.h - reading ErrorResponse and NoticeResponse.
 */
#ifndef PGT_WIRE_REPORT_H
#define PGT_WIRE_REPORT_H

#include "base/slice.h"

#include <stdbool.h>

/* The fields that we look at; empty slices where the sender left them out.  Borrow the body. */
struct report {
	struct slice severity; /* field V where there is one, else S */
	struct slice sqlstate;
	struct slice message;
	struct slice hint;
	struct slice routine; /* for finer distinctions of one SQLSTATE */
};

/* False when the body is not a list of fields; what was read till then stays. */
bool report_parse(struct slice body, struct report *out);
/* Whether the server says that it goes, has crashed, or does not let anybody in yet: 57P01 to
 * 57P03.
 */
bool report_is_farewell(const struct report *report);

#endif
