# SPDX-License-Identifier: ISC
#
# raw.py - the wire protocol byte by byte: a client and a scriptable server.
#
# Nothing here corrects what it is told to send, and nothing is hidden of what is received.
# Uses neither libpq nor psycopg.  Source: PostgreSQL documentation, chapter "Frontend/Backend
# Protocol"; RFC 5802 and 7677 for SCRAM.
"""RawClient, FakeServer, and a builder for every message that they exchange."""
import base64
import hashlib
import hmac
import os
import socket
import struct
import threading
from dataclasses import dataclass

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
_CANCEL_CODE = 80877102
TEXT_OID = 25


# --- messages ---------------------------------------------------------------------------------
def message(kind, *parts):
    """A message of type `kind` (one letter); str parts become NUL-terminated, bytes stay."""
    body = b"".join(p if isinstance(p, bytes) else p.encode() + b"\0" for p in parts)
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def _int16(*values):
    return struct.pack(f"!{len(values)}h", *values)


def _int32(*values):
    return struct.pack(f"!{len(values)}i", *values)


def _value(value):
    if value is None:
        return _int32(-1)
    data = value if isinstance(value, bytes) else str(value).encode()
    return _int32(len(data)) + data


def _values(values):
    return _int16(len(values)) + b"".join(map(_value, values))


# From the client.
def startup(parameters, version=(3, 0)):
    pairs = b"".join(f"{key}\0{value}\0".encode() for key, value in parameters.items())
    body = struct.pack("!HH", *version) + pairs + b"\0"
    return _int32(len(body) + 4) + body


def cancel_request(pid, key):
    """`key` is bytes: four in protocol 3.0, up to 256 in 3.2."""
    return _int32(12 + len(key), _CANCEL_CODE, pid) + key


def query(sql):
    return message("Q", sql)


def parse(name, sql, oids=()):
    return message("P", name, sql, _int16(len(oids)) + _int32(*oids))


def bind(portal="", statement="", values=(), formats=(), result_formats=()):
    return message("B", portal, statement, _int16(len(formats), *formats), _values(values),
                   _int16(len(result_formats), *result_formats))


def describe(kind, name=""):
    """kind: "S" for a statement, "P" for a portal."""
    return message("D", kind.encode(), name)


def execute(portal="", max_rows=0):
    return message("E", portal, _int32(max_rows))


def close(kind, name=""):
    return message("C", kind.encode(), name)


def sync():
    return message("S")


def flush():
    return message("H")


def terminate():
    return message("X")


def password(text):
    return message("p", text)


def copy_data(data):
    return message("d", data)


def copy_done():
    return message("c")


def copy_fail(reason):
    return message("f", reason)


# From the server.
def auth_ok():
    return message("R", _int32(0))


def auth_cleartext():
    return message("R", _int32(3))


def auth_md5(salt):
    return message("R", _int32(5), salt)


def auth_sasl(mechanisms=("SCRAM-SHA-256",)):
    return message("R", _int32(10), *mechanisms, b"\0")


def auth_sasl_continue(data):
    return message("R", _int32(11), data)


def auth_sasl_final(data):
    return message("R", _int32(12), data)


def parameter_status(key, value):
    return message("S", key, value)


def backend_key_data(pid, key):
    return message("K", _int32(pid), key)


def ready(status="I"):
    return message("Z", status.encode())


def row_description(*names):
    """Columns of type text."""
    fields = b"".join(name.encode() + b"\0" + struct.pack("!ihihih", 0, 0, TEXT_OID, -1, -1, 0)
                      for name in names)
    return message("T", _int16(len(names)), fields)


def data_row(*values):
    return message("D", _values(values))


def command_complete(tag):
    return message("C", tag)


def parse_complete():
    return message("1")


def bind_complete():
    return message("2")


def close_complete():
    return message("3")


def error(sqlstate, text, severity="ERROR"):
    return message("E", f"S{severity}", f"V{severity}", f"C{sqlstate}", f"M{text}", b"\0")


def notice(sqlstate, text, severity="NOTICE"):
    return message("N", f"S{severity}", f"V{severity}", f"C{sqlstate}", f"M{text}", b"\0")


def notification(pid, channel, payload=""):
    return message("A", _int32(pid), channel, payload)


