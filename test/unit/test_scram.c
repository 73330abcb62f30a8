/* SPDX-License-Identifier: ISC
 *
 * test_scram.c - SCRAM-SHA-256: the RFC's exchange, PostgreSQL's secrets, both roles against each
 * other, and what hostile peers send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/base64.h"
#include "auth/saslprep.h"
#include "auth/scram.h"

#include <stdio.h>
#include <stdlib.h>

static const uint8_t salt[SCRAM_SALT_LEN] = "0123456789abcdef";
static const struct slice unbound;

/* Both sides of one exchange and the last message. */
struct exchange {
	struct scram_server server;
	struct scram_client client;
	struct buf message;
	uint8_t client_key[SCRAM_KEY_LEN];
	struct err err;
};

static struct slice text_of(struct buf *b)
{
	return slice_str(buf_cstr(b));
}

static struct scram_secret secret_of(const char *password)
{
	struct scram_secret secret;

	scram_secret_make(slice_str(password), 16, salt, sizeof(salt), &secret);
	return secret;
}

static void exchange_fini(struct exchange *x)
{
	scram_server_fini(&x->server);
	scram_client_fini(&x->client);
	buf_fini(&x->message);
}

/* From an initialised client and server to the end; false where someone refuses. */
static bool exchange_run(struct exchange *x)
{
	struct buf in = { 0 };
	bool ok;

	scram_client_first(&x->client, &in);
	ok = scram_server_first(&x->server, text_of(&in), &x->message, &x->err);
	buf_clear(&in);
	ok = ok && scram_client_final(&x->client, text_of(&x->message), &in, &x->err);
	buf_clear(&x->message);
	ok =
	    ok && scram_server_final(&x->server, text_of(&in), &x->message, x->client_key, &x->err);
	ok = ok && scram_client_verify(&x->client, text_of(&x->message), &x->err);
	buf_fini(&in);
	return ok;
}

static bool login(const struct scram_secret *secret, const char *password)
{
	struct exchange x = { 0 };
	bool ok;

	scram_server_init(&x.server, secret, unbound, NULL);
	scram_client_init_password(&x.client, slice_str(password));
	ok = exchange_run(&x);
	if (!ok)
		assert_string_equal(x.err.sqlstate, "28P01");
	exchange_fini(&x);
	return ok;
}

/* --- RFC 7677, section 3 --- */

#define RFC_CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SALT         "W22ZaJ0SNY7soEsUEjb6gQ=="
#define RFC_SERVER_FIRST "r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",s=" RFC_SALT ",i=4096"
#define RFC_CLIENT_FINAL                                                                           \
	"c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE                                              \
	",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static struct scram_secret rfc_secret(void)
{
	struct scram_secret secret;
	uint8_t raw[SCRAM_MAX_SALT];
	size_t n;

	assert_true(base64_get(SLICE(RFC_SALT), raw, sizeof(raw), &n));
	scram_secret_make(SLICE("pencil"), 4096, raw, n, &secret);
	return secret;
}

static void test_rfc_server(void **state)
{
	struct scram_secret secret = rfc_secret();
	struct exchange x = { 0 };

	(void)state;
	scram_server_init(&x.server, &secret, unbound, RFC_SERVER_NONCE);
	assert_true(scram_server_first(&x.server, SLICE("n,,n=user,r=" RFC_CLIENT_NONCE),
				       &x.message, &x.err));
	assert_string_equal(buf_cstr(&x.message), RFC_SERVER_FIRST);
	buf_clear(&x.message);
	assert_true(scram_server_final(&x.server, SLICE(RFC_CLIENT_FINAL), &x.message, x.client_key,
				       &x.err));
	assert_string_equal(buf_cstr(&x.message), RFC_SERVER_FINAL);
	exchange_fini(&x);
}

/* The RFC's client names a user and ours does not, so the proof differs; the server's view of it
 * was tested above, and here the machine is put into the RFC's state. */
static void test_rfc_client(void **state)
{
	struct exchange x = { 0 };

	(void)state;
	scram_client_init_password(&x.client, SLICE("pencil"));
	snprintf(x.client.nonce, sizeof(x.client.nonce), "%s", RFC_CLIENT_NONCE);
	scram_client_first(&x.client, &x.message);
	assert_string_equal(buf_cstr(&x.message), "n,,n=,r=" RFC_CLIENT_NONCE);
	buf_clear(&x.message);
	buf_clear(&x.client.auth);
	buf_put_slice(&x.client.auth, SLICE("n=user,r=" RFC_CLIENT_NONCE));
	assert_true(scram_client_final(&x.client, SLICE(RFC_SERVER_FIRST), &x.message, &x.err));
	assert_string_equal(buf_cstr(&x.message), RFC_CLIENT_FINAL);
	assert_true(scram_client_verify(&x.client, SLICE(RFC_SERVER_FINAL), &x.err));
	exchange_fini(&x);
}

/* --- secrets --- */

