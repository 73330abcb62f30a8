/* SPDX-License-Identifier: ISC
 *
 * test_conn.c - connections on a real loop: what goes in comes out, whoever is slow or leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_rig.h"

#include "base/mem.h"
#include "net/mailbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE (4u << 20)

static struct rig rig;

static int setup(void **state)
{
	rig_init(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_fini(&rig);
	return 0;
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static bool has_said(int fd, struct buf *heard, const char *text)
{
	peer_read(fd, heard);
	return slice_is_equal(buf_peek(heard), slice_str(text));
}

static void echo(struct end *end)
{
	struct slice in = conn_input(&end->conn);

	conn_send(&end->conn, in.p, in.n);
	conn_consume(&end->conn, in.n);
}

static void test_echo_keeps_no_buffer(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	int fd = end_open(&end, &rig);

	end.on_readable = echo;
	say(fd, "hello");
	UNTIL(&rig, has_said(fd, &heard, "hello"));
	assert_null(end.conn.in);
	assert_null(end.conn.out);
	close(fd);
	UNTIL(&rig, end.nfreed);
	assert_string_equal(end.why, "");
	buf_fini(&heard);
}

/* Leaves all but what makes whole lines, and counts them. */
static void take_lines(struct end *end)
{
	struct slice in = conn_input(&end->conn);
	const char *last = memrchr(in.p, '\n', in.n);

	if (!last)
		return;
	buf_put(&end->got, in.p, (size_t)(last - in.p) + 1);
	conn_consume(&end->conn, (size_t)(last - in.p) + 1);
}

static void test_what_the_handler_left_comes_again(void **state)
{
	struct end end;
	struct buf line = { 0 };
	int fd = end_open(&end, &rig);
	size_t sent = 0;

	end.on_readable = take_lines;
	/* Longer than what is joined in the shared buffer. */
	pattern_put(&line, 300000);
	for (size_t i = 0; i < buf_len(&line); i++)
		if (buf_head(&line)[i] == '\n')
			buf_head(&line)[i] = ' ';
	buf_put_u8(&line, '\n');
	buf_put_cstr(&line, "rest");
	while (sent < buf_len(&line)) {
		ssize_t n = write(fd, buf_head(&line) + sent, buf_len(&line) - sent);

		sent += n > 0 ? (size_t)n : 0;
		rig_turn(&rig);
	}
	UNTIL(&rig, conn_kept(end.conn.in) == sizeof("rest"));
	assert_int_equal(buf_len(&end.got), 300001);
	assert_memory_equal(buf_head(&end.got), buf_head(&line), 300001);
	close(fd);
	UNTIL(&rig, end.nfreed);
	buf_fini(&line);
}

static void leave_all(struct end *end)
{
}

static void test_what_was_read_is_read_again(void **state)
{
	struct end end;
	int fd = end_open(&end, &rig);

	say(fd, "first");
	UNTIL(&rig, buf_len(&end.got) == 5);
	conn_unread(&end.conn, SLICE("again"));
	conn_kick(&end.conn);
	say(fd, "second");
	UNTIL(&rig, buf_len(&end.got) == 16);
	assert_true(slice_is_equal(buf_peek(&end.got), SLICE("firstagainsecond")));
	end.on_readable = leave_all;
	say(fd, " left");
	UNTIL(&rig, conn_kept(end.conn.in) == 5);
	conn_unread(&end.conn, SLICE("before what is"));
	assert_true(slice_is_equal(conn_input(&end.conn), SLICE("before what is left")));
	close(fd);
	UNTIL(&rig, end.nfreed);
}

/* Without the loop. */
static void test_what_came_ahead_is_received_at_once(void **state)
{
	struct end end;
	int fd = end_open(&end, &rig);

	conn_receive_first(&end.conn);
	assert_int_equal(buf_len(&end.got), 0);
	assert_int_equal(end.nended, 0);
	assert_int_equal(write(fd, "first", 5), 5);
	conn_receive_first(&end.conn);
	net_flush(&rig.net);
	assert_true(slice_is_equal(buf_peek(&end.got), SLICE("first")));
	close(fd);
	end_close(&end, &rig);
}

