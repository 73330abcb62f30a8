/* SPDX-License-Identifier: ISC
 *
 * test_listen.c - opening sockets, taking clients from them, and connecting to them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_rig.h"

#include "base/log.h"
#include "net/listen.h"
#include "net/sockopt.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct rig rig;
static struct acceptor acceptor;
static struct listeners listeners;
static char dir[] = "/tmp/test_listen.XXXXXX";

static struct end accepted[32];
static struct addr peers[32];
static unsigned naccepted;

static int setup(void **state)
{
	log_threshold = LOG_LEVEL_FATAL;
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	rig_init(&rig);
	naccepted = 0;
	return 0;
}

static int teardown(void **state)
{
	listeners_close(&listeners);
	rig_fini(&rig);
	return rmdir(dir);
}

static void on_accepted(void *arg, int fd, const struct addr *peer)
{
	peers[naccepted] = *peer;
	accepted[naccepted] = (struct end){ 0 };
	conn_open(&accepted[naccepted++].conn, &rig.net, fd, &end_events);
}

/* Only a Unix socket; its number is no port, so tests do not meet. */
static struct listen_options unix_options(void)
{
	return (struct listen_options){
		.addrs = "",
		.port = 6432,
		.backlog = 64,
		.unix_dir = dir,
		.unix_mode = 0700,
		.unix_group = "",
	};
}

static void open_all(const struct listen_options *o)
{
	struct err e = { 0 };

	if (!listeners_open(&listeners, o, &e))
		fail_msg("%s", e.text);
}

static void refuse(const struct listen_options *o, const char *what, const char *why)
{
	struct listeners other;
	struct err e = { 0 };

	assert_false(listeners_open(&other, o, &e));
	assert_int_equal(other.n, 0);
	if (!strstr(e.text, what) || !strstr(e.text, why))
		fail_msg("\"%s\" does not name %s and %s", e.text, what, why);
}

static void watch(void)
{
	listener_watch(&acceptor, &rig.net, listeners.at[0].fd, on_accepted, NULL);
}

static void connect_to(struct end *end, int listening_fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct err e = { 0 };

	getsockname(listening_fd, (struct sockaddr *)&ss, &len);
	*end = (struct end){ 0 };
	conn_prepare(&end->conn, &rig.net, &end_events);
	if (!conn_connect(&end->conn, (struct sockaddr *)&ss, len, &e))
		fail_msg("%s", e.text);
}

static void close_all(struct end *client)
{
	end_close(client, &rig);
	for (unsigned i = 0; i < naccepted; i++)
		UNTIL(&rig, accepted[i].nfreed);
	listener_unwatch(&acceptor);
}

static void test_unix_socket(void **state)
{
	struct listen_options o = unix_options();
	struct end client;
	struct stat st;
	uid_t uid = (uid_t)-1;

	open_all(&o);
	assert_int_equal(listeners.n, 1);
	assert_int_equal(stat(listeners.at[0].name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	watch();
	connect_to(&client, listeners.at[0].fd);
	UNTIL(&rig, naccepted && client.nready);
	assert_int_equal(peers[0].family, AF_UNIX);
	assert_true(sock_peer_uid(accepted[0].conn.fd, &uid));
	assert_int_equal(uid, getuid());
	close_all(&client);
}

static void test_what_is_sent_while_connecting_arrives(void **state)
{
	struct listen_options o = unix_options();
	char hello[] = "hello";
	struct end client;

	open_all(&o);
	watch();
	connect_to(&client, listeners.at[0].fd);
	conn_send(&client.conn, hello, 5);
	net_flush(&rig.net);
	memset(hello, 'x', sizeof(hello));
	UNTIL(&rig, naccepted && buf_len(&accepted[0].got) == 5);
	assert_memory_equal(buf_head(&accepted[0].got), "hello", 5);
	close_all(&client);
}

static void test_socket_in_use_is_left_alone_and_a_stale_one_replaced(void **state)
{
	struct listen_options o = unix_options();
	char path[sizeof(listeners.at[0].name)];
	int fd;

	open_all(&o);
	snprintf(path, sizeof(path), "%s", listeners.at[0].name);
	refuse(&o, path, "another process");
	assert_int_equal(access(path, F_OK), 0);
	/* As if the process had died. */
	listeners.at[0].has_file = false;
	listeners_close(&listeners);
	assert_int_equal(access(path, F_OK), 0);
	open_all(&o);
	listeners_close(&listeners);
	assert_int_equal(access(path, F_OK), -1);
	/* What is no socket is not ours to remove. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	refuse(&o, path, "File exists");
	assert_int_equal(unlink(path), 0);
}

static void test_errors_name_the_address(void **state)
{
	struct listen_options o = unix_options();

	o.unix_group = "no such group";
	refuse(&o, "no such group", "unix_socket_group");
	o.unix_group = "";
	o.unix_dir = "/nowhere";
	refuse(&o, "/nowhere/.s.PGSQL.6432", "No such file");
	o.unix_dir = "";
	o.addrs = "nobody.invalid";
	refuse(&o, "nobody.invalid", "listen_addr");
	/* TEST-NET-1: no machine has it. */
	o.addrs = "192.0.2.1";
	refuse(&o, "192.0.2.1:6432", "Cannot assign");
}

static void test_tcp_and_its_options(void **state)
{
	const struct sock_options options = { .keepalive = true,
					      .keep_idle_s = 33,
					      .user_timeout_ms = 4000 };
	const struct sock_options wrong = { .keepalive = true, .keep_count = 100000 };
	struct listen_options o = unix_options();
	struct end client;
	struct err e = { 0 };
	socklen_t len = sizeof(int);
	uid_t uid;
	int value;
	int fd;

	o.addrs = "127.0.0.1, ";
	o.port = 0;
	o.unix_dir = "";
	open_all(&o);
	assert_int_equal(listeners.n, 1);
	watch();
	connect_to(&client, listeners.at[0].fd);
	UNTIL(&rig, naccepted && client.nready);
	fd = accepted[0].conn.fd;
	assert_int_equal(peers[0].family, AF_INET);
	assert_memory_equal(peers[0].ip, "\177\0\0\1", 4);
	assert_false(sock_peer_uid(fd, &uid));
	assert_true(sock_apply(fd, AF_INET, &options, &e));
	getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &len);
	assert_int_equal(value, 33);
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len);
	assert_int_not_equal(value, 0);
	assert_false(sock_apply(fd, AF_INET, &wrong, &e));
	assert_non_null(strstr(e.text, "tcp_keepcnt"));
	close_all(&client);
}

