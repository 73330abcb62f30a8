/* SPDX-License-Identifier: ISC
 *
 * secret_mail.c - a login's question for a secret, to the control thread and back.
 *
 * Carries a copy of what was found, and wipes what nobody takes.
 */
#include "worker/secret_mail.h"

#include "base/mem.h"
#include "client/client.h"
#include "client/identity.h"
#include "net/mailbox.h"
#include "worker/control.h"
#include "worker/secret_source.h"

#include <stdlib.h>

struct secret_mail {
	struct mail mail;
	struct client_host *host;
	struct mailbox *back;
	uint64_t asker; /* id of a client that may be gone by then */
	uint64_t origin;
	char *database; /* "": the console */
	char *user;
	struct userlist_entry *entry;
	enum password_kind usual;
	struct err *why_not;
};

static struct secret_mail *write_mail(const struct client *c)
{
	const struct identity *id = client_identity(c);
	struct secret_mail *m = xnew(struct secret_mail);

	m->host = c->host;
	m->asker = c->id;
	m->origin = addr_origin(&c->conn.peer);
	m->database = xstrdup(id->is_console ? "" : id->database);
	m->user = xstrdup(id->auth_user);
	return m;
}

static void free_mail(struct secret_mail *m)
{
	if (m->entry)
		userlist_entry_fini(m->entry);
	free(m->entry);
	free(m->why_not);
	free(m->database);
	free(m->user);
	free(m);
}

static void deliver_told(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct secret_mail *m = container_of(mail, struct secret_mail, mail);
	struct client *c = client_find_newcomer(m->host, m->asker);

	if (c && c->phase == CLIENT_AUTH) {
		client_secret_told(c, m->entry, m->usual, m->why_not);
		m->entry = NULL;
		net_flush(m->host->net);
	}
	free_mail(m);
}

static void on_found(void *arg, const void *answer)
{
	struct secret_mail *m = arg;
	const struct secret_found *found = answer;
	const struct userlist_entry *entry = found->entry;

	if (entry) {
		m->entry = xnew(struct userlist_entry);
		if (!userlist_entry_init(m->entry, slice_str(entry->user),
					 slice_str(entry->password)))
			PGT_ASSERT(false);
	}
	m->usual = found->usual;
	m->why_not = err_copy(found->why_not);
	mailbox_post(m->back, &m->mail, deliver_told);
}

static void deliver_question(struct mail *mail, void *receiver)
{
	struct secret_mail *m = container_of(mail, struct secret_mail, mail);
	struct control *control = receiver;
	const struct lookup_asker who = {
		.id = m->asker, .origin = m->origin, .answer = on_found, .arg = m
	};

	if (control->is_over) {
		free_mail(m);
		return;
	}
	secret_source_find(control->secret_source, slice_str(m->database), slice_str(m->user),
			   &who);
	net_flush(&control->net);
}

/* The answer may be on its way, and finds nobody then. */
static void deliver_withdrawal(struct mail *mail, void *receiver)
{
	struct secret_mail *m = container_of(mail, struct secret_mail, mail);
	struct control *control = receiver;
	struct secret_mail *question =
	    control->is_over ? NULL : secret_source_withdraw(control->secret_source, m->asker);

	if (question)
		free_mail(question);
	free_mail(m);
}

static void deliver_doubt(struct mail *mail, void *receiver)
{
	struct secret_mail *m = container_of(mail, struct secret_mail, mail);
	struct control *control = receiver;

	if (!control->is_over)
		secret_source_doubt(control->secret_source, slice_str(m->database),
				    slice_str(m->user));
	free_mail(m);
}

void secret_mail_ask(struct control *control, struct client *c, struct mailbox *back)
{
	struct secret_mail *m = write_mail(c);

	m->back = back;
	mailbox_post(&control->mailbox, &m->mail, deliver_question);
}

void secret_mail_withdraw(struct control *control, const struct client *c)
{
	struct secret_mail *m = write_mail(c);

	mailbox_post(&control->mailbox, &m->mail, deliver_withdrawal);
}

void secret_mail_doubt(struct control *control, const struct client *c)
{
	struct secret_mail *m = write_mail(c);

	mailbox_post(&control->mailbox, &m->mail, deliver_doubt);
}
