# SPDX-License-Identifier: ISC
"""usage.py - what a process has used: CPU time of itself, its threads and its children, and memory.

Reads /proc; starts nothing and knows no proxy.
"""

import os
import pathlib
import re
import time

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def _thread_cpu_us(pid):
    """Of each thread that still runs."""
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1000
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}


def _stat(pid):
    """The fields of /proc/PID/stat from the state on."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Usage:
    """What a process has used so far, over those of its threads that still run."""

    def __init__(self, pid):
        stat = _stat(pid)
        self.threads = _thread_cpu_us(pid)
        self.cpu_us = sum(self.threads.values())
        self.user_ticks, self.system_ticks = int(stat[11]), int(stat[12])
        self.switches = sum(
            int(count) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for count in re.findall(r"ctxt_switches:\s*(\d+)", (task / "status").read_text()))

    def per_transaction(self, before, transactions):
        """The scheduler gives the sum in ns; user and system share it as their ticks do."""
        user = self.user_ticks - before.user_ticks
        ticks = user + self.system_ticks - before.system_ticks
        cpu = (self.cpu_us - before.cpu_us) / transactions
        busiest = max(us - before.threads.get(thread, 0) for thread, us in self.threads.items())
        return {"cpu_us": cpu, "user_us": cpu * user / max(ticks, 1),
                "system_us": cpu * (1 - user / max(ticks, 1)),
                "busiest_us": busiest / transactions,
                "switches": (self.switches - before.switches) / transactions}


def family_cpu_us(pid):
    """CPU time of a process and of all its children, those included that have ended: of the living
    ones in ns, of the dead ones, which their parent has waited for, in ticks.  A child that ends
    meanwhile would be counted twice or not at all, so it is read again until none has."""
    while True:
        before = _children(pid)
        stat = _stat(pid)
        living = 0.0
        try:
            for child in before:
                if _stat(child)[0] == "Z":
                    raise ProcessLookupError  # dies, and is not counted as dead yet
                living += sum(_thread_cpu_us(child).values())
        except (ProcessLookupError, FileNotFoundError):
            time.sleep(0.005)
            continue
        dead = (int(stat[13]) + int(stat[14])) * TICK_US
        if before == _children(pid) and stat[13:15] == _stat(pid)[13:15]:
            return living + dead + sum(_thread_cpu_us(pid).values())


def _children(pid):
    return sorted(int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                  for child in (task / "children").read_text().split())


def rss_kb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status).group(1))
