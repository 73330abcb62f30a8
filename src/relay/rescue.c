/* SPDX-License-Identifier: ISC
 *
 * rescue.c - what fails on a replica, and would not have on the primary, is asked there instead.
 * So is what fails since an unnamed statement was one that the server had (repeat.h).
 *
 * Knows by which errors that is told, and which of a batch's statements failed.  How a request is
 * handled it does not know: it comes again, that is all.
 */
#include "relay/rescue.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/batch.h"
#include "relay/promote.h"
#include "relay/repeat.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "wire/frame.h"
#include "wire/read.h"

#define READY_LEN 6

/* Why a request is asked again. */
enum cause {
	CAUSE_NONE,
	CAUSE_WRITE,    /* it writes */
	CAUSE_RECOVERY, /* it cannot be run as long as a server recovers … */
	CAUSE_SESSION,  /* … nor can anything of its session */
	CAUSE_CONFLICT, /* what it reads was taken away by recovery */
	CAUSE_LOST,     /* the server has gone away, or is about to */
	CAUSE_KNOWN,    /* an unnamed statement was one that the server had: repeat.c */
};

/* ---- the messages of a request ------------------------------------------------------------------
 */

static bool next_frame(struct slice *in, struct frame *f)
{
	if (frame_peek(in->p, in->n, f) != FRAME_OK || !frame_is_whole(f))
		return false;
	*in = slice_of(in->p + f->len, in->n - f->len);
	return true;
}

static inline bool ends_request(uint8_t type)
{
	return type == MSG_SYNC || type == MSG_QUERY || type == MSG_FUNCTION_CALL;
}

/* How much of the input are statements as drivers send them, that are as long as the first in each
 * of their messages: Parse, Bind, Describe or not, Execute. */
static size_t row_len(const char *p, size_t n)
{
	size_t parse = frame_whole(p, n), bind, run, at, all;

	if (!parse || *p != MSG_PARSE)
		return 0;
	bind = frame_whole(p + parse, n - parse);
	if (!bind || p[parse] != MSG_BIND)
		return 0;
	run = batch_run_len(p + parse + bind, n - parse - bind);
	if (!run)
		return 0;
	all = at = parse + bind + run;
	while (n - at >= all && !memcmp(p + at, p, FRAME_HEADER_LEN) &&
	       !memcmp(p + at + parse, p + parse, FRAME_HEADER_LEN) &&
	       batch_run_len(p + at + parse + bind, n - at - parse - bind) == run)
		at += all;
	return at;
}

/* Of the request at the beginning of the input; 0 when its end is not here, or answers are waited
 * for before that. */
static size_t request_len(struct slice in)
{
	size_t all = batch_lone_len(in), n;

	if (all)
		return all;
	while ((n = frame_whole(in.p + all, in.n - all)) && in.p[all] != MSG_FLUSH) {
		all += n;
		if (ends_request((uint8_t)in.p[all - n]))
			return all;
		/* Most of a pipeline, whose lengths need not be read. */
		all += batch_run_len(in.p + all, in.n - all);
		all += row_len(in.p + all, in.n - all);
	}
	return 0;
}

static bool is_of_batch(const struct frame *f)
{
	return f->type == MSG_PARSE || f->type == MSG_BIND || f->type == MSG_DESCRIBE ||
	       f->type == MSG_EXECUTE || f->type == MSG_CLOSE;
}

/* Whether its end is still to come, and nothing is waited for before that. */
static bool is_open(struct slice in)
{
	struct frame f;

	while (next_frame(&in, &f))
		if (!is_of_batch(&f))
			return false;
	return frame_peek(in.p, in.n, &f) == FRAME_PARTIAL;
}

static uint32_t count_frames(struct slice in, uint8_t type)
{
	struct frame f;
	uint32_t n = 0;

	while (next_frame(&in, &f))
		n += f.type == type;
	return n;
}

/* Up to the n-th message of a type (from 0), and with it: *f. */
static bool take_up_to(struct slice *in, uint8_t type, uint32_t n, struct frame *f)
{
	struct slice rest = *in;

	while (next_frame(&rest, f)) {
		if (f->type != type || n--)
			continue;
		*in = slice_of(in->p, in->n - rest.n);
		return true;
	}
	return false;
}

