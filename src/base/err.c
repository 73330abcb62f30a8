/* SPDX-License-Identifier: ISC
 *
 * err.c - errors for humans.
 */
#include "base/err.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

bool err_set(struct err *e, const char *sqlstate, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return false;
	snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
	e->detail[0] = e->hint[0] = '\0';
	e->routine = NULL;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return false;
}

bool err_detail(struct err *e, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return false;
	va_start(ap, fmt);
	vsnprintf(e->detail, sizeof(e->detail), fmt, ap);
	va_end(ap);
	return false;
}

bool err_hint(struct err *e, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return false;
	va_start(ap, fmt);
	vsnprintf(e->hint, sizeof(e->hint), fmt, ap);
	va_end(ap);
	return false;
}

struct err *err_copy(const struct err *e)
{
	struct err *copy;

	if (!e)
		return NULL;
	copy = xnew(struct err);
	*copy = *e;
	return copy;
}
