/* SPDX-License-Identifier: ISC
 *
 * suspect.h - functions that are declared IMMUTABLE and may not be: what they tell may depend on
 * more than their arguments.
 *
 * PostgreSQL computes such a function once for a plan, so a plan that is kept may tell one session
 * what another has set.  What cannot be cleared is suspect: sources are searched for words, stored
 * expressions tell exactly what they call, and what calls a suspect is one.  Cleared are functions
 * in C (and the server's own), those of known extensions, and what the server's own functions read
 * of standard settings.  Text of SQL, no code: whoever asks decides what becomes of it.
 *
 * Sources: PostgreSQL manual, "Function Volatility Categories"; eval_const_expressions() as a
 * PostgreSQL 15 server shows it to test/integration/test_kept_plans.py.
 */
#ifndef PGT_SQL_SUSPECT_H
#define PGT_SQL_SUSPECT_H

/* Extensions whose functions leave nothing that a session could see, nor tell of it. */
#define SQL_KNOWN_EXTENSIONS                                                                       \
	"'adminpack', 'amcheck', 'autoinc', 'bloom', 'btree_gin', 'btree_gist', 'citext', "        \
	"'citus', 'citus_columnar', 'cube', 'dblink', 'earthdistance', 'file_fdw', "               \
	"'fuzzystrmatch', 'hstore', 'insert_username', 'intagg', 'intarray', 'lo', 'ltree', "      \
	"'moddatetime', 'pageinspect', 'pg_buffercache', 'pg_cron', 'pg_freespacemap', "           \
	"'pg_prewarm', 'pg_repack', 'pg_stat_statements', 'pg_surgery', 'pg_visibility', "         \
	"'pg_walinspect', 'pgaudit', 'pgcrypto', 'pglogical', 'pgrouting', 'pgrowlocks', "         \
	"'pgstattuple', 'postgis', 'postgis_raster', 'postgis_sfcgal', 'postgis_topology', "       \
	"'postgres_fdw', 'refint', 'seg', 'sslinfo', 'tablefunc', 'tcn', 'timescaledb', "          \
	"'tsm_system_rows', 'tsm_system_time', 'unaccent', 'uuid-ossp', 'vector', 'xml2'"

/* The OIDs of the functions that they have. */
#define SQL_KNOWN_MEMBERS                                                                          \
	"SELECT d.objid FROM pg_catalog.pg_depend d"                                               \
	" JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"                                    \
	" WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'"                    \
	" AND d.refclassid = 'pg_catalog.pg_extension'::regclass"                                  \
	" AND e.extname IN (" SQL_KNOWN_EXTENSIONS ")"

/* Not IMMUTABLE, and no more than the catalog and standard settings to read: those stand in the key
 * of statements, or nobody's plans are kept who has set them. */
#define SQL_HARMLESS_FUNCTIONS                                                                     \
	"'array_to_json', 'array_to_string', 'concat', 'concat_ws', 'convert', 'convert_from', "   \
	"'convert_to', 'date', 'date_part', 'date_trunc', 'enum_first', 'enum_last', "             \
	"'enum_range', 'extract', 'format', 'generate_series', 'json_agg', 'json_build_array', "   \
	"'json_build_object', 'json_object_agg', 'json_populate_record', "                         \
	"'json_populate_recordset', 'json_to_record', 'json_to_recordset', 'jsonb_agg', "          \
	"'jsonb_build_array', 'jsonb_build_object', 'jsonb_object_agg', "                          \
	"'jsonb_populate_record', 'jsonb_populate_recordset', 'jsonb_to_record', "                 \
	"'jsonb_to_recordset', 'length', 'make_timestamptz', 'money', 'numeric', 'overlaps', "     \
	"'quote_literal', 'quote_nullable', 'row_to_json', 'textanycat', 'anytextcat', 'time', "   \
	"'timestamp', 'timestamptz', 'timetz', 'timezone', 'to_char', 'to_date', 'to_json', "      \
	"'to_jsonb', 'to_number', 'to_timestamp', 'unaccent', 'xml'"

/* Nodes of the graph that are no functions: what the session has set or is, other things that
 * change, and code that runs without being called (operators, casts, checks of domains), which
 * every body is taken to use. */
