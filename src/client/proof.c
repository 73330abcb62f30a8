/* SPDX-License-Identifier: ISC
 *
 * proof.c - what a client is asked to prove, and what it answers.
 *
 * Passwords, MD5, SCRAM and tokens.  What a proof is worth then, and how often one may be wrong, is
 * login.c's business.
 * Source: PostgreSQL manual, "Message Flow: Start-up", "SASL Authentication".
 */
#include "client/login.h"

#include "auth/ident.h"
#include "auth/jwt.h"
#include "auth/verify.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/parts.h"
#include "net/tls.h"
#include "stats/event.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>
#include <string.h>

/* As PostgreSQL's limit for messages of a login. */
#define LOGIN_MESSAGE_MAX 65535

static void ask_md5(struct client *c)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);

	random_bytes(c->login->md5_salt, sizeof(c->login->md5_salt));
	buf_put_u32(out, AUTH_MD5);
	buf_put(out, c->login->md5_salt, sizeof(c->login->md5_salt));
	msg_end(out, m);
	c->login->due = PROOF_MD5;
}

static void ask_scram(struct client *c)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);
	uint8_t binding[TLS_END_POINT_MAX];
	size_t bound = c->conn.tls ? tls_end_point(c->conn.tls, binding) : 0;
	struct scram_secret secret;

	proof_scram_secret(c, &secret);
	scram_server_init(&c->login->scram, &secret, slice_of((const char *)binding, bound), NULL);
	mem_wipe(&secret, sizeof(secret));
	c->login->has_scram = true;
	buf_put_u32(out, AUTH_SASL);
	scram_server_offer(&c->login->scram, out);
	buf_put_u8(out, 0);
	msg_end(out, m);
	c->login->due = PROOF_SCRAM_FIRST;
}

/* A secret of SCRAM can be asked for in that way only.  Who has none is asked in the way in which
 * most others of its place are. */
static bool needs_scram(const struct client_login *login)
{
	enum password_kind kind = login->entry ? login->entry->kind : PASSWORD_NONE;

	if (kind != PASSWORD_NONE)
		return kind == PASSWORD_SCRAM;
	if (login->was_looked_up)
		return login->usual == PASSWORD_SCRAM;
	return userlist_usual(login->config->userlist).is_scram;
}

static enum step ask_for_proof(struct client *c)
{
	struct client_login *login = c->login;

	if (login_is_exempt(c))
		return login_proved(c);
	switch (login->way.type) {
	case AUTH_TYPE_ANY:
		return login_proved(c);
	case AUTH_TYPE_TRUST:
		return login->entry ? login_proved(c) : login_refuse_proof(c);
	case AUTH_TYPE_PLAIN:
	case AUTH_TYPE_PAM:
	case AUTH_TYPE_LDAP:
	case AUTH_TYPE_JWT:
		msg_put_authentication(conn_output(&c->conn), AUTH_CLEARTEXT);
		login->due = PROOF_PLAIN;
		return STEP_DONE;
	case AUTH_TYPE_MD5:
		if (needs_scram(login))
			ask_scram(c);
		else
			ask_md5(c);
		return STEP_DONE;
	case AUTH_TYPE_SCRAM:
		ask_scram(c);
		return STEP_DONE;
	default:
		return login_refuse_text(c, "28000", "this auth_type is not supported");
	}
}

/* STEP_CLOSED says that the connection is somebody else's business now.  Who has sent the proof
 * already is not asked to send more. */
void proof_begin(struct client *c)
{
	if (ask_for_proof(c) == STEP_DONE && conn_input(&c->conn).n)
		conn_kick(&c->conn);
}
/* Where it was received: who comes next may need less room. */
static void wipe(struct slice secret)
{
	mem_wipe((void *)(uintptr_t)secret.p, secret.n);
}

/* What it sends meanwhile waits. */
static enum step have_judged(struct client *c)
{
	struct client_login *login = c->login;
	const struct client_claim claim = { .way = login->way.type,
					    .user = login->id.auth_user,
					    .password = slice_str(login->given),
					    .config = login->config,
					    .service = login->way.service,
					    .directory = login->way.directory };

	login->due = PROOF_NONE;
	login->is_judged = true;
	c->host->seek_verdict(c, &claim);
	return STEP_CLOSED;
}

/* Of those that came at once, no more are told what was said than may try. */
void client_judged(struct client *c, enum judgement verdict)
{
	struct err e;

	c->login->is_judged = false;
	conn_resume(&c->conn);
	if (verdict != JUDGED_GOOD)
		login_forget_given(c->login);
	if (login_is_throttled(c, &e))
		client_close(c, &e, e.text);
	else if (verdict == JUDGED_GOOD)
		login_proved(c);
	else if (verdict == JUDGED_WRONG)
		login_refuse_proof(c);
	else
		login_refuse_as_wrong(c);
}

/* No guess was wrong, and who is asked about somebody for long must not be told from others. */
void client_login_give_up(struct client *c)
{
	const struct log_about about = { .user = c->user };

	event_say(EVENT_judge, &about, "%s gives no answer within client_login_timeout",
		  c->login->way.service ? c->login->way.service : "ldap");
	login_refuse_as_wrong(c);
}

static bool is_for_user(const struct client *c, const char *roles)
{
	const struct client_login *login = c->login;

	for (; *roles; roles += strlen(roles) + 1)
		if (ident_allows(login->config->ident, login->way.map, roles, login->id.auth_user))
			return true;
	return false;
}

