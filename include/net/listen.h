/* SPDX-License-Identifier: ISC
 *
 * listen.h - sockets that wait for clients, and taking the clients from them.
 *
 * The sockets are opened once, by the control thread, and shared: each thread watches them in its
 * own loop, and whoever comes first takes the client.
 */
#ifndef PGT_NET_LISTEN_H
#define PGT_NET_LISTEN_H

#include "base/err.h"
#include "net/conn.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define LISTENERS_MAX     64
#define LISTENER_NAME_MAX 128

/* Of the settings; strings are borrowed for the call, "" where not set. */
struct listen_options {
	const char *addrs; /* listen_addr: names and addresses between commas, "*" for all */
	uint16_t port;
	unsigned backlog;
	bool reuseport;
	unsigned defer_accept_s; /* 0: off */
	const char *unix_dir;    /* "@…": in the abstract namespace */
	mode_t unix_mode;
	const char *unix_group; /* name or number */
	/* A socket of this name that listens already, now the listener's, or -1; NULL: there are
	 * none. */
	int (*given)(void *arg, const char *name, bool *is_supervised);
	void *given_arg;
};

struct listener {
	int fd;                       /* -1: it has been closed */
	char name[LISTENER_NAME_MAX]; /* "127.0.0.1:6432", "[::1]:6432" or the path, for the log */
	bool has_file;                /* name is a path in the file system, ours to remove … */
	bool is_lent;                 /* … unless another process listens on the same socket */
	bool is_supervised; /* a supervisor has made it and keeps it: so are its file and rights */
};

/* Takes fd, which is non-blocking and closes on exec. */
typedef void accept_fn(void *arg, int fd, const struct addr *peer);

struct listeners {
	unsigned n;
	struct listener at[LISTENERS_MAX];
};

/* Opens what the options ask for; nothing is asked for: n is 0.  False: nothing is open, *e (F0000)
 * says which address and why.  A Unix socket that somebody answers on is left alone and is an
 * error; a stale one is replaced.  Resolves names, hence blocks. */
bool listeners_open(struct listeners *l, const struct listen_options *options, struct err *e);
/* Closes them and removes the Unix socket's file.  Nobody may be watching. */
void listeners_close(struct listeners *l);
/* Takes who waits at those of TCP, and closes them: nobody more comes by them.  Nobody may be
 * watching them.  Their places stay, so that other threads may look at names meanwhile. */
void listeners_close_tcp(struct listeners *l, accept_fn *fn, void *arg);
bool listener_is_unix(const struct listener *l);
/* Closes all of them and removes no file: they are another process's.  Nobody may be watching;
 * their places stay. */
void listeners_let_go(struct listeners *l);
/* Another process has them too, and they are its own; or it is gone. */
void listeners_lend(struct listeners *l, bool on);

/* What a listener at this address is called.  False: none can be there. */
bool listener_name(const struct sockaddr *sa, socklen_t len, char name[LISTENER_NAME_MAX]);

/* A thread's eye on one listening socket. */
struct acceptor {
	struct loop_io io;
	struct loop_timer rest;
	struct net *net;
	accept_fn *fn;
	void *arg;
	int fd;
	bool resting; /* out of descriptors, or the like: logged, tried again in a moment */
};

/* Takes clients from the socket in the thread of net; fn may open connections of net. */
void listener_watch(struct acceptor *a, struct net *net, int fd, accept_fn *fn, void *arg);
void listener_unwatch(struct acceptor *a);

#endif
