/* SPDX-License-Identifier: ISC
 *
 * hba.c - who may come from where, and how it proves who it is: pg_hba.conf's rules.
 *
 * Knows rules, no sockets, no TLS and no secrets.  Fuzzed by test/fuzz/fuzz_hba.c.
 */
#include "auth/hba.h"

#include "auth/fields.h"
#include "auth/missing.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* @files within @files. */
#define DEPTH_MAX 10

enum conn_kind { CONN_LOCAL, CONN_HOST, CONN_HOSTSSL, CONN_HOSTNOSSL, CONN_NEVER };
enum name_kind { NAME_TEXT, NAME_ALL, NAME_SAMEUSER, NAME_REPLICATION };

struct name {
	enum name_kind kind;
	char *text; /* of NAME_TEXT; else NULL */
};

struct names {
	struct name *items;
	size_t n;
};

struct rule {
	struct hba_rule told;
	enum conn_kind kind;
	struct names databases, users;
	struct network where;
	char *map, *pam_service;
	struct directory *directory;
};

struct hba {
	struct rule *rules;
	size_t n;
};

/* Of one file. */
struct parser {
	const struct hba_reader *reader;
	const char *file;
	int line;
	unsigned nfaults;
};

static void complain(struct parser *p, const char *text)
{
	p->nfaults++;
	p->reader->complain(p->reader->arg, p->file, p->line, text);
}

static void complain_about(struct parser *p, const char *what, const char *fault)
{
	struct err e;

	err_set(&e, "F0000", "%.100s: %s", what, fault);
	complain(p, e.text);
}

/* ---- names ------------------------------------------------------------------------------------
 */

static void add_name(struct names *names, enum name_kind kind, const char *text)
{
	/* A file may have many: there is room for as many as the next power of two. */
	if (!(names->n & (names->n - 1)))
		names->items =
		    xrealloc(names->items, (names->n ? 2 * names->n : 1) * sizeof(*names->items));
	names->items[names->n++] = (struct name){ kind, text ? xstrdup(text) : NULL };
}

static void free_names(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i].text);
	free(names->items);
}

static void take_name(struct parser *p, const struct word *word, bool is_database, unsigned depth,
		      struct names *names);

/* The words of a file are names as those of a field are. */
static void take_names_of(struct parser *p, struct slice text, const char *file, bool is_database,
			  unsigned depth, struct names *names)
{
	struct parser inner = { .reader = p->reader, .file = file };
	struct fields fields;
	const char *fault;

	while (fields_next(&text, &inner.line, &fields, &fault)) {
		if (fault)
			complain(&inner, fault);
		for (size_t i = 0; !fault && i < fields.n; i++)
			for (size_t w = 0; w < fields.at[i].n; w++)
				take_name(&inner, &fields.at[i].words[w], is_database, depth,
					  names);
		fields_fini(&fields);
	}
	p->nfaults += inner.nfaults;
}

/* Beside the file that names it, unless its path is absolute. */
static char *path_beside(const char *file, const char *name)
{
	const char *slash = strrchr(file, '/');
	struct buf path = { 0 };
	char *made;

	if (*name != '/' && slash)
		buf_put(&path, file, (size_t)(slash - file) + 1);
	buf_put(&path, name, strlen(name));
	made = xmemdup0(buf_head(&path), buf_len(&path));
	buf_fini(&path);
	return made;
}

static void take_file(struct parser *p, const char *name, bool is_database, unsigned depth,
		      struct names *names)
{
	struct buf text = { 0 };
	struct err e;
	char *path;

	if (depth == DEPTH_MAX) {
		complain_about(p, name, "files that name files, too deep");
		return;
	}
	path = path_beside(p->file, name);
	if (p->reader->read(p->reader->arg, path, &text, &e))
		take_names_of(p, buf_peek(&text), path, is_database, depth + 1, names);
	else
		complain_about(p, path, e.text);
	buf_fini(&text);
	free(path);
}

static const char *const group_words[] = { "samerole", "samegroup" };

/* NULL, or why a word is no name for us. */
static const char *fault_of(const struct word *word, bool is_database)
{
	/* To PostgreSQL it is one in quotes, too. */
	if (word->text[0] == '/')
		return "a regular expression is not supported here";
	if (word->is_quoted)
		return NULL;
	if (word->text[0] == '+')
		return "groups are not supported: who is in one is known to the server only; list "
		       "the users, or write @file";
	for (size_t i = 0; is_database && i < PGT_NELEMS(group_words); i++)
		if (word_is(word, group_words[i]))
			return "not supported: who is in a group is known to the server only";
	return NULL;
}

