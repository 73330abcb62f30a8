/* SPDX-License-Identifier: ISC
 *
 * test_cancel_key.c - which thread and which process a cancel key names.
 */
#include "wire/cancel_key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct cancel_keys alone = { .peer_id = 0, .nworkers = 3 };

static void each_pid(const struct cancel_keys *keys, uint32_t step)
{
	for (uint64_t random = 0; random <= UINT32_MAX; random += step)
		for (unsigned w = 0; w < keys->nworkers; w++) {
			uint32_t pid = cancel_pid_make(keys, w, (uint32_t)random);

			assert_int_equal(cancel_pid_worker(keys, pid), w);
			assert_false(pid >> 31);
			if (keys->peer_id)
				assert_int_equal(cancel_pid_peer(pid), keys->peer_id);
		}
}

static void test_a_pid_names_its_worker_and_its_process(void **state)
{
	static const unsigned peers[] = { 1, 2, 255, 256, 258, 32768, PEER_ID_MAX };
	static const unsigned workers[] = { 1, 2, 7, 64 };

	each_pid(&alone, 65521);
	for (size_t p = 0; p < sizeof(peers) / sizeof(*peers); p++)
		for (size_t w = 0; w < sizeof(workers) / sizeof(*workers); w++)
			each_pid(&(struct cancel_keys){ peers[p], workers[w] }, 1000003);
}

/* PgBouncer's: the second and third byte, the lower one first. */
static void test_where_the_number_of_the_process_stands(void **state)
{
	const struct cancel_keys keys = { .peer_id = 0x0102, .nworkers = 1 };

	assert_int_equal(cancel_pid_make(&keys, 0, 0x7fab), 0x7f0201ab);
	assert_int_equal(cancel_pid_peer(0x7f0201ab), 0x0102);
}

/* Each number that there is is drawn by one random value of each round. */
static void test_all_numbers_are_used(void **state)
{
	const struct cancel_keys keys = { .peer_id = 9, .nworkers = 64 };

	assert_int_equal(cancel_pid_count(&keys), 512);
	for (unsigned i = 0; i < 512; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(cancel_pid_make(&keys, 5, i),
					     cancel_pid_make(&keys, 5, j));
	assert_int_equal(cancel_pid_count(&alone), (UINT32_C(1) << 31) / 3);
}

/* Whatever stands in a pid that somebody made up, a worker is named that there is. */
static void test_any_pid_names_a_worker(void **state)
{
	const struct cancel_keys keys = { .peer_id = 9, .nworkers = 5 };

	for (uint64_t pid = 0; pid <= UINT32_MAX; pid += 65521) {
		assert_in_range(cancel_pid_worker(&keys, (uint32_t)pid), 0, 4);
		assert_in_range(cancel_pid_worker(&alone, (uint32_t)pid), 0, 2);
	}
}

static void test_a_secret_is_forwarded_once(void **state)
{
	uint8_t secret[] = { 1, 2, 3, 0xa8 };

	assert_false(cancel_secret_is_fresh(secret, 4));
	cancel_secret_mark_fresh(secret, 4);
	assert_int_equal(secret[3], 0xab);
	assert_true(cancel_secret_is_fresh(secret, 4));
	cancel_secret_mark_forwarded(secret, 4);
	assert_int_equal(secret[3], 0xa8);
	assert_false(cancel_secret_is_fresh(secret, 4));
	/* As PgBouncer counts, that was forwarded, too. */
	secret[3] = 0xaa;
	assert_false(cancel_secret_is_fresh(secret, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pid_names_its_worker_and_its_process),
		cmocka_unit_test(test_where_the_number_of_the_process_stands),
		cmocka_unit_test(test_all_numbers_are_used),
		cmocka_unit_test(test_any_pid_names_a_worker),
		cmocka_unit_test(test_a_secret_is_forwarded_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
