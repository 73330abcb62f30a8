/* SPDX-License-Identifier: ISC
 *
 * json_read.c - values of JSON, read where they stand.
 *
 * One function for each kind of value goes over it; reading is going over it again.
 */
#include "base/json_read.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX  32
#define NUMBER_MAX 40
#define WHOLE_MAX  9007199254740992.0

/* What is still to be read. */
struct reading {
	const char *p, *end;
};

static bool take_value(struct reading *r, unsigned depth, struct json *out);

static void skip_blanks(struct reading *r)
{
	while (r->p < r->end && memchr(" \t\r\n", *r->p, 4))
		r->p++;
}

/* A sign, with blanks before it. */
static bool take_sign(struct reading *r, char sign)
{
	skip_blanks(r);
	if (r->p == r->end || *r->p != sign)
		return false;
	r->p++;
	return true;
}

static bool take_word(struct reading *r, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return false;
	r->p += n;
	return true;
}

static size_t take_digits(struct reading *r)
{
	const char *begin = r->p;

	while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
		r->p++;
	return (size_t)(r->p - begin);
}

static bool take_number(struct reading *r)
{
	const char *begin;
	size_t n;

	take_word(r, "-");
	begin = r->p;
	n = take_digits(r);
	if (!n || (*begin == '0' && n > 1))
		return false;
	if (take_word(r, ".") && !take_digits(r))
		return false;
	if (take_word(r, "e") || take_word(r, "E")) {
		if (!take_word(r, "+"))
			take_word(r, "-");
		return take_digits(r) > 0;
	}
	return true;
}

static int hex_value(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)((at - digits) % 16) : -1;
}

/* The four digits of \u; -1: they are none. */
static int take_unit(struct reading *r)
{
	int unit = 0;

	if (r->end - r->p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int value = hex_value(*r->p++);

		if (value < 0)
			return -1;
		unit = unit * 16 + value;
	}
	return unit;
}

static bool take_escape(struct reading *r)
{
	if (r->p == r->end)
		return false;
	if (*r->p++ == 'u')
		return take_unit(r) >= 0;
	return memchr("\"\\/bfnrt", r->p[-1], 8) != NULL;
}

static bool take_string(struct reading *r)
{
	if (!take_word(r, "\""))
		return false;
	while (r->p < r->end) {
		unsigned char c = (unsigned char)*r->p++;

		if (c == '"')
			return true;
		if (c < 0x20 || (c == '\\' && !take_escape(r)))
			return false;
	}
	return false;
}

static bool take_array(struct reading *r, unsigned depth)
{
	struct json element;

	if (take_sign(r, ']'))
		return true;
	do {
		if (!take_value(r, depth, &element))
			return false;
	} while (take_sign(r, ','));
	return take_sign(r, ']');
}

static bool take_member(struct reading *r, unsigned depth, struct json *name, struct json *value)
{
	skip_blanks(r);
	*name = (struct json){ JSON_STRING, slice_of(r->p, 0) };
	if (!take_string(r))
		return false;
	name->text.n = (size_t)(r->p - name->text.p);
	return take_sign(r, ':') && take_value(r, depth, value);
}

static bool take_object(struct reading *r, unsigned depth)
{
	struct json name, value;

	if (take_sign(r, '}'))
		return true;
	do {
		if (!take_member(r, depth, &name, &value))
			return false;
	} while (take_sign(r, ','));
	return take_sign(r, '}');
}

static bool take_any(struct reading *r, unsigned depth, enum json_kind *kind)
{
	static const struct {
		const char *word;
		enum json_kind kind;
	} words[] = {
		{"null",   JSON_NULL },
		{ "false", JSON_FALSE},
		{ "true",  JSON_TRUE },
	};

	for (size_t i = 0; i < PGT_NELEMS(words); i++)
		if (take_word(r, words[i].word)) {
			*kind = words[i].kind;
			return true;
		}
	if (take_word(r, "[")) {
		*kind = JSON_ARRAY;
		return take_array(r, depth + 1);
	}
	if (take_word(r, "{")) {
		*kind = JSON_OBJECT;
		return take_object(r, depth + 1);
	}
	*kind = r->p < r->end && *r->p == '"' ? JSON_STRING : JSON_NUMBER;
	return *kind == JSON_STRING ? take_string(r) : take_number(r);
}

static bool take_value(struct reading *r, unsigned depth, struct json *out)
{
	skip_blanks(r);
	out->text.p = r->p;
	if (depth > DEPTH_MAX || !take_any(r, depth, &out->kind))
		return false;
	out->text.n = (size_t)(r->p - out->text.p);
	return true;
}

bool json_parse(struct slice text, struct json *out)
{
	struct reading r = { text.p, text.p + text.n };

	if (!take_value(&r, 0, out))
		return false;
	skip_blanks(&r);
	return r.p == r.end;
}

/* Behind the bracket that it begins with. */
static struct reading inside(const struct json *value)
{
	return (struct reading){ value->text.p + 1, value->text.p + value->text.n };
}

