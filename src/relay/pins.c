/* SPDX-License-Identifier: ISC
 *
 * pins.c - why a session keeps its server: noted from its texts, set by a survey, shown, let go.
 *
 * Knows the facts of texts and the table of reasons; asks no server itself (survey.c).
 */
#include "relay/pins.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/parts.h"
#include "route/nodes.h"
#include "sql/stream_guard.h"
#include "stats/event.h"

#include <stdlib.h>

/* What is kept of the text that made a pin. */
#define PIN_STATEMENT_MAX 200
/* A longer SET is not remembered. */
#define SAID_TEXT_MAX 200

_Static_assert(NPINS <= GROUP_PINS_MAX, "each reason has its count");

static const struct {
	const char *name, *ask, *reset, *help;
} reasons[NPINS] = {
#define X(reason, name, ask, reset, help) [PIN_##reason] = { name, ask, reset, help },
	PIN_REASONS(X)
#undef X
};

const char *pin_name(enum pin_reason reason)
{
	return reasons[reason].name;
}

const char *pin_help(enum pin_reason reason)
{
	return reasons[reason].help;
}

const char *pin_question(enum pin_reason reason)
{
	return reasons[reason].ask;
}

const struct pin *client_pin(const struct client *c, enum pin_reason reason)
{
	return c->pins & PIN_BIT(reason) ? &c->rare->notes->pins[reason] : NULL;
}

bool pins_put_reset(uint32_t mask, struct buf *sql)
{
	if (mask & TAINT_UNSEEN)
		buf_printf(sql, "%s; DISCARD SEQUENCES; ", RESET_SETTINGS);
	for (unsigned i = 0; i < NPINS; i++) {
		if (!(mask & PIN_BIT(i)))
			continue;
		if (!reasons[i].reset)
			return false;
		if (*reasons[i].reset)
			buf_printf(sql, "%s; ", reasons[i].reset);
	}
	return true;
}

/* ---- notes --------------------------------------------------------------------------------------
 */

static struct session_notes *notes_of(struct client *c)
{
	if (!c->rare->notes)
		client_make_rare(c)->notes = xnew(struct session_notes);
	return c->rare->notes;
}

static void remember_statement(struct client *c, uint32_t mask, struct slice text)
{
	struct session_notes *notes = notes_of(c);

	text.n = text.n < PIN_STATEMENT_MAX ? text.n : PIN_STATEMENT_MAX;
	for (unsigned i = 0; i < NPINS; i++)
		if ((mask & PIN_BIT(i)) && !notes->pins[i].statement)
			notes->pins[i].statement = xmemdup0(text.p, text.n);
}

static void forget_pin(struct pin *pin)
{
	free(pin->statement);
	*pin = (struct pin){ 0 };
}

static void become_pinned(struct client *c, enum pin_reason reason)
{
	struct group *group = c->group;

	notes_of(c)->pins[reason].since = relay_now(c);
	group_pinner(group, c->tenant)->counts[reason]++;
	if (!c->pins) {
		group->counters.pinned_count++;
		tenant_count(c->tenant, TENANT_PINNED, 1);
	}
	event_count(EVENT_pins,
		    &(struct log_about){ .database = group->name, .reason = reasons[reason].name },
		    "%u sessions have begun to keep a server within ten seconds, the last one%s%s "
		    "because of %s",
		    event_specs[EVENT_pins].burst, c->tenant ? " of tenant " : "",
		    tenant_name(c->tenant), reasons[reason].name);
	log_debug("C-%llu: %s keeps its server: %s", (unsigned long long)c->id, c->user,
		  reasons[reason].name);
}

void pins_set(struct client *c, uint32_t mask)
{
	for (unsigned i = 0; i < NPINS; i++) {
		bool was = c->pins & PIN_BIT(i), is = mask & PIN_BIT(i);

		if (is && !was)
			become_pinned(c, i);
		else if (!is && c->rare->notes)
			forget_pin(&c->rare->notes->pins[i]);
		c->pins = is ? c->pins | PIN_BIT(i) : c->pins & ~PIN_BIT(i);
	}
}