/* Made by PostgreSQL 15: CREATE ROLE … PASSWORD '…' in an UTF-8 database. */
static const struct {
	const char *password;
	const char *secret;
} of_postgres[] = {
	{"pencil",				       "SCRAM-SHA-256$4096:Hz3CPU9tpLByH7Tr7D28dw==$"
		    "gxgfDfXQ+VyQooHoikjrxwmJjHOtmVfSvNNhKalcxvE=:"
		    "SOwK5K4zLvToELaFFhYg9fMlJkBYlFin72cSAuEro5s="                                           },
	{ "with space \001ctl",                          "SCRAM-SHA-256$4096:vvvs6tnN3R5bOtFXywSWpQ==$"
				"/lmr7h6jzkOqB1YHCmo4JjpLEiw0OHTD+cqeCD+r+qc=:CAqUH6S0t6udCzt+"
				"leXHrUF/h8rGJGSZDWxqZRfkvhM="                                  },
	{ "na\u00efve-\u20ac",                           "SCRAM-SHA-256$4096:iOV/QZ03YUrwACSrgGBlbg==$"
			       "1zEgYrGkcZ4SfdcA3jU6goYjtB0vU6elDsWDMmUWguo=:"
			       "QYb7nue7zL44DImzpUSHwz6q2huK/quEliN6jXEW6jc="                    },
	{ "p\u00e4ssw\u00f6rd",                          "SCRAM-SHA-256$4096:GBOCLuZmpKB9od1j/5Dgsw==$"
				"khB1vV7PRIYfJfAZ7YgwWqTooxd8sV/"
				"G9vjFV9r5PAg=:Cx8vd2255ddJRkdK6l6UqXqwEdOEYqPzFC6KQXGdaG0="    },
	{ "\u00b5\u00b2 \u00bd\u00aa",                   "SCRAM-SHA-256$4096:JZapC01poK50Zt3PnIRpsg==$"
				       "SSoBIiUQ5CMSqyGd5NuikwBIk51Kbg8sTlsfRjTW/"
				       "B4=:GeuxY5vsLo8IuRGKZW6x0XbVAUX+EGID0SkbWNzBnwQ="},
	{ "a\u00a0b\u00adc",			     "SCRAM-SHA-256$4096:sfY47O16C2dNZEldDjin5A==$"
			     "GF56RviXVR218UJgfcG8JIO24Yc1g3S8v/"
			     "ijYodEf60=:GhQbjYSy8lZJxfPMAS2E8iZjDIByw3i/FwCCHNOFqDY="             },
	{ "\u00b4\u00a8",				"SCRAM-SHA-256$4096:K2C3YkDIewlU2PMKya8owg==$"
			  "1kZc2GADvAYbew5w1wYdZXutd4x9vKZYZ7hI9pilomo=:"
			  "KvSVDdpvX8TIrQxGSj249bZrPz2gZ0WTlslibxypEbo="                              },
	{ "\u00ad",				      "SCRAM-SHA-256$4096:zhE4rfKHvaW6496lSwa5nw==$"
		    "47d5RKbY3KYpeODy7UM6g5DNox0i8lYIxJap8cDE6pc=:"
		    "URlQeD207bUz3km9bEHYUFCwCy54WUhERj57NXDs92w="                                          },
	{ "\u043f\u0430\u0440\u043e\u043b\u044c\u00a01",
         "SCRAM-SHA-256$4096:AGS4TxP+GBhjs7pWxS+MBA==$"
	  "a5869asW/YUWmEqo4AFoRMvrWNRaymonpOToUku2eP8=:c1Bb/L/"
	  "MtySKVcNVXHxOBxmjFBDlUhsFY8Hxg9tn2c4="									      },
	{ "\u5bc6\u7801",				"SCRAM-SHA-256$4096:Cd2+K1yaDnhMiD+U2B/L+w==$"
			  "1PivV6V04acHH9ItYdJEZXKnc+qszpqo3rbBgwfjk2k=:"
			  "RDVCES0YFFN3KzLK5KNT5dSCqCdstbd6YZsNHqoz0vM="                              },
	{ "\U0001f511key",			       "SCRAM-SHA-256$4096:5HgDEy4bYlEbqac7o0porg==$"
			   "np/MW/6Tn30YmsTGj9QhBja+xwRPFr6gEfenomvq2uk=:J10EX/"
			   "fFkP2eX7gzp9C1VdZn4JmtnXA77ncSmcWdyWo="                                  },
	{ "\u00e9\u00a0\U0001f511",                      "SCRAM-SHA-256$4096:LVZjzs7ae4MCtk7R2/E9Iw==$"
				    "CsrhoS4KC1WjWGufGPNIr+tZjN6vqykTq0A9ShJ1FEM=:CICmzzO8/"
				    "czsfp1GuKfkUhqQTSN+Tl66QhE62r8ymfs="                   },
	{ "\u00e9\302\205\u00a0",
         "SCRAM-SHA-256$4096:H6zJvqU58Ek0cIQMloWfdw==$"
	  "HVY+sTABhV53zvT/"
	  "F6ISLpQ6WrGqIzGUvTTS5UPmGPc=:4PKy9h2gQK7khEvvmWCQRnzFt16pTu68bJ1WcjUKTaA="                                          },
	{ "\u0132\u017f",				"SCRAM-SHA-256$4096:h6kxfvcJFys/mWfyui5VKA==$"
			  "WUMXQXHeuTAbvYmwe08Uybybofkl0U1D0Xt9hgmr9mc=:Wm9lig8OWU+WYUeN/"
			  "a1vJN30LWeMkeupaLhMmdJnW6Q="                                               },
	{ "\u05d0\u00a0a",			       "SCRAM-SHA-256$4096:K8vV4FA4y+iIO+1KVrjU7Q==$"
			   "i+hBNgs1RidQ3k0Sfs7108ceAHdTEdTgNdEwJ/gaMqI=:EvWUXE/"
			   "qJQI2xCWKemDH+qWNuorGb0F9DOo0wu6mOzQ="                                   },
};

