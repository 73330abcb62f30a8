/* SPDX-License-Identifier: ISC
 *
 * tls.c - TLS over a non-blocking socket, on OpenSSL 3.  The only file that includes ssl.h.
 *
 * Knows nothing of SSLRequest or of messages.  OpenSSL judges a session's result by what lies in
 * the thread's error queue, whoever left it.  A handshake finds it empty; reads and writes, which
 * would pay for that each time, sort out what is of others when they have moved nothing
 * (verdict_on). Every entry leaves it empty of its own errors.
 */
#include "net/tls.h"

#include "base/failpoint.h"
#include "base/mem.h"
#include "config/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
	SSL_CTX *ssl;
	bool gives_tickets;
	unsigned end_point_len; /* of its own certificate, as a server */
	uint8_t end_point[TLS_END_POINT_MAX];
	atomic_uint refs;
};

struct tls {
	SSL *ssl;
	struct tls_context *ctx;
	bool direct;
	int failure; /* errno of a fatal error, after which OpenSSL must not be asked again */
};

/* Length-prefixed, as it stands in the handshake. */
static const unsigned char alpn[] = "\012postgresql";
#define ALPN_LEN (sizeof(alpn) - 1)

/* RFC 8446, 4.6.1: a week. */
#define TICKET_LIFETIME_MAX (7L * 24 * 3600)

/* ---- errors --------------------------------------------------------------------------------- */

/* OpenSSL's first reason, which is the cause of those after it. */
static const char *take_reason(void)
{
	unsigned long code = ERR_peek_error();
	const char *text =
	    ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

	ERR_clear_error();
	return text ? text : "OpenSSL gives no reason";
}

static bool bad_setting(struct err *e, const char *what, const char *value)
{
	return err_set(e, "F0000", "%s \"%s\": %s", what, value, take_reason());
}

/* ---- contexts ------------------------------------------------------------------------------- */

/* PgBouncer's words for ciphers up to TLS 1.2.  NULL is the default of OpenSSL and of the
 * distribution, as in PgBouncer 1.25; "compat", "legacy" and "insecure" are from versions before.
 */
static const struct {
	const char *word;
	const char *list;
} cipher_words[] = {
	{"",          NULL		      },
	{ "default",  NULL                      },
	{ "secure",   NULL                      },
	{ "normal",   NULL                      },
	{ "fast",     NULL                      },
	{ "compat",   "HIGH:MEDIUM:+3DES:!aNULL"},
	{ "legacy",   "HIGH:MEDIUM:+3DES:!aNULL"},
	{ "insecure", "ALL:!aNULL:!eNULL"       },
	{ "all",      "ALL:!aNULL:!eNULL"       },
};

static bool set_ciphers(SSL_CTX *ctx, const struct tls_options *o, struct err *e)
{
	const char *list = o->ciphers;

	for (size_t i = 0; i < PGT_NELEMS(cipher_words); i++)
		if (strcmp(o->ciphers, cipher_words[i].word) == 0)
			list = cipher_words[i].list;
	if (list && !SSL_CTX_set_cipher_list(ctx, list))
		return bad_setting(e, "TLS ciphers", o->ciphers);
	if (*o->ciphersuites && !SSL_CTX_set_ciphersuites(ctx, o->ciphersuites))
		return bad_setting(e, "TLS 1.3 ciphers", o->ciphersuites);
	return true;
}

