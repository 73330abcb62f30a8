/* SPDX-License-Identifier: ISC
 *
 * main.c - from the command line to a running control thread, in the order that matters: who we
 * are, what we hold, where we run.
 *
 * Does not know what a setting means to clients or servers.
 */
#include "admin/console.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "doctor/doctor.h"
#include "doctor/findings.h"
#include "http/http.h"
#include "main/activation.h"
#include "main/options.h"
#include "main/process.h"
#include "worker/control.h"
#include "worker/offer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Files that are open besides clients and servers: listeners, logs, loops, the monitor. */
#define OTHER_FILES 128

static void tell(enum control_state state)
{
	static const char *const words[] = { [CONTROL_IS_READY] = "READY=1",
					     [CONTROL_RELOADS] = "RELOADING=1",
					     [CONTROL_STOPS] = "STOPPING=1" };

	process_tell(words[state]);
}

static void hand_on(struct pidfile *pidfile, pid_t pid)
{
	char word[sizeof("MAINPID=") + 16];

	if (pid == getpid())
		pidfile_write(pidfile);
	else
		pidfile->is_lent = true;
	snprintf(word, sizeof(word), "MAINPID=%d", (int)pid);
	process_tell(word);
}

static const struct control_hooks hooks = { .console_start = console_start,
					    .console_stop = console_stop,
					    .console_enter = console_enter,
					    .console_pause = console_pause,
					    .console_resume = console_resume,
					    .http_start = http_start,
					    .http_stop = http_stop,
					    .http_socket = http_socket,
					    .http_rest = http_rest,
					    .tell = tell,
					    .hand_on = hand_on };

static const struct {
	const char *name;
	void (*describe)(struct buf *out);
} pages[] = {
	{"settings", config_describe_settings_markdown},
	{ "ini",     config_describe_settings_ini     },
	{ "admin",   console_describe_markdown        },
	{ "doctor",  findings_describe_markdown       },
	{ "metrics", metrics_describe_markdown        },
};

static int describe(const char *what)
{
	for (size_t i = 0; i < PGT_NELEMS(pages); i++) {
		struct buf page = { 0 };

		if (strcmp(pages[i].name, what))
			continue;
		pages[i].describe(&page);
		fwrite(buf_head(&page), 1, buf_len(&page), stdout);
		buf_fini(&page);
		return EXIT_SUCCESS;
	}
	fprintf(
	    stderr,
	    "pgturnstile: --describe knows settings, ini, admin, doctor and metrics, not \"%s\"\n",
	    what);
	return EXIT_FAILURE;
}

static int fail(const struct err *e)
{
	fprintf(stderr, "pgturnstile: %s\n", e->text);
	return EXIT_FAILURE;
}

static void put_lines(const struct buf *lines)
{
	fwrite(buf_peek(lines).p, 1, buf_len(lines), stderr);
}

/* All that is wrong is said at once.  What is only worth a note goes to stderr when this is all,
 * and else where the log goes, in *notes until that is open. */
static struct config *read_config(const struct options *o, struct buf *notes)
{
	struct config_problems problems = { 0 };
	struct config *config = setup_read(&o->source, NULL, &problems);

	if (o->mode != MODE_RUN || !config)
		put_lines(&problems.notes);
	else
		buf_put_slice(notes, buf_peek(&problems.notes));
	put_lines(&problems.errors);
	config_problems_fini(&problems);
	return config;
}

static bool prepare_user(const struct options *o, const struct settings *set, struct err *e)
{
	if (o->daemon && !*set->logfile && !set->syslog)
		return err_set(e, "F0000", "-d needs a place to log to: set logfile or syslog");
	return process_become(*o->user ? o->user : set->user, e);
}

/* Sockets that listen already. */
struct given {
	struct activation *activation;
	struct offer *offer;
};

static int given_listener(void *arg, const char *name, bool *is_supervised)
{
	struct given *given = arg;
	int fd = activation_take(given->activation, name);
	int offered = offer_take_listener(given->offer, name, is_supervised);

	if (fd < 0)
		return offered;
	if (offered >= 0)
		close(offered);
	*is_supervised = true;
	return fd;
}

/* Whoever comes to one that nobody takes from would wait for ever. */
static bool are_all_used(const struct given *given, struct err *e)
{
	return activation_is_used_up(given->activation, e) &&
	       offer_is_supervised_used_up(given->offer, e);
}

static int given_http(struct offer *offer, const struct settings *set)
{
	return *set->http_listen ? offer_take(offer, OFFER_HTTP, set->http_listen) : -1;
}

static bool open_listeners(struct listeners *listeners, const struct settings *set,
			   struct given *given, struct err *e)
{
	struct listen_options options = { .addrs = set->listen_addr,
					  .port = set->listen_port,
					  .backlog = set->listen_backlog,
					  .reuseport = set->so_reuseport,
					  .defer_accept_s = set->tcp_defer_accept,
					  .unix_dir = set->unix_socket_dir,
					  .unix_mode = (mode_t)set->unix_socket_mode,
					  .unix_group = set->unix_socket_group,
					  .given = given_listener,
					  .given_arg = given };

	return listeners_open(listeners, &options, e) && are_all_used(given, e) &&
	       (listeners->n > 0 || err_set(e, "F0000",
					    "nothing to listen on: set listen_addr or "
					    "unix_socket_dir"));
}

