/* SPDX-License-Identifier: ISC
 *
 * login.c - from an open connection to a session on the server.
 *
 * Knows the messages of a login and in what order they make sense; a server that sends anything
 * else is not trusted with a password.  What the server reports is kept, what it refuses is passed
 * on as it said it.
 */
#include "server/login.h"

#include "auth/md5.h"
#include "auth/scram.h"
#include "base/mem.h"
#include "net/tls.h"
#include "server/backends.h"
#include "server/rls.h"
#include "server/signature.h"
#include "sql/timeout.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

/* What a login message may weigh: an error with a long text, an authentication request. */
#define LOGIN_MESSAGE_MAX 65536

/* Asked after login when a ceiling of statement_timeout has to be compared with the default of the
 * role and the database. */
static const char ask_default_timeout[] =
    "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'";

/* Asked first where it matters which process a replica is. */
static const char ask_process[] =
    "SELECT pg_catalog.round(extract(epoch FROM pg_catalog.pg_postmaster_start_time())"
    " OPERATOR(pg_catalog.*) 1000000)";

enum login_step {
	LOGIN_AUTH,       /* sent the startup packet, or an answer to a request */
	LOGIN_SASL_FIRST, /* sent client-first */
	LOGIN_SASL_FINAL, /* sent client-final */
	LOGIN_SETUP,      /* AuthenticationOk has come */
};

struct server_login {
	enum login_step step;
	struct server_target target;
	char *options;
	struct scram_client scram;
	bool has_scram;
	bool is_asked; /* has asked for a proof, which it may do once */
	bool proved;   /* of SCRAM: the server has shown that it knows the secret */
	bool told_timeout;
};

struct server_login *login_new(const struct server_target *target)
{
	struct server_login *login = xnew(struct server_login);

	login->target = *target;
	login->target.config = config_ref(target->config);
	login->target.options = login->options = xstrdup(target->options);
	return login;
}

void login_free(struct server_login *login)
{
	if (!login)
		return;
	if (login->has_scram)
		scram_client_fini(&login->scram);
	free(login->options);
	config_unref(login->target.config);
	free(login);
}

static void put_param(struct buf *b, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	buf_put_cstr(b, name);
	buf_put_cstr(b, value);
}

/* What its session has to begin with.  NULL: the monitor's. */
static void put_applied(struct buf *b, const struct param_set *set)
{
	for (unsigned i = 0; set && i < set->n; i++) {
		buf_put_cstr(b, set->items[i].name);
		buf_put_cstr(b, set->items[i].value);
	}
}

static void put_startup(struct buf *b, const struct server *s, const struct server_target *t)
{
	put_param(b, "user", t->user);
	put_param(b, "database", t->dbname);
	put_param(b, "application_name", t->application_name);
	if (t->database) {
		put_param(b, "client_encoding", t->database->client_encoding);
		put_param(b, "datestyle", t->database->datestyle);
		put_param(b, "timezone", t->database->timezone);
	}
	put_param(b, "options", t->options);
	put_param(b, "replication", replication_value(t->replication));
	put_applied(b, s->applied);
	buf_put_u8(b, 0);
}

uint64_t login_digest(const struct server *s, const struct server_target *target)
{
	struct buf packet = { 0 };
	uint64_t digest;

	put_startup(&packet, s, target);
	digest = hash_stable(0, buf_head(&packet), buf_len(&packet));
	buf_fini(&packet);
	return digest;
}

void login_begin(struct server *s)
{
	struct buf packet = { 0 };

	put_startup(&packet, s, &s->login->target);
	s->startup = hash_stable(0, buf_head(&packet), buf_len(&packet));
	buf_put_u32(conn_output(&s->conn), (uint32_t)buf_len(&packet) + 8);
	buf_put_u32(conn_output(&s->conn), (uint32_t)PROTOCOL_MAJOR << 16);
	buf_put_slice(conn_output(&s->conn), buf_peek(&packet));
	buf_fini(&packet);
}

static enum step fail(struct server *s, const char *why)
{
	s->on->ended(s, why);
	return STEP_CLOSED;
}

/* Trying again would not help: who waits for this server is told at once, as when it refuses. */
static enum step give_up(struct server *s, const char *why)
{
	if (s->pool) {
		err_set(&s->pool->error, "08001", "server login failed: %s", why);
		s->pool->login_failed = true;
	}
	return fail(s, why);
}

static void send_password(struct server *s, const char *password)
{
	struct buf *out = conn_output(&s->conn);
	size_t m = msg_begin(out, MSG_PASSWORD);

	buf_put_cstr(out, password);
	msg_end(out, m);
}

