/* SPDX-License-Identifier: ISC
 *
 * shape.c - texts that differ in literals only have their facts looked up.
 *
 * A scan costs some 30 instructions a byte, a look at the shape seven, to see that a text has the
 * shape that was to be expected one.  Where one byte could make the lexer see other tokens than
 * this file does, there is no shape, and the text is scanned.  test/fuzz/fuzz_scan.c holds all
 * three against each other.
 */
#include "sql/shape.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdlib.h>

/* ---- the shape of a text ------------------------------------------------------------------------
 */

enum mark {
	M_PLAIN,
	M_DIGIT,
	M_QUOTE,
	M_DQUOTE,
	M_COMMENT, /* two of them, or one and a star */
	M_STRANGE,
	M_DOLLAR,
	M_MARKS = 0xf,
	/* Between these a literal is one by itself. */
	M_BEFORE = 0x10,
	M_BEHIND = 0x20,
	M_AROUND = M_BEFORE | M_BEHIND,
};

static const uint8_t mark_of[256] = {
	['0' ... '9'] = M_DIGIT, ['\''] = M_QUOTE,  ['"'] = M_DQUOTE,
	['-'] = M_COMMENT,       ['/'] = M_COMMENT, ['\\'] = M_STRANGE,
	['\0'] = M_STRANGE,      ['$'] = M_DOLLAR,  [' '] = M_AROUND,
	['\t'] = M_AROUND,       ['\n'] = M_AROUND, ['\r'] = M_AROUND,
	[','] = M_AROUND,        ['='] = M_AROUND,  ['<'] = M_AROUND,
	['>'] = M_AROUND,        ['('] = M_BEFORE,  ['['] = M_BEFORE,
	['+'] = M_BEFORE,        ['*'] = M_BEFORE,  [')'] = M_BEHIND,
	[']'] = M_BEHIND,        [';'] = M_BEHIND,  [':'] = M_BEHIND, /* of a cast */
};

/* A shape with more literals is not expected of a text, only found. */
#define GAPS_MAX 12

/* Where the literals stood, as offsets in the shape. */
struct gaps {
	uint16_t at[GAPS_MAX];
	unsigned n; /* GAPS_MAX + 1: too many */
};

/* A place in a text. */
struct place {
	const char *p, *start, *end;
	bool keeps_words; /* strings with letters */
};

struct shaping {
	struct place at;
	const char *from; /* where what has not been copied begins */
	char *out, *begin;
	struct gaps gaps;
};

static inline enum mark mark_at(const char *p)
{
	return mark_of[(uint8_t)*p] & M_MARKS;
}

/* The NUL behind the text has a mark, so nobody counts. */
static inline const char *skip_plain(const char *p)
{
	while (mark_at(p) == M_PLAIN)
		p++;
	return p;
}

/* Whether what stands between p and behind, of a text that begins at start, is by itself. */
static inline bool is_alone(const char *start, const char *p, const char *behind, const char *end)
{
	return (p == start || (mark_of[(uint8_t)p[-1]] & M_BEFORE)) &&
	       (behind == end || (mark_of[(uint8_t)*behind] & M_BEHIND));
}

static inline bool stands_alone(const struct place *at, const char *behind)
{
	return is_alone(at->start, at->p, behind, at->end);
}

/* What has not been copied yet, and what stands for the literal between it and behind. */
static void copy(struct shaping *s, const char *behind, const char *by, size_t n)
{
	size_t before = (size_t)(s->at.p - s->from);

	memcpy(s->out, s->from, before);
	memcpy(s->out + before, by, n);
	s->out += before + n;
	s->at.p = s->from = behind;
}

static void replace(struct shaping *s, const char *behind, const char *by, size_t n)
{
	copy(s, behind, by, n);
	if (s->gaps.n < GAPS_MAX)
		s->gaps.at[s->gaps.n] = (uint16_t)(s->out - s->begin - n);
	s->gaps.n += s->gaps.n <= GAPS_MAX;
}

static inline bool is_digit(const char *p)
{
	return (uint8_t)(*p - '0') < 10;
}

static inline const char *skip_digits(const char *p)
{
	while (is_digit(p))
		p++;
	return p;
}

/* The end of the number that begins here, in a text that ends at end. */
static inline const char *number_end(const char *p, const char *end)
{
	const char *behind = skip_digits(p);

	if (end - behind > 1 && *behind == '.' && is_digit(behind + 1))
		behind = skip_digits(behind + 1);
	return behind;
}

/* Digits of a name or of an odd number stay. */
static void take_digits(struct shaping *s)
{
	const char *behind = number_end(s->at.p, s->at.end);

	if (stands_alone(&s->at, behind))
		replace(s, behind, "0", 1);
	else
		s->at.p = behind;
}

/* What may stand in a string that stays out though strings with letters do not. */
static bool spells_nothing(struct slice string)
{
	for (size_t i = 0; i < string.n; i++)
		if (mark_at(string.p + i) != M_DIGIT && !strchr("-:. +", string.p[i]))
			return false;
	return true;
}

