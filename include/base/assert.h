/* SPDX-License-Identifier: ISC
 *
 * assert.h - checks of what the programmer promised.
 *
 * PGT_ASSERT stays in release builds: a broken invariant of a pooler leaks one tenant's rows to
 * another, so stopping is the lesser harm.  Keep the checks cheap.
 */
#ifndef PGT_BASE_ASSERT_H
#define PGT_BASE_ASSERT_H

/* Prints the place and the condition to stderr and aborts. */
_Noreturn void assert_failed(const char *file, int line, const char *what);

#define PGT_ASSERT(cond) ((cond) ? (void)0 : assert_failed(__FILE__, __LINE__, #cond))

#define PGT_UNUSED       __attribute__((unused))
#define PGT_MUST_USE     __attribute__((warn_unused_result))
/* Where it was measured: what is rare must not make the common path save registers for it. */
#define PGT_INLINE            inline __attribute__((always_inline))
#define PGT_NOINLINE          __attribute__((noinline))
#define PGT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PGT_NELEMS(a)         (sizeof(a) / sizeof((a)[0]))

#endif
