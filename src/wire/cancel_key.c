/* SPDX-License-Identifier: ISC
 *
 * cancel_key.c - what a cancel key of ours tells: which thread made it, and which of several
 * processes.
 *
 * Knows bits.  Draws nothing at random, and does not know who holds which key.
 */
#include "wire/cancel_key.h"

/* Bits of a pid that are not the peer's; the uppermost is 0. */
#define BITS_ALONE      31
#define BITS_WITH_PEERS 15

#define FRESH           3u

static uint32_t numbers(const struct cancel_keys *keys)
{
	return UINT32_C(1) << (keys->peer_id ? BITS_WITH_PEERS : BITS_ALONE);
}

uint32_t cancel_pid_count(const struct cancel_keys *keys)
{
	return numbers(keys) / keys->nworkers;
}

uint32_t cancel_pid_make(const struct cancel_keys *keys, unsigned worker, uint32_t random)
{
	uint32_t number = random % cancel_pid_count(keys) * keys->nworkers + worker;

	if (!keys->peer_id)
		return number;
	return number >> 8 << 24 | (keys->peer_id & 0xff) << 16 | keys->peer_id >> 8 << 8 |
	       (number & 0xff);
}

unsigned cancel_pid_worker(const struct cancel_keys *keys, uint32_t pid)
{
	uint32_t number = keys->peer_id ? pid >> 24 << 8 | (pid & 0xff) : pid;

	return number % keys->nworkers;
}

unsigned cancel_pid_peer(uint32_t pid)
{
	return (pid >> 16 & 0xff) | (pid >> 8 & 0xff) << 8;
}

void cancel_secret_mark_fresh(uint8_t *secret, size_t n)
{
	secret[n - 1] |= FRESH;
}

void cancel_secret_mark_forwarded(uint8_t *secret, size_t n)
{
	secret[n - 1] &= (uint8_t)~FRESH;
}

bool cancel_secret_is_fresh(const uint8_t *secret, size_t n)
{
	return (secret[n - 1] & FRESH) == FRESH;
}
