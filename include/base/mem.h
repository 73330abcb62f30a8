/* SPDX-License-Identifier: ISC
 *
 * mem.h - allocation that always succeeds, as long as there is a reserve.
 *
 * Whoever asks gets its block, whatever its size: when memory is gone, a reserve that nobody uses
 * is given back to the system, and the thread is told, so that the peer for which the block was
 * asked leaves at the next occasion (docs/adr/0052-memory-that-is-gone.md).  Only where that does
 * not help either the process ends.  Sizes chosen by a peer are bounded by the caller first.  Any
 * thread.
 */
#ifndef PGT_BASE_MEM_H
#define PGT_BASE_MEM_H

#include <stdbool.h>
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

/* Sets the reserve aside: address space, of which no page is touched. */
void mem_reserve_begin(void);
/* The same, where it was spent; now and then.  True: it was, and is there again. */
bool mem_reserve_renew(void);
/* Has shortage(arg, n) called in this thread when it has asked for n bytes that are there only
 * because of the reserve.  It may not allocate. */
typedef void mem_shortage_fn(void *arg, size_t n);
void mem_on_shortage(mem_shortage_fn *shortage, void *arg);

/* Overwrites n bytes in a way the compiler may not leave out, for secrets. */
void mem_wipe(void *p, size_t n);

/* Equal in content; takes the same time whatever the bytes are. */
_Bool mem_is_equal_ct(const void *a, const void *b, size_t n);

#endif