static void test_secrets_of_postgres(void **state)
{
	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(of_postgres); i++) {
		struct scram_secret stored, made;

		assert_true(scram_secret_parse(slice_str(of_postgres[i].secret), &stored));
		assert_int_equal(stored.iterations, 4096);
		scram_secret_make(slice_str(of_postgres[i].password), stored.iterations,
				  stored.salt, stored.salt_len, &made);
		assert_memory_equal(made.stored_key, stored.stored_key, SCRAM_KEY_LEN);
		assert_memory_equal(made.server_key, stored.server_key, SCRAM_KEY_LEN);
	}
}

#define KEY_A "gxgfDfXQ+VyQooHoikjrxwmJjHOtmVfSvNNhKalcxvE="
#define KEY_B "SOwK5K4zLvToELaFFhYg9fMlJkBYlFin72cSAuEro5s="
#define SALT  "Hz3CPU9tpLByH7Tr7D28dw=="

static void test_malformed_secrets(void **state)
{
	const char *whole = "SCRAM-SHA-256$4096:" SALT "$" KEY_A ":" KEY_B;
	const char *bad[] = {
		"SCRAM-SHA-1$4096:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$0:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$-1:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$ 1:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$2147483648:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$99999999999999999999:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$:" SALT "$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$4096:$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$4096:!!!!$" KEY_A ":" KEY_B,
		"SCRAM-SHA-256$4096:" SALT "$" SALT ":" KEY_B,
		"SCRAM-SHA-256$4096:" SALT "$" KEY_A ":" KEY_B "AAAA",
		/* 66 bytes of salt */
		"SCRAM-SHA-256$4096:" KEY_A KEY_B "$" KEY_A ":" KEY_B,
	};
	struct scram_secret out;

	(void)state;
	assert_true(scram_secret_parse(slice_str(whole), &out));
	for (size_t n = 0; n < strlen(whole); n++)
		assert_false(scram_secret_parse(slice_of(whole, n), &out));
	for (size_t i = 0; i < PGT_NELEMS(bad); i++)
		assert_false(scram_secret_parse(slice_str(bad[i]), &out));
	assert_true(
	    scram_secret_parse(SLICE("SCRAM-SHA-256$2147483647:" SALT "$" KEY_A ":" KEY_B), &out));
}

static void test_mock_is_stable_and_fits_nobody(void **state)
{
	struct scram_secret a, again, other;

	(void)state;
	scram_secret_mock(NULL, SLICE("ann"), 4096, &a);
	scram_secret_mock(NULL, SLICE("ann"), 4096, &again);
	scram_secret_mock(NULL, SLICE("bob"), 4096, &other);
	assert_int_equal(a.salt_len, SCRAM_SALT_LEN);
	assert_memory_equal(a.salt, again.salt, a.salt_len);
	assert_memory_not_equal(a.salt, other.salt, a.salt_len);
	assert_memory_not_equal(a.stored_key, a.server_key, SCRAM_KEY_LEN);
	assert_false(login(&a, "ann"));
	assert_false(login(&a, ""));
}

static void test_mock_salt_is_of_its_key(void **state)
{
	struct scram_mac one, same, other;
	struct scram_secret a, again, b;

	(void)state;
	scram_salt_key(SLICE("what nobody knows"), &one);
	scram_salt_key(SLICE("what nobody knows"), &same);
	scram_salt_key(SLICE("what nobody else knows"), &other);
	scram_secret_mock(&one, SLICE("ann"), 4096, &a);
	scram_secret_mock(&same, SLICE("ann"), 4096, &again);
	scram_secret_mock(&other, SLICE("ann"), 4096, &b);
	assert_memory_equal(a.salt, again.salt, a.salt_len);
	assert_memory_not_equal(a.salt, b.salt, a.salt_len);
}

/* --- both roles --- */

static void test_round_trip(void **state)
{
	struct scram_secret secret = secret_of("geheim");

	(void)state;
	assert_true(login(&secret, "geheim"));
	assert_false(login(&secret, "Geheim"));
	assert_false(login(&secret, ""));
	secret = secret_of("p\u00e4ss\u00a0w\u00b5rt");
	assert_true(login(&secret, "p\u00e4ss w\u03bcrt"));
}

/* The way of pass-through: a client logs in to us, we log in to the server as it. */
static void test_keys_of_a_login_open_the_server(void **state)
{
	struct scram_secret secret = secret_of("geheim"), elsewhere;
	struct exchange front = { 0 }, back = { 0 };

	(void)state;
	scram_server_init(&front.server, &secret, unbound, NULL);
	scram_client_init_password(&front.client, SLICE("geheim"));
	assert_true(exchange_run(&front));
	assert_memory_equal(front.client.server_key, secret.server_key, SCRAM_KEY_LEN);
	assert_memory_equal(front.client.client_key, front.client_key, SCRAM_KEY_LEN);

	scram_server_init(&back.server, &secret, unbound, NULL);
	scram_client_init_keys(&back.client, front.client_key, secret.server_key);
	assert_true(exchange_run(&back));
	exchange_fini(&back);

	scram_secret_make(SLICE("geheim"), 16, salt, 8, &elsewhere);
	back = (struct exchange){ 0 };
	scram_server_init(&back.server, &elsewhere, unbound, NULL);
	scram_client_init_keys(&back.client, front.client_key, secret.server_key);
	assert_false(exchange_run(&back));
	assert_string_equal(back.err.sqlstate, "28P01");
	exchange_fini(&back);
	exchange_fini(&front);
}

