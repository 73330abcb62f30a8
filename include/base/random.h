/* SPDX-License-Identifier: ISC
 *
 * random.h - unpredictable bytes from the kernel, which each thread keeps some of.  Any thread.
 */
#ifndef PGT_BASE_RANDOM_H
#define PGT_BASE_RANDOM_H

#include <stddef.h>

/* Aborts when the kernel has none: no key may be made of anything else. */
void random_bytes(void *p, size_t n);

#endif
