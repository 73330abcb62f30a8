/* SPDX-License-Identifier: ISC
 *
 * judge_ldap.c - asks an LDAP directory whether a password is a user's.
 *
 * Knows the conversation with a server and nothing of logins; what is asked is made by directory.h.
 * Each case has a connection of its own.  Certificates are always verified, whatever ldap.conf
 * says; against which authorities, it says (TLS_CACERT). Source: RFC 4511, 4513; ldap(3).
 */
#include "worker/judge.h"

#include "auth/directory.h"

#ifdef HAVE_LDAP

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <ldap.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/* Layers of ours in its connections. */
#define BELOW_TLS ((LBER_SBIOD_LEVEL_PROVIDER + LBER_SBIOD_LEVEL_TRANSPORT) / 2)
#define ABOVE_TLS ((LBER_SBIOD_LEVEL_TRANSPORT + LBER_SBIOD_LEVEL_APPLICATION) / 2)

/* One server, asked about one case. */
struct dialog {
	const struct judge_case *jc;
	const char *uri;
	LDAP *ld;
	usec_t until;
	struct ldap_conncb callbacks;
	struct err *why;
};

/* Reads its own files, and sets up what all connections share. */
static void prepare_library(void)
{
	LDAP *ld;

	if (ldap_initialize(&ld, NULL) == LDAP_SUCCESS)
		ldap_unbind_ext(ld, NULL, NULL);
}

/* ---- a step of the conversation ---------------------------------------------------------------
 */

/* False, and why. */
static bool fails(const struct dialog *d, const char *doing, int rc)
{
	char *said = NULL;

	ldap_get_option(d->ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &said);
	err_set(d->why, "58000", "%s: %s: %s%s%.200s%s", d->uri, doing, ldap_err2string(rc),
		said && *said ? " (" : "", said ? said : "", said && *said ? ")" : "");
	ldap_memfree(said);
	return false;
}

/* No step takes longer than what is left for all of them. */
static bool has_time(const struct dialog *d, const char *doing, struct timeval *left)
{
	usec_t us = d->until - clock_monotonic();

	if (us <= 0)
		return fails(d, doing, LDAP_TIMEOUT);
	left->tv_sec = (time_t)(us / USEC_PER_SEC);
	left->tv_usec = (suseconds_t)(us % USEC_PER_SEC);
	ldap_set_option(d->ld, LDAP_OPT_NETWORK_TIMEOUT, left);
	ldap_set_option(d->ld, LDAP_OPT_TIMEOUT, left);
	return true;
}

/* Below TLS.  The library knows no timeout for a handshake with GnuTLS, and would wait for ever. */
static int set_up_limit(Sockbuf_IO_Desc *io, void *arg)
{
	io->sbiod_pvt = arg;
	return 0;
}