#define SQL_TOLD_SESSION "0::oid"
#define SQL_TOLD_OTHERS  "1::oid"
#define SQL_RUN_UNCALLED "2::oid"

#define SQL_SPELLS_SESSION                                                                         \
	"'\\m(current_setting|show_config_by_name\\w*|set_config|set_config_by_name|current_user"  \
	"|session_user|system_user|current_role|current_catalog|current_database"                  \
	"|current_schemas?|pg_settings)\\M|\\m(?<!'')user\\M'"
#define SQL_SPELLS_OTHERS                                                                          \
	"'\\m(execute|now|today|tomorrow|yesterday|current_date|current_time|current_timestamp"    \
	"|localtime|localtimestamp|information_schema|pg_temp)\\M|u&\"'"
/* Without one of these no relation is read. */
#define SQL_SPELLS_TABLES "'\\m(from|join|using|table|insert|update|delete|merge|copy)\\M'"

/* In a source, the name of what is called with a comment before its parenthesis. */
#define SQL_CALL_WITH_COMMENT                                                                      \
	"'([[:alpha:]_][[:alnum:]_$]*)\"?"                                                         \
	"(?=(?:\\s*(?:--[^\\n]*\\n|/\\*(?:[^*]|\\*+[^*/])*\\*+/))+\\s*\\()'"
#define SQL_PLAIN_NAME "'^[[:alpha:]_][[:alnum:]_$]*$'"
#define SQL_READ_KINDS "'r', 'v', 'm', 'f', 'p', 'S'"

/* Of a WITH RECURSIVE where the search_path is pg_catalog: declared(oid, …), the functions that are
 * looked at; runs(oid, target), what they call; suspect(oid), what may not be IMMUTABLE, whatever
 * it is declared as. */
