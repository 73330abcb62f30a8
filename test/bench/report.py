# SPDX-License-Identifier: ISC
"""report.py - a benchmark's results as Markdown, against the floor, PgBouncer and an older run.

Takes and gives the dictionaries that run.py saves as JSON; measures nothing.
"""

import statistics

import bars

# title, key in a target's results, how it is printed
COLUMNS = (
    ("tps", "tps", "{:,.0f}"),
    ("p50 µs", "p50_us", "{:,.0f}"),
    ("p95", "p95_us", "{:,.0f}"),
    ("p99", "p99_us", "{:,.0f}"),
    ("CPU µs", "cpu_us", "{:,.2f}"),
    ("user", "user_us", "{:,.2f}"),
    ("system", "system_us", "{:,.2f}"),
    ("server's", "server_us", "{:,.2f}"),
    ("both", "both_us", "{:,.2f}"),
    ("CPU µs / MB", "cpu_per_mb", "{:,.1f}"),
    ("switches", "switches", "{:.2f}"),
    ("system calls", "syscalls", "{:.2f}"),
    ("instructions", "instructions", "{:,.0f}"),
    ("RSS KiB", "rss_kb", "{:,.0f}"),
    ("CPU / floor", "cpu_to_floor", "{:.2f}"),
    ("CPU / pgbouncer", "cpu_to_pgbouncer", "{:.2f}"),
)
ONCE = ("instructions", "rss_kb")
COMPARED = ("tps", "cpu_us", "cpu_to_floor", "syscalls", "instructions", "rss_kb")


def figures(results, scenario, target):
    """A target's figures, medians over the rounds; absent ones left out."""
    entry = results["scenarios"][scenario][target]
    rounds = [r for r in entry["rounds"] if r]
    result = {key: entry[key] for key in ONCE if entry.get(key)}
    for _, key, _ in COLUMNS:
        values = [r[key] for r in rounds if r.get(key) is not None]
        if values:
            result[key] = statistics.median(values)
    for other in ("floor", "pgbouncer"):
        figure = bars.ratio("cpu_us", scenario, target, other)(results)
        if figure:
            result[f"cpu_to_{other}"] = figure.value
            result[f"cpu_to_{other}_range"] = figure.range
    return result


def bars_table(results):
    """The bars that these results show, held or not."""
    rows = [[v.bar.what, *_told(v)] for v in bars.verdicts(results)]
    return "\n".join(_table(["what", "bar", "figure", ""], rows)) + "\n"


def _told(verdict):
    bar, figure = verdict.bar, _figure(verdict.figure)
    if bar.limit is None:
        return "", figure, ""
    return (f"{'≥' if bar.at_least else '≤'} {bar.limit:g}", figure,
            "held" if verdict.is_held else "**not held**")


def _figure(figure):
    return f"{figure.value:,.2f}" + (" ({:,.2f}–{:,.2f})".format(*figure.range) if figure.range else "")


def markdown(results):
    meta = results["meta"]
    lines = ["# Benchmark", "", ", ".join(f"{key} {value}" for key, value in meta.items()), "",
             "## Bars", "", bars_table(results)]
    for name, scenario in results["scenarios"].items():
        rows = [(target, figures(results, name, target)) for target in scenario]
        shown = [column for column in COLUMNS if any(column[1] in values for _, values in rows)]
        lines += [f"## {name}, per transaction", "",
                  *_table(["", *(title for title, _, _ in shown)],
                          [[target, *(_cell(values, key, form) for _, key, form in shown)]
                           for target, values in rows]), ""]
    idle = {target: entry for target, entry in results["idle"].items() if entry}
    if idle:
        rows = [[target, *(f"{value:,}" for value in entry.values())]
                for target, entry in idle.items()]
        lines += ["## Idle clients", "", *_table(["", *next(iter(idle.values()))], rows), ""]
    for kind in ("insight", "routing"):
        rows = [[name, *(f"{ways[way]:,.0f}" if ways.get(way) else "-" for way in ("on", "off"))]
                for name, ways in results[kind].items()]
        if rows:
            lines += [f"## {kind.capitalize()}, instructions per transaction", "",
                      *_table(["", "on", "off"], rows), ""]
    lines += [f"- no figure: {error}" for error in results["errors"]]
    return "\n".join(lines) + "\n"


def compare(old, new):
    rows = []
    for name, scenario in new["scenarios"].items():
        for target in scenario:
            if target not in old["scenarios"].get(name, {}):
                continue
            was, now = figures(old, name, target), figures(new, name, target)
            rows.append([name, target, *(_change(was.get(k), now.get(k)) for k in COMPARED)])
    return "\n".join(_table(["scenario", "", *COMPARED], rows)) + "\n"


def _change(was, now):
    if not was or now is None:
        return "-"
    return f"{was:,.2f} → {now:,.2f} ({(now / was - 1) * 100:+.1f} %)"


def _cell(values, key, form):
    if key not in values:
        return "-"
    text = form.format(values[key])
    if f"{key}_range" in values:
        text += " ({:.2f}–{:.2f})".format(*values[f"{key}_range"])
    return text


def _table(head, rows):
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