static bool is_in_time(Sockbuf_IO_Desc *io, short event)
{
	const struct dialog *d = io->sbiod_pvt;
	struct pollfd p = { .events = event };
	int ms, rc;

	if (ber_sockbuf_ctrl(io->sbiod_sb, LBER_SB_OPT_GET_FD, &p.fd) != 1)
		return false;
	do {
		ms = (int)((d->until - clock_monotonic()) / USEC_PER_MSEC);
		rc = poll(&p, 1, ms > 0 ? ms : 0);
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		errno = ETIMEDOUT;
	return rc > 0;
}

static ber_slen_t read_in_time(Sockbuf_IO_Desc *io, void *data, ber_len_t n)
{
	return is_in_time(io, POLLIN) ? LBER_SBIOD_READ_NEXT(io, data, n) : -1;
}

static ber_slen_t write_in_time(Sockbuf_IO_Desc *io, void *data, ber_len_t n)
{
	return is_in_time(io, POLLOUT) ? LBER_SBIOD_WRITE_NEXT(io, data, n) : -1;
}

static int control(Sockbuf_IO_Desc *io, int option, void *arg)
{
	return LBER_SBIOD_CTRL_NEXT(io, option, arg);
}

static ber_slen_t read_on(Sockbuf_IO_Desc *io, void *data, ber_len_t n)
{
	return LBER_SBIOD_READ_NEXT(io, data, n);
}

/* Above TLS.  The library would free what it has sent as it is, with the password in it. */
static ber_slen_t write_and_wipe(Sockbuf_IO_Desc *io, void *data, ber_len_t n)
{
	ber_slen_t written = LBER_SBIOD_WRITE_NEXT(io, data, n);

	if (written > 0)
		mem_wipe(data, (size_t)written);
	return written;
}

static int on_connected(LDAP *ld PGT_UNUSED, Sockbuf *sb, LDAPURLDesc *url PGT_UNUSED,
			struct sockaddr *address PGT_UNUSED, struct ldap_conncb *cb)
{
	static Sockbuf_IO limit = { .sbi_setup = set_up_limit,
				    .sbi_ctrl = control,
				    .sbi_read = read_in_time,
				    .sbi_write = write_in_time };
	static Sockbuf_IO wiper = { .sbi_ctrl = control,
				    .sbi_read = read_on,
				    .sbi_write = write_and_wipe };

	return ber_sockbuf_add_io(sb, &limit, BELOW_TLS, cb->lc_arg) == 0
		   ? ber_sockbuf_add_io(sb, &wiper, ABOVE_TLS, NULL)
		   : -1;
}

static void on_gone(LDAP *ld PGT_UNUSED, Sockbuf *sb PGT_UNUSED, struct ldap_conncb *cb PGT_UNUSED)
{
}

/* A context of its own takes nothing over of what ldap.conf says. */
static bool set_up_tls(const struct dialog *d)
{
	static const int texts[] = { LDAP_OPT_X_TLS_CACERTFILE,   LDAP_OPT_X_TLS_CACERTDIR,
				     LDAP_OPT_X_TLS_CERTFILE,     LDAP_OPT_X_TLS_KEYFILE,
				     LDAP_OPT_X_TLS_CIPHER_SUITE, LDAP_OPT_X_TLS_CRLFILE };
	const int demand = LDAP_OPT_X_TLS_DEMAND, is_server = 0;
	int rc = ldap_set_option(d->ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand);

	for (size_t i = 0; i < PGT_NELEMS(texts) && rc == LDAP_OPT_SUCCESS; i++) {
		char *text = NULL;

		if (ldap_get_option(NULL, texts[i], &text) == LDAP_OPT_SUCCESS && text)
			rc = ldap_set_option(d->ld, texts[i], text);
		ldap_memfree(text);
	}
	if (rc == LDAP_OPT_SUCCESS)
		rc = ldap_set_option(d->ld, LDAP_OPT_X_TLS_NEWCTX, &is_server);
	return rc == LDAP_OPT_SUCCESS || fails(d, "TLS cannot be set up", LDAP_LOCAL_ERROR);
}

static bool set_up(struct dialog *d)
{
	const struct directory *dir = d->jc->directory;
	const int version = LDAP_VERSION3;
	int rc = ldap_initialize(&d->ld, d->uri);

	d->callbacks = (struct ldap_conncb){ on_connected, on_gone, d };
	if (rc != LDAP_SUCCESS)
		return fails(d, "address", rc);
	ldap_set_option(d->ld, LDAP_OPT_PROTOCOL_VERSION, &version);
	/* No password goes to a server that another one has named. */
	ldap_set_option(d->ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
	ldap_set_option(d->ld, LDAP_OPT_RESTART, LDAP_OPT_ON);
	ldap_set_option(d->ld, LDAP_OPT_CONNECT_CB, &d->callbacks);
	return (!dir->is_ldaps && !dir->starts_tls) || set_up_tls(d);
}

static bool start_tls(const struct dialog *d)
{
	struct timeval left;
	int rc;

	if (!d->jc->directory->starts_tls)
		return true;
	if (!has_time(d, "StartTLS", &left))
		return false;
	rc = ldap_start_tls_s(d->ld, NULL, NULL);
	return rc == LDAP_SUCCESS || fails(d, "StartTLS", rc);
}

/* What the server says, or LDAP_TIMEOUT. */
static int bind_as(const struct dialog *d, const char *name, const char *secret)
{
	struct berval given = { .bv_len = strlen(secret), .bv_val = (char *)(uintptr_t)secret };
	struct timeval left;

	if (!has_time(d, "bind", &left))
		return LDAP_TIMEOUT;
	return ldap_sasl_bind_s(d->ld, name, LDAP_SASL_SIMPLE, &given, NULL, NULL, NULL);
}

/* ---- whose password it is ---------------------------------------------------------------------
 */

static int scope_of(const struct directory *dir)
{
	switch (dir->scope) {
	case DIRECTORY_BASE:
		return LDAP_SCOPE_BASE;
	case DIRECTORY_ONE:
		return LDAP_SCOPE_ONELEVEL;
	case DIRECTORY_SUBTREE:
		break;
	}
	return LDAP_SCOPE_SUBTREE;
}

/* The name of the one entry, or NULL: there is none, or more than one. */
static char *only_entry(const struct dialog *d, LDAPMessage *found)
{
	LDAPMessage *entry = ldap_first_entry(d->ld, found);

	return entry && !ldap_next_entry(d->ld, entry) ? ldap_get_dn(d->ld, entry) : NULL;
}

/* False: nobody could say.  *name: as with only_entry(). */
static bool search(const struct dialog *d, const char *filter, char **name)
{
	char *no_attributes[] = { (char *)(uintptr_t)LDAP_NO_ATTRS, NULL };
	const struct directory *dir = d->jc->directory;
	const int two = 2; /* are as bad as many */
	LDAPMessage *found = NULL;
	struct timeval left;
	int rc;

	*name = NULL;
	rc = bind_as(d, dir->bind_name, dir->bind_secret ? dir->bind_secret : "");
	if (rc != LDAP_SUCCESS)
		return fails(d, "bind as ldapbinddn", rc);
	if (!has_time(d, "search", &left))
		return false;
	rc = ldap_search_ext_s(d->ld, dir->base, scope_of(dir), filter, no_attributes, 0, NULL,
			       NULL, &left, two, &found);
	if (rc == LDAP_SUCCESS)
		*name = only_entry(d, found);
	ldap_msgfree(found);
	return rc == LDAP_SUCCESS || rc == LDAP_SIZELIMIT_EXCEEDED || fails(d, "search", rc);
}

static bool find_name(const struct dialog *d, char **name)
{
	const struct directory *dir = d->jc->directory;
	char *filter;
	bool ok;

	if (!directory_searches(dir)) {
		*name = directory_name_of(dir, d->jc->user);
		return true;
	}
	filter = directory_filter_of(dir, d->jc->user);
	ok = !filter || search(d, filter, name);
	free(filter);
	return ok;
}

/* ---- verdicts ---------------------------------------------------------------------------------
 */

/* What is no fault of whoever asks is no guess.  Whatever else a server says is: of an account that
 * is locked each says something else. */
static enum judgement verdict_of(const struct dialog *d, int rc)
{
	switch (rc) {
	case LDAP_SUCCESS:
		return JUDGED_GOOD;
	case LDAP_OPERATIONS_ERROR:
	case LDAP_PROTOCOL_ERROR:
	case LDAP_AUTH_METHOD_NOT_SUPPORTED:
	case LDAP_STRONG_AUTH_REQUIRED:
	case LDAP_REFERRAL:
	case LDAP_CONFIDENTIALITY_REQUIRED:
	case LDAP_BUSY:
	case LDAP_UNAVAILABLE:
	case LDAP_OTHER:
		fails(d, "bind as the user", rc);
		return JUDGED_NOT;
	default:
		if (rc > 0)
			return JUDGED_WRONG;
		/* The library's own: the server is gone, or says nothing. */
		fails(d, "bind as the user", rc);
		return JUDGED_NOT;
	}
}

static enum judgement ask(struct dialog *d)
{
	enum judgement verdict = JUDGED_NOT;
	char *name = NULL;

	if (!set_up(d) || !start_tls(d) || !find_name(d, &name))
		return JUDGED_NOT;
	/* To bind without a name is to bind as nobody, whatever the password. */
	if (name && *name)
		verdict = verdict_of(d, bind_as(d, name, d->jc->password));
	else
		verdict = JUDGED_WRONG;
	if (directory_searches(d->jc->directory))
		ldap_memfree(name);
	else
		free(name);
	return verdict;
}

enum judgement judge_ldap(const struct judge_case *jc, struct err *why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	enum judgement verdict = JUDGED_NOT;
	char *uri;

	pthread_once(&once, prepare_library);
	for (unsigned i = 0; verdict == JUDGED_NOT && (uri = directory_uri(jc->directory, i));
	     i++) {
		struct dialog d = {
			.jc = jc, .uri = uri, .until = clock_monotonic() + jc->patience, .why = why
		};

		verdict = ask(&d);
		if (d.ld)
			ldap_unbind_ext(d.ld, NULL, NULL);
		free(uri);
	}
	if (verdict != JUDGED_NOT)
		*why = (struct err){ 0 };
	return verdict;
}

#else

enum judgement judge_ldap(const struct judge_case *jc PGT_UNUSED, struct err *why)
{
	err_set(why, "0A000", "this build has no LDAP");
	return JUDGED_NOT;
}

#endif
