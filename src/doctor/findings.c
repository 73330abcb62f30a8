/* SPDX-License-Identifier: ISC
 *
 * findings.c - what --doctor looks for.
 *
 * The table and the page that is made from it.  Knows no database.
 */
#include "doctor/findings.h"

#include "sql/suspect.h"

const struct finding findings[] = {
#define X(id, severity, probe, title, remedy, query)                                               \
	{ id, SEVERITY_##severity, PROBE_##probe, title, remedy, query },
#include "doctor/findings.def"
#undef X
};

const size_t nfindings = PGT_NELEMS(findings);

const char *severity_name(enum severity severity)
{
	static const char *const names[] = { "danger", "warning", "advice" };

	return names[severity];
}

void findings_describe_markdown(struct buf *out)
{
	buf_printf(
	    out, "%s",
	    "# What --doctor looks for\n"
	    "\n"
	    "Made by `pgturnstile --describe=doctor` from include/doctor/findings.def; do not "
	    "edit. How it is used: [row-level security](row-level-security.md).\n"
	    "\n"
	    "| finding | | what it is | what to do |\n"
	    "| --- | --- | --- | --- |\n");
	for (size_t i = 0; i < nfindings; i++)
		buf_printf(out, "| `%s` | %s | %s | %s |\n", findings[i].id,
			   severity_name(findings[i].severity), findings[i].title,
			   findings[i].remedy);
}