static void take_name(struct parser *p, const struct word *word, bool is_database, unsigned depth,
		      struct names *names)
{
	const char *fault = fault_of(word, is_database);

	if (fault)
		complain_about(p, word->text, fault);
	else if (!word->is_quoted && word->text[0] == '@' && word->text[1])
		take_file(p, word->text + 1, is_database, depth, names);
	else if (word_is(word, "all"))
		add_name(names, NAME_ALL, NULL);
	else if (is_database && word_is(word, "sameuser"))
		add_name(names, NAME_SAMEUSER, NULL);
	else if (is_database && word_is(word, "replication"))
		add_name(names, NAME_REPLICATION, NULL);
	else
		add_name(names, NAME_TEXT, word->text);
}

static void take_names(struct parser *p, const struct field *field, bool is_database,
		       struct names *names)
{
	for (size_t i = 0; i < field->n; i++)
		take_name(p, &field->words[i], is_database, 0, names);
}

static bool is_said(const char *text, const struct hba_who *who, bool is_database)
{
	if (!is_database)
		return !strcmp(text, who->user);
	return !strcmp(text, who->database) || (who->also && !strcmp(text, who->also));
}

static bool is_among(const struct names *names, const struct hba_who *who, bool is_database)
{
	for (size_t i = 0; i < names->n; i++) {
		const struct name *name = &names->items[i];

		/* It has no database, whatever it says. */
		if (is_database && who->is_physical) {
			if (name->kind == NAME_REPLICATION)
				return true;
		} else if (name->kind == NAME_ALL ||
			   (name->kind == NAME_SAMEUSER && !strcmp(who->database, who->user)) ||
			   (name->kind == NAME_TEXT && is_said(name->text, who, is_database))) {
			return true;
		}
	}
	return false;
}

/* ---- addresses --------------------------------------------------------------------------------
 */

/* Takes one field or two; *next is behind them. */
static bool take_net(struct parser *p, const struct fields *f, size_t *next, struct rule *rule)
{
	const char *text = f->at[*next].words[0].text, *fault;
	bool has_bits;

	fault = network_read_address(slice_str(text), &rule->where, &has_bits);
	if (!fault && !has_bits &&
	    (++*next >= f->n || f->at[*next].n != 1 ||
	     !network_read_mask(f->at[*next].words[0].text, &rule->where)))
		fault = "behind the address has to stand /bits or a mask";
	++*next;
	if (fault)
		complain_about(p, text, fault);
	return !fault;
}

static bool take_where(struct parser *p, const struct fields *f, size_t *next, struct rule *rule)
{
	const struct word *word;

	if (*next >= f->n || f->at[*next].n != 1) {
		complain(p, "one address is missing: CIDR, address and mask, all, samehost or "
			    "samenet");
		return false;
	}
	word = &f->at[*next].words[0];
	/* There are lines of their own for Unix sockets. */
	if (!word->is_quoted && network_read_word(slice_str(word->text), &rule->where) &&
	    rule->where.kind != NETWORK_LOCAL) {
		++*next;
		return true;
	}
	return take_net(p, f, next, rule);
}

/* ---- methods ----------------------------------------------------------------------------------
 */

static const struct method {
	const char *word;
	enum hba_method method;
	bool needs_local, needs_tls;
	const char *missing; /* why it is not there, or NULL */
} methods[] = {
	{"trust",          HBA_TRUST,    false, false, NULL        },
	{ "reject",        HBA_REJECT,   false, false, NULL        },
	{ "password",      HBA_PASSWORD, false, false, NULL        },
	{ "plain",         HBA_PASSWORD, false, false, NULL        },
	{ "md5",           HBA_MD5,      false, false, NULL        },
	{ "scram-sha-256", HBA_SCRAM,    false, false, NULL        },
	{ "cert",          HBA_CERT,     false, true,  NULL        },
	{ "peer",          HBA_PEER,     true,  false, NULL        },
	{ "ident",         HBA_PEER,     true,  false, NULL        },
	{ "pam",           HBA_PAM,      false, false, PAM_MISSING },
	{ "jwt",           HBA_JWT,      false, false, NULL        },
	{ "ldap",          HBA_LDAP,     false, false, LDAP_MISSING},
};

