/* SPDX-License-Identifier: ISC
 *
 * report.c - reading ErrorResponse and NoticeResponse.
 */
#include "wire/report.h"

#include "wire/read.h"

bool report_parse(struct slice body, struct report *out)
{
	struct reader r = reader_of(body);
	uint8_t code;

	*out = (struct report){ 0 };
	while ((code = read_u8(&r)) != 0) {
		struct slice value = read_cstr(&r);

		if (code == 'V' || (code == 'S' && !out->severity.n))
			out->severity = value;
		else if (code == 'C')
			out->sqlstate = value;
		else if (code == 'M')
			out->message = value;
		else if (code == 'H')
			out->hint = value;
		else if (code == 'R')
			out->routine = value;
	}
	return !r.failed;
}

bool report_is_farewell(const struct report *report)
{
	return slice_is_equal(report->sqlstate, SLICE("57P01")) ||
	       slice_is_equal(report->sqlstate, SLICE("57P02")) ||
	       slice_is_equal(report->sqlstate, SLICE("57P03"));
}