/* A cleartext request of a server without TLS is answered, as PgBouncer and libpq do: whoever
 * configures `password` in pg_hba.conf asks for it. */
static enum step answer_cleartext(struct server *s)
{
	const struct credential *c = s->login->target.credential;

	if (!c->has_password || md5_is_hash(slice_str(c->password)))
		return give_up(s,
			       "the server wants a plain password and we have none for this user");
	send_password(s, c->password);
	return STEP_DONE;
}

static enum step answer_md5(struct server *s, struct slice salt)
{
	const struct credential *c = s->login->target.credential;
	const char *user = s->login->target.user;
	char stored[MD5_BUF_LEN], answer[MD5_BUF_LEN];

	if (salt.n != MD5_SALT_LEN || !c->has_password)
		return give_up(s,
			       "the server wants an MD5 password and we have none for this user");
	if (md5_is_hash(slice_str(c->password)))
		memcpy(stored, c->password, sizeof(stored));
	else if (!md5_hash_password(slice_str(user), slice_str(c->password), stored))
		return give_up(s, "the server wants an MD5 password and this machine has no MD5");
	if (!md5_answer(stored, (const uint8_t *)salt.p, answer))
		return give_up(s, "the server wants an MD5 password and this machine has no MD5");
	send_password(s, answer);
	mem_wipe(stored, sizeof(stored));
	mem_wipe(answer, sizeof(answer));
	return STEP_DONE;
}

/* The list of mechanisms is strings, ended by an empty one. */
static bool offers(struct slice list, const char *mechanism)
{
	struct reader r = reader_of(list);

	while (read_left(&r) > 1)
		if (slice_is_equal(read_cstr(&r), slice_str(mechanism)))
			return true;
	return false;
}

/* How a login is bound to its TLS connection. */
struct binding {
	bool is_possible; /* there is TLS, and nothing says that it cannot be */
	bool is_offered;
	uint8_t data[TLS_END_POINT_MAX];
	size_t n;
};

/* A certificate without an end point is no way around the binding: whoever sits in between could
 * have it made so.  One that our CA vouches for needs none.  False: nothing will do. */
static bool find_binding(const struct server *s, struct slice mechanisms, struct binding *b)
{
	const struct tls *tls = s->conn.tls;

	*b = (struct binding){ .is_possible = tls != NULL };
	if (!tls || !offers(mechanisms, SCRAM_MECHANISM_PLUS))
		return true;
	b->n = tls_end_point(tls, b->data);
	b->is_offered = b->n > 0;
	b->is_possible = b->is_offered;
	return b->is_offered || tls_peer_is_verified(tls);
}

static void bind_scram(struct scram_client *scram, const struct binding *b)
{
	if (b->is_possible)
		scram_client_bind(scram, b->is_offered ? SCRAM_IS_BOUND : SCRAM_NOT_OFFERED,
				  slice_of((const char *)b->data, b->n));
}

/* False: we have nothing to prove it with. */
static bool init_scram(struct server_login *login)
{
	const struct credential *c = login->target.credential;

	if (c->has_password && !md5_is_hash(slice_str(c->password)))
		scram_client_init_password(&login->scram, slice_str(c->password));
	else if (c->has_scram_keys)
		scram_client_init_keys(&login->scram, c->client_key, c->server_key);
	else
		return false;
	login->has_scram = true;
	return true;
}

static enum step begin_scram(struct server *s, struct slice mechanisms)
{
	struct server_login *login = s->login;
	struct buf first = { 0 }, *out;
	const char *mechanism;
	struct binding binding;
	size_t m;

	if (!find_binding(s, mechanisms, &binding))
		return give_up(s, "the server offers channel binding, which is not defined for its "
				  "certificate's signature, and nobody vouches for that");
	mechanism = binding.is_offered ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM;
	if (!offers(mechanisms, mechanism))
		return give_up(s, "the server offers no SASL mechanism that we know");
	if (!init_scram(login))
		return give_up(
		    s, "the server wants SCRAM and we have neither a plain password nor keys "
		       "from a login of this user");
	bind_scram(&login->scram, &binding);
	scram_client_first(&login->scram, &first);
	out = conn_output(&s->conn);
	m = msg_begin(out, MSG_PASSWORD);
	buf_put_cstr(out, mechanism);
	buf_put_u32(out, (uint32_t)buf_len(&first));
	buf_put_slice(out, buf_peek(&first));
	msg_end(out, m);
	buf_fini(&first);
	login->step = LOGIN_SASL_FIRST;
	return STEP_DONE;
}

static enum step continue_scram(struct server *s, struct slice server_first)
{
	struct buf final = { 0 };
	struct err e;
	size_t m;