static void test_what_was_not_sent_yet_is_taken_back(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	int fd = end_open(&end, &rig);

	conn_send(&end.conn, "kept lost", 9);
	conn_unsend(&end.conn, 5);
	conn_unsend(&end.conn, 100);
	buf_put(conn_output(&end.conn), "built", 5);
	buf_put(conn_output(&end.conn), "lost", 4);
	conn_unsend(&end.conn, 10);
	UNTIL(&rig, has_said(fd, &heard, "kept built"));
	conn_send(&end.conn, "all of it", 9);
	conn_unsend(&end.conn, 0);
	conn_send(&end.conn, ".", 1);
	UNTIL(&rig, has_said(fd, &heard, "kept built."));
	close(fd);
	UNTIL(&rig, end.nfreed);
	buf_fini(&heard);
}

static void test_partial_writes_arrive_in_order(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	int fd = end_open(&end, &rig);
	int tiny = 4096;

	setsockopt(end.conn.fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny));
	pattern_put(conn_output(&end.conn), LARGE);
	while (buf_len(&heard) < LARGE) {
		rig_turn(&rig);
		peer_read(fd, &heard);
	}
	assert_true(pattern_is_at(&heard));
	UNTIL(&rig, end.ndrained == 1);
	assert_null(end.conn.out);
	assert_false(end.conn.blocked);
	close(fd);
	UNTIL(&rig, end.nfreed);
	buf_fini(&heard);
}

static size_t most_unsent;

static void forward_until_full(struct end *end)
{
	struct conn *to = &end->other->conn;
	struct slice in = conn_input(&end->conn);

	conn_send(to, in.p, in.n);
	conn_consume(&end->conn, in.n);
	net_flush(to->net);
	if (conn_unsent(to))
		conn_pause(&end->conn);
	if (conn_unsent(to) > most_unsent)
		most_unsent = conn_unsent(to);
}

static void test_i6_slow_reader_pauses_the_writer(void **state)
{
	struct end from;
	struct end to;
	struct buf heard = { 0 };
	struct buf text = { 0 };
	int in = end_open(&from, &rig);
	int out = end_open(&to, &rig);

	from.on_readable = forward_until_full;
	from.other = &to;
	to.other = &from;
	most_unsent = 0;
	pattern_put(&text, LARGE);
	while (buf_len(&heard) < LARGE) {
		ssize_t n = buf_len(&text) ? write(in, buf_head(&text), buf_len(&text)) : 0;

		if (n > 0)
			buf_consume(&text, (size_t)n);
		/* Lets it fill up first. */
		if (from.conn.paused || !buf_len(&text))
			peer_read(out, &heard);
		rig_turn(&rig);
	}
	assert_true(pattern_is_at(&heard));
	assert_true(to.ndrained > 0);
	assert_in_range(most_unsent, 1, NET_RECEIVE_MAX);
	close(in);
	close(out);
	UNTIL(&rig, from.nfreed && to.nfreed);
	buf_fini(&heard);
	buf_fini(&text);
}

/* Drops the first byte of what came and forwards the rest in two pieces, keeping the last byte. */
static void forward_pieces(struct end *end)
{
	struct slice in = conn_input(&end->conn);

	conn_send(&end->other->conn, in.p + 1, 2);
	conn_send(&end->other->conn, in.p + 4, in.n - 5);
	conn_consume(&end->conn, in.n - 1);
}

static void test_bytes_borrowed_of_two_connections(void **state)
{
	struct end a;
	struct end b;
	struct end to;
	struct buf heard = { 0 };
	int fa = end_open(&a, &rig);
	int fb = end_open(&b, &rig);
	int out = end_open(&to, &rig);

	a.other = b.other = &to;
	a.on_readable = b.on_readable = forward_pieces;
	say(fa, "-12-345.");
	UNTIL(&rig, has_said(out, &heard, "12345"));
	say(fb, "-67-89.");
	UNTIL(&rig, has_said(out, &heard, "123456789"));
	/* The byte that was kept comes first. */
	say(fa, "ab-c.");
	UNTIL(&rig, has_said(out, &heard, "123456789abc"));
	close(fa);
	close(fb);
	close(out);
	UNTIL(&rig, a.nfreed && b.nfreed && to.nfreed);
	buf_fini(&heard);
}