@dataclass(frozen=True)
class Message:
    """One received message; the properties decode a body of the kind that they name."""

    kind: str
    body: bytes

    @property
    def raw(self):
        return message(self.kind, self.body)

    @property
    def text(self):
        """A body that is one string: CommandComplete, Query, PasswordMessage."""
        return self.body.rstrip(b"\0").decode()

    @property
    def strings(self):
        """A body that is a list of strings: ParameterStatus, the start of Parse and Bind."""
        return [part.decode(errors="replace") for part in self.body.split(b"\0")]

    @property
    def fields(self):
        """ErrorResponse, NoticeResponse: {"C": sqlstate, "M": text, …}."""
        return {part[:1].decode(): part[1:].decode() for part in self.body.split(b"\0") if part}

    @property
    def number(self):
        """The first 32-bit number: the code of an Authentication message, the pid of a key."""
        return struct.unpack_from("!i", self.body)[0]

    @property
    def row(self):
        """DataRow: a tuple of str or None."""
        values, at = [], 2
        for _ in range(struct.unpack_from("!h", self.body)[0]):
            size = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            values.append(None if size < 0 else self.body[at:at + size].decode())
            at += max(size, 0)
        return tuple(values)


def kinds(messages):
    """Their types as one string, such as "TDCZ"."""
    return "".join(m.kind for m in messages)


def find(messages, kind):
    """The messages of one type."""
    return [m for m in messages if m.kind == kind]


# --- passwords --------------------------------------------------------------------------------
def md5_answer(user, secret, salt):
    inner = hashlib.md5((secret + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


def _hmac(key, data):
    return hmac.digest(key, data, "sha256")


def _xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right))


def _attributes(text):
    """A SCRAM message as {letter: value}; values may contain '='."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


class Scram:
    """One SCRAM-SHA-256 exchange, either side; ASCII passwords.

    A client says `header` first and `bound` last: what the exchange is bound to stands behind the
    same header there.
    """

    def __init__(self, secret, header="n,,", bound=b"n,,"):
        self._secret = secret.encode()
        self._nonce = base64.b64encode(os.urandom(18)).decode()
        self._header, self._bound = header, base64.b64encode(bound).decode()

    def _derive(self, salt, iterations, transcript):
        salted = hashlib.pbkdf2_hmac("sha256", self._secret, salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        stored = hashlib.sha256(client_key).digest()
        self._proof = _xor(client_key, _hmac(stored, transcript.encode()))
        self._verifier = _hmac(_hmac(salted, b"Server Key"), transcript.encode())

    # The client's three steps.
    def client_first(self):
        self._client_first = f"n=,r={self._nonce}"
        return self._header + self._client_first

    def client_final(self, server_first):
        got = _attributes(server_first)
        assert got["r"].startswith(self._nonce), "server changed the client's nonce"
        without_proof = f"c={self._bound},r={got['r']}"
        self._derive(base64.b64decode(got["s"]), int(got["i"]),
                     f"{self._client_first},{server_first},{without_proof}")
        return f"{without_proof},p={base64.b64encode(self._proof).decode()}"

    def client_verify(self, server_final):
        proof = base64.b64decode(_attributes(server_final)["v"])
        assert proof == self._verifier, "server does not know the secret"

    # The server's two.
    def server_first(self, client_first, iterations=4096):
        self._client_first = client_first.split(",", 2)[2]
        nonce = _attributes(self._client_first)["r"] + self._nonce
        self._salt, self._iterations = os.urandom(16), iterations
        salt = base64.b64encode(self._salt).decode()
        self._server_first = f"r={nonce},s={salt},i={iterations}"
        return self._server_first

    def server_final(self, client_final):
        """The last message, or None when the client does not know the secret."""
        without_proof, proof = client_final.rsplit(",p=", 1)
        self._derive(self._salt, self._iterations,
                     f"{self._client_first},{self._server_first},{without_proof}")
        if base64.b64decode(proof) != self._proof:
            return None
        return f"v={base64.b64encode(self._verifier).decode()}"


# --- streams ----------------------------------------------------------------------------------
class Stream:
    """A connected socket that speaks in messages.  Every wait ends after `timeout` seconds."""

    def __init__(self, sock, timeout=10.0):
        self.sock = sock
        self.sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with a TCP reset, as a machine that has died does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, *parts):
        """Send bytes as they are, in one write."""
        self.sock.sendall(b"".join(parts))

    def receive(self, size):
        """Exactly `size` bytes; EOFError when the stream ends before."""
        data = bytearray()
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError(f"closed after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

    def message(self):
        """The next message."""
        kind, size = struct.unpack("!ci", self.receive(5))
        return Message(kind.decode("latin-1"), self.receive(size - 4))

    def until(self, *stop):
        """The messages up to and with the first whose type is in `stop`."""
        messages = [self.message()]
        while messages[-1].kind not in stop:
            messages.append(self.message())
        return messages

    def until_closed(self):
        """The messages up to the end of the stream; a reset counts as one."""
        messages = []
        try:
            while True:
                messages.append(self.message())
        except (EOFError, ConnectionError):
            return messages


class LoginRefused(Exception):
    """The server has ended the login; `.fields` of its ErrorResponse."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")
        self.fields = fields


