/* SPDX-License-Identifier: ISC
 *
 * mailbox.h - work handed to another thread's loop.
 *
 * After mailbox_post() the sender must not touch the mail or what it carries: the receiver owns it,
 * delivers it on its own thread and frees it there.  Mail of one sender arrives in order.
 */
#ifndef PGT_NET_MAILBOX_H
#define PGT_NET_MAILBOX_H

#include "base/list.h"

#include <pthread.h>

struct loop;
struct mail;

/* Runs on the receiver's thread and frees the mail, which is embedded in what it carries. */
typedef void mail_fn(struct mail *mail, void *receiver);

struct mail {
	struct list link;
	mail_fn *deliver;
};

struct mailbox {
	pthread_mutex_t lock;
	struct list letters;
	struct loop *loop;
	void *receiver;
};

/* receiver is handed to each mail's deliver(). Takes the loop's wake hook. */
void mailbox_init(struct mailbox *box, struct loop *loop, void *receiver);
/* Delivers what is left, so that nothing carried leaks. */
void mailbox_fini(struct mailbox *box);
/* Any thread. */
void mailbox_post(struct mailbox *box, struct mail *mail, mail_fn *deliver);

#endif
