/* SPDX-License-Identifier: ISC
 *
 * types.c - reading and writing the values of settings.
 *
 * What a bare number means, and how a value is shown, is PgBouncer's: seconds, bytes, 0 and 1.
 * Units and everything else come on top.  Knows no setting by name.
 */
#include "config/types.h"

#include "auth/missing.h"
#include "auth/networks.h"
#include "base/log.h"

#include <inttypes.h>
#include <syslog.h>

/* --- helpers -------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool number_parse(struct slice text, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < text.n; i++) {
		unsigned digit = (unsigned char)text.p[i] - '0';

		if (digit > 9 || v > (max - digit) / 10 || digit > max)
			return false;
		v = v * 10 + digit;
	}
	*out = v;
	return text.n > 0;
}

static bool refuse(const struct setting_type *type, const char *text, struct err *e)
{
	return err_set(e, "22023", "\"%s\" is not %s", text, type->syntax);
}

struct unit {
	const char *name;
	uint64_t factor;
};

/* The factor of a unit; of the first row when none is written; 0: there is no such unit. */
static uint64_t unit_factor(const struct unit *units, struct slice name)
{
	if (!name.n)
		return units->factor;
	for (; units->name; units++)
		if (slice_is_equal_nocase(slice_str(units->name), name))
			return units->factor;
	return 0;
}

/* Splits "1.5 h" at the end of its number. */
static void split_unit(struct slice text, struct slice *number, struct slice *unit)
{
	size_t n = 0;

	while (n < text.n && (is_digit(text.p[n]) || text.p[n] == '.'))
		n++;
	*number = slice_of(text.p, n);
	while (n < text.n && text.p[n] == ' ')
		n++;
	*unit = slice_of(text.p + n, text.n - n);
}

/* --- whole numbers -------------------------------------------------------------------------- */

static bool parse_number(const struct setting_type *type, const char *text, uint64_t *out,
			 struct err *e)
{
	if (!number_parse(slice_str(text), type->max, out) || *out < type->min)
		return refuse(type, text, e);
	return true;
}

static bool parse_unsigned(const struct setting_type *type, const char *text, void *at,
			   struct err *e)
{
	uint64_t v;

	if (!parse_number(type, text, &v, e))
		return false;
	*(unsigned *)at = (unsigned)v;
	return true;
}

static void format_unsigned(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_printf(out, "%u", *(const unsigned *)at);
}

const struct setting_type setting_type_uint = {
	.name = "number",
	.syntax = "a whole number from 0 to 2147483647",
	.size = sizeof(setting_uint_t),
	.max = INT32_MAX,
	.parse = parse_unsigned,
	.format = format_unsigned,
};

const struct setting_type setting_type_count = {
	.name = "number",
	.syntax = "a whole number from 1 to 2147483647",
	.size = sizeof(setting_count_t),
	.min = 1,
	.max = INT32_MAX,
	.parse = parse_unsigned,
	.format = format_unsigned,
};

const struct setting_type setting_type_shapes = {
	.name = "number",
	.syntax = "a whole number from 1 to 65535",
	.size = sizeof(setting_shapes_t),
	.min = 1,
	.max = UINT16_MAX,
	.parse = parse_unsigned,
	.format = format_unsigned,
};

static bool parse_percent(const struct setting_type *type, const char *text, void *at,
			  struct err *e)
{
	size_t n = strlen(text);
	uint64_t v;

	if (n && text[n - 1] == '%')
		n--;
	if (!number_parse(slice_of(text, n), type->max, &v) || v < type->min)
		return refuse(type, text, e);
	*(setting_percent_t *)at = (unsigned)v;
	return true;
}

const struct setting_type setting_type_percent = {
	.name = "share",
	.syntax = "a share from 1% to 100%",
	.size = sizeof(setting_percent_t),
	.min = 1,
	.max = 100,
	.parse = parse_percent,
	.format = format_unsigned,
};

#define TOP_MAX 10000

