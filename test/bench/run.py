#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""run.py - CPU, system calls, instructions and memory of poolers under load, and the bars.

Starts a throw-away PostgreSQL and, before it, the floor (floor.c), Debian's PgBouncer and
pgturnstile with the same pool; loads them in turn, round by round, and prints medians and ratios.
`compare OLD.json NEW.json` sets two saved runs side by side.  See README.md.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import bars
import idle
import probe
import report
import rig
import usage
import wire
from scenarios import SCENARIOS
from targets import DATABASE, USER

PASSES = ("timed", "syscalls", "instructions", "insight", "routing", "idle")
# What pgturnstile counts, and watches, for each query, while reads are routed to a replica.
INSIGHT = {"on": "", "off": "latency_histograms = 0\nquery_insight = 0\n"}
# The same two nodes, of which the one has all or the other the reads.
ROUTING = {"on": "", "off": "route = primary\n"}
# The scenarios that a pass is for with --bars, which have to be done within a quarter of an hour.
FOR_BARS = {"timed": [name for name in SCENARIOS if name not in ("tpcb", "connect")],
            "syscalls": ["simple"], "instructions": ["simple"], "insight": [],
            "routing": ["simple", "prepared"]}
# Of instructions: valgrind is slow, and they differ less than times.
COUNTS = 3
QUICK = {"rounds": 1, "scale": 2, "transactions": 5, "idle_clients": 50}


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Run:
    """The passes over one rig; results is what is saved, and grows as they go on.  What it has
    already, of a run that was ended, is not measured again."""

    def __init__(self, options, bench, results):
        self.options, self.bench, self.results = options, bench, results

    def save(self):
        """At no moment is there half a file: a run may be ended at any."""
        new = self.options.json.with_suffix(".new")
        new.write_text(json.dumps(self.results, indent=1) + "\n")
        new.replace(self.options.json)

    def entry(self, scenario, target):
        scenarios = self.results["scenarios"]
        return scenarios.setdefault(scenario, {}).setdefault(target, {"rounds": []})

    def attempt(self, what, measure, *arguments):
        """The figure that measure gives; a failure is noted in the results and gives None."""
        try:
            return measure(*arguments)
        except (probe.ProbeError, rig.RigError, wire.WireError, OSError) as error:
            tell(f"{what}: {error}")
            self.results["errors"].append(f"{what}: {error}")
            return None

    def once(self, entry, key, what, measure, *arguments):
        if entry.get(key) is None:
            tell(what)
            entry[key] = self.attempt(what, measure, *arguments)
            self.save()

    def scenarios_of(self, what):
        """Those of the run that this pass is for."""
        return [s for s in self.options.scenarios if not self.options.bars or s in FOR_BARS[what]]

    def targets_of(self, scenario):
        return [name for name in SCENARIOS[scenario].targets if self.bench.has(name)]

    def under_load(self):
        """The passes that look at running targets.  Scenarios that stand next to each other and want
        the same kind of targets go round together, so that they may be compared with each other."""
        def kind(scenario):
            row = SCENARIOS[scenario]
            return row.access, row.targets if "direct" not in row.targets else "all"

        for _, group in itertools.groupby(self.scenarios_of("timed"), kind):
            group = [s for s in group if self.missing_rounds(s)]
            if group:
                self.rounds(group)

    def has_round(self, scenario, i):
        return all(self.entry(scenario, name)["rounds"][i:i + 1] not in ([], [None])
                   for name in self.targets_of(scenario))

    def missing_rounds(self, scenario):
        return not all(self.has_round(scenario, i) for i in range(self.options.rounds))

    def rounds(self, group):
        """All targets of the group stand there, one at a time is loaded."""
        access = SCENARIOS[group[0]].access
        names = dict.fromkeys(name for s in group for name in self.targets_of(s))
        with contextlib.ExitStack() as stack:
            standing = {}
            for name in names:
                tell(f"starting {name}")
                standing[name] = self.attempt(name, stack.enter_context, self.bench.target(name, access))
            for scenario in group:
                for name in self.targets_of(scenario):
                    self.attempt(f"{scenario}, {name}", self.warm_up, scenario, standing[name])
            for i in range(self.options.rounds):
                for scenario in group:
                    self.round(scenario, i, standing)
            for scenario in group:
                for name in self.targets_of(scenario):
                    if name != "direct" and standing[name]:
                        self.entry(scenario, name)["rss_kb"] = usage.rss_kb(standing[name][0])
        self.save()

    def warm_up(self, scenario, at):
        """Logins, and what is done the first time only, are in no round."""
        if at:
            per_client = 2 if self.options.quick else SCENARIOS[scenario].per_client or 50
            probe.load(self.bench, at[1], scenario, self.options.clients, per_client=per_client)

    def amount(self):
        """How long a round is."""
        return {"per_client": 2} if self.options.quick else {"seconds": self.options.seconds}

    def round(self, scenario, i, standing):
        """The order turns with each round, so that none always comes first."""
        targets = self.targets_of(scenario)
        if self.has_round(scenario, i):
            return
        tell(f"{scenario}: round {i + 1} of {self.options.rounds}")
        turn = i % len(targets)
        for name in targets[turn:] + targets[:turn]:
            self.entry(scenario, name)["rounds"][i:i + 1] = [
                self.attempt(f"{scenario}, {name}, round {i + 1}", self.figures, scenario,
                             standing[name])]
        self.save()

    def figures(self, scenario, at):
        if not at:
            raise probe.ProbeError("it does not run")
        how = (self.bench, *at, scenario, self.options.clients)
        result = probe.timed(*how, **self.amount()) if "timed" in self.options.passes else {}
        if "syscalls" in self.options.passes and at[0] and scenario in self.scenarios_of("syscalls"):
            result["syscalls_of"] = probe.syscalls(*how, **self.amount())
            result["syscalls"] = result["syscalls_of"]["all"]
        return result

    def instructions(self):
        for scenario in self.scenarios_of("instructions"):
            for name in self.targets_of(scenario):
                if name != "direct":
                    self.once(self.entry(scenario, name), "instructions",
                              f"{scenario}, {name}, instructions", probe.median_instructions,
                              min(self.options.rounds, COUNTS), self.bench, name, scenario,
                              self.options.clients, self.options.transactions)

    def insight(self):
        for scenario in self.scenarios_of("insight"):
            if scenario not in ("simple", "prepared", "tpcb"):
                continue
            ways = self.results["insight"].setdefault(scenario, {})
            for way, settings in INSIGHT.items():
                self.once(ways, way, f"{scenario}, insight {way}", probe.instructions, self.bench,
                          "routed", scenario, self.options.clients, self.options.transactions,
                          settings)

    def routing(self):
        for scenario in self.scenarios_of("routing"):
            if scenario not in ("simple", "prepared"):
                continue
            ways = self.results["routing"].setdefault(scenario, {})
            for way, settings in ROUTING.items():
                self.once(ways, way, f"{scenario}, routing {way}", probe.routing, self.bench,
                          scenario, 20 if self.options.quick else 3000, settings)

    def idle(self):
        for name in filter(self.bench.has, ("floor", "pgbouncer", "pgturnstile")):
            self.once(self.results["idle"], name, f"memory of idle clients, {name}",
                      self.idle_memory, name)

    def idle_memory(self, name):
        with self.bench.target(name) as (pid, port):
            return idle.measure(port, pid, self.options.idle_clients, USER, DATABASE)


