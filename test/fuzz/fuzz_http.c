/* SPDX-License-Identifier: ISC
 *
 * fuzz_http.c - any texts as what HTTP takes out of a request: a path, and two headers.
 *
 * They end with a zero byte; a header of 0x01 has not been sent.  Who is known shows the token, and
 * nothing else is as good.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "http/parts.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char token[] = "0123456789abcdef";

static const struct config *config_with_token(void)
{
	static struct config config;

	if (!config.has_http_token) {
		EVP_Digest(token, strlen(token), config.http_token, NULL, EVP_sha256(), NULL);
		config.has_http_token = true;
	}
	return &config;
}

static char *take_text(struct slice *rest)
{
	const char *end = rest->n ? memchr(rest->p, '\0', rest->n) : NULL;
	size_t n = end ? (size_t)(end - rest->p) : rest->n;
	char *text = xmemdup0(rest->p, n);

	*rest = slice_of(rest->p + n, rest->n - n);
	if (rest->n)
		*rest = slice_of(rest->p + 1, rest->n - 1);
	return text;
}

static const char *header(const char *text)
{
	return strcmp(text, "\x01") ? text : NULL;
}

static void check(const char *path, const char *authorization, const char *accept)
{
	static const struct config open_to_all;
	struct request r;

	request_init(&r, path, authorization, accept);
	PGT_ASSERT(!r.page || *path == '/');
	PGT_ASSERT(!r.token || (authorization && strlen(r.token) < strlen(authorization)));
	PGT_ASSERT(!r.wants_open || accept);
	PGT_ASSERT(request_is_known(&r, &open_to_all));
	PGT_ASSERT(request_is_known(&r, config_with_token()) ==
		   (r.token && !strcmp(r.token, token)));
	request_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of((const char *)data, size);
	char *path = take_text(&rest), *authorization = take_text(&rest);
	char *accept = take_text(&rest);

	check(path, header(authorization), header(accept));
	free(path);
	free(authorization);
	free(accept);
	return 0;
}
