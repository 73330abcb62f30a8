/* SPDX-License-Identifier: ISC
 *
 * test_frame.c - frame boundaries, wherever the stream is cut, and a cursor that never overruns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/frame.h"
#include "wire/read.h"

static const char query[] = "Q\0\0\0\x0dSELECT 1\0"
			    "S\0\0\0\x04";

static void test_cut_anywhere(void **state)
{
	struct frame f;

	(void)state;
	for (size_t n = 0; n <= 19; n++) {
		enum frame_status status = frame_peek(query, n, &f);

		assert_int_equal(status, n < FRAME_HEADER_LEN ? FRAME_PARTIAL : FRAME_OK);
		if (status != FRAME_OK)
			continue;
		assert_int_equal(f.type, MSG_QUERY);
		assert_int_equal(f.len, 14);
		assert_int_equal(f.have, n < 14 ? n : 14);
		assert_int_equal(frame_is_whole(&f), n >= 14);
	}
	assert_true(slice_is_equal(frame_body(&f), slice_of("SELECT 1", 9)));
}

static void test_lengths(void **state)
{
	static const struct {
		const char *header;
		enum frame_status status;
	} cases[] = {
		{"S\0\0\0\0",          FRAME_INVALID},
                { "S\0\0\0\3",         FRAME_INVALID},
		{ "S\0\0\0\4",         FRAME_OK     },
                { "d\x3f\xff\xff\xff", FRAME_OK     },
		{ "d\x40\0\0\0",       FRAME_INVALID},
                { "d\xff\xff\xff\xff", FRAME_INVALID},
		{ "d\x80\0\0\0",       FRAME_INVALID},
	};
	struct frame f;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(frame_peek(cases[i].header, FRAME_HEADER_LEN, &f),
				 cases[i].status);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(frontend_message_name('D'), "Describe");
	assert_string_equal(backend_message_name('D'), "DataRow");
	assert_string_equal(frontend_message_name('?'), "unknown message");
	assert_string_equal(backend_message_name(0), "unknown message");
}

static void test_reader_stops_at_the_end(void **state)
{
	struct reader r = reader_of(slice_of("\1\2\0\0\0\3ab\0c", 10));

	(void)state;
	assert_int_equal(read_u16(&r), 0x102);
	assert_int_equal(read_u32(&r), 3);
	assert_true(slice_is_equal(read_cstr(&r), SLICE("ab")));
	assert_false(r.failed);
	assert_int_equal(read_cstr(&r).n, 0); /* no NUL */
	assert_true(r.failed);
	assert_int_equal(read_u32(&r), 0);
	assert_int_equal(read_left(&r), 0);
	assert_false(read_is_complete(&r));
}

static void test_reader_of_an_absurd_length(void **state)
{
	struct reader r = reader_of(slice_of("abc", 3));

	(void)state;
	assert_int_equal(read_bytes(&r, SIZE_MAX).n, 0);
	assert_true(r.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_reader_stops_at_the_end),
		cmocka_unit_test(test_reader_of_an_absurd_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