/* Which reasons effects may make. */
static const struct {
	uint32_t effect;
	enum pin_reason reason;
} by_effect[] = {
	{SQL_EFFECT_PREPARE,        PIN_PREPARED     },
	{ SQL_EFFECT_LISTEN,        PIN_LISTEN       },
	{ SQL_EFFECT_TEMP,          PIN_TEMP         },
	{ SQL_EFFECT_ADVISORY_LOCK, PIN_ADVISORY_LOCK},
	{ SQL_EFFECT_HOLD_CURSOR,   PIN_CURSOR       },
	{ SQL_EFFECT_LOAD,          PIN_LIBRARY      },
	{ SQL_EFFECT_DBLINK,        PIN_DBLINK       },
	{ SQL_EFFECT_SEED,          PIN_SEED         },
	{ SQL_EFFECT_BACKEND_PID,   PIN_BACKEND_PID  },
};

static uint32_t reasons_of(const struct sql_facts *facts)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < PGT_NELEMS(by_effect); i++)
		if (facts->effects & by_effect[i].effect)
			mask |= PIN_BIT(by_effect[i].reason);
	return mask;
}

/* The reasons that a survey can ask about. */
static uint32_t askable(void)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < NPINS; i++)
		if (reasons[i].ask)
			mask |= PIN_BIT(i);
	return mask;
}

static bool is_on_replica(const struct client *c)
{
	return c->group->npools > 1 && c->server->node->role == NODE_REPLICA;
}

/* What nobody can ask about is taken for there.  A replica gets it in a failed transaction only,
 * but for a number that stays true only where writes may follow. */
static uint32_t certain_reasons(const struct client *c, uint32_t mask)
{
	if (is_on_replica(c))
		return 0;
	if (c->group->set.backend_pid == BACKEND_PID_SERVER)
		mask &= ~PIN_BIT(PIN_BACKEND_PID);
	return mask & ~askable();
}

static void said_fini(struct said *said)
{
	free(said->name);
	free(said->text);
	*said = (struct said){ 0 };
}

/* After these the same text may do something else. */
static bool changes_texts(const char *setting)
{
	return !strcmp(setting, "role") || !strcmp(setting, "standard_conforming_strings") ||
	       !strcmp(setting, "client_encoding");
}

/* Only texts whose effect their one word and value tell, and which went out as they are; in a batch
 * there may be others beside it, in another order, and what is bound need not be run. */
static void note_saying(struct client *c, const struct sql_facts *facts, struct slice text)
{
	struct said *saying = &notes_of(c)->saying;

	said_fini(saying);
	if (c->in_batch || facts->kind != SQL_KIND_SET || facts->nchanges || facts->sets_unnamed ||
	    text.n > SAID_TEXT_MAX || strlen(facts->settings) + 1 != facts->settings_len ||
	    changes_texts(facts->settings))
		return;
	*saying = (struct said){ xstrdup(facts->settings), xmemdup0(text.p, text.n) };
}

void pins_said(struct client *c, bool is_in_force)
{
	struct session_notes *notes = c->rare->notes;
	unsigned i = 0;

	if (!notes)
		return;
	if (!is_in_force || !notes->saying.name) {
		said_fini(&notes->saying);
		while (i < SAID_MAX)
			said_fini(&notes->said[i++]);
		return;
	}
	/* Its place is that of the one it replaces, or of the oldest. */
	while (i < SAID_MAX - 1 && notes->said[i].name &&
	       strcmp(notes->said[i].name, notes->saying.name) != 0)
		i++;
	said_fini(&notes->said[i]);
	memmove(notes->said + 1, notes->said, i * sizeof(*notes->said));
	notes->said[0] = notes->saying;
	notes->saying = (struct said){ 0 };
}

