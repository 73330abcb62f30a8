/* SPDX-License-Identifier: ISC
 *
 * mem.h - allocation of small objects of a size that we chose.
 *
 * These abort when memory is gone: a process that cannot get a hundred bytes cannot say so
 * either.  Sizes chosen by a peer are bounded by the caller first.  Any thread.
 */
#ifndef PGT_BASE_MEM_H
#define PGT_BASE_MEM_H

#include <stddef.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
/* Zeroed. */
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* NUL-terminated copy of n bytes. */
char *xmemdup0(const char *p, size_t n) __attribute__((malloc, returns_nonnull));

/* One zeroed object of TYPE. */
#define xnew(type) ((type *)xcalloc(1, sizeof(type)))

/* Overwrites n bytes in a way the compiler may not leave out, for secrets. */
void mem_wipe(void *p, size_t n);

/* Equal in content; takes the same time whatever the bytes are. */
_Bool mem_is_equal_ct(const void *a, const void *b, size_t n);

#endif
