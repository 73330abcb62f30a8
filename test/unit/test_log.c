/* SPDX-License-Identifier: ISC
 *
 * test_log.c - lines of the log: whatever a peer says of itself, one line is one line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/test_log.XXXXXX";

static void begin(enum log_format format)
{
	struct log_target target = { .file = path, .format = format };

	assert_int_equal(truncate(path, 0), 0);
	assert_true(log_open(&target));
}

static struct buf written(void)
{
	struct buf text = { 0 };
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	while ((n = fread(buf_reserve(&text, 4096), 1, 4096, f)) > 0)
		buf_produced(&text, n);
	fclose(f);
	return text;
}

/* ---- as much of JSON as a line has ------------------------------------------------------------
 */

/* As UTF-8. */
static void put_code(struct buf *out, unsigned code)
{
	if (code >= 0x800) {
		buf_put_u8(out, (uint8_t)(0xe0 | code >> 12));
		buf_put_u8(out, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
		buf_put_u8(out, (uint8_t)(0x80 | (code & 0x3f)));
	} else if (code >= 0x80) {
		buf_put_u8(out, (uint8_t)(0xc0 | code >> 6));
		buf_put_u8(out, (uint8_t)(0x80 | (code & 0x3f)));
	} else {
		buf_put_u8(out, (uint8_t)code);
	}
}

/* Decodes the string at *p, whose control characters must be escaped. */
static void read_string(const char **p, struct buf *out)
{
	assert_int_equal(*(*p)++, '"');
	while (**p != '"') {
		size_t n = utf8_len(*p);
		unsigned code;

		assert_true(n > 0 && (uint8_t) * *p >= 0x20);
		if (**p != '\\') {
			buf_put(out, *p, n);
			*p += n;
		} else if ((*p)[1] == 'u') {
			assert_int_equal(sscanf(*p + 2, "%4x", &code), 1);
			put_code(out, code);
			*p += 6;
		} else {
			assert_non_null(strchr("\"\\", (*p)[1]));
			buf_put_u8(out, (uint8_t)(*p)[1]);
			*p += 2;
		}
	}
	(*p)++;
}

/* The value of a member of one line, which must be a flat object; "" without it. */
static void member_of(const char *line, const char *wanted, struct buf *out)
{
	const char *p = line;

	assert_int_equal(*p, '{');
	do {
		struct buf name = { 0 }, value = { 0 };

		p++;
		read_string(&p, &name);
		assert_int_equal(*p++, ':');
		if (*p == '"')
			read_string(&p, &value);
		else
			while (*p >= '0' && *p <= '9')
				p++;
		if (!strcmp(buf_cstr(&name), wanted))
			buf_put_slice(out, buf_peek(&value));
		buf_fini(&name);
		buf_fini(&value);
	} while (*p == ',');
	assert_string_equal(p, "}\n");
}

/* ---- hostile words ----------------------------------------------------------------------------
 */

/* What JSON must not take as it is, beside any byte. */
static void make_hostile(char *s, size_t max)
{
	static const char nasty[] = "\n\r\t\"\\{}:,\x01\x1b\x7f\x80\xc3\xe2\x82\xff";
	size_t n = (size_t)rand() % max;

	for (size_t i = 0; i < n; i++) {
		int byte = rand() % 2 ? nasty[rand() % (sizeof(nasty) - 1)] : rand() % 255 + 1;

		s[i] = (char)byte;
	}
	/* The ends of lines that Unicode has besides. */
	for (size_t i = 0; i + 3 < n; i += 8)
		memcpy(s + i, rand() % 2 ? "\xe2\x80\xa8" : "x\xc2\x85", 3);
	s[n] = '\0';
}

/* As it is to be read: what is not UTF-8 is replaced. */
static void put_readable(struct buf *out, const char *s)
{
	for (size_t n; *s; s += n ? n : 1) {
		n = utf8_len(s);
		buf_put(out, n ? s : "\xef\xbf\xbd", n ? n : 3);
	}
}

static void check_member(const char *line, const char *name, const char *said)
{
	struct buf expected = { 0 }, found = { 0 };

	put_readable(&expected, said);
	member_of(line, name, &found);
	assert_string_equal(buf_cstr(&found), buf_cstr(&expected));
	buf_fini(&expected);
	buf_fini(&found);
}

static void test_any_bytes_are_one_line_of_json(void **state)
{
	char user[64], tenant[200], text[900];

	srand(17);
	for (int i = 0; i < 2000; i++) {
		struct log_about about = {
			.client = 1, .user = user, .tenant = tenant, .database = "shop"
		};
		struct buf lines;

		make_hostile(user, sizeof(user));
		make_hostile(tenant, sizeof(tenant));
		make_hostile(text, sizeof(text));
		begin(LOG_FORMAT_JSON);
		log_about(LOG_LEVEL_INFO, &about, "%s", text);
		lines = written();
		check_member(buf_cstr(&lines), "user", user);
		check_member(buf_cstr(&lines), "tenant", tenant);
		check_member(buf_cstr(&lines), "message", text);
		check_member(buf_cstr(&lines), "database", "shop");
		buf_fini(&lines);
	}
}

static void test_any_bytes_are_one_line_of_text(void **state)
{
	char user[64], text[900];

	srand(18);
	for (int i = 0; i < 500; i++) {
		struct buf lines;

		make_hostile(user, sizeof(user));
		make_hostile(text, sizeof(text));
		begin(LOG_FORMAT_TEXT);
		log_about(LOG_LEVEL_INFO, (&(struct log_about){ .client = 1, .user = user }), "%s",
			  text);
		lines = written();
		assert_ptr_equal(strchr(buf_cstr(&lines), '\n'),
				 buf_head(&lines) + buf_len(&lines) - 1);
		buf_fini(&lines);
	}
}

static void test_a_line_says_whom_it_is_about(void **state)
{
	struct log_about client = { .client = 5,
				    .database = "shop",
				    .user = "alice",
				    .tenant = "acme",
				    .address = "10.0.0.9:4711" };
	struct buf lines;

	begin(LOG_FORMAT_TEXT);
	log_about(LOG_LEVEL_INFO, &client, "login");
	log_about(LOG_LEVEL_INFO, (&(struct log_about){ .database = "shop", .tenant = "acme" }),
		  "says");
	lines = written();
	assert_non_null(
	    strstr(buf_cstr(&lines), " LOG C-5: shop/alice@10.0.0.9:4711 [acme]: login\n"));
	assert_non_null(
	    strstr(buf_cstr(&lines), " LOG database \"shop\": tenant \"acme\": says\n"));
	buf_fini(&lines);
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;

	while ((text = strstr(text, word))) {
		text += strlen(word);
		n++;
	}
	return n;
}

static void flood(void)
{
	for (int i = 0; i < 1000; i++)
		log_warning("number %d of a flood", i);
}

/* All that were left out are told of, whenever the second ends. */
static void test_what_comes_often_is_counted(void **state)
{
	struct buf lines;
	const char *at;
	unsigned told = 0, n;

	begin(LOG_FORMAT_TEXT);
	flood();
	log_warning("of another place");
	do {
		log_sweep();
		lines = written();
		told = count(buf_cstr(&lines), "number ") - count(buf_cstr(&lines), "repeated ");
		for (at = buf_cstr(&lines); (at = strstr(at, "repeated ")); at++)
			if (sscanf(at, "repeated %u times: number", &n) == 1)
				told += n;
		assert_true(count(buf_cstr(&lines), "of another place") == 1);
		assert_true(count(buf_cstr(&lines), "\n") < 200);
		buf_fini(&lines);
	} while (told < 1000);
	assert_int_equal(told, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_bytes_are_one_line_of_json),
		cmocka_unit_test(test_any_bytes_are_one_line_of_text),
		cmocka_unit_test(test_a_line_says_whom_it_is_about),
		cmocka_unit_test(test_what_comes_often_is_counted),
	};
	int failed, fd = mkstemp(path);

	if (fd < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	close(fd);
	unlink(path);
	return failed;
}
