/* SPDX-License-Identifier: ISC
 *
 * tenant_mail.c - a client's question for a tenant that is not known, to tenant_source.h and back.
 *
 * Knows which thread has what; not how a tenant is looked up, nor what follows.
 */
#include "worker/tenant_mail.h"

#include "base/mem.h"
#include "client/login.h"
#include "relay/whose.h"
#include "worker/cancels.h"
#include "worker/control.h"
#include "worker/tenant_source.h"

#include <stdlib.h>
#include <string.h>

/* Goes to the control thread and comes back with the answer. */
struct seek_mail {
	struct mail mail;
	struct worker *asked_at;
	uint64_t origin;
	uint64_t asker; /* id of a client that may be gone by then … */
	uint32_t pid;   /* … and that of its key, if it has a session */
	struct err *why_not;
	size_t len;
	char said[];
};

static struct client *find_asker(struct worker *w, const struct seek_mail *m)
{
	struct client *c = cancels_find_client(w, m->pid, m->asker);

	return c ? c : client_find_newcomer(&w->host, m->asker);
}

static void deliver_told(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct worker *w = receiver;
	struct client *c = w->is_over ? NULL : find_asker(w, m);

	if (c && c->whose)
		whose_tenant_told(c, slice_of(m->said, m->len), m->why_not);
	else if (c && c->phase == CLIENT_STARTUP)
		client_tenant_told(c, m->why_not);
	net_flush(&w->net);
	free(m->why_not);
	free(m);
}

static void on_told(void *arg, const void *why_not)
{
	struct seek_mail *m = arg;

	m->why_not = err_copy(why_not);
	worker_post(m->asked_at, &m->mail, deliver_told);
}

static void deliver_seek(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct control *control = receiver;
	const struct lookup_asker who = {
		.id = m->asker, .origin = m->origin, .answer = on_told, .arg = m
	};

	if (control->is_over) {
		free(m);
		return;
	}
	tenant_source_find(control->tenant_source, slice_of(m->said, m->len), &who);
	net_flush(&control->net);
}

void tenant_mail_ask(struct client *c, struct slice said)
{
	struct worker *w = worker_of(c->host);
	struct seek_mail *m = xcalloc(1, sizeof(*m) + said.n);

	m->asked_at = w;
	m->asker = c->id;
	m->origin = addr_origin(&c->conn.peer);
	m->pid = c->pid;
	m->len = said.n;
	memcpy(m->said, said.p, said.n);
	mailbox_post(&w->control->mailbox, &m->mail, deliver_seek);
}

/* The answer may be on its way, and finds nobody then. */
static void deliver_withdrawal(struct mail *mail, void *receiver)
{
	struct seek_mail *m = container_of(mail, struct seek_mail, mail);
	struct control *control = receiver;

	if (!control->is_over)
		free(tenant_source_withdraw(control->tenant_source, m->asker));
	free(m);
}

void tenant_mail_withdraw(struct client *c)
{
	struct seek_mail *m = xcalloc(1, sizeof(*m));

	m->asker = c->id;
	mailbox_post(&worker_of(c->host)->control->mailbox, &m->mail, deliver_withdrawal);
}