static void test_a_server_without_the_secret_is_caught(void **state)
{
	struct scram_secret secret = secret_of("geheim");
	struct exchange x = { 0 };

	(void)state;
	secret.server_mac = secret_of("Geheim").server_mac;
	scram_server_init(&x.server, &secret, unbound, NULL);
	scram_client_init_password(&x.client, SLICE("geheim"));
	assert_false(exchange_run(&x));
	assert_string_equal(x.err.sqlstate, "28000");
	exchange_fini(&x);
}

/* --- bound to a TLS connection --- */

#define BINDING   SLICE("what is seen of it")
#define ELSEWHERE SLICE("what another sees")

/* The RFC's exchange, of a user without a name, through a connection that is bound by the SHA-256
 * of "certificate": the proofs were computed by another program. */
static const uint8_t rfc_binding[] = { 0x03, 0xd6, 0x6d, 0xd0, 0x88, 0x35, 0xc1, 0xca,
				       0x3f, 0x12, 0x8c, 0xce, 0xac, 0xd1, 0xf3, 0x1a,
				       0xc9, 0x41, 0x63, 0x09, 0x6b, 0x20, 0xf4, 0x45,
				       0xae, 0x84, 0x28, 0x5b, 0xc0, 0x83, 0x2d, 0x72 };
#define RFC_BOUND_FINAL                                                                            \
	"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsA9Zt0Ig1wco/EozOrNHzGslBYwlrIPRFroQoW8CDLXI="           \
	",r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",p=+zCdMK4l2JRBX6aaOY99rhAluhUDgC1judMOSldbSW0="

static void test_bound_exchange_of_another_program(void **state)
{
	const struct slice binding = slice_of((const char *)rfc_binding, sizeof(rfc_binding));
	struct scram_secret secret = rfc_secret();
	struct exchange x = { 0 };
	struct buf out = { 0 };

	(void)state;
	scram_server_init(&x.server, &secret, binding, RFC_SERVER_NONCE);
	scram_client_init_password(&x.client, SLICE("pencil"));
	scram_client_bind(&x.client, SCRAM_IS_BOUND, binding);
	snprintf(x.client.nonce, sizeof(x.client.nonce), "%s", RFC_CLIENT_NONCE);
	assert_true(scram_server_select(&x.server, SLICE(SCRAM_MECHANISM_PLUS)));
	scram_client_first(&x.client, &out);
	assert_string_equal(buf_cstr(&out), "p=tls-server-end-point,,n=,r=" RFC_CLIENT_NONCE);
	assert_true(scram_server_first(&x.server, text_of(&out), &x.message, &x.err));
	assert_string_equal(buf_cstr(&x.message), RFC_SERVER_FIRST);
	buf_clear(&out);
	assert_true(scram_client_final(&x.client, text_of(&x.message), &out, &x.err));
	assert_string_equal(buf_cstr(&out), RFC_BOUND_FINAL);
	buf_clear(&x.message);
	assert_true(scram_server_final(&x.server, text_of(&out), &x.message, x.client_key, &x.err));
	assert_string_equal(buf_cstr(&x.message), "v=hvxs8NC6p2j23GdNkoOcIr90RKXwCdx7cZgArRYoUIo=");
	assert_true(scram_client_verify(&x.client, text_of(&x.message), &x.err));
	buf_fini(&out);
	exchange_fini(&x);
}

/* A client that is bound to .seen, of a server that is bound to .own; empty: not at all. */
static bool bound_login(struct slice own, const char *mechanism, enum scram_binding how,
			struct slice seen, struct exchange *x)
{
	struct scram_secret secret = secret_of("geheim");

	*x = (struct exchange){ 0 };
	scram_server_init(&x->server, &secret, own, NULL);
	assert_true(scram_server_select(&x->server, slice_str(mechanism)));
	scram_client_init_password(&x->client, SLICE("geheim"));
	scram_client_bind(&x->client, how, seen);
	return exchange_run(x);
}

static void test_bindings_have_to_be_the_same(void **state)
{
	const struct slice none = { 0 };
	struct exchange x;

	(void)state;
	assert_true(bound_login(BINDING, SCRAM_MECHANISM_PLUS, SCRAM_IS_BOUND, BINDING, &x));
	exchange_fini(&x);
	assert_false(bound_login(BINDING, SCRAM_MECHANISM_PLUS, SCRAM_IS_BOUND, ELSEWHERE, &x));
	assert_string_equal(x.err.sqlstate, "28000");
	assert_string_equal(x.err.text, "SCRAM channel binding check failed");
	exchange_fini(&x);
	/* The offer has been lost on its way. */
	assert_false(bound_login(BINDING, SCRAM_MECHANISM, SCRAM_NOT_OFFERED, none, &x));
	assert_string_equal(x.err.sqlstate, "28000");
	assert_string_equal(x.err.text, "SCRAM channel binding negotiation error");
	exchange_fini(&x);
	/* There was none. */
	assert_true(bound_login(none, SCRAM_MECHANISM, SCRAM_NOT_OFFERED, none, &x));
	exchange_fini(&x);
}

