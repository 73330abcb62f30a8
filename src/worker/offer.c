/* SPDX-License-Identifier: ISC
 *
 * offer.c - asking a running process for its sockets.
 *
 * The side of the process that takes over, before it has a loop.  What the running one does is in
 * takeover.c.
 */
#include "worker/offer.h"

#include "base/clock.h"
#include "net/packet.h"
#include "wire/read.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How long the running process may take to answer. */
#define PATIENCE (10 * USEC_PER_SEC)

void offer_path(const struct settings *set, struct buf *path)
{
	struct slice dirs = slice_str(set->unix_socket_dir), dir;

	if (strcmp(set->takeover_socket, "auto") != 0)
		buf_printf(path, "%s", set->takeover_socket);
	else if (*set->pidfile)
		buf_printf(path, "%s.takeover", set->pidfile);
	else if (list_next(&dirs, &dir) && *dir.p != '@')
		buf_printf(path, "%.*s/.s.pgturnstile.%u.takeover", SLICE_FMT(dir),
			   set->listen_port);
}

void takeover_put_number(struct buf *out, enum takeover_word word, uint64_t number)
{
	buf_put_u8(out, (uint8_t)word);
	buf_put_u32(out, (uint32_t)(number >> 32));
	buf_put_u32(out, (uint32_t)number);
}

uint64_t takeover_read_number(struct reader *r)
{
	uint64_t high = read_u32(r);

	return high << 32 | read_u32(r);
}

static bool say_hello(int link, struct err *e)
{
	struct buf hello = { 0 };
	bool ok;

	buf_put_u8(&hello, WORD_HELLO);
	buf_put_u32(&hello, TAKEOVER_FORMAT);
	buf_put_cstr(&hello, PACKAGE_STRING);
	ok = packet_put(link, buf_peek(&hello), -1);
	buf_fini(&hello);
	return ok || err_set(e, "F0000", "the running process does not listen");
}