	if (s->login->step != LOGIN_SASL_FIRST)
		return fail(s, "the server sent a SASL message out of order");
	if (!scram_client_final(&s->login->scram, server_first, &final, &e)) {
		buf_fini(&final);
		return fail(s, e.text);
	}
	m = msg_begin(conn_output(&s->conn), MSG_PASSWORD);
	buf_put_slice(conn_output(&s->conn), buf_peek(&final));
	msg_end(conn_output(&s->conn), m);
	buf_fini(&final);
	s->login->step = LOGIN_SASL_FINAL;
	return STEP_DONE;
}

static enum step finish_scram(struct server *s, struct slice server_final)
{
	struct err e;

	if (s->login->step != LOGIN_SASL_FINAL)
		return fail(s, "the server sent a SASL message out of order");
	if (!scram_client_verify(&s->login->scram, server_final, &e))
		return fail(s, e.text);
	s->login->proved = true;
	return STEP_DONE;
}

/* A second one would have another answer: bytes without end for few, or what SCRAM did not show. */
static bool is_request(uint32_t code)
{
	return code != AUTH_OK && code != AUTH_SASL_CONTINUE && code != AUTH_SASL_FINAL;
}

static enum step on_authentication(struct server *s, struct slice body)
{
	struct reader r = reader_of(body);
	uint32_t code = read_u32(&r);
	struct slice rest = read_bytes(&r, read_left(&r));

	if (r.failed || s->login->step == LOGIN_SETUP || (s->login->is_asked && is_request(code)))
		return fail(s, "the server sent an authentication message out of order");
	s->login->is_asked = true;
	switch (code) {
	case AUTH_OK:
		if (s->login->has_scram && !s->login->proved)
			return fail(
			    s, "the server ended SCRAM before it proved that it knows the secret");
		s->login->step = LOGIN_SETUP;
		return STEP_DONE;
	case AUTH_CLEARTEXT:
		return answer_cleartext(s);
	case AUTH_MD5:
		return answer_md5(s, rest);
	case AUTH_SASL:
		return begin_scram(s, rest);
	case AUTH_SASL_CONTINUE:
		return continue_scram(s, rest);
	case AUTH_SASL_FINAL:
		return finish_scram(s, rest);
	default:
		return give_up(s, "the server wants a kind of authentication that we do not have");
	}
}

/* The server's own words reach the clients that wait for it. */
static enum step on_refusal(struct server *s, struct slice body)
{
	struct report report;
	struct err e;

	report_parse(body, &report);
	err_set(&e, "08001", "%.*s", SLICE_FMT(report.message));
	if (!*e.text)
		err_set(&e, "08001", "the server refuses the login and does not say why");
	if (report.sqlstate.n == 5)
		memcpy(e.sqlstate, report.sqlstate.p, 5);
	memcpy(s->refusal, e.sqlstate, sizeof(s->refusal));
	err_hint(&e, "%.*s", SLICE_FMT(report.hint));
	/* One that is starting up or shutting down is waited for, as one that is down. */
	s->was_refused = !report_is_farewell(&report);
	if (s->pool) {
		s->pool->error = e;
		s->pool->login_failed = s->was_refused;
	}
	return fail(s, e.text);
}

static enum step on_backend_key(struct server *s, struct slice body)
{
	struct reader r = reader_of(body);

	s->pid = read_u32(&r);
	if (r.failed || read_left(&r) < 4 || read_left(&r) > CANCEL_KEY_MAX)
		return fail(s, "the server sent a cancel key of an impossible length");
	s->cancel_key_len = (uint16_t)read_left(&r);
	memcpy(s->cancel_key, r.p, s->cancel_key_len);
	return STEP_DONE;
}

static void become_ready(struct server *s)
{
	/* A connect_query may begin one; the next client's BEGIN would be within it. */
	if (s->tx != 'I') {
		s->on->ended(s, "it is in a transaction behind the login");
		return;
	}
	login_free(s->login);
	s->login = NULL;
	conn_guard(&s->conn, false);
	if (s->pool)
		s->backend = backend_new(s->node, s->pid);
	s->on->ready(s);
}

static void on_signature(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	char why[256];

	if (!error) {
		become_ready(s);
		return;
	}
	snprintf(why, sizeof(why), "the tenant could not be signed: %.*s",
		 SLICE_FMT(error->message));
	s->on->ended(s, why);
}

static void bring_signature(struct server *s)
{
	if (signature_is_wanted(s))
		signature_bring(s, on_signature);
	else
		become_ready(s);
}

static void run_connect_query(struct server *s);

static void on_role_known(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error) {
		s->on->ended(s, "whether row-level security binds the role could not be asked for");
	} else if (s->is_unbound) {
		s->pool->login_failed = true;
		s->on->ended(s, s->pool->error.text);
	} else {
		run_connect_query(s);
	}
}

