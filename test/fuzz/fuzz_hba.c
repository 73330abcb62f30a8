/* SPDX-License-Identifier: ISC
 *
 * fuzz_hba.c - any bytes as pg_hba.conf, as an @file of it, as pg_ident.conf, as what is to be
 * known of a directory, and as a list of networks.
 *
 * The first byte says which; the @file that rules name has the bytes behind a NUL.
 */
#include "auth/hba.h"

#include "auth/directory.h"
#include "auth/networks.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	struct slice text, beside;
	unsigned nfaults, nreads;
};

static bool near_by_bytes(bool is_ipv6, const uint8_t *ip, bool whole_net)
{
	return ip[is_ipv6 ? 15 : 3] % 2 == whole_net;
}

static bool read_beside(void *arg, const char *path, struct buf *text, struct err *e)
{
	struct input *in = arg;

	PGT_ASSERT(*path);
	/* Files that name themselves many times are slow, and the rules' author's own doing. */
	if (++in->nreads > 50)
		return err_set(e, "F0000", "enough");
	buf_put_slice(text, in->beside);
	return true;
}

static void on_hba_fault(void *arg, const char *file, int line, const char *text)
{
	struct input *in = arg;

	PGT_ASSERT(*file && line > 0 && *text);
	in->nfaults++;
}

static void on_ident_fault(void *arg, const char *file, int line, const char *text)
{
	int *last_line = arg;

	PGT_ASSERT(*file && line > *last_line && *text);
	*last_line = line;
}

static void as_hba(struct slice text)
{
	const char *nul = memchr(text.p, '\0', text.n);
	struct input in = { .text = slice_of(text.p, nul ? (size_t)(nul - text.p) : text.n) };
	const struct hba_reader reader = { read_beside, on_hba_fault, &in };
	struct hba *hba;

	if (nul)
		in.beside = slice_of(nul + 1, text.n - in.text.n - 1);
	hba = hba_parse(in.text, "dir/fuzz", &reader);
	for (unsigned i = 0; i < 32; i++) {
		const struct hba_who who = {
			.from = {.is_local = i & 1,
                                 .is_ipv6 = i & 4,
                                 .ip = { 10, 0, 0, (uint8_t)i },
                                 .is_near = near_by_bytes},
			.is_tls = i & 2,
			.is_physical = i & 8,
			.database = "db",
			.user = i & 16 ? "db" : "u",
		};
		const struct hba_rule *rule = hba_find(hba, &who);

		PGT_ASSERT(!rule || rule->line > 0);
		PGT_ASSERT(!rule || rule->method != HBA_PEER || who.from.is_local);
		PGT_ASSERT(!rule || rule->method != HBA_CERT || who.is_tls);
	}
	PGT_ASSERT(hba_wants_certificate(hba) >= 0);
	PGT_ASSERT(hba_asks_others(hba) || !hba_has(hba, HBA_JWT));
	hba_free(hba);
}

static void as_ident(struct slice text)
{
	int last_line = 0;
	struct ident *ident;

	ident = ident_parse(text, "fuzz", on_ident_fault, &last_line);
	PGT_ASSERT(ident_allows(ident, NULL, "u", "u"));
	PGT_ASSERT(!ident_allows(ident, "m", "u@example.com", "u") || text.n > 4);
	ident_free(ident);
}

/* What a directory would be asked about somebody, whose name stands behind a NUL. */
static void ask(const struct directory *d, const char *user)
{
	char *name =
	    directory_searches(d) ? directory_filter_of(d, user) : directory_name_of(d, user);

	PGT_ASSERT(!name || *name);
	free(name);
	for (unsigned n = 0; (name = directory_uri(d, n)); n++) {
		PGT_ASSERT(!strncmp(name, "ldap", 4));
		free(name);
	}
}

/* As auth_ldap_options has it; what is behind a NUL is another, and a name. */
static void as_directory(struct slice text)
{
	const char *nul = memchr(text.p, '\0', text.n);
	size_t n = nul ? (size_t)(nul - text.p) : text.n;
	char *beside = nul ? xmemdup0(nul + 1, text.n - n - 1) : xstrdup("u");
	const char *fault, *fault_beside;
	struct directory *d = directory_parse(slice_of(text.p, n), &fault);
	struct directory *other = directory_parse(slice_str(beside), &fault_beside);

	PGT_ASSERT(d ? !fault : *fault);
	PGT_ASSERT(directory_is_same(d, d) &&
		   directory_is_same(d, other) == directory_is_same(other, d));
	if (d)
		ask(d, beside);
	directory_free(d);
	directory_free(other);
	free(beside);
}

/* A list of networks, as settings have it. */
static void as_networks(struct slice text)
{
	static const struct net_origin origins[] = {
		{.is_local = true,          .is_near = near_by_bytes},
		{                .ip = { 10, 0, 0, 1 }, .is_near = near_by_bytes                       },
		{  .is_ipv6 = true, .ip = { 0x20, 1, 0xd, 0xb8 },                        .is_near = near_by_bytes },
		{ .is_ipv6 = true,
                 .ip = { [10] = 0xff, [11] = 0xff, [12] = 10 },
                 .is_near = near_by_bytes },
	};
	char *list = xmemdup0(text.p, text.n);
	struct err e = { 0 };

	if (!networks_check(list, &e))
		PGT_ASSERT(*e.text);
	else
		for (size_t i = 0; i < PGT_NELEMS(origins); i++)
			PGT_ASSERT(!networks_have(list, &origins[i]) || *list);
	free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text;

	if (!size)
		return 0;
	text = slice_of((const char *)data + 1, size - 1);
	as_networks(text);
	if (data[0] % 4 == 2)
		as_directory(text);
	else if (data[0] % 2)
		as_ident(text);
	else
		as_hba(text);
	return 0;
}
