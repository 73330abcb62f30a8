/* SPDX-License-Identifier: ISC
 *
 * directory.c - what an LDAP directory is asked to find out whether a password is right.
 *
 * A user's name comes from whoever wants to be that one: it stands in a name or a filter in such a
 * way that none of its characters means anything there.  Fuzzed by test/fuzz/fuzz_hba.c.
 */
#include "auth/directory.h"

#include "auth/fields.h"
#include "base/buf.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define USERNAME "$username"

static char *take_text(struct buf *b)
{
	char *text = xmemdup0(buf_peek(b).p, buf_len(b));

	buf_fini(b);
	return text;
}

static void put_text(struct buf *b, const char *text)
{
	buf_put(b, text, strlen(text));
}

static void forget(char **secret)
{
	if (*secret)
		mem_wipe(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

static void replace(char **at, char *made)
{
	forget(at);
	*at = made;
}

/* ---- options ----------------------------------------------------------------------------------
 */

static bool is_host(const char *text, size_t n)
{
	unsigned colons = 0;

	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr(".-_:[]", text[i]))
			return false;
		colons += text[i] == ':';
	}
	/* With one, what follows would be a port. */
	return n && colons != 1;
}

static const char *take_servers(struct directory *d, const char *value)
{
	const char *at = value + strspn(value, " ");
	size_t n;

	for (; *at; at += n + strspn(at + n, " ")) {
		n = strcspn(at, " ");
		if (!is_host(at, n))
			return "ldapserver= is names or addresses of hosts, with blanks between; "
			       "the port is ldapport=";
	}
	replace(&d->servers, xstrdup(value + strspn(value, " ")));
	return NULL;
}

static const char *take_port(struct directory *d, const char *value)
{
	char *end;
	unsigned long port = strtoul(value, &end, 10);

	if (!isdigit((unsigned char)*value) || *end || port < 1 || port > 65535)
		return "ldapport= is a number from 1 to 65535";
	d->port = (unsigned)port;
	return NULL;
}

static const char *take_scheme(struct directory *d, const char *value)
{
	d->is_ldaps = !strcmp(value, "ldaps");
	return d->is_ldaps || !strcmp(value, "ldap") ? NULL : "ldapscheme= is ldap or ldaps";
}

static const char *take_tls(struct directory *d, const char *value)
{
	d->starts_tls = !strcmp(value, "1");
	return d->starts_tls || !strcmp(value, "0") ? NULL : "ldaptls= is 1 or 0";
}

static const char *take_prefix(struct directory *d, const char *value)
{
	replace(&d->prefix, xstrdup(value));
	return NULL;
}

static const char *take_suffix(struct directory *d, const char *value)
{
	replace(&d->suffix, xstrdup(value));
	return NULL;
}

static const char *take_base(struct directory *d, const char *value)
{
	replace(&d->base, xstrdup(value));
	return NULL;
}

static const char *take_bind_name(struct directory *d, const char *value)
{
	replace(&d->bind_name, xstrdup(value));
	return NULL;
}

static const char *take_bind_secret(struct directory *d, const char *value)
{
	replace(&d->bind_secret, xstrdup(value));
	return NULL;
}