static void test_mechanisms(void **state)
{
	struct scram_secret secret = secret_of("x");
	struct scram_server server;
	struct buf offer = { 0 };

	(void)state;
	scram_server_init(&server, &secret, unbound, NULL);
	scram_server_offer(&server, &offer);
	assert_memory_equal(buf_head(&offer), SCRAM_MECHANISM, sizeof(SCRAM_MECHANISM));
	assert_int_equal(buf_len(&offer), sizeof(SCRAM_MECHANISM));
	assert_false(scram_server_select(&server, SLICE(SCRAM_MECHANISM_PLUS)));
	assert_true(scram_server_select(&server, SLICE(SCRAM_MECHANISM)));
	scram_server_fini(&server);

	buf_clear(&offer);
	scram_server_init(&server, &secret, BINDING, NULL);
	scram_server_offer(&server, &offer);
	assert_int_equal(buf_len(&offer), sizeof(SCRAM_MECHANISM_PLUS) + sizeof(SCRAM_MECHANISM));
	assert_memory_equal(buf_head(&offer), SCRAM_MECHANISM_PLUS "\0" SCRAM_MECHANISM,
			    buf_len(&offer));
	assert_true(scram_server_select(&server, SLICE(SCRAM_MECHANISM_PLUS)));
	assert_false(scram_server_select(&server, SLICE("SCRAM-SHA-1")));
	assert_false(scram_server_select(&server, SLICE("")));
	scram_server_fini(&server);
	buf_fini(&offer);
}

/* --- hostile clients --- */

/* One client-first-message to a fresh server: the SQLSTATE of the refusal, "" when accepted. */
static const char *first_answer_of(struct slice message, struct slice binding,
				   const char *mechanism)
{
	static struct err err;
	struct scram_secret secret = secret_of("x");
	struct scram_server server;
	struct buf out = { 0 };

	err = (struct err){ 0 };
	scram_server_init(&server, &secret, binding, "server");
	assert_true(scram_server_select(&server, slice_str(mechanism)));
	if (!scram_server_first(&server, message, &out, &err)) {
		assert_int_equal(buf_len(&out), 0);
		assert_true(err.sqlstate[0] != '\0');
	}
	scram_server_fini(&server);
	buf_fini(&out);
	return err.sqlstate;
}

static const char *first_answer(struct slice message)
{
	return first_answer_of(message, unbound, SCRAM_MECHANISM);
}

/* By a client that has selected PLUS, and by one that has not though it was offered. */
static void test_client_first_of_bindings(void **state)
{
	static const struct {
		const char *message;
		const char *with_plus;
		const char *without;
	} cases[] = {
		{"p=tls-server-end-point,,n=,r=abc",   "",      "08P01"},
		{ "p=tls-server-end-point,a=x,n=,r=a", "0A000", "08P01"},
		{ "p=tls-server-end-poin,,n=,r=abc",   "08P01", "08P01"},
		{ "p=tls-server-end-point2,,n=,r=abc", "08P01", "08P01"},
		{ "p=TLS-SERVER-END-POINT,,n=,r=abc",  "08P01", "08P01"},
		{ "p=tls-unique,,n=,r=abc",            "08P01", "08P01"},
		{ "p=\xff\n,,n=,r=abc",                "08P01", "08P01"},
		{ "p=,,n=,r=abc",                      "08P01", "08P01"},
		{ "p,,n=,r=abc",                       "08P01", "08P01"},
		{ "p=tls-server-end-point",            "08P01", "08P01"},
		{ "p=tls-server-end-point,",           "08P01", "08P01"},
		{ "p=tls-server-end-point,,",          "08P01", "08P01"},
		{ "p=tls-server-end-point,n=,r=abc",   "0A000", "08P01"},
		{ "n,,n=,r=abc",                       "08P01", ""     },
		{ "y,,n=,r=abc",                       "08P01", "28000"},
		{ "n=x,,n=,r=abc",                     "08P01", "08P01"},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++) {
		struct slice message = slice_str(cases[i].message);

		assert_string_equal(first_answer_of(message, BINDING, SCRAM_MECHANISM_PLUS),
				    cases[i].with_plus);
		assert_string_equal(first_answer_of(message, BINDING, SCRAM_MECHANISM),
				    cases[i].without);
	}
}