/* Takes the descriptor.  False: it makes no sense. */
static bool add(struct offer *offer, struct reader *r, int fd)
{
	struct offered *at = &offer->at[offer->n];
	uint8_t kind = read_u8(r);
	struct slice name = read_cstr(r);

	if (!r->failed && kind > OFFER_LIFE && fd >= 0) {
		close(fd);
		return true;
	}
	if (r->failed || fd < 0 || offer->n == OFFERED_MAX || name.n >= sizeof(at->name)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	at->kind = kind;
	at->fd = fd;
	at->is_supervised = read_left(r) && read_u8(r);
	memcpy(at->name, name.p, name.n);
	at->name[name.n] = '\0';
	offer->n++;
	return true;
}

static bool is_known(uint8_t word)
{
	return word == WORD_SOCKET || word == WORD_REFUSED || word == WORD_OFFERED;
}

/* STEP_CLOSED: *e. */
typedef enum step take_fn(struct offer *offer, struct slice packet, int fd, struct err *e);

static enum step refused(struct reader *r, struct err *e)
{
	struct slice why = read_cstr(r);

	err_set(e, "F0000", "the running process refuses a takeover: %.*s", SLICE_FMT(why));
	return STEP_CLOSED;
}

static enum step take_packet(struct offer *offer, struct slice packet, int fd, struct err *e)
{
	struct reader r = reader_of(packet);
	uint8_t word = read_u8(&r);

	if (word == WORD_SOCKET && add(offer, &r, fd))
		return STEP_AGAIN;
	if (word != WORD_SOCKET && fd >= 0)
		close(fd);
	if (word == WORD_REFUSED)
		return refused(&r, e);
	if (word == WORD_OFFERED && read_u32(&r) <= TAKEOVER_FORMAT) {
		offer->from = (pid_t)read_u32(&r);
		if (!r.failed)
			return STEP_DONE;
	}
	if (!is_known(word))
		return STEP_AGAIN;
	err_set(e, "F0000", "what the running process says makes no sense here");
	return STEP_CLOSED;
}

/* Until take has what it wants.  False: *e. */
static bool receive_until(struct offer *offer, take_fn *take_one, struct err *e)
{
	struct buf packet = { 0 };
	enum step step = STEP_AGAIN;
	int fd;

	while (step == STEP_AGAIN) {
		step = STEP_CLOSED;
		if (packet_wait(offer->link, PATIENCE, &packet, &fd, e))
			step =
			    take_one(offer, slice_of(buf_head(&packet), buf_len(&packet)), fd, e);
	}
	buf_fini(&packet);
	return step == STEP_DONE;
}

bool offer_ask(struct offer *offer, const struct settings *set, struct err *e)
{
	struct buf path = { 0 };

	*offer = (struct offer){ .link = -1 };
	offer_path(set, &path);
	if (!buf_len(&path)) {
		buf_fini(&path);
		return err_set(e, "F0000",
			       "there is no socket to take over by: set takeover_socket or "
			       "pidfile");
	}
	offer->link = packet_connect(buf_cstr(&path), e);
	buf_fini(&path);
	if (offer->link >= 0 && say_hello(offer->link, e) && receive_until(offer, take_packet, e))
		return true;
	offer_drop_rest(offer);
	if (offer->link >= 0)
		close(offer->link);
	offer->link = -1;
	return false;
}

static enum step take_grant(struct offer *offer PGT_UNUSED, struct slice packet, int fd,
			    struct err *e)
{
	struct reader r = reader_of(packet);
	uint8_t word = read_u8(&r);

	if (fd >= 0)
		close(fd);
	if (word == WORD_REFUSED)
		return refused(&r, e);
	return word == WORD_GRANTED ? STEP_DONE : STEP_AGAIN;
}

bool offer_confirm(struct offer *offer, struct err *e)
{
	struct buf packet = { 0 };
	bool ok;

	if (offer->link < 0)
		return true;
	buf_put_u8(&packet, WORD_READY);
	buf_put_u32(&packet, (uint32_t)getpid());
	buf_put_u8(&packet, READY_KNOWS_KEYS | READY_TAKES_SERVERS);
	ok = packet_put(offer->link, buf_peek(&packet), -1) ||
	     err_set(e, "F0000", "the running process has hung up");
	buf_fini(&packet);
	return ok && receive_until(offer, take_grant, e);
}

/* name NULL: any.  NULL: it is not there any more. */
static struct offered *find(struct offer *offer, enum offer_kind kind, const char *name)
{
	for (unsigned i = 0; i < offer->n; i++) {
		struct offered *at = &offer->at[i];

		if (at->fd >= 0 && at->kind == kind && (!name || !strcmp(at->name, name)))
			return at;
	}
	return NULL;
}

static int take(struct offered *at)
{
	int fd = at ? at->fd : -1;

	if (at)
		at->fd = -1;
	return fd;
}

int offer_take(struct offer *offer, enum offer_kind kind, const char *name)
{
	return take(find(offer, kind, name));
}

int offer_take_listener(struct offer *offer, const char *name, bool *is_supervised)
{
	struct offered *at = find(offer, OFFER_CLIENTS, name);

	*is_supervised = at && at->is_supervised;
	return take(at);
}

int offer_take_any(struct offer *offer, enum offer_kind kind)
{
	return take(find(offer, kind, NULL));
}

bool offer_is_supervised_used_up(const struct offer *offer, struct err *e)
{
	for (unsigned i = 0; i < offer->n; i++)
		if (offer->at[i].fd >= 0 && offer->at[i].is_supervised)
			return err_set(e, "F0000",
				       "the running process has %s by socket activation, and "
				       "nothing in the configuration is for it",
				       offer->at[i].name);
	return true;
}

void offer_drop_rest(struct offer *offer)
{
	for (unsigned i = 0; i < offer->n; i++)
		if (offer->at[i].fd >= 0)
			close(offer->at[i].fd);
	offer->n = 0;
}
