"""SMTP on the wire: what each octet of a session means (RFC 5321 and its extensions).

A session is a table: what the client says next depends on its last command and on the reply to it. Only so is it known
whether a line is a command, an answer within AUTH, or part of a message. Where the replies are missing (a gap, one side
only, a capture that starts in the middle) the shape of the next line decides instead.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby, starmap

from labkit.decode.fields import text, whole_number
from labkit.decode.lines import (
    TLS_RECORD,
    Awaited,
    Command,
    Element,
    ElementKind,
    Reading,
    Reply,
    Row,
    Terminators,
    command_word,
    cut,
    line_end,
    list_commands,
    mechanism_of,
    tls_start,
    upper,
    verb_of,
)
from labkit.decode.message import dotted
from labkit.decode.protocol import Fact, Measured, Ports, Protocol, Service
from labkit.decode.smtp_spans import VERBS, spans
from labkit.decode.spans import Span
from labkit.wire.flows import Stream

# After this command and this reply comes …; in every other case another command (RFC 5321 3.3, RFC 4954 4, RFC 3207 4).
AFTER = {
    ("DATA", b"354"): Awaited.CONTENT,
    ("AUTH", b"334"): Awaited.RESPONSE,
    ("STARTTLS", b"220"): Awaited.TLS,
}
# A reply that only one command can have: whatever else waits for an answer has lost it.
BELONGS = {b"354": "DATA", b"334": "AUTH"}

# A whole reply, a reply whose last line did not come, or a line that is none; together they tile whatever a server sends.
_PIECE = re.compile(rb"(?:\d{3}-[^\n]*\n)*(\d{3})(?!-)[^\n]*\n?|(?:(\d{3})-[^\n]*(?:\n|\Z))+|[^\n]*\n|[^\n]+")
_SHAPE = re.compile(
    rb"(?i)(?:(?:EHLO|HELO) [^\r\n]+|(?:MAIL FROM|RCPT TO):[^\r\n]*|(?:VRFY|EXPN|AUTH|BDAT|ETRN) [^\r\n]+"
    rb"|(?:NOOP|HELP)(?: [^\r\n]*)?|(?:DATA|RSET|QUIT|STARTTLS|TURN) *)\r?(?:\n|\Z)"
)
_NEXT_COMMAND = rb"(?i:MAIL FROM:<[^>\r\n]*>[^\r\n]*|QUIT|RSET)\r\n"
_NEXT_TRANSACTION = re.compile(rb"(?:\A|(?<=\n))" + _NEXT_COMMAND)
_AT_ONCE = re.compile(_NEXT_COMMAND)


def _recognise(client: bytes, server: bytes, expected: bool) -> bool:
    first = verb_of(client[:512].split(b"\n", 1)[0])
    if server[:3] == b"220" and (
        first in ("EHLO", "HELO") or (not first and (expected or b"SMTP" in server[:512].upper()))
    ):
        return True
    answers = not server or server[:1].isdigit()
    return answers and first in ("EHLO", "HELO", "MAIL", "RCPT") and _SHAPE.match(client) is not None


def scan(client: Stream, server: Stream, opened: bool, greeting: bool) -> Reading:
    """Cuts both streams into elements, following the replies. Never raises."""
    return SmtpScanner(client, server, opened, greeting).read()


def commands(client: Stream, server: Stream, opened: bool, greeting: bool) -> tuple[Command, ...]:
    """Every command of a session; cheap enough for captures with hundreds of thousands of packets."""
    return list_commands(client, SmtpScanner(client, server, opened, greeting).read_client())


def replies(server: Stream, reading: Reading) -> tuple[Reply, ...]:
    """Every reply of a session, challenges within AUTH among them."""
    data = server.data
    found = []
    for element in reading.server:
        if element.code:
            lines = data[element.start : element.end].splitlines()
            words = "\n".join(text(line[4:]) for line in lines)
            found.append(Reply(element.code, words, server.packet_at(element.start), element.start, element.end))
    return tuple(found)


# What the loop below compares with, looked up once: an enumeration's members are not cheap to name.
_NAMES = ElementKind.COMMAND, ElementKind.FRAGMENT, Awaited.COMMAND, Awaited.CONTENT, Awaited.TLS


class SmtpScanner:
    """One pass over both streams. `lost` says that commands and replies can no longer be paired by counting."""

    def __init__(self, client: Stream, server: Stream, opened: bool, greeting: bool) -> None:
        self.client = client.data
        self.client_gap = client.gaps[0].at if client.gaps else len(client.data) + 1
        self.terminators = Terminators(client.data)
        self.rows: list[Row] = []
        self.pieces, self.server_tls = _pieces(server.data)
        self.usable = len(self.pieces)  # as answers: after a gap nobody knows what is answered
        if server.gaps:
            self.usable = bisect_left(self.pieces, server.gaps[0].at, key=re.Match.start)
        self.asked: list[tuple[str, str, int]] = []  # what each piece answers: verb, mechanism, step
        self.greeting = greeting and (server.data.startswith(b"220") or opened)
        self.lost = not (opened or self.greeting)
        self.tls: int | None = None

    def read(self) -> Reading:
        client = [*starmap(Element, self.read_client())]
        server = self.read_server()
        if self.server_tls is not None and self.tls is None:
            self.tls = len(self.client)
        elif self.tls is not None and self.server_tls is None:
            self.server_tls = server[-1].end if server else 0
        return Reading(client, server, self.tls, self.server_tls)

    def read_client(self) -> list[Row]:
        """The client's elements, each with the reply to it; the greeting is the reply to the connection itself.

        Sessions by the thousand pass here: what every line needs is done in place, with names that are looked up once.
        """
        client, size, rows, lost, gap = self.client, len(self.client), self.rows, self.lost, self.client_gap
        asked, codes = self.asked, [piece[1] or piece[2] for piece in self.pieces[: self.usable]]
        answers, tls_comes = len(codes), TLS_RECORD[0] in client
        command, fragment, a_command, content, tls = _NAMES
        at, turn, awaits_reply = 0, a_command, self.greeting
        about, mechanism, step = "", "", 0
        while True:
            if awaits_reply:
                code = None
                while not code and not lost and len(asked) < answers:
                    code = codes[len(asked)]
                    if code in BELONGS and BELONGS[code] != about:
                        code = None
                        break
                    asked.append((about, mechanism, step))
                turn = AFTER.get((about, code), a_command) if code else self.unanswered(about, at)
            if at >= size or turn is tls or (tls_comes and client.startswith(TLS_RECORD, at)):
                break
            row: Row
            if turn is a_command:
                end = client.find(b"\n", at) + 1 or size
                if lost and not _SHAPE.match(client, at):
                    row = self.fragment(at, end)
                    about, mechanism = row[3], ""
                else:
                    words = client[at:end].split(None, 1)
                    about = upper(words[0]) if words else ""
                    if about and about not in VERBS:
                        about = command_word(words[0], VERBS)
                    mechanism = mechanism_of(client[at:end]) if about == "AUTH" else ""
                    row = command, at, end, about, "", mechanism, 0
                step = 1
            elif turn is content:
                row, about = self.content(at), "."
            else:
                row = ElementKind.RESPONSE, at, line_end(client, at, size), "AUTH", "", mechanism, step
                step += 1
            rows.append(row)
            at = self.chunk(at, row[2]) if about == "BDAT" else row[2]
            if at > gap:
                lost = True
            awaits_reply = row[0] is not fragment
        if turn is tls or at < size:
            self.tls = self.plaintext_before_tls(at)
        return rows

    def fragment(self, at: int, end: int) -> Row:
        """What stands where a command is expected and is none: the rest of a message, when one ends before any command."""
        if at == 0 or at <= self.client_gap <= end:
            stop = self.terminators.after(at)
            command = _NEXT_TRANSACTION.search(self.client, at)
            if stop and not (command and command.start() < stop[0]):
                return Element(ElementKind.CONTENT, at, stop[1], "DATA")
        return Element(ElementKind.FRAGMENT, at, end)

    def chunk(self, command: int, start: int) -> int:
        """Where the octets end that follow BDAT at `start`, whatever the reply will be (RFC 3030 section 2)."""
        words = self.client[command:start].split()
        size = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) < 20 else 0
        end = min(start + size, len(self.client))
        if end > start:
            self.rows.append(Element(ElementKind.CHUNK, start, end, "BDAT"))
        return end

    def content(self, at: int) -> Row:
        stop = self.terminators.after(at)
        end = stop[1] if stop else len(self.client)
        if at <= self.client_gap < end:  # the terminator may be among the octets that are missing
            gap = self.client_gap
            command = _AT_ONCE.match(self.client, gap, end) or _NEXT_TRANSACTION.search(self.client, gap, end)
            end = command.start() if command else end
        return ElementKind.CONTENT, at, max(end, at + 1), "DATA", "", "", 0

    def unanswered(self, about: str, at: int) -> Awaited:
        """What comes next when the reply is not known: the shape of the next line tells."""
        if about in ("DATA", "AUTH") and at < len(self.client) and not _SHAPE.match(self.client, at):
            return Awaited.CONTENT if about == "DATA" else Awaited.RESPONSE
        return Awaited.COMMAND

    def plaintext_before_tls(self, at: int) -> int:
        """Where TLS begins; what was sent between STARTTLS and it is plaintext that nobody may act on (RFC 3207 4.2)."""
        start = tls_start(self.client, at)
        for line in cut(self.client, at, start):
            self.rows.append(Element(ElementKind.FRAGMENT, *line, "STARTTLS"))
        return start

    def read_server(self) -> list[Element]:
        """The server's elements. After an accepted STARTTLS the rest is TLS, even if it does not look like it."""
        pieces, asked = self.pieces, self.asked
        if asked and AFTER.get((asked[-1][0], pieces[len(asked) - 1][1])) is Awaited.TLS:
            self.server_tls = pieces[len(asked) - 1].end()
            pieces = pieces[: len(asked)]
        nobody = ("", "", 0)
        elements = []
        for number, piece in enumerate(pieces):
            about, mechanism, step = asked[number] if number < len(asked) else nobody
            start, end = piece.span()
            code = (piece[1] or piece[2] or b"").decode("ascii")
            if code == "334":
                elements.append(Element(ElementKind.CHALLENGE, start, end, about, code, mechanism, step))
            elif code:
                kind = ElementKind.GREETING if start == 0 and self.greeting else ElementKind.REPLY
                elements.append(Element(kind, start, end, about, code))
            else:
                elements.append(Element(ElementKind.FRAGMENT, start, end))
        return elements


