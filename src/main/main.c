/* SPDX-License-Identifier: ISC
 *
 * main.c - the command line of pgturnstile.
 *
 * Turns argv into options and answers --help and --version.  Does not know what a
 * setting means or what a worker does.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] = "usage: pgturnstile [--help] [--version]\n"
			    "\n"
			    "A connection pooler and read/write router for PostgreSQL.\n"
			    "\n"
			    "  -h, --help     show this text and exit\n"
			    "  -V, --version  show the version and exit\n";

static const struct option long_options[] = {
	{"help",     no_argument, NULL, 'h'},
	{ "version", no_argument, NULL, 'V'},
	{ NULL,      0,           NULL, 0  },
};

int main(int argc, char **argv)
{
	int option = getopt_long(argc, argv, "hV", long_options, NULL);

	switch (option) {
	case 'h':
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	case 'V':
		puts(PACKAGE_STRING);
		return EXIT_SUCCESS;
	default:
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
}