static void test_only_ports_are_closed_and_who_waits_there_is_taken(void **state)
{
	struct listen_options o = unix_options();
	struct end client;

	o.addrs = "127.0.0.1";
	o.port = 0;
	open_all(&o);
	assert_int_equal(listeners.n, 2);
	assert_false(listener_is_unix(&listeners.at[0]));
	assert_true(listener_is_unix(&listeners.at[1]));
	connect_to(&client, listeners.at[0].fd);
	UNTIL(&rig, client.nready);
	listeners_close_tcp(&listeners, on_accepted, NULL);
	assert_int_equal(naccepted, 1);
	assert_int_equal(peers[0].family, AF_INET);
	assert_int_equal(listeners.at[0].fd, -1);
	assert_true(listeners.at[1].fd >= 0);
	end_close(&client, &rig);
	UNTIL(&rig, accepted[0].nfreed);
}

static int given_fd(void *arg, const char *name, bool *is_supervised)
{
	*is_supervised = true;
	return strcmp(name, listeners.at[0].name) ? -1 : dup(*(int *)arg);
}

static void test_a_supervisor_s_socket_keeps_its_file_and_its_rights(void **state)
{
	struct listen_options o = unix_options();
	struct listeners again;
	struct stat st;
	struct err e;

	open_all(&o);
	o.unix_mode = 0777;
	o.given = given_fd;
	o.given_arg = &listeners.at[0].fd;
	assert_true(listeners_open(&again, &o, &e));
	assert_int_equal(stat(listeners.at[0].name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	listeners_lend(&again, false);
	listeners_close(&again);
	assert_int_equal(access(listeners.at[0].name, F_OK), 0);
}

static void test_port_in_use(void **state)
{
	struct listen_options o = unix_options();
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	o.addrs = "127.0.0.1";
	o.port = 0;
	o.unix_dir = "";
	open_all(&o);
	getsockname(listeners.at[0].fd, (struct sockaddr *)&in, &len);
	o.port = ntohs(in.sin_port);
	refuse(&o, "127.0.0.1:", "in use");
}

static void test_out_of_descriptors(void **state)
{
	struct listen_options o = unix_options();
	struct rlimit before;
	struct rlimit tight;
	struct end client;

	open_all(&o);
	watch();
	connect_to(&client, listeners.at[0].fd);
	getrlimit(RLIMIT_NOFILE, &before);
	tight = (struct rlimit){ (rlim_t)client.conn.fd + 1, before.rlim_max };
	setrlimit(RLIMIT_NOFILE, &tight);
	UNTIL(&rig, acceptor.resting);
	assert_int_equal(loop_io_wanted(&acceptor.io), 0);
	setrlimit(RLIMIT_NOFILE, &before);
	UNTIL(&rig, naccepted == 1);
	assert_false(acceptor.resting);
	close_all(&client);
}

static void test_many_clients_at_once(void **state)
{
	struct listen_options o = unix_options();
	struct end clients[20];

	open_all(&o);
	for (unsigned i = 0; i < PGT_NELEMS(clients); i++)
		connect_to(&clients[i], listeners.at[0].fd);
	watch();
	UNTIL(&rig, naccepted == PGT_NELEMS(clients));
	for (unsigned i = 1; i < PGT_NELEMS(clients); i++)
		end_close(&clients[i], &rig);
	close_all(&clients[0]);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_unix_socket),
		TEST(test_what_is_sent_while_connecting_arrives),
		TEST(test_socket_in_use_is_left_alone_and_a_stale_one_replaced),
		TEST(test_errors_name_the_address),
		TEST(test_tcp_and_its_options),
		TEST(test_only_ports_are_closed_and_who_waits_there_is_taken),
		TEST(test_a_supervisor_s_socket_keeps_its_file_and_its_rights),
		TEST(test_port_in_use),
		TEST(test_out_of_descriptors),
		TEST(test_many_clients_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