static const char *take_attribute(struct directory *d, const char *value)
{
	for (const char *c = value; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-.;", *c))
			return "ldapsearchattribute= is the name of an attribute";
	if (!*value)
		return "ldapsearchattribute= is the name of an attribute";
	replace(&d->attribute, xstrdup(value));
	return NULL;
}

static const char *take_filter(struct directory *d, const char *value)
{
	/* Everybody would be the same entry. */
	if (!strstr(value, USERNAME))
		return "ldapsearchfilter= has to have " USERNAME " in it";
	replace(&d->filter, xstrdup(value));
	return NULL;
}

/* ---- URLs -------------------------------------------------------------------------------------
 */

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Up to one of `ends`, or the end; *at is behind it then.  NULL: %.. makes no sense. */
static char *take_part(const char **at, const char *ends)
{
	size_t n = strcspn(*at, ends);
	struct buf made = { 0 };

	for (size_t i = 0; i < n; i++) {
		const char *c = *at + i;
		int high, low;

		if (*c != '%') {
			buf_put_u8(&made, (uint8_t)*c);
			continue;
		}
		high = i + 2 < n ? hex_value(c[1]) : -1;
		low = i + 2 < n ? hex_value(c[2]) : -1;
		if (high < 0 || low < 0 || high + low == 0) {
			buf_fini(&made);
			return NULL;
		}
		buf_put_u8(&made, (uint8_t)(high << 4 | low));
		i += 2;
	}
	*at += n;
	*at += **at != '\0';
	return take_text(&made);
}

static const char *take_scope(struct directory *d, const char *value)
{
	if (!*value || !strcmp(value, "base"))
		d->scope = DIRECTORY_BASE;
	else if (!strcmp(value, "one"))
		d->scope = DIRECTORY_ONE;
	else if (!strcmp(value, "sub"))
		d->scope = DIRECTORY_SUBTREE;
	else
		return "ldapurl=: the scope is base, one or sub";
	return NULL;
}

/* Of several, the first, as PostgreSQL does. */
static const char *take_attributes(struct directory *d, char *value)
{
	value[strcspn(value, ",")] = '\0';
	return *value ? take_attribute(d, value) : NULL;
}

static const char *take_url_filter(struct directory *d, const char *value)
{
	return *value ? take_filter(d, value) : NULL;
}

static const char *take_host(struct directory *d, const char *url, size_t n)
{
	const char *bracket = memchr(url, ']', n);
	const char *from = bracket ? bracket : url;
	const char *colon = memchr(from, ':', n - (size_t)(from - url));
	size_t host_n = colon ? (size_t)(colon - url) : n;
	const char *fault = NULL;
	char *text;

	if (colon) {
		text = xmemdup0(colon + 1, n - host_n - 1);
		fault = take_port(d, text);
		free(text);
	}
	if (host_n && !fault) {
		text = xmemdup0(url, host_n);
		fault =
		    strchr(text, ' ') ? "ldapurl=: a host has no blanks" : take_servers(d, text);
		free(text);
	}
	return fault;
}

/* Behind the host: /base?attributes?scope?filter. */
static const char *take_search(struct directory *d, const char *at)
{
	char *parts[4] = { NULL };
	const char *fault = NULL;

	for (size_t i = 0; i < PGT_NELEMS(parts) && !fault; i++) {
		parts[i] = take_part(&at, "?");
		if (!parts[i])
			fault = "ldapurl=: %.. makes no sense";
	}
	if (!fault && *at)
		fault = "ldapurl=: extensions are not supported";
	if (!fault)
		fault = take_base(d, parts[0]);
	if (!fault)
		fault = take_attributes(d, parts[1]);
	if (!fault)
		fault = take_scope(d, parts[2]);
	if (!fault)
		fault = take_url_filter(d, parts[3]);
	for (size_t i = 0; i < PGT_NELEMS(parts); i++)
		free(parts[i]);
	return fault;
}

static const char *take_url(struct directory *d, const char *url)
{
	const char *fault;
	size_t n;

	d->is_ldaps = !strncasecmp(url, "ldaps://", 8);
	if (!d->is_ldaps && strncasecmp(url, "ldap://", 7) != 0)
		return "ldapurl= begins with ldap:// or ldaps://";
	url += d->is_ldaps ? 8 : 7;
	n = strcspn(url, "/?");
	fault = take_host(d, url, n);
	if (fault)
		return fault;
	url += n;
	return take_search(d, url + (*url == '/'));
}

static const struct option {
	const char *name; /* with = */
	const char *(*take)(struct directory *d, const char *value);
} options[] = {
	{"ldapserver=",           take_servers    },
	{ "ldapport=",            take_port       },
	{ "ldapscheme=",          take_scheme     },
	{ "ldaptls=",             take_tls        },
	{ "ldapprefix=",          take_prefix     },
	{ "ldapsuffix=",          take_suffix     },
	{ "ldapbasedn=",          take_base       },
	{ "ldapbinddn=",          take_bind_name  },
	{ "ldapbindpasswd=",      take_bind_secret},
	{ "ldapsearchattribute=", take_attribute  },
	{ "ldapsearchfilter=",    take_filter     },
	{ "ldapurl=",             take_url        },
};

static const struct option *option_find(const char *text)
{
	for (size_t i = 0; i < PGT_NELEMS(options); i++)
		if (!strncmp(text, options[i].name, strlen(options[i].name)))
			return &options[i];
	return NULL;
}

bool directory_has_option(const char *option)
{
	return option_find(option) != NULL;
}

const char *directory_take(struct directory *d, const char *option)
{
	const struct option *o = option_find(option);

	return o ? o->take(d, option + strlen(o->name)) : "there is no such option of ldap";
}

/* ---- all of them together ---------------------------------------------------------------------
 */

const char *directory_check(const struct directory *d)
{
	bool is_simple = d->prefix || d->suffix;

	if (!d->servers || !*d->servers)
		return "ldap needs ldapserver=, or a host in ldapurl=: servers are not looked for "
		       "in DNS";
	if (d->is_ldaps && d->starts_tls)
		return "ldaptls=1 is for ldapscheme=ldap: ldaps is TLS from its first byte on";
	if (is_simple && (d->base || d->bind_name || d->bind_secret || d->attribute || d->filter))
		return "ldapprefix= and ldapsuffix= are simple bind; ldapbasedn=, ldapbinddn=, "
		       "ldapbindpasswd=, ldapsearchattribute=, ldapsearchfilter= and ldapurl= are "
		       "search+bind: not both";
	if (!is_simple && !d->base)
		return "ldap needs ldapprefix= or ldapsuffix= (simple bind), or ldapbasedn= "
		       "(search+bind)";
	if (d->attribute && d->filter)
		return "ldapsearchattribute= or ldapsearchfilter=, not both";
	/* It would be searched as nobody. */
	if ((d->bind_name && *d->bind_name) != (d->bind_secret && *d->bind_secret))
		return "ldapbinddn= and ldapbindpasswd= go together";
	return NULL;
}

static const char *take_all(struct directory *d, const struct fields *fields)
{
	const char *fault = NULL;

	for (size_t i = 0; i < fields->n && !fault; i++)
		for (size_t w = 0; w < fields->at[i].n && !fault; w++)
			fault = directory_take(d, fields->at[i].words[w].text);
	return fault;
}

struct directory *directory_parse(struct slice text, const char **fault)
{
	struct directory *d = xnew(struct directory);
	struct fields fields;
	int line = 0;

	*fault = NULL;
	if (fields_next(&text, &line, &fields, fault) && !*fault)
		*fault = take_all(d, &fields);
	fields_fini(&fields);
	if (!*fault)
		*fault = directory_check(d);
	if (!*fault)
		return d;
	directory_free(d);
	return NULL;
}

void directory_fini(struct directory *d)
{
	char **texts[] = { &d->servers,   &d->prefix,      &d->suffix,    &d->base,
			   &d->bind_name, &d->bind_secret, &d->attribute, &d->filter };

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		forget(texts[i]);
}

void directory_free(struct directory *d)
{
	if (d)
		directory_fini(d);
	free(d);
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

bool directory_is_same(const struct directory *a, const struct directory *b)
{
	if (!a || !b)
		return a == b;
	return is_same_text(a->servers, b->servers) && a->port == b->port &&
	       a->is_ldaps == b->is_ldaps && a->starts_tls == b->starts_tls &&
	       is_same_text(a->prefix, b->prefix) && is_same_text(a->suffix, b->suffix) &&
	       is_same_text(a->base, b->base) && is_same_text(a->bind_name, b->bind_name) &&
	       is_same_text(a->bind_secret, b->bind_secret) &&
	       is_same_text(a->attribute, b->attribute) && is_same_text(a->filter, b->filter) &&
	       a->scope == b->scope;
}

/* ---- what is asked ----------------------------------------------------------------------------
 */

bool directory_searches(const struct directory *d)
{
	return d->base != NULL;
}

char *directory_uri(const struct directory *d, unsigned n)
{
	const char *at = d->servers;
	struct buf made = { 0 };
	size_t len;
	bool is_bare;

	for (; n && *at; n--) {
		at += strcspn(at, " ");
		at += strspn(at, " ");
	}
	if (!*at)
		return NULL;
	len = strcspn(at, " ");
	is_bare = memchr(at, ':', len) && *at != '['; /* of IPv6 */
	put_text(&made, d->is_ldaps ? "ldaps://" : "ldap://");
	put_text(&made, is_bare ? "[" : "");
	buf_put(&made, at, len);
	put_text(&made, is_bare ? "]" : "");
	if (d->port) {
		char port[16];

		snprintf(port, sizeof(port), ":%u", d->port);
		put_text(&made, port);
	}
	return take_text(&made);
}

/* Characters that mean nothing to anybody stay as they are. */
static void put_escaped(struct buf *out, const char *text, const char *special)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const char *c = text; *c; c++) {
		uint8_t byte = (uint8_t)*c;

		if (byte >= ' ' && byte < 0x7F && !strchr(special, *c)) {
			buf_put_u8(out, byte);
			continue;
		}
		buf_put_u8(out, '\\');
		buf_put_u8(out, (uint8_t)hex[byte >> 4]);
		buf_put_u8(out, (uint8_t)hex[byte & 15]);
	}
}

