/* SPDX-License-Identifier: ISC
 *
 * upstream.c - a config from a connection URI alone.
 *
 * Source: PostgreSQL manual, "Connection URIs" and "Environment Variables" (libpq).  What a file
 * would have said is chosen so that nobody gets in who could not connect to the server in the same
 * way: see config.h.
 */
#include "auth/userlist.h"
#include "base/mem.h"
#include "config/build.h"
#include "config/passfile.h"

#include <ctype.h>

static const struct place nowhere;

/* The parts of postgres://user:password@hosts/dbname?params, not decoded yet. */
struct uri {
	struct slice user, password, hosts, dbname, params;
};

/* Takes what stands before the first of `ends` off *rest, and that byte too, which is returned
 * (0 at the end). */
static char take_until(struct slice *rest, const char *ends, struct slice *part)
{
	size_t n = 0;
	char end;

	while (n < rest->n && !strchr(ends, rest->p[n]))
		n++;
	*part = slice_of(rest->p, n);
	end = n < rest->n ? rest->p[n] : '\0';
	*rest = end ? slice_of(rest->p + n + 1, rest->n - n - 1) : slice_of(rest->p + n, 0);
	return end;
}

static bool take_scheme(struct slice *rest)
{
	static const char *const schemes[] = { "postgres://", "postgresql://" };

	for (size_t i = 0; i < PGT_NELEMS(schemes); i++) {
		size_t n = strlen(schemes[i]);

		if (rest->n >= n && memcmp(rest->p, schemes[i], n) == 0) {
			*rest = slice_of(rest->p + n, rest->n - n);
			return true;
		}
	}
	return false;
}

static bool split_uri(struct slice rest, struct uri *uri)
{
	struct slice authority;
	char end;

	*uri = (struct uri){ 0 };
	if (!take_scheme(&rest))
		return false;
	end = take_until(&rest, "/?", &authority);
	if (end == '/')
		end = take_until(&rest, "?", &uri->dbname);
	uri->params = rest;
	if (memchr(authority.p, '@', authority.n)) {
		struct slice login;

		take_until(&authority, "@", &login);
		take_until(&login, ":", &uri->user);
		uri->password = login;
	}
	uri->hosts = authority;
	return true;
}

struct slice config_upstream_secret(const char *text)
{
	struct uri uri;

	if (!split_uri(slice_str(text), &uri) || !uri.password.n)
		return SLICE("");
	return slice_of(uri.password.p - 1, uri.password.n + 1);
}

static int hex_value(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* The text that %-escapes stand for; it belongs to c.  NULL: an escape is broken. */
static const char *decode(struct config *c, struct slice s)
{
	struct buf out = { 0 };
	const char *text = NULL;
	size_t i = 0;

	for (; i < s.n; i++) {
		char byte = s.p[i];

		if (byte == '%') {
			if (s.n - i < 3 || !isxdigit((unsigned char)s.p[i + 1]) ||
			    !isxdigit((unsigned char)s.p[i + 2]))
				break;
			byte = (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2]));
			if (!byte)
				break;
			i += 2;
		}
		buf_put(&out, &byte, 1);
	}
	if (i == s.n)
		text = config_string(c, buf_peek(&out));
	buf_wipe(&out);
	return text;
}

/* Splits host:port, [host]:port; an absent port is empty. */
static void split_host(struct slice at, struct slice *host, struct slice *port)
{
	*port = slice_of("", 0);
	if (at.n && *at.p == '[') {
		at = slice_of(at.p + 1, at.n - 1);
		take_until(&at, "]", host);
		if (at.n && *at.p == ':')
			*port = slice_of(at.p + 1, at.n - 1);
		return;
	}
	take_until(&at, ":", host);
	*port = at;
}

static bool set(struct config *c, enum setting_id id, const char *text, struct config_problems *p)
{
	const struct setting *setting = &settings_table[id];
	struct err e;

	if (setting_parse(setting, text, &c->global, &e))
		return true;
	problem_add(p, nowhere, setting->name, "%s", e.text);
	return false;
}

static void set_nodes(struct config *c, struct slice list, struct config_problems *p)
{
	struct database_conf *d = config_add_database(c, SLICE("*"));
	struct buf hosts = { 0 }, ports = { 0 };
	const char *comma = "";
	struct slice at, host, port;
	struct err e;
	char end;

	do {
		const char *name;

		end = take_until(&list, ",", &at);
		split_host(at, &host, &port);
		name = decode(c, host);
		if (!name || strchr(name, ','))
			problem_add(p, nowhere, "--upstream", "a host name is not well-formed");
		buf_printf(&hosts, "%s%s", comma, name ? name : "");
		buf_printf(&ports, "%s%.*s", comma, SLICE_FMT(port));
		comma = ",";
	} while (end);
	d->dbname = d->user = d->password = d->client_encoding = d->datestyle = "";
	d->timezone = d->application_name = d->connect_query = "";
	if (!config_set_nodes(c, d, buf_cstr(&hosts), buf_cstr(&ports), &e))
		problem_add(p, nowhere, "--upstream", "%s", e.text);
	buf_fini(&hosts);
	buf_fini(&ports);
}

static void set_params(struct config *c, struct slice params, struct config_problems *p)
{
	struct slice pair, key;

	while (params.n) {
		take_until(&params, "&", &pair);
		take_until(&pair, "=", &key);
		if (slice_is_equal(key, SLICE("sslmode")))
			set(c, SETTING_server_tls_sslmode, config_string(c, pair), p);
		else
			problem_add(p, nowhere, "--upstream",
				    "unknown parameter \"%.*s\": only sslmode is", SLICE_FMT(key));
	}
}