static struct slice first_name(const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));

	return read_cstr(&r);
}

static struct slice second_name(const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));

	read_cstr(&r);
	return read_cstr(&r);
}

/* The last message of a type whose body begins with this name. */
static bool find_last(struct slice in, uint8_t type, struct slice name, struct frame *last)
{
	struct frame f;
	bool found = false;

	while (next_frame(&in, &f)) {
		if (f.type != type || !slice_is_equal(first_name(&f), name))
			continue;
		*last = f;
		found = true;
	}
	return found;
}

/* ---- keeping it ---------------------------------------------------------------------------------
 */

void rescue_unref(struct server *s)
{
	statement_unref(s->asked_begin);
	statement_unref(s->asked_known);
	s->asked_begin = s->asked_known = NULL;
}

/* Nothing of it is run, so there is nothing that the client could have seen. */
static bool only_prepares(struct slice asked)
{
	struct frame f;

	while (next_frame(&asked, &f))
		if (f.type != MSG_PARSE && f.type != MSG_DESCRIBE && f.type != MSG_CLOSE &&
		    f.type != MSG_SYNC)
			return false;
	return true;
}

/* Whether one of its Parses takes the transaction's snapshot. */
static bool takes_snapshot(const struct client *c, struct slice asked)
{
	const struct statement *st;
	struct frame f;

	while (next_frame(&asked, &f)) {
		st = f.type == MSG_PARSE ? statement_find(c, first_name(&f)) : NULL;
		if (st && statement_takes_snapshot(st->kind))
			return true;
	}
	return false;
}

/* An error that comes now is its client's.  What it was about is to be known then. */
static void keep_to_learn(struct server *s)
{
	s->may_rescue = s->asked_parsed = false;
	s->asked_in = s->batch;
	rescue_unref(s);
}

void rescue_answered(struct server *s)
{
	struct client *c = s->client;
	struct slice asked = buf_peek(&s->asked);

	if (!s->asked_begin && !s->asks_primary && s->replies.n) {
		keep_to_learn(s);
		return;
	}
	if (!s->asked_begin || s->asks_primary || c->rare->begun || c->whose ||
	    !only_prepares(asked)) {
		if (s->asked_begin && !s->asks_primary)
			promote_answered(c, s->asked_begin);
		rescue_forget(s);
		return;
	}
	statement_unref(s->asked_known);
	s->asked_known = NULL;
	s->asked_parsed |= takes_snapshot(c, asked);
	s->may_rescue = false;
	buf_clear(&s->asked);
	c->is_routed = true; /* so that the next one is kept with it */
}

/* At the start of a transaction of which no server but this one knows, or in one that may go on on
 * the primary. */
static bool is_rescuable(const struct client *c)
{
	const struct server *s = c->server;

	return (!s->asks_primary || c->repeats) &&
	       (s->tx == 'I' || (s->tx == 'T' && (s->asked_begin || c->rare->begun))) &&
	       !c->was_rescued && !c->pins && !c->rare->listening;
}

/* Whoever sends several of them at once is not to wait for each. */
static size_t len_to_keep(const struct client *c, struct slice in, struct slice request)
{
	size_t n = !is_rescuable(c) ? 0 : request.n ? request.n : request_len(in);

	return c->server->asks_primary && n < in.n ? 0 : n;
}

bool rescue_is_short(const struct client *c)
{
	size_t len = request_len(conn_input(&c->conn));

	return len && len <= c->group->set.rescue_max_size;
}

bool rescue_lacks_end(const struct client *c)
{
	const struct slice in = conn_input(&c->conn);
	size_t max = c->group->set.rescue_max_size;
	bool may_keep =
	    c->begin ? c->begin_reads && gate_has_choice(c) : c->server && c->server->asked_begin;

	return may_keep && in.n < max && in.n < WAITING_INPUT_MAX && is_open(in);
}

/* While none is known to be the primary, one that retires is no replica: what it is asked may have
 * run. */
