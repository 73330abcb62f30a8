/* SPDX-License-Identifier: ISC
 *
 * log.h - one line per event, to stderr, a file or syslog.
 *
 * Any thread; a line is written by one write(2), so lines never mix.  Never pass a secret.
 * log_debug() and log_trace() cost a comparison when they are off.
 *
 * Warnings and worse of one place in the code are written so many times a second, and what a peer
 * can cause as often as it likes; of the others it is told how many there were.
 */
#ifndef PGT_BASE_LOG_H
#define PGT_BASE_LOG_H

#include "base/assert.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_FATAL,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Whom a line is about, as far as that is known; else 0 or NULL. */
struct log_about {
	const char *event;       /* kind, of stats/events.def */
	uint64_t client, server; /* numbers, as SHOW has them */
	const char *database, *user, *tenant;
	const char *address; /* of the client: host:port */
	const char *node;    /* the same, of a server */
	const char *reason;  /* a word for it, or what ended it */
	bool is_often;       /* a peer may cause it as often as it likes */
};

/* Where lines go.  Set before threads start, and by log_reopen() on the control thread. */
struct log_target {
	const char *file; /* NULL or "": none */
	bool to_stderr;
	bool to_syslog;
	const char *syslog_ident;
	int syslog_facility;
	enum log_format format;
};

/* "host:port" of a node or a peer. */
#define LOG_ADDRESS_MAX 300

/* Written by the control thread only. */
extern _Atomic enum log_level log_threshold;

/* "LOG", "WARNING" … as in its lines. */
const char *log_level_name(enum log_level level);
/* False: the file could not be opened; the target before stays in force. */
bool log_open(const struct log_target *target);
/* Opens the same file again, for log rotation. */
void log_reopen(void);
void log_line(enum log_level level, const char *fmt, ...) PGT_PRINTF(2, 3);
/* In text, its beginning says whom it is about; in JSON, members do. */
void log_line_about(enum log_level level, const struct log_about *about, const char *fmt, ...)
    PGT_PRINTF(3, 4);
/* Tells how many lines were left out, once the second is over.  Now and then; any thread. */
void log_sweep(void);
/* Each line of a text as one. */
void log_text(enum log_level level, const char *p, size_t n);

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if ((level) <= atomic_load_explicit(&log_threshold, memory_order_relaxed))         \
			log_line((level), __VA_ARGS__);                                            \
	} while (0)
#define log_about(level, about, ...)                                                               \
	do {                                                                                       \
		if ((level) <= atomic_load_explicit(&log_threshold, memory_order_relaxed))         \
			log_line_about((level), (about), __VA_ARGS__);                             \
	} while (0)
#define log_fatal(...)   log_at(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...)   log_at(LOG_LEVEL_TRACE, __VA_ARGS__)

#endif
