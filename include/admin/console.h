/* SPDX-License-Identifier: ISC
 *
 * console.h - the virtual database that operators talk to: SHOW, PAUSE, RELOAD …
 *
 * All on the control thread, where clients are mailed to; what workers know is gathered from them.
 * docs/admin.md lists commands and columns and is made from the same tables.
 */
#ifndef PGT_ADMIN_CONSOLE_H
#define PGT_ADMIN_CONSOLE_H

#include "worker/control.h"

/* Sets control->console and starts to take samples for averages.  The control's loop, workers and
 * configuration must be there. */
void console_start(struct control *control);
/* Ends its clients.  No gathering may be under way any more. */
void console_stop(struct control *control);

/* A client of the database `pgturnstile` or `pgbouncer` that has proved who it is; fits
 * client_host.enter with the control it belongs to.  False: *e (28000) tells that it is neither in
 * admin_users nor in stats_users. */
bool console_enter(struct control *control, struct client *c, struct err *e);

/* What SIGUSR1 and SIGUSR2 ask for: PAUSE and RESUME of everything. */
void console_pause(struct control *control);
void console_resume(struct control *control);

/* docs/admin.md, for --describe=admin. */
void console_describe_markdown(struct buf *out);

#endif