static void test_client_first(void **state)
{
	static const struct {
		const char *message;
		const char *sqlstate;
	} cases[] = {
		{"n,,n=,r=abc",                       ""     },
		{ "y,,n=,r=abc",                      ""     },
		{ "n,,n=someone,r=abc",               ""     },
		{ "n,,n=,r=abc,x=extension",          ""     },
		{ "p=tls-server-end-point,,n=,r=abc", "08P01"},
		{ "x,,n=,r=abc",                      "08P01"},
		{ "nn,,n=,r=abc",                     "08P01"},
		{ ",,n=,r=abc",                       "08P01"},
		{ "n,a=admin,n=,r=abc",               "0A000"},
		{ "n,,m=x,n=,r=abc",                  "0A000"},
		{ "",				 "08P01"},
		{ "n",				"08P01"},
		{ "n,,",			      "08P01"},
		{ "n,,r=abc",                         "08P01"},
		{ "n,,n=",			    "08P01"},
		{ "n,,n=,",                           "08P01"},
		{ "n,,n=,r=",                         "08P01"},
		{ "n,,r=abc,n=",                      "08P01"},
		{ "n,,n=,n=,r=abc",                   "08P01"},
		{ "n,,n=,r=abc,r=abc",                "08P01"},
		{ "n,,n=,r=abc,",                     "08P01"},
		{ "n,,n=,r=abc,x",                    "08P01"},
		{ "n,,n=,r=abc,=x",                   "08P01"},
		{ "n,,n=,r=a b",                      "08P01"},
		{ "n,,n=,r=\xc3\xa4",                 "08P01"},
		{ "n,,n=,x=before,r=abc",             "08P01"},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++)
		assert_string_equal(first_answer(slice_str(cases[i].message)), cases[i].sqlstate);
	assert_string_equal(first_answer(SLICE("n,,n=\0,r=abc")), "08P01");
	assert_string_equal(first_answer(slice_of(NULL, 0)), "08P01");
}

static void test_i6_lengths_are_bounded(void **state)
{
	struct buf b = { 0 };

	(void)state;
	for (size_t n = SCRAM_MAX_NONCE - 1; n <= SCRAM_MAX_NONCE + 1; n++) {
		buf_clear(&b);
		buf_put_slice(&b, SLICE("n,,n=,r="));
		for (size_t i = 0; i < n; i++)
			buf_put_u8(&b, 'x');
		assert_string_equal(first_answer(buf_peek(&b)), n > SCRAM_MAX_NONCE ? "08P01" : "");
	}
	buf_clear(&b);
	buf_put_slice(&b, SLICE("n,,n=,r=abc,x="));
	while (buf_len(&b) < SCRAM_MAX_MESSAGE)
		buf_put_u8(&b, 'x');
	assert_string_equal(first_answer(buf_peek(&b)), "");
	buf_put_u8(&b, 'x');
	assert_string_equal(first_answer(buf_peek(&b)), "08P01");
	buf_fini(&b);
}

/* A server of the RFC's secret that waits for client-final-message. */
static void server_until_final(struct scram_server *s, const char *first)
{
	struct scram_secret secret = rfc_secret();
	struct buf out = { 0 };
	struct err err;

	scram_server_init(s, &secret, unbound, RFC_SERVER_NONCE);
	assert_true(scram_server_first(s, slice_str(first), &out, &err));
	buf_fini(&out);
}

/* Gives it the message and returns the SQLSTATE of the refusal, "" when accepted. */
static const char *final_answer(const char *first, struct slice message)
{
	static struct err err;
	static const uint8_t zero[SCRAM_KEY_LEN];
	uint8_t key[SCRAM_KEY_LEN] = "left over";
	struct scram_server server;
	struct buf out = { 0 };

	err = (struct err){ 0 };
	server_until_final(&server, first);
	if (!scram_server_final(&server, message, &out, key, &err)) {
		assert_int_equal(buf_len(&out), 0);
		assert_memory_equal(key, zero, sizeof(key));
		assert_true(err.sqlstate[0] != '\0');
	}
	scram_server_fini(&server);
	buf_fini(&out);
	return err.sqlstate;
}

#define RFC_FIRST "n,,n=user,r=" RFC_CLIENT_NONCE
#define R         "r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE
#define P         "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

