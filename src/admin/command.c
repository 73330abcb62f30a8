/* SPDX-License-Identifier: ISC
 *
 * command.c - reads one command of the console.
 *
 * Knows words and rows of commands.def, not what they do.
 */
#include "admin/command.h"

#include "config/settings.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

const struct command_spec command_specs[NCOMMANDS] = {
#define X(name, argument, access, help) { #name, ARGUMENT_##argument, ACCESS_##access, help },
	COMMANDS(X)
#undef X
};

const struct show_spec show_specs[NSHOWS] = {
#define X(name, access, help) { #name, ACCESS_##access, help },
	SHOWS(X)
#undef X
};

const struct fake_spec fake_specs[NFAKES] = {
#define X(name, value) { #name, value },
	FAKES(X)
#undef X
};

const char *const argument_usages[] = {
	[ARGUMENT_NONE] = "",
	[ARGUMENT_OPTIONAL_DATABASE] = "[<db>]",
	[ARGUMENT_DATABASE] = "<db>",
	[ARGUMENT_DATABASE_OR_TENANT] = "[<db> | TENANT <tenant>]",
	[ARGUMENT_OWNER] = "[DATABASE <db> | TENANT <tenant>]",
	[ARGUMENT_SWITCH] = "[ON|OFF] [DATABASE <db> | TENANT <tenant>] ['<message>']",
	[ARGUMENT_TENANT_SETTING] = "TENANT <tenant> [<key>]",
	[ARGUMENT_CLIENT] = "<client_id>",
	[ARGUMENT_SHUTDOWN_MODE] = "[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
	[ARGUMENT_SETTING] = "[TENANT <tenant>] key = arg",
	[ARGUMENT_SHOWN] = "<what>",
};

/* ---- tokens ---------------------------------------------------------------------------------- */

enum token_kind { TOKEN_END, TOKEN_SEMICOLON, TOKEN_EQUALS, TOKEN_WORD, TOKEN_STRING, TOKEN_BAD };

/* The text of a quoted one is what stands between the quotes, doubled quotes included. */
struct token {
	enum token_kind kind;
	struct slice text;
	char quote; /* '\0': bare */
};

static const char blanks[] = " \t\r\n\f\v";

static size_t skip(struct slice s, size_t n)
{
	return n < s.n ? n : s.n;
}

/* Blanks and comments in front. */
static struct slice skip_blanks(struct slice s)
{
	for (;;) {
		size_t n = 0;

		while (n < s.n && s.p[n] && strchr(blanks, s.p[n]))
			n++;
		if (s.n - n >= 2 && !memcmp(s.p + n, "--", 2)) {
			const char *end = memchr(s.p + n, '\n', s.n - n);

			n = end ? (size_t)(end - s.p) : s.n;
		} else if (s.n - n >= 2 && !memcmp(s.p + n, "/*", 2)) {
			const char *end = memmem(s.p + n + 2, s.n - n - 2, "*/", 2);

			n = end ? (size_t)(end - s.p) + 2 : s.n;
		}
		if (!n)
			return s;
		s = slice_of(s.p + n, s.n - n);
	}
}

static struct token quoted(struct slice *rest, char quote)
{
	size_t n = 1;

	while (n < rest->n) {
		if (rest->p[n] != quote)
			n++;
		else if (n + 1 < rest->n && rest->p[n + 1] == quote)
			n += 2;
		else
			break;
	}
	if (n >= rest->n)
		return (struct token){ .kind = TOKEN_BAD };
	struct token t = { quote == '"' ? TOKEN_WORD : TOKEN_STRING, slice_of(rest->p + 1, n - 1),
			   quote };

	*rest = slice_of(rest->p + n + 1, rest->n - n - 1);
	return t;
}

static struct token next_token(struct slice *rest)
{
	struct token t = { 0 };
	size_t n = 0;

	*rest = skip_blanks(*rest);
	if (!rest->n)
		return t;
	if (*rest->p == '"' || *rest->p == '\'')
		return quoted(rest, *rest->p);
	while (n < rest->n && rest->p[n] && !strchr(" \t\r\n\f\v;='\"", rest->p[n]))
		n++;
	t.kind = n                 ? TOKEN_WORD
		 : *rest->p == ';' ? TOKEN_SEMICOLON
		 : *rest->p == '=' ? TOKEN_EQUALS
				   : TOKEN_BAD;
	t.text = slice_of(rest->p, n);
	n = skip(*rest, n ? n : 1);
	*rest = slice_of(rest->p + n, rest->n - n);
	return t;
}

/* False: it is too long. */
static bool take_text(const struct token *t, char *out, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < t->text.n; i++) {
		if (n + 1 >= room)
			return false;
		out[n++] = t->text.p[i];
		if (t->quote && t->text.p[i] == t->quote)
			i++;
	}
	out[n] = '\0';
	return true;
}

