/* SPDX-License-Identifier: ISC
 *
 * random.c - unpredictable bytes, from getrandom(2).
 */
#include "base/random.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/random.h>

void random_bytes(void *p, size_t n)
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