/* Whether the string goes on behind white space. */
static bool goes_on(const char *p, const char *end)
{
	while (p < end && strchr(" \t\n\v\f\r", *p))
		p++;
	return p < end && *p == '\'';
}

/* The end of the string that begins here; NULL: it is not as plain as it looks. */
static const char *string_end(const struct place *at)
{
	const char *body = at->p + 1;
	const char *close = memchr(body, '\'', (size_t)(at->end - body));

	if (!close || memchr(body, '\\', (size_t)(close - body)) ||
	    memchr(body, '\0', (size_t)(close - body)) || !stands_alone(at, close + 1) ||
	    goes_on(close + 1, at->end))
		return NULL;
	return close + 1;
}

static bool stays(const struct place *at, const char *behind)
{
	return at->keeps_words &&
	       !spells_nothing(slice_of(at->p + 1, (size_t)(behind - at->p - 2)));
}

static bool take_string(struct shaping *s)
{
	const char *behind = string_end(&s->at);

	if (!behind)
		return false;
	if (stays(&s->at, behind))
		s->at.p = behind;
	else
		replace(s, behind, "''", 2);
	return true;
}

static bool take_quoted(struct shaping *s)
{
	const char *close = memchr(s->at.p + 1, '"', (size_t)(s->at.end - s->at.p - 1));

	if (!close || (s->at.p > s->at.start && s->at.p[-1] == '&'))
		return false;
	s->at.p = close + 1;
	return true;
}

/* Whether a comment may begin here, or an operator be cut where none is. */
static bool is_comment(const struct shaping *s)
{
	return s->at.p + 1 < s->at.end && (mark_at(s->at.p + 1) == M_COMMENT || s->at.p[1] == '*');
}

/* What stands at a byte with a mark.  False: the text has no shape. */
static bool take_marked(struct shaping *s)
{
	switch (mark_at(s->at.p)) {
	case M_DIGIT:
		take_digits(s);
		return true;
	case M_QUOTE:
		return take_string(s);
	case M_DQUOTE:
		return take_quoted(s);
	case M_COMMENT:
		return !is_comment(s) && s->at.p++;
	case M_DOLLAR: /* of a parameter */
		return s->at.p + 1 < s->at.end && mark_at(s->at.p + 1) == M_DIGIT &&
		       (s->at.p = skip_digits(s->at.p + 1));
	default:
		return false;
	}
}

static inline struct place start_of(struct slice text, bool has_tenants)
{
	return (struct place){
		.p = text.p, .start = text.p, .end = text.p + text.n, .keeps_words = has_tenants
	};
}

static size_t shape_text(struct slice text, const struct sql_env *env, char out[SQL_SHAPE_MAX],
			 struct gaps *gaps)
{
	struct shaping s = {
		.at = start_of(text, env->tenant_setting), .from = text.p, .out = out, .begin = out
	};

	if (text.n > SQL_SHAPE_MAX || !env->ascii_safe)
		return 0;
	while ((s.at.p = skip_plain(s.at.p)) != s.at.end)
		if (!take_marked(&s))
			return 0;
	copy(&s, s.at.end, "", 0);
	*gaps = s.gaps;
	return (size_t)(s.out - out);
}

size_t sql_shape(struct slice text, const struct sql_env *env, char out[SQL_SHAPE_MAX])
{
	struct gaps gaps;

	return shape_text(text, env, out, &gaps);
}

/* ---- what is remembered -------------------------------------------------------------------------
 */

/* A power of two.  What is not used takes no memory. */
#define SHAPES 512

/* What there is of facts of which none is in the lists behind them. */
#define FACTS_LEN offsetof(struct sql_facts, changes)

struct shape {
	uint64_t meaning;
	uint64_t generation; /* of the table when it was made; 0: never */
	uint32_t len;
	bool has_fingerprint;
	uint16_t next; /* the place of the one that came behind it the last time */
	uint64_t note; /* of who asks */
	char facts[FACTS_LEN];
	struct gaps gaps;
	char text[SQL_SHAPE_MAX];
};

struct sql_shapes {
	uint64_t generation;
	struct shape shapes[SHAPES];
};

struct sql_shapes *sql_shapes_new(void)
{
	struct sql_shapes *shapes = xnew(struct sql_shapes);

	shapes->generation = 1;
	return shapes;
}

void sql_shapes_free(struct sql_shapes *shapes)
{
	free(shapes);
}

void sql_shapes_forget(struct sql_shapes *shapes)
{
	shapes->generation++;
}

bool sql_facts_are_of_shape(const struct sql_facts *f)
{
	return f->kind >= SQL_KIND_SELECT && f->kind <= SQL_KIND_DELETE && f->statements == 1 &&
	       !f->effects && !f->flags && f->hint == SQL_HINT_NONE && !f->is_exact &&
	       !f->begin_read_only && !f->begin_read_write && !f->begin_serializable &&
	       !f->nnames && !f->too_many_names && !f->asks_prepared && !f->asks_setting &&
	       !f->calls_set_config && !f->sets_many && !f->sets_unnamed && !f->sets_path &&
	       !f->resets && !f->resets_early && !f->settings_len && !f->nchanges &&
	       !f->too_many_changes;
}

