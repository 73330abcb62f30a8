/* SPDX-License-Identifier: ISC
 *
 * settings.h - what can be set: one table, made from settings.def.
 *
 * A setting is one row there; from it come the field in struct settings, the parser, the default,
 * SHOW CONFIG, the reload rule, docs/settings.md and etc/pgturnstile.ini.  A struct settings is
 * always complete: where a value comes from (global, database, user, tier, tenant) is decided
 * once, by settings_resolve() of config.h, and nobody meets an "inherit" value at run time.
 *
 * Pure: no files, no clock, no globals that change.  Any thread.
 */
#ifndef PGT_CONFIG_SETTINGS_H
#define PGT_CONFIG_SETTINGS_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- values ------------------------------------------------------------------------------- */

enum pool_mode { POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };

/* In rising strictness, so that modes can be compared. */
enum sslmode {
	SSLMODE_DISABLE,
	SSLMODE_ALLOW,
	SSLMODE_PREFER,
	SSLMODE_REQUIRE,
	SSLMODE_VERIFY_CA,
	SSLMODE_VERIFY_FULL
};

/* AUTH_TYPE_MD5 takes SCRAM where the stored secret is one, as PgBouncer's md5 does. */
enum auth_type {
	AUTH_TYPE_TRUST,
	AUTH_TYPE_ANY,
	AUTH_TYPE_PLAIN,
	AUTH_TYPE_MD5,
	AUTH_TYPE_SCRAM,
	AUTH_TYPE_CERT,
	AUTH_TYPE_PEER,
	AUTH_TYPE_HBA,
	AUTH_TYPE_PAM,
	AUTH_TYPE_LDAP,
	AUTH_TYPE_JWT,
	AUTH_TYPE_N
};

enum route { ROUTE_AUTO, ROUTE_PRIMARY };
enum route_mode { ROUTE_MODE_ROUTE, ROUTE_MODE_OBSERVE };
enum promote { PROMOTE_NO, PROMOTE_FIRST_WRITE };
enum read_your_writes { READ_YOUR_WRITES_OFF, READ_YOUR_WRITES_SESSION, READ_YOUR_WRITES_TENANT };

enum session_state { SESSION_STATE_PIN, SESSION_STATE_REJECT, SESSION_STATE_LOG };

enum sequence_state { SEQUENCE_STATE_AUTO, SEQUENCE_STATE_PIN };

enum backend_pid { BACKEND_PID_PIN, BACKEND_PID_SERVER };

/* What happens to those who listen when the connection that listens for them is lost. */
enum listen_lost { LISTEN_LOST_DISCONNECT, LISTEN_LOST_NOTICE };

enum log_statements {
	LOG_STATEMENTS_NONE,
	LOG_STATEMENTS_DDL,
	LOG_STATEMENTS_MOD,
	LOG_STATEMENTS_ALL
};
enum rate_limit_mode { RATE_LIMIT_ENFORCE, RATE_LIMIT_WARN };

enum load_balance_hosts { LOAD_BALANCE_DISABLE, LOAD_BALANCE_ROUND_ROBIN };

enum tenant_context_check { CONTEXT_CHECK_OFF, CONTEXT_CHECK_ON_RELEASE };

enum tenant_pool { TENANT_POOL_DEDICATED, TENANT_POOL_SHARED };

/* What a statement of a session meets that has not said yet whose it is. */
enum no_tenant { NO_TENANT_REJECT, NO_TENANT_EMPTY };

/* Ways to tell a tenant, in the order to try them. */
enum tenant_by_way {
	TENANT_BY_USER,
	TENANT_BY_DATABASE,
	TENANT_BY_USER_SUFFIX,
	TENANT_BY_STARTUP,
	TENANT_BY_SNI,
	TENANT_BY_TOKEN,
	TENANT_BY_SET,     /* within a session: set, and comment … */
	TENANT_BY_COMMENT, /* … need tenant_pool = shared */
	TENANT_BY_NWAYS
};

struct tenant_by {
	uint8_t n; /* 0: there are no tenants */
	uint8_t ways[TENANT_BY_NWAYS];
};

static inline bool tenant_by_has(const struct tenant_by *by, enum tenant_by_way way)
{
	for (unsigned i = 0; i < by->n; i++)
		if (by->ways[i] == way)
			return true;
	return false;
}

