/* SPDX-License-Identifier: ISC
 *
 * options.c - the command line.
 *
 * Turns argv into options; knows what they are called, not what they do.  Names that PgBouncer has
 * are PgBouncer's.
 */
#include "main/options.h"

#include "base/mem.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char synopsis[] =
    "usage: pgturnstile [-d] [-v] [-q] [-u USER] [--check | --takeover] CONFIG.INI\n"
    "       pgturnstile [-v] [-q] --upstream postgres://USER[:PASSWORD]@HOST[:PORT]/DB\n"
    "                   [--listen ADDRESS:PORT]\n"
    "       pgturnstile --doctor [--json] CONFIG.INI\n"
    "       pgturnstile --describe=settings|ini|admin|doctor|metrics | --help | --version\n";

static const char explanation[] =
    "\n"
    "A connection pooler and read/write router for PostgreSQL.\n"
    "\n"
    "  -d, --daemon          run in the background; needs logfile or syslog\n"
    "  -v, --verbose         log more; twice for still more\n"
    "  -q, --quiet           do not log to stderr\n"
    "  -u, --user=USER       become this system user; only root can\n"
    "      --check           read the configuration, say what is wrong with it and exit\n"
    "      --takeover        take over from the process that runs with this configuration\n"
    "      --doctor          look at the databases for what is dangerous, say what mends it and "
    "exit\n"
    "      --json            with --doctor: one JSON document\n"
    "      --upstream=URI    serve every database of these servers, without a file; the password\n"
    "                        is PGPASSWORD, or in PGPASSFILE, if the URI has none\n"
    "      --listen=WHERE    with --upstream: where clients come to (127.0.0.1:6432)\n"
    "      --describe=WHAT   print a page or sample that is made from the program's tables\n"
    "  -h, --help            show this text and exit\n"
    "  -V, --version         show the version and exit\n"
    "\n"
    "Signals: HUP reloads, TERM ends when the last client has left, INT when the last\n"
    "transaction has ended, QUIT or a second TERM or INT at once, USR1 pauses, USR2 resumes.\n";

enum {
	OPTION_CHECK = 256,
	OPTION_TAKEOVER,
	OPTION_UPSTREAM,
	OPTION_LISTEN,
	OPTION_DESCRIBE,
	OPTION_DOCTOR,
	OPTION_JSON
};

static const struct option long_options[] = {
	{"daemon",    no_argument,       NULL, 'd'            },
	{ "verbose",  no_argument,       NULL, 'v'            },
	{ "quiet",    no_argument,       NULL, 'q'            },
	{ "user",     required_argument, NULL, 'u'            },
	{ "check",    no_argument,       NULL, OPTION_CHECK   },
	{ "upstream", required_argument, NULL, OPTION_UPSTREAM},
	{ "listen",   required_argument, NULL, OPTION_LISTEN  },
	{ "describe", required_argument, NULL, OPTION_DESCRIBE},
	{ "takeover", no_argument,       NULL, OPTION_TAKEOVER},
	{ "doctor",   no_argument,       NULL, OPTION_DOCTOR  },
	{ "json",     no_argument,       NULL, OPTION_JSON    },
	{ "help",     no_argument,       NULL, 'h'            },
	{ "version",  no_argument,       NULL, 'V'            },
	{ NULL,       0,                 NULL, 0              },
};

void options_put_usage(bool in_full)
{
	FILE *to = in_full ? stdout : stderr;

	fputs(synopsis, to);
	if (in_full)
		fputs(explanation, to);
}

/* Keeps a copy, and leaves none of its password where the list of processes shows it. */
static void take_uri(struct options *o, char *uri)
{
	struct slice secret = config_upstream_secret(uri);
	char *at;
	size_t rest;

	options_fini(o);
	o->uri = xstrdup(uri);
	o->source.upstream.uri = o->uri;
	if (!secret.n)
		return;
	at = uri + (secret.p - uri);
	rest = strlen(at + secret.n);
	memmove(at, at + secret.n, rest);
	mem_wipe(at + rest, secret.n);
}

static bool take(struct options *o, int option)
{
	switch (option) {
	case 'd':
		o->daemon = true;
		return true;
	case 'v':
		o->verbosity++;
		return true;
	case 'q':
		o->quiet = true;
		return true;
	case 'u':
		o->user = optarg;
		return true;
	case OPTION_CHECK:
		o->mode = MODE_CHECK;
		return true;
	case OPTION_TAKEOVER:
		o->takes_over = true;
		return true;
	case OPTION_DOCTOR:
		o->mode = MODE_DOCTOR;
		return true;
	case OPTION_JSON:
		o->as_json = true;
		return true;
	case OPTION_UPSTREAM:
		take_uri(o, optarg);
		return true;
	case OPTION_LISTEN:
		o->source.upstream.listen = optarg;
		return true;
	case OPTION_DESCRIBE:
		o->mode = MODE_DESCRIBE;
		o->describe = optarg;
		return true;
	case 'h':
		o->mode = MODE_HELP;
		return true;
	case 'V':
		o->mode = MODE_VERSION;
		return true;
	default:
		return false;
	}
}

static const char *find_contradiction(const struct options *o, int nfiles)
{
	if (o->as_json && o->mode != MODE_DOCTOR)
		return "--json goes with --doctor";
	if (o->takes_over && (o->mode != MODE_RUN || o->source.upstream.uri))
		return "--takeover goes with a file, to run";
	if (o->mode != MODE_RUN && o->mode != MODE_CHECK && o->mode != MODE_DOCTOR)
		return nfiles ? "no file is read for that" : NULL;
	if (o->source.upstream.uri)
		return nfiles ? "--upstream stands instead of a file" : NULL;
	if (o->source.upstream.listen)
		return "--listen goes with --upstream; a file has listen_addr and listen_port";
	return nfiles == 1 ? NULL : "one file is needed, or --upstream";
}

bool options_parse(struct options *o, int argc, char **argv)
{
	const char *contradiction;
	int option;

	*o = (struct options){ .user = "" };
	o->source.upstream.password = getenv("PGPASSWORD");
	o->source.upstream.passfile = getenv("PGPASSFILE");
	while ((option = getopt_long(argc, argv, "dvqu:hV", long_options, NULL)) != -1) {
		if (take(o, option))
			continue;
		options_put_usage(false);
		return false;
	}
	contradiction = find_contradiction(o, argc - optind);
	if (contradiction) {
		fprintf(stderr, "pgturnstile: %s\n", contradiction);
		options_put_usage(false);
		return false;
	}
	o->source.path = argv[optind];
	return true;
}

void options_fini(struct options *o)
{
	if (o->uri)
		mem_wipe(o->uri, strlen(o->uri));
	free(o->uri);
	o->uri = NULL;
}