static const struct {
	unsigned bit;
	int version;
	uint64_t off;
} protocol_table[] = {
	{TLS_PROTOCOL_1_0,  TLS1_VERSION,   SSL_OP_NO_TLSv1  },
	{ TLS_PROTOCOL_1_1, TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
	{ TLS_PROTOCOL_1_2, TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
	{ TLS_PROTOCOL_1_3, TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

/* The range overrides what openssl.cnf says, the options make the holes in it. */
static void set_protocols(SSL_CTX *ctx, unsigned protocols)
{
	int lowest = 0;
	int highest = 0;

	for (size_t i = 0; protocols && i < PGT_NELEMS(protocol_table); i++) {
		if (!(protocols & protocol_table[i].bit)) {
			SSL_CTX_set_options(ctx, protocol_table[i].off);
			continue;
		}
		highest = protocol_table[i].version;
		if (!lowest)
			lowest = highest;
	}
	if (lowest) {
		SSL_CTX_set_min_proto_version(ctx, lowest);
		SSL_CTX_set_max_proto_version(ctx, highest);
	}
}

static bool set_curve(SSL_CTX *ctx, const char *curve, struct err *e)
{
	if (!*curve || strcmp(curve, "auto") == 0 || strcmp(curve, "none") == 0)
		return true;
	return SSL_CTX_set1_groups_list(ctx, curve) || bad_setting(e, "TLS curve", curve);
}

/* OpenSSL's default would ask on the terminal that a daemon does not have. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

static bool load_certificate(SSL_CTX *ctx, const struct tls_options *o, struct err *e)
{
	bool is_encrypted = false;
	bool loaded;

	if (!*o->cert_file && !*o->key_file && !o->is_server)
		return true;
	if (!*o->cert_file || !*o->key_file)
		return err_set(e, "F0000", "TLS needs a certificate file and its key file");
	if (SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
		return bad_setting(e, "TLS certificate file", o->cert_file);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &is_encrypted);
	loaded = SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) == 1;
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	if (loaded)
		return true;
	if (!is_encrypted)
		return bad_setting(e, "TLS key file", o->key_file);
	ERR_clear_error();
	return err_set(e, "F0000", "TLS key file \"%s\": a key with a passphrase is of no use here",
		       o->key_file);
}

static bool load_authorities(SSL_CTX *ctx, const struct tls_options *o, struct err *e)
{
	STACK_OF(X509_NAME) * names;

	if (!o->verify_peer)
		return true;
	if (!*o->ca_file) {
		err_set(e, "F0000", "verifying TLS certificates needs a CA file");
		return err_hint(e, "The system's own is often /etc/ssl/certs/ca-certificates.crt.");
	}
	if (SSL_CTX_load_verify_file(ctx, o->ca_file) != 1)
		return bad_setting(e, "TLS CA file", o->ca_file);
	SSL_CTX_set_verify(
	    ctx, SSL_VERIFY_PEER | (o->spares_peer ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
	if (!o->is_server)
		return true;
	names = SSL_load_client_CA_file(o->ca_file);
	if (!names)
		return bad_setting(e, "TLS CA file", o->ca_file);
	SSL_CTX_set_client_CA_list(ctx, names);
	return true;
}

/* Only asked when the client offers protocols; none of them ours is an error, as in PostgreSQL. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned in_len, void *arg)
{
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, alpn, ALPN_LEN, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* Only TLS 1.3 resumes here: before it a session is no longer secret than the key of the tickets,
 * and asks for the host name of the handshake that began it.  Who speaks 1.3 gets it, as it is
 * allowed where tickets are. */
static bool speaks_tls13(SSL *ssl)
{
	const unsigned char *versions;
	size_t n;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &versions, &n))
		return false;
	for (size_t i = 1; i + 1 < n; i += 2) /* behind their length */
		if (versions[i] == TLS1_3_VERSION >> 8 &&
		    versions[i + 1] == (TLS1_3_VERSION & 0xff))
			return true;
	return false;
}

static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
	const struct tls *tls = SSL_get_app_data(ssl);
	const unsigned char *ext;
	size_t len;

	if (tls->ctx->gives_tickets && speaks_tls13(ssl))
		SSL_clear_options(ssl, SSL_OP_NO_TICKET);
	if (!tls->direct ||
	    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext,
				      &len))
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

/* Tickets come with set_tickets() only.  An unannounced end is an end: most drivers just close.
 * Reading ahead spares a system call per record. */
static void set_behaviour(SSL_CTX *ctx, bool is_server)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
				     SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1);
	if (is_server) {
		SSL_CTX_set_num_tickets(ctx, 0);
		SSL_CTX_set_dh_auto(ctx, 1);
		SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
		SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
	} else {
		SSL_CTX_set_alpn_protos(ctx, alpn, ALPN_LEN);
	}
}

/* The keys of the tickets are the context's own, made by OpenSSL.  A client that has shown a
 * certificate has to show it each time: one may be revoked, or taken out of the CA file; and who
 * has shown none is asked again, as it may log in by another rule.  Early data, which somebody else
 * can send again, is never taken. */
static bool set_tickets(SSL_CTX *ctx, const struct tls_options *o)
{
	static const unsigned char name[] = "pgturnstile";
	bool has_tls13 = !o->protocols || (o->protocols & TLS_PROTOCOL_1_3);

	if (!o->is_server || !o->session_lifetime_s || o->verify_peer || !has_tls13)
		return false;
	SSL_CTX_set_session_id_context(ctx, name, sizeof(name) - 1);
	SSL_CTX_set_timeout(ctx, o->session_lifetime_s < TICKET_LIFETIME_MAX
				     ? (long)o->session_lifetime_s
				     : TICKET_LIFETIME_MAX);
	SSL_CTX_set_num_tickets(ctx, 1);
	return true;
}

