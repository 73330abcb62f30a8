/* SPDX-License-Identifier: ISC
 *
 * cancel_key.h - what a cancel key of ours tells: which thread made it, and which of several
 * processes.
 *
 * A key is a pid of 32 bits and a secret.  Where there are peers, the second and third byte of the
 * pid are the process's number, and the last two bits of the secret are set until the request has
 * been forwarded: as PgBouncer has them, so that both may be peers.  Pure.
 */
#ifndef PGT_WIRE_CANCEL_KEY_H
#define PGT_WIRE_CANCEL_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_ID_MAX UINT16_MAX

/* Of what a process makes its keys. */
struct cancel_keys {
	unsigned peer_id; /* 0: it has no peers */
	unsigned nworkers;
};

/* A pid of a worker's, never negative; out of so many as cancel_pid_count() says. */
uint32_t cancel_pid_make(const struct cancel_keys *keys, unsigned worker, uint32_t random);
uint32_t cancel_pid_count(const struct cancel_keys *keys);
/* Whose it is, if it is ours; of any pid a worker that there is. */
unsigned cancel_pid_worker(const struct cancel_keys *keys, uint32_t pid);
/* The process that it names, if it is of one with peers. */
unsigned cancel_pid_peer(uint32_t pid);

/* The mark of a secret, which has a byte at the least. */
void cancel_secret_mark_fresh(uint8_t *secret, size_t n);
void cancel_secret_mark_forwarded(uint8_t *secret, size_t n);
bool cancel_secret_is_fresh(const uint8_t *secret, size_t n);

#endif