def _pieces(server: bytes) -> tuple[list[re.Match[bytes]], int | None]:
    """What the server sent as _PIECE cuts it, and where TLS begins, if it does."""
    found = _PIECE.finditer(server)
    if TLS_RECORD not in server:
        return list(found), None
    pieces: list[re.Match[bytes]] = []
    for piece in found:
        if server.startswith(TLS_RECORD, piece.start()):
            return pieces, piece.start()
        pieces.append(piece)
    return pieces, None


# --- the record ------------------------------------------------------------------------------------------------------


def _measure(spans: tuple[Span, ...]) -> Iterator[Measured]:
    yield from dotted(spans, "smtp.content")
    yield from _in_chunks(spans)


def _in_chunks(spans: tuple[Span, ...]) -> Iterator[Measured]:
    """The messages sent with BDAT: a message has as many octets as its chunks have together (RFC 3030 section 2)."""
    for chunked, together in groupby(spans, key=lambda span: span.field in ("smtp.bdat", "smtp.chunk")):
        found = tuple(together) if chunked else ()
        chunks = [span for span in found if span.field == "smtp.chunk"]
        if chunks:
            told = [child for span in found if span.field == "smtp.bdat" for child in span.children]
            announced = sum(whole_number(child.value) or 0 for child in told if child.field == "smtp.bdat.size")
            size = sum(span.end - span.start for span in chunks)
            whole = size == announced and any(child.field == "smtp.bdat.last" for child in told)
            yield chunks[0].start, chunks[-1].end, size, whole


SMTP = Protocol(
    name="smtp",
    label="SMTP",
    service=Service.SENDING,
    ports=Ports(clear=25, upgraded=587, tls=465, others=(2525,)),
    upgrade="STARTTLS",
    recognise=_recognise,
    scan=scan,
    commands=commands,
    replies=replies,
    spans=spans,
    begins=frozenset({"MAIL", "AUTH"}),
    continues=frozenset({"RCPT", "DATA", "BDAT"}),
    proves=frozenset({"AUTH"}),
    carries=frozenset({"BDAT"}),
    accepts=("2",),
    refuses=("4", "5"),
    personal=frozenset({"MAIL", "RCPT", "VRFY", "EXPN", "AUTH"}),
    offers=("AUTH", "STARTTLS"),
    facts={
        Fact.SENDER: ("smtp.mail.sender",),
        Fact.RECIPIENTS: ("smtp.rcpt.recipient",),
        Fact.CLIENT_NAME: ("smtp.ehlo.client",),
        Fact.SERVER_NAME: ("smtp.greeting.server", "smtp.ehlo.server"),
        Fact.MESSAGE_SIZE: ("smtp.parameter.size",),
    },
    measure=_measure,
)
