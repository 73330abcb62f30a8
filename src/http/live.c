/* SPDX-License-Identifier: ISC
 *
 * live.c - the live page: one file, and a policy that lets nothing else run.
 *
 * Script and style are allowed by their hash; nothing is loaded from elsewhere, and what is asked
 * for is this server's.  The page has no data in it, so it needs no token.
 */
#include "http/live.h"

#include "base/mem.h"
#include "http/parts.h"

#include <openssl/evp.h>

static struct slice find(struct slice in, struct slice word)
{
	const char *at = memmem(in.p, in.n, word.p, word.n);

	PGT_ASSERT(at != NULL);
	return slice_of(at, word.n);
}

/* Puts what stands before a mark and, in its place, a text; returns what stands behind. */
static struct slice put_up_to(struct buf *out, struct slice rest, struct slice mark,
			      struct slice text)
{
	const char *at = find(rest, mark).p, *behind = at + mark.n;

	buf_put(out, rest.p, (size_t)(at - rest.p));
	buf_put_slice(out, text);
	return slice_of(behind, (size_t)(rest.p + rest.n - behind));
}

void live_put_page(struct buf *out)
{
	struct slice rest = slice_of(live_html, live_html_len);

	rest = put_up_to(out, rest, SLICE("@CSS@"), slice_of(live_css, live_css_len));
	rest = put_up_to(out, rest, SLICE("@JS@"), slice_of(live_js, live_js_len));
	buf_put_slice(out, rest);
}

static void put_hash(struct buf *out, const char *text, size_t n)
{
	uint8_t digest[32], base64[45];

	PGT_ASSERT(EVP_Digest(text, n, digest, NULL, EVP_sha256(), NULL));
	EVP_EncodeBlock(base64, digest, sizeof(digest));
	buf_printf(out, "'sha256-%s'", (const char *)base64);
}

void live_put_policy(struct buf *out)
{
	buf_printf(out, "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
			"form-action 'none'; frame-ancestors 'none'; script-src ");
	put_hash(out, live_js, live_js_len);
	buf_printf(out, "; style-src ");
	put_hash(out, live_css, live_css_len);
}
