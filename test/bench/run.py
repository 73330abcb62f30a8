#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""run.py - CPU, system calls, instructions and memory of poolers under pgbench -S.

Starts a throw-away PostgreSQL and, before it, the floor (floor.c), Debian's PgBouncer and
pgturnstile with the same pool; loads them in turn, round by round, and prints medians and ratios.
`compare OLD.json NEW.json` sets two saved runs side by side.  See README.md.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import idle
import probe
import report
import rig
import wire

PASSES = ("timed", "syscalls", "instructions", "insight", "idle")
# What pgturnstile counts, and watches, for each query; a replica is there, and reads go to it.
INSIGHT = {"on": "", "off": "latency_histograms = 0\nquery_insight = 0\n"}


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Run:
    """The passes over one rig; results is what is saved."""

    def __init__(self, options, bench):
        self.options, self.bench = options, bench
        self.results = {"meta": describe(options), "scenarios": {}, "insight": {}, "idle": {}, "errors": []}

    def entry(self, scenario, proxy):
        scenarios = self.results["scenarios"]
        return scenarios.setdefault(scenario, {}).setdefault(proxy, {"rounds": []})

    def attempt(self, what, measure, *arguments):
        """The figure that measure gives; a failure is noted in the results and gives None."""
        try:
            return measure(*arguments)
        except (probe.ProbeError, rig.RigError, wire.WireError, OSError) as error:
            tell(f"{what}: {error}")
            self.results["errors"].append(f"{what}: {error}")
            return None

    def under_load(self):
        """The passes that look at running proxies: all of them stand there, one is loaded."""
        with contextlib.ExitStack() as stack:
            targets = [("direct", None, self.bench.server_port)]
            for name in self.bench.proxies():
                proxy = self.attempt(name, stack.enter_context, self.bench.proxy(name))
                if proxy:
                    process, port = proxy
                    targets.append((name, process.pid, port))
            for scenario in self.options.scenarios:
                if "timed" in self.options.passes:
                    self.timed(scenario, targets)
                if "syscalls" in self.options.passes:
                    self.syscalls(scenario, targets)

    def timed(self, scenario, targets):
        """The order turns with each round, so that none always comes first."""
        for name, _, _ in targets:
            self.entry(scenario, name)
        for i in range(self.options.rounds):
            tell(f"{scenario}: round {i + 1} of {self.options.rounds}")
            turn = i % len(targets)
            for name, pid, port in targets[turn:] + targets[:turn]:
                self.entry(scenario, name)["rounds"].append(self.attempt(
                    f"{scenario}, {name}, round {i + 1}", probe.timed, pid, port, scenario,
                    self.options.clients, self.options.seconds))
        for name, pid, _ in targets[1:]:
            self.entry(scenario, name)["rss_kb"] = self.attempt(name, probe.rss_kb, pid)

    def syscalls(self, scenario, targets):
        tell(f"{scenario}: system calls")
        for name, pid, port in targets[1:]:
            self.entry(scenario, name)["syscalls"] = self.attempt(
                f"{scenario}, {name}, system calls", probe.syscalls, self.bench.directory, pid,
                port, scenario, self.options.clients, self.options.seconds)

    def instructions(self):
        for scenario in self.options.scenarios:
            for name in self.bench.proxies():
                tell(f"{scenario}: instructions of {name}")
                self.entry(scenario, name)["instructions"] = self.attempt(
                    f"{scenario}, {name}, instructions", probe.instructions, self.bench, name,
                    scenario, self.options.clients, self.options.transactions)

    def insight(self):
        with self.bench.replica():
            for scenario in {"simple", "prepared", "tpcb"} & set(self.options.scenarios):
                self.results["insight"][scenario] = {}
                for way, settings in INSIGHT.items():
                    tell(f"{scenario}: instructions with insight {way}")
                    self.results["insight"][scenario][way] = self.attempt(
                        f"{scenario}, insight {way}", probe.instructions, self.bench, "pgturnstile",
                        scenario, self.options.clients, self.options.transactions, settings)

    def idle(self):
        for name in self.bench.proxies():
            tell(f"memory of {self.options.idle_clients} idle clients: {name}")
            self.results["idle"][name] = self.attempt(f"idle, {name}", self.idle_memory, name)

    def idle_memory(self, name):
        with self.bench.proxy(name) as (process, port):
            return idle.measure(port, process.pid, self.options.idle_clients, rig.USER,
                                rig.DATABASE)


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
    scenarios = list(probe.SCENARIOS)
    parser.add_argument("--pgturnstile", metavar="PATH", type=os.path.abspath,
                        help="its binary; left out if not given")
    parser.add_argument("--floor", metavar="PATH", type=os.path.abspath,
                        help="its binary; built from floor.c if not given")
    parser.add_argument("--scenarios", type=some_of(scenarios), default=scenarios,
                        help="comma list of " + ", ".join(scenarios))
    parser.add_argument("--passes", type=some_of(PASSES), default=PASSES,
                        help="comma list of " + ", ".join(PASSES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pool-size", type=int, default=20, help="servers of each proxy")
    parser.add_argument("--scale", type=int, default=5, help="of pgbench's tables")
    parser.add_argument("--transactions", type=int, default=100,
                        help="per client, for the instruction count")
    parser.add_argument("--idle-clients", type=int, default=2000)
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("bench.json"))
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the tables there")
    parser.add_argument("--check", action="store_true",
                        help="exit 1 when a bar is not met or a measurement failed")
    return parser.parse_args(argv)


def measure(options):
    if not options.pgturnstile:
        tell("no --pgturnstile PATH: it is left out")
    with rig.Rig(options) as bench:
        run = Run(options, bench)
        if {"timed", "syscalls"} & set(options.passes):
            run.under_load()
        if "instructions" in options.passes:
            run.instructions()
        if "insight" in options.passes and options.pgturnstile:
            run.insight()
        if "idle" in options.passes:
            run.idle()
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
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    if options.markdown:
        options.markdown.write_text(text)
    print(text, end="")
    is_good = not results["errors"] and all(is_met for _, is_met in report.bars(results))
    return int(options.check and not is_good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