/* RFC 5929, 4.1: the hash of its signature, SHA-256 in place of one that is broken.  Signatures
 * without one by itself, such as Ed25519's, have no end point. */
static unsigned digest_certificate(X509 *x, uint8_t out[TLS_END_POINT_MAX])
{
	const EVP_MD *md;
	unsigned len = 0;
	int hash;

	_Static_assert(TLS_END_POINT_MAX >= EVP_MAX_MD_SIZE, "any digest fits");
	if (!x || !X509_get_signature_info(x, &hash, NULL, NULL, NULL))
		return 0;
	md = hash == NID_md5 || hash == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(hash);
	return md && X509_digest(x, md, out, &len) ? len : 0;
}

struct tls_context *tls_context_new(const struct tls_options *options, struct err *e)
{
	struct tls_context *ctx;
	SSL_CTX *ssl;

	ERR_clear_error();
	ssl = SSL_CTX_new(options->is_server ? TLS_server_method() : TLS_client_method());
	PGT_ASSERT(ssl != NULL);
	set_behaviour(ssl, options->is_server);
	set_protocols(ssl, options->protocols);
	if (!set_ciphers(ssl, options, e) || !set_curve(ssl, options->ecdhcurve, e) ||
	    !load_certificate(ssl, options, e) || !load_authorities(ssl, options, e)) {
		SSL_CTX_free(ssl);
		return NULL;
	}
	ctx = xnew(struct tls_context);
	ctx->ssl = ssl;
	ctx->gives_tickets = set_tickets(ssl, options);
	ctx->end_point_len = options->is_server
				 ? digest_certificate(SSL_CTX_get0_certificate(ssl), ctx->end_point)
				 : 0;
	atomic_init(&ctx->refs, 1);
	ERR_clear_error();
	return ctx;
}

struct tls_context *tls_context_ref(struct tls_context *ctx)
{
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

void tls_context_unref(struct tls_context *ctx)
{
	if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) > 1)
		return;
	SSL_CTX_free(ctx->ssl);
	free(ctx);
}

bool tls_context_has_same_certificate(const struct tls_context *a, const struct tls_context *b)
{
	const X509 *x = SSL_CTX_get0_certificate(a->ssl), *y = SSL_CTX_get0_certificate(b->ssl);

	return x == y || (x && y && !X509_cmp(x, y));
}

/* ---- sessions ------------------------------------------------------------------------------- */