class RawClient(Stream):
    """A client that has connected and sent nothing; login() does what a driver does."""

    def __init__(self, port, host="127.0.0.1", timeout=10.0, source=None):
        """`source`: the address that it comes from, as 127.0.0.2."""
        super().__init__(socket.create_connection((host, port), timeout, source and (source, 0)),
                         timeout)
        self._address = (host, port)
        self.parameters = {}
        self.pid = self.key = None

    def login(self, user, dbname, secret="", version=(3, 0), **parameters):
        """Startup and authentication (trust, plain, md5, SCRAM) up to ReadyForQuery.

        Returns self; LoginRefused when the server says no.
        """
        self.send(startup({"user": user, "database": dbname, **parameters}, version))
        scram = Scram(secret)
        while True:
            got = self.message()
            if got.kind == "R":
                self._authenticate(got, user, secret, scram)
            elif got.kind == "S":
                self.parameters.update([got.strings[:2]])
            elif got.kind == "K":
                self.pid, self.key = got.number, got.body[4:]
            elif got.kind == "E":
                raise LoginRefused(got.fields)
            elif got.kind == "Z":
                return self

    def _authenticate(self, request, user, secret, scram):
        code, data = request.number, request.body[4:]
        if code == 3:
            self.send(password(secret))
        elif code == 5:
            self.send(password(md5_answer(user, secret, data)))
        elif code == 10:
            self.send(message("p", "SCRAM-SHA-256", _value(scram.client_first())))
        elif code == 11:
            self.send(message("p", scram.client_final(data.decode()).encode()))
        elif code == 12:
            scram.client_verify(data.decode())
        else:
            assert code == 0, f"unknown authentication request {code}"

    def query(self, sql):
        """A simple query; all messages up to ReadyForQuery."""
        self.send(query(sql))
        return self.until("Z")

    def rows(self, sql):
        """The rows of a simple query; AssertionError with the server's fields on an error."""
        messages = self.query(sql)
        errors = find(messages, "E")
        assert not errors, errors[0].fields
        return [m.row for m in find(messages, "D")]

    def prepared(self, sql, values=(), name=""):
        """Parse, Bind, Describe, Execute and Sync in one write; all messages up to ReadyForQuery."""
        self.send(parse(name, sql), bind("", name, values), describe("P"), execute(), sync())
        return self.until("Z")

    def cancel(self):
        """Ask for a cancel on a second connection; returns when the server has closed that."""
        with RawClient(self._address[1], self._address[0]) as other:
            other.send(cancel_request(self.pid, self.key))
            other.until_closed()


# --- a server ---------------------------------------------------------------------------------
class ServerSession(Stream):
    """One connection to a FakeServer, logged in: what the script gets."""

    def __init__(self, sock, number):
        super().__init__(sock)
        self.number = number  # counts the sessions of the server from 0; also the pid
        self.parameters = {}

    def message(self):
        """The next one that is not about the database's own code: there is none."""
        while True:
            got = super().message()
            if got.kind != "Q" or "WITH RECURSIVE own(" not in got.text:
                return got
            self.send(command_complete("SELECT 0"), ready())


def answer_queries(session):
    """A script: each Query gets its own text as the one row, until Terminate or the end."""
    try:
        while (got := session.message()).kind != "X":
            if got.kind == "Q":
                session.send(row_description("text"), data_row(got.text),
                             command_complete("SELECT 1"), ready())
    except EOFError:
        pass


