# SPDX-License-Identifier: ISC
#
# hostile.py - servers that answer as asked, but for a lie where a test wants one.
#
# Knows how an honest server answers, in messages; nothing of poolers.
"""answer(): the messages that answer one message.  LIES: what should stand nowhere among them."""
import re
import struct

import raw

# A row that is nobody's: no client but the one that is lied to may ever see it.
LIE = "a lie"
COLUMNS = struct.pack("!bhh", 0, 1, 0)  # of a COPY: text, one column


def header(kind, size):
    """Of a message that says it has `size` bytes."""
    return kind.encode() + struct.pack("!I", size)


# One of each kind that servers send, by its name in msgs.def.
MESSAGES = {
    "ParseComplete": raw.parse_complete(), "BindComplete": raw.bind_complete(),
    "CloseComplete": raw.close_complete(), "NotificationResponse": raw.notification(1, "a", LIE),
    "CommandComplete": raw.command_complete("SELECT 1"), "DataRow": raw.data_row(LIE),
    "ErrorResponse": raw.error("XX000", LIE), "CopyInResponse": raw.message("G", COLUMNS),
    "CopyOutResponse": raw.message("H", COLUMNS), "EmptyQueryResponse": raw.message("I"),
    "BackendKeyData": raw.backend_key_data(7, b"1234"), "NoticeResponse": raw.notice("01000", LIE),
    "Authentication": raw.auth_cleartext(), "ParameterStatus": raw.parameter_status("a", LIE),
    "RowDescription": raw.row_description(LIE), "FunctionCallResponse": raw.message("V", b"\0\0\0\0"),
    "CopyBothResponse": raw.message("W", COLUMNS), "ReadyForQuery": raw.ready(),
    "NoData": raw.message("n"), "PortalSuspended": raw.message("s"),
    "ParameterDescription": raw.message("t", b"\0\0"),
    "NegotiateProtocolVersion": raw.message("v", struct.pack("!ii", 3 << 16, 0)),
}
# Behind one of these the server hangs up, for the rest of its message never comes.
CUT = {
    "length 0": header("D", 0), "length 3": header("Z", 3), "length beyond 31 bits": header("D", 2**31),
    "all bits": b"\xff" * 5, "longer than any": header("C", 2**31 - 1), "half a row": header("D", 100),
    "half an error": raw.error("XX000", LIE)[:9], "half a ReadyForQuery": raw.ready()[:5],
}
LIES = {
    **MESSAGES, **CUT,
    **{f"empty {name}": raw.message(m[:1].decode()) for name, m in MESSAGES.items() if len(m) > 5},
    "unknown": raw.message("?", b"x"), "NUL": raw.message("\0"), "long row": raw.data_row("x" * 200_000),
    "long notice": raw.notice("01000", "x" * 100_000), "error that is fatal": raw.error("57P01", LIE, "FATAL"),
    "ready in a transaction": raw.ready("T"), "ready in nothing": raw.ready("?"),
    "ready twice": raw.ready() * 2, "row without an end": raw.message("D", b"\0\1\0\0\0\x09x"),
    "error without an end": raw.message("E", b"SERROR\0C"), "parameter without an end": raw.message("S", b"a"),
    "client_encoding": raw.parameter_status("client_encoding", "SJIS"),
    "strings": raw.parameter_status("standard_conforming_strings", "off"),
    "an answer": raw.row_description("x") + raw.data_row(LIE) + raw.command_complete("SELECT 1") + raw.ready(),
}


class Honest:
    """What one session of an honest server says: each Query and Execute has its text as its row."""

    def __init__(self):
        self.texts, self.portals, self.settings = {}, {}, {}
        self.status, self.copies = "I", False

    def row(self, text, described=True):
        """A result, or what else the text is answered with."""
        if text.startswith("COPY x FROM"):
            self.copies = True
            return [raw.message("G", COLUMNS)]
        if text.startswith("COPY x TO"):
            return [raw.message("H", COLUMNS), raw.copy_data(b"x\n"), raw.copy_done(),
                    raw.command_complete("COPY 1")]
        if (ours := self.ours(text)) is not None:
            return [*([raw.row_description(*"abc")] if described else []), *ours,
                    raw.command_complete("SELECT 1")]
        if not text.startswith("SELECT '"):
            self.settings.update(re.findall(r"SET (\w+) = '(.*)'", text))
            self.status = {"BEGIN": "T", "COMMIT": "I", "ROLLBACK": "I"}.get(text, self.status)
            return [raw.command_complete("SELECT 0")]
        return [raw.row_description("text")] * described + [raw.data_row(text),
                                                            raw.command_complete("SELECT 1")]

    def ours(self, text):
        """The rows of a question of the pooler's own; None: it is none that has to be answered."""
        if text.startswith("SELECT 's', E'"):
            return [raw.data_row("s", name, self.settings.get(name, ""))
                    for name in re.findall(r"E'(\w+)'::", text)]
        if "name = 'statement_timeout'" in text:
            return [raw.data_row("0")]
        return None

    def on_query(self, got):
        parts = self.row(got.text)
        return parts if self.copies else [*parts, raw.ready(self.status)]

    def on_parse(self, got):
        name, text = got.strings[:2]
        self.texts[name] = text
        return [raw.parse_complete()]

    def on_bind(self, got):
        portal, name = got.strings[:2]
        self.portals[portal] = self.texts.get(name, "")
        return [raw.bind_complete()]

    def on_describe(self, got):
        return [raw.message("t", b"\0\0")] * (got.body[:1] == b"S") + [raw.row_description("text")]

    def on_execute(self, got):
        return self.row(self.portals.get(got.strings[0], ""), False)

    def on_copy_end(self, _):
        self.copies = False
        return [raw.command_complete("COPY 1"), raw.ready(self.status)]

    def answer(self, got):
        """The messages that answer this one."""
        handlers = {"Q": self.on_query, "P": self.on_parse, "B": self.on_bind, "D": self.on_describe,
                    "E": self.on_execute, "C": lambda _: [raw.close_complete()],
                    "S": lambda _: [raw.ready(self.status)], "c": self.on_copy_end,
                    "f": self.on_copy_end, "F": lambda _: [raw.message("V", b"\0\0\0\0"), raw.ready()]}
        return handlers.get(got.kind, lambda _: [])(got)