static bool parse_top(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	struct slice prefix = SLICE("top:");
	uint64_t v = 0;

	if (strcmp(text, "none") != 0 &&
	    (!slice_starts_with(slice_str(text), prefix) ||
	     !number_parse(slice_str(text + prefix.n), TOP_MAX, &v) || !v))
		return refuse(type, text, e);
	*(setting_top_t *)at = (unsigned)v;
	return true;
}

static void format_top(const struct setting_type *type PGT_UNUSED, const void *at, struct buf *out)
{
	unsigned v = *(const setting_top_t *)at;

	if (v)
		buf_printf(out, "top:%u", v);
	else
		buf_printf(out, "none");
}

const struct setting_type setting_type_top = {
	.name = "selection",
	.syntax = "top:1 to top:10000, or none",
	.size = sizeof(setting_top_t),
	.parse = parse_top,
	.format = format_top,
};

static bool parse_workers(const struct setting_type *type, const char *text, void *at,
			  struct err *e)
{
	if (strcasecmp(text, "auto") != 0)
		return parse_unsigned(type, text, at, e);
	*(setting_workers_t *)at = 0;
	return true;
}

static void format_workers(const struct setting_type *type, const void *at, struct buf *out)
{
	if (*(const setting_workers_t *)at)
		format_unsigned(type, at, out);
	else
		buf_put_slice(out, SLICE("auto"));
}

const struct setting_type setting_type_workers = {
	.name = "number or auto",
	.syntax = "auto or a whole number from 1 to 256",
	.size = sizeof(setting_workers_t),
	.min = 1,
	.max = 256,
	.parse = parse_workers,
	.format = format_workers,
};

static bool parse_port(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	uint64_t v;

	if (!parse_number(type, text, &v, e))
		return false;
	*(setting_port_t *)at = (setting_port_t)v;
	return true;
}

static void format_port(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_printf(out, "%u", *(const setting_port_t *)at);
}

const struct setting_type setting_type_port = {
	.name = "port",
	.syntax = "a port from 1 to 65535",
	.size = sizeof(setting_port_t),
	.min = 1,
	.max = UINT16_MAX,
	.parse = parse_port,
	.format = format_port,
};

const struct setting_type setting_type_optional_port = {
	.name = "port",
	.syntax = "a port from 1 to 65535, or 0",
	.size = sizeof(setting_optional_port_t),
	.min = 0,
	.max = UINT16_MAX,
	.parse = parse_port,
	.format = format_port,
};

static bool parse_filemode(const struct setting_type *type, const char *text, void *at,
			   struct err *e)
{
	size_t n = strlen(text);
	unsigned mode = 0;

	if (!n || n > 4 || strspn(text, "01234567") != n)
		return refuse(type, text, e);
	for (; *text; text++)
		mode = mode * 8 + (unsigned)(*text - '0');
	*(setting_filemode_t *)at = mode;
	return true;
}

static void format_filemode(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_printf(out, "%04o", *(const setting_filemode_t *)at);
}

const struct setting_type setting_type_filemode = {
	.name = "octal number",
	.syntax = "access rights in octal, such as 0770",
	.size = sizeof(setting_filemode_t),
	.parse = parse_filemode,
	.format = format_filemode,
};

/* --- durations and sizes -------------------------------------------------------------------- */

static const struct unit time_units[] = {
	{"s",    1000000    },
        { "ms",  1000       },
        { "us",  1          },
        { "m",   60000000   },
	{ "min", 60000000   },
        { "h",   3600000000 },
        { "d",   86400000000},
        { NULL,  0          },
};

/* Digits after the point count down to a millionth of the unit; further ones are dropped. */
static bool parse_decimal(struct slice number, uint64_t factor, uint64_t max, uint64_t *out)
{
	const char *point = memchr(number.p, '.', number.n);
	size_t nwhole = point ? (size_t)(point - number.p) : number.n;
	size_t nfraction = point ? number.n - nwhole - 1 : 0;
	uint64_t whole = 0, fraction = 0, scale = 1;

	if (!factor || nwhole + nfraction == 0)
		return false;
	if (nwhole && !number_parse(slice_of(number.p, nwhole), max / factor, &whole))
		return false;
	for (size_t i = 0; i < nfraction; i++) {
		if (!is_digit(point[1 + i]))
			return false;
		if (scale < 1000000) {
			fraction = fraction * 10 + (uint64_t)(point[1 + i] - '0');
			scale *= 10;
		}
	}
	*out = whole * factor + fraction * factor / scale;
	return *out <= max;
}

