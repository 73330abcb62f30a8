# SPDX-License-Identifier: ISC
#
# switch.py - one address behind which one of several servers answers.
#
# Passes bytes on; knows nothing of what they mean.
"""Switch: a TCP address whose server may be changed, as behind a virtual address or a balancer."""
import contextlib
import socket
import threading


class Switch:
    """Connections to `.port` go to `.target`, which is whichever server is set."""

    host = "127.0.0.1"

    def __init__(self, target):
        self.target = target
        self._ends = set()
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                try:
                    outer = socket.create_connection((self.target.host, self.target.port))
                except OSError:
                    inner.close()
                    continue
                self._ends |= {inner, outer}
                for pair in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            self._end(end)

    def _end(self, end):
        self._ends.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    def turn_to(self, target):
        """Connect to another server from now on; connections to the last one end."""
        self.target = target
        for end in list(self._ends):
            self._end(end)

    def close(self):
        self._listener.close()