bool pins_has_said(const struct client *c, struct slice text)
{
	for (unsigned i = 0; c->rare->notes && i < SAID_MAX && c->rare->notes->said[i].text; i++)
		if (slice_is_equal(slice_str(c->rare->notes->said[i].text), text))
			return true;
	return false;
}

/* Every name in the list is one that any session may set. */
static bool are_custom(const char *names, unsigned len)
{
	for (const char *end = names + len; names < end; names += strlen(names) + 1)
		if (!strchr(names, '.'))
			return false;
	return true;
}

/* What has been named is what was set: by a plain SET that does not fail, outside of a transaction
 * that may undo it.  Of a set_config() nobody knows whether it was called, and a setting that the
 * session cannot change must not be brought along. */
static bool sets_what_it_names(const struct client *c, const struct sql_facts *facts)
{
	bool is_alone =
	    c->server->tx == 'I' && !c->server->replies.ncycles && facts->statements == 1;

	return is_alone && !facts->sets_many &&
	       (facts->kind == SQL_KIND_SET || are_custom(facts->settings, facts->settings_len));
}

static void note_settings(struct client *c, const struct sql_facts *facts, struct slice text)
{
	c->touched |= TOUCHED_NAMED;
	if (!sets_what_it_names(c, facts))
		c->touched |= TOUCHED_SETTINGS;
	else if (facts->settings_len)
		note_saying(c, facts, text);
	if (facts->settings_len)
		buf_put(&notes_of(c)->names, facts->settings, facts->settings_len);
	/* On a replica it is SQL in a string, which is trusted there as code is that makes its
	 * names itself, or has not run. */
	if (facts->sets_unnamed)
		c->touched |= (is_on_replica(c) ? 0 : PIN_BIT(PIN_SETTING)) | TOUCHED_SETTINGS;
	if (buf_len(&notes_of(c)->names) > SETTING_NAMES_MAX)
		c->touched |= PIN_BIT(PIN_SETTING) | TOUCHED_SETTINGS;
}

/* A tenant that sets its own id again leaves nothing behind. */
static bool sets_only_own_id(const struct client *c, const struct sql_facts *facts)
{
	return c->group->has_tenants && facts->statements == 1 && facts->nchanges == 1 &&
	       facts->changes[0].what == CHANGE_TENANT &&
	       (facts->kind == SQL_KIND_SET || facts->kind == SQL_KIND_SELECT);
}

static void pin_at_once(struct client *c, uint32_t mask, struct slice text)
{
	if (!(mask & ~c->pins))
		return;
	if (c->group->set.session_state == SESSION_STATE_LOG) {
		c->touched |= mask;
		return;
	}
	remember_statement(c, mask, text);
	pins_set(c, c->pins | mask);
}

/* A name may mean another table from here on, and a literal something else, so that a statement
 * parsed before says nothing of one parsed now. */
static void note_path(struct client *c, const struct sql_facts *facts)
{
	const uint32_t unseen = SQL_EFFECT_BLOCK | SQL_EFFECT_DISCARD_ALL | SQL_EFFECT_TEMP;

	if (!facts->sets_path && !facts->resets && !facts->sets_unnamed && !facts->sets_many &&
	    !(facts->effects & unseen))
		return;
	c->path_unsure = true;
	client_make_rare(c)->path_changes++;
	c->env_known = false;
}

/* What a block or procedure is given as a string it may run. */
static bool spells_definition(struct slice text)
{
	return (sql_spells(text, SLICE("create")) || sql_spells(text, SLICE("alter"))) &&
	       (sql_spells(text, SLICE("function")) || sql_spells(text, SLICE("routine")) ||
		sql_spells(text, SLICE("procedure")));
}

