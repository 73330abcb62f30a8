/* SPDX-License-Identifier: ISC
 *
 * tls.h - TLS over a non-blocking socket, either role.
 *
 * A context is made of files and options once, is immutable, and is shared between threads by
 * reference count; a reload makes a new one and running sessions keep theirs.  A session belongs to
 * one connection and moves between threads with it.
 */
#ifndef PGT_NET_TLS_H
#define PGT_NET_TLS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls;
struct tls_context;

/* What a context is made of; strings are borrowed for the call, "" where not set. */
struct tls_options {
	bool is_server;        /* we accept (clients' side) or connect (servers' side) */
	bool verify_peer;      /* demand a certificate that the CA file vouches for */
	bool spares_peer;      /* with verify_peer: who has none may do without */
	const char *ca_file;   /* needed to verify; without verify_peer it is not read */
	const char *cert_file; /* our chain in PEM, needed by a server */
	const char *key_file;  /* of cert_file, not encrypted; never asks on the terminal */
	unsigned protocols;    /* TLS_PROTOCOL_* bits of config/settings.h; 0: OpenSSL's choice */
	const char *ciphers;   /* up to TLS 1.2: a word of PgBouncer's or OpenSSL's list */
	const char *ciphersuites; /* TLS 1.3; "" for OpenSSL's default */
	const char *ecdhcurve; /* "auto" or "none" for OpenSSL's choice, or names between colons */
	/* For so many seconds a client may resume its session (TLS 1.3 only, and not with
	 * verify_peer), which spares it and a server the asymmetric part of a handshake; 0: never.
	 */
	uint64_t session_lifetime_s;
};

/* NULL: *e (F0000) says which file or setting, and why.  Any thread. */
struct tls_context *tls_context_new(const struct tls_options *options, struct err *e);
/* Any thread, for both; unref of NULL does nothing. */
struct tls_context *tls_context_ref(struct tls_context *ctx);
void tls_context_unref(struct tls_context *ctx);
/* Both none counts as the same. */
bool tls_context_has_same_certificate(const struct tls_context *a, const struct tls_context *b);

/* A session over fd, which stays the caller's; holds a reference to ctx.  The process must ignore
 * SIGPIPE.  As client: sni is the host's name as configured, sent when it is not an address;
 * verify_host (verify-full) is the name or address that the certificate must carry; NULL for
 * neither.  The ALPN protocol "postgresql" is always offered, as libpq 17 does (servers before 17
 * pass over it), and selected by a server that is offered it.  direct: no SSLRequest went before,
 * so that the handshake fails without ALPN, in either role (protocol chapter, "SSL Session
 * Encryption"). */
struct tls *tls_new(struct tls_context *ctx, int fd, const char *sni, const char *verify_host,
		    bool direct);
/* Does not close fd and sends nothing: see tls_goodbye(). */
void tls_free(struct tls *tls);

enum tls_want { TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, TLS_FAILED };

/* One step of the handshake.  TLS_FAILED: *e tells (08001 as client, 08P01 as server). */
enum tls_want tls_handshake(struct tls *tls, struct err *e) PGT_MUST_USE;
/* As read(2) and write(2): -1 with errno EAGAIN to wait, *want says for what; other errno: the
 * session is dead (EPROTO: the peer broke TLS's rules).  0 of read: the end, announced or not:
 * Postgres messages carry their length, so that a cut is seen without TLS's help.  write takes as
 * much as the socket does; bytes that it did not take must come first in the next call, from
 * whatever address. */
ssize_t tls_read(struct tls *tls, void *p, size_t n, enum tls_want *want);
ssize_t tls_write(struct tls *tls, const void *p, size_t n, enum tls_want *want);
/* Whether it wipes what it has decrypted when that has been read. */
void tls_guard(struct tls *tls, bool on);
/* Bytes, the end or a failure are at hand that no readiness of the socket will announce.  The bytes
 * may turn out to be a part of a record: tls_read() then says EAGAIN. */
bool tls_has_pending(const struct tls *tls);
/* Says goodbye (close_notify) without waiting. */
void tls_goodbye(struct tls *tls);
/* What a login may be bound to, "tls-server-end-point" of RFC 5929: the digest of the server's
 * certificate, in either role.  Its length; 0: none is defined for such a certificate. */
#define TLS_END_POINT_MAX 64
size_t tls_end_point(const struct tls *tls, uint8_t out[TLS_END_POINT_MAX]);
/* Whether the peer has shown a certificate that our CA file vouches for. */
bool tls_peer_is_verified(const struct tls *tls);
/* Of a client: whether the CA file of a context that has come since would, too.  It is read with
 * verify_peer only. */
bool tls_client_is_verified_by(const struct tls *tls, const struct tls_context *now);
/* The common name of a peer's certificate, NUL-terminated UTF-8, for auth_type = cert.  False: it
 * has none that fits, or the context was not told to verify_peer, so that nobody vouches for it. */
bool tls_peer_name(const struct tls *tls, char *out, size_t n);
/* The host name that a client asks for (SNI); false: none, or one that does not fit. */
bool tls_asked_host(const struct tls *tls, char *out, size_t n);
/* "TLSv1.3/TLS_AES_256_GCM_SHA384", for SHOW CLIENTS. */
void tls_describe(const struct tls *tls, char *out, size_t n);

#endif
