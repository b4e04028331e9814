"""POP3 on the wire: what each octet of a session means (RFC 1939 and its extensions).

Every command gets one response, in order, and the command decides whether lines follow a "+OK". So the server's stream
can only be read beside the client's. Where the commands are missing, what follows a "+OK" decides instead.
"""

import re
from collections.abc import Iterable, Iterator

from labkit.decode.fields import text
from labkit.decode.lines import (
    TLS_RECORD,
    Awaited,
    Command,
    Element,
    ElementKind,
    Reading,
    Reply,
    Terminators,
    command_word,
    cut,
    line_end,
    mechanism_of,
    tls_start,
    verb_of,
    words_of,
)
from labkit.decode.message import dotted
from labkit.decode.pop3_spans import VERBS, spans
from labkit.decode.protocol import Fact, Measured, Ports, Protocol, Service
from labkit.decode.spans import Span
from labkit.wire.flows import Side, Stream

# After this command and this response comes …; in every other case another command (RFC 5034 4, RFC 2595 4).
AFTER = {("AUTH", "+"): Awaited.RESPONSE, ("STLS", "+OK"): Awaited.TLS}

# What follows "+OK", up to a line with a single dot (RFC 1939 3); LIST, UIDL, LANG and AUTH only without an argument.
FOLLOWS = {"RETR": ElementKind.CONTENT, "TOP": ElementKind.CONTENT, "CAPA": ElementKind.LISTING}
FOLLOWS_ALONE = {
    "LIST": ElementKind.LISTING,
    "UIDL": ElementKind.LISTING,
    "LANG": ElementKind.LISTING,
    "AUTH": ElementKind.LISTING,
}

_STATUS = re.compile(rb"(?i)(\+OK|-ERR|\+(?=[ \r\n]|\Z))")
_SHAPE = re.compile(
    rb"(?i)(?:(?:USER|PASS|APOP) [^\r\n]+|(?:AUTH|LANG)(?: [^\r\n]+)?|(?:(?:DELE|RETR) \d+|TOP \d+ \d+"
    rb"|(?:LIST|UIDL)(?: \d+)?|STAT|NOOP|RSET|QUIT|CAPA|STLS|UTF8) *)\r?(?:\n|\Z)"
)
_HEADER = re.compile(rb"[!-9;-~]+:")


def _recognise(client: bytes, server: bytes, _expected: bool) -> bool:
    first = verb_of(client[:512].split(b"\n", 1)[0])
    if server[:3] == b"+OK":
        return not first or first in VERBS
    return first in ("USER", "APOP", "CAPA", "STLS") and server[:1] in (b"", b"-") and _SHAPE.match(client) is not None


def scan(client: Stream, server: Stream, opened: bool, greeting: bool) -> Reading:
    """Cuts both streams into elements, pairing commands and responses. Never raises."""
    return Pop3Scanner(client, server, opened, greeting).read()


def replies(server: Stream, reading: Reading) -> tuple[Reply, ...]:
    """Every status line and challenge; the text of a multiline response has the lines of a listing, but not of a message."""
    data = server.data
    found: list[Reply] = []
    for element in reading.server:
        if element.code:
            words = text(data[element.start + len(element.code) : element.end].strip())
            found.append(Reply(element.code, words, server.packet_at(element.start), element.start, element.end))
        elif element.kind is ElementKind.LISTING and found:
            status = found.pop()
            lines = [text(line) for line in data[element.start : element.end].splitlines() if line != b"."]
            found.append(Reply(status.code, "\n".join([status.text, *lines]), status.packet, status.start, element.end))
    return tuple(found)