/* Texts are compared in full, so that a poor hash makes nothing worse than a scan. */
static struct shape *slot_of(struct sql_shapes *shapes, uint64_t meaning, const char *p, size_t n)
{
	const uint64_t odd = 0x9e3779b97f4a7c15ull;
	uint64_t h = meaning ^ n, word = 0;

	for (; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * odd;
		h ^= h >> 32;
	}
	word = 0;
	memcpy(&word, p, n);
	h = (h ^ word) * odd;
	return &shapes->shapes[h >> 32 & (SHAPES - 1)];
}

static inline void recall(const struct shape *s, struct sql_facts *f)
{
	memcpy(f, s->facts, sizeof(s->facts));
}

static void remember(struct sql_shapes *shapes, struct shape *s, uint64_t meaning, const char *p,
		     size_t n, const struct gaps *gaps, const struct sql_facts *f,
		     bool has_fingerprint)
{
	s->meaning = meaning;
	s->generation = shapes->generation;
	s->len = (uint32_t)n;
	s->has_fingerprint = has_fingerprint;
	s->note = 0;
	memcpy(s->facts, f, sizeof(s->facts));
	s->gaps = *gaps;
	memcpy(s->text, p, n);
}

static inline bool is_known(const struct sql_shapes *shapes, const struct shape *s,
			    uint64_t meaning, bool wants_fingerprint)
{
	return s->generation == shapes->generation && s->meaning == meaning &&
	       (s->has_fingerprint || !wants_fingerprint);
}

/* The end of the literal that begins here, where the shape has one that begins so.  NULL: there is
 * none that would have been replaced. */
static inline const char *pass_number(const char *start, const char *p, const char *end)
{
	const char *behind = number_end(p, end);

	return behind != p && is_alone(start, p, behind, end) ? behind : NULL;
}

static PGT_NOINLINE const char *pass_string(struct slice text, const char *p, bool keeps_words)
{
	struct place at = start_of(text, keeps_words);
	const char *behind;

	at.p = p;
	behind = p < at.end && *p == '\'' ? string_end(&at) : NULL;
	return behind && !stays(&at, behind) ? behind : NULL;
}

/* Whether the text has this shape: the same bytes in the same order, but for literals where it has
 * them.  What a byte is taken for depends on those before it and on the one behind it, which are
 * the same, or begin a literal of the same sort. */
static inline bool has_shape(const struct shape *s, struct slice text, bool has_tenants)
{
	const char *p = text.p, *end = text.p + text.n, *from = s->text;

	if (s->gaps.n > GAPS_MAX || text.n > SQL_SHAPE_MAX)
		return false;
	for (unsigned i = 0; i < s->gaps.n; i++) {
		const char *to = s->text + s->gaps.at[i];
		size_t n = (size_t)(to - from);

		if ((size_t)(end - p) < n || memcmp(p, from, n) != 0)
			return false;
		p = *to == '0' ? pass_number(text.p, p + n, end)
			       : pass_string(text, p + n, has_tenants);
		if (!p)
			return false;
		from = to + (*to == '0' ? 1 : 2);
	}
	return end - p == s->text + s->len - from && !memcmp(p, from, (size_t)(end - p));
}

bool sql_shapes_scan(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning, struct slice text,
		     const struct sql_env *env, struct sql_facts *f)
{
	char room[SQL_SHAPE_MAX];
	struct gaps gaps;
	size_t n = shape_text(text, env, room, &gaps);
	struct shape *s = n ? slot_of(shapes, meaning, room, n) : NULL;

	if (s && is_known(shapes, s, meaning, env->wants_fingerprint) && s->len == n &&
	    !memcmp(s->text, room, n)) {
		recall(s, f);
	} else {
		sql_scan(text, env, f);
		if (!s || !sql_facts_are_of_shape(f))
			return false;
		remember(shapes, s, meaning, room, n, &gaps, f, env->wants_fingerprint);
	}
	shapes->shapes[*last].next = (uint16_t)(s - shapes->shapes);
	*last = shapes->shapes[*last].next;
	return true;
}

bool sql_shapes_expect(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning,
		       struct slice text, bool has_tenants, bool wants_fingerprint,
		       struct sql_facts *f)
{
	uint16_t next = shapes->shapes[*last].next;
	const struct shape *s = &shapes->shapes[next];

	if (!is_known(shapes, s, meaning, wants_fingerprint) || !has_shape(s, text, has_tenants))
		return false;
	recall(s, f);
	*last = next;
	return true;
}

uint64_t *sql_shapes_note(struct sql_shapes *shapes, uint16_t last)
{
	return &shapes->shapes[last].note;
}
