/* SPDX-License-Identifier: ISC
 *
 * tenant_mail.h - a client's question for a tenant that is not known, to tenant_source.h and back.
 *
 * The worker's own thread.
 */
#ifndef PGT_WORKER_TENANT_MAIL_H
#define PGT_WORKER_TENANT_MAIL_H

#include "base/slice.h"

struct client;

/* Asks for the tenant that c has said, at its login or in its session; whose_tenant_told() or
 * client_tenant_told() follows, unless it is gone by then. */
void tenant_mail_ask(struct client *c, struct slice said);
/* It waits no more.  The answer may be on its way, and finds nobody then. */
void tenant_mail_withdraw(struct client *c);

#endif
