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
#include <sys/types.h>

struct tls;
struct tls_context;

/* What a context is made of; strings are borrowed for the call, "" where not set. */
struct tls_options {
	bool is_server;   /* we accept (clients' side) or connect (servers' side) */
	bool verify_peer; /* demand a certificate that the CA file vouches for */
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
	unsigned protocols;       /* TLS_PROTOCOL_* bits of config/settings.h; 0: OpenSSL's choice */
	const char *ciphers;      /* TLS 1.2: "default", "secure", OpenSSL's list … */
	const char *ciphersuites; /* TLS 1.3; "" for OpenSSL's default */
	const char *ecdhcurve;    /* "auto" or a name */
};

/* NULL: *e says which file and why. Any thread. */
struct tls_context *tls_context_new(const struct tls_options *options, struct err *e);
struct tls_context *tls_context_ref(struct tls_context *ctx);
void tls_context_unref(struct tls_context *ctx);

/* verify_host: for a client role, the name or address that the certificate must carry
 * (verify-full), and the name sent as SNI when it is not an address; NULL for neither.  The ALPN
 * protocol "postgresql" is offered or, as server, selected and, when direct is set, demanded. */
struct tls *tls_new(struct tls_context *ctx, int fd, const char *sni, const char *verify_host,
		    bool direct);
void tls_free(struct tls *tls);

enum tls_want { TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, TLS_FAILED };

/* One step of the handshake.  TLS_FAILED: *e tells. */
enum tls_want tls_handshake(struct tls *tls, struct err *e) PGT_MUST_USE;
/* As read(2) and write(2): -1 with errno EAGAIN to wait; *want says for what.  0 of read: the end.
 */
ssize_t tls_read(struct tls *tls, void *p, size_t n, enum tls_want *want);
ssize_t tls_write(struct tls *tls, const void *p, size_t n, enum tls_want *want);
/* Decrypted bytes that no readiness of the socket will announce. */
size_t tls_pending(const struct tls *tls);
/* Says goodbye (close_notify) without waiting. */
void tls_goodbye(struct tls *tls);
/* "TLSv1.3/TLS_AES_256_GCM_SHA384", for SHOW CLIENTS. */
void tls_describe(const struct tls *tls, char *out, size_t n);

#endif
