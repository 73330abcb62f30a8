/* SPDX-License-Identifier: ISC
 *
 * report.c - what was found, for people and for programs.
 */
#include "doctor/doctor.h"
#include "doctor/findings.h"

static void put_cases(const struct examination *e, enum severity severity, struct buf *out)
{
	for (size_t i = 0; i < e->nfound; i++) {
		const struct case_found *found = &e->found[i];

		if (found->finding->severity != severity)
			continue;
		buf_printf(out, "%-8s %s: %s\n         %s\n         mend: %s\n",
			   severity_name(severity), found->finding->id, found->object,
			   found->finding->title, found->mend);
	}
}

void doctor_report_text(const struct examination *all, size_t n, struct buf *out)
{
	for (const struct examination *e = all; e < all + n; e++) {
		if (*e->error.text)
			buf_printf(out, "database %s: cannot be looked at: %s\n", e->database,
				   e->error.text);
		else
			buf_printf(out, "database %s: %zu found, %zu dangerous\n", e->database,
				   e->nfound, e->ndangers);
		if (e->note)
			buf_printf(out, "note     %s\n", e->note);
		for (enum severity s = SEVERITY_DANGER; s < NSEVERITIES; s++)
			put_cases(e, s, out);
	}
}

static void put_string(struct buf *out, const char *text)
{
	buf_put_u8(out, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c < 0x20)
			buf_printf(out, "\\u%04x", c);
		else
			buf_put_u8(out, c);
	}
	buf_put_u8(out, '"');
}

static void put_member(struct buf *out, const char *name, const char *value, const char *end)
{
	put_string(out, name);
	buf_put(out, ": ", 2);
	if (value)
		put_string(out, value);
	else
		buf_printf(out, "%s", "null");
	buf_printf(out, "%s", end);
}

static void put_case(struct buf *out, const struct case_found *found, bool is_first)
{
	buf_printf(out, "%s\n      {", is_first ? "" : ",");
	put_member(out, "id", found->finding->id, ", ");
	put_member(out, "severity", severity_name(found->finding->severity), ", ");
	put_member(out, "object", found->object, ", ");
	put_member(out, "title", found->finding->title, ", ");
	put_member(out, "mend", found->mend, "}");
}

void doctor_report_json(const struct examination *all, size_t n, struct buf *out)
{
	buf_printf(out, "%s", "{\"databases\": [");
	for (const struct examination *e = all; e < all + n; e++) {
		bool is_first = true;

		buf_printf(out, "%s\n  {", e == all ? "" : ",");
		put_member(out, "name", e->database, ", ");
		put_member(out, "error", *e->error.text ? e->error.text : NULL, ", ");
		put_member(out, "note", e->note, ", ");
		buf_printf(out, "\"dangers\": %zu, \"findings\": [", e->ndangers);
		for (enum severity s = SEVERITY_DANGER; s < NSEVERITIES; s++)
			for (size_t i = 0; i < e->nfound; i++)
				if (e->found[i].finding->severity == s) {
					put_case(out, &e->found[i], is_first);
					is_first = false;
				}
		buf_printf(out, "%s]}", is_first ? "" : "\n    ");
	}
	buf_printf(out, "%s", "\n]}\n");
}
