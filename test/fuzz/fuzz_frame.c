/* SPDX-License-Identifier: ISC
 *
 * fuzz_frame.c - any bytes: frames tile them, whatever part of them is here, and nothing is read
 * beyond.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/report.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_body(struct slice body)
{
	struct reader r = reader_of(body);
	struct report report;

	while (read_left(&r)) {
		size_t before = read_left(&r);

		read_cstr(&r);
		read_bytes(&r, read_u16(&r));
		read_u32(&r);
		PGT_ASSERT(read_left(&r) < before);
	}
	if (report_parse(body, &report))
		PGT_ASSERT(!report_is_farewell(&report) || report.sqlstate.n == 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A block of exactly its size, so that ASan sees a read past its end. */
	char *copy = xmalloc(size ? size : 1);
	struct frame f, again;
	size_t at = 0;

	memcpy(copy, data, size);
	while (frame_peek(copy + at, size - at, &f) == FRAME_OK) {
		PGT_ASSERT(f.have <= f.len && f.have <= size - at);
		/* More bytes change nothing but how much is here. */
		PGT_ASSERT(frame_peek(copy + at, FRAME_HEADER_LEN, &again) == FRAME_OK);
		PGT_ASSERT(again.len == f.len && again.type == f.type);
		if (!frame_is_whole(&f))
			break;
		read_body(frame_body(&f));
		at += f.len;
	}
	free(copy);
	return 0;
}