/* False: *e is for the log. */
static bool read_token(struct client *c, struct slice token, struct jwt *jwt, struct err *e)
{
	return jwt_check(&c->login->way.jwt, token, clock_wall() / USEC_PER_SEC, jwt, e) &&
	       (is_for_user(c, jwt->roles) ||
		err_set(e, "28P01", "token refused: it is not for this user (jwt_role_claim)"));
}

/* Where a token says whose it is, it is known only now where that one is at home. */
static enum step on_token(struct client *c, struct slice token)
{
	struct client_login *login = c->login;
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);
	bool is_good;
	struct jwt jwt;
	struct err e;

	is_good = read_token(c, token, &jwt, &e);
	wipe(token);
	if (!is_good) {
		if (login->config->global.log_pooler_errors)
			log_about(LOG_LEVEL_INFO, &about, "%s", e.text);
		jwt_fini(&jwt);
		return login_refuse_proof(c);
	}
	identity_take_token(&login->id, jwt.tenant);
	jwt_fini(&jwt);
	if (!login->way.jwt.tenant_claim || login->id.is_console)
		return login_proved(c);
	login->has_shown_token = true;
	login->due = PROOF_NONE;
	c->phase = CLIENT_STARTUP;
	login_go_home(c);
	return STEP_CLOSED;
}

static enum step on_plain(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice given = read_cstr(&r);

	if (!read_is_complete(&r))
		return login_refuse_text(c, "08P01", "invalid password packet");
	if (c->login->way.type == AUTH_TYPE_JWT)
		return on_token(c, given);
	c->login->given = xmemdup0(given.p, given.n);
	wipe(given);
	if (way_is_for_others(&c->login->way))
		return have_judged(c);
	return password_verify_plain(c->login->entry, slice_str(c->login->given),
				     userlist_usual(c->login->config->userlist).iterations)
		   ? login_proved(c)
		   : login_refuse_proof(c);
}

static enum step on_md5(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice given = read_cstr(&r);

	if (!read_is_complete(&r) ||
	    !password_verify_md5(c->login->entry, c->login->md5_salt, given))
		return login_refuse_proof(c);
	return login_proved(c);
}

static void put_sasl(struct client *c, uint32_t code, struct slice data)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);

	buf_put_u32(out, code);
	buf_put_slice(out, data);
	msg_end(out, m);
}

static enum step on_scram_first(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice mechanism = read_cstr(&r);
	uint32_t len = read_u32(&r);
	struct slice first = read_bytes(&r, len);
	struct buf answer = { 0 };
	struct err e;

	if (!read_is_complete(&r) || !scram_server_select(&c->login->scram, mechanism))
		return login_refuse_text(
		    c, "08P01", "client selected an invalid SASL authentication mechanism");
	if (!scram_server_first(&c->login->scram, first, &answer, &e)) {
		buf_fini(&answer);
		return login_refuse(c, &e);
	}
	put_sasl(c, AUTH_SASL_CONTINUE, buf_peek(&answer));
	buf_fini(&answer);
	c->login->due = PROOF_SCRAM_FINAL;
	return STEP_DONE;
}

static enum step on_scram_final(struct client *c, struct slice body)
{
	struct client_login *login = c->login;
	struct buf answer = { 0 };
	struct err e;

	if (!scram_server_final(&login->scram, body, &answer, login->client_key, &e)) {
		buf_fini(&answer);
		if (!strcmp(e.sqlstate, "28P01"))
			return login_refuse_proof(c);
		return login_refuse(c, &e);
	}
	if (login->is_barred) {
		buf_fini(&answer);
		return login_refuse_proof(c);
	}
	login->has_client_key = true;
	put_sasl(c, AUTH_SASL_FINAL, buf_peek(&answer));
	buf_fini(&answer);
	return login_proved(c);
}

static enum step on_proof(struct client *c, const struct frame *f)
{
	struct slice body = frame_body(f);
	struct err e;

	/* While it was asked for, others have tried. */
	if (login_is_throttled(c, &e)) {
		client_close(c, &e, e.text);
		return STEP_CLOSED;
	}
	switch (c->login->due) {
	case PROOF_PLAIN:
		return on_plain(c, body);
	case PROOF_MD5:
		return on_md5(c, body);
	case PROOF_SCRAM_FIRST:
		return on_scram_first(c, body);
	case PROOF_SCRAM_FINAL:
		return on_scram_final(c, body);
	case PROOF_NONE:
		break;
	}
	return login_refuse_text(c, "08P01", "unexpected password response");
}

void proof_read(struct client *c)
{
	struct frame f;
	enum step step = STEP_DONE;

	while (step == STEP_DONE && c->phase == CLIENT_AUTH) {
		struct slice in = conn_input(&c->conn);
		enum frame_status status = frame_peek(in.p, in.n, &f);

		/* Whatever else it is, its length may be no length. */
		if (in.n && in.p[0] != MSG_PASSWORD) {
			login_refuse_text(c, "08P01", "expected a password response");
			return;
		}
		if (status == FRAME_PARTIAL)
			return;
		if (status == FRAME_INVALID || f.len > LOGIN_MESSAGE_MAX) {
			login_refuse_text(c, "08P01", "invalid message length in login");
			return;
		}
		if (!frame_is_whole(&f))
			return;
		conn_consume(&c->conn, f.len);
		step = on_proof(c, &f);
	}
}
