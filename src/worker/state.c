/* SPDX-License-Identifier: ISC
 *
 * state.c - quotas in a file.
 *
 * Knows files, not what stands in them: tenant/ledger.h.
 */
#include "worker/state.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "stats/event.h"
#include "tenant/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a crash may forget. */
#define WRITE_PERIOD (2 * USEC_PER_SEC)
/* More than a million tenants need. */
#define FILE_MAX_BYTES (256 << 20)
#define READ_STEP      65536

static const char *path_of(const struct state *st, const char *name, struct buf *room)
{
	buf_printf(room, "%s/%s", st->dir, name);
	return buf_cstr(room);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* False: errno. */
static bool read_all(int fd, struct buf *text)
{
	while (buf_len(text) < FILE_MAX_BYTES) {
		ssize_t n = read(fd, buf_reserve(text, READ_STEP), READ_STEP);

		if (n == 0)
			return true;
		if (n > 0)
			buf_produced(text, (size_t)n);
		else if (errno != EINTR)
			return false;
	}
	errno = EFBIG;
	return false;
}

/* It stays there for whoever wants to see what was lost. */
static void put_aside(const struct state *st, const char *path, const char *why)
{
	struct buf room = { 0 };
	const char *aside = path_of(st, "quotas.bad", &room);

	if (rename(path, aside) == 0)
		log_warning("%s is not used, quotas begin anew: %s; it is %s now", path, why,
			    aside);
	else
		log_warning("%s is not used, quotas begin anew: %s", path, why);
	buf_fini(&room);
}

static void take_file(struct state *st)
{
	struct buf room = { 0 }, text = { 0 };
	const char *path = path_of(st, "quotas", &room);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err e;

	if (fd < 0) {
		if (errno != ENOENT)
			log_warning("%s cannot be read, quotas begin anew: %s", path,
				    strerror(errno));
	} else if (!read_all(fd, &text)) {
		log_warning("%s cannot be read, quotas begin anew: %s", path, strerror(errno));
	} else if (!ledger_take(buf_peek(&text), clock_wall(), &e)) {
		put_aside(st, path, e.text);
	}
	if (fd >= 0)
		close(fd);
	buf_fini(&room);
	buf_fini(&text);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static bool write_all(int fd, struct slice text)
{
	while (text.n) {
		ssize_t n = write(fd, text.p, text.n);

		if (n >= 0)
			text = slice_of(text.p + n, text.n - (size_t)n);
		else if (errno != EINTR)
			return false;
	}
	return true;
}

static bool write_file(const char *path, struct slice text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, text) && fsync(fd) == 0;
	return close(fd) == 0 && ok;
}

/* So that the name leads to the new file after a crash too. */
static bool sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = fsync(fd) == 0;
	close(fd);
	return ok;
}

static bool replace(const struct state *st, struct slice text)
{
	struct buf room = { 0 }, room_new = { 0 };
	const char *path = path_of(st, "quotas", &room);
	const char *fresh = path_of(st, "quotas.new", &room_new);
	bool ok = write_file(fresh, text) && rename(fresh, path) == 0 && sync_dir(st->dir);

	buf_fini(&room);
	buf_fini(&room_new);
	return ok;
}

static void keep(struct state *st)
{
	struct buf text = { 0 };

	ledger_put(&text, clock_wall());
	if (slice_is_equal(buf_peek(&text), buf_peek(&st->written))) {
		buf_fini(&text);
		return;
	}
	if (replace(st, buf_peek(&text))) {
		if (st->has_failed)
			log_info("quotas are kept in %s again", st->dir);
		st->has_failed = false;
		buf_fini(&st->written);
		st->written = text;
		return;
	}
	if (!st->has_failed)
		event_say(EVENT_quotas, &(struct log_about){ 0 }, "quotas cannot be kept in %s: %s",
			  st->dir, strerror(errno));
	st->has_failed = true;
	buf_fini(&text);
}

static void on_timer(struct loop_timer *timer)
{
	keep(container_of(timer, struct state, timer));
}

static void begin(struct state *st)
{
	st->is_anothers = false;
	if (!st->dir)
		return;
	keep(st);
	loop_timer_start(st->loop, &st->timer, WRITE_PERIOD, WRITE_PERIOD, on_timer);
}

void state_start(struct state *st, struct loop *loop, const char *dir, bool is_anothers)
{
	*st = (struct state){ .loop = loop, .is_anothers = is_anothers };
	if (*dir)
		st->dir = xstrdup(dir);
	if (!is_anothers)
		state_take(st, SLICE(""));
}

void state_give(struct state *st, struct buf *ledger)
{
	if (st->dir && !st->is_anothers)
		loop_timer_stop(st->loop, &st->timer);
	st->is_anothers = true;
	ledger_put(ledger, clock_wall());
}

void state_take(struct state *st, struct slice ledger)
{
	struct err e;

	if (ledger.n && !ledger_take(ledger, clock_wall(), &e))
		log_error("quotas that were handed over are not used: %s", e.text);
	if (!ledger.n && st->dir)
		take_file(st);
	begin(st);
}

void state_go_on(struct state *st)
{
	begin(st);
}

void state_stop(struct state *st)
{
	if (!st->dir)
		return;
	if (!st->is_anothers) {
		loop_timer_stop(st->loop, &st->timer);
		keep(st);
	}
	buf_fini(&st->written);
	free(st->dir);
}
