/* SPDX-License-Identifier: ISC
 *
 * mem.c - allocation and its reserve, wiping, constant-time comparison, failed assertions.
 *
 * Knows of peers only that a thread may want to hear of a shortage.
 */
#include "base/mem.h"

#include "base/assert.h"
#include "base/failpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The largest message that is seen as a whole is 1 MiB; its copies and rewritten forms are a few
 * times as large, and a buffer that grows is there twice. */
#define RESERVE_SIZE ((size_t)8 << 20)
/* What we choose the size of is smaller, most of what a peer does is not: only the latter fails in
 * tests. */
#define SMALL_MAX 16384

static _Atomic(void *) reserve;
static atomic_bool is_wanted;

static _Thread_local struct {
	mem_shortage_fn *fn;
	void *arg;
} on_shortage;

void assert_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "pgturnstile: %s:%d: broken promise: %s\n", file, line, what);
	abort();
}

/* Of our own mapping, so that freeing it changes nothing of how the allocator works. */
static bool set_aside(void)
{
	void *none = NULL;
	void *p =
	    mmap(NULL, RESERVE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	if (!atomic_compare_exchange_strong(&reserve, &none, p))
		munmap(p, RESERVE_SIZE);
	return true;
}

void mem_reserve_begin(void)
{
	atomic_store(&is_wanted, true);
	(void)!set_aside();
}

bool mem_reserve_renew(void)
{
	return atomic_load(&is_wanted) && !atomic_load(&reserve) && set_aside();
}

void mem_on_shortage(mem_shortage_fn *shortage, void *arg)
{
	on_shortage.fn = shortage;
	on_shortage.arg = arg;
}

/* A test lets the first of two attempts fail. */
static inline bool is_let_fail(size_t n PGT_UNUSED)
{
	return n > SMALL_MAX && FAILPOINT_FAILS(peer_malloc, ENOMEM);
}

static PGT_NOINLINE void spend_reserve(size_t n)
{
	void *p = atomic_exchange(&reserve, NULL);

	if (p)
		munmap(p, RESERVE_SIZE);
	if (on_shortage.fn)
		on_shortage.fn(on_shortage.arg, n);
}

static void *or_abort(void *p)
{
	if (!p) {
		fputs("pgturnstile: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	void *p = is_let_fail(n) ? NULL : malloc(n ? n : 1);

	if (p)
		return p;
	spend_reserve(n);
	return or_abort(malloc(n ? n : 1));
}

void *xcalloc(size_t count, size_t size)
{
	void *p = is_let_fail(count * size) ? NULL : calloc(count ? count : 1, size ? size : 1);

	if (p)
		return p;
	spend_reserve(count * size);
	return or_abort(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *old, size_t n)
{
	void *p = is_let_fail(n) ? NULL : realloc(old, n ? n : 1);

	if (p)
		return p;
	spend_reserve(n);
	return or_abort(realloc(old, n ? n : 1));
}

char *xstrdup(const char *s)
{
	return xmemdup0(s, strlen(s));
}

char *xmemdup0(const char *p, size_t n)
{
	char *s = xmalloc(n + 1);

	if (n)
		memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

void mem_wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}

_Bool mem_is_equal_ct(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}
