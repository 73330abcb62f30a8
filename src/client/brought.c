/* SPDX-License-Identifier: ISC
 *
 * brought.c - sessions that another process has had, and go on here.
 *
 * Knows what they have proved there, which they do not prove again; not how they came.
 */
#include "client/login.h"

#include "base/mem.h"
#include "client/parts.h"

#include <stdlib.h>
#include <string.h>

const struct passport *client_passport(const struct client *c)
{
	return c->login && c->login->passport.bytes.data ? &c->login->passport : NULL;
}

/* Whether by the configuration of this process it is who it was by the other's. */
static bool is_still_itself(const struct identity *id, const struct passport *p, struct err *e)
{
	if (id->is_refused)
		*e = id->refusal;
	else if (strcmp(id->server_user, p->server_user) || strcmp(id->tenant, p->tenant) ||
		 strcmp(id->business_id, p->tenant_id))
		err_set(e, "57P01", "the configuration has changed, please connect again");
	else if (p->secret.n < CLIENT_KEY_SHORT || p->secret.n > CLIENT_KEY_LONG)
		err_set(e, "XX001", "the session's cancel key makes no sense");
	else
		return true;
	return false;
}

/* What it has proved was asked for by the other process. */
void brought_enter(struct client *c)
{
	struct err e;

	client_vouch(c);
	c->phase = CLIENT_WELCOME;
	if (!is_still_itself(&c->login->id, &c->login->passport, &e) || !c->host->enter(c, &e))
		login_refuse(c, &e);
}

void client_login_bring(struct client *c, struct passport *passport)
{
	struct client_login *login = c->login;

	login->passport = *passport;
	*passport = (struct passport){ 0 };
	login->has_identity = true;
	identity_bring(&login->id, &login->passport);
	c->user = xstrdup(login->id.user);
	login_go_home(c);
}

void client_go_on(struct client *c)
{
	const struct passport *p = client_passport(c);

	c->connected_at = (usec_t)p->connected_at;
	c->pid = (uint32_t)p->pid;
	c->secret_len = (uint8_t)p->secret.n;
	memcpy(client_secret(c), p->secret.p, p->secret.n);
	c->host->keep_key(c);
	login_begin_session(c);
}

/* What it has proved to another process it has to prove to servers here. */
void brought_lend(const struct passport *p, struct credential *to)
{
	if (*p->password)
		credential_set_password(to, p->password);
	if (p->client_key.n == sizeof(to->client_key) &&
	    p->server_key.n == sizeof(to->server_key)) {
		memcpy(to->client_key, p->client_key.p, sizeof(to->client_key));
		memcpy(to->server_key, p->server_key.p, sizeof(to->server_key));
		to->has_scram_keys = true;
	}
}
