/* SPDX-License-Identifier: ISC
 *
 * words.c - settings whose value is a word of a few, or a list of such words.
 *
 * The words are PgBouncer's where it has the setting.  Knows no setting by name, nor what a word
 * does.
 */
#include "config/types.h"

#include "auth/missing.h"
#include "base/assert.h"
#include "base/log.h"

#include <syslog.h>

static const struct setting_word *find_word(const struct setting_word *words, struct slice name)
{
	for (; words->name; words++)
		if (slice_is_equal_nocase(slice_str(words->name), name))
			return words;
	return NULL;
}

static const char *word_of(const struct setting_word *words, int value)
{
	while (words->name && words->value != value)
		words++;
	PGT_ASSERT(words->name);
	return words->name;
}

/* The row of a word that this version takes, or NULL and e. */
static const struct setting_word *take_word(const struct setting_type *type, struct slice name,
					    struct err *e)
{
	const struct setting_word *word = find_word(type->words, name);

	if (word && !word->refused)
		return word;
	if (word)
		err_set(e, "0A000", "%s %s", word->name, word->refused);
	else
		err_set(e, "22023", "\"%.*s\" is not %s", SLICE_FMT(name), type->syntax);
	return NULL;
}

static bool parse_word(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	const struct setting_word *word = take_word(type, slice_str(text), e);

	if (!word)
		return false;
	*(int *)at = word->value;
	return true;
}

static void format_word(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_put_slice(out, slice_str(word_of(type->words, *(const int *)at)));
}

#define WORDS_TYPE(word, text)                                                                     \
	const struct setting_type setting_type_##word = {                                          \
		.name = "word",                                                                    \
		.syntax = text,                                                                    \
		.size = sizeof(setting_##word##_t),                                                \
		.words = word##_words,                                                             \
		.parse = parse_word,                                                               \
		.format = format_word,                                                             \
	}

static const struct setting_word pool_mode_words[] = {
	{"session",      POOL_MODE_SESSION,     NULL},
	{ "transaction", POOL_MODE_TRANSACTION, NULL},
	{ "statement",   POOL_MODE_STATEMENT,   NULL},
	{ NULL,          0,		     NULL},
};
WORDS_TYPE(pool_mode, "session, transaction or statement");

static const struct setting_word sslmode_words[] = {
	{"disable",      SSLMODE_DISABLE,     NULL},
	{ "allow",       SSLMODE_ALLOW,       NULL},
	{ "prefer",      SSLMODE_PREFER,      NULL},
	{ "require",     SSLMODE_REQUIRE,     NULL},
	{ "verify-ca",   SSLMODE_VERIFY_CA,   NULL},
	{ "verify-full", SSLMODE_VERIFY_FULL, NULL},
	{ NULL,          0,		   NULL},
};
WORDS_TYPE(sslmode, "disable, allow, prefer, require, verify-ca or verify-full");

/* A way to log in that we lack is never replaced by one that we have: the file is refused. */
static const struct setting_word auth_type_words[] = {
	{"trust",          AUTH_TYPE_TRUST, NULL        },
        { "any",           AUTH_TYPE_ANY,   NULL        },
	{ "plain",         AUTH_TYPE_PLAIN, NULL        },
        { "md5",           AUTH_TYPE_MD5,   NULL        },
	{ "scram-sha-256", AUTH_TYPE_SCRAM, NULL        },
        { "cert",          AUTH_TYPE_CERT,  NULL        },
	{ "peer",          AUTH_TYPE_PEER,  NULL        },
        { "hba",           AUTH_TYPE_HBA,   NULL        },
	{ "pam",           AUTH_TYPE_PAM,   PAM_MISSING },
        { "jwt",           AUTH_TYPE_JWT,   NULL        },
	{ "ldap",          AUTH_TYPE_LDAP,  LDAP_MISSING},
        { NULL,            0,               NULL        },
};
WORDS_TYPE(auth_type, "trust, any, plain, md5, scram-sha-256, cert, peer, hba, pam, ldap or jwt");

static const struct setting_word route_words[] = {
	{"auto",     ROUTE_AUTO,    NULL},
	{ "primary", ROUTE_PRIMARY, NULL},
	{ NULL,      0,             NULL},
};
WORDS_TYPE(route, "auto or primary");

static const struct setting_word route_mode_words[] = {
	{"route",    ROUTE_MODE_ROUTE,   NULL},
	{ "observe", ROUTE_MODE_OBSERVE, NULL},
	{ NULL,      0,                  NULL},
};
WORDS_TYPE(route_mode, "route or observe");

static const struct setting_word promote_words[] = {
	{"no",           PROMOTE_NO,          NULL},
	{ "first_write", PROMOTE_FIRST_WRITE, NULL},
	{ NULL,          0,		   NULL},
};
WORDS_TYPE(promote, "no or first_write");

