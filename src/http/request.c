/* SPDX-License-Identifier: ISC
 *
 * request.c - what a request says of itself: which page it wants, how, and who sends it.
 *
 * Knows the texts that HTTP has taken out of a request, not HTTP, and not what is answered.  Pure.
 */
#include "base/mem.h"
#include "http/parts.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char bearer[] = "Bearer ";

void request_init(struct request *r, const char *path, const char *authorization,
		  const char *accept)
{
	const size_t n = sizeof(bearer) - 1;

	*r = (struct request){ .page = page_find(path) };
	list_init(&r->link);
	if (authorization && !strncasecmp(authorization, bearer, n))
		r->token = xstrdup(authorization + n);
	r->wants_open = accept && strstr(accept, "application/openmetrics-text");
}

void request_fini(struct request *r)
{
	if (r->token)
		mem_wipe(r->token, strlen(r->token));
	free(r->token);
	buf_fini(&r->policy);
	buf_fini(&r->body);
}

bool request_is_known(const struct request *r, const struct config *config)
{
	uint8_t digest[sizeof(config->http_token)];

	if (!config->has_http_token)
		return true;
	return r->token &&
	       EVP_Digest(r->token, strlen(r->token), digest, NULL, EVP_sha256(), NULL) &&
	       CRYPTO_memcmp(digest, config->http_token, sizeof(digest)) == 0;
}
