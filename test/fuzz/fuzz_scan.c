/* SPDX-License-Identifier: ISC
 *
 * fuzz_scan.c - any text: what the facts point to lies in it, and reading it twice tells the same.
 *
 * The first byte says under which settings.
 */
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "sql/choice.h"
#include "sql/control.h"
#include "sql/leaving.h"
#include "sql/lex.h"
#include "sql/moment.h"
#include "sql/normal.h"
#include "sql/scan.h"
#include "sql/shape.h"
#include "sql/steady.h"
#include "sql/stream_guard.h"
#include "sql/timeout.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_changes(const struct sql_facts *f, struct slice text)
{
	PGT_ASSERT(f->nchanges <= SQL_CHANGES_MAX);
	for (unsigned i = 0; i < f->nchanges; i++) {
		const struct sql_change *c = &f->changes[i];
		int64_t ms;

		PGT_ASSERT(c->at <= text.n && c->len <= text.n - c->at);
		PGT_ASSERT(!c->value_fits || strlen(c->value) < sizeof(c->value));
		if (c->value_fits && sql_timeout_parse(slice_str(c->value), &ms))
			PGT_ASSERT(ms >= 0);
	}
}

/* Commands stand in order, each with a name that ends in its room. */
static void check_controls(struct slice text, const struct sql_env *env)
{
	struct sql_control items[4];
	unsigned n;

	sql_controls(text, env, items, PGT_NELEMS(items), &n);
	PGT_ASSERT(n <= PGT_NELEMS(items));
	for (unsigned i = 0; i < n; i++) {
		PGT_ASSERT(i == 0 || items[i - 1].statement < items[i].statement);
		PGT_ASSERT(!items[i].name[0] == (items[i].kind == CONTROL_UNLISTEN_ALL));
		PGT_ASSERT(memchr(items[i].name, '\0', sizeof(items[i].name)));
	}
}

/* What is heard as a choice of a tenant is what the gate would have guarded. */
static void check_choice(struct slice text, const struct sql_env *env, const struct sql_facts *f)
{
	char id[SQL_ID_MAX + 1];
	struct sql_choice c;

	if (sql_comment_id(text, env, SLICE("business_id"), id) == SQL_COMMENT_ID)
		PGT_ASSERT(memchr(id, '\0', sizeof(id)));
	if (!sql_choice_read(text, env, &c))
		return;
	PGT_ASSERT(env->tenant_setting && f->statements == 1 && !(f->flags & SQL_UNCLEAN));
	PGT_ASSERT(c.nparams <= SQL_CHOICE_PARAMS);
	if (f->flags & SQL_SETCONFIG_DYNAMIC)
		return;
	PGT_ASSERT(f->nchanges == 1 && f->changes[0].what == CHANGE_TENANT);
	if (c.form == CHOICE_LITERAL && f->changes[0].form == VALUE_LITERAL)
		PGT_ASSERT(!f->changes[0].value_fits || !strcmp(c.value, f->changes[0].value));
}

static void check_guard(struct slice text, size_t cut, const char *setting)
{
	struct sql_stream_guard whole, parts;

	sql_stream_guard_init(&whole, setting);
	sql_stream_guard_init(&parts, setting);
	sql_stream_guard_feed(&whole, text);
	sql_stream_guard_feed(&parts, slice_of(text.p, cut));
	sql_stream_guard_feed(&parts, slice_of(text.p + cut, text.n - cut));
	PGT_ASSERT(whole.found == parts.found);
}

/* The shape of a text is a text that tells the same. */
static void check_shape(struct slice text, const struct sql_env *env, const struct sql_facts *f)
{
	char shape[SQL_SHAPE_MAX + 1], again[SQL_SHAPE_MAX];
	size_t n = sql_shape(text, env, shape);
	struct sql_facts of_shape;
	bool is_same = sql_facts_are_of_shape(f);

	if (!n)
		return;
	PGT_ASSERT(n <= text.n);
	shape[n] = '\0';
	PGT_ASSERT(sql_shape(slice_of(shape, n), env, again) == n && !memcmp(shape, again, n));
	sql_scan(slice_of(shape, n), env, &of_shape);
	PGT_ASSERT(is_same == sql_facts_are_of_shape(&of_shape));
	if (!is_same)
		return;
	PGT_ASSERT(f->kind == of_shape.kind && f->sequence == of_shape.sequence);
	PGT_ASSERT(f->nesting == of_shape.nesting && f->chain == of_shape.chain);
	PGT_ASSERT(memcmp(f->fingerprint, of_shape.fingerprint, sizeof(f->fingerprint)) == 0);
}

