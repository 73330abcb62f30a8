/* SPDX-License-Identifier: ISC
 *
 * test_random.c - no random byte is given out twice, neither by a thread nor behind a fork.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_LEN 16
#define NKEYS   200

typedef uint8_t key[KEY_LEN];

static void assert_all_differ(key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(keys[i], keys[k], KEY_LEN);
}

static void test_no_bytes_twice(void **state)
{
	key keys[NKEYS];

	for (size_t i = 0; i < NKEYS; i++)
		random_bytes(keys[i], KEY_LEN);
	assert_all_differ(keys, NKEYS);
}

/* Of lengths that do not fit into what is kept, and of more than that. */
static void test_every_byte_is_drawn(void **state)
{
	uint8_t bytes[600], seen[sizeof(bytes)];

	for (size_t n = 1; n <= sizeof(bytes); n += 1 + n / 8) {
		memset(seen, 0, n);
		for (int i = 0; i < 12; i++) {
			memset(bytes, 0, sizeof(bytes));
			random_bytes(bytes, n);
			for (size_t k = 0; k < sizeof(bytes); k++)
				if (k < n)
					seen[k] |= bytes[k];
				else
					assert_int_equal(bytes[k], 0);
		}
		for (size_t k = 0; k < n; k++)
			assert_int_not_equal(seen[k], 0);
	}
}

static void test_a_child_gets_others(void **state)
{
	key keys[2];
	int pipes[2];
	int status;
	pid_t pid;

	random_bytes(keys[0], KEY_LEN); /* some are kept now */
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		random_bytes(keys[1], KEY_LEN);
		_exit(write(pipes[1], keys[1], KEY_LEN) != KEY_LEN);
	}
	random_bytes(keys[0], KEY_LEN);
	assert_int_equal(read(pipes[0], keys[1], KEY_LEN), KEY_LEN);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(pipes[0]);
	close(pipes[1]);
	assert_all_differ(keys, 2);
}

static void *draw_one(void *arg)
{
	random_bytes(arg, KEY_LEN);
	return NULL;
}

static void test_threads_share_none(void **state)
{
	key keys[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, draw_one, keys[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_all_differ(keys, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_bytes_twice),
		cmocka_unit_test(test_every_byte_is_drawn),
		cmocka_unit_test(test_a_child_gets_others),
		cmocka_unit_test(test_threads_share_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
