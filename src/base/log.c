/* SPDX-License-Identifier: ISC
 *
 * log.c - one line per event, to stderr, a file and syslog.
 *
 * Knows nothing of connections: who logs says whom a line is about.
 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#include <fcntl.h>
#include <pthread.h>
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

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

static char *path;
static _Atomic int file_fd = -1;
static atomic_bool to_stderr = true;
static atomic_bool to_syslog;
static atomic_bool as_json;
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
	as_json = target->format == LOG_FORMAT_JSON;
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

static void write_line(const char *line, size_t n)
{
	if (to_stderr)
		write_all(STDERR_FILENO, line, n);
	if (file_fd >= 0)
		write_all(file_fd, line, n);
}

/* ---- a line -----------------------------------------------------------------------------------
 */

#define TEXT_MAX 2048
static const struct log_about nobody;

/* Bytes of a peer may stand in the text; a line break in them must not forge a line. */
static void blank_controls(char *line, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
}

static void put_prefix(struct buf *out, const struct log_about *about)
{
	const char *where = about->server ? about->node : about->address;

	if (about->client || about->server) {
		buf_printf(out, "%c-%llu: ", about->server ? 'S' : 'C',
			   (unsigned long long)(about->server ? about->server : about->client));
		buf_printf(out, "%s%s%s%s%s", about->database ? about->database : "",
			   about->database ? "/" : "", about->user ? about->user : "",
			   where ? "@" : "", where ? where : "");
		if (about->tenant && *about->tenant)
			buf_printf(out, " [%s]", about->tenant);
		buf_printf(out, ": ");
		return;
	}
	if (about->database && *about->database)
		buf_printf(out, "database \"%s\": ", about->database);
	if (about->tenant && *about->tenant)
		buf_printf(out, "tenant \"%s\": ", about->tenant);
}

static void put_text_line(struct buf *out, enum log_level level, const struct log_about *about,
			  const char *text, const struct timespec *now)
{
	char stamp[64], zone[16];
	struct tm tm;

	localtime_r(&now->tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%Z", &tm);
	buf_printf(out, "%s.%03ld %s [%d] %s ", stamp, now->tv_nsec / 1000000, zone, (int)getpid(),
		   levels[level].name);
	put_prefix(out, about);
	buf_put_slice(out, slice_str(text));
	blank_controls(buf_head(out), buf_len(out));
}

static void put_number(struct buf *out, const char *name, uint64_t value)
{
	if (value)
		buf_printf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void put_member(struct buf *out, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	buf_printf(out, ",\"%s\":", name);
	json_put_string(out, value);
}

static void put_json_line(struct buf *out, enum log_level level, const struct log_about *about,
			  const char *text, const struct timespec *now)
{
	char stamp[64], zone[16];
	struct tm tm;

	localtime_r(&now->tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm);
	buf_printf(out, "{\"time\":\"%s.%03ld%.3s:%s\",\"pid\":%d,\"level\":\"%s\"", stamp,
		   now->tv_nsec / 1000000, zone, zone + 3, (int)getpid(), levels[level].name);
	put_member(out, "event", about->event);
	put_number(out, "client", about->client);
	put_number(out, "server", about->server);
	put_member(out, "database", about->database);
	put_member(out, "user", about->user);
	put_member(out, "tenant", about->tenant);
	put_member(out, "address", about->address);
	put_member(out, "node", about->node);
	put_member(out, "reason", about->reason);
	put_member(out, "message", text);
	buf_put_u8(out, '}');
}

static void emit(enum log_level level, const struct log_about *about, const char *text)
{
	struct buf line = { 0 };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (as_json)
		put_json_line(&line, level, about, text, &now);
	else
		put_text_line(&line, level, about, text, &now);
	if (to_syslog) {
		struct buf said = { 0 };

		if (!as_json)
			put_prefix(&said, about);
		buf_put_slice(&said, as_json ? buf_peek(&line) : slice_str(text));
		syslog(levels[level].priority, "%s", buf_cstr(&said));
		buf_fini(&said);
	}
	buf_put_u8(&line, '\n');
	write_line(buf_head(&line), buf_len(&line));
	buf_fini(&line);
}

/* ---- lines that come often --------------------------------------------------------------------
 */

#define METERS       64
#define LINES_MAX    20 /* of one place, in … */
#define METER_WINDOW USEC_PER_SEC

/* Of one place in the code, told by its format. */
struct meter {
	const char *fmt;
	enum log_level level;
	usec_t since;
	unsigned n;
	char last[160]; /* that was left out */
};

static struct meter meters[METERS];
static pthread_mutex_t meters_lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_over(const struct meter *m, usec_t now)
{
	return now - m->since >= METER_WINDOW;
}

/* What it left out, as a copy to be told without the lock; n 0: nothing. */
static struct meter settle(struct meter *m)
{
	struct meter settled = *m;

	settled.n = m->n > LINES_MAX ? m->n - LINES_MAX : 0;
	*m = (struct meter){ 0 };
	return settled;
}

static void tell(const struct meter *left_out)
{
	char text[sizeof(left_out->last) + 80];

	if (!left_out->n)
		return;
	snprintf(text, sizeof(text), "repeated %u times: %s", left_out->n, left_out->last);
	emit(left_out->level, &nobody, text);
}

/* Whether it is to be written now. */
static bool pass_meter(const char *fmt, enum log_level level, const char *text)
{
	struct meter *m = &meters[((uintptr_t)fmt >> 3) % METERS], left_out = { 0 };
	usec_t now = clock_monotonic();
	bool passes;

	pthread_mutex_lock(&meters_lock);
	if (m->fmt != fmt || is_over(m, now)) {
		left_out = settle(m);
		m->fmt = fmt;
		m->level = level;
		m->since = now;
	}
	passes = ++m->n <= LINES_MAX;
	if (!passes)
		snprintf(m->last, sizeof(m->last), "%s", text);
	pthread_mutex_unlock(&meters_lock);
	tell(&left_out);
	return passes;
}

void log_sweep(void)
{
	usec_t now = clock_monotonic();

	for (unsigned i = 0; i < METERS; i++) {
		struct meter left_out = { 0 };

		pthread_mutex_lock(&meters_lock);
		if (meters[i].fmt && is_over(&meters[i], now))
			left_out = settle(&meters[i]);
		pthread_mutex_unlock(&meters_lock);
		tell(&left_out);
	}
}

static void PGT_PRINTF(3, 0)
    log_v(enum log_level level, const struct log_about *about, const char *fmt, va_list ap)
{
	char text[TEXT_MAX] = "";

	vsnprintf(text, sizeof(text), fmt, ap);
	if ((level > LOG_LEVEL_WARNING && !about->is_often) || pass_meter(fmt, level, text))
		emit(level, about, text);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_v(level, &nobody, fmt, ap);
	va_end(ap);
}

void log_line_about(enum log_level level, const struct log_about *about, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_v(level, about, fmt, ap);
	va_end(ap);
}

void log_text(enum log_level level, const char *p, size_t n)
{
	if (level > atomic_load_explicit(&log_threshold, memory_order_relaxed))
		return;
	for (const char *end = p + n; p < end;) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		int len = (int)((eol ? eol : end) - p);
		char text[TEXT_MAX];

		/* All of them: they are of one event. */
		snprintf(text, sizeof(text), "%.*s", len, p);
		emit(level, &nobody, text);
		p += len + (eol != NULL);
	}
}