static const struct setting_word read_your_writes_words[] = {
	{"tenant",   READ_YOUR_WRITES_TENANT,  NULL},
	{ "session", READ_YOUR_WRITES_SESSION, NULL},
	{ "off",     READ_YOUR_WRITES_OFF,     NULL},
	{ NULL,      0,			NULL},
};
WORDS_TYPE(read_your_writes, "tenant, session or off");

static const struct setting_word session_state_words[] = {
	{"pin",     SESSION_STATE_PIN,    NULL},
	{ "reject", SESSION_STATE_REJECT, NULL},
	{ "log",    SESSION_STATE_LOG,    NULL},
	{ NULL,     0,		    NULL},
};
WORDS_TYPE(session_state, "pin, reject or log");

static const struct setting_word sequence_state_words[] = {
	{"auto", SEQUENCE_STATE_AUTO, NULL},
	{ "pin", SEQUENCE_STATE_PIN,  NULL},
	{ NULL,  0,		   NULL},
};
WORDS_TYPE(sequence_state, "auto or pin");

static const struct setting_word backend_pid_words[] = {
	{"pin",     BACKEND_PID_PIN,    NULL},
	{ "server", BACKEND_PID_SERVER, NULL},
	{ NULL,     0,                  NULL},
};
WORDS_TYPE(backend_pid, "pin or server");

static const struct setting_word listen_lost_words[] = {
	{"disconnect", LISTEN_LOST_DISCONNECT, NULL},
	{ "notice",    LISTEN_LOST_NOTICE,     NULL},
	{ NULL,        0,		      NULL},
};
WORDS_TYPE(listen_lost, "disconnect or notice");

static const struct setting_word rate_limit_mode_words[] = {
	{"enforce", RATE_LIMIT_ENFORCE, NULL},
	{ "warn",   RATE_LIMIT_WARN,    NULL},
	{ NULL,     0,                  NULL},
};
WORDS_TYPE(rate_limit_mode, "enforce or warn");

static const struct setting_word log_format_words[] = {
	{"text",  LOG_FORMAT_TEXT, NULL},
	{ "json", LOG_FORMAT_JSON, NULL},
	{ NULL,   0,               NULL},
};
WORDS_TYPE(log_format, "text or json");

static const struct setting_word log_statements_words[] = {
	{"none", LOG_STATEMENTS_NONE, NULL},
	{ "ddl", LOG_STATEMENTS_DDL,  NULL},
	{ "mod", LOG_STATEMENTS_MOD,  NULL},
	{ "all", LOG_STATEMENTS_ALL,  NULL},
	{ NULL,  0,		   NULL},
};
WORDS_TYPE(log_statements, "none, ddl, mod or all");

static const struct setting_word load_balance_hosts_words[] = {
	{"round-robin", LOAD_BALANCE_ROUND_ROBIN, NULL},
	{ "disable",    LOAD_BALANCE_DISABLE,     NULL},
	{ NULL,         0,			NULL},
};
WORDS_TYPE(load_balance_hosts, "round-robin or disable");

static const struct setting_word tenant_pool_words[] = {
	{"dedicated", TENANT_POOL_DEDICATED, NULL},
	{ "shared",   TENANT_POOL_SHARED,    NULL},
	{ NULL,       0,		     NULL},
};
WORDS_TYPE(tenant_pool, "dedicated or shared");

static const struct setting_word tenant_context_check_words[] = {
	{"off",         CONTEXT_CHECK_OFF,        NULL},
	{ "on_release", CONTEXT_CHECK_ON_RELEASE, NULL},
	{ NULL,         0,			NULL},
};
WORDS_TYPE(tenant_context_check, "off or on_release");

static const struct setting_word no_tenant_words[] = {
	{"reject", NO_TENANT_REJECT, NULL},
	{ "empty", NO_TENANT_EMPTY,  NULL},
	{ NULL,    0,                NULL},
};
WORDS_TYPE(no_tenant, "reject or empty");

static const struct setting_word facility_words[] = {
	{"daemon",    LOG_DAEMON,   NULL},
	{ "auth",     LOG_AUTH,     NULL},
	{ "authpriv", LOG_AUTHPRIV, NULL},
	{ "user",     LOG_USER,     NULL},
	{ "local0",   LOG_LOCAL0,   NULL},
	{ "local1",   LOG_LOCAL1,   NULL},
	{ "local2",   LOG_LOCAL2,   NULL},
	{ "local3",   LOG_LOCAL3,   NULL},
	{ "local4",   LOG_LOCAL4,   NULL},
	{ "local5",   LOG_LOCAL5,   NULL},
	{ "local6",   LOG_LOCAL6,   NULL},
	{ "local7",   LOG_LOCAL7,   NULL},
	{ NULL,       0,            NULL},
};
WORDS_TYPE(facility, "auth, authpriv, daemon, user or local0 … local7");

