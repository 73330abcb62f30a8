/* SPDX-License-Identifier: ISC
 *
 * types.c - reading and writing the values of settings: numbers, units, texts; words are words.c's.
 *
 * What a bare number means, and how a value is shown, is PgBouncer's: seconds, bytes, 0 and 1.
 * Units and everything else come on top.  Knows no setting by name.
 */
#include "config/types.h"

#include "auth/networks.h"

#include <inttypes.h>

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

bool setting_refuse(const struct setting_type *type, const char *text, struct err *e)
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
		return setting_refuse(type, text, e);
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
		return setting_refuse(type, text, e);
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
		return setting_refuse(type, text, e);
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
		return setting_refuse(type, text, e);
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
		return setting_refuse(type, text, e);
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
		return setting_refuse(type, text, e);
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
	return parse_per(type, slice_str(text), read_count, at) || setting_refuse(type, text, e);
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
	return parse_per(type, slice_str(text), read_duration, at) || setting_refuse(type, text, e);
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
	return parse_per(type, slice_str(text), read_size, at) || setting_refuse(type, text, e);
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
			return setting_refuse(type, text, e);
		place = one.per == HOUR ? &quotas.per_hour : &quotas.per_day;
		if (*place)
			return setting_refuse(type, text, e);
		*place = one.count;
	}
	if (!n)
		return setting_refuse(type, text, e);
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
			return setting_refuse(type, text, e);
		part += strspn(part, later);
		nparts++;
	} while (*part++ == '.');
	if (part[-1] || nparts < 2)
		return setting_refuse(type, text, e);
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
