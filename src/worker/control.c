/* SPDX-License-Identifier: ISC
 *
 * control.c - the control thread: configuration, signals, gathering, the end.
 *
 * Decides for all workers and tells them by mail.  Knows what the console is called with, not what
 * it says.
 */
#include "worker/control.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/login.h"
#include "net/resolve.h"
#include "net/tls.h"
#include "stats/event.h"
#include "worker/jury.h"
#include "worker/monitor.h"
#include "worker/notifier.h"
#include "worker/offer.h"
#include "worker/peers.h"
#include "worker/secret_mail.h"
#include "worker/secret_source.h"
#include "worker/sets.h"
#include "worker/takeover.h"
#include "worker/tenant_source.h"
#include "worker/voyages.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define SWEEP_PERIOD (100 * USEC_PER_MSEC)
/* How often a shutdown looks whether the last client or transaction is gone. */
#define QUIET_PERIOD (100 * USEC_PER_MSEC)
/* What those are cut off with who are still there at shutdown_timeout has so long to go out: errors
 * to clients, cancel requests to servers. */
#define PARTING_TIME (500 * USEC_PER_MSEC)

#define EVENTS_MAX   100000

static const struct log_about no_one;

/* ---- gathering --------------------------------------------------------------------------------
 */

struct gather;

/* Goes to a worker and comes back. */
struct round_trip {
	struct mail mail;
	struct gather *gather;
	unsigned index;
};

struct gather {
	struct control *control;
	gather_visit_fn *visit;
	gather_done_fn *done;
	void *arg;
	void **slots;
	struct round_trip *trips;
	unsigned nout;
};

static void end_if_told(struct control *c)
{
	if (c->shutdown == SHUTDOWN_NOW && c->ngathers == 0)
		loop_stop(c->loop);
}

static void gather_finish(struct gather *g)
{
	struct control *c = g->control;

	c->ngathers--;
	g->done(c, g->slots, c->nworkers, g->arg);
	for (unsigned i = 0; i < c->nworkers; i++)
		free(g->slots[i]);
	free(g->slots);
	free(g->trips);
	free(g);
	net_flush(&c->net);
	end_if_told(c);
}

static void deliver_back(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct gather *g = container_of(mail, struct round_trip, mail)->gather;

	if (--g->nout == 0)
		gather_finish(g);
}

static void deliver_visit(struct mail *mail, void *receiver)
{
	struct round_trip *trip = container_of(mail, struct round_trip, mail);
	struct gather *g = trip->gather;
	struct worker *w = receiver;

	g->visit(w, g->slots[trip->index], g->arg);
	net_flush(&w->net);
	mailbox_post(&g->control->mailbox, &trip->mail, deliver_back);
}

void control_gather(struct control *c, size_t slot_size, gather_visit_fn *visit,
		    gather_done_fn *done, void *arg)
{
	struct gather *g = xnew(struct gather);

	*g = (struct gather){ .control = c, .visit = visit, .done = done, .arg = arg };
	g->slots = xcalloc(c->nworkers, sizeof(*g->slots));
	g->trips = xcalloc(c->nworkers, sizeof(*g->trips));
	g->nout = c->nworkers;
	c->ngathers++;
	for (unsigned i = 0; i < c->nworkers; i++) {
		g->slots[i] = xcalloc(1, slot_size);
		g->trips[i] = (struct round_trip){ .gather = g, .index = i };
		worker_post(&c->workers[i], &g->trips[i].mail, deliver_visit);
	}
}

/* ---- configuration ----------------------------------------------------------------------------
 */

/* Goes to a worker and brings back what that had: to let go of a hundred thousand tenants takes a
 * while, and no client waits for this thread. */
struct setup_mail {
	struct mail mail;
	struct setup setup;
};

static void deliver_old_setup(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct setup_mail *m = container_of(mail, struct setup_mail, mail);

	setup_unref(&m->setup);
	free(m);
}

