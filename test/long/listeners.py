#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# listeners.py - a thousand clients listen over one server connection for each worker.
#
# Every client listens on one of a few channels or on all of them; sessions on the server are
# sampled without a pause while others notify, in transactions of several notifications.
"""Each listener gets each notification of its channels once, in order; no listener has a server."""
import collections
import contextlib
import os
import resource
import select
import sys
import threading

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../integration"))
from test_listen import notification  # noqa: E402

LISTENERS = int(os.environ.get("PGT_LISTENERS", "1000"))
CHANNELS = [f"channel{n}" for n in range(5)]
SPEAKERS, POOL, WORKERS = 4, 4, 2
TRANSACTIONS = int(os.environ.get("PGT_TRANSACTIONS", "200"))


def listens_on(number):
    return CHANNELS if number % 10 == 0 else [CHANNELS[number % len(CHANNELS)]]


def speak(client, number, sent):
    """Transactions of one to three notifications; what was sent, in order, by channel."""
    for n in range(TRANSACTIONS):
        texts = [(CHANNELS[(n + k) % len(CHANNELS)], f"{number}:{n}:{k}") for k in range(n % 3 + 1)]
        client.query("BEGIN")
        for channel, payload in texts:
            client.query(f"NOTIFY {channel}, '{payload}'")
        client.query("COMMIT")
        sent.extend(texts)


class Sampler(threading.Thread):
    """The most sessions of the application that the server had at once."""

    def __init__(self, primary):
        super().__init__(daemon=True)
        self._primary, self._over, self.most = primary, threading.Event(), 0

    def run(self):
        with self._primary.connect() as connection:
            while not self._over.is_set():
                n, = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s",
                                        [USER]).fetchone()
                self.most = max(self.most, n)

    def stop(self):
        self._over.set()
        self.join()
        return self.most


def collect(listeners, expected):
    """What each listener gets, until it has as many as were sent to it and 1 s of silence."""
    got = {client: [] for client in listeners}
    poll = select.poll()
    by_fd = {client.sock.fileno(): client for client in listeners}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    complete = lambda: all(len(got[c]) >= expected[c] for c in listeners)  # noqa: E731
    while True:
        ready = poll.poll(1000 if complete() else 30000)
        if not ready:
            return got
        for fd, _ in ready:
            message = by_fd[fd].message()
            assert message.kind == "A", message.kind
            got[by_fd[fd]].append(notification(message))


def order_by_speaker(notifications):
    """The payloads of each speaker, as they came."""
    result = collections.defaultdict(list)
    for _, channel, payload in notifications:
        result[payload.split(":")[0]].append((channel, payload))
    return result


def main():
    table = Table()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(
        resource.RLIMIT_NOFILE)[1]),) * 2)
    with Stage() as stage, contextlib.ExitStack() as clients:
        primary = stage.primary()
        t = stage.turnstile({
            "pgturnstile": {"pool_mode": "transaction", "default_pool_size": POOL,
                            "workers": WORKERS, "max_client_conn": LISTENERS + 100,
                            "server_tls_sslmode": "disable", "listen_backlog": 1024},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})
        sampler = Sampler(primary)
        sampler.start()

        def log_in():
            return clients.enter_context(raw.RawClient(t.port, t.host, 60).login(
                USER, DATABASE, PASSWORD))

        listeners = [log_in() for _ in range(LISTENERS)]
        for number, client in enumerate(listeners):
            for channel in listens_on(number):
                assert raw.kinds(client.query(f"LISTEN {channel}")) == "CZ"
        shown = len(t.admin("SHOW LISTENERS"))
        table.add("channels of clients in SHOW LISTENERS",
                  sum(len(listens_on(n)) for n in range(LISTENERS)), shown,
                  shown == sum(len(listens_on(n)) for n in range(LISTENERS)))

        speakers = [log_in() for _ in range(SPEAKERS)]
        sent = [[] for _ in speakers]
        threads = [threading.Thread(target=speak, args=(client, n, sent[n]))
                   for n, client in enumerate(speakers)]
        for thread in threads:
            thread.start()
        total = collections.Counter()
        for n in range(TRANSACTIONS):
            for k in range(n % 3 + 1):
                total[CHANNELS[(n + k) % len(CHANNELS)]] += SPEAKERS
        expected = {client: sum(total[c] for c in listens_on(number))
                    for number, client in enumerate(listeners)}
        got = collect(listeners, expected)
        for thread in threads:
            thread.join()

        missing = doubled = disorder = strangers = 0
        pids = {str(n): client.pid for n, client in enumerate(speakers)}
        reference = {}
        for number, client in enumerate(listeners):
            mine = got[client]
            channels = set(listens_on(number))
            doubled += len(mine) - len(set(mine))
            by_speaker = order_by_speaker(mine)
            for n, texts in enumerate(sent):
                wanted = [text for text in texts if text[0] in channels]
                missing += len(set(wanted) - set(by_speaker[str(n)]))
                disorder += by_speaker[str(n)] != wanted
            # All who listen on the same hear the same, in one order.
            disorder += reference.setdefault(tuple(sorted(channels)), mine) != mine
            strangers += sum(pid != pids[payload.split(":")[0]] for pid, _, payload in mine)
        delivered = sum(map(len, got.values()))
        table.add("notifications that came", sum(expected.values()), delivered,
                  delivered == sum(expected.values()))
        table.add("missing", 0, missing, missing == 0)
        table.add("twice", 0, doubled, doubled == 0)
        table.add("listeners with another order than was committed", 0, disorder, disorder == 0)
        table.add("notifications with another pid than the speaker was told", 0, strangers,
                  strangers == 0)
        most = sampler.stop()
        table.add("sessions on the server at once, one of them listening", f"<= {POOL + 1}", most,
                  most <= POOL + 1)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