static bool has_replicas_server(const struct client *c)
{
	const struct server *s = c->server;

	return gate_is_replicas(s) && (c->is_routed || s->node->role == NODE_REPLICA);
}

void rescue_keep_any(struct client *c, struct slice request)
{
	struct server *s = c->server;
	struct slice in = conn_input(&c->conn);
	size_t n;

	s->asks_primary = !has_replicas_server(c);
	n = len_to_keep(c, in, request);
	c->is_routed = false;
	if (!n || n > c->group->set.rescue_max_size) {
		rescue_forget(s);
		return;
	}
	buf_clear(&s->asked);
	memcpy(buf_reserve(&s->asked, n), in.p, n);
	buf_produced(&s->asked, n);
	s->may_rescue = true;
}

/* ---- the beginning of its answer ---------------------------------------------------------------
 */

/* Whether a server goes on behind it without sending what it has.  Behind a ReadyForQuery stands
 * another request, of which its client may ask for a part. */
static bool is_kept_back(uint8_t type)
{
	switch (type) {
	case MSG_READY:
	case MSG_ERROR:
	case MSG_NOTICE:
	case MSG_NOTIFICATION:
	case MSG_COPY_IN:
	case MSG_COPY_BOTH:
		return false;
	default:
		return true;
	}
}

static bool ends_in_ready(struct slice in)
{
	return in.n >= READY_LEN && in.p[in.n - READY_LEN] == MSG_READY &&
	       frame_whole(in.p + in.n - READY_LEN, READY_LEN) == READY_LEN;
}

/* Whether the server has been sent all of what it answers, so that it comes to an end by itself. */
static bool was_sent_whole(const struct replies *q)
{
	return q->n && reply_ends_cycle(replies_at(q, q->n - 1));
}

bool rescue_is_piece(const struct server *s)
{
	struct slice in = conn_input(&s->conn);
	struct frame f;

	if (in.n >= RESCUE_SERVER_KEEPS || ends_in_ready(in) || s->stream_left ||
	    s->client->cancel_asked || !was_sent_whole(&s->replies))
		return false;
	while (next_frame(&in, &f))
		if (!is_kept_back(f.type))
			return false;
	return frame_peek(in.p, in.n, &f) != FRAME_INVALID;
}

/* ---- why it failed ------------------------------------------------------------------------------
 */

static bool has_word(struct slice text, struct slice word)
{
	return text.n && memmem(text.p, text.n, word.p, word.n);
}

/* Where the server's words are in another language, by the place in its source. */
static bool is_about_recovery(const struct report *report)
{
	static const char *const routines[] = {
		"get_relation_info",   /* an unlogged or temporary table */
		"LockAcquireExtended", /* LOCK TABLE */
	};

	if (has_word(report->message, SLICE("recovery")) ||
	    has_word(report->message, SLICE("hot standby")))
		return true;
	for (size_t i = 0; i < PGT_NELEMS(routines); i++)
		if (slice_is_equal(report->routine, slice_str(routines[i])))
			return true;
	return false;
}

static bool is_state(const struct report *report, const char *state)
{
	return slice_is_equal(report->sqlstate, slice_str(state));
}

static bool is_fatal(const struct report *report)
{
	return slice_is_equal(report->severity, SLICE("FATAL")) ||
	       slice_is_equal(report->severity, SLICE("PANIC"));
}

static enum cause cause_of(const struct report *report)
{
	if (is_state(report, "40001") || is_state(report, "40P01"))
		return CAUSE_CONFLICT;
	if (report_is_farewell(report) || is_fatal(report))
		return CAUSE_LOST;
	if (is_state(report, "25006"))
		return CAUSE_WRITE;
	/* Whatever it is, in a session whose transactions are SERIALIZABLE by default. */
	if (slice_is_equal(report->routine, SLICE("GetSerializableTransactionSnapshot")))
		return CAUSE_SESSION;
	if ((is_state(report, "0A000") || is_state(report, "55000") || is_state(report, "XX000")) &&
	    is_about_recovery(report))
		return CAUSE_RECOVERY;
	return CAUSE_NONE;
}

/* The client has said that it reads only, so that is the answer that it gets anywhere; but for what
 * a transaction may do that only reads, and recovery may not. */