static void test_client_final(void **state)
{
	static const struct {
		const char *message;
		const char *sqlstate;
	} cases[] = {
		{RFC_CLIENT_FINAL,					       ""     },
		{ "c=eSws," R "," P,					     "08P01"}, /* said n before */
		{ "c=biws,r=" RFC_CLIENT_NONCE "," P,                            "08P01"},
		{ "c=biws,r=x" RFC_CLIENT_NONCE RFC_SERVER_NONCE "," P,          "08P01"},
		{ "c=biws,r=," P,						"08P01"},
		{ R "," P,						       "08P01"},
		{ "c=biws," P,						   "08P01"},
		{ "c=biws," R,						   "08P01"},
		{ R ",c=biws," P,						"08P01"},
		{ "c=biws," P "," R,					     "08P01"},
		{ "c=biws,c=biws," R "," P,                                      "08P01"},
		{ "c=biws," R "," R "," P,                                       "08P01"},
		{ "c=biws," R "," P "," P,                                       "08P01"},
		{ "c=biws," R "," P ",x=behind",                                 "08P01"},
		{ "c=biws," R "," P ",",					 "08P01"},
		{ "c=biws," R ",p=",					     "08P01"},
		{ "c=biws," R ",p=AAAA",					 "08P01"},
		{ "c=biws," R ",p=!HzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "08P01"},
		{ "c=biws," R ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=", "08P01"},
		{ "c=biws," R ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "28P01"},
 /* an extension is well formed, but this proof does not cover it */
		{ "c=biws," R ",x=y," P,					 "28P01"},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++)
		assert_string_equal(final_answer(RFC_FIRST, slice_str(cases[i].message)),
				    cases[i].sqlstate);
	/* y must come back as y. */
	assert_string_equal(final_answer("y,,n=user,r=" RFC_CLIENT_NONCE, SLICE(RFC_CLIENT_FINAL)),
			    "08P01");
	assert_string_equal(final_answer("y,,n=user,r=" RFC_CLIENT_NONCE, SLICE("c=eSws," R "," P)),
			    "28P01");
}

static void test_client_final_cut_at_every_byte(void **state)
{
	(void)state;
	for (size_t n = 0; n < strlen(RFC_CLIENT_FINAL); n++)
		assert_string_equal(final_answer(RFC_FIRST, slice_of(RFC_CLIENT_FINAL, n)),
				    "08P01");
}

static void test_messages_out_of_turn(void **state)
{
	struct scram_secret secret = rfc_secret();
	struct exchange x = { 0 };

	(void)state;
	scram_server_init(&x.server, &secret, unbound, RFC_SERVER_NONCE);
	assert_false(scram_server_final(&x.server, SLICE(RFC_CLIENT_FINAL), &x.message,
					x.client_key, &x.err));
	/* Over: not even the right one is taken now. */
	assert_false(scram_server_first(&x.server, SLICE(RFC_FIRST), &x.message, &x.err));
	scram_server_fini(&x.server);

	server_until_final(&x.server, RFC_FIRST);
	assert_false(scram_server_first(&x.server, SLICE(RFC_FIRST), &x.message, &x.err));
	assert_false(scram_server_final(&x.server, SLICE(RFC_CLIENT_FINAL), &x.message,
					x.client_key, &x.err));

	scram_client_init_password(&x.client, SLICE("pencil"));
	assert_false(scram_client_verify(&x.client, SLICE(RFC_SERVER_FINAL), &x.err));
	assert_string_equal(x.err.sqlstate, "08P01");
	exchange_fini(&x);
}

/* --- hostile servers --- */

/* One server-first-message to a fresh client, %s in it being the client's nonce. */
static const char *challenge_answer(const char *format, bool with_keys)
{
	static struct err err;
	static const uint8_t key[SCRAM_KEY_LEN];
	struct scram_client client;
	struct buf out = { 0 }, message = { 0 };

	err = (struct err){ 0 };
	if (with_keys)
		scram_client_init_keys(&client, key, key);
	else
		scram_client_init_password(&client, SLICE("x"));
	scram_client_first(&client, &out);
	buf_clear(&out);
	for (const char *p = format; *p; p++) {
		if (*p == '%')
			buf_put_slice(&message, slice_str(client.nonce));
		else
			buf_put_u8(&message, (uint8_t)*p);
	}
	if (!scram_client_final(&client, buf_peek(&message), &out, &err)) {
		assert_int_equal(buf_len(&out), 0);
		assert_true(err.sqlstate[0] != '\0');
	}
	scram_client_fini(&client);
	buf_fini(&out);
	buf_fini(&message);
	return err.sqlstate;
}

static void test_server_first(void **state)
{
	static const struct {
		const char *message;
		const char *sqlstate;
	} cases[] = {
		{"r=%abc,s=" SALT ",i=1",                     ""     },
		{ "r=%abc,s=" SALT ",i=100000",               ""     },
		{ "r=%abc,s=" SALT ",i=1,x=y",                ""     },
		{ "r=%abc,s=" SALT ",i=0",                    "08P01"},
		{ "r=%abc,s=" SALT ",i=100001",               "08P01"},
		{ "r=%abc,s=" SALT ",i=2147483648",           "08P01"},
		{ "r=%abc,s=" SALT ",i=4294967296",           "08P01"},
		{ "r=%abc,s=" SALT ",i=4294967297",           "08P01"},
		{ "r=%abc,s=" SALT ",i=18446744073709551617", "08P01"},
		{ "r=%abc,s=" SALT ",i=-1",                   "08P01"},
		{ "r=%abc,s=" SALT ",i=",                     "08P01"},
		{ "r=%abc,s=" SALT ",i=1x",                   "08P01"},
		{ "r=%,s=" SALT ",i=1",                       "08P01"}, /* adds nothing of its own */
		{ "r=,s=" SALT ",i=1",                        "08P01"},
		{ "r=abc,s=" SALT ",i=1",                     "08P01"},
		{ "r=x%abc,s=" SALT ",i=1",                   "08P01"},
		{ "r=%a c,s=" SALT ",i=1",                    "08P01"},
		{ "r=%abc,s=,i=1",                            "08P01"},
		{ "r=%abc,s=AAA,i=1",                         "08P01"},
		{ "r=%abc,s=" KEY_A KEY_B ",i=1",             "08P01"},
		{ "s=" SALT ",i=1",                           "08P01"},
		{ "r=%abc,i=1",                               "08P01"},
		{ "r=%abc,s=" SALT,                           "08P01"},
		{ "s=" SALT ",r=%abc,i=1",                    "08P01"},
		{ "r=%abc,i=1,s=" SALT,                       "08P01"},
		{ "r=%abc,r=%abc,s=" SALT ",i=1",             "08P01"},
		{ "r=%abc,s=" SALT ",s=" SALT ",i=1",         "08P01"},
		{ "r=%abc,s=" SALT ",i=1,i=1",                "08P01"},
		{ "r=%abc,s=" SALT ",i=1,",                   "08P01"},
		{ "m=x,r=%abc,s=" SALT ",i=1",                "0A000"},
		{ "e=other-error",                            "08P01"},
		{ "",					 "08P01"},
	};
	char longest[SCRAM_MAX_NONCE + 64];

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++)
		assert_string_equal(challenge_answer(cases[i].message, false), cases[i].sqlstate);
	snprintf(longest, sizeof(longest), "r=%%%0*d,s=" SALT ",i=1", SCRAM_MAX_NONCE, 0);
	assert_string_equal(challenge_answer(longest, false), "");
	snprintf(longest, sizeof(longest), "r=%%%0*d,s=" SALT ",i=1", SCRAM_MAX_NONCE + 1, 0);
	assert_string_equal(challenge_answer(longest, false), "08P01");
	/* With keys there is nothing to iterate. */
	assert_string_equal(challenge_answer("r=%abc,s=" SALT ",i=100001", true), "");
	assert_string_equal(challenge_answer("r=%abc,s=" SALT ",i=0", true), "08P01");
}

static void test_server_final(void **state)
{
	static const struct {
		const char *message;
		const char *sqlstate;
	} cases[] = {
		{"e=invalid-proof",       "28P01"},
		{ "e=",                   "08P01"},
		{ "e=a\nb",               "08P01"},
		{ "v=",                   "08P01"},
		{ "v=AAAA",               "08P01"},
		{ "v=" KEY_A,             "28000"},
		{ "v=" KEY_A ",v=" KEY_A, "08P01"},
		{ "v=" KEY_A ",",         "08P01"},
		{ "x=" KEY_A,             "08P01"},
		{ "",                     "08P01"},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++) {
		struct exchange x = { 0 };
		char first[128];

		scram_client_init_password(&x.client, SLICE("x"));
		scram_client_first(&x.client, &x.message);
		snprintf(first, sizeof(first), "r=%sabc,s=" SALT ",i=1", x.client.nonce);
		assert_true(scram_client_final(&x.client, slice_str(first), &x.message, &x.err));
		assert_false(scram_client_verify(&x.client, slice_str(cases[i].message), &x.err));
		assert_string_equal(x.err.sqlstate, cases[i].sqlstate);
		exchange_fini(&x);
	}
}

/* --- base64, saslprep --- */

static void test_base64(void **state)
{
	static const char *bad[] = { "A",        "AA",   "AAA",  "====", "A===", "AA=A",
				     "AAA=AAAA", "AB==", "AAB=", "AA A", "AAA\n" };
	uint8_t in[64], out[64];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 37 + 200);
	for (size_t len = 0; len <= sizeof(in); len++) {
		struct buf b = { 0 };

		base64_put(&b, in, len);
		assert_true(base64_get(buf_peek(&b), out, len, &n));
		assert_int_equal(n, len);
		assert_memory_equal(in, out, len);
		assert_true(len == 0 || !base64_get(buf_peek(&b), out, len - 1, &n));
		buf_fini(&b);
	}
	for (size_t i = 0; i < PGT_NELEMS(bad); i++)
		assert_false(base64_get(slice_str(bad[i]), out, sizeof(out), &n));
}

