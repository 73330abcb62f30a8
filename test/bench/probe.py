# SPDX-License-Identifier: ISC
"""probe.py - loads a port with pgbench and tells what that cost a process.

CPU time comes from the scheduler's own account in nanoseconds, never from a wall clock.  Does not
know which proxy it looks at.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import typing

import rig

class Scenario(typing.NamedTuple):
    """What pgbench runs; clients and per_client, if given, instead of what the run asks for."""
    arguments: list
    script: str | None = None
    clients: int | None = None
    per_client: int | None = None

    def options(self, directory, name):
        """Those of pgbench; a script is put into the directory."""
        if not self.script:
            return self.arguments
        path = pathlib.Path(directory) / f"{name}.sql"
        path.write_text(self.script)
        return [*self.arguments, "-f", path]


SCENARIOS = {
    "simple": Scenario(["-S", "-M", "simple"]),
    "extended": Scenario(["-S", "-M", "extended"]),
    "prepared": Scenario(["-S", "-M", "prepared"]),
    "connect": Scenario(["-S", "-M", "simple", "-C"]),
    "tpcb": Scenario(["-b", "tpcb-like", "-M", "simple"]),
    "pipeline": Scenario(["-M", "extended"], "\\startpipeline\n" + 100 * "SELECT 2;\n"
                         + "\\endpipeline\n", clients=8, per_client=10),
    "rows": Scenario(["-M", "simple"], "SELECT aid, bid, abalance, filler FROM pgbench_accounts "
                     "LIMIT 200000;\n", clients=2, per_client=2),
    "values": Scenario(["-M", "simple"], "SELECT repeat('x', 8000000);\n", clients=2,
                       per_client=5),
}
SYSCALLS = ("recvfrom", "sendto", "epoll_wait", "epoll_ctl", "read", "write", "recvmsg", "sendmsg")


class ProbeError(Exception):
    """A run that gave no figure; the text says why."""


def pgbench(port, scenario, clients, seconds=None, per_client=None, wrapper=()):
    """One run of pgbench: {"transactions", "tps", "latency_ms"}; or ProbeError."""
    bound = ["-T", str(seconds)] if seconds else ["-t", str(per_client)]
    with tempfile.TemporaryDirectory() as directory:
        options = SCENARIOS[scenario].options(directory, scenario)
        return _pgbench([*wrapper, rig.PG_BIN / "pgbench", "-n", *options, "-c",
                         str(SCENARIOS[scenario].clients or clients), *bound], port,
                        (seconds or 90) + 30)


def _pgbench(argv, port, timeout):
    with subprocess.Popen(argv, env=rig.pgbench_environment(port), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            output, errors = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ProbeError("pgbench hangs") from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # the wrapper's child too
    if child.returncode != 0:
        raise ProbeError(" / ".join(errors.strip().splitlines()[-3:]))

    def figure(pattern):
        return float(re.search(pattern, output).group(1))

    return {"transactions": int(figure(r"actually processed: (\d+)")),
            "tps": figure(r"tps = ([\d.]+)"), "latency_ms": figure(r"latency average = ([\d.]+)")}


class Usage:
    """What a process has used so far, over those of its threads that still run."""

    def __init__(self, pid):
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.cpu_us = sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1000
        self.user_ticks, self.system_ticks = int(stat[11]), int(stat[12])
        self.switches = sum(int(count) for t in tasks for count in
                            re.findall(r"ctxt_switches:\s*(\d+)", (t / "status").read_text()))

    def per_transaction(self, before, transactions):
        """The scheduler gives the sum in ns; user and system share it as their ticks do."""
        user = self.user_ticks - before.user_ticks
        ticks = user + self.system_ticks - before.system_ticks
        cpu = (self.cpu_us - before.cpu_us) / transactions
        return {"cpu_us": cpu, "user_us": cpu * user / max(ticks, 1),
                "system_us": cpu * (1 - user / max(ticks, 1)),
                "switches": (self.switches - before.switches) / transactions}


def timed(pid, port, scenario, clients, seconds):
    """One round: tps and latency, and with a pid also the process's CPU time per transaction."""
    before = Usage(pid) if pid else None
    result = pgbench(port, scenario, clients, seconds)
    if pid:
        result.update(Usage(pid).per_transaction(before, result["transactions"]))
    return result


def rss_kb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status).group(1))


def syscalls(directory, pid, port, scenario, clients, seconds):
    """System calls per transaction: {"all": .., name: ..}.  perf only counts; strace, where perf
    may not, slows the process down and so shows larger epoll batches than there are."""
    out = directory / "syscalls"
    count = _perf_count if _perf_works() else _strace_count
    result, calls = count(out, pid, lambda wrapper: pgbench(port, scenario, clients, seconds,
                                                            wrapper=wrapper))
    per_transaction = {name: n / result["transactions"] for name, n in calls.items() if n}
    return {"tool": count.__name__.split("_")[1], **per_transaction}


def _perf_events():
    return ",".join(["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{s}" for s in SYSCALLS)])


def _perf_works():
    return shutil.which("perf") and subprocess.run(
        ["perf", "stat", "-e", _perf_events(), "true"], capture_output=True, check=False
    ).returncode == 0


def _perf_count(out, pid, run):
    result = run(["perf", "stat", "-x", ",", "-o", out, "-e", _perf_events(), "-p", str(pid)])
    calls = {}
    for line in out.read_text().splitlines():
        field = line.split(",")
        if len(field) > 2 and field[0].isdigit():
            calls[field[2].rpartition("sys_enter")[2].lstrip("_") or "all"] = int(field[0])
    return result, calls


def _strace_count(out, pid, run):
    argv = ["strace", "-c", "-f", "-o", out, "-p", str(pid)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as strace:
        try:
            strace.stderr.readline()  # "Process .. attached"
            result = run([])
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=20)
    calls = {}
    for line in out.read_text().splitlines():
        field = line.split()
        if len(field) >= 5 and field[3].isdigit():
            calls["all" if field[-1] == "total" else field[-1]] = int(field[3])
    return result, calls


def instructions(bench, name, scenario, clients, per_client, settings=""):
    """User instructions per transaction, counted by callgrind: a run of twice as many transactions
    less a run, so that start, logins and end cancel out.  settings: lines for pgturnstile."""
    clients = SCENARIOS[scenario].clients or clients
    per_client = SCENARIOS[scenario].per_client or per_client
    once, twice = (_callgrind_total(bench, name, scenario, clients, n * per_client, settings)
                   for n in (1, 2))
    return (twice - once) / (clients * per_client)


def _callgrind_total(bench, name, scenario, clients, per_client, settings):
    log = bench.directory / f"{name}.callgrind"
    wrapper = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               f"--log-file={log}"]
    with bench.proxy(name, wrapper, settings) as (_, port):
        pgbench(port, scenario, clients, per_client=per_client)
    total = re.search(r"Collected : (\d+)", log.read_text())
    if not total:
        raise ProbeError("callgrind tells no total")
    return int(total.group(1))