static void check_role(struct server *s)
{
	if (rls_is_due(s))
		rls_ask(s, on_role_known);
	else
		run_connect_query(s);
}

static void on_connect_query_done(struct server *s, void *arg PGT_UNUSED,
				  const struct report *error)
{
	if (error)
		s->on->ended(s, "connect_query failed");
	else
		bring_signature(s);
}

static void on_timeout_row(struct server *s, void *arg PGT_UNUSED, const struct slice *columns,
			   unsigned n)
{
	struct shared *login = s->pool->group->login_shared;
	int64_t ms;

	if (n != 1 || !columns[0].p || !sql_timeout_parse(columns[0], &ms))
		return;
	login->default_timeout_ms = ms;
	login->default_timeout_at = loop_now(s->conn.net->loop);
	s->login->told_timeout = true;
}

static void on_timeout_known(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error || !s->login->told_timeout)
		s->on->ended(s, "the default statement_timeout could not be asked for");
	else if (server_is_capped(s))
		check_role(s);
	else
		s->on->ended(
		    s, NULL); /* the next one asks for the tier's timeout in its startup packet */
}

static void run_connect_query(struct server *s)
{
	const struct database_conf *database = s->login->target.database;
	struct question q = { .done = on_connect_query_done };

	/* Not every replication connection speaks SQL. */
	if (database && *database->connect_query && !s->login->target.replication)
		server_ask(s, database->connect_query, &q);
	else
		bring_signature(s);
}

static void look_at_defaults(struct server *s)
{
	struct question q = { .row = on_timeout_row, .done = on_timeout_known };

	if (s->pool && s->asks_default_timeout)
		server_ask(s, ask_default_timeout, &q);
	else
		check_role(s);
}

static void on_process_row(struct server *s, void *arg PGT_UNUSED, const struct slice *columns,
			   unsigned n)
{
	char room[24] = "";

	if (n != 1 || !columns[0].p || columns[0].n >= sizeof(room))
		return;
	memcpy(room, columns[0].p, columns[0].n);
	s->process = strtoll(room, NULL, 10);
}

/* Who does not tell is no process that a replica was seen to be. */
static void on_process_told(struct server *s, void *arg PGT_UNUSED,
			    const struct report *error PGT_UNUSED)
{
	look_at_defaults(s);
}

static void ask_first(struct server *s)
{
	struct question q = { .row = on_process_row, .done = on_process_told };

	if (s->pool && s->pool->group->has_fence && s->pool->group->npools > 1 &&
	    !s->login->target.replication)
		server_ask(s, ask_process, &q);
	else
		look_at_defaults(s);
}

static enum step on_session_ready(struct server *s)
{
	if (s->login->step != LOGIN_SETUP)
		return fail(s, "the server was ready before it let us in");
	s->tx = 'I';
	ask_first(s);
	return STEP_CLOSED; /* what comes now is not ours any more */
}

static void on_forgotten(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error || s->tx != 'I')
		s->on->ended(s, "it does not forget the sessions that it has had");
	else
		ask_first(s);
}

void login_resume(struct server *s)
{
	const struct question q = { .done = on_forgotten };

	s->login->step = LOGIN_SETUP;
	server_ask(s, "DISCARD ALL", &q);
}

static enum step on_message(struct server *s, const struct frame *f)
{
	struct slice body = frame_body(f);

	switch (f->type) {
	case MSG_AUTHENTICATION:
		return on_authentication(s, body);
	case MSG_ERROR:
		return on_refusal(s, body);
	case MSG_NOTICE:
		return STEP_DONE;
	case MSG_NEGOTIATE_VERSION:
		return fail(s, "the server does not speak protocol 3.0");
	case MSG_PARAMETER_STATUS:
		server_on_parameter(s, body);
		return STEP_DONE;
	case MSG_BACKEND_KEY:
		return on_backend_key(s, body);
	case MSG_READY:
		return on_session_ready(s);
	default:
		return fail(s, "the server sent a message that has no place in a login");
	}
}

void login_on_readable(struct server *s)
{
	struct frame f;
	enum step step = STEP_DONE;

	while (step == STEP_DONE) {
		struct slice in = conn_input(&s->conn);
		enum frame_status status = frame_peek(in.p, in.n, &f);

		if (status == FRAME_PARTIAL)
			return;
		if (status == FRAME_INVALID || f.len > LOGIN_MESSAGE_MAX) {
			fail(s, "the server sent something that is not the protocol");
			return;
		}
		if (!frame_is_whole(&f))
			return;
		conn_consume(&s->conn, f.len);
		step = on_message(s, &f);
	}
}
