/* SPDX-License-Identifier: ISC
 *
 * test_tls.c - TLS in both roles over a socket pair, with certificates made here.
 *
 * Talks to OpenSSL itself only to make certificates and to be a peer that lacks ALPN.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_rig.h"

#include "config/settings.h"
#include "net/tls.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE (3u << 20)

static struct rig rig;
static char dir[] = "/tmp/test_tls.XXXXXX";

/* ---- certificates --------------------------------------------------------------------------- */

/* Of a file in dir; stays valid. */
static const char *path(const char *name)
{
	static char paths[32][64];
	static unsigned n;
	char *next = paths[n];

	assert_true(n < PGT_NELEMS(paths));
	snprintf(next, sizeof(paths[0]), "%s/%s", dir, name);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(paths[i], next) == 0)
			return paths[i];
	n++;
	return next;
}

struct identity {
	X509 *cert;
	EVP_PKEY *key;
};

static void extend(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* issuer NULL: signs itself, and may sign others. */
static struct identity identity_make(const char *cn, const char *san, const struct identity *issuer)
{
	static int serial;
	struct identity id = { .cert = X509_new(), .key = EVP_EC_gen("P-256") };
	X509_NAME *name = X509_get_subject_name(id.cert);

	X509_set_version(id.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(id.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_set_pubkey(id.cert, id.key);
	if (!issuer)
		extend(id.cert, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		extend(id.cert, NID_subject_alt_name, san);
	assert_true(X509_sign(id.cert, issuer ? issuer->key : id.key, EVP_sha256()) > 0);
	return id;
}

static void identity_write(const struct identity *id, const char *cert, const char *key)
{
	FILE *f = fopen(path(cert), "w");

	PEM_write_X509(f, id->cert);
	fclose(f);
	f = fopen(path(key), "w");
	PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
}

static void identity_free(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static void make_files(void)
{
	struct identity ca = identity_make("Test CA", NULL, NULL);
	struct identity other = identity_make("Other CA", NULL, NULL);
	struct identity server =
	    identity_make("server", "DNS:db.example,DNS:*.wild.example,IP:127.0.0.1", &ca);
	struct identity client = identity_make("alice", NULL, &ca);
	FILE *f;

	identity_write(&ca, "ca.crt", "ca.key");
	identity_write(&other, "other.crt", "other.key");
	identity_write(&server, "server.crt", "server.key");
	identity_write(&client, "client.crt", "client.key");
	f = fopen(path("locked.key"), "w");
	PEM_write_PrivateKey(f, server.key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6,
			     NULL, NULL);
	fclose(f);
	f = fopen(path("garbage"), "w");
	fputs("not a certificate\n", f);
	fclose(f);
	identity_free(&ca);
	identity_free(&other);
	identity_free(&server);
	identity_free(&client);
}

static void remove_files(void)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlink(path(entry->d_name));
	closedir(d);
	rmdir(dir);
}

static int setup_files(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(mkdtemp(dir));
	make_files();
	return 0;
}

static int teardown_files(void **state)
{
	remove_files();
	return 0;
}

static int setup(void **state)
{
	rig_init(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_fini(&rig);
	assert_int_equal(ERR_peek_error(), 0);
	return 0;
}

/* ---- contexts ------------------------------------------------------------------------------- */

static struct tls_options server_options(void)
{
	return (struct tls_options){
		.is_server = true,
		.ca_file = "",
		.cert_file = path("server.crt"),
		.key_file = path("server.key"),
		.protocols = TLS_PROTOCOLS_SECURE,
		.ciphers = "default",
		.ciphersuites = "",
		.ecdhcurve = "auto",
	};
}

static struct tls_options client_options(void)
{
	struct tls_options o = server_options();

	o.is_server = false;
	o.cert_file = o.key_file = "";
	return o;
}

static struct tls_context *context(const struct tls_options *o)
{
	struct err e = { 0 };
	struct tls_context *ctx = tls_context_new(o, &e);

	if (!ctx)
		fail_msg("%s", e.text);
	return ctx;
}

static void refuse(const struct tls_options *o, const char *what, const char *reason)
{
	struct err e = { 0 };

	assert_null(tls_context_new(o, &e));
	assert_string_equal(e.sqlstate, "F0000");
	if (!strstr(e.text, what) || !strcasestr(e.text, reason))
		fail_msg("\"%s\" does not name %s and %s", e.text, what, reason);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_errors_name_the_file_and_the_reason(void **state)
{
	struct tls_options o = server_options();

	o.cert_file = path("missing.crt");
	refuse(&o, "missing.crt", "No such file");
	o.cert_file = path("garbage");
	refuse(&o, "garbage", "no start line");
	o = server_options();
	o.key_file = path("client.key");
	refuse(&o, "client.key", "mismatch");
	o.key_file = path("locked.key");
	refuse(&o, "locked.key", "passphrase");
	o.key_file = "";
	refuse(&o, "certificate file", "key file");
	o = server_options();
	o.verify_peer = true;
	refuse(&o, "CA file", "needs");
	o.ca_file = path("garbage");
	refuse(&o, "garbage", "");
	o = server_options();
	o.ciphers = "no-such-cipher";
	refuse(&o, "no-such-cipher", "no cipher match");
	o = server_options();
	o.ecdhcurve = "P-42";
	refuse(&o, "P-42", "");
	o = server_options();
	o.ciphersuites = "TLS_NONE";
	refuse(&o, "TLS_NONE", "");
}

/* ---- handshakes ----------------------------------------------------------------------------- */

struct pair {
	struct tls_context *server_ctx;
	struct tls_context *client_ctx;
	struct end server;
	struct end client;
};

static void pair_start(struct pair *p, const struct tls_options *server,
		       const struct tls_options *client, const char *host, bool direct)
{
	p->server_ctx = context(server);
	p->client_ctx = context(client);
	ends_open(&p->server, &p->client, &rig);
	conn_start_tls(&p->server.conn,
		       tls_new(p->server_ctx, p->server.conn.fd, NULL, NULL, direct));
	conn_start_tls(&p->client.conn,
		       tls_new(p->client_ctx, p->client.conn.fd, host, host, direct));
}

static void pair_finish(struct pair *p)
{
	conn_close_soon(&p->server.conn);
	conn_close_soon(&p->client.conn);
	UNTIL(&rig, p->server.nfreed && p->client.nfreed);
	tls_context_unref(p->server_ctx);
	tls_context_unref(p->client_ctx);
}

static void pair_up(struct pair *p, const struct tls_options *server,
		    const struct tls_options *client, const char *host)
{
	pair_start(p, server, client, host, false);
	UNTIL(&rig, (p->server.nready && p->client.nready) || p->server.nended || p->client.nended);
	if (p->server.nended || p->client.nended)
		fail_msg("server \"%s\", client \"%s\"", p->server.why, p->client.why);
}

static void handshake_fails(const struct tls_options *server, const struct tls_options *client,
			    const char *host, const char *client_says)
{
	struct pair p;

	pair_start(&p, server, client, host, false);
	UNTIL(&rig, p.client.nended);
	if (!strstr(p.client.why, client_says))
		fail_msg("\"%s\" does not say \"%s\"", p.client.why, client_says);
	pair_finish(&p);
}

/* What the server makes of the client's certificate, or of none. */
static void server_refuses(const struct tls_options *server, const struct tls_options *client,
			   const char *server_says)
{
	struct pair p;

	pair_start(&p, server, client, NULL, false);
	UNTIL(&rig, p.server.nended);
	if (!strstr(p.server.why, server_says))
		fail_msg("\"%s\" does not say \"%s\"", p.server.why, server_says);
	pair_finish(&p);
}

static void test_protocols_and_description(void **state)
{
	static const struct {
		unsigned protocols;
		const char *name;
	} table[] = {
		{TLS_PROTOCOL_1_2,                     "TLSv1.2/ECDHE-"},
		{ TLS_PROTOCOL_1_3,                    "TLSv1.3/TLS_"  },
		{ TLS_PROTOCOLS_SECURE,                "TLSv1.3/TLS_"  },
		{ TLS_PROTOCOL_1_0 | TLS_PROTOCOL_1_2, "TLSv1.2/"      },
		{ 0,				   "TLSv1.3/TLS_"  },
	};
	struct tls_options client = client_options();

	for (size_t i = 0; i < PGT_NELEMS(table); i++) {
		struct tls_options server = server_options();
		struct pair p;
		char text[64];

		server.protocols = table[i].protocols;
		pair_up(&p, &server, &client, NULL);
		tls_describe(p.server.conn.tls, text, sizeof(text));
		assert_memory_equal(text, table[i].name, strlen(table[i].name));
		pair_finish(&p);
	}
	client.protocols = TLS_PROTOCOL_1_2;
	struct tls_options server = server_options();
	server.protocols = TLS_PROTOCOL_1_3;
	handshake_fails(&server, &client, NULL, "protocol version");
}

static void test_verify_ca_and_full(void **state)
{
	static const struct {
		const char *ca;
		const char *host;
		const char *why; /* NULL: accepted */
	} table[] = {
		{"ca.crt",     NULL,               NULL                                    },
		{ "ca.crt",    "db.example",       NULL                                    },
		{ "ca.crt",    "a.wild.example",   NULL                                    },
		{ "ca.crt",    "127.0.0.1",        NULL                                    },
		{ "ca.crt",    "a.b.wild.example", "ostname mismatch"                      },
		{ "ca.crt",    "server",           "ostname mismatch"                      },
		{ "ca.crt",    "127.0.0.2",        "IP address mismatch"                   },
		{ "other.crt", NULL,               "unable to get local issuer certificate"},
		{ "other.crt", "db.example",       "unable to get local issuer certificate"},
	};
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;

	client.verify_peer = true;
	for (size_t i = 0; i < PGT_NELEMS(table); i++) {
		client.ca_file = path(table[i].ca);
		if (table[i].why) {
			handshake_fails(&server, &client, table[i].host, table[i].why);
			continue;
		}
		pair_up(&p, &server, &client, table[i].host);
		pair_finish(&p);
	}
}

static void test_client_certificates(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;
	char name[64];

	server.verify_peer = true;
	server.ca_file = path("ca.crt");
	server_refuses(&server, &client, "peer did not return a certificate");

	client.cert_file = path("client.crt");
	client.key_file = path("client.key");
	pair_up(&p, &server, &client, NULL);
	assert_true(tls_peer_name(p.server.conn.tls, name, sizeof(name)));
	assert_string_equal(name, "alice");
	assert_false(tls_peer_name(p.server.conn.tls, name, strlen("alice")));
	/* The client verified nobody. */
	assert_false(tls_peer_name(p.client.conn.tls, name, sizeof(name)));
	pair_finish(&p);

	server.ca_file = path("other.crt");
	server_refuses(&server, &client, "certificate verify failed");
}

/* Who has none is let through and counts as nobody; one that is no good is refused nevertheless. */
static void test_client_certificates_that_need_not_be(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;
	char name[64];

	server.verify_peer = server.spares_peer = true;
	server.ca_file = path("ca.crt");
	pair_up(&p, &server, &client, NULL);
	assert_false(tls_peer_is_verified(p.server.conn.tls));
	assert_false(tls_client_is_verified_by(p.server.conn.tls, p.server_ctx));
	assert_false(tls_peer_name(p.server.conn.tls, name, sizeof(name)));
	pair_finish(&p);

	client.cert_file = path("client.crt");
	client.key_file = path("client.key");
	pair_up(&p, &server, &client, NULL);
	assert_true(tls_client_is_verified_by(p.server.conn.tls, p.server_ctx));
	assert_true(tls_peer_name(p.server.conn.tls, name, sizeof(name)));
	pair_finish(&p);

	server.ca_file = path("other.crt");
	server_refuses(&server, &client, "certificate verify failed");
}

/* The server's certificate, signed with a key of its own, which is taken. */
static void identity_sign_again(struct identity *id, EVP_PKEY *key, int padding, const EVP_MD *md)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *of_key;

	EVP_PKEY_free(id->key);
	id->key = key;
	X509_set_pubkey(id->cert, key);
	assert_int_equal(EVP_DigestSignInit(ctx, &of_key, md, NULL, key), 1);
	if (padding)
		assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(of_key, padding), 1);
	assert_true(X509_sign_ctx(id->cert, ctx) > 0);
	EVP_MD_CTX_free(ctx);
}

/* How a certificate is signed; what stands for it then. */
struct signing {
	const char *key; /* of an elliptic curve, or "RSA", "PSS", "ED25519" */
	const char *hash;
	const char *end_point; /* NULL: nothing */
};

static EVP_PKEY *key_make(const char *kind)
{
	if (!strcmp(kind, "ED25519"))
		return EVP_PKEY_Q_keygen(NULL, NULL, kind);
	return *kind == 'P' && kind[1] == '-' ? EVP_EC_gen(kind) : EVP_RSA_gen(2048);
}

static void test_end_point(void **state)
{
	static const struct signing table[] = {
		{"P-256",    "SHA256", "SHA256"},
                { "P-384",   "SHA384", "SHA384"},
		{ "RSA",     "SHA1",   "SHA256"},
                { "RSA",     "SHA512", "SHA512"},
		{ "PSS",     "SHA384", "SHA384"},
                { "ED25519", NULL,     NULL    },
	};

	for (size_t i = 0; i < PGT_NELEMS(table); i++) {
		struct identity id = identity_make("server", NULL, NULL);
		struct tls_options server = server_options(), client = client_options();
		uint8_t expected[EVP_MAX_MD_SIZE], got[TLS_END_POINT_MAX];
		unsigned n = 0;
		struct pair p;

		identity_sign_again(&id, key_make(table[i].key),
				    strcmp(table[i].key, "PSS") ? 0 : RSA_PKCS1_PSS_PADDING,
				    table[i].hash ? EVP_get_digestbyname(table[i].hash) : NULL);
		identity_write(&id, "signed.crt", "signed.key");
		server.cert_file = path("signed.crt");
		server.key_file = path("signed.key");
		/* For SHA-1, which is not taken else. */
		server.ciphers = client.ciphers = "DEFAULT@SECLEVEL=0";
		if (table[i].end_point)
			X509_digest(id.cert, EVP_get_digestbyname(table[i].end_point), expected,
				    &n);
		pair_up(&p, &server, &client, NULL);
		assert_int_equal(tls_end_point(p.server.conn.tls, got), n);
		assert_memory_equal(got, expected, n);
		assert_int_equal(tls_end_point(p.client.conn.tls, got), n);
		assert_memory_equal(got, expected, n);
		pair_finish(&p);
		identity_free(&id);
	}
}

static void test_large_transfers_both_ways(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;

	pair_up(&p, &server, &client, NULL);
	pattern_put(conn_output(&p.client.conn), LARGE);
	pattern_put(conn_output(&p.server.conn), LARGE);
	UNTIL(&rig, buf_len(&p.server.got) == LARGE && buf_len(&p.client.got) == LARGE);
	assert_true(pattern_is_at(&p.server.got));
	assert_true(pattern_is_at(&p.client.got));
	assert_null(p.server.conn.out);
	pair_finish(&p);
}

static void test_goodbye_ends_the_other_side(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;

	pair_up(&p, &server, &client, NULL);
	conn_send(&p.server.conn, "last", 4);
	conn_finish(&p.server.conn, 60 * USEC_PER_SEC);
	p.client.stays_open = true;
	UNTIL(&rig, p.client.nended);
	assert_true(slice_is_equal(buf_peek(&p.client.got), SLICE("last")));
	assert_string_equal(p.client.why, "");
	conn_close_soon(&p.client.conn);
	UNTIL(&rig, p.server.nfreed);
	pair_finish(&p);
}

/* Somebody's signature that was wrong, say. */
static void leave_an_error(void)
{
	ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
}

static void test_errors_of_others_are_not_a_session_s(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;
	enum tls_want want;
	char room[8];

	pair_up(&p, &server, &client, NULL);
	leave_an_error();
	assert_int_equal(tls_read(p.server.conn.tls, room, sizeof(room), &want), -1);
	assert_int_equal(want, TLS_WANT_READ);
	leave_an_error();
	conn_send(&p.client.conn, "word", 4);
	UNTIL(&rig, buf_len(&p.server.got) == 4);
	conn_finish(&p.client.conn, 60 * USEC_PER_SEC);
	p.server.stays_open = true;
	UNTIL(&rig, (leave_an_error(), p.server.nended));
	assert_string_equal(p.server.why, "");
	conn_close_soon(&p.server.conn);
	UNTIL(&rig, p.client.nfreed);
	pair_finish(&p);
	ERR_clear_error();
}

static void test_output_waits_for_the_handshake(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	char query[] = "query";
	struct pair p;

	pair_start(&p, &server, &client, NULL, false);
	conn_send(&p.client.conn, query, 5);
	net_flush(&rig.net);
	memset(query, 'x', sizeof(query));
	UNTIL(&rig, buf_len(&p.server.got) == 5);
	assert_memory_equal(buf_head(&p.server.got), "query", 5);
	pair_finish(&p);
}

/* ---- what an attacker or a stranger does ---------------------------------------------------- */

static struct tls_context *injected_ctx;

static void answer_ssl_request(struct end *end)
{
	conn_consume(&end->conn, 8);
	conn_send(&end->conn, "S", 1);
	conn_start_tls(&end->conn, tls_new(injected_ctx, end->conn.fd, NULL, NULL, false));
}

static void test_plaintext_after_the_request_is_refused(void **state)
{
	struct tls_options server = server_options();
	struct end end;
	int fd = end_open(&end, &rig);

	injected_ctx = context(&server);
	end.on_readable = answer_ssl_request;
	assert_int_equal(write(fd, "\0\0\0\10\4\322\26\57Q\0\0\0\5", 13), 13);
	UNTIL(&rig, end.nfreed);
	assert_non_null(strstr(end.why, "unencrypted bytes"));
	assert_int_equal(end.nready, 0);
	close(fd);
	tls_context_unref(injected_ctx);
}

static void test_direct_with_alpn(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;

	pair_start(&p, &server, &client, NULL, true);
	UNTIL(&rig, p.server.nready && p.client.nready);
	pair_finish(&p);
}

/* A peer that knows only what alpn says ("": no ALPN at all); returns whether ours came through. */
static bool meets_stranger(bool we_serve, bool direct, const char *alpn, struct end *ours)
{
	struct tls_options o = we_serve ? server_options() : client_options();
	struct tls_context *ctx = context(&o);
	SSL_CTX *their_ctx = SSL_CTX_new(we_serve ? TLS_client_method() : TLS_server_method());
	SSL *them;
	int fd = end_open(ours, &rig);
	bool came_through;

	if (!we_serve) {
		SSL_CTX_use_certificate_chain_file(their_ctx, path("server.crt"));
		SSL_CTX_use_PrivateKey_file(their_ctx, path("server.key"), SSL_FILETYPE_PEM);
	}
	if (*alpn)
		SSL_CTX_set_alpn_protos(their_ctx, (const unsigned char *)alpn,
					(unsigned)strlen(alpn));
	them = SSL_new(their_ctx);
	SSL_set_fd(them, fd);
	conn_start_tls(&ours->conn, tls_new(ctx, ours->conn.fd, NULL, NULL, direct));
	UNTIL(&rig, ((void)(we_serve ? SSL_connect(them) : SSL_accept(them)), ERR_clear_error(),
		     ours->nready || ours->nended));
	came_through = ours->nready;
	SSL_free(them);
	SSL_CTX_free(their_ctx);
	close(fd);
	UNTIL(&rig, ours->nfreed);
	tls_context_unref(ctx);
	return came_through;
}

static void test_strangers_to_our_alpn(void **state)
{
	struct end ours;

	/* Before PostgreSQL 17 nobody has ALPN, and direct TLS is refused without. */
	assert_true(meets_stranger(true, false, "", &ours));
	assert_true(meets_stranger(false, false, "", &ours));
	assert_false(meets_stranger(true, true, "", &ours));
	assert_non_null(strstr(ours.why, "handshake failed"));
	assert_false(meets_stranger(false, true, "", &ours));
	assert_non_null(strstr(ours.why, "ALPN"));
	/* Another protocol was meant for another server. */
	assert_false(meets_stranger(true, false, "\2h2", &ours));
	assert_false(meets_stranger(true, true, "\2h2", &ours));
}

static void test_garbage_instead_of_a_handshake(void **state)
{
	struct tls_options server = server_options();
	struct tls_context *ctx = context(&server);
	struct end end;
	int fd = end_open(&end, &rig);

	conn_start_tls(&end.conn, tls_new(ctx, end.conn.fd, NULL, NULL, false));
	assert_int_equal(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
	UNTIL(&rig, end.nfreed);
	assert_non_null(strstr(end.why, "handshake failed"));
	close(fd);
	tls_context_unref(ctx);
}

static void test_garbage_instead_of_a_record(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p;

	pair_up(&p, &server, &client, NULL);
	assert_int_equal(write(p.client.conn.fd, "plain text for you", 18), 18);
	UNTIL(&rig, p.server.nended);
	assert_string_equal(p.server.why, strerror(EPROTO));
	assert_int_equal(buf_len(&p.server.got), 0);
	pair_finish(&p);
}

/* So that not even an alert can be said. */
static void fill(int fd)
{
	static const char zeros[4096];

	for (size_t n = sizeof(zeros); n; n /= 2)
		while (send(fd, zeros, n, MSG_DONTWAIT) > 0)
			;
}

static void test_garbage_where_the_alert_has_to_wait(void **state)
{
	struct tls_options server = server_options();
	struct tls_options client = client_options();
	struct pair p, other;
	char room[4096];

	pair_up(&other, &server, &client, NULL);
	pair_up(&p, &server, &client, NULL);
	fill(p.server.conn.fd);
	conn_pause(&p.client.conn);
	assert_int_equal(write(p.client.conn.fd, "plain text for you", 18), 18);
	for (int i = 0; i < 3; i++)
		rig_turn(&rig);
	while (recv(p.client.conn.fd, room, sizeof(room), MSG_DONTWAIT) > 0)
		;
	for (int i = 0; i < 20; i++)
		rig_turn(&rig);
	assert_int_equal(p.server.nended, 1);
	assert_string_equal(p.server.why, strerror(EPROTO));
	pair_finish(&p);
	pair_finish(&other);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_errors_name_the_file_and_the_reason),
		TEST(test_protocols_and_description),
		TEST(test_verify_ca_and_full),
		TEST(test_client_certificates),
		TEST(test_client_certificates_that_need_not_be),
		TEST(test_end_point),
		TEST(test_large_transfers_both_ways),
		TEST(test_goodbye_ends_the_other_side),
		TEST(test_errors_of_others_are_not_a_session_s),
		TEST(test_output_waits_for_the_handshake),
		TEST(test_plaintext_after_the_request_is_refused),
		TEST(test_direct_with_alpn),
		TEST(test_strangers_to_our_alpn),
		TEST(test_garbage_instead_of_a_handshake),
		TEST(test_garbage_instead_of_a_record),
		TEST(test_garbage_where_the_alert_has_to_wait),
	};

	return cmocka_run_group_tests(tests, setup_files, teardown_files);
}
