/* SPDX-License-Identifier: ISC
 *
 * command.h - the console's language: one command, whom it is about, a setting or a message.
 *
 * Knows which commands there are and who may use them, not what they do.  Pure.
 *
 *     command = [ verb [ word ] [ "by" word ] [ "tenant" name ]
 *               | "set" [ "tenant" name ] word ( "=" | "to" ) ( word | string )
 *               | "reset" "tenant" name [ word ]
 *               | ( "readonly" | "readwrite" ) [ owner ]
 *               | "maintenance" [ "on" | "off" ] [ owner ] [ string ]
 *               | ( "pause" | "resume" | "kill" ) "tenant" name ] [ ";" ]
 *               | ( "show" | "select" ) "help" [ [ "show" ] word ]
 *               | ( "show" | "select" ) "route" [ "database" name ]
 *                 [ ( "tenant" | "user" ) name ] [ statement ]
 *     owner   = ( "database" | "tenant" ) name
 *
 * A word is bare or in double quotes.  Blanks and SQL comments may stand between them.  One
 * command is one message, as in PgBouncer: text behind the semicolon is an error, and then nothing
 * of it is run.
 */
#ifndef PGT_ADMIN_COMMAND_H
#define PGT_ADMIN_COMMAND_H

#include "admin/commands.def"
#include "base/err.h"
#include "base/slice.h"

enum access { ACCESS_STATS, ACCESS_ADMIN };

enum argument {
	ARGUMENT_NONE,
	ARGUMENT_OPTIONAL_DATABASE,
	ARGUMENT_DATABASE,
	ARGUMENT_DATABASE_OR_TENANT, /* a bare name is a database, as in PgBouncer */
	ARGUMENT_OWNER,
	ARGUMENT_SWITCH,
	ARGUMENT_TENANT_SETTING,
	ARGUMENT_CLIENT,
	ARGUMENT_SHUTDOWN_MODE,
	ARGUMENT_SETTING,
	ARGUMENT_SHOWN,
};

enum command_id {
#define X(name, ...) COMMAND_##name,
	COMMANDS(X)
#undef X
	    NCOMMANDS
};

enum show_id {
#define X(name, ...) SHOW_##name,
	SHOWS(X)
#undef X
	    NSHOWS
};

enum fake_id {
#define X(name, value) FAKE_##name,
	FAKES(X)
#undef X
	    NFAKES
};

struct command_spec {
	const char *verb;
	enum argument argument;
	enum access access;
	const char *help;
};

struct show_spec {
	const char *name;
	enum access access;
	const char *help;
};

struct fake_spec {
	const char *name;
	const char *value;
};

extern const struct command_spec command_specs[NCOMMANDS];
extern const struct show_spec show_specs[NSHOWS];
extern const struct fake_spec fake_specs[NFAKES];
/* Whom a command is about. */
enum owner { OWNER_ALL, OWNER_DATABASE, OWNER_TENANT, OWNER_NODE };

/* "[db]" …, by enum argument; "" for none. */
extern const char *const argument_usages[];

#define COMMAND_MAX_WORD 128
/* With its NUL: a statement of SHOW ROUTE is as long as one that is looked into, if nobody says
 * otherwise (parse_max_size).  Each command that a client has prepared takes as much. */
#define COMMAND_MAX_VALUE (32 * 1024 + 1)

struct command {
	bool is_empty; /* nothing but blanks, comments and a semicolon; nothing else is set */
	enum command_id id;
	int show;                      /* enum show_id, or -1 */
	int fake;                      /* enum fake_id that SHOW or SET means, or -1 */
	enum owner owner;              /* of whom .name is the name; else OWNER_ALL; of SHOW ROUTE:
					* whether .word is a tenant, .name is the database */
	bool is_off;                   /* MAINTENANCE OFF */
	bool has_old_columns;          /* console_old_columns, when it was asked; not parsed */
	char name[COMMAND_MAX_WORD];   /* "" without one */
	char word[COMMAND_MAX_WORD];   /* the argument, or the setting's name; "" without one */
	char value[COMMAND_MAX_VALUE]; /* of a setting, the message, what SHOW … BY is by, what
					* SHOW HELP is about, or a statement */
};

/* Reads text.  False: *e (08P01) has PgBouncer's words.  The text is quoted there but must not be
 * logged: it may hold a password. */
bool command_parse(struct slice text, struct command *out, struct err *e) PGT_MUST_USE;

/* Who may run it. */
enum access command_access(const struct command *cmd);

#endif