void pins_note(struct client *c, const struct sql_facts *facts, struct slice text)
{
	const uint32_t ends = SQL_EFFECT_RELEASE | SQL_EFFECT_DISCARD_ALL |
			      SQL_EFFECT_DISCARD_PLANS | SQL_EFFECT_DEALLOCATE |
			      SQL_EFFECT_DEALLOCATE_ALL;
	const uint32_t defines = SQL_EFFECT_DEFINES | SQL_EFFECT_TEMP;
	uint32_t mask;

	c->defines |= (facts->effects & defines) == SQL_EFFECT_DEFINES ||
		      ((facts->effects & SQL_EFFECT_BLOCK) && spells_definition(text));
	if (c->group->set.pool_mode == POOL_MODE_SESSION) {
		/* Its startup settings it has back otherwise. */
		c->resets |= context_is_reset(c->group, facts);
		return;
	}
	note_path(c, facts);
	if (facts->sequence && sequence_note(c, facts->sequence))
		pin_at_once(c, PIN_BIT(PIN_SEQUENCE), text);
	if (!facts->effects)
		return;
	mask = reasons_of(facts);
	c->makes_temp |= (facts->effects & SQL_EFFECT_TEMP) != 0;
	c->server->has_notified |= (facts->effects & SQL_EFFECT_NOTIFY) != 0;
	if (facts->effects & SQL_EFFECT_BLOCK) {
		mask |= askable();
		c->touched |= TOUCHED_SETTINGS | TAINT_UNSEEN;
	}
	if (facts->effects & SQL_EFFECT_DISCARD_ALL)
		c->touched |= TOUCHED_SETTINGS;
	c->resets |=
	    context_is_reset(c->group, facts) ||
	    (c->base->n &&
	     (facts->resets || (facts->effects & (SQL_EFFECT_DISCARD_ALL | SQL_EFFECT_BLOCK))));
	if (facts->effects & ends)
		c->touched |= c->pins & askable();
	if ((facts->effects & SQL_EFFECT_SET) && !sets_only_own_id(c, facts))
		note_settings(c, facts, text);
	if (mask & askable()) {
		remember_statement(c, mask & askable(), text);
		c->touched |= mask & askable();
	}
	pin_at_once(c, certain_reasons(c, mask), text);
}

void pins_note_unseen(struct client *c)
{
	if (c->group->set.pool_mode != POOL_MODE_SESSION)
		c->touched |= askable() | TOUCHED_SETTINGS | TAINT_UNSEEN;
}

/* Functions that leave nothing behind but large objects: lo_create, lo_open, lo_close, loread,
 * lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink, lo_truncate and those for 64 bits.  Their
 * OIDs were given by hand and have never changed (pg_proc.dat). */
bool pins_is_harmless_call(uint32_t oid)
{
	static const uint32_t known[] = { 715, 952, 953,  954,  955,  956, 957,
					  958, 964, 1004, 3170, 3171, 3172 };

	for (size_t i = 0; i < PGT_NELEMS(known); i++)
		if (oid == known[i])
			return true;
	return false;
}

void pins_note_call(struct client *c, uint32_t oid)
{
	if (!pins_is_harmless_call(oid))
		pins_note_unseen(c);
}

void pins_note_unmapped(struct client *c, struct slice text)
{
	if (c->group->set.pool_mode != POOL_MODE_SESSION)
		pin_at_once(c, PIN_BIT(PIN_UNMAPPED), text);
}

void pins_discarded(struct client *c, bool all)
{
	uint32_t ended = PIN_BIT(PIN_SEQUENCE);

	if (all)
		ended |= PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_BACKEND_PID) | PIN_BIT(PIN_UNMAPPED) |
			 PIN_BIT(PIN_UNKNOWN);
	sequence_forget(c);
	if (c->pins & ended)
		pins_set(c, c->pins & ~ended);
}

void pins_forget(struct client *c)
{
	if (!c->rare->notes)
		return;
	pins_set(c, 0);
	pins_said(c, false);
	buf_fini(&c->rare->notes->names);
	free(c->rare->notes);
	client_make_rare(c)->notes = NULL;
}

