# SPDX-License-Identifier: ISC
"""probe.py - loads a port and tells what that cost a process.

CPU time comes from the scheduler's own account in nanoseconds, never from a wall clock.  Does not
know which proxy it looks at.
"""

import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import rig
import usage
from scenarios import SCENARIOS, Load
from targets import DATABASE, PASSWORD, USER, client_environment

SYSCALLS = ("recvfrom", "sendto", "epoll_wait", "epoll_ctl", "read", "write", "recvmsg", "sendmsg")


class ProbeError(Exception):
    """A run that gave no figure; the text says why."""


# ---- loads -----------------------------------------------------------------------------------------


def load(bench, port, scenario, clients, seconds=None, per_client=None, wrapper=(),
         begin=lambda: None):
    """One run: {"transactions", "tps", "latency_ms", "p50_us", "p95_us", "p99_us"}, of load.c also
    "megabytes" and "resumed_share"; or ProbeError.  begin() is called ahead of the load; load.c's
    clients that stay have logged in by then."""
    row = SCENARIOS[scenario]
    bound = ["-T", str(seconds)] if seconds else ["-t", str(per_client)]
    run = _load if isinstance(row.load, Load) else _pgbench
    return run(bench, [*wrapper], row, scenario, port, [*bound, "-c", str(row.clients or clients)],
               (seconds or 90) + 30, begin)


def _pgbench(bench, argv, row, scenario, port, bound, timeout, begin):
    begin()
    with tempfile.TemporaryDirectory() as directory:
        output = _run([*argv, rig.PG_BIN / "pgbench", "-n", *row.load.options(directory, scenario),
                       "-l", "--log-prefix", f"{directory}/latency", *bound],
                      client_environment(port, row.access), timeout)
        times = [int(line.split()[2]) for path in pathlib.Path(directory).glob("latency.*")
                 for line in path.read_text().splitlines()]
    if not times:
        raise ProbeError("no transaction was finished")

    def figure(pattern):
        return float(re.search(pattern, output).group(1))

    return {"transactions": int(figure(r"actually processed: (\d+)")),
            "tps": figure(r"tps = ([\d.]+)"), "latency_ms": figure(r"latency average = ([\d.]+)"),
            **_percentiles(times)}


def _load(bench, argv, row, scenario, port, bound, timeout, begin):
    told = _run([*argv, bench.binaries["load"], "-p", str(port), "-u", USER, "-d", DATABASE,
                 "-w", PASSWORD, *row.load.arguments, *bound], client_environment(port), timeout,
                begin)
    told = {name: int(value) for name, value in map(str.split, told.splitlines())}
    clients = int(bound[bound.index("-c") + 1])
    return {"transactions": told["transactions"],
            "resumed_share": told["resumed"] / told["transactions"],
            "tps": told["transactions"] * 1e6 / told["microseconds"],
            "latency_ms": told["microseconds"] * clients / told["transactions"] / 1000,
            "megabytes": told["bytes"] / 1e6, "p50_us": told["p50"], "p95_us": told["p95"],
            "p99_us": told["p99"]}


