# SPDX-License-Identifier: ISC
#
# test_bench.py - test/bench still measures: every scenario and small part gives a figure, and CPU time
# adds up.
#
# Tests no figure: a machine that is busy with tests has none.
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from machine import scratch_dir

BENCH = Path(__file__).resolve().parents[1] / "bench"
BURN = "import time\nwhile time.process_time() < {}: pass\n"
# One child has ended and been waited for, the other is there and has done its work; both say so.
FAMILY = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN.format(0.4)!r}])
child = subprocess.Popen([sys.executable, "-c", {BURN.format(0.3)!r} + "print(time.process_time(), flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(float(child.stdout.readline()), flush=True)
input()
"""


def load_module(name):
    """Of test/bench, some of whose modules have names that are ours too."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cpu_time_of_a_family_adds_up():
    usage = load_module("usage")
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as parent:
        living = float(parent.stdout.readline())
        told = usage.family_cpu_us(parent.pid) / 1e6
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        parent.communicate("\n")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    # The living child is waited for by nobody, so it is in none of what the kernel sums up for us.
    assert living >= 0.3 and told >= 0.7, (living, told)
    assert abs(told - living - used) < 0.1, (living, told, used)


def test_every_small_part_gives_a_figure():
    build = Path(os.environ["PGTURNSTILE"]).resolve().parent
    if not (build / "Makefile").exists():
        pytest.skip("no build of ours")
    subprocess.run(["make", "-s", "-C", build, "test/bench/micro"], check=True)
    done = subprocess.run([sys.executable, BENCH / "micro.py", "--quick", build / "test/bench/micro"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = {name: float(ns) for name, ns in re.findall(r"^\| ([^|]+) \| ([0-9.]+) \|", done.stdout, re.MULTILINE)}
    parts = re.findall(r'^\t\{ ?"([^"]+)", +bench_', (BENCH / "micro.c").read_text(), re.MULTILINE)
    assert parts and list(figures) == parts and min(figures.values()) >= 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_scenario_gives_a_figure():
    saved = scratch_dir("bench") / "bench.json"
    begun = time.monotonic()
    done = subprocess.run(["sh", BENCH / "run.sh", "--quick", "--bars", "--passes", "timed,idle", "--json", saved,
                           "--pgturnstile", os.environ["PGTURNSTILE"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(saved.read_text())
    assert results["errors"] == [], done.stderr
    for scenario, targets in results["scenarios"].items():
        for target, entry in targets.items():
            assert entry["rounds"][0]["tps"] > 0, (scenario, target, time.monotonic() - begun)
    assert "| COPY in: proxy CPU per MB / PgBouncer | ≤ 0.65 |" in done.stdout, done.stdout