static bool asked_to_read(const struct server *s, const struct report *report)
{
	if (slice_is_equal(report->routine, SLICE("PreventCommandDuringRecovery")))
		return false;
	/* A transaction that is there is a READ ONLY one, or may go on to write on the primary. */
	return s->tx != 'I' ? !s->client->rare->begun || s->client->begin_reads
			    : session_says_read_only(s->client);
}

/* ---- what of it failed ----------------------------------------------------------------------
 */

/* Of what an unnamed Parse was answered with, which may have been another one.  Locks, cancels and
 * the like have nothing to do with that, and would have hit the Parse. */
static bool is_about_known(const struct server *s, const struct report *report)
{
	static const char *const others[] = { "40", "55", "57", "58" };
	const struct reply *head = replies_head(&s->replies);

	if (!head || head->way != REPLY_WAIT || !s->asked_known || is_fatal(report))
		return false;
	for (size_t i = 0; i < PGT_NELEMS(others); i++)
		if (slice_starts_with(report->sqlstate, slice_str(others[i])))
			return false;
	return true;
}

/* How many answers to messages of a kind the client is still owed of its request. */
static uint32_t count_owed(const struct replies *q, uint8_t kind)
{
	bool ends = false;
	uint32_t n = 0;

	for (uint32_t i = 0; i < q->n && !ends; i++) {
		const struct reply *r = replies_at(q, i);

		n += r->kind == kind && r->way != REPLY_SWALLOW;
		ends = reply_ends_cycle(r) && r->way != REPLY_SWALLOW;
	}
	return n;
}

/* Of a batch: the Bind of what failed, or of what failed when it was run; in *in what is up to it.
 */
static bool find_failed_bind(const struct server *s, struct slice *in, struct frame *bind)
{
	const struct reply *head = replies_head(&s->replies);
	uint8_t type = head->kind == REPLY_EXECUTE ? MSG_EXECUTE : MSG_BIND;
	uint32_t n = count_frames(*in, type), owed = count_owed(&s->replies, head->kind);

	if ((head->kind != REPLY_EXECUTE && head->kind != REPLY_BIND) || owed > n ||
	    !take_up_to(in, type, n - owed, bind))
		return false;
	return type == MSG_BIND || find_last(*in, MSG_BIND, first_name(bind), bind);
}

static void learn_from_batch(const struct server *s, struct slice in)
{
	const struct statement *st;
	struct frame bind, parse;

	if (!find_failed_bind(s, &in, &bind))
		return;
	if (find_last(in, MSG_PARSE, second_name(&bind), &parse)) {
		gate_remember_write(s->client, second_name(&parse));
		return;
	}
	st = statement_find(s->client, second_name(&bind));
	if (st)
		gate_remember_write(s->client, statement_text(st));
}

static void learn_statement(const struct server *s, struct slice asked)
{
	const struct reply *head = replies_head(&s->replies);
	struct frame f;

	if (!head)
		return;
	if (head->kind != REPLY_QUERY)
		learn_from_batch(s, asked);
	else if (next_frame(&asked, &f) && f.type == MSG_QUERY)
		gate_remember_write(s->client, first_name(&f));
}

/* Its shape, or all that its session asks, is the primary's from now on. */
static void learn(const struct server *s, struct slice asked, enum cause cause)
{
	if (cause == CAUSE_SESSION)
		gate_learn_isolation(s->client);
	else if (cause == CAUSE_WRITE || cause == CAUSE_RECOVERY)
		learn_statement(s, asked);
}

/* ---- asking it again ----------------------------------------------------------------------------
 */

/* What of it has been handled.  The rest waits in the client's input still, when its server could
 * not take more. */
static struct slice part_handled(const struct client *c, struct slice asked)
{
	size_t left = c->in_batch ? request_len(conn_input(&c->conn)) : 0;

	return slice_of(asked.p, left < asked.n ? asked.n - left : 0);
}

/* How many of its statements it has parsed so far. */
static uint32_t count_parsed(const struct server *s, struct slice asked)
{
	uint32_t n = count_frames(asked, MSG_PARSE), owed = count_owed(&s->replies, REPLY_PARSE);

	return n > owed ? n - owed : 0;
}