static void deliver_setup(struct mail *mail, void *receiver)
{
	struct setup_mail *m = container_of(mail, struct setup_mail, mail);
	struct worker *w = receiver;

	m->setup = worker_reconfigure(w, m->setup);
	mailbox_post(&w->control->mailbox, mail, deliver_old_setup);
}

static void use_setup(struct control *c, struct setup setup)
{
	unsigned kept = setup.config->global.events_kept;

	events_keep(kept < EVENTS_MAX ? kept : EVENTS_MAX);
	setup.config->edition = ++c->editions;
	c->setup = setup;
	c->config = setup.config;
	c->host.config = setup.config;
	c->host.tls = setup.client_tls;
}

static void post_setup(struct control *c)
{
	for (unsigned i = 0; i < c->nworkers; i++) {
		struct setup_mail *m = xnew(struct setup_mail);

		m->setup = setup_ref(&c->setup);
		worker_post(&c->workers[i], &m->mail, deliver_setup);
	}
}

/* Those who talk to databases begin anew. */
static void configure_watchers(struct control *c)
{
	tenant_source_stop(c->tenant_source);
	notifier_stop(c->notifier);
	monitor_configure(c->monitor, c->config, c->setup.server_tls);
	tenant_source_configure(c->tenant_source, c->config);
	secret_source_configure(c->secret_source, c->config, c->setup.server_tls);
	notifier_configure(c->notifier, c->config);
	peers_configure(c->peers, c->config, c->setup.server_tls);
}

static void note_certificate(const struct tls_context *old, const struct tls_context *new,
			     const char *whom)
{
	if (old && new && !tls_context_has_same_certificate(old, new))
		event_say(EVENT_certificate, &no_one, "another certificate is shown to %s", whom);
}

static void watch_deadline(struct control *c);

static void publish(struct control *c, struct setup setup)
{
	struct setup old = c->setup;

	note_certificate(old.client_tls, setup.client_tls, "clients");
	note_certificate(old.server_tls, setup.server_tls, "servers");
	tenants_rescale(old.config, setup.config, loop_now(c->loop));
	use_setup(c, setup);
	scram_cache_clear(c->host.scram_cache);
	resolver_set_ttls(c->resolver, setup.config->global.dns_max_ttl,
			  setup.config->global.dns_nxdomain_ttl);
	post_setup(c);
	configure_watchers(c);
	watch_deadline(c);
	setup_unref(&old);
}

/* What tenant_query gives has changed, and nothing else. */
static void publish_tenants(void *arg, struct roster *roster)
{
	struct control *c = arg;
	struct setup old = c->setup, setup = setup_ref(&old);

	config_unref(setup.config);
	setup.config = config_with_roster(old.config, roster);
	use_setup(c, setup);
	tenants_rescale(old.config, setup.config, loop_now(c->loop));
	post_setup(c);
	tenant_source_adopt(c->tenant_source, c->config);
	peers_configure(c->peers, c->config, c->setup.server_tls);
	setup_unref(&old);
}

bool control_open_log(const struct control_options *options, const struct config *config,
		      struct err *e)
{
	const struct settings *set = &config->global;
	struct log_target target = { .file = set->logfile,
				     .to_stderr = options->log_to_stderr,
				     .to_syslog = set->syslog,
				     .syslog_ident = set->syslog_ident,
				     .syslog_facility = set->syslog_facility,
				     .format = set->log_format };
	unsigned more = options->verbosity > set->verbose ? options->verbosity : set->verbose;
	unsigned most = LOG_LEVEL_TRACE - LOG_LEVEL_INFO;

	log_threshold = LOG_LEVEL_INFO + (more < most ? more : most);
	return log_open(&target) ||
	       err_set(e, "F0000", "cannot open the log file \"%s\"", set->logfile);
}

/* Makes a configuration the one in force.  False: it was let go of, nothing has changed. */
static bool put_in_force(struct control *c, struct config *config, struct err *e)
{
	struct setup setup;

	config = config_inherit_roster(config, c->config);
	if (!setup_make(&setup, config, e)) {
		config_unref(config);
		return false;
	}
	if (!control_open_log(&c->options, config, e)) {
		setup_unref(&setup);
		return false;
	}
	publish(c, setup);
	return true;
}

