# SPDX-License-Identifier: ISC
#
# stage.py - what the long suites share: servers of their own, clients as threads and processes, a
# closing table.  Knows nothing of what is measured.
"""Stage: a primary, maybe a replica, poolers; Table: what was asked and what came out."""
import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
os.environ.setdefault("PGTURNSTILE", str(Path(__file__).resolve().parents[2] / "build/plain/pgturnstile"))

import raw  # noqa: E402,F401
from cluster import Postgres  # noqa: E402
from turnstile import Turnstile  # noqa: E402

USER, PASSWORD, DATABASE = "app", "app-password", "shop"


class Stage(contextlib.ExitStack):
    """Everything it starts ends with it."""

    def primary(self, **settings):
        server = Postgres.primary(**settings)
        self.callback(server.remove)
        server.role(USER, PASSWORD)
        server.sql(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        return server

    def replica_of(self, primary):
        server = Postgres.replica_of(primary)
        self.callback(server.remove)
        return server

    def prepared_turnstile(self, config, users=None):
        """One that is still to be started."""
        pooler = Turnstile(config, {USER: PASSWORD, **(users or {})})
        self.callback(pooler.remove)
        return pooler

    def turnstile(self, config, users=None):
        return self.prepared_turnstile(config, users).start()


class Table:
    """Rows of (what, asked, got, held), printed as Markdown; the exit code of the suite."""

    def __init__(self):
        self.rows = []

    def add(self, what, asked, got, held):
        self.rows.append((what, asked, got, bool(held)))
        print(f"{'held' if held else 'NOT HELD'}: {what}: {got} (asked: {asked})", flush=True)

    def finish(self):
        print("\n| what | asked | got | held |\n| --- | --- | --- | --- |")
        for what, asked, got, held in self.rows:
            print(f"| {what} | {asked} | {got} | {'yes' if held else 'NO'} |")
        failed = sum(not row[3] for row in self.rows)
        print(f"\n{len(self.rows) - failed} passed, {failed} failed")
        return 1 if failed else 0
