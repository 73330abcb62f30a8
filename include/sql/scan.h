/* SPDX-License-Identifier: ISC
 *
 * scan.h - what the tokens of a text alone tell: kind, effects on the session, guarded settings.
 *
 * Runs for every query, so it is one pass without allocation and without a grammar.  It decides
 * nothing: callers forbid, pin or route by these facts.  Where tokens cannot tell, a flag says so
 * and the caller takes the safe side.  SQL that a function builds at run time is invisible here;
 * the signed context is the answer to that.
 */
#ifndef PGT_SQL_SCAN_H
#define PGT_SQL_SCAN_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* How the names begin that our prepared statements have on servers.  No SQL of clients may name
 * them: its EXECUTE would give parameters that no Bind has shown. */
#define SQL_OWN_STATEMENTS "pgt_"

struct sql_leaving;

struct sql_env {
	bool standard_strings;      /* standard_conforming_strings of the session */
	bool ascii_safe;            /* its client_encoding has no ASCII bytes inside characters */
	const char *tenant_setting; /* lower case, "app.current_business_id"; NULL: none guarded */
	/* Names behind which there is code that may leave something in the session; NULL: there are
	 * none, or nobody knows. */
	const struct sql_leaving *leaving;
	bool unproven;          /* these are being asked: what runs any code may leave something */
	bool wants_fingerprint; /* a third of a scan's time: only for those who classify */
};

/*     X(enumerator, name) */
#define SQL_KINDS(X)                                                                               \
	X(EMPTY, "empty")                                                                          \
	X(OTHER, "other")                                                                          \
	X(SELECT, "select") /* also VALUES, TABLE, WITH and a parenthesis */                       \
	X(INSERT, "insert")                                                                        \
	X(UPDATE, "update")                                                                        \
	X(DELETE, "delete")                                                                        \
	X(EXPLAIN, "explain")                                                                      \
	X(COPY, "copy")                                                                            \
	X(BEGIN, "begin")       /* also START TRANSACTION */                                       \
	X(COMMIT, "commit")     /* also END */                                                     \
	X(ROLLBACK, "rollback") /* also ABORT */                                                   \
	X(SAVEPOINT, "savepoint")                                                                  \
	X(RELEASE, "release")                                                                      \
	X(ROLLBACK_TO, "rollback to")                                                              \
	X(TWO_PHASE, "two-phase") /* PREPARE TRANSACTION, COMMIT or ROLLBACK PREPARED */           \
	X(SET, "set")                                                                              \
	X(SET_LOCAL, "set local")                                                                  \
	X(SET_TRANSACTION, "set transaction") /* also SET CONSTRAINTS */                           \
	X(RESET, "reset")                                                                          \
	X(SHOW, "show")                                                                            \
	X(DISCARD, "discard")                                                                      \
	X(PREPARE, "prepare")                                                                      \
	X(EXECUTE, "execute")                                                                      \
	X(DEALLOCATE, "deallocate")                                                                \
	X(DECLARE, "declare")                                                                      \
	X(FETCH, "fetch") /* also MOVE */                                                          \
	X(CLOSE, "close")                                                                          \
	X(LISTEN, "listen")                                                                        \
	X(UNLISTEN, "unlisten")                                                                    \
	X(NOTIFY, "notify")                                                                        \
	X(LOAD, "load")                                                                            \
	X(LOCK, "lock")                                                                            \
	X(CALL, "call")                                                                            \
	X(DO, "do")

#define X(enumerator, name) SQL_KIND_##enumerator,
enum sql_kind { SQL_KINDS(X) SQL_NKINDS };
#undef X
const char *sql_kind_name(enum sql_kind kind);

/* What a text may leave behind on its server connection, and what else a pooler must know.
 *     X(enumerator, name)  */