def describe(options):
    """What a reader must know to compare this run with another one."""
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "kernel": os.uname().release,
            "cpus": len(os.sched_getaffinity(0)), "pgbouncer": version(rig.pgbouncer_path()),
            "pgturnstile": version(options.pgturnstile), "clients": options.clients,
            "pool": options.pool_size, "rounds": options.rounds, "seconds": options.seconds,
            "scale": options.scale}


def version(binary):
    if not binary:
        return "none"
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return (told.stdout.split("\n")[0].split() or ["unknown"])[-1]


def parse_options(argv):
    def some_of(known):
        def parse(text):
            chosen = text.split(",")
            if not set(chosen) <= set(known):
                raise argparse.ArgumentTypeError(f"choose from {','.join(known)}")
            return chosen
        return parse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="or: run.py "
                                     "compare OLD.json NEW.json")
    scenarios = list(SCENARIOS)
    parser.add_argument("--pgturnstile", metavar="PATH", type=os.path.abspath,
                        help="its binary; left out if not given")
    parser.add_argument("--floor", metavar="PATH", type=os.path.abspath,
                        help="its binary; built from floor.c if not given")
    parser.add_argument("--bars", action="store_true",
                        help="what the bars are made of only, and print only the table of them")
    parser.add_argument("--resume", action="store_true",
                        help="go on where the run that has written --json was ended")
    parser.add_argument("--quick", action="store_true",
                        help="tiny counts: whether all works, not what it costs")
    parser.add_argument("--scenarios", type=some_of(scenarios), default=scenarios,
                        help="comma list of " + ", ".join(scenarios))
    parser.add_argument("--passes", type=some_of(PASSES), default=PASSES,
                        help="comma list of " + ", ".join(PASSES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pool-size", type=int, default=20, help="servers of each proxy")
    parser.add_argument("--scale", type=int, default=5, help="of pgbench's tables")
    parser.add_argument("--transactions", type=int, default=100,
                        help="per client, for the instruction count")
    parser.add_argument("--idle-clients", type=int, default=10000)
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("bench.json"))
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the tables there")
    parser.add_argument("--check", action="store_true",
                        help="exit 1 when a bar is not held or a measurement failed")
    options = parser.parse_args(argv)
    if options.quick:
        vars(options).update(QUICK)
    return options


def earlier_results(options):
    if options.resume and options.json.exists():
        return {"routing": {}} | json.loads(options.json.read_text()) | {"errors": []}
    return {"meta": describe(options), "scenarios": {}, "insight": {}, "routing": {}, "idle": {},
            "errors": []}


def measure(options):
    if not options.pgturnstile:
        tell("no --pgturnstile PATH: it is left out")
    with rig.Rig(options) as bench:
        run = Run(options, bench, earlier_results(options))
        if {"timed", "syscalls"} & set(options.passes):
            run.under_load()
        if "instructions" in options.passes:
            run.instructions()
        if "insight" in options.passes and options.pgturnstile:
            run.insight()
        if "routing" in options.passes and options.pgturnstile:
            run.routing()
        if "idle" in options.passes:
            run.idle()
        run.save()
    return run.results


def main(argv):
    if argv[:1] == ["compare"]:
        if len(argv) != 3:
            sys.exit("usage: run.py compare OLD.json NEW.json")
        old, new = (json.loads(pathlib.Path(path).read_text()) for path in argv[1:])
        print(report.compare(old, new), end="")
        return 0
    options = parse_options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    idle.raise_descriptor_limit()
    results = measure(options)
    text = report.markdown(results)
    if options.markdown:
        options.markdown.write_text(text)
    print(report.bars_table(results) if options.bars else text, end="")
    is_good = not results["errors"] and all(v.is_held for v in bars.verdicts(results))
    return int(options.check and not is_good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
