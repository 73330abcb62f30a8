/* SPDX-License-Identifier: ISC
 *
 * userlist.c - users and their passwords.
 *
 * Takes text; knows no files, no reload and no log.  Fuzzed by test/fuzz/fuzz_userlist.c.
 */
#include "auth/userlist.h"

#include "auth/md5.h"
#include "base/mem.h"

#include <stdlib.h>

struct userlist {
	struct hmap users;
	struct userlist_usual usual;
};

/* --- entries --- */

bool userlist_entry_init(struct userlist_entry *entry, struct slice user, struct slice password)
{
	const struct slice scram = SLICE(SCRAM_MECHANISM "$");

	*entry = (struct userlist_entry){ .kind = PASSWORD_PLAIN };
	if (password.n == 0)
		entry->kind = PASSWORD_NONE;
	else if (md5_is_hash(password))
		entry->kind = PASSWORD_MD5;
	else if (password.n >= scram.n && memcmp(password.p, scram.p, scram.n) == 0)
		entry->kind = PASSWORD_SCRAM;
	if (entry->kind == PASSWORD_SCRAM && !scram_secret_parse(password, &entry->scram))
		return false;
	entry->user = xmemdup0(user.p, user.n);
	entry->password = xmemdup0(password.p, password.n);
	return true;
}

void userlist_entry_fini(struct userlist_entry *entry)
{
	mem_wipe(entry->password, strlen(entry->password));
	free(entry->password);
	free(entry->user);
	mem_wipe(entry, sizeof(*entry));
}

static void entry_free(struct userlist_entry *entry)
{
	userlist_entry_fini(entry);
	free(entry);
}

/* --- lines --- */

/* The rest of *text up to the next newline, which is dropped; *text is not empty. */
static struct slice next_line(struct slice *text)
{
	const char *end = memchr(text->p, '\n', text->n);
	struct slice line = slice_of(text->p, end ? (size_t)(end - text->p) : text->n);
	size_t used = line.n + (end ? 1 : 0);

	*text = slice_of(text->p + used, text->n - used);
	return line;
}

static void skip(struct slice *s, size_t n)
{
	*s = slice_of(s->p + n, s->n - n);
}

static void skip_blanks(struct slice *line)
{
	while (line->n && memchr(" \t\r\f\v", line->p[0], 5))
		skip(line, 1);
}

/* Moves line behind its first quote; before gets what stood there. */
static bool skip_quote(struct slice *line, struct buf *before)
{
	const char *quote = line->n ? memchr(line->p, '"', line->n) : NULL;

	if (!quote)
		return false;
	if (before)
		buf_put(before, line->p, (size_t)(quote - line->p));
	skip(line, (size_t)(quote - line->p) + 1);
	return true;
}

/* The next quoted string of line. */
static bool read_string(struct slice *line, struct buf *out)
{
	buf_clear(out);
	if (!skip_quote(line, NULL))
		return false;
	while (skip_quote(line, out)) {
		if (line->n == 0 || line->p[0] != '"')
			return true;
		buf_put_u8(out, '"');
		skip(line, 1);
	}
	return false;
}

static void put_entry(struct userlist *list, struct userlist_entry *entry)
{
	struct slice user = slice_str(entry->user);
	struct userlist_entry *old = (struct userlist_entry *)userlist_find(list, user);

	if (old) {
		hmap_remove(&list->users, &old->link);
		entry_free(old);
	}
	hmap_insert(&list->users, &entry->link, hash_bytes(user.p, user.n));
}

/* NULL, or what is wrong with the line.  The two bufs are scratch. */
static const char *parse_line(struct userlist *list, struct slice line, struct buf *user,
			      struct buf *password)
{
	struct userlist_entry *entry;

	skip_blanks(&line);
	if (line.n == 0 || line.p[0] == ';')
		return NULL;
	if (memchr(line.p, '\0', line.n))
		return "NUL byte";
	if (line.p[0] != '"' || !read_string(&line, user))
		return "the line does not begin with a user name in double quotes";
	if (!read_string(&line, password))
		return "no password in double quotes behind the user name";
	if (buf_len(user) == 0)
		return "the user name is empty";
	if (buf_len(user) > USERLIST_MAX_USER)
		return "the user name is too long";
	if (buf_len(password) > USERLIST_MAX_PASSWORD)
		return "the password is too long";
	entry = xnew(struct userlist_entry);
	if (!userlist_entry_init(entry, buf_peek(user), buf_peek(password))) {
		free(entry);
		return "the SCRAM secret is malformed";
	}
	put_entry(list, entry);
	return NULL;
}

/* The iterations of more than half of the SCRAM secrets, if so many have the same; else of some. */
static uint32_t vote(const struct userlist *list)
{
	uint32_t leader = 0;
	size_t lead = 0;

	for (struct hlink *l = hmap_walk(&list->users, NULL); l; l = hmap_walk(&list->users, l)) {
		const struct userlist_entry *entry = container_of(l, struct userlist_entry, link);

		if (entry->kind != PASSWORD_SCRAM)
			continue;
		if (!lead)
			leader = entry->scram.iterations;
		lead = entry->scram.iterations == leader ? lead + 1 : lead - 1;
	}
	return leader;
}

static struct userlist_usual find_usual(const struct userlist *list)
{
	size_t nscram = 0, nothers = 0;

	for (struct hlink *l = hmap_walk(&list->users, NULL); l; l = hmap_walk(&list->users, l)) {
		const struct userlist_entry *entry = container_of(l, struct userlist_entry, link);

		nscram += entry->kind == PASSWORD_SCRAM;
		nothers += entry->kind == PASSWORD_PLAIN || entry->kind == PASSWORD_MD5;
	}
	if (nscram <= nothers)
		return (struct userlist_usual){ 0 };
	return (struct userlist_usual){ .is_scram = true, .iterations = vote(list) };
}

struct userlist *userlist_parse(struct slice text, const char *file, userlist_complain_fn *complain,
				void *arg)
{
	struct userlist *list = xnew(struct userlist);
	struct buf user = { 0 }, password = { 0 };

	/* Never moved, so that wiping it once is enough. */
	buf_reserve(&password, text.n);
	for (int number = 1; text.n; number++) {
		const char *fault = parse_line(list, next_line(&text), &user, &password);

		if (fault)
			complain(arg, file, number, fault);
	}
	buf_wipe(&password);
	buf_fini(&user);
	list->usual = find_usual(list);
	return list;
}

struct userlist_usual userlist_usual(const struct userlist *list)
{
	return list->usual;
}

const struct userlist_entry *userlist_find(const struct userlist *list, struct slice user)
{
	struct hlink *l = list ? hmap_first(&list->users, hash_bytes(user.p, user.n)) : NULL;

	for (; l; l = hmap_next(l)) {
		const struct userlist_entry *entry = container_of(l, struct userlist_entry, link);

		if (slice_is_equal(slice_str(entry->user), user))
			return entry;
	}
	return NULL;
}

void userlist_each(const struct userlist *list,
		   void (*visit)(void *arg, const struct userlist_entry *entry), void *arg)
{
	for (struct hlink *l = list ? hmap_walk(&list->users, NULL) : NULL; l;
	     l = hmap_walk(&list->users, l))
		visit(arg, container_of(l, struct userlist_entry, link));
}

void userlist_free(struct userlist *list)
{
	if (!list)
		return;
	HMAP_FOREACH_SAFE (l, &list->users)
		entry_free(container_of(l, struct userlist_entry, link));
	hmap_fini(&list->users);
	free(list);
}