static void take_method(struct parser *p, const struct fields *f, size_t *next, struct rule *rule)
{
	const struct field *field = &f->at[*next];

	if (*next >= f->n || field->n != 1) {
		complain(p, "one method is missing: trust, reject, password, md5, scram-sha-256, "
			    "cert, peer, pam, ldap or jwt");
		return;
	}
	++*next;
	for (size_t i = 0; i < PGT_NELEMS(methods); i++) {
		const struct method *m = &methods[i];

		if (strcmp(m->word, field->words[0].text) != 0)
			continue;
		rule->told.method = m->method;
		if (m->method == HBA_LDAP)
			rule->directory = xnew(struct directory);
		if (m->missing)
			complain_about(p, m->word, m->missing);
		if (m->needs_local && rule->kind != CONN_LOCAL)
			complain_about(p, m->word, "for local lines only");
		if (m->needs_tls && rule->kind != CONN_HOSTSSL)
			complain_about(p, m->word, "for hostssl lines only");
		return;
	}
	complain_about(p, field->words[0].text,
		       "there is no such method here: use trust, reject, password, md5, "
		       "scram-sha-256, cert, peer, pam, ldap or jwt");
}

static const char *take_map(struct rule *rule, const char *value)
{
	if (rule->told.method != HBA_CERT && rule->told.method != HBA_PEER &&
	    rule->told.method != HBA_JWT && rule->told.clientcert != CLIENTCERT_VERIFY_FULL)
		return "map= is for cert, peer, jwt, and behind clientcert=verify-full";
	free(rule->map);
	rule->map = xstrdup(value);
	return NULL;
}

static const char *take_clientcert(struct rule *rule, const char *value)
{
	if (rule->kind != CONN_HOSTSSL)
		return "clientcert= is for hostssl lines only";
	if (!strcmp(value, "verify-full"))
		rule->told.clientcert = CLIENTCERT_VERIFY_FULL;
	else if (!strcmp(value, "verify-ca") && rule->told.method != HBA_CERT)
		rule->told.clientcert = CLIENTCERT_VERIFY_CA;
	else
		return "clientcert= is verify-ca or verify-full, with cert the latter";
	return NULL;
}

static const char *take_clientname(struct rule *rule, const char *value)
{
	if (rule->kind != CONN_HOSTSSL || strcmp(value, "CN") != 0)
		return "clientname= is for hostssl lines only, and CN";
	return NULL;
}

static const char *take_pam_service(struct rule *rule, const char *value)
{
	if (rule->told.method != HBA_PAM || !*value || strchr(value, '/'))
		return "pamservice= is for pam, and the name of a file in /etc/pam.d";
	free(rule->pam_service);
	rule->pam_service = xstrdup(value);
	return NULL;
}

static const char *take_pam_hostname(struct rule *rule, const char *value)
{
	if (rule->told.method != HBA_PAM || strcmp(value, "0") != 0)
		return "pam_use_hostname= is for pam, and 0: names of hosts are not looked up";
	return NULL;
}

/* It may have a secret as its value, misspelt or not. */
static void complain_about_option(struct parser *p, const char *option, const char *fault)
{
	char *name = xmemdup0(option, strcspn(option, "="));

	complain_about(p, name, fault);
	free(name);
}

static void take_directory_option(struct parser *p, const char *option, struct rule *rule)
{
	const char *fault;

	if (rule->told.method != HBA_LDAP) {
		complain_about_option(p, option, "is for ldap");
		return;
	}
	fault = directory_take(rule->directory, option);
	if (fault)
		complain(p, fault);
}

static void take_option(struct parser *p, const struct word *word, struct rule *rule)
{
	static const struct {
		const char *name;
		const char *(*take)(struct rule *rule, const char *value);
	} options[] = {
		{"map=",               take_map         },
		{ "clientcert=",       take_clientcert  },
		{ "clientname=",       take_clientname  },
		{ "pamservice=",       take_pam_service },
		{ "pam_use_hostname=", take_pam_hostname},
	};

	for (size_t i = 0; i < PGT_NELEMS(options); i++) {
		size_t n = strlen(options[i].name);
		const char *fault;

		if (strncmp(word->text, options[i].name, n) != 0)
			continue;
		fault = options[i].take(rule, word->text + n);
		if (fault)
			complain(p, fault);
		return;
	}
	if (directory_has_option(word->text))
		take_directory_option(p, word->text, rule);
	else
		complain_about_option(p, word->text, "there is no such option here");
}

/* What can be said only when all options are known. */
static void check_rule(struct parser *p, const struct rule *rule)
{
	const char *fault = rule->directory ? directory_check(rule->directory) : NULL;

	if (fault)
		complain(p, fault);
}

/* ---- lines ------------------------------------------------------------------------------------
 */