/* count per per; count 0: no limit, and then per is 0 too. */
struct rate {
	uint64_t count;
	usec_t per;
};

/* Statements in each hour and day; 0: no limit. */
struct quotas {
	uint64_t per_hour;
	uint64_t per_day;
};

/* Bits of the tls_protocols settings. */
#define TLS_PROTOCOL_1_0     1u
#define TLS_PROTOCOL_1_1     2u
#define TLS_PROTOCOL_1_2     4u
#define TLS_PROTOCOL_1_3     8u
#define TLS_PROTOCOLS_SECURE (TLS_PROTOCOL_1_2 | TLS_PROTOCOL_1_3)
#define TLS_PROTOCOLS_ALL    15u

/* The C type of each type word of settings.def. */
typedef unsigned setting_uint_t;          /* 0 … 2^31-1 */
typedef unsigned setting_count_t;         /* 1 … 2^31-1 */
typedef unsigned setting_top_t;           /* 0: none */
typedef unsigned setting_shapes_t;        /* 1 … 65535 */
typedef unsigned setting_percent_t;       /* 1 … 100 */
typedef unsigned setting_workers_t;       /* 0: auto */
typedef unsigned setting_filemode_t;      /* octal */
typedef uint16_t setting_port_t;          /* 1 … 65535 */
typedef uint16_t setting_optional_port_t; /* the same, or 0 */
typedef usec_t setting_usec_t;            /* 0 … 100 years */
typedef uint64_t setting_bytes_t;         /* 0 … 2^40 */
typedef bool setting_bool_t;              /* PgBouncer's words: 0 1 no yes off on false true */
typedef const char *setting_str_t;        /* never NULL; "" is "not set" */
typedef const char *setting_secret_t;     /* the same; never shown */
typedef const char *setting_list_t;       /* words between commas: list_next() */
typedef const char *setting_networks_t;   /* the same, of networks: networks_have() */
typedef const char *setting_guc_t;        /* a lower case dotted name */
typedef struct rate setting_rate_t;       /* N/s, N/m, N/h, N/d */
typedef struct rate setting_timeshare_t;  /* a duration per time, count in microseconds */
typedef struct rate setting_bandwidth_t;  /* a size per time */
typedef struct quotas setting_quota_t;    /* N/h, N/d, or both */
typedef struct tenant_by setting_tenant_by_t;
typedef unsigned setting_tls_protocols_t; /* TLS_PROTOCOL_* */
typedef int setting_pool_mode_t;          /* enum pool_mode, and so on */
typedef int setting_sslmode_t;
typedef int setting_auth_type_t;
typedef int setting_route_t;
typedef int setting_route_mode_t;
typedef int setting_promote_t;
typedef int setting_read_your_writes_t;
typedef int setting_listen_lost_t;
typedef int setting_rate_limit_mode_t;
typedef int setting_log_format_t;
typedef int setting_log_statements_t;
typedef int setting_session_state_t;
typedef int setting_backend_pid_t;
typedef int setting_sequence_state_t;
typedef int setting_load_balance_hosts_t;
typedef int setting_tenant_pool_t;
typedef int setting_tenant_context_check_t;
typedef int setting_no_tenant_t;
typedef int setting_facility_t; /* LOG_DAEMON … of <syslog.h> */

/* One complete set of values.  Strings belong to the config that it came from. */
struct settings {
#define GROUP(title, text)
#define X(type, name, aliases, dflt, scopes, when, status, doc) setting_##type##_t name;
#include "config/settings.def"
#undef X
#undef GROUP
};

/* --- the table ------------------------------------------------------------------------------ */

/* Where a setting may stand. */
enum setting_scope {
	SCOPE_GLOBAL = 1,
	SCOPE_DATABASE = 2,
	SCOPE_USER = 4,
	SCOPE_TIER = 8,
	SCOPE_TENANT = 16,
	SCOPE_LANE = 128,
	/* Not places, but how a setting behaves: */
	ZERO_INHERITS =
	    32,           /* 0 of a database or user is as if it were not there, as in PgBouncer */
	ONLY_IN_FILE = 64 /* other parts of a config depend on it: RELOAD changes it, not SET */
};