def _run(argv, environment, timeout, begin=None):
    """What a program prints.  With begin, one that says that it is ready by an empty line, and goes
    on when it has got one."""
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            is_ready = bool(begin) and child.stdout.readline() == "\n"
            if is_ready:
                begin()
            output, errors = child.communicate("\n" if is_ready else "", timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ProbeError("the load hangs") from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # the wrapper's child too
    if child.returncode != 0:
        raise ProbeError(" / ".join(errors.strip().splitlines()[-3:]))
    return output


def _percentiles(times):
    if len(times) < 2:
        return {}
    cuts = statistics.quantiles(times, n=100)
    return {"p50_us": cuts[49], "p95_us": cuts[94], "p99_us": cuts[98]}


# ---- CPU time --------------------------------------------------------------------------------------


def _servers_cpu_us(bench):
    return sum(usage.family_cpu_us(pid) for pid in bench.postmasters())


def timed(bench, pid, port, scenario, clients, **amount):
    """One round: tps and latency, and with a pid also the process's CPU time per transaction; where
    the scenario says so, that of the servers, and both."""
    before = []
    result = load(bench, port, scenario, clients,
                  begin=lambda: before.append(usage.Usage(pid) if pid else None), **amount)
    if pid:
        result.update(usage.Usage(pid).per_transaction(before[0], result["transactions"]))
    if pid and result.get("megabytes", 0) > result["transactions"]:
        result["cpu_per_mb"] = result["cpu_us"] * result["transactions"] / result["megabytes"]
    if SCENARIOS[scenario].counts_server:
        result["server_us"] = _server_us(bench, port, scenario, clients, **amount)
        result["both_us"] = result["server_us"] + result.get("cpu_us", 0)
    return result


def _server_us(bench, port, scenario, clients, **amount):
    """The servers' CPU time per transaction.  A backend's start, which direct connections cost anew in
    each round, would be in it: so it is that of a run less that of one transaction for each client."""
    def run(**how):
        before = _servers_cpu_us(bench)
        return load(bench, port, scenario, clients, **how)["transactions"], _servers_cpu_us(bench) - before

    many, us = run(**amount)
    few, us_of_few = run(per_client=1)
    return (us - us_of_few) / (many - few)


# ---- system calls ----------------------------------------------------------------------------------


def syscalls(bench, pid, port, scenario, clients, **amount):
    """System calls per transaction: {"all": .., name: ..}.  perf only counts; strace, where perf
    may not, slows the process down and so shows larger epoll batches than there are."""
    out = bench.directory / "syscalls"
    count = _perf_count if _perf_works() else _strace_count
    result, calls = count(out, pid, lambda wrapper: load(bench, port, scenario, clients,
                                                         wrapper=wrapper, **amount))
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


# ---- instructions ----------------------------------------------------------------------------------


def instructions(bench, target, scenario, clients, per_client, settings="", within=(), but=()):
    """User instructions per transaction, counted by callgrind: a run of twice as many transactions
    less a run, so that start, logins and end cancel out.  settings: lines for pgturnstile.  within:
    only these functions are counted, with all that they call but these; none may call another."""
    row = SCENARIOS[scenario]
    clients = row.clients or clients
    per_client = row.per_client or per_client
    once, twice = (_callgrind_total(bench, target, scenario, clients, n * per_client, settings, within,
                                     but) for n in (1, 2))
    return (twice - once) / (clients * per_client)


def median_instructions(counts, *what):
    """Of so many counts: which sockets are ready at once differs from run to run."""
    return statistics.median(instructions(*what) for _ in range(counts))


def routing(bench, scenario, transactions, settings):
    """The same of what handles the two sides of one client.  What else the process does is more than what
    is looked for, and so is a shape's proof, which is made anew when the catalog has been read."""
    return instructions(bench, "routed", scenario, 1, transactions, settings,
                        within=("request_process", "answer_on_readable"), but=("sql_classify_parse",))


def _callgrind_total(bench, target, scenario, clients, per_client, settings, within, but):
    log, out = (bench.directory / f"{target}.callgrind.{name}" for name in ("log", "out"))
    wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--log-file={log}"]
    with bench.target(target, SCENARIOS[scenario].access, wrapper, settings) as (_, port):
        load(bench, port, scenario, clients, per_client=per_client)
    if within:
        return sum(_inclusive(out, name) for name in within) - sum(_inclusive(out, name) for name in but)
    total = re.search(r"Collected : (\d+)", log.read_text())
    if not total:
        raise ProbeError("callgrind tells no total")
    return int(total.group(1))


def _inclusive(out, function):
    table = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--show-percs=no",
                            "--auto=no", out], capture_output=True, text=True, check=False).stdout
    row = re.search(rf"^ *([\d,]+) +\S*:{function} \[", table, re.MULTILINE)
    return int(row.group(1).replace(",", "")) if row else 0