static bool parse_usec(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	struct slice number, unit;
	uint64_t v;

	split_unit(slice_str(text), &number, &unit);
	if (!parse_decimal(number, unit_factor(time_units, unit), type->max * USEC_PER_SEC, &v))
		return refuse(type, text, e);
	*(usec_t *)at = (usec_t)v;
	return true;
}

static void format_usec(const struct setting_type *type, const void *at, struct buf *out)
{
	usec_t v = *(const usec_t *)at, fraction = v % USEC_PER_SEC;
	int digits = 6;

	buf_printf(out, "%" PRId64, v / USEC_PER_SEC);
	if (!fraction)
		return;
	for (; fraction % 10 == 0; fraction /= 10)
		digits--;
	buf_printf(out, ".%0*" PRId64, digits, fraction);
}

const struct setting_type setting_type_usec = {
	.name = "duration",
	.syntax = "a duration: seconds, or a number with us, ms, s, min, h or d, such as 500ms",
	.size = sizeof(setting_usec_t),
	.max = 3153600000, /* a hundred years */
	.parse = parse_usec,
	.format = format_usec,
};

static const struct unit byte_units[] = {
	{"B",   1		 },
        { "kB", 1024              },
        { "MB", 1024 * 1024       },
        { "GB", 1024 * 1024 * 1024},
	{ NULL, 0                 },
};

static bool parse_bytes(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	struct slice number, unit;

	split_unit(slice_str(text), &number, &unit);
	if (!parse_decimal(number, unit_factor(byte_units, unit), type->max, at))
		return refuse(type, text, e);
	return true;
}

static void format_bytes(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_printf(out, "%" PRIu64, *(const setting_bytes_t *)at);
}

const struct setting_type setting_type_bytes = {
	.name = "size",
	.syntax = "a size up to 2147483647 bytes: bytes, or a number with kB, MB or GB",
	.size = sizeof(setting_bytes_t),
	.max = INT32_MAX,
	.parse = parse_bytes,
	.format = format_bytes,
};

/* --- rates ---------------------------------------------------------------------------------- */

#define RATE_MAX      1000000000
#define TIMESHARE_MAX (UINT64_C(366) * 86400 * 1000000) /* microseconds */
#define BANDWIDTH_MAX (UINT64_C(1) << 50)
#define HOUR          (3600 * USEC_PER_SEC)

/* Reads what stands before the slash. */
typedef bool amount_fn(struct slice text, uint64_t *out);

/* "AMOUNT/u"; "0" alone is "no limit". */
static bool parse_per(const struct setting_type *type, struct slice text, amount_fn *amount,
		      struct rate *rate)
{
	const char *slash = memchr(text.p, '/', text.n);
	size_t n = slash ? (size_t)(slash - text.p) : text.n;
	uint64_t count, per = 0;

	if (!amount(slice_of(text.p, n), &count))
		return false;
	if (slash && n + 1 < text.n)
		per = unit_factor(time_units, slice_of(slash + 1, text.n - n - 1));
	if ((count && !per) || (slash && per < type->min * USEC_PER_SEC))
		return false;
	*rate = count ? (struct rate){ count, (usec_t)per } : (struct rate){ 0, 0 };
	return true;
}

static bool read_count(struct slice text, uint64_t *out)
{
	return number_parse(text, RATE_MAX, out);
}

static bool read_duration(struct slice text, uint64_t *out)
{
	struct slice number, unit;

	split_unit(text, &number, &unit);
	return parse_decimal(number, unit_factor(time_units, unit), TIMESHARE_MAX, out);
}