/* The names that it has given to the first n are free again. */
static void forget_names(struct client *c, struct slice asked, uint32_t n)
{
	struct frame f;

	while (n && next_frame(&asked, &f)) {
		if (f.type != MSG_PARSE)
			continue;
		n--;
		if (first_name(&f).n)
			statement_forget(c, first_name(&f));
	}
}

static void count(struct counters *counters, enum cause cause)
{
	counters->rescued_write_count += cause == CAUSE_WRITE;
	counters->rescued_recovery_count += cause == CAUSE_RECOVERY || cause == CAUSE_SESSION;
	counters->rescued_conflict_count += cause == CAUSE_CONFLICT;
	counters->rescued_lost_count += cause == CAUSE_LOST;
	counters->auto_again_count += cause == CAUSE_KNOWN;
}

static void ask_again(struct server *s, enum cause cause)
{
	struct client *c = s->client;
	struct statement *begun = c->rare->begun, *begin = s->asked_begin;
	bool owes_snapshot = s->asked_parsed;
	struct buf asked = s->asked;
	struct slice handled = part_handled(c, buf_peek(&asked));
	uint32_t parsed = count_parsed(s, handled);

	log_debug("C-%llu: S-%llu: asks the primary again", (unsigned long long)c->id,
		  (unsigned long long)s->id);
	count(&c->group->counters, cause);
	if (cause == CAUSE_KNOWN)
		repeat_has_failed(s->asked_known);
	learn(s, handled, cause);
	s->asked = (struct buf){ 0 };
	s->asked_begin = NULL;
	if (begun)
		client_make_rare(c)->begun = NULL;
	conn_unsend(&c->conn, s->answer_at);
	attach_withdraw(c);
	/* What it has closed behind that is there again by now. */
	forget_names(c, handled, parsed);
	if (begun) {
		statement_unref(begin);
		promote_take_back(c, begun);
	} else if (begin) {
		local_take_back(c, begin);
		c->owes_snapshot |= owes_snapshot;
	}
	/* Its Executes are paid for. */
	c->prepaid = admit_is_gated(c) ? count_frames(handled, MSG_EXECUTE) : 0;
	c->in_batch = c->batch_goes_on = c->looked_at = false;
	if (c->whose)
		c->whose->has_end = false; /* it comes again too */
	c->was_rescued = true;
	c->chosen = gate_primary(c);
	c->group->counters.bytes_received -= handled.n;
	conn_unread(&c->conn, handled);
	buf_fini(&asked);
	relay_go_on(c);
}

/* The statement that a message is about; false: none. */
static bool statement_name_in(const struct frame *f, struct slice *name)
{
	struct reader r = reader_of(frame_body(f));

	switch (f->type) {
	case MSG_PARSE:
		break;
	case MSG_BIND:
		read_cstr(&r);
		break;
	case MSG_DESCRIBE:
	case MSG_CLOSE:
		if (read_u8(&r) != 'S')
			return false;
		break;
	default:
		return false;
	}
	*name = read_cstr(&r);
	return true;
}

/* Whether what stands before uses a statement of this name, and has not made it itself. */
static bool uses_old(struct slice before, struct slice name)
{
	struct frame f;
	struct slice found;

	while (next_frame(&before, &f))
		if (statement_name_in(&f, &found) && slice_is_equal(found, name))
			return f.type == MSG_BIND || f.type == MSG_DESCRIBE;
	return false;
}

/* Whether it uses a statement of before, and then closes it or gives its name to another: the
 * second time the name would not stand for the same. */
static bool takes_away_what_it_used(struct slice asked)
{
	struct slice rest = asked, name;
	struct frame f;

	while (next_frame(&rest, &f))
		if ((f.type == MSG_PARSE || f.type == MSG_CLOSE) && statement_name_in(&f, &name) &&
		    uses_old(slice_of(asked.p, (size_t)(f.start - asked.p)), name))
			return true;
	return false;
}

/* Nothing else depends on what becomes of it here: no cancel that was meant for it, nothing of
 * which only a part has been sent. */