static void say_bye(struct end *end)
{
	conn_send(&end->conn, "bye", 3);
	conn_finish(&end->conn, 60 * USEC_PER_SEC);
}

static void test_last_message_arrives_although_the_peer_had_more(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	char more[100000] = { 0 };
	int fd = end_open(&end, &rig);

	end.on_readable = say_bye;
	assert_int_equal(write(fd, more, sizeof(more)), sizeof(more));
	UNTIL(&rig, !peer_read(fd, &heard));
	assert_true(slice_is_equal(buf_peek(&heard), SLICE("bye")));
	assert_int_equal(end.nfreed, 0);
	close(fd);
	UNTIL(&rig, end.nfreed);
	assert_int_equal(end.nended, 0);
	buf_fini(&heard);
}

static void test_large_last_message_is_followed_by_the_end(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	int fd = end_open(&end, &rig);

	pattern_put(conn_output(&end.conn), LARGE);
	conn_finish(&end.conn, 60 * USEC_PER_SEC);
	UNTIL(&rig, !peer_read(fd, &heard));
	assert_int_equal(buf_len(&heard), LARGE);
	assert_true(pattern_is_at(&heard));
	/* A peer that does not hang up is not waited for for ever. */
	net_sweep(&rig.net, end.conn.deadline - 1);
	rig_turn(&rig);
	assert_int_equal(end.nfreed, 0);
	net_sweep(&rig.net, end.conn.deadline);
	UNTIL(&rig, end.nfreed);
	close(fd);
	buf_fini(&heard);
}

static void test_last_words_are_read_after_a_failed_write(void **state)
{
	struct end end;
	int fd = end_open(&end, &rig);

	end.stays_open = true;
	say(fd, "FATAL");
	close(fd);
	conn_send(&end.conn, "query", 5);
	net_flush(&rig.net);
	assert_true(end.conn.write_failed);
	assert_int_equal(conn_unsent(&end.conn), 0);
	UNTIL(&rig, end.nended);
	assert_true(slice_is_equal(buf_peek(&end.got), SLICE("FATAL")));
	end_close(&end, &rig);
}

static struct end *told;

static void tell_of_the_end(struct conn *c)
{
	conn_send(&told->conn, "it is gone", 10);
}

static void test_freed_may_send_to_another(void **state)
{
	static const struct conn_events events = { .freed = tell_of_the_end };
	struct end end;
	struct buf heard = { 0 };
	struct conn gone;
	int fd = end_open(&end, &rig);

	told = &end;
	conn_prepare(&gone, &rig.net, &events);
	conn_close_soon(&gone);
	UNTIL(&rig, has_said(fd, &heard, "it is gone"));
	close(fd);
	UNTIL(&rig, end.nfreed);
	buf_fini(&heard);
}

static void take_two(struct end *end)
{
	buf_put(&end->got, conn_input(&end->conn).p, 2);
	conn_consume(&end->conn, 2);
	if (conn_input(&end->conn).n)
		conn_kick(&end->conn);
}

static void test_kick_hands_over_what_was_left(void **state)
{
	struct end end;
	int fd = end_open(&end, &rig);

	end.on_readable = take_two;
	say(fd, "aabbcc");
	UNTIL(&rig, buf_len(&end.got) == 6);
	assert_int_equal(end.nreadable, 3);
	assert_null(end.conn.in);
	end.on_readable = NULL;
	conn_pause(&end.conn);
	say(fd, "dd");
	rig_turn(&rig);
	assert_int_equal(buf_len(&end.got), 6);
	conn_resume(&end.conn);
	UNTIL(&rig, buf_len(&end.got) == 8);
	close(fd);
	UNTIL(&rig, end.nfreed);
}