#define SQL_EFFECTS(X)                                                                             \
	X(SET, "set") /* SET, RESET or set_config() of the session */                              \
	X(PREPARE, "prepare")                                                                      \
	X(LISTEN, "listen")                                                                        \
	X(NOTIFY, "notify") /* leaves nothing, but something is on its way */                      \
	X(TEMP, "temp")                                                                            \
	X(ADVISORY_LOCK, "advisory_lock") /* a session's, not a transaction's */                   \
	X(HOLD_CURSOR, "hold_cursor")                                                              \
	X(LOAD, "load")                                                                            \
	X(DBLINK, "dblink") /* a named connection */                                               \
	X(SEED, "seed")     /* of random() */                                                      \
	X(BACKEND_PID, "backend_pid")                                                              \
	X(RELEASE, "release") /* DROP, CLOSE, UNLISTEN, an unlock: may end what is left behind */  \
	X(BLOCK, "block")     /* DO, CALL, names of sql_env.leaving: what they run is not in it */ \
	X(DISCARD_ALL, "discard_all")                                                              \
	X(DISCARD_PLANS, "discard_plans") /* also SEQUENCES and TEMP */                            \
	X(DEALLOCATE, "deallocate")       /* one name */                                           \
	X(DEALLOCATE_ALL, "deallocate_all")                                                        \
	X(TRANSACTION_CONTROL, "transaction_control")                                              \
	X(COPY, "copy")                                                                            \
	X(DEFINES, "defines")       /* a table, or maybe more, of which its tag does not tell */   \
	X(CODE_LOCKS, "code_locks") /* what it names of sql_env.leaving may take a session's */    \
	X(ASKS_NODE, "asks_node")   /* current_setting() of what may differ from node to node */

#define X(enumerator, name) SQL_EFFECT_BIT_##enumerator,
enum sql_effect_bit { SQL_EFFECTS(X) SQL_NEFFECTS };
#undef X
#define X(enumerator, name) SQL_EFFECT_##enumerator = 1u << SQL_EFFECT_BIT_##enumerator,
enum sql_effect { SQL_EFFECTS(X) };
#undef X
/* Those that leave nothing behind in the session and change nothing there. */
#define SQL_HARMLESS_EFFECTS                                                                       \
	((uint32_t)(SQL_EFFECT_COPY | SQL_EFFECT_BACKEND_PID | SQL_EFFECT_DEFINES))

enum sql_flag {
	/* The lexer cannot be sure to see what the server sees: a part is not terminated, or the
	 * encoding hides ASCII bytes.  Nothing else in the facts may be relied on. */
	SQL_UNCLEAN = 1 << 0,
	/* standard_conforming_strings is off and a plain string has a backslash: our grammar, which
	 * knows only "on", would read another text. */
	SQL_BACKSLASH = 1 << 1,
	/* set_config() whose setting's name no token tells. */
	SQL_SETCONFIG_DYNAMIC = 1 << 2,
	/* set_config() with the name in a parameter: see CHANGE_BY_PARAM. */
	SQL_SETCONFIG_PARAM = 1 << 3,
	SQL_UPDATES_PG_SETTINGS = 1 << 4,
	/* The tenant setting is spelled where it is neither known to be read nor to be set. */
	SQL_GUARD_UNDECIDED = 1 << 5,
	/* Sets [default_]transaction_read_only. */
	SQL_SETS_READ_ONLY = 1 << 6,
};

/* What a text does with the state of sequences that a session has. */
enum sql_sequence {
	SQL_SEQUENCE_ADVANCES = 1 << 0,   /* nextval(), or a statement that may call it unseen */
	SQL_SEQUENCE_READS_LAST = 1 << 1, /* lastval() */
	SQL_SEQUENCE_READS = 1 << 2,      /* currval() */
};

enum sql_hint { SQL_HINT_NONE, SQL_HINT_PRIMARY };