static bool is_address(const char *host)
{
	unsigned char ip[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1;
}

/* What verify-full asks of the certificate.  As libpq, "*" stands for a whole first label only. */
static void expect_host(SSL *ssl, const char *host)
{
	int ok;

	if (is_address(host)) {
		ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	} else {
		SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		ok = SSL_set1_host(ssl, host);
	}
	/* A session that would check no name must not come to be. */
	PGT_ASSERT(ok == 1);
}

struct tls *tls_new(struct tls_context *ctx, int fd, const char *sni, const char *verify_host,
		    bool direct)
{
	struct tls *tls = xnew(struct tls);

	ERR_clear_error();
	tls->ssl = SSL_new(ctx->ssl);
	PGT_ASSERT(tls->ssl != NULL && SSL_set_fd(tls->ssl, fd) == 1);
	tls->ctx = tls_context_ref(ctx);
	tls->direct = direct;
	SSL_set_app_data(tls->ssl, tls);
	if (SSL_is_server(tls->ssl)) {
		SSL_set_accept_state(tls->ssl);
		return tls;
	}
	SSL_set_connect_state(tls->ssl);
	if (sni && *sni && !is_address(sni))
		SSL_set_tlsext_host_name(tls->ssl, sni);
	if (verify_host)
		expect_host(tls->ssl, verify_host);
	ERR_clear_error();
	return tls;
}

void tls_free(struct tls *tls)
{
	SSL_free(tls->ssl);
	tls_context_unref(tls->ctx);
	free(tls);
}

static enum tls_want handshake_failed(struct tls *tls, struct err *e, const char *what,
				      const char *why)
{
	tls->failure = EPROTO;
	err_set(e, SSL_is_server(tls->ssl) ? "08P01" : "08001", "TLS handshake failed: %s%s%s",
		what, *why ? ": " : "", why);
	return TLS_FAILED;
}

static enum tls_want explain_handshake(struct tls *tls, int result, int error, struct err *e)
{
	long verdict = SSL_get_verify_result(tls->ssl);
	const char *why = "";

	switch (SSL_get_error(tls->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_SYSCALL:
	case SSL_ERROR_ZERO_RETURN:
		return handshake_failed(tls, e, error ? strerror(error) : "the peer hung up", "");
	default:
		if (verdict != X509_V_OK)
			why = X509_verify_cert_error_string(verdict);
		return handshake_failed(tls, e, take_reason(), why);
	}
}

enum tls_want tls_handshake(struct tls *tls, struct err *e)
{
	const unsigned char *protocol;
	unsigned len;
	enum tls_want want = TLS_DONE;
	int result;

	if (FAILPOINT_FAILS(tls_handshake_fails, EPROTO))
		return handshake_failed(tls, e, "failpoint", "");
	ERR_clear_error();
	errno = 0;
	result = SSL_do_handshake(tls->ssl);
	if (result != 1) {
		want = explain_handshake(tls, result, errno, e);
	} else if (tls->direct) {
		/* Of a server on_client_hello() has seen to it. */
		SSL_get0_alpn_selected(tls->ssl, &protocol, &len);
		if (!len)
			want = handshake_failed(tls, e, "the server does not speak Postgres's ALPN",
						"");
	}
	ERR_clear_error();
	return want;
}

static ssize_t has_failed(const struct tls *tls, enum tls_want *want)
{
	*want = TLS_FAILED;
	errno = tls->failure;
	return -1;
}

/* Whether a session that seems to wait for room to write has failed: the alert that says so waits,
 * and OpenSSL would not tell again. */
static bool is_last_word(const struct tls *tls)
{
	return SSL_in_init(tls->ssl) && ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_SSL;
}

/* SSL_get_error() for a read or write, but for what others have left in the queue: what ends a
 * session puts an error of TLS behind that. */
static int verdict_on(const struct tls *tls, int result)
{
	int verdict;

	if (SSL_want_read(tls->ssl) && BIO_should_read(SSL_get_rbio(tls->ssl)))
		return SSL_ERROR_WANT_READ;
	if (SSL_want_write(tls->ssl) && BIO_should_write(SSL_get_wbio(tls->ssl)) &&
	    !is_last_word(tls))
		return SSL_ERROR_WANT_WRITE;
	verdict = SSL_get_error(tls->ssl, result);
	if (verdict != SSL_ERROR_SSL || ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_SSL)
		return verdict;
	ERR_clear_error();
	return SSL_get_error(tls->ssl, result);
}

/* Turns OpenSSL's verdict on a read or write that moved nothing into read(2)'s. */
static ssize_t to_errno(struct tls *tls, int result, enum tls_want *want)
{
	int error = errno;

	switch (verdict_on(tls, result)) {
	case SSL_ERROR_WANT_READ:
		*want = TLS_WANT_READ;
		error = EAGAIN;
		break;
	case SSL_ERROR_WANT_WRITE:
		*want = TLS_WANT_WRITE;
		error = EAGAIN;
		break;
	case SSL_ERROR_ZERO_RETURN:
		*want = TLS_DONE;
		return 0;
	case SSL_ERROR_SYSCALL:
		*want = TLS_FAILED;
		error = tls->failure = error ? error : ECONNRESET;
		break;
	default:
		*want = TLS_FAILED;
		error = tls->failure = EPROTO;
		break;
	}
	ERR_clear_error();
	errno = error;
	return -1;
}

static int at_most_int(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

ssize_t tls_read(struct tls *tls, void *p, size_t n, enum tls_want *want)
{
	int got;

	if (FAILPOINT_FAILS(tls_read_fails, EPROTO))
		tls->failure = EPROTO;
	if (tls->failure)
		return has_failed(tls, want);
	errno = 0;
	got = SSL_read(tls->ssl, p, at_most_int(n));
	if (got <= 0)
		return to_errno(tls, got, want);
	*want = TLS_DONE;
	return got;
}

/* SSL_write() takes one record of 16 kB at a time. */
ssize_t tls_write(struct tls *tls, const void *p, size_t n, enum tls_want *want)
{
	size_t done = 0;
	ssize_t end;

	if (tls->failure)
		return has_failed(tls, want);
	if (FAILPOINT_FAILS(tls_write_again, EAGAIN)) {
		*want = TLS_WANT_WRITE;
		return -1;
	}
	n = FAILPOINT_CUT(tls_write_short, n);
	while (done < n) {
		int sent;

		errno = 0;
		sent = SSL_write(tls->ssl, (const char *)p + done, at_most_int(n - done));
		if (sent <= 0) {
			end = to_errno(tls, sent, want);
			return done ? (ssize_t)done : end;
		}
		done += (size_t)sent;
	}
	*want = TLS_DONE;
	return (ssize_t)done;
}

void tls_guard(struct tls *tls, bool on)
{
	if (on)
		SSL_set_options(tls->ssl, SSL_OP_CLEANSE_PLAINTEXT);
	else
		SSL_clear_options(tls->ssl, SSL_OP_CLEANSE_PLAINTEXT);
}

bool tls_has_pending(const struct tls *tls)
{
	return SSL_has_pending(tls->ssl) || tls->failure ||
	       (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN);
}

void tls_goodbye(struct tls *tls)
{
	if (tls->failure || SSL_in_init(tls->ssl))
		return;
	ERR_clear_error();
	SSL_shutdown(tls->ssl);
	ERR_clear_error();
}

/* A name with a NUL in it, or one that does not fit, would end as another's. */
static bool copy_name(const ASN1_STRING *name, char *out, size_t n)
{
	unsigned char *text = NULL;
	int len = ASN1_STRING_to_UTF8(&text, name);
	bool ok = len > 0 && (size_t)len < n && !memchr(text, 0, (size_t)len);

	if (ok) {
		memcpy(out, text, (size_t)len);
		out[len] = '\0';
	}
	if (len >= 0)
		OPENSSL_free(text);
	return ok;
}

/* Who resumes a session does so in the context that it began in, with the same certificate. */
size_t tls_end_point(const struct tls *tls, uint8_t out[TLS_END_POINT_MAX])
{
	unsigned len;

	if (SSL_is_server(tls->ssl)) {
		memcpy(out, tls->ctx->end_point, tls->ctx->end_point_len);
		return tls->ctx->end_point_len;
	}
	len = digest_certificate(SSL_get0_peer_certificate(tls->ssl), out);
	ERR_clear_error();
	return len;
}

bool tls_peer_is_verified(const struct tls *tls)
{
	return SSL_get0_peer_certificate(tls->ssl) &&
	       SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER;
}

/* As in a handshake: SSL_CTX's own way to do it is not to be called from outside. */
static bool is_vouched_for(X509 *certificate, STACK_OF(X509) * chain, const SSL_CTX *by)
{
	X509_STORE_CTX *judge = X509_STORE_CTX_new();
	bool ok;

	PGT_ASSERT(judge != NULL);
	ok = X509_STORE_CTX_init(judge, SSL_CTX_get_cert_store(by), certificate, chain) &&
	     X509_STORE_CTX_set_default(judge, "ssl_client");
	if (ok) {
		X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(judge),
						 SSL_CTX_get_security_level(by));
		ok = X509_verify_cert(judge) == 1;
	}
	X509_STORE_CTX_free(judge);
	ERR_clear_error();
	return ok;
}

bool tls_client_is_verified_by(const struct tls *tls, const struct tls_context *now)
{
	if (now == tls->ctx)
		return tls_peer_is_verified(tls);
	return tls_peer_is_verified(tls) && SSL_CTX_get_verify_mode(now->ssl) & SSL_VERIFY_PEER &&
	       is_vouched_for(SSL_get0_peer_certificate(tls->ssl),
			      SSL_get_peer_cert_chain(tls->ssl), now->ssl);
}

bool tls_peer_name(const struct tls *tls, char *out, size_t n)
{
	X509_NAME *subject;
	int at;
	bool ok;

	if (!tls_peer_is_verified(tls))
		return false;
	subject = X509_get_subject_name(SSL_get0_peer_certificate(tls->ssl));
	at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	ok = at >= 0 &&
	     copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out, n);
	ERR_clear_error();
	return ok;
}

bool tls_asked_host(const struct tls *tls, char *out, size_t n)
{
	const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);

	if (!name || strlen(name) >= n)
		return false;
	memcpy(out, name, strlen(name) + 1);
	return true;
}

void tls_describe(const struct tls *tls, char *out, size_t n)
{
	snprintf(out, n, "%s/%s", SSL_get_version(tls->ssl), SSL_get_cipher_name(tls->ssl));
}
