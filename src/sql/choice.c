/* SPDX-License-Identifier: ISC
 *
 * choice.c - how a text says whose it is: by setting the tenant's id, or in a comment.
 *
 * Quoted names, escapes, lists, several statements, arguments that are more than a constant or a
 * parameter: all that is none of these forms, and the gate has the say about it.
 *
 * Source: PostgreSQL manual, SET, RESET, "Configuration Settings Functions", "Boolean Type";
 * sqlcommenter's specification.
 */
#include "sql/choice.h"

#include "base/assert.h"
#include "sql/ascii.h"
#include "sql/walk.h"

#include <string.h>

/* Type OIDs that are part of the protocol. */
enum { OID_BOOL = 16, OID_TEXT = 25, OID_VARCHAR = 1043 };

/* ---- constants --------------------------------------------------------------------------------
 */

static const char *const trues[] = { "true", "yes", "on", "1" };
static const char *const falses[] = { "false", "no", "off", "0" };

/* A beginning of one of the words that is long enough to tell them apart. */
static bool begins_one(struct slice text, const char *const words[4])
{
	for (size_t i = 0; i < 4; i++) {
		size_t least = strcasecmp(words[i], "on") && strcasecmp(words[i], "off") ? 1 : 2;

		if (text.n >= least && text.n <= strlen(words[i]) &&
		    !strncasecmp(words[i], text.p, text.n))
			return true;
	}
	return false;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trim(struct slice s)
{
	while (s.n && is_space(*s.p))
		s = slice_of(s.p + 1, s.n - 1);
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

bool sql_bool_parse(struct slice text, bool *value)
{
	text = trim(text);
	*value = begins_one(text, trues);
	return *value || begins_one(text, falses);
}

/* A string without any kind of escape. */
static bool decode(const struct lex_token *t, char *out, size_t room)
{
	size_t n;

	if (t->kind != LEX_STRING || t->uescape ||
	    (t->backslash && memchr(t->inner.p, '\\', t->inner.n)) ||
	    !lex_decode(t, out, room - 1, &n))
		return false;
	out[n] = '\0';
	return true;
}

static bool take_string(struct walk *x, char *out, size_t room)
{
	if (!decode(&x->t, out, room))
		return false;
	walk_next(x);
	return true;
}

/* An integer that the server prints as it is written. */
static bool take_integer(struct walk *x, char out[SQL_ID_MAX + 1])
{
	struct slice text = x->t.text;

	if (x->t.kind != LEX_NUMBER || text.n > 9 || (*text.p == '0' && text.n > 1))
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
	memcpy(out, text.p, text.n);
	out[text.n] = '\0';
	walk_next(x);
	return true;
}

/* ---- SET, RESET -------------------------------------------------------------------------------
 */

/* The setting's name, in plain words. */
static bool take_setting(struct walk *x, const char *setting)
{
	struct slice rest = slice_str(setting);

	for (;;) {
		struct slice word = x->t.text;

		if (x->t.kind != LEX_WORD || word.n > rest.n ||
		    !slice_is_equal_nocase(word, slice_of(rest.p, word.n)))
			return false;
		rest = slice_of(rest.p + word.n, rest.n - word.n);
		walk_next(x);
		if (!rest.n)
			return true;
		if (*rest.p != '.' || !walk_take_sign(x, '.'))
			return false;
		rest = slice_of(rest.p + 1, rest.n - 1);
	}
}

static bool take_set(struct walk *x, const char *setting, struct sql_choice *c)
{
	c->is_local = walk_take_word(x, "local");
	if (!c->is_local)
		walk_take_word(x, "session");
	if (!take_setting(x, setting) || !(walk_take_word(x, "to") || walk_take_sign(x, '=')))
		return false;
	if (walk_take_word(x, "default")) {
		c->form = CHOICE_DEFAULT;
		return true;
	}
	return take_string(x, c->value, sizeof(c->value)) || take_integer(x, c->value);
}

/* ---- set_config() -----------------------------------------------------------------------------
 */

static bool take_cast_sign(struct walk *x)
{
	if (x->t.kind != LEX_OP || !slice_is_equal(x->t.text, SLICE("::")))
		return false;
	walk_next(x);
	return true;
}

/* A type that changes nothing; its OID, or 0: it is none. */
static uint32_t take_type(struct walk *x, bool is_bool)
{
	if (is_bool)
		return walk_take_word(x, "boolean") || walk_take_word(x, "bool") ? OID_BOOL : 0;
	if (walk_take_word(x, "text"))
		return OID_TEXT;
	if (walk_take_word(x, "varchar"))
		return OID_VARCHAR;
	return walk_take_word(x, "character") && walk_take_word(x, "varying") ? OID_VARCHAR : 0;
}

struct arg {
	struct lex_token t;
	uint32_t type; /* that it is cast to, or 0 */
};

/* constant, constant::type or CAST(constant AS type) */
static bool take_arg(struct walk *x, bool is_bool, struct arg *arg)
{
	bool casts = walk_take_word(x, "cast");

	if (casts && !walk_take_sign(x, '('))
		return false;
	arg->t = x->t;
	arg->type = 0;
	walk_next(x);
	if (casts)
		return walk_take_word(x, "as") && (arg->type = take_type(x, is_bool)) != 0 &&
		       walk_take_sign(x, ')');
	return !take_cast_sign(x) || (arg->type = take_type(x, is_bool)) != 0;
}

static bool is_setting(const struct arg *arg, const char *setting)
{
	char name[SQL_ID_MAX + 1];

	return decode(&arg->t, name, sizeof(name)) && !strcasecmp(name, setting);
}

/* Notes that a parameter is of this type; false: there are more than there can be. */
static bool note_param(struct sql_choice *c, const struct arg *arg, uint32_t type, unsigned *number)
{
	*number = lex_param_number(&arg->t);
	if (!*number || *number > SQL_CHOICE_PARAMS)
		return false;
	c->types[*number - 1] = arg->type ? arg->type : type;
	c->nparams = c->nparams > *number ? c->nparams : *number;
	return true;
}

static bool read_value(const struct arg *arg, struct sql_choice *c)
{
	if (arg->t.kind == LEX_PARAM) {
		c->form = CHOICE_PARAM;
		return note_param(c, arg, OID_TEXT, &c->value_param);
	}
	if (arg->t.kind == LEX_WORD && slice_is_equal_nocase(arg->t.text, SLICE("null"))) {
		c->form = CHOICE_DEFAULT;
		return true;
	}
	return decode(&arg->t, c->value, sizeof(c->value));
}

static bool read_scope(const struct arg *arg, struct sql_choice *c)
{
	char text[SQL_ID_MAX + 1];

	if (arg->t.kind == LEX_PARAM)
		return note_param(c, arg, OID_BOOL, &c->local_param);
	if (arg->t.kind == LEX_WORD) {
		c->is_local = slice_is_equal_nocase(arg->t.text, SLICE("true"));
		return c->is_local || slice_is_equal_nocase(arg->t.text, SLICE("false"));
	}
	return decode(&arg->t, text, sizeof(text)) && sql_bool_parse(slice_str(text), &c->is_local);
}

/* Each parameter has one place, and none is left out: the server could not tell its type. */
static bool params_fit(const struct sql_choice *c)
{
	unsigned places = (c->value_param ? 1 : 0) + (c->local_param ? 1 : 0);

	return c->nparams == places && (!places || c->value_param != c->local_param);
}

/* AS column */
static bool take_column(struct walk *x, char column[64])
{
	size_t n = 0;

	if (!walk_take_word(x, "as")) {
		strcpy(column, "set_config");
		return true;
	}
	if ((x->t.kind != LEX_WORD && x->t.kind != LEX_QUOTED) || x->t.uescape ||
	    x->t.inner.n > 63 || !slice_is_ascii(x->t.text) || !lex_decode(&x->t, column, 63, &n) ||
	    !n)
		return false;
	column[n] = '\0';
	walk_next(x);
	return true;
}

static bool take_call(struct walk *x, const char *setting, struct sql_choice *c)
{
	struct arg args[3];

	if (walk_take_word(x, "pg_catalog") && !walk_take_sign(x, '.'))
		return false;
	if (!walk_take_word(x, "set_config") || !walk_take_sign(x, '('))
		return false;
	for (unsigned i = 0; i < PGT_NELEMS(args); i++)
		if ((i && !walk_take_sign(x, ',')) || !take_arg(x, i == 2, &args[i]))
			return false;
	return walk_take_sign(x, ')') && is_setting(&args[0], setting) && read_value(&args[1], c) &&
	       read_scope(&args[2], c) && params_fit(c) && take_column(x, c->column);
}

static bool take_statement(struct walk *x, const char *setting, struct sql_choice *c)
{
	if (walk_take_word(x, "set")) {
		c->verb = CHOICE_SET;
		return take_set(x, setting, c);
	}
	if (walk_take_word(x, "reset")) {
		c->verb = CHOICE_RESET;
		c->form = CHOICE_DEFAULT;
		return take_setting(x, setting);
	}
	c->verb = CHOICE_CALL;
	return walk_take_word(x, "select") && take_call(x, setting, c);
}

bool sql_choice_read(struct slice text, const struct sql_env *env, struct sql_choice *out)
{
	struct walk x;

	*out = (struct sql_choice){ .form = CHOICE_LITERAL };
	walk_init(&x, text, env);
	while (walk_is_sign(&x, ';'))
		walk_next(&x);
	if (!env->tenant_setting || !take_statement(&x, env->tenant_setting, out))
		return false;
	while (walk_is_sign(&x, ';'))
		walk_next(&x);
	return x.t.kind == LEX_END && !x.lex.unclean;
}

/* ---- comments ---------------------------------------------------------------------------------
 */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What %XX and \' stand for; false: it is too long, empty, or no such text. */
static bool decode_value(struct slice s, char out[SQL_ID_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		int high, low;

		if (n == SQL_ID_MAX)
			return false;
		out[n] = s.p[i];
		if (s.p[i] == '\\' && i + 1 < s.n) {
			out[n] = s.p[++i];
		} else if (s.p[i] == '%') {
			high = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
			low = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
			if (high < 0 || low < 0 || !(high || low))
				return false;
			out[n] = (char)(high << 4 | low);
			i += 2;
		}
		n++;
	}
	out[n] = '\0';
	return true;
}

static bool is_value_end(char c)
{
	return c == ',' || is_space(c);
}

/* key='value' at the beginning of *s, which goes on behind it; false: there is none. */
static bool take_pair(struct slice *s, struct slice *key, struct slice *value)
{
	const char *p, *end = s->p + s->n, *equal = memchr(s->p, '=', s->n);

	if (!equal)
		return false;
	*key = trim(slice_of(s->p, (size_t)(equal - s->p)));
	for (p = equal + 1; p < end && is_space(*p);)
		p++;
	if (p < end && *p == '\'') {
		value->p = ++p;
		while (p < end && *p != '\'')
			p += *p == '\\' && p + 1 < end ? 2 : 1;
		if (p >= end)
			return false;
		value->n = (size_t)(p++ - value->p);
	} else {
		value->p = p;
		while (p < end && !is_value_end(*p))
			p++;
		value->n = (size_t)(p - value->p);
	}
	while (p < end && is_value_end(*p))
		p++;
	*s = slice_of(p, (size_t)(end - p));
	return true;
}

/* found: what an earlier one has said. */
static enum sql_comment look_into(struct slice comment, struct slice key, enum sql_comment found,
				  char id[SQL_ID_MAX + 1])
{
	struct slice name, value;
	char said[SQL_ID_MAX + 1];

	if (!slice_starts_with(comment, SLICE("/*")) || comment.n < 4)
		return found;
	comment = slice_of(comment.p + 2, comment.n - 4);
	while (found != SQL_COMMENT_WRONG && take_pair(&comment, &name, &value)) {
		if (!slice_is_equal(name, key))
			continue;
		if (!decode_value(value, said) ||
		    (found == SQL_COMMENT_ID && strcmp(said, id) != 0))
			return SQL_COMMENT_WRONG;
		strcpy(id, said);
		found = SQL_COMMENT_ID;
	}
	return found;
}

enum sql_comment sql_comment_id(struct slice text, const struct sql_env *env, struct slice key,
				char id[SQL_ID_MAX + 1])
{
	enum sql_comment found = SQL_COMMENT_NONE;
	struct slice last = { 0 };
	struct lex_token t;
	struct lex lex;
	bool begun = false;

	lex_init(&lex, text, &(struct lex_env){ env->standard_strings, env->ascii_safe });
	while (lex_next(&lex, &t)) {
		if (t.kind == LEX_COMMENT && !begun)
			found = look_into(t.text, key, found, id);
		else if (t.kind == LEX_COMMENT)
			last = t.text;
		else if (!slice_is_equal(t.text, SLICE(";"))) {
			begun = true;
			last.n = 0;
		}
	}
	if (last.n)
		found = look_into(last, key, found, id);
	return lex.unclean && found == SQL_COMMENT_ID ? SQL_COMMENT_WRONG : found;
}
