/* SPDX-License-Identifier: ISC
 *
 * batch.c - looking ahead over a batch of extended messages.
 *
 * A batch is one implicit transaction, so one write anywhere in it makes all of it the primary's.
 * Knows names that the batch itself gives before the client's table has them.
 */
#include "relay/batch.h"

#include "relay/parts.h"
#include "relay/promote.h"
#include "relay/statement.h"
#include "wire/frame.h"
#include "wire/read.h"

/* Named statements that one batch may prepare before it counts as a write. */
#define BATCH_NAMES_MAX 8

struct prepared_here {
	struct slice name;
	bool is_read, is_plain, is_primarys;
	bool ends; /* its transaction */
};

struct look {
	struct client *c;
	struct prepared_here names[BATCH_NAMES_MAX];
	unsigned n;
	bool all_reads;
	bool all_plain;
	bool any_primarys;
	bool has_ended;    /* the transaction, in which the batch began */
	struct slice text; /* of the first statement */
};

static void note_text(struct look *look, struct slice text)
{
	if (!look->text.p)
		look->text = text;
}

static bool ends_transaction(enum sql_kind kind)
{
	return kind == SQL_KIND_COMMIT || kind == SQL_KIND_ROLLBACK;
}

static struct prepared_here look_at_text(const struct look *look, struct slice name,
					 struct slice text, const struct sql_facts *facts)
{
	struct prepared_here known = { .name = name,
				       .is_read = gate_is_read(look->c, text, facts) };

	if (promote_concerns(look->c)) {
		known.is_plain = promote_is_plain(look->c, text, facts);
		known.is_primarys = promote_is_primarys(look->c, text, facts);
		known.ends = ends_transaction(facts->kind);
	}
	return known;
}

static struct prepared_here look_at_statement(const struct look *look, struct slice name,
					      struct statement *st)
{
	struct prepared_here known = { .name = name,
				       .is_read = gate_statement_is_read(look->c, st) };
	struct sql_facts facts;

	if (!promote_concerns(look->c))
		return known;
	if (st->meaning != gate_meaning(look->c))
		statement_look_again(look->c, st);
	statement_facts(st, &facts);
	known.is_plain = promote_is_plain(look->c, statement_text(st), &facts) && !st->has_names;
	known.is_primarys = promote_is_primarys(look->c, statement_text(st), &facts);
	known.ends = ends_transaction(st->kind);
	return known;
}

static struct prepared_here scan_text(const struct look *look, struct slice name, struct slice text)
{
	struct sql_env env = gate_env(look->c);
	struct sql_facts facts;

	sql_scan(text, &env, &facts);
	return look_at_text(look, name, text, &facts);
}

static void look_at_parse(struct look *look, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice name = read_cstr(&r), text = read_cstr(&r);
	struct statement *st;

	if (r.failed || look->n == BATCH_NAMES_MAX) {
		look->all_reads = false;
		return;
	}
	note_text(look, text);
	/* What others have sent before is known with its proof. */
	st = statement_lookup(look->c, slice_of(text.p, text.n + 1 + read_left(&r)));
	look->names[look->n++] =
	    st && !st->is_guarded ? look_at_statement(look, name, st) : scan_text(look, name, text);
}

static struct prepared_here find(struct look *look, struct slice name)
{
	struct statement *st;

	for (unsigned i = look->n; i-- > 0;)
		if (slice_is_equal(look->names[i].name, name))
			return look->names[i];
	st = statement_find(look->c, name);
	if (!st)
		return (struct prepared_here){ .name = name };
	note_text(look, statement_text(st));
	return look_at_statement(look, name, st);
}

/* A portal of its own may outlive its batch, and so may one that is not run to its end. */
static void look_at_bind(struct look *look, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice portal = read_cstr(&r), name = read_cstr(&r);
	struct prepared_here known = { 0 };

	if (!r.failed)
		known = find(look, name);
	look->all_reads &= known.is_read;
	look->all_plain &= known.is_plain && !portal.n;
	/* Nobody has said that what comes behind the transaction reads only. */
	look->any_primarys |= known.is_primarys || look->has_ended;
	look->has_ended |= known.ends;
}

static void look_at_execute(struct look *look, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice portal = read_cstr(&r);

	look->all_plain &= !portal.n && !read_u32(&r) && !r.failed;
}

static void look_at(struct look *look, const struct frame *f, struct batch_view *view)
{
	switch (f->type) {
	case MSG_PARSE:
		look_at_parse(look, frame_body(f));
		break;
	case MSG_BIND:
		look_at_bind(look, frame_body(f));
		break;
	case MSG_EXECUTE:
		view->executes++;
		look_at_execute(look, frame_body(f));
		break;
	case MSG_DESCRIBE:
	case MSG_CLOSE:
		break;
	case MSG_FLUSH:
		view->flushed = true;
		break;
	case MSG_SYNC:
		view->complete = true;
		break;
	default:
		/* Its Sync may never come, and this is not to wait for it. */
		look->all_reads = false;
		view->flushed = true;
		break;
	}
}

void batch_look(struct client *c, struct slice in, struct batch_view *view)
{
	struct look look = { .c = c,
			     .all_reads = gate_has_choice(c) && statement_is_mapped(c),
			     .all_plain = true };
	struct frame f;

	*view = (struct batch_view){ 0 };
	while (!view->complete && frame_peek(in.p, in.n, &f) == FRAME_OK && frame_is_whole(&f)) {
		look_at(&look, &f, view);
		in = slice_of(in.p + f.len, in.n - f.len);
	}
	/* What is too long to be waited for is not looked at. */
	look.any_primarys |= !view->complete && !view->flushed &&
			     frame_peek(in.p, in.n, &f) == FRAME_OK && f.type == MSG_PARSE;
	view->text = look.text;
	/* A batch that only prepares goes where its statements will be run; nobody can tell. */
	view->replica_will_do =
	    view->complete && !view->flushed && look.all_reads && view->executes;
	view->is_plain = view->complete && !view->flushed && look.all_reads && look.all_plain;
	view->is_primarys = look.any_primarys;
}