static bool read_size(struct slice text, uint64_t *out)
{
	struct slice number, unit;

	split_unit(text, &number, &unit);
	return parse_decimal(number, unit_factor(byte_units, unit), BANDWIDTH_MAX, out);
}

static const char *unit_of(usec_t per)
{
	const struct unit *unit = time_units;

	while (unit->factor != (uint64_t)per)
		unit++;
	return unit->name;
}

static bool parse_rate(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	return parse_per(type, slice_str(text), read_count, at) || refuse(type, text, e);
}

static void format_rate(const struct setting_type *type, const void *at, struct buf *out)
{
	const struct rate *rate = at;

	buf_printf(out, "%" PRIu64, rate->count);
	if (rate->count)
		buf_printf(out, "/%s", unit_of(rate->per));
}

const struct setting_type setting_type_rate = {
	.name = "rate",
	.syntax = "a rate such as 100/s, with s, m, h or d, or 0 for no limit",
	.size = sizeof(setting_rate_t),
	.min = 1,
	.parse = parse_rate,
	.format = format_rate,
};

static bool parse_timeshare(const struct setting_type *type, const char *text, void *at,
			    struct err *e)
{
	return parse_per(type, slice_str(text), read_duration, at) || refuse(type, text, e);
}

static void format_timeshare(const struct setting_type *type, const void *at, struct buf *out)
{
	const struct rate *rate = at;
	const usec_t share = (usec_t)rate->count;

	format_usec(type, &share, out);
	if (share)
		buf_printf(out, "s/%s", unit_of(rate->per));
}

const struct setting_type setting_type_timeshare = {
	.name = "share of time",
	.syntax =
	    "a duration per time such as 2s/s or 500ms/s, with s, m, h or d, or 0 for no limit",
	.size = sizeof(setting_timeshare_t),
	.min = 1,
	.parse = parse_timeshare,
	.format = format_timeshare,
};

static bool parse_bandwidth(const struct setting_type *type, const char *text, void *at,
			    struct err *e)
{
	return parse_per(type, slice_str(text), read_size, at) || refuse(type, text, e);
}

const struct setting_type setting_type_bandwidth = {
	.name = "bandwidth",
	.syntax = "a size per time such as 10MB/s, with s, m, h or d, or 0 for no limit",
	.size = sizeof(setting_bandwidth_t),
	.min = 1,
	.parse = parse_bandwidth,
	.format = format_rate,
};

/* One for the hour, one for the day, in any order. */
static bool parse_quota(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	struct slice rest = slice_str(text), word;
	struct quotas quotas = { 0 };
	unsigned n = 0;

	for (; list_next(&rest, &word); n++) {
		struct rate one;
		uint64_t *place;

		if (!parse_per(type, word, read_count, &one))
			return refuse(type, text, e);
		place = one.per == HOUR ? &quotas.per_hour : &quotas.per_day;
		if (*place)
			return refuse(type, text, e);
		*place = one.count;
	}
	if (!n)
		return refuse(type, text, e);
	*(struct quotas *)at = quotas;
	return true;
}

static void format_quota(const struct setting_type *type, const void *at, struct buf *out)
{
	const struct quotas *q = at;

	if (q->per_hour)
		buf_printf(out, "%" PRIu64 "/h", q->per_hour);
	if (q->per_day)
		buf_printf(out, "%s%" PRIu64 "/d", q->per_hour ? "," : "", q->per_day);
	if (!q->per_hour && !q->per_day)
		buf_put_slice(out, SLICE("0"));
}

const struct setting_type setting_type_quota = {
	.name = "quota",
	.syntax = "a quota such as 1000/h or 1000/h,10000/d, with h or d, or 0 for no limit",
	.size = sizeof(setting_quota_t),
	.min = 3600,
	.parse = parse_quota,
	.format = format_quota,
};

/* --- strings -------------------------------------------------------------------------------- */

static bool parse_str(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	*(const char **)at = text;
	return true;
}

static void format_str(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_put_slice(out, slice_str(*(const char *const *)at));
}

