/* SPDX-License-Identifier: ISC
 *
 * log.c - one line per event, to stderr, a file and syslog.
 *
 * Knows nothing of connections: who logs puts its own context into the text.
 */
#include "base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

_Atomic enum log_level log_threshold = LOG_LEVEL_INFO;

static const struct {
	const char *name;
	int priority;
} levels[] = {
	[LOG_LEVEL_FATAL] = {"FATAL",    LOG_CRIT   },
	[LOG_LEVEL_ERROR] = { "ERROR",   LOG_ERR    },
	[LOG_LEVEL_WARNING] = { "WARNING", LOG_WARNING},
	[LOG_LEVEL_INFO] = { "LOG",     LOG_INFO   },
	[LOG_LEVEL_DEBUG] = { "DEBUG",   LOG_DEBUG  },
	[LOG_LEVEL_TRACE] = { "NOISE",   LOG_DEBUG  },
};

static char *path;
static _Atomic int file_fd = -1;
static atomic_bool to_stderr = true;
static atomic_bool to_syslog;
static char syslog_ident[64] = "pgturnstile";

/* The number stays the same for ever, so that a thread in the middle of a line writes to the old or
 * the new file and never to a stranger. */
static bool open_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

	if (fd < 0)
		return false;
	if (file_fd < 0) {
		file_fd = fd;
		return true;
	}
	dup3(fd, file_fd, O_CLOEXEC);
	close(fd);
	return true;
}

bool log_open(const struct log_target *target)
{
	if (target->file && *target->file) {
		if (!open_file(target->file))
			return false;
		free(path);
		path = strdup(target->file);
	}
	if (target->to_syslog) {
		snprintf(syslog_ident, sizeof(syslog_ident), "%s",
			 target->syslog_ident ? target->syslog_ident : "pgturnstile");
		openlog(syslog_ident, LOG_PID, target->syslog_facility);
	}
	to_stderr = target->to_stderr;
	to_syslog = target->to_syslog;
	return true;
}

void log_reopen(void)
{
	if (path && !open_file(path))
		log_error("cannot open log file \"%s\" again; the old one stays", path);
}

static void write_all(int fd, const char *p, size_t n)
{
	/* A log that cannot be written must not stop the service, hence no retry. */
	ssize_t done = write(fd, p, n);

	(void)done;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	struct timespec now;
	struct tm tm;
	size_t at;
	va_list ap;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	at = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
	at += (size_t)snprintf(line + at, sizeof(line) - at, ".%03ld ", now.tv_nsec / 1000000);
	at += strftime(line + at, sizeof(line) - at, "%Z", &tm);
	at += (size_t)snprintf(line + at, sizeof(line) - at, " [%d] %s ", (int)getpid(),
			       levels[level].name);
	va_start(ap, fmt);
	n = vsnprintf(line + at, sizeof(line) - at - 1, fmt, ap);
	va_end(ap);
	if (to_syslog)
		syslog(levels[level].priority, "%s", line + at);
	at += n < 0 ? 0 : (size_t)n;
	if (at > sizeof(line) - 2)
		at = sizeof(line) - 2;
	/* Bytes of a peer may stand in the text; a line break in them must not forge a line. */
	for (size_t i = 0; i < at; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[at++] = '\n';
	if (to_stderr)
		write_all(STDERR_FILENO, line, at);
	if (file_fd >= 0)
		write_all(file_fd, line, at);
}

void log_text(enum log_level level, const char *p, size_t n)
{
	for (const char *end = p + n; p < end;) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		int len = (int)((eol ? eol : end) - p);

		log_at(level, "%.*s", len, p);
		p += len + (eol != NULL);
	}
}
