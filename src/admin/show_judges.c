/* SPDX-License-Identifier: ISC
 *
 * show_judges.c - SHOW JUDGES: who says whether passwords are right that are not ours to judge.
 */
#include "admin/parts.h"
#include "worker/control.h"
#include "worker/jury.h"

#define JUDGE_COLUMNS(X)                                                                           \
	X(TEXT, FIRST, judge, "Who is asked, as in auth_type.")                                    \
	X(BIGINT, FIRST, waiting, "Logins for which a thread is still to be found.")               \
	X(BIGINT, FIRST, asked, "Questions under way, each on a thread of its own.")               \
	X(BIGINT, FIRST, longest_us, "How long one of these has taken, in microseconds.")          \
	X(BIGINT, FIRST, good, "Passwords that were right, so far.")                               \
	X(BIGINT, FIRST, wrong, "Passwords that were not, or accounts that are not valid.")        \
	X(BIGINT, FIRST, failed, "Questions without an answer.")                                   \
	X(BIGINT, FIRST, refused, "Logins that were refused because too many wait.")               \
	X(TEXT, FIRST, error, "Why the last question had no answer; NULL: it had one.")
LAYOUT_DEFINE(judge, JUDGE_COLUMNS);

static void add_judge(void *arg, const struct jury_facts *facts)
{
	table_add(arg, &(struct judge_row){ .judge = facts->way,
					    .waiting = (int64_t)facts->waiting,
					    .asked = (int64_t)facts->under_way,
					    .longest_us = facts->longest,
					    .good = (int64_t)facts->good,
					    .wrong = (int64_t)facts->wrong,
					    .failed = (int64_t)facts->failed,
					    .refused = (int64_t)facts->refused,
					    .error = facts->error });
}

static void judges_local(struct control *c, struct table *t)
{
	jury_each(c->jury, add_judge, t);
}

const struct show show_judges = { .shown = &judge_layout, .local = judges_local };