bool control_reload(struct control *c, struct err *e)
{
	struct config_problems problems = { 0 };
	struct config *config;
	bool ok;

	log_info("RELOAD: reading the configuration again");
	c->options.hooks->tell(CONTROL_RELOADS);
	config = setup_read(&c->options.source, c->config, &problems);
	log_text(LOG_LEVEL_WARNING, buf_head(&problems.notes), buf_len(&problems.notes));
	log_text(LOG_LEVEL_ERROR, buf_head(&problems.errors), buf_len(&problems.errors));
	if (config)
		ok = put_in_force(c, config, e);
	else
		ok = err_set(e, "F0000", "%.*s", SLICE_FMT(buf_peek(&problems.errors)));
	if (ok)
		event_say(EVENT_reload, &no_one, "RELOAD: the new configuration is in force");
	else
		event_say(EVENT_reload_failed, &no_one,
			  "RELOAD: the old configuration stays in force%s%s", config ? ": " : "",
			  config ? e->text : "");
	config_problems_fini(&problems);
	c->options.hooks->tell(CONTROL_IS_READY);
	return ok;
}

bool control_set(struct control *c, struct slice name, const char *value, struct err *e)
{
	struct config *config = config_with(c->config, name, value, e);

	return config && put_in_force(c, config, e);
}

bool control_change(struct control *c, enum setting_scope scope, const char *owner,
		    const char *name, const char *text, struct err *e)
{
	struct config *config =
	    config_with_change(c->config, scope, slice_str(owner), slice_str(name), text, e);

	return config && put_in_force(c, config, e);
}

/* ---- stopping and pausing ---------------------------------------------------------------------
 */

struct errand_mail {
	struct mail mail;
	bool on;
};

static void post_to_all(struct control *c, mail_fn *deliver, bool on)
{
	for (unsigned i = 0; i < c->nworkers; i++) {
		struct errand_mail *m = xnew(struct errand_mail);

		m->on = on;
		worker_post(&c->workers[i], &m->mail, deliver);
	}
}

static bool unpack(struct mail *mail)
{
	struct errand_mail *m = container_of(mail, struct errand_mail, mail);
	bool on = m->on;

	free(m);
	return on;
}

static void deliver_accept(struct mail *mail, void *receiver)
{
	worker_accept(receiver, unpack(mail));
}

static void deliver_give_away(struct mail *mail, void *receiver)
{
	voyages_give_away(receiver, unpack(mail));
}

static void deliver_suspend(struct mail *mail, void *receiver)
{
	worker_suspend(receiver, unpack(mail));
}

void control_suspend(struct control *c, bool on)
{
	if (c->suspended == on)
		return;
	c->suspended = on;
	log_info(on ? "SUSPEND" : "RESUME");
	post_to_all(c, deliver_suspend, on);
}

/* The workers read it while what it was taken from may change. */
struct look {
	enum shutdown_mode mode;
	unsigned arrivals; /* sessions that had come when it began */
};

/* What a shutdown waits for, on one worker. */
static void visit_rest(struct worker *w, void *slot, void *arg)
{
	const struct look *look = arg;

	*(unsigned *)slot = look->mode == SHUTDOWN_WAIT_FOR_SERVERS
				? relay_busy_servers(&w->relay, NULL)
				: relay_clients(&w->relay, NULL) + client_count_awaited(&w->host);
}

static void look_again(struct control *c);

static void on_rest(struct control *c, void **slots, unsigned n, void *arg)
{
	const struct look *look = arg;
	/* A session that came behind the look at its worker is on none. */
	bool is_old = look->arrivals != takeover_arrivals(c->takeover);
	unsigned left = 0;

	free(arg);
	for (unsigned i = 0; i < n; i++)
		left += *(unsigned *)slots[i];
	if (c->shutdown == SHUTDOWN_NOT || c->shutdown == SHUTDOWN_NOW || c->is_overdue)
		return;
	if (left || is_old || takeover_goes_on(c->takeover))
		look_again(c);
	else
		control_shutdown(c, SHUTDOWN_NOW);
}

