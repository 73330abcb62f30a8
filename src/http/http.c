/* SPDX-License-Identifier: ISC
 *
 * http.c - HTTP on a thread of its own.  The only file that includes microhttpd.h.
 *
 * That thread takes a request, suspends its connection and leaves it where the control thread finds
 * it; the answer resumes the connection.  Knows neither what is answered nor whom workers serve.
 */
#include "http/http.h"

#include "base/log.h"
#include "base/mem.h"
#include "http/parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef HAVE_MICROHTTPD
#include <microhttpd.h>

/* Scrapers and load balancers are few. */
#define CONNECTIONS_MAX  256
#define OF_ONE_ADDRESS   32 /* or a few that hold them all would hide us from health checks */
#define CONNECTION_BYTES 16384
#define IDLE_SECONDS     30

struct http {
	int fd;        /* -1: the daemon's, which has it until … */
	int listening; /* … it is quiesced: the same, or -1 */
	char *listen;  /* as the setting says */
	bool is_local;
	struct control *control;
	struct MHD_Daemon *daemon;
	struct history *history; /* of the control thread, which is the only one to look into it */
	pthread_mutex_t lock;    /* of what follows; the daemon's thread and the control thread */
	struct list asked;       /* by request.link: nobody has begun with them */
	struct mail mail;        /* to the control thread */
	bool is_mailed;          /* … and not delivered yet */
	bool is_over;
};

/* One request, with what HTTP needs to know of it. */
struct exchange {
	struct request request;
	struct http *http;
	struct MHD_Connection *connection;
	bool is_answered; /* under the lock */
};

/* ---- the control thread -----------------------------------------------------------------------
 */

static void on_answered(struct request *r)
{
	struct exchange *x = container_of(r, struct exchange, request);

	pthread_mutex_lock(&x->http->lock);
	x->is_answered = true;
	pthread_mutex_unlock(&x->http->lock);
	MHD_resume_connection(x->connection);
}

static void answer_over(struct request *r)
{
	r->status = MHD_HTTP_SERVICE_UNAVAILABLE;
	r->type = "text/plain; charset=utf-8";
	buf_printf(&r->body, "shutting down\n");
	on_answered(r);
}

static void deliver(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct http *http = container_of(mail, struct http, mail);
	struct list asked;
	bool is_over;

	list_init(&asked);
	pthread_mutex_lock(&http->lock);
	http->is_mailed = false;
	/* What would be gathered now would come when nobody is there any more. */
	is_over = http->is_over || http->control->shutdown == SHUTDOWN_NOW;
	list_splice_back(&asked, &http->asked);
	pthread_mutex_unlock(&http->lock);
	LIST_FOREACH_SAFE (at, &asked) {
		struct request *r = container_of(at, struct request, link);

		list_del(at);
		if (is_over)
			answer_over(r);
		else
			page_serve(http->control, r, on_answered);
	}
}

/* ---- the daemon's thread ----------------------------------------------------------------------
 */

