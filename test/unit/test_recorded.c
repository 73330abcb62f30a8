/* SPDX-License-Identifier: ISC
 *
 * test_recorded.c - what real clients and PostgreSQL have said (test/fuzz/recorded) is taken as
 * what it is: packets, messages, logins, requests.
 *
 * Whole conversations are test/fuzz/replay.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/base64.h"
#include "auth/scram.h"
#include "http/parts.h"
#include "wire/frame.h"
#include "wire/report.h"
#include "wire/startup.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDED "test/fuzz/recorded"
#define PASSWORD "app-password" /* of the integration tests */

typedef void check_fn(const char *name, struct slice said);

static void put_path(struct buf *path, const char *fuzzer, const char *name)
{
	const char *srcdir = getenv("srcdir");

	buf_printf(path, "%s/" RECORDED "/%s/%s", srcdir ? srcdir : ".", fuzzer, name);
}

static void read_recorded(const char *fuzzer, const char *name, struct buf *said)
{
	struct buf path = { 0 };
	FILE *f;

	put_path(&path, fuzzer, name);
	f = fopen(buf_cstr(&path), "r");
	assert_non_null(f);
	for (size_t n = 1; n; buf_produced(said, n))
		n = fread(buf_reserve(said, 4096), 1, 4096, f);
	fclose(f);
	buf_fini(&path);
}

/* Each of them; there are some. */
static void for_each(const char *fuzzer, check_fn *check)
{
	struct buf path = { 0 }, said = { 0 };
	unsigned n = 0;
	DIR *dir;

	put_path(&path, fuzzer, "");
	dir = opendir(buf_cstr(&path));
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		if (*e->d_name != '.') {
			buf_clear(&said);
			read_recorded(fuzzer, e->d_name, &said);
			check(e->d_name, buf_peek(&said));
			n++;
		}
	closedir(dir);
	assert_true(n > 3);
	buf_fini(&path);
	buf_fini(&said);
}

static bool is_of(const char *name, const char *beginning)
{
	return !strncmp(name, beginning, strlen(beginning));
}

static enum startup_kind startup_kind_of(const char *name)
{
	if (is_of(name, "ssl"))
		return STARTUP_SSL;
	if (is_of(name, "gssenc"))
		return STARTUP_GSSENC;
	return is_of(name, "cancel") ? STARTUP_CANCEL : STARTUP_SESSION;
}

static void check_options(struct slice options)
{
	struct buf name = { 0 }, value = { 0 };
	enum step step;
	struct err e;

	while ((step = options_next(&options, &name, &value, &e)) == STEP_DONE)
		assert_true(buf_len(&name) > 0);
	assert_int_equal(step, STEP_AGAIN);
	buf_fini(&name);
	buf_fini(&value);
}

static void check_startup(const char *file, struct slice said)
{
	struct slice at, name, value;
	bool has_user = false;
	struct startup s;
	struct err e;

	assert_int_equal(startup_parse(said.p, said.n, &s, &e), STEP_DONE);
	assert_int_equal(s.len, said.n);
	assert_int_equal(s.kind, startup_kind_of(file));
	if (s.kind != STARTUP_SESSION)
		return;
	at = s.params;
	while (startup_next_param(&at, &name, &value)) {
		has_user |= slice_is_equal(name, SLICE("user"));
		if (slice_is_equal(name, SLICE("options")))
			check_options(value);
	}
	assert_true(has_user);
}

static void test_openings_are_parsed_whole(void **state)
{
	(void)state;
	for_each("fuzz_startup", check_startup);
}

static void check_messages(const char *file, struct slice said)
{
	struct frame f = { 0 };

	while (said.n) {
		assert_int_equal(frame_peek(said.p, said.n, &f), FRAME_OK);
		assert_true(frame_is_whole(&f));
		if (is_of(file, "client")) {
			assert_string_not_equal(frontend_message_name(f.type), "unknown message");
		} else if (f.type == 'E' || f.type == 'N') {
			struct report report;

			assert_true(report_parse(frame_body(&f), &report));
			assert_true(report.severity.n > 0 && report.message.n > 0);
			assert_int_equal(report.sqlstate.n, 5);
		}
		said = slice_of(said.p + f.len, said.n - f.len);
	}
}

static void test_messages_are_whole_and_known(void **state)
{
	(void)state;
	for_each("fuzz_frame", check_messages);
}

/* ---- logins by SCRAM --------------------------------------------------------------------------
 */

struct login {
	struct buf first, final;               /* of the client */
	struct buf server_first, server_final; /* of the server */
};

/* Without the byte that fuzz_scram.c takes first. */
static void read_part(const char *login, const char *part, struct buf *said)
{
	struct buf name = { 0 };

	buf_printf(&name, "%s-%s", login, part);
	read_recorded("fuzz_scram", buf_cstr(&name), said);
	buf_consume(said, 1);
	buf_fini(&name);
}