class Pop3Scanner:
    """One pass over both streams. `lost` says that commands and responses can no longer be paired by counting."""

    def __init__(self, client: Stream, server: Stream, opened: bool, greeting: bool) -> None:
        self.client, self.server = client.data, server.data
        self.client_gap = client.gaps[0].at if client.gaps else len(client.data) + 1
        self.server_gap = server.gaps[0].at if server.gaps else len(server.data) + 1
        self.terminators = Terminators(server.data)
        self.client_elements: list[Element] = []
        self.server_elements: list[Element] = []
        self.at = 0  # in the client's stream
        self.answered = 0  # in the server's stream
        self.endless = False  # no terminator comes any more: it need not be searched for again
        self.lost = not opened or not client.data
        self.greeting = greeting and opened and not self.begins_with_answer()

    def read(self) -> Reading:
        if self.greeting:
            self.status("")
        turn, about, mechanism, step = Awaited.COMMAND, "", "", 0
        client_tls: int | None = None
        while self.at < len(self.client):
            if turn is Awaited.TLS or self.client.startswith(TLS_RECORD, self.at):
                client_tls = self.plaintext_before_tls()
                break
            end = line_end(self.client, self.at, len(self.client))
            follows: ElementKind | None = None
            if turn is Awaited.COMMAND:
                element, follows = self.command(end)
                about, mechanism, step = element.about, element.mechanism, 0
            else:
                step += 1
                element = Element(ElementKind.RESPONSE, self.at, end, "AUTH", "", mechanism, step)
            self.client_elements.append(element)
            self.at = end
            self.lost = self.lost or end > self.client_gap
            if element.kind is not ElementKind.FRAGMENT:
                turn = self.next_turn(about, self.response(about, follows, mechanism, step + 1))
        if turn is Awaited.TLS and client_tls is None:
            client_tls = len(self.client)
        server_tls = self.rest_of_server(client_tls is not None)
        if server_tls is not None and client_tls is None:
            client_tls = len(self.client)
        return Reading(self.client_elements, self.server_elements, client_tls, server_tls)

    def begins_with_answer(self) -> bool:
        """Whether the greeting is missing: lines follow the first "+OK", as the client's first command asks for."""
        second = line_end(self.server, 0, len(self.server))
        if second == len(self.server) or _STATUS.match(self.server, second) or not _STATUS.match(self.server):
            return False
        _element, follows = self.command(line_end(self.client, 0, len(self.client)))
        return follows is not None

    def command(self, end: int) -> tuple[Element, ElementKind | None]:
        if self.lost and not _SHAPE.match(self.client, self.at):
            return Element(ElementKind.FRAGMENT, self.at, end), None
        words = words_of(self.client[self.at : end], 1)
        verb = command_word(words[0], VERBS) if words else ""
        mechanism = mechanism_of(self.client[self.at : end]) if verb == "AUTH" else ""
        follows = FOLLOWS.get(verb) or (FOLLOWS_ALONE.get(verb) if len(words) == 1 else None)
        return Element(ElementKind.COMMAND, self.at, end, verb, "", mechanism), follows

    def next_turn(self, about: str, code: str | None) -> Awaited:
        if code is not None:
            return AFTER.get((about, code), Awaited.COMMAND)
        if about == "AUTH" and self.at < len(self.client) and not _SHAPE.match(self.client, self.at):
            return Awaited.RESPONSE
        return Awaited.COMMAND

    def response(self, about: str, follows: ElementKind | None, mechanism: str, step: int) -> str | None:
        """The status that answers the command just read, and the lines that follow it; None when it is not known."""
        if self.lost or self.answered >= self.server_gap:
            return None
        code = self.status(about, mechanism, step)
        if code == "+OK" and about not in ("", "STLS"):
            if follows:
                self.lines(follows, about)
            elif about not in VERBS:
                self.lines_if_any(about)
        return code

    def status(self, about: str, mechanism: str = "", step: int = 0) -> str | None:
        """Takes the next status line, and whatever stands before it against the protocol."""
        while self.answered < len(self.server) and not self.server.startswith(TLS_RECORD, self.answered):
            at = self.answered
            self.answered = line_end(self.server, at, len(self.server))
            found = _STATUS.match(self.server, at)
            if not found or (found.group(1) == b"+" and about not in ("AUTH", "")):  # only AUTH goes on after a plus
                self.server_elements.append(Element(ElementKind.FRAGMENT, at, self.answered))
                continue
            code = found.group(1).decode("ascii").upper()
            kind = (
                ElementKind.CHALLENGE
                if code == "+"
                else ElementKind.GREETING
                if at == 0 and self.greeting
                else ElementKind.REPLY
            )
            steps = (mechanism, step) if code == "+" else ("", 0)
            self.server_elements.append(Element(kind, at, self.answered, about, code, *steps))
            return code
        return None

    def lines(self, kind: ElementKind, about: str) -> None:
        """The rest of a multiline response; up to the end of the capture when its terminator does not come."""
        stop = self.terminators.after(self.answered)
        end = stop[1] if stop else len(self.server)
        if end > self.answered:
            self.server_elements.append(Element(kind, self.answered, end, about))
            self.answered = end

    def lines_if_any(self, about: str) -> None:
        """A multiline response to a command that is not known, or was not captured."""
        at = self.answered
        if at == len(self.server) or self.server.startswith(TLS_RECORD, at) or _STATUS.match(self.server, at):
            return
        self.endless = self.endless or self.terminators.after(at) is None
        if not self.endless:
            self.lines(ElementKind.CONTENT if _HEADER.match(self.server, at) else ElementKind.LISTING, about)

    def plaintext_before_tls(self) -> int:
        """Where TLS begins; what was sent between STLS and it is plaintext that nobody may act on (RFC 2595 4)."""
        start = tls_start(self.client, self.at)
        for line in cut(self.client, self.at, start):
            self.client_elements.append(Element(ElementKind.FRAGMENT, *line, "STLS"))
        self.at = start
        return start

    def rest_of_server(self, tls: bool) -> int | None:
        """Responses that no command of the client asked for, and where the server's TLS begins."""
        last = self.server_elements[-1] if self.server_elements else None
        accepted = last is not None and AFTER.get((last.about, last.code)) is Awaited.TLS
        if self.lost and not accepted:
            self.lines_if_any("")
        while self.answered < len(self.server):
            if accepted or self.server.startswith(TLS_RECORD, self.answered):
                return self.answered
            if self.status("") == "+OK":
                self.lines_if_any("")
        return len(self.server) if tls else None