class FakeServer:
    """A server on `.port` that logs clients in and hands each session to `script(session)`.

    login: "trust", "plain", "md5", "scram", or a function of the session that does it all.
    tls_answer: what it says to an SSLRequest; it does not speak TLS.
    on_cancel: called when a cancel request has come, before its connection is closed.
    directory: of a Unix socket, in place of TCP.
    What the script raises is raised again by close(), which leaving the `with` block calls.
    Each connection has its own thread; the script ends when it likes, and the connection with it.
    """

    def __init__(self, script=answer_queries, login="trust", secret="", parameters=None,
                 tls_answer=b"N", on_cancel=lambda: None, directory=None):
        self._script, self._secret, self._tls_answer = script, secret, tls_answer
        self._on_cancel = on_cancel
        self._login = login if callable(login) else getattr(self, f"_login_{login}")
        self.parameters = {"server_version": "15.0", "client_encoding": "UTF8",
                           "server_encoding": "UTF8", "standard_conforming_strings": "on",
                           "DateStyle": "ISO, MDY", "TimeZone": "Etc/UTC",
                           "integer_datetimes": "on", **(parameters or {})}
        self.startups = []  # the parameters of each session, in order
        self.cancels = []   # (pid, key) of each cancel request
        self._failures, self._threads, self._sockets = [], [], []
        self._lock = threading.Lock()
        if directory:
            self.host, self.port = str(directory), 5432
            self._listener = socket.create_server(f"{directory}/.s.PGSQL.5432", family=socket.AF_UNIX)
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host, self.port = self._listener.getsockname()
        self._start_thread(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except BaseException:
            if kind is None:  # the test's own failure says more
                raise

    def close(self):
        """End all sessions and raise the first failure of a script."""
        self.stop_listening()
        for sock in list(self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already closed by its script or its peer
        for thread in list(self._threads):
            thread.join(10)
        if self._failures:
            raise self._failures[0]

    def stop_listening(self):
        """Who connects from now on is refused; sessions go on."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _start_thread(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._start_thread(self._serve, sock)

    def _serve(self, sock):
        with sock:
            try:
                session = self._receive_startup(Stream(sock))
                if session:
                    self._login(session)
                    self._script(session)
            except (EOFError, ConnectionError):
                pass  # the peer has left; a script that minds catches it itself
            except BaseException as failure:  # whatever it is, the test has to hear of it
                self._failures.append(failure)

    def _receive_startup(self, stream):
        """The session that the first packets ask for; None for a cancel request."""
        while True:
            size, code = struct.unpack("!ii", stream.receive(8))
            body = stream.receive(size - 8)
            if code == _CANCEL_CODE:
                self.cancels.append((struct.unpack_from("!i", body)[0], body[4:]))
                self._on_cancel()
                return None
            if code in (80877103, 80877104):
                stream.send(self._tls_answer)
                continue
            words = [word.decode() for word in body.split(b"\0")]
            parameters = dict(zip(words[0:-2:2], words[1:-2:2]))
            with self._lock:
                session = ServerSession(stream.sock, len(self.startups))
                self.startups.append(parameters)
            session.parameters = parameters
            return session

    def _login_trust(self, session):
        pid = session.number
        session.send(auth_ok(), *(parameter_status(*pair) for pair in self.parameters.items()),
                     backend_key_data(pid, struct.pack("!i", pid)), ready())

    def _refuse(self, session):
        session.send(error("28P01", "password authentication failed", "FATAL"))
        raise EOFError("refused")

    def _login_plain(self, session):
        session.send(auth_cleartext())
        if session.message().text != self._secret:
            self._refuse(session)
        self._login_trust(session)

    def _login_md5(self, session):
        salt = os.urandom(4)
        session.send(auth_md5(salt))
        if session.message().text != md5_answer(session.parameters["user"], self._secret, salt):
            self._refuse(session)
        self._login_trust(session)

    def _login_scram(self, session):
        scram = Scram(self._secret)
        session.send(auth_sasl())
        mechanism, rest = session.message().body.split(b"\0", 1)
        assert mechanism == b"SCRAM-SHA-256", mechanism
        session.send(auth_sasl_continue(scram.server_first(rest[4:].decode()).encode()))
        final = scram.server_final(session.message().body.decode())
        if final is None:
            self._refuse(session)
        session.send(auth_sasl_final(final.encode()))
        self._login_trust(session)