static void on_quiet(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, quiet);
	struct look *look = xnew(struct look);

	*look = (struct look){ .mode = c->shutdown, .arrivals = takeover_arrivals(c->takeover) };
	control_gather(c, sizeof(unsigned), visit_rest, on_rest, look);
}

static void look_again(struct control *c)
{
	loop_timer_start(c->loop, &c->quiet, QUIET_PERIOD, 0, on_quiet);
}

static void on_parted(struct loop_timer *timer)
{
	control_shutdown(container_of(timer, struct control, deadline), SHUTDOWN_NOW);
}

/* Whom shutdown_timeout has cut off, on one worker. */
struct cut_off {
	unsigned clients, busy;
};

static void visit_cut_off(struct worker *w, void *slot, void *arg PGT_UNUSED)
{
	static const struct err overdue = { "57P01",
					    "the pooler is shutting down: shutdown_timeout is over",
					    "" };
	struct cut_off *n = slot;

	n->clients = relay_dismiss(&w->relay, overdue.text, &n->busy);
	n->clients += client_close_awaited(&w->host, &overdue);
}

static void on_cut_off(struct control *c, void **slots, unsigned n, void *arg PGT_UNUSED)
{
	unsigned clients = 0, busy = 0;

	for (unsigned i = 0; i < n; i++) {
		clients += ((struct cut_off *)slots[i])->clients;
		busy += ((struct cut_off *)slots[i])->busy;
	}
	event_say(EVENT_shutdown, &no_one,
		  "SHUTDOWN: shutdown_timeout is over: %u clients cut off, %u of them in a "
		  "transaction or statement",
		  clients, busy);
	if (c->shutdown != SHUTDOWN_NOW)
		loop_timer_start(c->loop, &c->deadline, PARTING_TIME, 0, on_parted);
}

static void on_deadline(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, deadline);

	c->is_overdue = true;
	control_gather(c, sizeof(struct cut_off), visit_cut_off, on_cut_off, NULL);
}

/* The setting may change while it waits. */
static void watch_deadline(struct control *c)
{
	usec_t patience = c->config->global.shutdown_timeout;
	usec_t waited = loop_now(c->loop) - c->drains_since;

	if (!c->drains_since || c->is_overdue || c->shutdown == SHUTDOWN_NOW)
		return;
	loop_timer_stop(c->loop, &c->deadline);
	if (patience)
		loop_timer_start(c->loop, &c->deadline, patience > waited ? patience - waited : 0,
				 0, on_deadline);
}

static void visit_drain(struct worker *w, void *slot PGT_UNUSED, void *arg PGT_UNUSED)
{
	worker_drain(w);
}

static void on_last_comer(void *arg, int fd, const struct addr *peer)
{
	struct control *c = arg;

	worker_take_in(&c->workers[(unsigned)fd % c->nworkers], fd, peer);
}

/* Who has connected before that is served, as one who was there; who comes later is refused by the
 * system, or goes to another process that listens on the same address. */
static void on_drained(struct control *c, void **slots PGT_UNUSED, unsigned n PGT_UNUSED,
		       void *arg PGT_UNUSED)
{
	listeners_close_tcp(&c->listeners, on_last_comer, c);
	if (c->shutdown != SHUTDOWN_NOW)
		look_again(c);
}