#define SQL_SUSPECTS                                                                               \
	"declared(oid, lang, source, tree) AS MATERIALIZED ("                                      \
	" SELECT p.oid, l.lanname, lower(p.prosrc), concat(p.proargdefaults::text,"                \
	"  CASE p.prosrc WHEN '' THEN to_jsonb(p) ->> 'prosqlbody' END)"                           \
	" FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang"            \
	" WHERE p.provolatile = 'i' AND p.prokind <> 'a' AND (p.oid >= 16384 AND l.lanname <> 'c'" \
	"  AND p.oid NOT IN (" SQL_KNOWN_MEMBERS ")"                                               \
	"  OR p.proname = 'current_setting' AND p.pronamespace = 'pg_catalog'::regnamespace)"      \
	"), word(oid, word, is_called) AS MATERIALIZED ("                                          \
	" SELECT DISTINCT oid, m[2], m[1] <> '' OR m[3] <> '' FROM declared, regexp_matches("      \
	"  source, '(\\.?)\\s*\"?([[:alpha:]_][[:alnum:]_$]*)\"?\\s*(\\(?)', 'g') m"               \
	" UNION SELECT oid, m[1], true FROM declared, "                                            \
	"regexp_matches(source, " SQL_CALL_WITH_COMMENT ", 'g') m"                                 \
	"), odd(oid, name) AS MATERIALIZED ("                                                      \
	" SELECT oid, lower(proname) FROM pg_catalog.pg_proc"                                      \
	"  WHERE oid >= 16384 AND proname !~ " SQL_PLAIN_NAME " UNION ALL SELECT " SQL_TOLD_OTHERS \
	", lower(relname) FROM pg_catalog.pg_class"                                                \
	"  WHERE oid >= 16384 AND relname !~ " SQL_PLAIN_NAME " AND relkind IN (" SQL_READ_KINDS   \
	")"                                                                                        \
	"), uncalled(oid) AS ("                                                                    \
	" SELECT p.oid FROM (SELECT oprcode::oid FROM pg_catalog.pg_operator"                      \
	"  UNION SELECT castfunc FROM pg_catalog.pg_cast"                                          \
	"  UNION SELECT m[1]::oid FROM pg_catalog.pg_constraint c, regexp_matches(c.conbin::text," \
	"   ':(?:funcid|opfuncid) (\\d+)', 'g') m WHERE c.contypid <> 0"                           \
	" ) u(oid) JOIN pg_catalog.pg_proc p USING (oid)"                                          \
	" JOIN pg_catalog.pg_language l ON l.oid = p.prolang"                                      \
	" WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')"                             \
	" UNION SELECT " SQL_TOLD_SESSION " FROM pg_catalog.pg_constraint c"                       \
	"  WHERE c.contypid <> 0 AND c.conbin::text ~ '\\{SQLVALUEFUNCTION'"                       \
	"), runs(oid, target) AS MATERIALIZED ("                                                   \
	" SELECT w.oid, p.oid FROM word w"                                                         \
	"  JOIN pg_catalog.pg_proc p ON lower(p.proname) = w.word WHERE w.is_called"               \
	" UNION ALL SELECT d.oid, o.oid FROM declared d JOIN odd o ON strpos(d.source, o.name) > " \
	"0"                                                                                        \
	" UNION ALL SELECT d.oid, p.oid FROM declared d JOIN pg_catalog.pg_proc p"                 \
	"  ON p.prosrc = d.source AND p.oid < 16384 WHERE d.lang = 'internal'"                     \
	" UNION ALL SELECT d.oid, m[1]::oid FROM declared d, regexp_matches(d.tree,"               \
	"  ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') m"                                \
	" UNION ALL SELECT oid, " SQL_TOLD_SESSION " FROM declared"                                \
	"  WHERE source ~ " SQL_SPELLS_SESSION " OR tree ~ '\\{SQLVALUEFUNCTION'"                  \
	" UNION ALL SELECT oid, " SQL_TOLD_OTHERS " FROM declared"                                 \
	"  WHERE source ~ " SQL_SPELLS_OTHERS " OR tree ~ ':relid [1-9]|\\{NEXTVALUEEXPR'"         \
	"  OR lang NOT IN ('sql', 'plpgsql', 'internal')"                                          \
	" UNION ALL SELECT d.oid, " SQL_TOLD_OTHERS " FROM declared d"                             \
	"  JOIN word w ON w.oid = d.oid JOIN pg_catalog.pg_class c ON lower(c.relname) = w.word"   \
	"  WHERE c.relkind IN (" SQL_READ_KINDS ") AND d.source ~ " SQL_SPELLS_TABLES              \
	"  AND c.relnamespace <> 'information_schema'::regnamespace"                               \
	" UNION ALL SELECT a.aggfnoid, part FROM pg_catalog.pg_aggregate a,"                       \
	"  unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn,"        \
	"  aggmfinalfn]::oid[]) part WHERE part >= 16384"                                          \
	" UNION ALL SELECT " SQL_RUN_UNCALLED ", oid FROM uncalled"                                \
	" UNION ALL SELECT oid, " SQL_RUN_UNCALLED " FROM declared"                                \
	"), unsteady(oid) AS ("                                                                    \
	" SELECT oid FROM pg_catalog.pg_proc WHERE provolatile <> 'i'"                             \
	"  AND NOT (proname IN (" SQL_HARMLESS_FUNCTIONS ")"                                       \
	"   AND (oid < 16384 OR oid IN (" SQL_KNOWN_MEMBERS ")))"                                  \
	" UNION ALL VALUES (" SQL_TOLD_SESSION "), (" SQL_TOLD_OTHERS ")"                          \
	"), suspect(oid) AS ("                                                                     \
	" SELECT oid FROM unsteady UNION SELECT r.oid FROM suspect s JOIN runs r"                  \
	"  ON r.target = s.oid)"

/* Behind it: telling(oid), those that may tell what a session has set or is. */
#define SQL_TELLING                                                                                \
	"telling(oid) AS ("                                                                        \
	" VALUES (" SQL_TOLD_SESSION ")"                                                           \
	" UNION ALL SELECT oid FROM pg_catalog.pg_proc WHERE provolatile <> 'i'"                   \
	"  AND lower(prosrc) ~ " SQL_SPELLS_SESSION                                                \
	" UNION SELECT r.oid FROM telling t JOIN runs r ON r.target = t.oid"                       \
	"  WHERE r.oid <> " SQL_RUN_UNCALLED ")"

#endif