static void read_login(const char *name, struct login *l)
{
	*l = (struct login){ 0 };
	read_part(name, "client-first", &l->first);
	read_part(name, "client-final", &l->final);
	read_part(name, "server-first", &l->server_first);
	read_part(name, "server-final", &l->server_final);
}

static void login_fini(struct login *l)
{
	buf_fini(&l->first);
	buf_fini(&l->final);
	buf_fini(&l->server_first);
	buf_fini(&l->server_final);
}

/* The value of an attribute, which ends with a comma or the text. */
static struct slice attribute(struct buf *message, const char *name)
{
	const char *at = strstr(buf_cstr(message), name);

	assert_non_null(at);
	at += strlen(name);
	return slice_of(at, strcspn(at, ","));
}

static void put_nonce(char out[SCRAM_NONCE_CAP], struct slice nonce)
{
	assert_true(nonce.n < SCRAM_NONCE_CAP);
	memcpy(out, nonce.p, nonce.n);
	out[nonce.n] = '\0';
}

/* We say what was said then, and the client has proved that it knows the password. */
static void play_server(struct login *l)
{
	struct slice both = attribute(&l->server_first, "r="), theirs = attribute(&l->first, ",r=");
	struct slice salt = attribute(&l->server_first, ",s=");
	uint8_t raw_salt[SCRAM_MAX_SALT], client_key[SCRAM_KEY_LEN];
	char nonce[SCRAM_NONCE_CAP];
	struct scram_secret secret;
	struct scram_server s;
	struct buf out = { 0 };
	struct err e;
	size_t n;

	assert_true(base64_get(salt, raw_salt, sizeof(raw_salt), &n));
	scram_secret_make(SLICE(PASSWORD), (uint32_t)atoi(attribute(&l->server_first, ",i=").p),
			  raw_salt, n, &secret);
	put_nonce(nonce, slice_of(both.p + theirs.n, both.n - theirs.n));
	scram_server_init(&s, &secret, (struct slice){ 0 }, nonce);
	assert_true(scram_server_select(&s, SLICE(SCRAM_MECHANISM)));
	assert_true(scram_server_first(&s, buf_peek(&l->first), &out, &e));
	assert_string_equal(buf_cstr(&out), buf_cstr(&l->server_first));
	buf_clear(&out);
	assert_true(scram_server_final(&s, buf_peek(&l->final), &out, client_key, &e));
	assert_string_equal(buf_cstr(&out), buf_cstr(&l->server_final));
	scram_server_fini(&s);
	buf_fini(&out);
}

/* PostgreSQL has let us in, and has shown that it is who it says. */
static void play_client(struct login *l)
{
	struct scram_client c;
	struct buf out = { 0 };
	struct err e;

	scram_client_init_password(&c, SLICE(PASSWORD));
	put_nonce(c.nonce, attribute(&l->first, ",r="));
	scram_client_first(&c, &out);
	assert_string_equal(buf_cstr(&out), buf_cstr(&l->first));
	buf_clear(&out);
	assert_true(scram_client_final(&c, buf_peek(&l->server_first), &out, &e));
	assert_string_equal(buf_cstr(&out), buf_cstr(&l->final));
	assert_true(scram_client_verify(&c, buf_peek(&l->server_final), &e));
	scram_client_fini(&c);
	buf_fini(&out);
}

static void check_login(const char *file, struct slice said)
{
	const char *end = strstr(file, "-client-first");
	struct scram_secret secret;
	struct buf name = { 0 };
	struct login l;

	if (is_of(file, "postgresql-secret"))
		assert_true(scram_secret_parse(slice_of(said.p + 1, said.n - 1), &secret));
	if (!end)
		return;
	buf_put(&name, file, (size_t)(end - file));
	read_login(buf_cstr(&name), &l);
	play_server(&l);
	if (is_of(file, "pgturnstile"))
		play_client(&l);
	login_fini(&l);
	buf_fini(&name);
}

static void test_logins_end_as_they_did(void **state)
{
	(void)state;
	for_each("fuzz_scram", check_login);
}

/* Of what was fetched then, one page is not there. */
static void check_request(const char *file, struct slice said)
{
	const char *path = said.p, *end = said.p + said.n;
	const char *authorization = path + strlen(path) + 1;
	const char *accept = authorization + strlen(authorization) + 1;
	struct buf last = { 0 };
	struct request r;

	assert_true(accept < end);
	buf_put(&last, accept, (size_t)(end - accept));
	request_init(&r, path, *authorization == 1 ? NULL : authorization, buf_cstr(&last));
	assert_true(!r.page == is_of(file, "curl-such"));
	assert_true(!r.token == !is_of(authorization, "Bearer "));
	request_fini(&r);
	buf_fini(&last);
}

static void test_requests_find_their_pages(void **state)
{
	(void)state;
	for_each("fuzz_http", check_request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_openings_are_parsed_whole),
		cmocka_unit_test(test_messages_are_whole_and_known),
		cmocka_unit_test(test_logins_end_as_they_did),
		cmocka_unit_test(test_requests_find_their_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
