# SPDX-License-Identifier: ISC
"""bars.py - what the figures have to be: one table, and what a run's results say to it.

A ratio is the median of the rounds' own ratios, since the rounds of a scenario share the machine's
mood; its range comes with it.  Takes the dictionary that run.py saves as JSON; measures nothing.
"""

import statistics
import typing


class Figure(typing.NamedTuple):
    value: float
    range: tuple | None = None


class Bar(typing.NamedTuple):
    what: str
    limit: float | None  # None: nothing is asked of it, it tells how to read the one above
    figure: typing.Callable  # of the results; gives a Figure, or None where they do not tell
    at_least: bool = False

    def is_held(self, value):
        if self.limit is None:
            return True
        return value >= self.limit if self.at_least else value <= self.limit


class Verdict(typing.NamedTuple):
    bar: Bar
    figure: Figure

    @property
    def is_held(self):
        return self.bar.is_held(self.figure.value)


def _rounds(results, scenario, target, key):
    """A figure's value in each round, None in those that failed."""
    rounds = results["scenarios"].get(scenario, {}).get(target, {}).get("rounds", [])
    return [r.get(key) if r else None for r in rounds]


def _of_pairs(pairs, combine):
    values = [combine(a, b) for a, b in pairs if a is not None and b]
    return Figure(statistics.median(values), (min(values), max(values))) if values else None


def _compared(combine):
    def compare(key, scenario, above, below, below_scenario=None):
        """above's figure against below's, which may be of another scenario."""
        return lambda results: _of_pairs(
            zip(_rounds(results, scenario, above, key),
                _rounds(results, below_scenario or scenario, below, key)), combine)
    return compare


ratio = _compared(lambda a, b: a / b)
difference = _compared(lambda a, b: a - b)


def speedup(scenario, one, two):
    """Transactions for each second of CPU time of the busiest thread: what more workers give, where
    they have cores of their own."""
    return lambda results: _of_pairs(zip(_rounds(results, scenario, one, "busiest_us"),
                                         _rounds(results, scenario, two, "busiest_us")),
                                     lambda a, b: a / b)


def median(key, scenario, target):
    def figure(results):
        values = [v for v in _rounds(results, scenario, target, key) if v is not None]
        return Figure(statistics.median(values), (min(values), max(values))) if values else None
    return figure


def single(scenario, target, key):
    """What is measured once."""
    def figure(results):
        value = results["scenarios"].get(scenario, {}).get(target, {}).get(key)
        return Figure(value) if value is not None else None
    return figure


def idle(target):
    def figure(results):
        entry = results["idle"].get(target)
        return Figure(entry["pss_per_client"]) if entry else None
    return figure


def of_ways(kind, scenario):
    """What it costs that something is on."""
    def figure(results):
        ways = results[kind].get(scenario, {})
        return Figure(ways["on"] - ways["off"]) if ways.get("on") and ways.get("off") else None
    return figure