/* ---- commands ---------------------------------------------------------------------------------
 */

static int find_show(const char *name)
{
	for (int i = 0; i < NSHOWS; i++)
		if (!strcasecmp(show_specs[i].name, name))
			return i;
	return -1;
}

static int find_fake(const char *name)
{
	for (int i = 0; i < NFAKES; i++)
		if (!strcasecmp(fake_specs[i].name, name))
			return i;
	return -1;
}

static int find_command(const char *verb)
{
	for (int i = 0; i < NCOMMANDS; i++)
		if (!strcasecmp(command_specs[i].verb, verb))
			return i;
	return -1;
}

/* The next one of letters, digits and underscores, of those that are bare or quoted alike. */
static bool next_name(struct slice *rest, char *out, size_t room)
{
	size_t from = 0, n = 0;

	while (from < rest->n && !isalnum((uint8_t)rest->p[from]))
		from++;
	while (from + n < rest->n &&
	       (isalnum((uint8_t)rest->p[from + n]) || rest->p[from + n] == '_'))
		n++;
	snprintf(out, room, "%.*s", (int)(n < room ? n : room - 1), rest->p + from);
	*rest = slice_of(rest->p + from + n, rest->n - from - n);
	return n > 0;
}

/* The table that somebody means who asks in SQL, as in show_pools() or pgbouncer.pools, or in a
 * SHOW with too many words; -1: none. */
static int find_wish(struct slice text)
{
	char name[COMMAND_MAX_WORD];
	int show = -1;

	while (show < 0 && next_name(&text, name, sizeof(name)))
		show = find_show(strncasecmp(name, "show_", 5) ? name : name + 5);
	return show;
}

static struct slice nearest_of(const char *wanted, bool is_show)
{
	struct nearest nearest = { .wanted = slice_str(wanted), .distance = UINT_MAX };

	for (int i = 0; is_show && i < NSHOWS; i++)
		nearest_try(&nearest, slice_str(show_specs[i].name));
	for (int i = 0; !is_show && i < NCOMMANDS; i++)
		nearest_try(&nearest, slice_str(command_specs[i].verb));
	return nearest_is_near(&nearest) ? nearest.name : slice_of("", 0);
}

/* Of the text it repeats nothing, which may hold a password. */
static void hint(struct slice text, struct err *e)
{
	char verb[COMMAND_MAX_WORD] = "", what[COMMAND_MAX_WORD] = "";
	struct slice rest, near;
	bool is_show;
	int wish;

	next_name(&text, verb, sizeof(verb));
	is_show = !strcasecmp(verb, "show") || !strcasecmp(verb, "select");
	wish = is_show ? find_wish(text) : -1;
	rest = text;
	next_name(&rest, what, sizeof(what));
	near = nearest_of(is_show ? what : verb, is_show);
	if (wish >= 0)
		err_hint(e, "The console knows no SQL: SHOW %s. SHOW HELP %s tells of it.",
			 show_specs[wish].name, show_specs[wish].name);
	else if (!is_show && find_command(verb) >= 0)
		err_hint(e, "SHOW HELP %s says how it is written.",
			 command_specs[find_command(verb)].verb);
	else if (near.n)
		err_hint(e, "Did you mean %s%.*s?", is_show ? "SHOW " : "", SLICE_FMT(near));
	else
		err_hint(e, "The console knows no SQL; SHOW HELP lists what it knows.");
}

/* PgBouncer's code for all of them; by that of `SELECT 1`, pgcli knows that this is no database. */
static bool syntax_error(struct slice text, struct err *e)
{
	struct slice shown = skip_blanks(text);
	int n = shown.n > 200 ? 200 : (int)shown.n;

	err_set(e, "08P01", "invalid command '%.*s', use SHOW HELP;", n, shown.p);
	hint(shown, e);
	return false;
}

static bool is_word(const struct token *t, const char *word)
{
	return t->kind == TOKEN_WORD && !t->quote &&
	       slice_is_equal_nocase(t->text, slice_str(word));
}

/* At the end, which may be a semicolon and blanks. */
static bool is_end(struct token t, struct slice *rest)
{
	if (t.kind == TOKEN_SEMICOLON)
		t = next_token(rest);
	return t.kind == TOKEN_END;
}

static struct token peek_token(struct slice rest)
{
	return next_token(&rest);
}

/* The name that must follow. */
static bool take_name(struct slice *rest, struct command *out, enum owner owner, struct slice text,
		      struct err *e)
{
	struct token t = next_token(rest);

