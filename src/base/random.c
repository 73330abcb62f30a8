/* SPDX-License-Identifier: ISC
 *
 * random.c - unpredictable bytes, from getrandom(2), some at a time.
 *
 * A login needs three times a few bytes, and each call of the kernel costs as much as a hundred of
 * them. No byte is given out twice: it is wiped when it is, and in the child of a fork() the rest
 * is thrown away.
 */
#include "base/random.h"

#include "base/assert.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

/* As many as the kernel gives without a break. */
#define STOCK 256
/* Above this somebody wants a key, or many: straight from the kernel. */
#define FROM_STOCK_MAX 32

/* Of each thread; the last `left` of them are nobody's yet. */
static _Thread_local struct {
	uint8_t bytes[STOCK];
	size_t left;
} stock;

static void draw(void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t got = getrandom(at, n, 0);

		PGT_ASSERT(got > 0 || errno == EINTR);
		if (got > 0) {
			at += got;
			n -= (size_t)got;
		}
	}
}

/* The one thread that a child has. */
static void throw_away(void)
{
	mem_wipe(&stock, sizeof(stock));
}

static void watch_forks(void)
{
	PGT_ASSERT(pthread_atfork(NULL, NULL, throw_away) == 0);
}

void random_bytes(void *p, size_t n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint8_t *at;

	if (n > FROM_STOCK_MAX) {
		draw(p, n);
		return;
	}
	if (stock.left < n) {
		pthread_once(&once, watch_forks);
		draw(stock.bytes, STOCK);
		stock.left = STOCK;
	}
	at = stock.bytes + STOCK - stock.left;
	memcpy(p, at, n);
	mem_wipe(at, n);
	stock.left -= n;
}
