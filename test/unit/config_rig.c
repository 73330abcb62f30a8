/* SPDX-License-Identifier: ISC
 *
 * config_rig.c - a configuration from a text.
 */
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

static bool read_text(void *arg, const char *path PGT_UNUSED, bool is_secret PGT_UNUSED,
		      struct buf *text, struct err *e PGT_UNUSED)
{
	buf_put_slice(text, slice_str(arg));
	return true;
}

struct config *config_of_text(const char *ini)
{
	struct config_problems p = { 0 };
	struct config *c = config_load("t.ini", read_text, (void *)(uintptr_t)ini, &p);

	if (p.nerrors)
		fail_msg("%s", buf_cstr(&p.errors));
	config_problems_fini(&p);
	return c;
}

struct config *config_of_format(const char *format, ...)
{
	struct config *c;
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		fail();
	va_end(args);
	c = config_of_text(text);
	free(text);
	return c;
}
