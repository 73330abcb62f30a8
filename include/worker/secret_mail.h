/* SPDX-License-Identifier: ISC
 *
 * secret_mail.h - a login's question for a secret, to the control thread and back.
 *
 * By mail from the control thread's own logins too, so that no answer comes before the question has
 * been asked.
 */
#ifndef PGT_WORKER_SECRET_MAIL_H
#define PGT_WORKER_SECRET_MAIL_H

struct client;
struct control;
struct mailbox;

/* Asks for the secret of a client's user; client_secret_told() is called by mail to `back`, that of
 * the calling thread. */
void secret_mail_ask(struct control *control, struct client *c, struct mailbox *back);
/* It is gone: nobody waits for the answer. */
void secret_mail_withdraw(struct control *control, const struct client *c);
/* It could not prove itself with what was found. */
void secret_mail_doubt(struct control *control, const struct client *c);

#endif
