# SPDX-License-Identifier: ISC
#
# name_server.py - a DNS server of the tests' own, whose answers they change while it runs.
#
# Knows UDP and addresses of IPv4 only.  PermissionError for who may not listen at port 53.
"""NameServer: `addresses` maps a name to (addresses, TTL in seconds)."""
import random
import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """Names without an entry do not exist.  `is_silent`: questions are counted, not answered."""

    def __init__(self, addresses=None):
        self.addresses = dict(addresses or {})
        self.is_silent = False
        self.asked = []  # names, one for each question of an A record
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # c-ares asks port 53 of what a resolv.conf names, so that each server needs an address.
        self.host = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
        self._socket.bind((self.host, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolv_conf(self, directory):
        """The path of a resolv.conf that names this server."""
        path = directory / "resolv.conf"
        path.write_text(f"nameserver {self.host}\n")
        return path

    def close(self):
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            question, peer = self._socket.recvfrom(65535)
            if not question:
                return
            answer = self._answer(dns.message.from_wire(question))
            if not self.is_silent:
                self._socket.sendto(answer, peer)

    def _answer(self, query):
        asked = query.question[0]
        name = asked.name.to_text(omit_final_dot=True)
        response = dns.message.make_response(query, recursion_available=True)
        if name not in self.addresses:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif asked.rdtype == dns.rdatatype.A:
            addresses, ttl = self.addresses[name]
            response.answer.append(dns.rrset.from_text(asked.name, ttl, "IN", "A", *addresses))
        if asked.rdtype == dns.rdatatype.A:
            self.asked.append(name)
        return response.to_wire()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