/* To a directory, blanks at the ends do not count, and several are one: with them, an entry would
 * have many names. */
static bool is_whole(const char *user)
{
	const uint8_t *name = (const uint8_t *)user;

	for (const uint8_t *c = name; *c; c++)
		if (*c < ' ' || *c == 0x7F || (*c == ' ' && (c == name || c[1] <= ' ')))
			return false;
	return *name;
}

/* Where it is no name of an entry but DOMAIN\user or user@domain, there is no way to say that a
 * character means nothing. */
static bool is_plain(const char *user, bool has_domain)
{
	for (const char *c = user; *c; c++)
		if (*c == ' ' || strchr("\\/\"+,;<>=#", *c) || (*c == '@' && has_domain))
			return false;
	return true;
}

char *directory_name_of(const struct directory *d, const char *user)
{
	const char *prefix = d->prefix ? d->prefix : "", *suffix = d->suffix ? d->suffix : "";
	struct buf made = { 0 };

	if (!is_whole(user))
		return NULL;
	put_text(&made, prefix);
	if (strchr(prefix, '=')) {
		put_escaped(&made, user, "\"#+,;<=>\\");
	} else if (is_plain(user, *prefix || *suffix)) {
		put_text(&made, user);
	} else {
		buf_fini(&made);
		return NULL;
	}
	put_text(&made, suffix);
	return take_text(&made);
}

char *directory_filter_of(const struct directory *d, const char *user)
{
	const char *at = d->filter, *found;
	struct buf made = { 0 };

	if (!is_whole(user))
		return NULL;
	if (!at) {
		buf_put_u8(&made, '(');
		put_text(&made, d->attribute ? d->attribute : "uid");
		buf_put_u8(&made, '=');
		put_escaped(&made, user, "*()\\/");
		buf_put_u8(&made, ')');
		return take_text(&made);
	}
	for (; (found = strstr(at, USERNAME)); at = found + strlen(USERNAME)) {
		buf_put(&made, at, (size_t)(found - at));
		put_escaped(&made, user, "*()\\/");
	}
	put_text(&made, at);
	return take_text(&made);
}