/* ---- what is allowed ------------------------------------------------------------------------
 */

static unsigned first_reason(uint32_t mask)
{
	unsigned i = 0;

	while (!(mask & PIN_BIT(i)))
		i++;
	return i;
}

static bool refuse_on_replica(uint32_t mask, struct err *e)
{
	err_set(e, "0A000", "session state cannot be kept on a replica: %s",
		reasons[first_reason(mask)].name);
	return err_hint(e,
			"This read-only transaction runs on a replica, and what the statement "
			"leaves would tie the session to it. Begin with /* route: primary */, or "
			"run the statement outside of the transaction.");
}

static bool refuse_state(uint32_t mask, struct err *e)
{
	unsigned i = first_reason(mask);

	err_set(e, "0A000", "session state is not allowed here (session_state = reject): %s",
		reasons[i].name);
	return err_hint(e,
			"%s In transaction pooling the next transaction may run on another server, "
			"which does not have it.",
			reasons[i].help);
}

/* Reasons that a text may make wherever it is run; a number is one for writes only. */
static uint32_t ties_of(const struct sql_facts *facts)
{
	uint32_t mask = reasons_of(facts) & ~PIN_BIT(PIN_BACKEND_PID);

	if (facts->effects & SQL_EFFECT_CODE_LOCKS)
		mask |= PIN_BIT(PIN_ADVISORY_LOCK);
	if (facts->sets_unnamed && (facts->effects & SQL_EFFECT_SET))
		mask |= PIN_BIT(PIN_SETTING);
	return mask;
}

bool pins_may_tie(const struct sql_facts *facts)
{
	return ties_of(facts) != 0;
}

/* In a failed transaction nothing is left, and the server has the word. */
static bool allow_on_replica(const struct client *c, const struct sql_facts *facts, struct err *e)
{
	uint32_t mask = ties_of(facts);

	if (facts->effects & SQL_EFFECT_BLOCK)
		mask &= ~PIN_BIT(PIN_SETTING); /* note_settings() */
	return !mask || c->server->tx == 'E' || refuse_on_replica(mask, e);
}

bool pins_allow(const struct client *c, const struct sql_facts *facts, struct err *e)
{
	uint32_t mask = reasons_of(facts) & ~PIN_BIT(PIN_BACKEND_PID);

	if (c->group->set.pool_mode == POOL_MODE_SESSION)
		return true;
	if (facts->sequence && !sequence_allow(c, facts->sequence, e))
		return false;
	if (mask && c->group->set.session_state == SESSION_STATE_REJECT)
		return refuse_state(mask, e);
	return !is_on_replica(c) || allow_on_replica(c, facts, e);
}

bool pins_allow_unmapped(const struct client *c, struct err *e)
{
	return c->group->set.pool_mode == POOL_MODE_SESSION || !is_on_replica(c) ||
	       refuse_on_replica(PIN_BIT(PIN_UNMAPPED), e);
}

/* ---- what is lost ---------------------------------------------------------------------------
 */

void pins_lose(struct client *c, uint32_t mask)
{
	for (unsigned i = 0; i < NPINS; i++)
		if (mask & PIN_BIT(i))
			log_info("C-%llu: %s: session state is lost with its replica: %s",
				 (unsigned long long)c->id, c->user, reasons[i].name);
	client_make_rare(c)->lost |= mask;
}

void pins_put_lost(struct client *c, struct err *e)
{
	unsigned i = first_reason(c->rare->lost);

	client_make_rare(c)->lost = 0;
	guard_count_refused(c);
	err_set(e, "55000",
		"the last transaction has left session state on a replica, which is lost: %s",
		reasons[i].name);
	err_hint(e,
		 "This request has not been run, the next one will be. Code in a read-only "
		 "transaction has left something that ties the session to its server: begin that "
		 "transaction with /* route: primary */.");
}
