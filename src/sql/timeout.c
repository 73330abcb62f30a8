/* SPDX-License-Identifier: ISC
 *
 * timeout.c - values of statement_timeout as the server reads them.
 *
 * Knows the server's rules for an integer setting with the unit ms; no other setting.
 */
#include "sql/timeout.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>

#define VALUE_MAX 64

/* From coarse to fine: the server rounds a value in one unit to a multiple of the next finer. */
static const struct unit {
	const char *name;
	double ms;
} units[] = {
	{"d",    86400e3},
        { "h",   3600e3 },
        { "min", 60e3   },
	{ "s",   1e3    },
        { "ms",  1      },
        { "us",  1e-3   },
};

/* To the nearest integer, halves to even, as the server does; without libm. */
static double round_even(double x)
{
	const double big = 0x1p52;

	if (x < 0)
		return -round_even(-x);
	return x < big ? x + big - big : x;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *skip_spaces(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

/* The number at *p: decimal, octal or hexadecimal integer, else a floating point number. */
static bool read_number(const char **p, double *value)
{
	char *end;

	errno = 0;
	*value = (double)strtol(*p, &end, 0);
	if (*end == '.' || *end == 'e' || *end == 'E' || errno == ERANGE) {
		errno = 0;
		*value = strtod(*p, &end);
	}
	if (end == *p || errno == ERANGE || *value != *value) /* NaN */
		return false;
	*p = end;
	return true;
}

static double in_ms(const struct unit *unit, double value)
{
	const struct unit *finer = unit + 1;

	value *= unit->ms;
	if (finer < units + PGT_NELEMS(units))
		value = round_even(value / finer->ms) * finer->ms;
	return value;
}

/* Scales by the unit at p, behind which only white space may stand. */
static bool apply_unit(const char *p, double *value)
{
	size_t n = 0;

	if (!*p)
		return true;
	while (p[n] && !is_space(p[n]))
		n++;
	if (*skip_spaces(p + n))
		return false;
	for (size_t i = 0; i < PGT_NELEMS(units); i++)
		if (slice_is_equal(slice_of(p, n), slice_str(units[i].name))) {
			*value = in_ms(&units[i], *value);
			return true;
		}
	return false;
}

bool sql_timeout_parse(struct slice value, int64_t *ms)
{
	char text[VALUE_MAX];
	const char *p = text;
	double number;

	if (memchr(value.p, '\0', value.n))
		return false;
	if (value.n >= sizeof(text)) {
		*ms = 0;
		return true;
	}
	memcpy(text, value.p, value.n);
	text[value.n] = '\0';
	if (!read_number(&p, &number) || !apply_unit(skip_spaces(p), &number))
		return false;
	number = round_even(number);
	if (!(number >= 0 && number <= INT32_MAX))
		return false;
	*ms = (int64_t)number;
	return true;
}

/* For each transaction of another tenant, which is why it is not printf()'s. */
void sql_timeout_write(int64_t ms, char out[SQL_TIMEOUT_MAX])
{
	char digits[SQL_TIMEOUT_MAX];
	char *p = digits + sizeof(digits);

	PGT_ASSERT(ms >= 0);
	*--p = '\0';
	do
		*--p = (char)('0' + ms % 10);
	while ((ms /= 10));
	memcpy(out, p, (size_t)(digits + sizeof(digits) - p));
}
