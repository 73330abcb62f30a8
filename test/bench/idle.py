#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""idle.py - what an idle client costs a proxy in memory.

Logs in many clients (trust) and compares the process's Pss and Rss before and after.  Kernel
memory of the sockets is not part of it.
"""

import argparse
import contextlib
import resource

import wire


def memory_kb(pid):
    """The process's memory in KiB: {"Rss": .., "Pss": .., "Private_Dirty": .., ..}."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        next(rollup)
        return {key.rstrip(":"): int(value) for key, value, *_ in map(str.split, rollup)}


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(port, pid, clients, user, database):
    """Memory per idle client in bytes, and the process's before and after in KiB."""
    with contextlib.ExitStack() as stack:
        def login():
            stack.callback(wire.Client(port, user, database).close)

        login()  # what the first client sets up once is not the price of the others
        before = memory_kb(pid)
        for _ in range(clients):
            login()
        after = memory_kb(pid)
    result = {"clients": clients}
    for kind in ("Pss", "Rss"):
        result[f"{kind.lower()}_before_kb"] = before[kind]
        result[f"{kind.lower()}_after_kb"] = after[kind]
        result[f"{kind.lower()}_per_client"] = round((after[kind] - before[kind]) * 1024 / clients)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="where the proxy listens")
    parser.add_argument("--pid", type=int, required=True, help="the proxy's process")
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--user", default="bench")
    parser.add_argument("--database", default="bench")
    options = parser.parse_args()
    raise_descriptor_limit()
    for key, value in measure(**vars(options)).items():
        print(f"{key:16} {value}")


if __name__ == "__main__":
    main()