/* For what is no page. */
#define NOTHING_RUNS "default-src 'none'; frame-ancestors 'none'"

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *type,
			       const char *policy, struct slice body)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
	    body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Content-Security-Policy", policy);
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	if (status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond_plainly(struct MHD_Connection *connection, unsigned status,
				       const char *text)
{
	return respond(connection, status, "text/plain; charset=utf-8", NOTHING_RUNS,
		       slice_str(text));
}

/* NULL: it was not sent. */
static const char *header_of(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* The connection waits; the control thread is told, unless it has been already. */
static enum MHD_Result hand_over(struct http *http, struct exchange *x)
{
	bool is_over, must_mail;

	pthread_mutex_lock(&http->lock);
	is_over = http->is_over;
	must_mail = !is_over && !http->is_mailed;
	if (!is_over) {
		MHD_suspend_connection(x->connection);
		list_push_back(&http->asked, &x->request.link);
		http->is_mailed = true;
	}
	pthread_mutex_unlock(&http->lock);
	if (must_mail)
		mailbox_post(&http->control->mailbox, &http->mail, deliver);
	return is_over
		   ? respond_plainly(x->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting down\n")
		   : MHD_YES;
}

static bool is_answered(struct exchange *x)
{
	bool is;

	pthread_mutex_lock(&x->http->lock);
	is = x->is_answered;
	pthread_mutex_unlock(&x->http->lock);
	return is;
}

/* Called when the head has come, again for a body and when all has come, and again when the
 * connection has been resumed. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version PGT_UNUSED,
				  const char *body PGT_UNUSED, size_t *body_len, void **memo)
{
	struct exchange *x = *memo;
	struct http *http = arg;

	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return respond_plainly(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
				       "GET and HEAD only\n");
	if (!x) {
		x = xnew(struct exchange);
		x->http = http;
		x->connection = connection;
		request_init(&x->request, url, header_of(connection, MHD_HTTP_HEADER_AUTHORIZATION),
			     header_of(connection, MHD_HTTP_HEADER_ACCEPT));
		x->request.history = http->history;
		*memo = x;
		return MHD_YES;
	}
	if (*body_len) { /* which a GET has no use for */
		*body_len = 0;
		return MHD_YES;
	}
	if (!x->request.page)
		return respond_plainly(connection, MHD_HTTP_NOT_FOUND, "there is no such page\n");
	if (!is_answered(x))
		return hand_over(http, x);
	return respond(connection, x->request.status, x->request.type,
		       buf_len(&x->request.policy) ? buf_cstr(&x->request.policy) : NOTHING_RUNS,
		       buf_peek(&x->request.body));
}

static void on_completed(void *arg PGT_UNUSED, struct MHD_Connection *connection PGT_UNUSED,
			 void **memo, enum MHD_RequestTerminationCode how PGT_UNUSED)
{
	struct exchange *x = *memo;

	if (!x)
		return;
	request_fini(&x->request);
	free(x);
	*memo = NULL;
}

static void PGT_PRINTF(2, 0) on_log(void *arg PGT_UNUSED, const char *format, va_list args)
{
	char text[256];
	int n = vsnprintf(text, sizeof(text), format, args);

	while (n > 0 && (n >= (int)sizeof(text) || text[n - 1] == '\n'))
		text[n >= (int)sizeof(text) ? (n = (int)sizeof(text) - 1) : --n] = '\0';
	log_info("http: %s", text);
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

void http_start(struct control *c)
{
	struct http *http = c->options.http;
	unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ERROR_LOG;

	if (!http)
		return;
	http->control = c;
	http->history = history_start(c);
	http->daemon = MHD_start_daemon(
	    flags, 0, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
	    MHD_OPTION_LISTEN_SOCKET, http->fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
	    MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)OF_ONE_ADDRESS,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
	if (!http->daemon) {
		log_error("http: cannot serve on %s", http->listen);
		history_stop(http->history);
		return;
	}
	http->listening = http->fd;
	http->fd = -1;
	log_info("http: serving metrics on %s", http->listen);
	if (!http->is_local && !c->config->has_http_token)
		log_warning("http: everybody who can connect to %s may read metrics, because there "
			    "is no http_token_file",
			    http->listen);
}

int http_socket(const struct http *http, const char **name)
{
	if (!http || http->listening < 0)
		return -1;
	*name = http->listen;
	return http->listening;
}

void http_rest(struct control *c)
{
	struct http *http = c->options.http;
	int deaf;

	if (!http || http->listening < 0)
		return;
	/* What it serves now it goes on with. */
	http->fd = MHD_quiesce_daemon(http->daemon);
	http->listening = -1;
	/* The daemon's thread may look at the number once more, so it becomes another socket's:
	 * what both processes have would stay open when the other one ends. */
	deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (deaf < 0 || dup3(deaf, http->fd, O_CLOEXEC) < 0)
		log_warning("http: the socket stays open: %s", strerror(errno));
	if (deaf >= 0)
		close(deaf);
}

void http_stop(struct control *c)
{
	struct http *http = c->options.http;

	if (!http || !http->daemon)
		return;
	pthread_mutex_lock(&http->lock);
	http->is_over = true;
	pthread_mutex_unlock(&http->lock);
	/* Those who wait are told; the mail, if it is still to come, finds nobody. */
	deliver(&http->mail, NULL);
	MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	history_stop(http->history);
}

static struct http *make(const char *listen, int fd, bool is_local)
{
	struct http *http = xnew(struct http);

	http->fd = fd;
	http->listening = -1;
	http->listen = xstrdup(listen);
	http->is_local = is_local;
	pthread_mutex_init(&http->lock, NULL);
	list_init(&http->asked);
	return http;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	if (http->fd >= 0)
		close(http->fd);
	pthread_mutex_destroy(&http->lock);
	free(http->listen);
	free(http);
}

#else

void http_start(struct control *c PGT_UNUSED)
{
}

void http_stop(struct control *c PGT_UNUSED)
{
}

int http_socket(const struct http *http PGT_UNUSED, const char **name PGT_UNUSED)
{
	return -1;
}

void http_rest(struct control *c PGT_UNUSED)
{
}

static struct http *make(const char *listen, int fd, bool is_local PGT_UNUSED)
{
	log_warning("http: not served on %s: this program was built without libmicrohttpd", listen);
	close(fd);
	return NULL;
}

void http_free(struct http *http PGT_UNUSED)
{
}

#endif

/* ---- the socket -------------------------------------------------------------------------------
 */

/* "9632", "10.0.0.5:9632", "[::1]:9632".  A reference to the addresses, or NULL: *e. */
static struct addrinfo *resolve(const char *listen, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
	const char *colon = strrchr(listen, ':');
	const char *port = colon ? colon + 1 : listen;
	size_t n = colon ? (size_t)(colon - listen) : 0;
	bool in_brackets = n >= 2 && listen[0] == '[' && listen[n - 1] == ']';
	char *host = in_brackets ? xmemdup0(listen + 1, n - 2) : xmemdup0(listen, n);
	struct addrinfo *found = NULL;
	const char *name = !colon ? "127.0.0.1" : !strcmp(host, "*") ? "0.0.0.0" : host;
	int code = getaddrinfo(name, port, &hints, &found);

	free(host);
	if (code)
		err_set(e, "F0000", "http_listen \"%s\": %s; write a port, or address:port", listen,
			gai_strerror(code));
	return code ? NULL : found;
}

static bool is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr) >>
			   24 ==
		       127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
}

/* -1: *e. */
static int open_socket(const struct addrinfo *at, const char *name, struct err *e)
{
	const int on = 1;
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd >= 0 && bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	err_set(e, "F0000", "http_listen \"%s\": %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

bool http_open(struct http **http, const struct settings *set, int given, struct err *e)
{
	struct addrinfo *at;
	bool is_local;
	int fd;

	*http = NULL;
	if (!*set->http_listen)
		return true;
	at = resolve(set->http_listen, e);
	if (!at)
		return false;
	is_local = is_loopback(at->ai_addr);
	fd = given >= 0 ? given : open_socket(at, set->http_listen, e);
	freeaddrinfo(at);
	if (fd < 0)
		return false;
	*http = make(set->http_listen, fd, is_local);
	return true;
}
