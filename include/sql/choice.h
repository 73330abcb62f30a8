/* SPDX-License-Identifier: ISC
 *
 * choice.h - how a text says whose it is: by setting the tenant's id, or in a comment.
 *
 * Knows a few forms in full, the ones that drivers and applications write; whatever else sets the
 * id is none of them.  Pure.
 */
#ifndef PGT_SQL_CHOICE_H
#define PGT_SQL_CHOICE_H

#include "sql/scan.h"

/* Bytes of an id in a text. */
#define SQL_ID_MAX 127
/* Parameters that set_config() can be given: the value, and whether it is the transaction's. */
#define SQL_CHOICE_PARAMS 2

struct sql_choice {
	enum {
		CHOICE_SET,   /* SET [SESSION | LOCAL] setting {TO | =} value */
		CHOICE_RESET, /* RESET setting */
		CHOICE_CALL,  /* SELECT set_config(setting, value, is_local) */
	} verb;
	enum { CHOICE_LITERAL, CHOICE_PARAM, CHOICE_DEFAULT } form;
	bool is_local;
	unsigned value_param, local_param; /* numbers of parameters; 0: it is none */
	unsigned nparams;
	uint32_t types[SQL_CHOICE_PARAMS]; /* that the server takes them for, if none is declared */
	char value[SQL_ID_MAX + 1];        /* of CHOICE_LITERAL */
	char column[64];                   /* of CHOICE_CALL: what its result is called */
};

/* Whether the whole text is one statement of these forms, for env->tenant_setting, which the server
 * cannot find fault with. */
bool sql_choice_read(struct slice text, const struct sql_env *env, struct sql_choice *out);

/* A boolean as the server reads one; false: it is none. */
bool sql_bool_parse(struct slice text, bool *value);

enum sql_comment { SQL_COMMENT_NONE, SQL_COMMENT_ID, SQL_COMMENT_WRONG };

/* The value of key='value' in the comment before the text's first token or behind its last one,
 * written as sqlcommenter does; SQL_COMMENT_WRONG: it has no value, or has two. */
enum sql_comment sql_comment_id(struct slice text, const struct sql_env *env, struct slice key,
				char id[SQL_ID_MAX + 1]);

#endif