static void look(struct sql_shapes *shapes, uint16_t *last, const char *text,
		 const struct sql_env *env)
{
	const uint64_t meaning = env->standard_strings + 2u * env->ascii_safe;
	struct sql_facts got, expected;

	if (!env->ascii_safe ||
	    !sql_shapes_expect(shapes, last, meaning, slice_str(text), env->tenant_setting,
			       env->wants_fingerprint, &got))
		sql_shapes_scan(shapes, last, meaning, slice_str(text), env, &got);
	sql_scan(slice_str(text), env, &expected);
	PGT_ASSERT(got.kind == expected.kind && got.sequence == expected.sequence);
	PGT_ASSERT(got.effects == expected.effects && got.flags == expected.flags);
	/* One may be there unasked. */
	if (env->wants_fingerprint)
		PGT_ASSERT(memcmp(got.fingerprint, expected.fingerprint, sizeof(got.fingerprint)) ==
			   0);
}

/* Whatever shape is expected of a text, and under whatever settings. */
static void check_turns(const char *one, const char *other, const struct sql_env *env)
{
	struct sql_env changed = *env;
	struct sql_shapes *shapes = sql_shapes_new();
	uint16_t last = 0;

	for (int i = 0; i < 3; i++) {
		look(shapes, &last, one, env);
		look(shapes, &last, other, env);
		look(shapes, &last, other, env);
		changed.wants_fingerprint ^= true;
		look(shapes, &last, other, &changed);
		look(shapes, &last, other, env);
		changed.standard_strings ^= true;
		look(shapes, &last, other, &changed);
		changed.ascii_safe ^= true;
		look(shapes, &last, other, env);
		look(shapes, &last, other, &changed);
	}
	sql_shapes_forget(shapes);
	look(shapes, &last, one, env);
	sql_shapes_free(shapes);
}

/* Values that stand in a text, taken from it whole. */
static void check_values(struct slice text)
{
	char digits[SQL_TIMEOUT_MAX];
	int64_t ms, again;
	bool value;

	if (sql_timeout_parse(text, &ms)) {
		sql_timeout_write(ms, digits);
		PGT_ASSERT(sql_timeout_parse(slice_str(digits), &again) && again == ms);
	}
	if (!sql_bool_parse(text, &value))
		PGT_ASSERT(!value);
}

/* Who shows a text shows it normal, and what is normal stays so. */
static void check_normal(struct slice text, const struct lex_env *env)
{
	struct buf once = { 0 }, twice = { 0 };
	struct sql_normal normal, again;

	sql_normalise(text, env, &normal, &once);
	PGT_ASSERT(buf_len(&once) <= SQL_NORMAL_MAX);
	sql_normalise(text, env, &again, &twice);
	PGT_ASSERT(slice_is_equal(buf_peek(&once), buf_peek(&twice)));
	PGT_ASSERT(memcmp(normal.id, again.id, sizeof(normal.id)) == 0);
	buf_fini(&once);
	buf_fini(&twice);
	sql_tells_moment(text, env);
	sql_steadiness(text, env);
}

/* A function, a table with a trigger, a view, and an event trigger. */
static const struct sql_leaving *leaving_of_few(void)
{
	static struct sql_leaving *few;

	if (!few) {
		few = sql_leaving_new();
		sql_leaving_add(few, SLICE("f"), SLICE("f"));
		sql_leaving_add(few, SLICE("w"), SLICE("t"));
		sql_leaving_add(few, SLICE("r"), SLICE("v"));
		sql_leaving_add(few, SLICE("e"), SLICE(""));
	}
	return few;
}

static struct sql_env env_of(uint8_t bits)
{
	return (struct sql_env){ .standard_strings = bits & 1,
				 .tenant_setting = bits & 2 ? "app.id" : NULL,
				 .leaving = bits & 4 ? leaving_of_few() : NULL,
				 .unproven = bits & 8,
				 .ascii_safe = !(bits & 16),
				 .wants_fingerprint = !(bits & 32) };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_env env;
	struct sql_facts f, again;
	struct slice text;
	char *copy;

	if (size == 0)
		return 0;
	env = env_of(data[0]);
	/* A block of exactly its size, so that ASan sees a read past its end. */
	copy = xmalloc(size);
	memcpy(copy, data + 1, size - 1);
	copy[size - 1] = '\0';
	text = slice_of(copy, size - 1);
	sql_scan(text, &env, &f);
	sql_scan(text, &env, &again);
	PGT_ASSERT(memcmp(f.fingerprint, again.fingerprint, sizeof(f.fingerprint)) == 0);
	PGT_ASSERT(f.effects == again.effects && f.flags == again.flags);
	check_changes(&f, text);
	check_choice(text, &env, &f);
	check_guard(text, text.n * data[0] / 256, "app.id");
	check_guard(text, text.n * data[0] / 256, "app._id");
	check_guard(text, text.n * data[0] / 256,
		    "setting_with_a_name_that_is_longer_than_what_is_looked_for");
	check_values(text);
	/* Texts that a Query can hold. */
	if (strlen(copy) == text.n) {
		check_controls(text, &env);
		check_shape(text, &env, &f);
		check_normal(text, &(struct lex_env){ env.standard_strings, env.ascii_safe });
	}
	check_turns(copy, copy + strlen(copy) + (strlen(copy) < text.n), &env);
	free(copy);
	return 0;
}