BARS = (
    Bar("floor, user instructions per simple transaction", 300,
        single("simple", "floor", "instructions")),
    Bar("floor, system calls per simple transaction", 4.5, median("syscalls", "simple", "floor")),
    Bar("simple, tenant and routing on: proxy CPU / floor", 1.10,
        ratio("cpu_us", "simple", "routed", "floor")),
    Bar("simple, tenant and routing on: proxy CPU / PgBouncer", 1.0,
        ratio("cpu_us", "simple", "routed", "pgbouncer")),
    Bar("simple, neither: proxy CPU / floor", 1.10,
        ratio("cpu_us", "simple", "pgturnstile", "floor")),
    Bar("simple, neither: proxy CPU / PgBouncer", 1.0,
        ratio("cpu_us", "simple", "pgturnstile", "pgbouncer")),
    Bar("simple, tenant and routing on: user instructions", 2400,
        single("simple", "routed", "instructions")),
    Bar("extended: CPU of PostgreSQL and proxy / direct", 0.85,
        ratio("both_us", "extended", "pgturnstile", "direct")),
    Bar("pipeline of 100: CPU of PostgreSQL and proxy / direct", 0.5,
        ratio("both_us", "pipeline", "pgturnstile", "direct")),
    Bar("simple, tenant and routing on: system calls, more than the floor's", 0.1,
        difference("syscalls", "simple", "routed", "floor")),
    Bar("simple, neither: system calls, more than the floor's", 0.1,
        difference("syscalls", "simple", "pgturnstile", "floor")),
    Bar("prepared: proxy CPU / simple", 1.05,
        ratio("cpu_us", "prepared", "pgturnstile", "pgturnstile", "simple")),
    *(Bar(f"connect by SCRAM, {how}: proxy CPU / PgBouncer", 0.7,
          ratio("cpu_us", scenario, "pgturnstile", "pgbouncer"))
      for how, scenario in (("secrets in auth_file, one login after the other", "login_scram"),
                            ("the same, by pgbench, which makes its proof each time", "connect_scram"),
                            ("passwords in auth_file", "login_plain"))),
    Bar("connect over TLS, full handshake: proxy CPU / PgBouncer", 1.0,
        ratio("cpu_us", "login_tls", "pgturnstile", "pgbouncer")),
    Bar("connect over TLS, session resumed: proxy CPU / PgBouncer's full", 0.4,
        ratio("cpu_us", "login_resumed", "pgturnstile", "pgbouncer", "login_tls")),
    Bar("connect over TLS, session resumed: proxy CPU / PgBouncer's resumed", 1.0,
        ratio("cpu_us", "login_resumed", "pgturnstile", "pgbouncer")),
    Bar("connect over TLS: share of sessions resumed", 0.9,
        median("resumed_share", "login_resumed", "pgturnstile"), at_least=True),
    Bar("simple over TLS: proxy CPU / PgBouncer", 0.85,
        ratio("cpu_us", "simple_tls", "pgturnstile", "pgbouncer")),
    *(Bar(f"{name}: proxy CPU per MB / PgBouncer", limit,
          ratio("cpu_per_mb", scenario, "pgturnstile", "pgbouncer"))
      for name, scenario, limit in (("200,000 rows", "rows", 0.65), ("COPY out", "copy_out", 0.65),
                                    ("COPY in", "copy_in", 0.65), ("8 MB values", "values", 0.5))),
    *(bar for name, scenario in (("200,000 rows", "rows"), ("COPY out", "copy_out"),
                                 ("COPY in", "copy_in"), ("8 MB values", "values"))
      for bar in (Bar(f"{name}: throughput / direct", 0.9,
                      ratio("tps", scenario, "pgturnstile", "direct"), at_least=True),
                  Bar("… the floor's", None, ratio("tps", scenario, "floor", "direct")))),
    Bar("one client: latency p50 in µs, more than the floor's", 5,
        difference("p50_us", "latency", "pgturnstile", "floor")),
    Bar("idle clients: memory (Pss) of each in bytes", 700, idle("pgturnstile")),
    Bar("idle clients: throughput of 32 beside them / without", 0.97,
        ratio("tps", "crowd", "crowded", "pgturnstile"), at_least=True),
    Bar("pipeline of 100: proxy CPU / floor", 1.25,
        ratio("cpu_us", "pipeline", "pgturnstile", "floor")),
    Bar("stub, many pools: two workers / one", 1.8, speedup("stub_many", "many_1", "many_2"),
        at_least=True),
    Bar("stub, one pool: two workers / one", 1.6, speedup("stub_one", "one_1", "one_2"),
        at_least=True),
    *(Bar(f"{scenario}: user instructions of insight", 400, of_ways("insight", scenario))
      for scenario in ("simple", "prepared")),
    *(Bar(f"{scenario}: user instructions of routing", limit, of_ways("routing", scenario))
      for scenario, limit in (("simple", 800), ("prepared", 60))),
)


def verdicts(results):
    """Of those bars that these results can show."""
    figures = ((bar, bar.figure(results)) for bar in BARS)
    return [Verdict(bar, figure) for bar, figure in figures if figure]
