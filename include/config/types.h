/* SPDX-License-Identifier: ISC
 *
 * types.h - the types that settings have: one setting_type_WORD for each word of settings.def.
 */
#ifndef PGT_CONFIG_TYPES_H
#define PGT_CONFIG_TYPES_H

#include "config/settings.h"

extern const struct setting_type setting_type_uint;
extern const struct setting_type setting_type_count;
extern const struct setting_type setting_type_percent;
extern const struct setting_type setting_type_shapes;
extern const struct setting_type setting_type_top;
extern const struct setting_type setting_type_workers;
extern const struct setting_type setting_type_filemode;
extern const struct setting_type setting_type_port;
extern const struct setting_type setting_type_optional_port;
extern const struct setting_type setting_type_usec;
extern const struct setting_type setting_type_bytes;
extern const struct setting_type setting_type_bool;
extern const struct setting_type setting_type_str;
extern const struct setting_type setting_type_secret;
extern const struct setting_type setting_type_list;
extern const struct setting_type setting_type_networks;
extern const struct setting_type setting_type_guc;
extern const struct setting_type setting_type_rate;
extern const struct setting_type setting_type_timeshare;
extern const struct setting_type setting_type_bandwidth;
extern const struct setting_type setting_type_quota;
extern const struct setting_type setting_type_tenant_by;
extern const struct setting_type setting_type_tls_protocols;
extern const struct setting_type setting_type_pool_mode;
extern const struct setting_type setting_type_sslmode;
extern const struct setting_type setting_type_auth_type;
extern const struct setting_type setting_type_route;
extern const struct setting_type setting_type_route_mode;
extern const struct setting_type setting_type_promote;
extern const struct setting_type setting_type_read_your_writes;
extern const struct setting_type setting_type_listen_lost;
extern const struct setting_type setting_type_rate_limit_mode;
extern const struct setting_type setting_type_log_format;
extern const struct setting_type setting_type_log_statements;
extern const struct setting_type setting_type_session_state;
extern const struct setting_type setting_type_backend_pid;
extern const struct setting_type setting_type_sequence_state;
extern const struct setting_type setting_type_load_balance_hosts;
extern const struct setting_type setting_type_tenant_pool;
extern const struct setting_type setting_type_tenant_context_check;
extern const struct setting_type setting_type_no_tenant;
extern const struct setting_type setting_type_facility;

/* "TEXT is not SYNTAX"; false. */
bool setting_refuse(const struct setting_type *type, const char *text, struct err *e);
/* Reads a whole decimal number, digits only, of at most max. */
bool number_parse(struct slice text, uint64_t max, uint64_t *out);

#endif