bool json_member(const struct json *object, const char *name, struct json *out)
{
	struct json key, value;
	struct reading r;
	unsigned found = 0;

	if (object->kind != JSON_OBJECT)
		return false;
	r = inside(object);
	if (take_sign(&r, '}'))
		return false;
	do {
		if (!take_member(&r, 0, &key, &value))
			return false;
		if (!json_is(&key, name))
			continue;
		*out = value;
		found++;
	} while (take_sign(&r, ','));
	return found == 1;
}

static int compare_hashes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* False: a name that is none. */
static bool put_name_hashes(const struct json *object, struct buf *hashes)
{
	struct reading r = inside(object);
	struct buf said = { 0 };
	struct json key, value;
	uint64_t hash;
	bool ok = true;

	if (take_sign(&r, '}'))
		return true;
	do {
		buf_clear(&said);
		ok = take_member(&r, 0, &key, &value) && json_string(&key, &said);
		hash = hash_bytes(buf_peek(&said).p, buf_len(&said));
		buf_put(hashes, &hash, sizeof(hash));
	} while (ok && take_sign(&r, ','));
	buf_fini(&said);
	return ok;
}

bool json_is_distinct(const struct json *object)
{
	struct buf hashes = { 0 };
	bool ok = object->kind == JSON_OBJECT && put_name_hashes(object, &hashes);
	size_t n = buf_len(&hashes) / sizeof(uint64_t);
	const uint64_t *at = (const uint64_t *)(const void *)buf_peek(&hashes).p;

	if (ok && n > 1) {
		qsort(buf_head(&hashes), n, sizeof(*at), compare_hashes);
		for (size_t i = 1; i < n && ok; i++)
			ok = at[i - 1] != at[i];
	}
	buf_fini(&hashes);
	return ok;
}

bool json_next(const struct json *array, size_t *at, struct json *out)
{
	struct reading r;

	if (array->kind != JSON_ARRAY)
		return false;
	r = inside(array);
	r.p += *at;
	if (take_sign(&r, ']') || (*at && !take_sign(&r, ',')) || !take_value(&r, 0, out))
		return false;
	*at = (size_t)(r.p - (array->text.p + 1));
	return true;
}

/* ---- strings and numbers ----------------------------------------------------------------------
 */

static void put_utf8(struct buf *out, unsigned c)
{
	if (c < 0x80) {
		buf_put_u8(out, (uint8_t)c);
		return;
	}
	if (c < 0x800) {
		buf_put_u8(out, (uint8_t)(0xc0 | c >> 6));
	} else {
		if (c < 0x10000) {
			buf_put_u8(out, (uint8_t)(0xe0 | c >> 12));
		} else {
			buf_put_u8(out, (uint8_t)(0xf0 | c >> 18));
			buf_put_u8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
		}
		buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
	}
	buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
}

/* Behind \u; two units make a character beyond the first 65,536. */
static bool read_unicode(struct reading *r, struct buf *out)
{
	int unit = take_unit(r), low;

	if (unit <= 0 || (unit >= 0xdc00 && unit < 0xe000))
		return false;
	if (unit < 0xd800 || unit >= 0xe000) {
		put_utf8(out, (unsigned)unit);
		return true;
	}
	low = take_word(r, "\\u") ? take_unit(r) : -1;
	if (low < 0xdc00 || low >= 0xe000)
		return false;
	put_utf8(out, 0x10000u + (((unsigned)unit - 0xd800) << 10) + ((unsigned)low - 0xdc00));
	return true;
}

static bool read_escape(struct reading *r, struct buf *out)
{
	static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
	char c = *r->p++;
	const char *at = strchr(letters, c);

	if (c == 'u')
		return read_unicode(r, out);
	buf_put_u8(out, (uint8_t)(at ? meanings[at - letters] : c));
	return true;
}

bool json_string(const struct json *value, struct buf *out)
{
	struct reading r;

	if (value->kind != JSON_STRING)
		return false;
	r = inside(value);
	r.end--;
	while (r.p < r.end) {
		char c = *r.p++;

		if (c != '\\')
			buf_put_u8(out, (uint8_t)c);
		else if (!read_escape(&r, out))
			return false;
	}
	return true;
}

bool json_is(const struct json *value, const char *text)
{
	struct buf said = { 0 };
	bool is = json_string(value, &said) && slice_is_equal(buf_peek(&said), slice_str(text));

	buf_fini(&said);
	return is;
}

bool json_whole(const struct json *value, int64_t *out)
{
	char room[NUMBER_MAX] = "";
	double number;

	if (value->kind != JSON_NUMBER || value->text.n >= sizeof(room))
		return false;
	memcpy(room, value->text.p, value->text.n);
	number = strtod(room, NULL);
	if (!(number > -WHOLE_MAX && number < WHOLE_MAX))
		return false;
	*out = (int64_t)number;
	return true;
}