static void set_listen(struct config *c, const char *listen, struct config_problems *p)
{
	struct slice host, port;

	split_host(slice_str(listen), &host, &port);
	set(c, SETTING_unix_socket_dir, "", p);
	if (host.n)
		set(c, SETTING_listen_addr, config_string(c, host), p);
	else
		problem_add(p, nowhere, "--listen", "\"%s\" is not address:port", listen);
	if (port.n)
		set(c, SETTING_listen_port, config_string(c, port), p);
}

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 ||
	       strcmp(address, "localhost") == 0;
}

static void put_quoted(struct buf *out, const char *text)
{
	buf_put_u8(out, '"');
	for (; *text; text++) {
		if (*text == '"')
			buf_put_u8(out, '"');
		buf_put(out, text, 1);
	}
	buf_put_u8(out, '"');
}

static void on_userlist_fault(void *arg, const char *file, int line, const char *text)
{
	problem_add(arg, nowhere, "--upstream", "%s", text);
}

/* Of the first node that the file has one for; "": of none. */
static const char *password_of_file(struct config *c, struct slice text, struct passfile_key key)
{
	const struct database_conf *d = config_database_fallback(c);
	struct buf found = { 0 };
	const char *password;
	bool is_found = false;

	for (size_t i = 0; i < d->nnodes && !is_found; i++) {
		key.host = d->nodes[i].host;
		key.port = d->nodes[i].port;
		is_found = passfile_find(text, &key, &found);
	}
	password = config_string(c, buf_peek(&found));
	buf_wipe(&found);
	return password;
}

/* NULL: the file cannot be read (*p). */
static const char *read_passfile(struct config *c, const struct upstream *upstream,
				 const struct passfile_key *key, config_read_file_fn *read,
				 void *arg, struct config_problems *p)
{
	struct buf text = { 0 };
	const char *password = NULL;
	struct err e;

	/* Without it, everyone might log in who is to be asked for the password. */
	if (read(arg, upstream->passfile, true, &text, &e))
		password = password_of_file(c, buf_peek(&text), *key);
	else
		problem_add(p, nowhere, "PGPASSFILE", "%s: %s", upstream->passfile, e.text);
	buf_wipe(&text);
	return password;
}

static bool is_given(const char *text)
{
	return text && *text;
}

/* As libpq finds it.  NULL: *p. */
static const char *find_password(struct config *c, const struct upstream *upstream,
				 const struct uri *uri, const struct passfile_key *key,
				 config_read_file_fn *read, void *arg, struct config_problems *p)
{
	if (uri->password.n)
		return decode(c, uri->password);
	if (is_given(upstream->password))
		return config_string(c, slice_str(upstream->password));
	if (is_given(upstream->passfile))
		return read_passfile(c, upstream, key, read, arg, p);
	return "";
}

/* One user, who is the console's admin. */
static void set_login(struct config *c, const char *user, const char *password,
		      struct config_problems *p)
{
	struct buf list = { 0 };

	if (!*user)
		problem_add(p, nowhere, "--upstream", "names no user: postgres://user@host/db");
	if (!*password && !is_loopback(c->global.listen_addr))
		problem_add(p, nowhere, "--listen",
			    "without a password everyone who reaches %s could log in: listen on "
			    "127.0.0.1, set PGPASSWORD or PGPASSFILE, or write a file",
			    c->global.listen_addr);
	put_quoted(&list, user);
	buf_put_u8(&list, ' ');
	put_quoted(&list, password);
	c->userlist = userlist_parse(buf_peek(&list), "", on_userlist_fault, p);
	buf_wipe(&list);
	set(c, SETTING_auth_type, *password ? "scram-sha-256" : "trust", p);
	set(c, SETTING_admin_users, user, p);
	set(c, SETTING_monitor_user, user, p);
	set(c, SETTING_monitor_password, password, p);
}

/* Who it is for, and what it proves that with. */
static void set_identity(struct config *c, const struct upstream *upstream, const struct uri *uri,
			 config_read_file_fn *read, void *arg, struct config_problems *p)
{
	const char *user = decode(c, uri->user), *dbname = decode(c, uri->dbname), *password;
	unsigned before = p->nerrors;

	if (user && dbname) {
		const struct passfile_key key = { .dbname = *dbname ? dbname : user, .user = user };

		password = find_password(c, upstream, uri, &key, read, arg, p);
		if (password) {
			set(c, SETTING_monitor_dbname, dbname, p);
			set_login(c, user, password, p);
			return;
		}
	}
	if (p->nerrors == before)
		problem_add(p, nowhere, "--upstream", "a %%-escape is broken");
}

struct config *config_from_upstream(const struct upstream *upstream, config_read_file_fn *read,
				    void *arg, struct config_problems *p)
{
	struct config *c = config_new();
	struct uri uri;

	if (split_uri(slice_str(upstream->uri), &uri)) {
		set_listen(c, upstream->listen ? upstream->listen : "127.0.0.1:6432", p);
		set_nodes(c, uri.hosts, p);
		set_params(c, uri.params, p);
		set_identity(c, upstream, &uri, read, arg, p);
	} else {
		problem_add(p, nowhere, "--upstream",
			    "is written postgres://user[:password]@host[:port]/db");
	}
	config_find_clusters(c);
	if (!p->nerrors)
		return c;
	config_unref(c);
	return NULL;
}
