/* SPDX-License-Identifier: ISC
 *
 * describe.c - settings.def as a page and as a sample file.
 *
 * docs/settings.md and etc/pgturnstile.ini are this, verbatim; the unit test compares.
 */
#include "config/config.h"

/* A row of settings.def: a chapter's head, or a setting. */
struct row {
	const char *title;
	const char *text;
	const struct setting *setting;
};

static const struct row rows[] = {
#define GROUP(t, x)        { .title = t, .text = x },
#define X(type, name, ...) { .setting = &settings_table[SETTING_##name] },
#include "config/settings.def"
#undef X
#undef GROUP
};

static const struct {
	enum setting_scope scope;
	const char *section;
} places[] = {
	{SCOPE_GLOBAL,    "pgturnstile"},
        { SCOPE_DATABASE, "databases"  },
        { SCOPE_USER,     "users"      },
	{ SCOPE_TIER,     "tiers"      },
        { SCOPE_TENANT,   "tenants"    },
        { SCOPE_LANE,     "lanes"      },
};

static const char *const when_words[] = {
	[AT_START] = "at start",
	[AT_RELOAD] = "at reload",
	[AT_NEXT_CONN] = "with the next connection",
};

/* "[pgturnstile], [databases] as `pool_size`" */
static void put_places(struct buf *out, const struct setting *s)
{
	const char *comma = "";

	for (size_t i = 0; i < PGT_NELEMS(places); i++) {
		struct slice name;

		if (!(s->scopes & places[i].scope))
			continue;
		name = setting_name(s, places[i].scope);
		buf_printf(out, "%s[%s]", comma, places[i].section);
		if (!slice_is_equal(name, slice_str(s->name)))
			buf_printf(out, " as `%.*s`", SLICE_FMT(name));
		comma = ", ";
	}
}

/* The name that heads a setting's entry: the one it has where it stands first. */
static struct slice heading(const struct setting *s)
{
	for (size_t i = 0; i < PGT_NELEMS(places); i++)
		if (s->scopes & places[i].scope)
			return setting_name(s, places[i].scope);
	return slice_str(s->name);
}

static void put_markdown(struct buf *out, const struct setting *s)
{
	buf_printf(out, "\n### %.*s\n\n%s%s\n\n", SLICE_FMT(heading(s)), s->doc,
		   s->status == LATER ? " **Read, but without effect in this version.**" : "");
	buf_printf(out, "- Value: %s\n", s->type->syntax);
	if (*s->dflt)
		buf_printf(out, "- Default: `%s`\n", s->dflt);
	else
		buf_printf(out, "- Default: not set\n");
	buf_printf(out, "- In: ");
	put_places(out, s);
	buf_printf(out, "\n- A change takes effect: %s\n", when_words[s->when]);
}

static const char head[] =
    "# Settings\n\n"
    "Made by `pgturnstile --describe=settings` from include/config/settings.def; do not edit.\n\n"
    "The file has the sections `[pgturnstile]` (`[pgbouncer]` is the same), `[databases]`, "
    "`[users]`, `[tiers]`, `[tenants]`, `[lanes]` and `[peers]`, and `%include FILE`. A comment is "
    "a line "
    "that begins with `;` or `#`. A duration without a unit is in seconds, a size in bytes. An "
    "unknown name is an error.\n\n"
    "An entry of the other sections is `name = key=value key='value with spaces'`:\n\n"
    "    [databases]\n"
    "    shop = host=10.0.0.5,10.0.0.6 port=5432 dbname=shop pool_size=20\n\n"
    "    [tiers]\n"
    "    standard = statement_timeout=15s rate=20/s quota=1000/h max_client_conn=20\n\n"
    "    [tenants]\n"
    "    acme = tier=standard business_id=42 user=acme_app,acme_jobs\n\n"
    "    [lanes]\n"
    "    reports = nodes=10.0.0.7:5432 pool_size=4 statement_timeout=60s\n\n"
    "Besides the settings below, a database has `host` and `port` (a list of each, or one port "
    "for all hosts), `node_weight` (in the same form, 0 to 1000: a node's share of the reads, 0: "
    "it "
    "gets none) and `node_zone` (where it stands, see `zone`), `dbname`, `user`, `password`, "
    "`client_encoding`, `datestyle`, `timezone`, "
    "`application_name` and `connect_query`; a tenant has `tier`, `business_id`, and the lists "
    "`user` and `database` of names that it is known by (its own name without them); a lane has "
    "`nodes`, a list of `host:port` (of the databases' nodes; a host alone is all of its ports), "
    "and "
    "`reserved` (`yes`: reads that are in no lane do not go to these nodes).\n\n"
    "A user's value counts before the database's, and that before the one of `[pgturnstile]`; a "
    "tenant's counts before its tier's, and that before all others.\n";

void config_describe_settings_markdown(struct buf *out)
{
	buf_put_slice(out, slice_str(head));
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		if (rows[i].setting)
			put_markdown(out, rows[i].setting);
		else
			buf_printf(out, "\n## %s\n%s%s%s", rows[i].title, *rows[i].text ? "\n" : "",
				   rows[i].text, *rows[i].text ? "\n" : "");
	}
}

/* A text as comment lines of at most 90 columns. */
static void put_comment(struct buf *out, const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > 90) {
			buf_put_u8(out, '\n');
			column = 0;
		}
		buf_put_slice(out, column ? SLICE(" ") : SLICE(";; "));
		buf_put(out, text, n);
		column += n + (column ? 1 : 3);
		text += n + strspn(text + n, " ");
	}
	buf_put_u8(out, '\n');
}

static const char sample[] =
    ";; Made by `pgturnstile --describe=ini` from include/config/settings.def; do not edit.\n"
    ";;\n"
    ";; A comment begins its line.  Commented settings show the default.\n\n"
    "[databases]\n"
    ";shop = host=10.0.0.5,10.0.0.6 port=5432 dbname=shop pool_size=20\n"
    ";* = host=127.0.0.1\n\n"
    "[users]\n"
    ";app = pool_mode=transaction max_user_connections=50\n\n"
    "[tiers]\n"
    ";enterprise = statement_timeout=60s rate=1000/s burst=2000\n"
    ";standard = statement_timeout=15s rate=20/s quota=1000/h max_client_conn=20\n\n"
    "[tenants]\n"
    ";acme = tier=enterprise business_id=42\n"
    ";globex = tier=standard business_id=7\n\n"
    "[lanes]\n"
    ";reports = nodes=10.0.0.6:5432 pool_size=4 statement_timeout=60s\n\n"
    "[pgturnstile]\n";

void config_describe_settings_ini(struct buf *out)
{
	buf_put_slice(out, slice_str(sample));
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		const struct setting *s = rows[i].setting;

		if (!s) {
			buf_printf(out, "\n;;; %s\n", rows[i].title);
		} else if (s->scopes & SCOPE_GLOBAL) {
			buf_put_u8(out, '\n');
			put_comment(out, s->doc);
			buf_printf(out, ";%s =%s%s\n", s->name, *s->dflt ? " " : "", s->dflt);
		}
	}
}