static const struct setting_word bool_words[] = {
	{"1",      true,  NULL},
        { "0",     false, NULL},
        { "yes",   true,  NULL},
	{ "no",    false, NULL},
        { "on",    true,  NULL},
        { "off",   false, NULL},
	{ "true",  true,  NULL},
        { "false", false, NULL},
        { NULL,    0,     NULL},
};

static bool parse_bool(const struct setting_type *type, const char *text, void *at, struct err *e)
{
	const struct setting_word *word = take_word(type, slice_str(text), e);

	if (!word)
		return false;
	*(bool *)at = word->value;
	return true;
}

static void format_bool(const struct setting_type *type, const void *at, struct buf *out)
{
	buf_put_slice(out, slice_str(word_of(type->words, *(const bool *)at)));
}

const struct setting_type setting_type_bool = {
	.name = "yes or no",
	.syntax = "1 or 0, yes or no, on or off, true or false",
	.size = sizeof(setting_bool_t),
	.words = bool_words,
	.parse = parse_bool,
	.format = format_bool,
};

/* --- lists of words ------------------------------------------------------------------------- */

static const struct setting_word tenant_by_words[] = {
	{"user",         TENANT_BY_USER,        NULL},
	{ "database",    TENANT_BY_DATABASE,    NULL},
	{ "user_suffix", TENANT_BY_USER_SUFFIX, NULL},
	{ "startup",     TENANT_BY_STARTUP,     NULL},
	{ "sni",         TENANT_BY_SNI,         NULL},
	{ "token",       TENANT_BY_TOKEN,       NULL},
	{ "set",         TENANT_BY_SET,         NULL},
	{ "comment",     TENANT_BY_COMMENT,     NULL},
	{ NULL,          0,		     NULL},
};

static bool parse_tenant_by(const struct setting_type *type, const char *text, void *at,
			    struct err *e)
{
	struct slice rest = slice_str(text), name;
	struct tenant_by by = { 0 };

	while (list_next(&rest, &name)) {
		const struct setting_word *word = take_word(type, name, e);

		if (!word)
			return false;
		if (memchr(by.ways, word->value, by.n))
			return err_set(e, "22023", "\"%s\" stands twice", word->name);
		by.ways[by.n++] = (uint8_t)word->value;
	}
	*(struct tenant_by *)at = by;
	return true;
}

static void format_tenant_by(const struct setting_type *type, const void *at, struct buf *out)
{
	const struct tenant_by *by = at;

	for (unsigned i = 0; i < by->n; i++)
		buf_printf(out, "%s%s", i ? ", " : "", word_of(type->words, by->ways[i]));
}

const struct setting_type setting_type_tenant_by = {
	.name = "list",
	.syntax = "user, database, user_suffix, startup, sni, token, set or comment",
	.size = sizeof(setting_tenant_by_t),
	.words = tenant_by_words,
	.parse = parse_tenant_by,
	.format = format_tenant_by,
};

static const struct setting_word tls_protocols_words[] = {
	{"secure",   TLS_PROTOCOLS_SECURE, NULL},
        { "all",     TLS_PROTOCOLS_ALL,    NULL},
	{ "legacy",  TLS_PROTOCOLS_ALL,    NULL},
        { "tlsv1.0", TLS_PROTOCOL_1_0,     NULL},
	{ "tlsv1.1", TLS_PROTOCOL_1_1,     NULL},
        { "tlsv1.2", TLS_PROTOCOL_1_2,     NULL},
	{ "tlsv1.3", TLS_PROTOCOL_1_3,     NULL},
        { NULL,      0,                    NULL},
};

static bool parse_tls_protocols(const struct setting_type *type, const char *text, void *at,
				struct err *e)
{
	struct slice rest = slice_str(text), name;
	unsigned bits = 0;

	while (list_next(&rest, &name)) {
		const struct setting_word *word = take_word(type, name, e);

		if (!word)
			return false;
		bits |= (unsigned)word->value;
	}
	if (!bits)
		return setting_refuse(type, text, e);
	*(setting_tls_protocols_t *)at = bits;
	return true;
}

/* The one word that says all, else each protocol. */
static void format_tls_protocols(const struct setting_type *type, const void *at, struct buf *out)
{
	unsigned bits = *(const setting_tls_protocols_t *)at;
	const char *comma = "";

	for (const struct setting_word *w = type->words; bits && w->name; w++) {
		unsigned word = (unsigned)w->value;
		bool is_shortcut = (word & (word - 1)) != 0;

		if (is_shortcut ? word != bits : (word & bits) == 0)
			continue;
		buf_printf(out, "%s%s", comma, w->name);
		bits &= ~word;
		comma = ",";
	}
}

const struct setting_type setting_type_tls_protocols = {
	.name = "list",
	.syntax = "tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure, legacy or all",
	.size = sizeof(setting_tls_protocols_t),
	.words = tls_protocols_words,
	.parse = parse_tls_protocols,
	.format = format_tls_protocols,
};
