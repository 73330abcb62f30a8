# SPDX-License-Identifier: ISC
"""report.py - a benchmark's results as Markdown, against the floor, PgBouncer and an older run.

Takes and gives the dictionaries that run.py saves as JSON; measures nothing.
"""

import statistics

# title, key in a proxy's results, how it is printed
COLUMNS = (
    ("tps", "tps", "{:,.0f}"),
    ("latency ms", "latency_ms", "{:.2f}"),
    ("CPU µs", "cpu_us", "{:.2f}"),
    ("user", "user_us", "{:.2f}"),
    ("system", "system_us", "{:.2f}"),
    ("switches", "switches", "{:.2f}"),
    ("system calls", "syscalls", "{:.2f}"),
    ("instructions", "instructions", "{:,.0f}"),
    ("RSS KiB", "rss_kb", "{:,.0f}"),
    ("CPU / floor", "cpu_to_floor", "{:.2f}"),
    ("CPU / pgbouncer", "cpu_to_pgbouncer", "{:.2f}"),
)
MEDIANS = ("tps", "latency_ms", "cpu_us", "user_us", "system_us", "switches")
COMPARED = ("tps", "cpu_us", "cpu_to_floor", "syscalls", "instructions", "rss_kb")


def figures(scenario, proxy):
    """A proxy's figures in one scenario's results, medians over the rounds; absent ones left out.
    Ratios are medians of each round's own, since the rounds share the machine's mood."""
    entry = scenario[proxy]
    rounds = [r for r in entry["rounds"] if r]
    result = {key: statistics.median(r[key] for r in rounds)
              for key in MEDIANS if rounds and key in rounds[0]}
    for other in {"floor", "pgbouncer"} & scenario.keys():
        pairs = zip(entry["rounds"], scenario[other]["rounds"])
        ratios = [mine["cpu_us"] / its["cpu_us"] for mine, its in pairs
                  if mine and its and "cpu_us" in mine]
        if ratios:
            result[f"cpu_to_{other}"] = statistics.median(ratios)
            result[f"cpu_to_{other}_range"] = (min(ratios), max(ratios))
    if entry.get("syscalls"):
        result["syscalls"] = entry["syscalls"]["all"]
    result.update({key: entry[key] for key in ("instructions", "rss_kb") if entry.get(key)})
    return result


def _ratio(above, below, key):
    """Of two scenarios of one run; None when one has no such figure."""
    return above[key] / below[key] if above.get(key) and below.get(key) else None


def _difference(above, below, key):
    return above[key] - below[key] if above.get(key) and below.get(key) else None


def bars(results):
    """The bars that these results can show: [(text, is_met)]."""
    def of(scenario, proxy):
        proxies = results["scenarios"].get(scenario, {})
        return figures(proxies, proxy) if proxy in proxies else {}

    floor, simple, prepared = of("simple", "floor"), of("simple", "pgturnstile"), of(
        "prepared", "pgturnstile")
    idle = results["idle"].get("pgturnstile") or {}
    candidates = (
        ("floor, user instructions per simple transaction", floor.get("instructions"), 300),
        ("floor, system calls per simple transaction", floor.get("syscalls"), 4.5),
        ("CPU per simple transaction / floor", simple.get("cpu_to_floor"), 1.10),
        ("CPU per simple transaction / pgbouncer", simple.get("cpu_to_pgbouncer"), 1.0),
        ("user instructions per simple transaction", simple.get("instructions"), 2400),
        ("system calls per simple transaction, more than the floor's",
         _difference(simple, floor, "syscalls"), 0.1),
        ("CPU per prepared transaction / simple", _ratio(prepared, simple, "cpu_us"), 1.05),
        ("CPU per pipeline of 100 / floor", of("pipeline", "pgturnstile").get("cpu_to_floor"),
         1.25),
        ("Pss in bytes per idle client", idle.get("pss_per_client"), 700),
    )
    for scenario, ways in results.get("insight", {}).items():
        if scenario != "tpcb" and ways.get("on") and ways.get("off"):
            candidates += ((f"pgturnstile, instructions of insight per {scenario} transaction",
                            ways["on"] - ways["off"], 400),)
    return [(f"{text}: {value:.2f}, may be {limit}", value <= limit)
            for text, value, limit in candidates if value is not None]


def markdown(results):
    meta = results["meta"]
    lines = ["# Benchmark", "", ", ".join(f"{key} {value}" for key, value in meta.items()), ""]
    for name, scenario in results["scenarios"].items():
        rows = [[proxy, *_cells(figures(scenario, proxy))] for proxy in scenario]
        lines += [f"## {name}, per transaction", "",
                  *_table(["", *(title for title, _, _ in COLUMNS)], rows), ""]
    idle = {proxy: entry for proxy, entry in results["idle"].items() if entry}
    if idle:
        rows = [[proxy, *(f"{value:,}" for value in entry.values())]
                for proxy, entry in idle.items()]
        lines += ["## Idle clients", "", *_table(["", *next(iter(idle.values()))], rows), ""]
    insight = results.get("insight")
    if insight:
        rows = [[name, *(f"{ways[way]:,.0f}" if ways.get(way) else "-" for way in ("on", "off"))]
                for name, ways in insight.items()]
        lines += ["## Insight, instructions per transaction", "", *_table(["", "on", "off"], rows), ""]
    lines += [f"- no figure: {error}" for error in results["errors"]]
    lines += [f"- {'met' if is_met else 'NOT MET'}: {text}" for text, is_met in bars(results)]
    return "\n".join(lines) + "\n"


def compare(old, new):
    rows = []
    for name, scenario in new["scenarios"].items():
        for proxy in scenario:
            before = old["scenarios"].get(name, {})
            if proxy not in before:
                continue
            was, now = figures(before, proxy), figures(scenario, proxy)
            rows.append([name, proxy, *(_change(was.get(k), now.get(k)) for k in COMPARED)])
    return "\n".join(_table(["scenario", "", *COMPARED], rows)) + "\n"


def _change(was, now):
    if not was or now is None:
        return "-"
    return f"{was:,.2f} → {now:,.2f} ({(now / was - 1) * 100:+.1f} %)"


def _cells(values):
    return [_cell(values, key, form) for _, key, form in COLUMNS]


def _cell(values, key, form):
    if key not in values:
        return "-"
    text = form.format(values[key])
    if f"{key}_range" in values:
        text += " ({:.2f}–{:.2f})".format(*values[f"{key}_range"])
    return text


def _table(head, rows):
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
