/* SPDX-License-Identifier: ISC
 *
 * test_mailbox.c - mail from many threads: all of it arrives, of each sender in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/loop.h"
#include "net/mailbox.h"

#include <pthread.h>
#include <stdlib.h>

#define SENDERS 4
#define LETTERS 5000

struct letter {
	struct mail mail;
	unsigned sender, number;
};

struct receiver {
	struct loop *loop;
	struct mailbox box;
	pthread_t thread;
	unsigned next[SENDERS]; /* the number that is due */
	unsigned total;
	unsigned stop_at;
};

struct sender {
	pthread_t thread;
	struct mailbox *box;
	unsigned index;
};

static void deliver(struct mail *mail, void *arg)
{
	struct letter *letter = container_of(mail, struct letter, mail);
	struct receiver *r = arg;

	assert_true(pthread_equal(pthread_self(), r->thread));
	assert_int_equal(letter->number, r->next[letter->sender]++);
	free(letter);
	if (++r->total == r->stop_at)
		loop_stop(r->loop);
}

static void post(struct mailbox *box, unsigned sender, unsigned number)
{
	struct letter *letter = xnew(struct letter);

	letter->sender = sender;
	letter->number = number;
	mailbox_post(box, &letter->mail, deliver);
}

static void *send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < LETTERS; i++)
		post(s->box, s->index, i);
	return NULL;
}

static void receiver_init(struct receiver *r, unsigned stop_at)
{
	*r = (struct receiver){ .loop = loop_new(), .thread = pthread_self(), .stop_at = stop_at };
	mailbox_init(&r->box, r->loop, r);
}

static void test_all_arrive_in_order(void **state)
{
	struct receiver r;
	struct sender senders[SENDERS];

	receiver_init(&r, SENDERS * LETTERS);
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ .box = &r.box, .index = i };
		pthread_create(&senders[i].thread, NULL, send_all, &senders[i]);
	}
	loop_run(r.loop);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	assert_int_equal(r.total, SENDERS * LETTERS);
	mailbox_fini(&r.box);
	loop_free(r.loop);
}

static void test_fini_delivers_what_is_left(void **state)
{
	struct receiver r;

	receiver_init(&r, 0);
	post(&r.box, 0, 0);
	post(&r.box, 0, 1);
	mailbox_fini(&r.box);
	assert_int_equal(r.total, 2);
	loop_free(r.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_arrive_in_order),
		cmocka_unit_test(test_fini_delivers_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