	out->owner = owner;
	if (t.kind != TOKEN_WORD || !t.text.n)
		return syntax_error(text, e);
	return take_text(&t, out->name, sizeof(out->name)) || err_set(e, "08P01", "bad arguments");
}

/* DATABASE name or TENANT name, or neither. */
static bool parse_owner(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t = peek_token(*rest);

	if (!is_word(&t, "database") && !is_word(&t, "tenant"))
		return true;
	next_token(rest);
	return take_name(rest, out, is_word(&t, "tenant") ? OWNER_TENANT : OWNER_DATABASE, text, e);
}

/* Whether such a word and a name come, not something that is called so. */
static bool is_owner_next(struct slice rest, const char *word)
{
	struct token t = next_token(&rest), name = next_token(&rest);

	return is_word(&t, word) && name.kind == TOKEN_WORD && !is_word(&name, "to");
}

static bool is_tenant_next(struct slice rest)
{
	return is_owner_next(rest, "tenant");
}

static bool parse_tenant(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	next_token(rest);
	return take_name(rest, out, OWNER_TENANT, text, e);
}

static bool parse_node(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	next_token(rest);
	return take_name(rest, out, OWNER_NODE, text, e);
}

static bool expect_end(struct slice *rest, struct slice text, struct err *e)
{
	return is_end(next_token(rest), rest) || syntax_error(text, e);
}

/* [ON|OFF] [owner] ['message'] */
static bool parse_switch(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t = peek_token(*rest);

	out->is_off = is_word(&t, "off");
	if (out->is_off || is_word(&t, "on"))
		next_token(rest);
	if (!parse_owner(rest, out, text, e))
		return false;
	t = peek_token(*rest);
	if (t.kind == TOKEN_STRING && !out->is_off) {
		next_token(rest);
		if (!take_text(&t, out->value, sizeof(out->value)))
			return err_set(e, "08P01", "bad arguments");
	}
	return expect_end(rest, text, e);
}

static bool parse_reset(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t;

	if (!is_tenant_next(*rest))
		return syntax_error(text, e);
	if (!parse_tenant(rest, out, text, e))
		return false;
	t = peek_token(*rest);
	if (t.kind == TOKEN_WORD) {
		next_token(rest);
		if (!take_text(&t, out->word, sizeof(out->word)))
			return err_set(e, "08P01", "bad arguments");
	}
	return expect_end(rest, text, e);
}

static bool parse_setting(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token key, equals, value;

	if (is_tenant_next(*rest) && !parse_tenant(rest, out, text, e))
		return false;
	if (is_owner_next(*rest, "node") && !parse_node(rest, out, text, e))
		return false;
	key = next_token(rest);
	equals = next_token(rest);
	value = next_token(rest);
	if (key.kind != TOKEN_WORD || !key.text.n ||
	    (equals.kind != TOKEN_EQUALS && !is_word(&equals, "to")) ||
	    (value.kind != TOKEN_WORD && value.kind != TOKEN_STRING) ||
	    !is_end(next_token(rest), rest))
		return syntax_error(text, e);
	if (!take_text(&key, out->word, sizeof(out->word)) ||
	    !take_text(&value, out->value, sizeof(out->value)))
		return err_set(e, "08P01", "bad arguments");
	if (out->owner == OWNER_ALL)
		out->fake = find_fake(out->word);
	return true;
}

/* Words that rows may be sorted by, and SHOWs that can be of one tenant. */
static bool is_order(int show, struct slice word)
{
	static const char *const orders[] = { "time", "calls", "rows", "errors" };

	for (size_t i = 0; show == SHOW_queries && i < PGT_NELEMS(orders); i++)
		if (slice_is_equal_nocase(word, slice_str(orders[i])))
			return true;
	return false;
}

static bool has_tenants(int show)
{
	return show == SHOW_queries || show == SHOW_slow || show == SHOW_advice;
}

/* [BY word] [TENANT name] */
static bool parse_view(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t = peek_token(*rest);

	if (!has_tenants(out->show))
		return expect_end(rest, text, e);
	if (is_word(&t, "by")) {
		next_token(rest);
		t = next_token(rest);
		if (t.kind != TOKEN_WORD || !is_order(out->show, t.text))
			return syntax_error(text, e);
		if (!take_text(&t, out->value, sizeof(out->value)))
			return err_set(e, "08P01", "bad arguments");
	}
	if (is_tenant_next(*rest) && !parse_tenant(rest, out, text, e))
		return false;
	return expect_end(rest, text, e);
}

static bool take_rest(struct slice rest, struct command *out, struct err *e)
{
	const struct token t = { .text = rest };

	/* A comment in front may be a hint, and stays. */
	return take_text(&t, out->value, sizeof(out->value)) ||
	       err_set(e, "54000", "a statement may have %d bytes here", COMMAND_MAX_VALUE - 1);
}

