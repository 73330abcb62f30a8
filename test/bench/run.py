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

PASSES = ("timed", "syscalls", "instructions", "idle")


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Run:
    """The passes over one rig; results is what is saved."""

    def __init__(self, options, bench):
        self.options, self.bench = options, bench
        self.results = {"meta": describe(options), "scenarios": {}}

    def entry(self, scenario, proxy):
        scenarios = self.results["scenarios"]
        return scenarios.setdefault(scenario, {}).setdefault(proxy, {"rounds": []})

    def attempt(self, scenario, proxy, what, measure):
        """measure()'s figure; a failure is noted with the proxy's results and gives None."""
        try:
            return measure()
        except (probe.ProbeError, rig.RigError) as error:
            tell(f"{scenario}, {proxy}, {what}: {error}")
            self.entry(scenario, proxy).setdefault("errors", []).append(f"{what}: {error}")
            return None

    def under_load(self):
        """The passes that look at running proxies.  All of them run at once, idle but for one, and
        the order turns with each round, so that none always comes first."""
        with contextlib.ExitStack() as stack:
            targets = [("direct", None, self.bench.server_port)]
            for name in self.bench.proxies():
                process, port = stack.enter_context(self.bench.proxy(name))
                targets.append((name, process.pid, port))
            for scenario in self.options.scenarios:
                for name, _, _ in targets:
                    self.entry(scenario, name)
                if "timed" in self.options.passes:
                    self.timed(scenario, targets)
                if "syscalls" in self.options.passes:
                    self.syscalls(scenario, targets)

    def timed(self, scenario, targets):
        clients, seconds = self.options.clients, self.options.seconds
        for i in range(self.options.rounds):
            tell(f"{scenario}: round {i + 1} of {self.options.rounds}")
            turn = i % len(targets)
            for name, pid, port in targets[turn:] + targets[:turn]:
                self.entry(scenario, name)["rounds"].append(self.attempt(
                    scenario, name, f"round {i + 1}",
                    lambda p=pid, o=port: probe.timed(p, o, scenario, clients, seconds)))
        for name, pid, _ in targets:
            if pid:
                self.entry(scenario, name)["rss_kb"] = probe.rss_kb(pid)

    def syscalls(self, scenario, targets):
        tell(f"{scenario}: system calls")
        for name, pid, port in targets[1:]:
            figure = self.attempt(
                scenario, name, "system calls",
                lambda p=pid, o=port: probe.syscalls(self.bench.directory, p, o, scenario,
                                                     self.options.clients, self.options.seconds))
            if figure:
                self.entry(scenario, name)["syscalls"] = figure

    def instructions(self):
        for scenario in self.options.scenarios:
            for name in self.bench.proxies():
                tell(f"{scenario}: instructions of {name}")
                figure = self.attempt(
                    scenario, name, "instructions",
                    lambda n=name, s=scenario: probe.instructions(
                        self.bench, n, s, self.options.clients, self.options.transactions))
                if figure:
                    self.entry(scenario, name)["instructions"] = figure

    def idle(self):
        self.results["idle"] = {}
        for name in self.bench.proxies():
            tell(f"memory of {self.options.idle_clients} idle clients: {name}")
            with self.bench.proxy(name) as (process, port):
                self.results["idle"][name] = idle.measure(
                    port, process.pid, self.options.idle_clients, rig.USER, rig.DATABASE)


def describe(options):
    """What a reader must know to compare this run with another one."""
    pgbouncer = rig.pgbouncer_path()
    version = subprocess.run([pgbouncer, "--version"], capture_output=True, text=True,
                             check=True).stdout.split("\n")[0].split()[-1] if pgbouncer else "none"
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "kernel": os.uname().release,
            "cpus": len(os.sched_getaffinity(0)), "pgbouncer": version, "clients": options.clients,
            "pool": options.pool_size, "rounds": options.rounds, "seconds": options.seconds,
            "scale": options.scale}


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
    parser.add_argument("--pgturnstile", metavar="PATH", help="its binary; left out if not given")
    parser.add_argument("--floor", metavar="PATH", help="its binary; built from floor.c if not given")
    parser.add_argument("--scenarios", type=some_of(scenarios), default=scenarios,
                        help="comma list of " + ", ".join(scenarios))
    parser.add_argument("--passes", type=some_of(PASSES), default=PASSES,
                        help="comma list of " + ", ".join(PASSES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each round")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pool-size", type=int, default=20, help="server connections of each proxy")
    parser.add_argument("--scale", type=int, default=5, help="of pgbench's tables")
    parser.add_argument("--transactions", type=int, default=100,
                        help="per client, for the instruction count")
    parser.add_argument("--idle-clients", type=int, default=2000)
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("bench.json"))
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the tables there")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is not met")
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
        if "idle" in options.passes:
            run.idle()
    return run.results


def main(argv):
    if argv[:1] == ["compare"]:
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
    return int(options.check and not all(is_met for _, is_met in report.bars(results)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
