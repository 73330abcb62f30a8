/* SPDX-License-Identifier: ISC
 *
 * test_packet.c - packets to a process that does not listen, and to one that is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/loop.h"
#include "net/packet.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEN 4096

struct scene {
	struct loop *loop;
	struct packets packets;
	int other;
	uint8_t last_sent, last_seen;
};

static void on_came(struct packets *p, struct slice bytes, int passed)
{
	fail_msg("%zu bytes have come", bytes.n);
}

static void on_ended(struct packets *p)
{
}

static const struct packet_events events = { .came = on_came, .ended = on_ended };

static void begin(struct scene *s)
{
	int pair[2];

	*s = (struct scene){ 0 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	s->loop = loop_new();
	s->other = pair[1];
	packets_start(&s->packets, s->loop, pair[0], &events);
}

static void end(struct scene *s)
{
	packets_stop(&s->packets);
	if (s->other >= 0)
		close(s->other);
	loop_free(s->loop);
}

static struct slice next_packet(struct scene *s, char *room)
{
	memset(room, ++s->last_sent, LEN);
	return slice_of(room, LEN);
}

/* More than a socket takes. */
static void fill(struct scene *s)
{
	char room[LEN];

	while (list_is_empty(&s->packets.unsent))
		packets_send(&s->packets, next_packet(s, room), -1);
	packets_send(&s->packets, next_packet(s, room), -1);
}

/* All that is there; it has come in order. */
static void drain(struct scene *s)
{
	uint8_t room[LEN];

	while (recv(s->other, room, sizeof(room), 0) == LEN)
		assert_int_equal(room[LEN - 1], ++s->last_seen);
}

static void test_one_that_does_not_listen_is_told_later(void **state)
{
	struct scene s;
	char room[LEN];
	struct slice bytes;

	begin(&s);
	fill(&s);
	bytes = next_packet(&s, room);
	assert_int_equal(packets_send_now(&s.packets, bytes), PACKET_LATER);
	drain(&s);
	/* Behind what had to wait. */
	assert_int_equal(packets_send_now(&s.packets, bytes), PACKET_SENT);
	assert_true(list_is_empty(&s.packets.unsent));
	drain(&s);
	assert_int_equal(s.last_seen, s.last_sent);
	end(&s);
}

static void test_one_that_is_gone_is_never_told(void **state)
{
	struct scene s;

	begin(&s);
	close(s.other);
	s.other = -1;
	assert_int_equal(packets_send_now(&s.packets, SLICE("word")), PACKET_LOST);
	end(&s);
}

static void test_nor_one_that_is_gone_with_packets_before_it(void **state)
{
	struct scene s;

	begin(&s);
	fill(&s);
	close(s.other);
	s.other = -1;
	assert_int_equal(packets_send_now(&s.packets, SLICE("word")), PACKET_LOST);
	end(&s);
	assert_int_equal(packets_send_now(&s.packets, SLICE("word")), PACKET_LOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_that_does_not_listen_is_told_later),
		cmocka_unit_test(test_one_that_is_gone_is_never_told),
		cmocka_unit_test(test_nor_one_that_is_gone_with_packets_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
