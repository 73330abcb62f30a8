/* SPDX-License-Identifier: ISC
 *
 * slice.h - a borrowed run of bytes: pointer and length, not NUL-terminated.
 */
#ifndef PGT_BASE_SLICE_H
#define PGT_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
	const char *p;
	size_t n;
};

#define SLICE(lit) ((struct slice){ "" lit, sizeof(lit) - 1 })
/* For printf("%.*s"). */
#define SLICE_FMT(s) (int)(s).n, (s).p

static inline struct slice slice_of(const char *p, size_t n)
{
	return (struct slice){ p, n };
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){ s, strlen(s) };
}

static inline bool slice_is_equal(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* Compares without regard to the case of ASCII letters. */
static inline bool slice_is_equal_nocase(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] & 0x80)
			return false;
	return true;
}

/* What stands before the next `at`, or the rest, which is shorter by both then. */
static inline struct slice slice_cut(struct slice *rest, char at)
{
	const char *end = memchr(rest->p, at, rest->n);
	struct slice part = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
	size_t used = part.n + (end ? 1 : 0);

	*rest = slice_of(rest->p + used, rest->n - used);
	return part;
}

#endif