/* [DATABASE name] [TENANT name | USER name] statement */
static bool parse_route(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t;

	*out->word = '\0';
	t = peek_token(*rest);
	if (is_word(&t, "database")) {
		next_token(rest);
		if (!take_name(rest, out, OWNER_ALL, text, e))
			return false;
		t = peek_token(*rest);
	}
	if (is_word(&t, "tenant") || is_word(&t, "user")) {
		out->owner = is_word(&t, "tenant") ? OWNER_TENANT : OWNER_ALL;
		next_token(rest);
		t = next_token(rest);
		if (t.kind != TOKEN_WORD || !t.text.n)
			return syntax_error(text, e);
		if (!take_text(&t, out->word, sizeof(out->word)))
			return err_set(e, "08P01", "bad arguments");
	}
	t = peek_token(*rest);
	if (t.kind == TOKEN_END || is_end(t, &(struct slice){ 0 }))
		return true;
	return take_rest(slice_of(rest->p, rest->n), out, e);
}

/* [[SHOW] name] */
static bool parse_help(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t = peek_token(*rest);

	if (t.kind == TOKEN_WORD)
		next_token(rest);
	if (is_word(&t, "show") && peek_token(*rest).kind == TOKEN_WORD)
		t = next_token(rest);
	if (t.kind == TOKEN_WORD && (!take_text(&t, out->value, sizeof(out->value)) ||
				     (find_show(out->value) < 0 && find_command(out->value) < 0)))
		return syntax_error(text, e);
	return expect_end(rest, text, e);
}

static bool parse_shown(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	struct token t = next_token(rest);

	if (t.kind != TOKEN_WORD)
		return syntax_error(text, e);
	if (!take_text(&t, out->word, sizeof(out->word)))
		return err_set(e, "08P01", "bad arguments");
	out->show = find_show(out->word);
	out->fake = find_fake(out->word);
	if (out->show < 0 && out->fake < 0)
		return syntax_error(text, e);
	return out->show == SHOW_route  ? parse_route(rest, out, text, e)
	       : out->show == SHOW_help ? parse_help(rest, out, text, e)
					: parse_view(rest, out, text, e);
}

static bool parse_argument(struct slice *rest, struct command *out, struct slice text,
			   struct err *e)
{
	enum argument argument = command_specs[out->id].argument;
	struct token t = next_token(rest);

	if (t.kind == TOKEN_WORD) {
		if (argument == ARGUMENT_NONE)
			return syntax_error(text, e);
		if (!take_text(&t, out->word, sizeof(out->word)))
			return err_set(e, "08P01", "bad arguments");
		t = next_token(rest);
	}
	if (!is_end(t, rest))
		return syntax_error(text, e);
	if (argument == ARGUMENT_DATABASE && !*out->word)
		return err_set(e, "08P01", "a database is required");
	return true;
}

/* What stands behind the verb. */
static bool parse_rest(struct slice *rest, struct command *out, struct slice text, struct err *e)
{
	switch (command_specs[out->id].argument) {
	case ARGUMENT_SHOWN:
		return parse_shown(rest, out, text, e);
	case ARGUMENT_SETTING:
		return parse_setting(rest, out, text, e);
	case ARGUMENT_TENANT_SETTING:
		return parse_reset(rest, out, text, e);
	case ARGUMENT_SWITCH:
		return parse_switch(rest, out, text, e);
	case ARGUMENT_OWNER:
		return parse_owner(rest, out, text, e) && expect_end(rest, text, e);
	case ARGUMENT_DATABASE_OR_TENANT:
		if (is_tenant_next(*rest))
			return parse_tenant(rest, out, text, e) && expect_end(rest, text, e);
		return parse_argument(rest, out, text, e);
	default:
		return parse_argument(rest, out, text, e);
	}
}

bool command_parse(struct slice text, struct command *out, struct err *e)
{
	struct slice rest = text;
	struct token verb = next_token(&rest);

	*out = (struct command){ .show = -1, .fake = -1 };
	if (verb.kind == TOKEN_END || verb.kind == TOKEN_SEMICOLON) {
		out->is_empty = is_end(verb, &rest);
		return out->is_empty || syntax_error(text, e);
	}
	for (unsigned i = 0; i < NCOMMANDS; i++) {
		if (!is_word(&verb, command_specs[i].verb))
			continue;
		out->id = (enum command_id)i;
		return parse_rest(&rest, out, text, e);
	}
	return syntax_error(text, e);
}

enum access command_access(const struct command *cmd)
{
	if (cmd->is_empty || cmd->fake >= 0)
		return ACCESS_STATS;
	if (cmd->show >= 0)
		return show_specs[cmd->show].access;
	return command_specs[cmd->id].access;
}