static bool take_kind(struct parser *p, const struct field *field, struct rule *rule)
{
	static const struct {
		const char *word;
		enum conn_kind kind;
	} words[] = {
		{"local",         CONN_LOCAL    },
                { "host",         CONN_HOST     },
		{ "hostssl",      CONN_HOSTSSL  },
                { "hostnossl",    CONN_HOSTNOSSL},
		{ "hostgssenc",   CONN_NEVER    },
                { "hostnogssenc", CONN_HOST     },
	};

	for (size_t i = 0; i < PGT_NELEMS(words); i++)
		if (field_is(field, words[i].word)) {
			rule->kind = words[i].kind;
			return true;
		}
	if (!strncmp(field->words[0].text, "include", 7))
		complain_about(p, field->words[0].text, "not supported: write the lines here");
	else
		complain_about(p, field->words[0].text,
			       "a line begins with local, host, hostssl or hostnossl");
	return false;
}

static void take_rule(struct parser *p, const struct fields *f, struct rule *rule)
{
	unsigned before = p->nfaults;
	size_t next = 3;

	if (!take_kind(p, &f->at[0], rule))
		return;
	if (f->n < 3) {
		complain(p, "behind the kind of connection stand databases and users");
		return;
	}
	take_names(p, &f->at[1], true, &rule->databases);
	take_names(p, &f->at[2], false, &rule->users);
	if (rule->kind != CONN_LOCAL && !take_where(p, f, &next, rule))
		return;
	take_method(p, f, &next, rule);
	for (; next < f->n; next++)
		for (size_t w = 0; w < f->at[next].n; w++)
			take_option(p, &f->at[next].words[w], rule);
	if (p->nfaults == before)
		check_rule(p, rule);
}

static void free_rule(struct rule *rule)
{
	free_names(&rule->databases);
	free_names(&rule->users);
	free(rule->map);
	free(rule->pam_service);
	directory_free(rule->directory);
}

struct hba *hba_parse(struct slice text, const char *file, const struct hba_reader *reader)
{
	struct hba *hba = xnew(struct hba);
	struct parser p = { .reader = reader, .file = file };
	struct fields fields;
	const char *fault;
	int line = 0;

	while (fields_next(&text, &line, &fields, &fault)) {
		struct rule rule = { .told.line = fields.line };
		unsigned before = p.nfaults;

		p.line = fields.line;
		if (fault)
			complain(&p, fault);
		else
			take_rule(&p, &fields, &rule);
		fields_fini(&fields);
		if (p.nfaults > before) {
			free_rule(&rule);
			continue;
		}
		rule.told.map = rule.map;
		rule.told.pam_service = rule.pam_service;
		rule.told.directory = rule.directory;
		hba->rules = xrealloc(hba->rules, (hba->n + 1) * sizeof(*hba->rules));
		hba->rules[hba->n++] = rule;
	}
	return hba;
}

void hba_free(struct hba *hba)
{
	if (!hba)
		return;
	for (size_t i = 0; i < hba->n; i++)
		free_rule(&hba->rules[i]);
	free(hba->rules);
	free(hba);
}

static bool is_kind(enum conn_kind kind, const struct hba_who *who)
{
	switch (kind) {
	case CONN_LOCAL:
		return who->from.is_local;
	case CONN_HOST:
		return !who->from.is_local;
	case CONN_HOSTSSL:
		return !who->from.is_local && who->is_tls;
	case CONN_HOSTNOSSL:
		return !who->from.is_local && !who->is_tls;
	case CONN_NEVER:
		break;
	}
	return false;
}

const struct hba_rule *hba_find(const struct hba *hba, const struct hba_who *who)
{
	for (size_t i = 0; i < hba->n; i++) {
		const struct rule *rule = &hba->rules[i];

		if (is_kind(rule->kind, who) && is_among(&rule->databases, who, true) &&
		    is_among(&rule->users, who, false) &&
		    (who->from.is_local || network_has(&rule->where, &who->from)))
			return &rule->told;
	}
	return NULL;
}

int hba_wants_certificate(const struct hba *hba)
{
	for (size_t i = 0; i < hba->n; i++)
		if (hba->rules[i].told.method == HBA_CERT ||
		    hba->rules[i].told.clientcert != CLIENTCERT_NO)
			return hba->rules[i].told.line;
	return 0;
}

bool hba_has(const struct hba *hba, enum hba_method method)
{
	for (size_t i = 0; i < hba->n; i++)
		if (hba->rules[i].told.method == method)
			return true;
	return false;
}

bool hba_asks_others(const struct hba *hba)
{
	return hba_has(hba, HBA_PAM) || hba_has(hba, HBA_JWT) || hba_has(hba, HBA_LDAP);
}