/* The last question, since what it is answered cannot be taken back. */
static bool may_serve(const struct options *o, struct offer *offer, struct err *e)
{
	if (offer_confirm(offer, e))
		return true;
	if (o->daemon)
		log_error("%s", e->text);
	return false;
}

static void prepare_limits(const struct config *config)
{
	const struct settings *set = &config->global;
	size_t databases = config->ndatabases ? config->ndatabases : 1;

	/* Strangers are twice as many at most, and as many are being turned away. */
	process_raise_file_limit(OTHER_FILES + set->max_client_conn + 3 * strangers_max(set) +
				 databases * set->default_pool_size);
#ifdef PGT_DEBUG
	log_warning("a build for debuggers: memory, and what is secret in it, can be dumped");
#endif
	if (*FAILPOINTS_NOTE)
		log_warning("this is %s", PACKAGE_STRING FAILPOINTS_NOTE);
	if (geteuid() == 0)
		log_warning("running as root: set `user`, so that a fault here is not root's");
}

/* Takes the setup. */
static int serve(const struct options *o, struct control_options *control, struct setup *setup,
		 struct activation *activation)
{
	const struct settings *set = &setup->config->global;
	struct offer offer = { .link = -1 };
	struct given given = { .activation = activation, .offer = &offer };
	struct listeners listeners = { 0 };
	struct pidfile pidfile = { .fd = -1 };
	/* The control thread lets go of the settings. */
	char *path = xstrdup(set->pidfile);
	bool ok;
	struct err e;

	/* From the first file that has to be removed on, a signal waits for who handles it. */
	process_hold_signals();
	ok = (!o->takes_over || offer_ask(&offer, set, &e)) &&
	     pidfile_take(&pidfile, path, offer_take(&offer, OFFER_PIDFILE, path), &e) &&
	     http_open(&control->http, set, given_http(&offer, set), &e) &&
	     open_listeners(&listeners, set, &given, &e) && (!o->daemon || process_daemonise(&e)) &&
	     may_serve(o, &offer, &e);
	if (ok) {
		if (!pidfile.is_lent)
			pidfile_write(&pidfile);
		prepare_limits(setup->config);
		control->pidfile = &pidfile;
		control->pidfile_path = path;
		control->pidfile_lock = pidfile.fd;
		control->offer = &offer;
		control_run(control, setup, &listeners);
	} else {
		listeners_close(&listeners);
	}
	offer_drop_rest(&offer);
	http_free(control->http);
	setup_unref(setup);
	pidfile_remove(&pidfile);
	free(path);
	return ok ? EXIT_SUCCESS : fail(&e);
}

static int run(const struct options *o, struct buf *notes)
{
	struct control_options control = { .source = o->source,
					   .verbosity = o->verbosity,
					   .log_to_stderr = !o->quiet && !o->daemon,
					   .hooks = &hooks };
	struct activation activation = { 0 };
	struct config *config;
	struct setup setup;
	struct err e;

	if (o->mode == MODE_RUN && !activation_begin(&activation, &e))
		return fail(&e);
	config = read_config(o, notes);
	if (!config)
		return EXIT_FAILURE;
	process_ignore_signals();
	/* Before files are opened: what a start can read, a reload must be able to read too. */
	if ((o->mode == MODE_RUN && !prepare_user(o, &config->global, &e)) ||
	    !setup_make(&setup, config, &e)) {
		config_unref(config);
		return fail(&e);
	}
	if (o->mode == MODE_CHECK) {
		setup_unref(&setup);
		printf("%s: OK\n", o->source.path ? o->source.path : "--upstream");
		return EXIT_SUCCESS;
	}
	if (!control_open_log(&control, setup.config, &e)) {
		setup_unref(&setup);
		return fail(&e);
	}
	log_text(LOG_LEVEL_WARNING, buf_head(notes), buf_len(notes));
	return serve(o, &control, &setup, &activation);
}

static int examine(const struct options *o)
{
	struct buf notes = { 0 };
	struct config *config = read_config(o, &notes);
	int code = config ? doctor_run(config, o->as_json) : 2;

	config_unref(config);
	return code;
}

static int act(const struct options *options)
{
	struct buf notes = { 0 };
	int code;

	switch (options->mode) {
	case MODE_HELP:
		options_put_usage(true);
		return EXIT_SUCCESS;
	case MODE_VERSION:
		puts(PACKAGE_STRING FAILPOINTS_NOTE);
		return EXIT_SUCCESS;
	case MODE_DESCRIBE:
		return describe(options->describe);
	case MODE_DOCTOR:
		return examine(options);
	default:
		code = run(options, &notes);
		buf_fini(&notes);
		return code;
	}
}

int main(int argc, char **argv)
{
	struct options options;
	int code;

	hash_init();
	mem_reserve_begin();
	if (!failpoints_begin())
		return EXIT_FAILURE;
	/* Before anything secret is read: the command line may have some, and files do. */
	process_hide_memory();
	if (options_parse(&options, argc, argv))
		code = act(&options);
	else
		code = options.mode == MODE_DOCTOR ? 2 : EXIT_FAILURE;
	options_fini(&options);
	process_show_memory();
	return code;
}