static bool can_ask_again(const struct server *s)
{
	const struct client *c = s->client;

	return s->may_rescue && c->phase == CLIENT_READY && !c->stream_left && !c->cancel_asked &&
	       !s->cancel && !c->resets && !c->conn.cur &&
	       !takes_away_what_it_used(buf_peek(&s->asked));
}

static bool owes_client(const struct server *s)
{
	for (uint32_t i = 0; i < s->replies.n; i++)
		if (replies_at(&s->replies, i)->way != REPLY_SWALLOW)
			return true;
	return false;
}

/* The client has begun its transaction, maybe prepared for it, and waits for nothing: it begins
 * anew, wherever it goes. */
static bool take_back_begin(struct server *s)
{
	struct client *c = s->client;
	bool owes_snapshot = s->asked_parsed;
	struct statement *begin;

	if (!s->asked_begin || s->may_rescue || s->tx != 'T' || c->in_batch || c->stream_left ||
	    c->phase != CLIENT_READY || owes_client(s))
		return false;
	begin = statement_ref(s->asked_begin);
	count(&c->group->counters, CAUSE_LOST);
	attach_withdraw(c);
	local_take_back(c, begin);
	c->owes_snapshot |= owes_snapshot;
	relay_go_on(c);
	return true;
}

/* Whether what has failed is what is kept, answered in part or not. */
static bool is_of_asked(const struct server *s)
{
	return s->may_rescue || (buf_len(&s->asked) && s->asked_in == s->batch);
}

static bool rescue(struct server *s, enum cause cause)
{
	if (cause == CAUSE_LOST && (promote_on_lost(s) || take_back_begin(s)))
		return true;
	if (!can_ask_again(s)) {
		s->client->group->counters.unrescued_count += cause != CAUSE_KNOWN;
		if (is_of_asked(s))
			learn(s, buf_peek(&s->asked), cause);
		return false;
	}
	ask_again(s, cause);
	return true;
}

/* What goes ahead of a request has failed for reasons of its own, which are told elsewhere.  A
 * Parse of ours is the client's, and recovery stands in anybody's way. */
static bool is_told_elsewhere(const struct reply *head, enum cause cause)
{
	return head && head->way == REPLY_SWALLOW && head->note != NOTE_INJECTED &&
	       head->note != NOTE_INJECTED_UNNAMED && cause != CAUSE_CONFLICT &&
	       cause != CAUSE_LOST;
}

/* What ends a transaction that its client leaves idle, or goes on with for too long, is meant for
 * that client: there is no other server that would not do the same. */
static bool is_meant_for_client(const struct report *report)
{
	return is_state(report, "25P03") || is_state(report, "25P04");
}

bool rescue_on_error(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	struct report report;
	enum cause cause;

	if (!s->may_rescue && !gate_is_replicas(s))
		return false;
	report_parse(frame_body(f), &report);
	if (is_meant_for_client(&report)) {
		rescue_forget(s);
		if (s->client->rare->begun)
			promote_forget(s->client);
		return false;
	}
	cause = s->asks_primary ? CAUSE_NONE : cause_of(&report);
	if (cause == CAUSE_NONE && is_about_known(s, &report))
		cause = CAUSE_KNOWN;
	if (cause == CAUSE_NONE || (cause == CAUSE_WRITE && asked_to_read(s, &report)))
		return false;
	return !is_told_elsewhere(head, cause) && rescue(s, cause);
}

bool rescue_on_notice(struct server *s, const struct frame *f)
{
	struct report report;

	if (!(s->may_rescue || s->asked_begin) || s->asks_primary || !frame_is_whole(f))
		return false;
	report_parse(frame_body(f), &report);
	return report_is_farewell(&report) &&
	       (s->may_rescue ? rescue(s, CAUSE_LOST) : take_back_begin(s));
}

bool rescue_on_lost(struct server *s)
{
	if (s->asks_primary)
		return false;
	if (!s->may_rescue)
		return take_back_begin(s);
	/* What has not gone out yet is older than the request. */
	s->answer_at = conn_unsent(&s->client->conn);
	return rescue(s, CAUSE_LOST);
}