static void format_secret(const struct setting_type *type, const void *at, struct buf *out)
{
	if (**(const char *const *)at)
		buf_put_slice(out, SLICE("****"));
}

const struct setting_type setting_type_str = {
	.name = "text",
	.syntax = "a text",
	.size = sizeof(setting_str_t),
	.is_string = true,
	.parse = parse_str,
	.format = format_str,
};

const struct setting_type setting_type_secret = {
	.name = "secret",
	.syntax = "a text",
	.size = sizeof(setting_secret_t),
	.is_string = true,
	.is_secret = true,
	.parse = parse_str,
	.format = format_secret,
};

const struct setting_type setting_type_list = {
	.name = "list",
	.syntax = "words between commas",
	.size = sizeof(setting_list_t),
	.is_string = true,
	.parse = parse_str,
	.format = format_str,
};

static bool parse_networks(const struct setting_type *type, const char *text, void *at,
			   struct err *e)
{
	return networks_check(text, e) && parse_str(type, text, at, e);
}

const struct setting_type setting_type_networks = {
	.name = "list of networks",
	.syntax = "networks between commas: 10.0.0.0/8, ::1, samehost, samenet, local, all",
	.size = sizeof(setting_networks_t),
	.is_string = true,
	.parse = parse_networks,
	.format = format_str,
};