void control_shutdown(struct control *c, enum shutdown_mode mode)
{
	static const char *const words[] = { [SHUTDOWN_WAIT_FOR_CLIENTS] =
						 "waiting until the last client has left",
					     [SHUTDOWN_WAIT_FOR_SERVERS] =
						 "waiting until the last transaction has ended",
					     [SHUTDOWN_NOW] = "closing all connections" };
	enum shutdown_mode before = c->shutdown;

	if (before == SHUTDOWN_NOW)
		return;
	c->shutdown = mode > before ? mode : SHUTDOWN_NOW;
	/* What the log says is so by then. */
	if (c->shutdown == SHUTDOWN_WAIT_FOR_SERVERS)
		c->options.hooks->console_pause(c);
	event_say(EVENT_shutdown, &no_one, "SHUTDOWN: %s", words[c->shutdown]);
	/* In the loop's last turn it would begin a look that ends when what it looks at is freed.
	 */
	if (c->shutdown == SHUTDOWN_NOW) {
		loop_timer_stop(c->loop, &c->quiet);
		loop_timer_stop(c->loop, &c->deadline);
	} else if (!c->drains_since) {
		c->drains_since = loop_now(c->loop);
		watch_deadline(c);
	}
	if (before == SHUTDOWN_NOT) {
		c->options.hooks->tell(CONTROL_STOPS);
		if (c->shutdown != SHUTDOWN_NOW) {
			/* First: it has the sockets as well. */
			takeover_leave(c->takeover);
			control_gather(c, sizeof(char), visit_drain, on_drained, NULL);
		}
	}
	end_if_told(c);
}

static void visit_let_go(struct worker *w, void *slot PGT_UNUSED, void *arg PGT_UNUSED)
{
	worker_accept(w, false);
}

static void on_let_go(struct control *c, void **slots PGT_UNUSED, unsigned n PGT_UNUSED,
		      void *arg PGT_UNUSED)
{
	listeners_let_go(&c->listeners);
}

void control_let_go(struct control *c)
{
	control_gather(c, sizeof(char), visit_let_go, on_let_go, NULL);
}

void control_keep_sessions(struct control *c)
{
	post_to_all(c, deliver_give_away, false);
}

void control_hand_over(struct control *c, bool on)
{
	listeners_lend(&c->listeners, on);
	if (on && c->shutdown == SHUTDOWN_NOT) {
		c->shutdown = SHUTDOWN_TAKEN_OVER;
		post_to_all(c, deliver_accept, false);
		look_again(c);
		post_to_all(c, deliver_give_away, true);
	} else if (!on && c->shutdown == SHUTDOWN_TAKEN_OVER) {
		c->shutdown = SHUTDOWN_NOT;
		loop_timer_stop(c->loop, &c->quiet);
		control_keep_sessions(c);
		post_to_all(c, deliver_accept, true);
	}
}

/* ---- signals ----------------------------------------------------------------------------------
 */

static void on_reload(struct control *c)
{
	struct err e;

	log_reopen();
	/* What went wrong is in the log. */
	(void)control_reload(c, &e);
}

static void on_wait_for_clients(struct control *c)
{
	control_shutdown(c, c->shutdown ? SHUTDOWN_NOW : SHUTDOWN_WAIT_FOR_CLIENTS);
}

static void on_wait_for_servers(struct control *c)
{
	control_shutdown(c, c->shutdown ? SHUTDOWN_NOW : SHUTDOWN_WAIT_FOR_SERVERS);
}

static void on_quit(struct control *c)
{
	control_shutdown(c, SHUTDOWN_NOW);
}

static void on_pause(struct control *c)
{
	c->options.hooks->console_pause(c);
}

static void on_resume(struct control *c)
{
	if (c->shutdown != SHUTDOWN_NOT)
		return;
	if (c->suspended)
		control_suspend(c, false);
	c->options.hooks->console_resume(c);
}

/* As PgBouncer. */
static const struct {
	int number;
	const char *name;
	void (*fn)(struct control *c);
} signals[] = {
	{SIGHUP,   "SIGHUP",  on_reload          },
        { SIGTERM, "SIGTERM", on_wait_for_clients},
	{ SIGINT,  "SIGINT",  on_wait_for_servers},
        { SIGQUIT, "SIGQUIT", on_quit            },
	{ SIGUSR1, "SIGUSR1", on_pause           },
        { SIGUSR2, "SIGUSR2", on_resume          },
};