enum setting_when {
	AT_START,    /* a changed value waits for the next start */
	AT_RELOAD,   /* in force as soon as the config is */
	AT_NEXT_CONN /* for connections made from then on */
};

enum setting_status {
	WORKS,
	LATER /* read and checked, without effect yet: noted once when set to something new */
};

enum setting_id {
#define GROUP(title, text)
#define X(type, name, ...) SETTING_##name,
#include "config/settings.def"
#undef X
#undef GROUP
	NSETTINGS
};

/* Room for one value of any type. */
union setting_value {
	unsigned u;
	uint16_t port;
	uint64_t bytes;
	usec_t usec;
	bool yes;
	int word;
	const char *str;
	struct rate rate;
	struct quotas quotas;
	struct tenant_by tenant_by;
};

/* One word of an enum.  The first row of a value is the one that is shown. */
struct setting_word {
	const char *name;
	int value;
	const char *refused; /* not NULL: why this version does not take it */
};

/* How values of a type are read and written.  Values stand where `at` points, of the C type
 * setting_NAME_t. */
struct setting_type {
	const char *name;
	const char *syntax; /* "a duration such as 15s …", for messages and docs */
	size_t size;
	uint64_t min, max; /* of numbers, in the unit of a bare number; both 0: no number */
	const struct setting_word *words; /* of an enum, ended by a NULL name */
	bool is_string;
	bool is_secret;
	/* Reads text into at; a string borrows text.  False: e says what would be right. */
	bool (*parse)(const struct setting_type *type, const char *text, void *at, struct err *e);
	/* Appends what parse() would read, except that a secret is "****" (or nothing when unset).
	 */
	void (*format)(const struct setting_type *type, const void *at, struct buf *out);
};

struct setting {
	const char *name;
	const char *aliases; /* names outside the global section instead of `name`, "" for none */
	const char *dflt;    /* text of the default */
	const char *doc;
	const struct setting_type *type;
	size_t offset; /* in struct settings */
	unsigned scopes;
	enum setting_when when;
	enum setting_status status;
};

/* In the order of settings.def; settings_table[SETTING_x] is x. */
extern const struct setting settings_table[NSETTINGS];

/* The setting that NAME means in a scope (one of SCOPE_*), or NULL. */
const struct setting *settings_find(struct slice name, enum setting_scope scope);

/* The name of a setting in a scope where it may stand. */
struct slice setting_name(const struct setting *setting, enum setting_scope scope);

/* A search for "did you mean": start with { .wanted = name, .distance = UINT_MAX }, try every known
 * name, then ask whether the best is near enough to be worth a mention. */
struct nearest {
	struct slice wanted;
	struct slice name;
	unsigned distance;
};

void nearest_try(struct nearest *n, struct slice known);
bool nearest_is_near(const struct nearest *n);
/* Tries every name that is valid in the scope. */
void settings_nearest(struct nearest *n, enum setting_scope scope);

/* Every setting at its default; strings are static. */
void settings_defaults(struct settings *out);

/* Where the value of a setting stands in s. */
static inline void *setting_at(const struct setting *setting, struct settings *s)
{
	return (char *)s + setting->offset;
}

static inline const void *setting_peek(const struct setting *setting, const struct settings *s)
{
	return (const char *)s + setting->offset;
}

/* Reads text into s.  A string then borrows text.  False: e (22023) says what would be right; s is
 * untouched.  A secret's text is never in e. */
bool setting_parse(const struct setting *setting, const char *text, struct settings *s,
		   struct err *e) PGT_MUST_USE;

/* Appends the value as SHOW CONFIG has it (times in seconds, sizes in bytes, no unit, as
 * PgBouncer; secrets as ****). */
void setting_format(const struct setting *setting, const struct settings *s, struct buf *out);

bool setting_is_equal(const struct setting *setting, const struct settings *a,
		      const struct settings *b);

/* SHOW CONFIG's last column: whether RELOAD or SET change it without a restart. */
static inline bool setting_is_changeable(const struct setting *setting)
{
	return setting->when != AT_START;
}

/* --- lists of words ------------------------------------------------------------------------- */

/* Takes the next word off *rest (words stand between commas, space around them does not count).
 * False: there is none. */
bool list_next(struct slice *rest, struct slice *word);

/* Whether a word is in a list ("*" in the list is every word). */
bool list_has(const char *list, struct slice word);

#endif