static bool parse_guc(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz_";
	static const char later[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
	const char *part = text;
	unsigned nparts = 0;

	do {
		if (!*part || !strchr(first, *part))
			return refuse(type, text, e);
		part += strspn(part, later);
		nparts++;
	} while (*part++ == '.');
	if (part[-1] || nparts < 2)
		return refuse(type, text, e);
	return parse_str(type, text, at, e);
}

const struct setting_type setting_type_guc = {
	.name = "name",
	.syntax = "a lower case name with a dot, such as app.current_business_id",
	.size = sizeof(setting_guc_t),
	.is_string = true,
	.parse = parse_guc,
	.format = format_str,
};

/* --- words ---------------------------------------------------------------------------------- */

static const struct setting_word *find_word(const struct setting_word *words, struct slice name)
{
	for (; words->name; words++)
		if (slice_is_equal_nocase(slice_str(words->name), name))
			return words;
	return NULL;
}

static const char *word_of(const struct setting_word *words, int value)
{
	while (words->name && words->value != value)
		words++;
	PGT_ASSERT(words->name);
	return words->name;
}

/* The row of a word that this version takes, or NULL and e. */
static const struct setting_word *take_word(const struct setting_type *type, struct slice name,
					    struct err *e)
{
	const struct setting_word *word = find_word(type->words, name);

	if (word && !word->refused)
		return word;
	if (word)
		err_set(e, "0A000", "%s %s", word->name, word->refused);
	else
		err_set(e, "22023", "\"%.*s\" is not %s", SLICE_FMT(name), type->syntax);
	return NULL;
}

static bool parse_word(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	const struct setting_word *word = take_word(type, slice_str(text), e);

	if (!word)
		return false;
	*(int *)at = word->value;
	return true;
}

static void format_word(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_put_slice(out, slice_str(word_of(type->words, *(const int *)at)));
}

#define WORDS_TYPE(word, text)                                                                     \
	const struct setting_type setting_type_##word = {                                          \
		.name = "word",                                                                    \
		.syntax = text,                                                                    \
		.size = sizeof(setting_##word##_t),                                                \
		.words = word##_words,                                                             \
		.parse = parse_word,                                                               \
		.format = format_word,                                                             \
	}

static const struct setting_word pool_mode_words[] = {
	{"session",      POOL_MODE_SESSION,     NULL},
	{ "transaction", POOL_MODE_TRANSACTION, NULL},
	{ "statement",   POOL_MODE_STATEMENT,   NULL},
	{ NULL,          0,		     NULL},
};
WORDS_TYPE(pool_mode, "session, transaction or statement");

static const struct setting_word sslmode_words[] = {
	{"disable",      SSLMODE_DISABLE,     NULL},
	{ "allow",       SSLMODE_ALLOW,       NULL},
	{ "prefer",      SSLMODE_PREFER,      NULL},
	{ "require",     SSLMODE_REQUIRE,     NULL},
	{ "verify-ca",   SSLMODE_VERIFY_CA,   NULL},
	{ "verify-full", SSLMODE_VERIFY_FULL, NULL},
	{ NULL,          0,		   NULL},
};
WORDS_TYPE(sslmode, "disable, allow, prefer, require, verify-ca or verify-full");

/* A way to log in that we lack is never replaced by one that we have: the file is refused. */
static const struct setting_word auth_type_words[] = {
	{"trust",          AUTH_TYPE_TRUST, NULL        },
        { "any",           AUTH_TYPE_ANY,   NULL        },
	{ "plain",         AUTH_TYPE_PLAIN, NULL        },
        { "md5",           AUTH_TYPE_MD5,   NULL        },
	{ "scram-sha-256", AUTH_TYPE_SCRAM, NULL        },
        { "cert",          AUTH_TYPE_CERT,  NULL        },
	{ "peer",          AUTH_TYPE_PEER,  NULL        },
        { "hba",           AUTH_TYPE_HBA,   NULL        },
	{ "pam",           AUTH_TYPE_PAM,   PAM_MISSING },
        { "jwt",           AUTH_TYPE_JWT,   NULL        },
	{ "ldap",          AUTH_TYPE_LDAP,  LDAP_MISSING},
        { NULL,            0,               NULL        },
};
WORDS_TYPE(auth_type, "trust, any, plain, md5, scram-sha-256, cert, peer, hba, pam, ldap or jwt");

static const struct setting_word route_words[] = {
	{"auto",     ROUTE_AUTO,    NULL},
	{ "primary", ROUTE_PRIMARY, NULL},
	{ NULL,      0,             NULL},
};
WORDS_TYPE(route, "auto or primary");

static const struct setting_word route_mode_words[] = {
	{"route",    ROUTE_MODE_ROUTE,   NULL},
	{ "observe", ROUTE_MODE_OBSERVE, NULL},
	{ NULL,      0,                  NULL},
};
WORDS_TYPE(route_mode, "route or observe");

static const struct setting_word promote_words[] = {
	{"no",           PROMOTE_NO,          NULL},
	{ "first_write", PROMOTE_FIRST_WRITE, NULL},
	{ NULL,          0,		   NULL},
};
WORDS_TYPE(promote, "no or first_write");

static const struct setting_word read_your_writes_words[] = {
	{"tenant",   READ_YOUR_WRITES_TENANT,  NULL},
	{ "session", READ_YOUR_WRITES_SESSION, NULL},
	{ "off",     READ_YOUR_WRITES_OFF,     NULL},
	{ NULL,      0,			NULL},
};
WORDS_TYPE(read_your_writes, "tenant, session or off");

static const struct setting_word session_state_words[] = {
	{"pin",     SESSION_STATE_PIN,    NULL},
	{ "reject", SESSION_STATE_REJECT, NULL},
	{ "log",    SESSION_STATE_LOG,    NULL},
	{ NULL,     0,		    NULL},
};
WORDS_TYPE(session_state, "pin, reject or log");

static const struct setting_word sequence_state_words[] = {
	{"auto", SEQUENCE_STATE_AUTO, NULL},
	{ "pin", SEQUENCE_STATE_PIN,  NULL},
	{ NULL,  0,		   NULL},
};
WORDS_TYPE(sequence_state, "auto or pin");

static const struct setting_word backend_pid_words[] = {
	{"pin",     BACKEND_PID_PIN,    NULL},
	{ "server", BACKEND_PID_SERVER, NULL},
	{ NULL,     0,                  NULL},
};
WORDS_TYPE(backend_pid, "pin or server");

static const struct setting_word listen_lost_words[] = {
	{"disconnect", LISTEN_LOST_DISCONNECT, NULL},
	{ "notice",    LISTEN_LOST_NOTICE,     NULL},
	{ NULL,        0,		      NULL},
};
WORDS_TYPE(listen_lost, "disconnect or notice");

static const struct setting_word rate_limit_mode_words[] = {
	{"enforce", RATE_LIMIT_ENFORCE, NULL},
	{ "warn",   RATE_LIMIT_WARN,    NULL},
	{ NULL,     0,                  NULL},
};
WORDS_TYPE(rate_limit_mode, "enforce or warn");

static const struct setting_word log_format_words[] = {
	{"text",  LOG_FORMAT_TEXT, NULL},
	{ "json", LOG_FORMAT_JSON, NULL},
	{ NULL,   0,               NULL},
};
WORDS_TYPE(log_format, "text or json");

static const struct setting_word log_statements_words[] = {
	{"none", LOG_STATEMENTS_NONE, NULL},
	{ "ddl", LOG_STATEMENTS_DDL,  NULL},
	{ "mod", LOG_STATEMENTS_MOD,  NULL},
	{ "all", LOG_STATEMENTS_ALL,  NULL},
	{ NULL,  0,		   NULL},
};
WORDS_TYPE(log_statements, "none, ddl, mod or all");

static const struct setting_word load_balance_hosts_words[] = {
	{"round-robin", LOAD_BALANCE_ROUND_ROBIN, NULL},
	{ "disable",    LOAD_BALANCE_DISABLE,     NULL},
	{ NULL,         0,			NULL},
};
WORDS_TYPE(load_balance_hosts, "round-robin or disable");

static const struct setting_word tenant_pool_words[] = {
	{"dedicated", TENANT_POOL_DEDICATED, NULL},
	{ "shared",   TENANT_POOL_SHARED,    NULL},
	{ NULL,       0,		     NULL},
};
WORDS_TYPE(tenant_pool, "dedicated or shared");

static const struct setting_word tenant_context_check_words[] = {
	{"off",         CONTEXT_CHECK_OFF,        NULL},
	{ "on_release", CONTEXT_CHECK_ON_RELEASE, NULL},
	{ NULL,         0,			NULL},
};
WORDS_TYPE(tenant_context_check, "off or on_release");

static const struct setting_word no_tenant_words[] = {
	{"reject", NO_TENANT_REJECT, NULL},
	{ "empty", NO_TENANT_EMPTY,  NULL},
	{ NULL,    0,                NULL},
};
WORDS_TYPE(no_tenant, "reject or empty");

static const struct setting_word facility_words[] = {
	{"daemon",    LOG_DAEMON,   NULL},
	{ "auth",     LOG_AUTH,     NULL},
	{ "authpriv", LOG_AUTHPRIV, NULL},
	{ "user",     LOG_USER,     NULL},
	{ "local0",   LOG_LOCAL0,   NULL},
	{ "local1",   LOG_LOCAL1,   NULL},
	{ "local2",   LOG_LOCAL2,   NULL},
	{ "local3",   LOG_LOCAL3,   NULL},
	{ "local4",   LOG_LOCAL4,   NULL},
	{ "local5",   LOG_LOCAL5,   NULL},
	{ "local6",   LOG_LOCAL6,   NULL},
	{ "local7",   LOG_LOCAL7,   NULL},
	{ NULL,       0,            NULL},
};
WORDS_TYPE(facility, "auth, authpriv, daemon, user or local0 … local7");

static const struct setting_word bool_words[] = {
	{"1",      true,  NULL},
        { "0",     false, NULL},
        { "yes",   true,  NULL},
	{ "no",    false, NULL},
        { "on",    true,  NULL},
        { "off",   false, NULL},
	{ "true",  true,  NULL},
        { "false", false, NULL},
        { NULL,    0,     NULL},
};

static bool parse_bool(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	const struct setting_word *word = take_word(type, slice_str(text), e);

	if (!word)
		return false;
	*(bool *)at = word->value;
	return true;
}

static void format_bool(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_put_slice(out, slice_str(word_of(type->words, *(const bool *)at)));
}

const struct setting_type setting_type_bool = {
	.name = "yes or no",
	.syntax = "1 or 0, yes or no, on or off, true or false",
	.size = sizeof(setting_bool_t),
	.words = bool_words,
	.parse = parse_bool,
	.format = format_bool,
};

/* --- lists of words ------------------------------------------------------------------------- */

static const struct setting_word tenant_by_words[] = {
	{"user",         TENANT_BY_USER,        NULL},
	{ "database",    TENANT_BY_DATABASE,    NULL},
	{ "user_suffix", TENANT_BY_USER_SUFFIX, NULL},
	{ "startup",     TENANT_BY_STARTUP,     NULL},
	{ "sni",         TENANT_BY_SNI,         NULL},
	{ "token",       TENANT_BY_TOKEN,       NULL},
	{ "set",         TENANT_BY_SET,         NULL},
	{ "comment",     TENANT_BY_COMMENT,     NULL},
	{ NULL,          0,		     NULL},
};

static bool parse_tenant_by(const struct setting_type *type, const char *text, void *at,
			    struct err *e)
{
	struct slice rest = slice_str(text), name;
	struct tenant_by by = { 0 };

	while (list_next(&rest, &name)) {
		const struct setting_word *word = take_word(type, name, e);

		if (!word)
			return false;
		if (memchr(by.ways, word->value, by.n))
			return err_set(e, "22023", "\"%s\" stands twice", word->name);
		by.ways[by.n++] = (uint8_t)word->value;
	}
	*(struct tenant_by *)at = by;
	return true;
}

static void format_tenant_by(const struct setting_type *type, const void *at, struct buf *out)
{
	const struct tenant_by *by = at;

	for (unsigned i = 0; i < by->n; i++)
		buf_printf(out, "%s%s", i ? ", " : "", word_of(type->words, by->ways[i]));
}

const struct setting_type setting_type_tenant_by = {
	.name = "list",
	.syntax = "user, database, user_suffix, startup, sni, set or comment",
	.size = sizeof(setting_tenant_by_t),
	.words = tenant_by_words,
	.parse = parse_tenant_by,
	.format = format_tenant_by,
};

static const struct setting_word tls_protocols_words[] = {
	{"secure",   TLS_PROTOCOLS_SECURE, NULL},
        { "all",     TLS_PROTOCOLS_ALL,    NULL},
	{ "legacy",  TLS_PROTOCOLS_ALL,    NULL},
        { "tlsv1.0", TLS_PROTOCOL_1_0,     NULL},
	{ "tlsv1.1", TLS_PROTOCOL_1_1,     NULL},
        { "tlsv1.2", TLS_PROTOCOL_1_2,     NULL},
	{ "tlsv1.3", TLS_PROTOCOL_1_3,     NULL},
        { NULL,      0,                    NULL},
};

static bool parse_tls_protocols(const struct setting_type *type, const char *text, void *at,
				struct err *e)
{
	struct slice rest = slice_str(text), name;
	unsigned bits = 0;

	while (list_next(&rest, &name)) {
		const struct setting_word *word = take_word(type, name, e);

		if (!word)
			return false;
		bits |= (unsigned)word->value;
	}
	if (!bits)
		return refuse(type, text, e);
	*(setting_tls_protocols_t *)at = bits;
	return true;
}

/* The one word that says all, else each protocol. */
static void format_tls_protocols(const struct setting_type *type, const void *at, struct buf *out)
{
	unsigned bits = *(const setting_tls_protocols_t *)at;
	const char *comma = "";

	for (const struct setting_word *w = type->words; bits && w->name; w++) {
		unsigned word = (unsigned)w->value;
		bool is_shortcut = (word & (word - 1)) != 0;

		if (is_shortcut ? word != bits : (word & bits) == 0)
			continue;
		buf_printf(out, "%s%s", comma, w->name);
		bits &= ~word;
		comma = ",";
	}
}

const struct setting_type setting_type_tls_protocols = {
	.name = "list",
	.syntax = "tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure, legacy or all",
	.size = sizeof(setting_tls_protocols_t),
	.words = tls_protocols_words,
	.parse = parse_tls_protocols,
	.format = format_tls_protocols,
};
