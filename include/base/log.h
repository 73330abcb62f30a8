/* SPDX-License-Identifier: ISC
 *
 * log.h - one line per event, to stderr, a file or syslog.
 *
 * Any thread; a line is written by one write(2), so lines never mix.  Never pass a secret.
 * log_debug() and log_trace() cost a comparison when they are off.
 */
#ifndef PGT_BASE_LOG_H
#define PGT_BASE_LOG_H

#include "base/assert.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_FATAL,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE
};

/* Where lines go.  Set before threads start, and by log_reopen() on the control thread. */
struct log_target {
	const char *file; /* NULL or "": none */
	bool to_stderr;
	bool to_syslog;
	const char *syslog_ident;
	int syslog_facility;
};

/* Written by the control thread only. */
extern _Atomic enum log_level log_threshold;

/* False: the file could not be opened; the target before stays in force. */
bool log_open(const struct log_target *target);
/* Opens the same file again, for log rotation. */
void log_reopen(void);
void log_line(enum log_level level, const char *fmt, ...) PGT_PRINTF(2, 3);
/* Each line of a text as one. */
void log_text(enum log_level level, const char *p, size_t n);

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if ((level) <= atomic_load_explicit(&log_threshold, memory_order_relaxed))         \
			log_line((level), __VA_ARGS__);                                            \
	} while (0)
#define log_fatal(...)   log_at(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...)   log_at(LOG_LEVEL_TRACE, __VA_ARGS__)

#endif