static void on_signal(void *arg, int signum)
{
	struct control *c = arg;

	for (size_t i = 0; i < PGT_NELEMS(signals); i++) {
		if (signals[i].number != signum)
			continue;
		log_info("got %s", signals[i].name);
		signals[i].fn(c);
	}
	net_flush(&c->net);
}

static void handle_signals(struct control *c)
{
	sigset_t none;

	for (size_t i = 0; i < PGT_NELEMS(signals); i++)
		loop_on_signal(c->loop, signals[i].number, on_signal, c);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* ---- the console's clients --------------------------------------------------------------------
 */

static void stay(struct client *c)
{
	client_login_begin(c);
}

static bool enter_console(struct client *client, struct err *e)
{
	struct control *c = client->host->owner;

	return c->options.hooks->console_enter(c, client, e);
}

/* Console commands are not cancelled: the key is there because the protocol has it. */
static void assign_no_key(struct client *c)
{
	random_bytes(client_secret(c), c->secret_len);
}

static void forget_no_key(struct client *c PGT_UNUSED)
{
}

static void seek_secret(struct client *client)
{
	struct control *c = client->host->owner;

	secret_mail_ask(c, client, &c->mailbox);
}

static void withdraw_secret(struct client *client)
{
	secret_mail_withdraw(client->host->owner, client);
}

static void doubt_secret(struct client *client)
{
	secret_mail_doubt(client->host->owner, client);
}

static void seek_verdict(struct client *client, const struct client_claim *claim)
{
	struct control *c = client->host->owner;

	jury_ask(c->jury, client, claim, &c->mailbox);
}

static void withdraw_verdict(struct client *client)
{
	struct control *c = client->host->owner;

	jury_withdraw(c->jury, client);
}

static void ignore_cancel(struct client *asker, uint32_t pid PGT_UNUSED,
			  struct slice secret PGT_UNUSED)
{
	client_close(asker, NULL, "cancel request");
}

static void init_host(struct control *c)
{
	c->host = (struct client_host){ .net = &c->net,
					.owner = c,
					.scram_cache = scram_cache_new(),
					.find_home = stay,
					.seek_secret = seek_secret,
					.withdraw_secret = withdraw_secret,
					.doubt_secret = doubt_secret,
					.seek_verdict = seek_verdict,
					.withdraw_verdict = withdraw_verdict,
					.cancel = ignore_cancel,
					.enter = enter_console,
					.assign_key = assign_no_key,
					.forget_key = forget_no_key };
	list_init(&c->host.newcomers);
}

static void on_sweep(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, sweep);
	usec_t now = loop_now(c->loop);

	net_sweep(&c->net, now);
	client_sweep_newcomers(&c->host, now);
	peers_sweep(c->peers, now);
	net_flush(&c->net);
	/* What they tell of took a second at least. */
	if (now - c->swept_at < USEC_PER_SEC)
		return;
	c->swept_at = now;
	events_sweep();
	log_sweep();
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

static unsigned count_workers(const struct config *config)
{
	long n = config->global.workers;

	if (!n)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	if (n < 1)
		n = 1;
	return n < WORKERS_MAX ? (unsigned)n : WORKERS_MAX;
}

static void deliver_newcomers(struct mail *mail, void *receiver)
{
	struct control *c = receiver;

	(void)mail;
	c->has_newcomers = false;
	if (!c->is_over)
		monitor_look(c->monitor);
}

/* Who makes a set waits for its primary, and not for the monitor's next look. */
static void on_nodes_made(void *arg)
{
	struct control *c = arg;

	if (!atomic_exchange(&c->has_newcomers, true))
		mailbox_post(&c->mailbox, &c->newcomers, deliver_newcomers);
}

static void start(struct control *c)
{
	const struct settings *set = &c->config->global;

	state_start(&c->state, c->loop, set->state_dir,
		    c->options.offer && c->options.offer->link >= 0);
	net_init(&c->net, c->loop);
	mailbox_init(&c->mailbox, c->loop, c);
	c->resolver = resolver_new(set->resolv_conf, set->dns_max_ttl, set->dns_nxdomain_ttl);
	c->node_sets = node_sets_new();
	node_sets_on_made(c->node_sets, on_nodes_made, c);
	c->monitor = monitor_new(&c->net, &c->mailbox, c->resolver, c->node_sets);
	c->tenant_source = tenant_source_new(&c->net, c->monitor, publish_tenants, c);
	c->secret_source = secret_source_new(&c->net, &c->mailbox, c->resolver, c->monitor);
	c->jury = jury_new();
	c->notifier = notifier_new(&c->net, c->monitor);
	c->peers = peers_new(&c->net, &c->mailbox, c->resolver);
	configure_watchers(c);
	c->nworkers = count_workers(c->config);
	c->keys = (struct cancel_keys){ .peer_id = set->peer_id, .nworkers = c->nworkers };
	c->workers = xcalloc(c->nworkers, sizeof(*c->workers));
	for (unsigned i = 0; i < c->nworkers; i++)
		worker_init(&c->workers[i], c, i);
	c->takeover = takeover_new(c);
	c->options.hooks->console_start(c);
	for (unsigned i = 0; i < c->nworkers; i++)
		worker_start(&c->workers[i]);
	c->options.hooks->http_start(c);
	handle_signals(c);
	loop_timer_start(c->loop, &c->sweep, SWEEP_PERIOD, SWEEP_PERIOD, on_sweep);
}

static void stop_workers(struct control *c)
{
	/* First all threads, so that nobody posts any more; then what they have; then what answers
	 * their questions; then what was still under way. */
	for (unsigned i = 0; i < c->nworkers; i++)
		worker_join(&c->workers[i]);
	for (unsigned i = 0; i < c->nworkers; i++)
		worker_close(&c->workers[i]);
	resolver_free(c->resolver);
	jury_free(c->jury);
	for (unsigned i = 0; i < c->nworkers; i++)
		worker_free(&c->workers[i]);
	free(c->workers);
}

static void stop(struct control *c)
{
	c->is_over = true;
	takeover_free(c->takeover);
	c->options.hooks->http_stop(c);
	c->options.hooks->console_stop(c);
	LIST_FOREACH_SAFE (at, &c->host.newcomers)
		client_close(container_of(at, struct client, link), NULL, "shutdown");
	secret_source_free(c->secret_source);
	peers_free(c->peers);
	notifier_free(c->notifier);
	tenant_source_free(c->tenant_source);
	monitor_free(c->monitor);
	stop_workers(c);
	state_stop(&c->state);
	mailbox_fini(&c->mailbox);
	net_turn_end(&c->net);
	net_fini(&c->net);
	loop_timer_stop(c->loop, &c->sweep);
	loop_timer_stop(c->loop, &c->quiet);
	scram_cache_free(c->host.scram_cache);
	node_sets_free(c->node_sets);
	listeners_close(&c->listeners);
	setup_unref(&c->setup);
	loop_free(c->loop);
}

static void say_where(const struct control *c)
{
	for (unsigned i = 0; i < c->listeners.n; i++)
		log_info("listening on %s", c->listeners.at[i].name);
	event_say(EVENT_start, &no_one, "%s is ready: %u workers, process %d", PACKAGE_STRING,
		  c->nworkers, (int)getpid());
}

void control_run(const struct control_options *options, struct setup *setup,
		 const struct listeners *listeners)
{
	struct control *c = xnew(struct control);

	c->options = *options;
	c->listeners = *listeners;
	c->loop = loop_new();
	c->started_at = loop_now(c->loop);
	init_host(c);
	use_setup(c, *setup);
	*setup = (struct setup){ 0 };
	start(c);
	say_where(c);
	takeover_begin(c->takeover);
	c->options.hooks->tell(CONTROL_IS_READY);
	net_begin(&c->net);
	loop_run(c->loop);
	stop(c);
	log_info("the end");
	events_free();
	free(c);
}
