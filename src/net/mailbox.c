/* SPDX-License-Identifier: ISC
 *
 * mailbox.c - work handed to another thread's loop.
 *
 * The lock is held for linking and splicing only; delivery runs outside it.
 */
#include "net/mailbox.h"

#include "base/failpoint.h"
#include "net/loop.h"

static void deliver_all(void *arg)
{
	struct mailbox *box = arg;
	struct list letters;

	list_init(&letters);
	FAILPOINT_DELAY(mail_late);
	pthread_mutex_lock(&box->lock);
	list_splice_back(&letters, &box->letters);
	pthread_mutex_unlock(&box->lock);
	while (!list_is_empty(&letters)) {
		struct mail *mail = container_of(list_first(&letters), struct mail, link);

		list_del(&mail->link);
		mail->deliver(mail, box->receiver);
	}
}

void mailbox_init(struct mailbox *box, struct loop *loop, void *receiver)
{
	pthread_mutex_init(&box->lock, NULL);
	list_init(&box->letters);
	box->loop = loop;
	box->receiver = receiver;
	loop_on_wake(loop, deliver_all, box);
}

void mailbox_fini(struct mailbox *box)
{
	deliver_all(box);
	pthread_mutex_destroy(&box->lock);
}

void mailbox_post(struct mailbox *box, struct mail *mail, mail_fn *deliver)
{
	bool was_empty;

	mail->deliver = deliver;
	pthread_mutex_lock(&box->lock);
	was_empty = list_is_empty(&box->letters);
	list_push_back(&box->letters, &mail->link);
	pthread_mutex_unlock(&box->lock);
	if (was_empty)
		loop_wake(box->loop);
}
