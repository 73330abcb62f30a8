/* SPDX-License-Identifier: ISC
 *
 * http.h - metrics and health over HTTP, on a thread of its own.
 *
 * That thread speaks HTTP and nothing else.  What a page shows is gathered by the control thread,
 * as the console's tables are; the thread and it share a list of requests under a lock that no
 * worker ever takes.
 *
 * Control thread, except http_open() and http_free(): main.
 */
#ifndef PGT_HTTP_HTTP_H
#define PGT_HTTP_HTTP_H

#include "base/err.h"
#include "config/settings.h"

struct control;
struct http;

/* Listens where http_listen says; given: a socket that does already, or -1.  *http is NULL when it
 * says nowhere; false: *e. */
bool http_open(struct http **http, const struct settings *set, int given, struct err *e);
/* NULL is allowed. */
void http_free(struct http *http);

/* Serves until http_stop(), for whoever started the control thread with it. */
void http_start(struct control *c);
/* No gathering may be under way. */
void http_stop(struct control *c);

/* The socket that it listens on and what http_listen calls that; -1: none. */
int http_socket(const struct http *http, const char **name);
/* Another process listens on that now: takes no more connections. */
void http_rest(struct control *c);

/* docs/metrics.md. */
void metrics_describe_markdown(struct buf *out);

#endif