static void test_saslprep(void **state)
{
	static const struct {
		const char *in;
		const char *out;
	} cases[] = {
		{"",                    ""                  },
		{ "plain \x01\x7f",     "plain \x01\x7f"    },
		{ "I\u00adX",           "IX"                }, /* RFC 4013, section 3 */
		{ "\u00aa",             "a"                 }, /* there too */
		{ "\u00ad",             "\u00ad"            }, /* nothing would be left */
		{ "\u00a0\302\205",     "\u00a0\302\205"    }, /* a control character */
		{ "\u00bd \u20ac",      "1\u20442 \u20ac"   },
		{ "\u00b5\U0001f511",   "\u00b5\U0001f511"  },
		{ "\u00b5\xff",         "\u00b5\xff"        }, /* not UTF-8 */
		{ "\u00b5\xc1\xa0",     "\u00b5\xc1\xa0"    },
		{ "\u00b5\xe0\x82\xa0", "\u00b5\xe0\x82\xa0"},
		{ "\u00b5\xc3",         "\u00b5\xc3"        },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(cases); i++) {
		struct buf b = { 0 };

		saslprep(slice_str(cases[i].in), &b);
		assert_string_equal(buf_cstr(&b), cases[i].out);
		buf_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_server),
		cmocka_unit_test(test_rfc_client),
		cmocka_unit_test(test_secrets_of_postgres),
		cmocka_unit_test(test_malformed_secrets),
		cmocka_unit_test(test_mock_is_stable_and_fits_nobody),
		cmocka_unit_test(test_mock_salt_is_of_its_key),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_keys_of_a_login_open_the_server),
		cmocka_unit_test(test_a_server_without_the_secret_is_caught),
		cmocka_unit_test(test_bound_exchange_of_another_program),
		cmocka_unit_test(test_bindings_have_to_be_the_same),
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_client_first),
		cmocka_unit_test(test_client_first_of_bindings),
		cmocka_unit_test(test_i6_lengths_are_bounded),
		cmocka_unit_test(test_client_final),
		cmocka_unit_test(test_client_final_cut_at_every_byte),
		cmocka_unit_test(test_messages_out_of_turn),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_server_final),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_saslprep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
