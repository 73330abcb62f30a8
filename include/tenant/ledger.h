/* SPDX-License-Identifier: ISC
 *
 * ledger.h - what tenants have used of their quotas, as a text that outlives the process.
 *
 * Pure but for the registry of tenants: who reads and writes files is the caller.
 */
#ifndef PGT_TENANT_LEDGER_H
#define PGT_TENANT_LEDGER_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/slice.h"

/* Appends what counts at this time.  Any thread. */
void ledger_put(struct buf *out, usec_t wall);

/* Takes all of it over, or nothing: false, and *e says what is wrong.  Before tenants are served.
 */
bool ledger_take(struct slice text, usec_t wall, struct err *e);

#endif
