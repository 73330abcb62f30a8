/* SPDX-License-Identifier: ISC
 *
 * networks.c - networks, as rules and lists name them, and who comes from one.
 *
 * Does not know what it is that somebody may do from there.  Fuzzed by test/fuzz/fuzz_hba.c.
 */
#include "auth/networks.h"

#include <arpa/inet.h>
#include <string.h>

bool network_read_word(struct slice word, struct network *n)
{
	static const struct {
		const char *word;
		enum network_kind kind;
	} words[] = {
		{"all",       NETWORK_ALL     },
		{ "samehost", NETWORK_SAMEHOST},
		{ "samenet",  NETWORK_SAMENET },
		{ "local",    NETWORK_LOCAL   },
	};

	for (size_t i = 0; i < PGT_NELEMS(words); i++)
		if (slice_is_equal(slice_str(words[i].word), word)) {
			n->kind = words[i].kind;
			return true;
		}
	return false;
}

static bool read_ip(const char *text, bool *is_ipv6, uint8_t *out)
{
	*is_ipv6 = inet_pton(AF_INET, text, out) != 1;
	return !*is_ipv6 || inet_pton(AF_INET6, text, out) == 1;
}

static void set_mask(struct network *n, unsigned bits)
{
	memset(n->mask, 0, sizeof(n->mask));
	for (unsigned i = 0; i < bits; i++)
		n->mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
}

static bool read_bits(const char *text, struct network *n)
{
	unsigned bits = 0;

	if (!*text || strlen(text) > 3)
		return false;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return false;
		bits = bits * 10 + (unsigned)(*c - '0');
	}
	if (bits > (n->is_ipv6 ? 128 : 32))
		return false;
	set_mask(n, bits);
	return true;
}

static bool has_letters_of_names(const char *text)
{
	return strspn(text, "0123456789abcdefABCDEF.:/") < strlen(text);
}

const char *network_read_address(struct slice text, struct network *n, bool *has_bits)
{
	char room[INET6_ADDRSTRLEN + sizeof("/128")];
	char *slash;

	n->kind = NETWORK_NET;
	if (text.n >= sizeof(room))
		return "not an address";
	memcpy(room, text.p, text.n);
	room[text.n] = '\0';
	slash = strchr(room, '/');
	*has_bits = slash != NULL;
	if (slash)
		*slash = '\0';
	if (strlen(room) != (slash ? (size_t)(slash - room) : text.n) ||
	    !read_ip(room, &n->is_ipv6, n->ip))
		return has_letters_of_names(room)
			   ? "names of hosts are not supported, write addresses"
			   : "not an address";
	if (slash && !read_bits(slash + 1, n))
		return "behind the address stands no number of bits that it has";
	return NULL;
}

bool network_read_mask(const char *text, struct network *n)
{
	bool is_ipv6;

	return read_ip(text, &is_ipv6, n->mask) && is_ipv6 == n->is_ipv6;
}

/* An IPv4 address of a socket for IPv6 is the same address. */
static bool is_mapped(const struct net_origin *who)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return who->is_ipv6 && !memcmp(who->ip, prefix, sizeof(prefix));
}

static bool is_within(const struct network *n, bool is_ipv6, const uint8_t *ip)
{
	if (n->is_ipv6 != is_ipv6)
		return false;
	for (unsigned i = 0; i < (is_ipv6 ? 16 : 4); i++)
		if ((n->ip[i] ^ ip[i]) & n->mask[i])
			return false;
	return true;
}

bool network_has(const struct network *n, const struct net_origin *who)
{
	bool mapped = is_mapped(who), is_ipv6 = who->is_ipv6 && !mapped;
	const uint8_t *ip = who->ip + (mapped ? 12 : 0);

	if (who->is_local || n->kind == NETWORK_LOCAL)
		return who->is_local && (n->kind == NETWORK_LOCAL || n->kind == NETWORK_ALL);
	switch (n->kind) {
	case NETWORK_NET:
		return is_within(n, is_ipv6, ip);
	case NETWORK_SAMEHOST:
		return who->is_near(is_ipv6, ip, false);
	case NETWORK_SAMENET:
		return who->is_near(is_ipv6, ip, true);
	default:
		return true;
	}
}

/* ---- lists ------------------------------------------------------------------------------------
 */

/* Takes the next word; false: there is none. */
static bool next_word(const char **list, struct slice *word)
{
	size_t n;

	*list += strspn(*list, ", \t");
	n = strcspn(*list, ", \t");
	*word = slice_of(*list, n);
	*list += n;
	return n > 0;
}

/* NULL, or what is wrong. */
static const char *read_one(struct slice word, struct network *n)
{
	const char *fault;
	bool has_bits;

	*n = (struct network){ 0 };
	if (network_read_word(word, n))
		return NULL;
	fault = network_read_address(word, n, &has_bits);
	if (!fault && !has_bits)
		set_mask(n, n->is_ipv6 ? 128 : 32);
	return fault;
}

bool networks_check(const char *list, struct err *e)
{
	struct slice word;
	struct network n;

	while (next_word(&list, &word)) {
		const char *fault = read_one(word, &n);

		if (fault)
			return err_set(e, "22023", "\"%.*s\": %s",
				       (int)(word.n < 100 ? word.n : 100), word.p, fault);
	}
	return true;
}

bool networks_have(const char *list, const struct net_origin *who)
{
	struct slice word;
	struct network n;

	while (next_word(&list, &word))
		if (!read_one(word, &n) && network_has(&n, who))
			return true;
	return false;
}