/* ---- from thread to thread ------------------------------------------------------------------ */

struct move {
	struct mail mail;
	struct end *end;
};

static struct home {
	struct rig rig;
	struct mailbox box;
	pthread_t thread;
	unsigned stop_after; /* connections that have been freed */
} home;

static void on_home_freed(struct conn *c)
{
	end_events.freed(c);
	if (--home.stop_after == 0)
		loop_stop(home.rig.loop);
}

static void arrive(struct mail *mail, void *receiver)
{
	static struct conn_events events;
	struct move *move = container_of(mail, struct move, mail);
	struct home *h = receiver;

	events = end_events;
	events.freed = on_home_freed;
	move->end->on_readable = echo;
	move->end->conn.on = &events;
	conn_adopt(&move->end->conn, &h->rig.net);
	free(move);
}

static void move_home(struct end *end)
{
	struct move *move = xnew(struct move);

	conn_consume(&end->conn, 2);
	move->end = end;
	conn_release(&end->conn);
	mailbox_post(&home.box, &move->mail, arrive);
}

/* Longer than what is joined in the shared buffer: the last of it comes in the connection's own. */
#define LONG_INPUT 150000

static void move_home_when_long(struct end *end)
{
	if (conn_input(&end->conn).n == LONG_INPUT)
		move_home(end);
}

static void *home_main(void *arg)
{
	loop_run(home.rig.loop);
	return NULL;
}

static void home_start(unsigned nends)
{
	rig_init(&home.rig);
	mailbox_init(&home.box, home.rig.loop, &home);
	home.stop_after = nends;
	assert_int_equal(pthread_create(&home.thread, NULL, home_main, NULL), 0);
}

static void home_stop(void)
{
	pthread_join(home.thread, NULL);
	mailbox_fini(&home.box);
	rig_fini(&home.rig);
}

static void test_connection_moves_with_its_unread_bytes(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	int fd = end_open(&end, &rig);

	home_start(1);
	end.on_readable = move_home;
	say(fd, "->unread");
	UNTIL(&rig, has_said(fd, &heard, "unread"));
	say(fd, " and new");
	UNTIL(&rig, has_said(fd, &heard, "unread and new"));
	close(fd);
	home_stop();
	assert_int_equal(end.nfreed, 1);
	buf_fini(&heard);
}

static void test_connection_moves_with_more_than_is_received_at_once(void **state)
{
	struct end end;
	struct buf heard = { 0 };
	struct buf text = { 0 };
	int fd = end_open(&end, &rig);

	home_start(1);
	end.on_readable = move_home_when_long;
	pattern_put(&text, LONG_INPUT);
	assert_int_equal(write(fd, buf_head(&text), LONG_INPUT), LONG_INPUT);
	UNTIL(&rig, (peer_read(fd, &heard), buf_len(&heard) >= LONG_INPUT - 2));
	assert_int_equal(buf_len(&heard), LONG_INPUT - 2);
	assert_memory_equal(buf_head(&heard), buf_head(&text) + 2, LONG_INPUT - 2);
	close(fd);
	home_stop();
	buf_fini(&heard);
	buf_fini(&text);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_echo_keeps_no_buffer),
		TEST(test_what_the_handler_left_comes_again),
		TEST(test_what_was_read_is_read_again),
		TEST(test_what_came_ahead_is_received_at_once),
		TEST(test_what_was_not_sent_yet_is_taken_back),
		TEST(test_partial_writes_arrive_in_order),
		TEST(test_i6_slow_reader_pauses_the_writer),
		TEST(test_bytes_borrowed_of_two_connections),
		TEST(test_last_message_arrives_although_the_peer_had_more),
		TEST(test_large_last_message_is_followed_by_the_end),
		TEST(test_last_words_are_read_after_a_failed_write),
		TEST(test_freed_may_send_to_another),
		TEST(test_kick_hands_over_what_was_left),
		TEST(test_connection_moves_with_its_unread_bytes),
		TEST(test_connection_moves_with_more_than_is_received_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