struct sql_change {
	enum {
		CHANGE_TENANT,
		CHANGE_STATEMENT_TIMEOUT,
		CHANGE_STANDARD_STRINGS,
		CHANGE_CLIENT_ENCODING,
		CHANGE_BY_PARAM, /* whatever the value of parameter name_param names */
	} what;
	enum {
		SCOPE_SESSION,
		SCOPE_LOCAL,
		SCOPE_CATALOG, /* ALTER ROLE … SET, CREATE FUNCTION … SET: for later sessions or
				  calls */
	} scope;
	enum {
		VALUE_LITERAL,
		VALUE_DEFAULT, /* DEFAULT, RESET, RESET ALL, set_config(…, NULL, …) */
		VALUE_PARAM,   /* set_config(…, $n, …) in a text of the extended protocol */
		VALUE_UNKNOWN,
	} form;
	size_t at, len; /* the value's tokens in the text, to be replaced; len 0: RESET has none */
	int param;      /* n of VALUE_PARAM */
	int name_param; /* n of CHANGE_BY_PARAM */
	char value[80]; /* of VALUE_LITERAL, unescaped, NUL-terminated */
	bool value_fits;
};

#define SQL_CHANGES_MAX 8
/* For the names of settings in one text. */
#define SQL_SETTINGS_ROOM 192

/* A place where the text names a prepared statement. */
struct sql_name {
	enum { NAME_PREPARE, NAME_EXECUTE, NAME_DEALLOCATE } use;
	size_t at, len;  /* the name's token in the text */
	char folded[64]; /* the name as the server understands it, NUL-terminated */
};

#define SQL_NAMES_MAX 8

/* Settings by which a server reads a text when it parses it, up to NULL: what names of tables mean,
 * and what literals are, as '1/2/2003'::date is by DateStyle.  Lower case. */
extern const char *const sql_meaning_settings[];

struct sql_facts {
	enum sql_kind kind;  /* of the first statement */
	unsigned statements; /* that are not empty: what a Query costs in tokens */
	uint32_t effects;    /* of all statements: enum sql_effect */
	uint32_t flags;      /* enum sql_flag */
	enum sql_hint hint;  /* from a comment: route: primary */
	uint8_t sequence;    /* enum sql_sequence */
	bool is_exact; /* the first statement is BEGIN, COMMIT, ROLLBACK, DISCARD ALL or DEALLOCATE
			  of a name with every word known and in place: the server cannot find fault
			  with its form */
	bool begin_read_only;    /* first statement: BEGIN … READ ONLY */
	bool begin_read_write;   /* first statement: BEGIN … READ WRITE */
	bool begin_serializable; /* first statement: BEGIN … ISOLATION LEVEL SERIALIZABLE */
	unsigned nesting;        /* of parentheses, at most */
	unsigned chain;          /* tokens that may nest a grammar's tree: operators and words */
	uint64_t fingerprint[2]; /* equal for texts that differ in literals, comments, case and
				    white space only; keyed by base/hash.h; 0, 0: not asked for */
	unsigned nnames;
	bool too_many_names;
	bool asks_prepared;    /* names pg_prepared_statements */
	bool asks_setting;     /* calls current_setting(): its literals decide what it may ask */
	bool calls_set_config; /* its literals are in what is told here */
	bool sets_many; /* RESET, SESSION CHARACTERISTICS …: other settings than .settings too */
	bool sets_unnamed; /* a setting whose name the text does not tell */
	bool sets_path;    /* one of sql_meaning_settings, if only for the transaction */
	bool resets; /* RESET, or a value DEFAULT, LOCAL or NULL: goes back to what the session
			began with */
	bool resets_early; /* … something guarded maybe, and another statement follows */
	unsigned settings_len;
	unsigned nchanges;
	bool too_many_changes;
	struct sql_change changes[SQL_CHANGES_MAX]; /* the first nchanges are filled */
	struct sql_name names[SQL_NAMES_MAX];       /* the first nnames are filled, in order */
	/* Names that SET and set_config() give a value beyond the transaction (SQL_EFFECT_SET), in
	 * lower case, each with its NUL; the first settings_len bytes are filled. */
	char settings[SQL_SETTINGS_ROOM];
};

/* Reads the whole text.  Any thread; *f borrows nothing. */
void sql_scan(struct slice text, const struct sql_env *env, struct sql_facts *f);

#endif