# --- the record ------------------------------------------------------------------------------------------------------


def _measure(spans: tuple[Span, ...]) -> Iterator[Measured]:
    return dotted(spans, "pop3.content")


def _other_messages(commands: tuple[Command, ...], spans: Iterable[Span]) -> frozenset[int]:
    """The sizes in a listing, but for the message that the client then asks for."""
    asked = (command.argument for command in commands if command.verb in ("RETR", "TOP"))
    wanted, number, others = next(asked, "").partition(" ")[0], "", set()
    for span in spans:
        if span.field == "pop3.list.number":
            number = span.value
        if span.field == "pop3.list.size" and number != wanted:
            others.add(span.start)
    return frozenset(others)


POP3 = Protocol(
    name="pop3",
    label="POP3",
    service=Service.READING,
    ports=Ports(clear=110, upgraded=110, tls=995),
    upgrade="STLS",
    recognise=_recognise,
    scan=scan,
    replies=replies,
    spans=spans,
    begins=frozenset({"USER", "APOP", "AUTH"}),
    continues=frozenset({"PASS"}),
    proves=frozenset({"PASS", "APOP", "AUTH"}),
    accepts=("+OK",),
    refuses=("-",),
    personal=frozenset({"USER", "PASS", "APOP", "AUTH"}),
    offers=("SASL", "STLS", "USER"),
    facts={
        Fact.LOGIN_NAME: ("pop3.user.name", "pop3.apop.name"),
        Fact.PASSWORD: ("pop3.pass.password", "pop3.apop.digest"),
        Fact.MESSAGE_SIZE: ("pop3.retr.octets", "pop3.list.size"),
    },
    sender=Side.SERVER,
    measure=_measure,
    other_messages=_other_messages,
)
