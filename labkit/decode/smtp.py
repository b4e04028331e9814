"""SMTP on the wire: what each octet of a session means (RFC 5321 and its extensions).

A session is a table: what the client says next depends on its last command and on the reply to it. Only so is it known
whether a line is a command, an answer within AUTH, or part of a message. Where the replies are missing (a gap, one side
only, a capture that starts in the middle) the shape of the next line decides instead.
"""

import re
from enum import Enum

from labkit.decode.lines import Command, Reading, Reply, Role, Unit, line_end, list_commands, locator, terminator, text
from labkit.decode.spans import Span
from labkit.wire.flows import Stream


class Turn(Enum):
    """What the client says next."""

    COMMAND = "a command"
    CONTENT = "a message, up to a line with a single dot"
    CHUNK = "as many octets as BDAT announced"
    RESPONSE = "an answer within AUTH"
    TLS = "a TLS handshake"


# After this command and this reply comes …; in every other case another command (RFC 5321 3.3, RFC 4954 4, RFC 3207 4).
AFTER = {
    ("DATA", "354"): Turn.CONTENT,
    ("AUTH", "334"): Turn.RESPONSE,
    ("STARTTLS", "220"): Turn.TLS,
}
# A reply that only one command can have: whatever else waits for an answer has lost it.
BELONGS = {"354": "DATA", "334": "AUTH"}

_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*(\d{3})(?!-)[^\n]*\n?")
_UNFINISHED_REPLY = re.compile(rb"(?:(\d{3})-[^\n]*(?:\n|\Z))+")
_SHAPE = re.compile(
    rb"(?i)(?:(?:EHLO|HELO) [^\r\n]+|(?:MAIL FROM|RCPT TO):[^\r\n]*|(?:VRFY|EXPN|AUTH|BDAT|ETRN) [^\r\n]+"
    rb"|(?:NOOP|HELP)(?: [^\r\n]*)?|DATA|RSET|QUIT|STARTTLS|TURN) *\r?(?:\n|\Z)"
)
_NEXT_TRANSACTION = re.compile(rb"(?mi)^(?:MAIL FROM:<[^>\r\n]*>[^\r\n]*|QUIT|RSET)\r\n")
_TLS_RECORD = b"\x16\x03"


def looks_like_command(data: bytes, at: int = 0) -> bool:
    """Whether the line at `at` has the shape of an SMTP command."""
    return _SHAPE.match(data, at) is not None


def scan(client: Stream, server: Stream, *, opened: bool = True, greeting: bool = True) -> Reading:
    """Cuts both streams into units, following the replies. Never raises.

    opened: the connection was captured from its start. greeting: the server speaks first, as it does unless TLS has just
    been negotiated with STARTTLS.
    """
    return _Scanner(client, server, opened, greeting).read()


def commands(client: Stream, server: Stream, *, opened: bool = True) -> tuple[Command, ...]:
    """Every SMTP command of a session; cheap enough for captures with hundreds of thousands of packets."""
    return list_commands(client, scan(client, server, opened=opened).client)


def replies(server: Stream, reading: Reading) -> tuple[Reply, ...]:
    """Every reply of a session, challenges within AUTH among them."""
    data, locate = server.data, locator(server)
    found = []
    for unit in reading.server:
        if unit.code:
            lines = data[unit.start : unit.end].splitlines()
            words = "\n".join(text(line[4:]) for line in lines)
            found.append(Reply(unit.code, words, locate(unit.start).packet, unit.start, unit.end))
    return tuple(found)


class _Scanner:
    """One pass over both streams. `lost` says that commands and replies can no longer be paired by counting."""

    def __init__(self, client: Stream, server: Stream, opened: bool, greeting: bool) -> None:
        self.client, self.server = client.data, server.data
        self.client_gap = client.gaps[0].at if client.gaps else len(client.data) + 1
        self.server_gap = server.gaps[0].at if server.gaps else len(server.data) + 1
        self.client_units: list[Unit] = []
        self.server_units: list[Unit] = []
        self.at = 0  # in the client's stream
        self.answered = 0  # in the server's stream
        self.greeting = greeting and (self.server.startswith(b"220") or opened)
        self.lost = not (opened or self.greeting)

    def read(self) -> Reading:
        if self.greeting:
            self.reply("")
        turn, about, mechanism, step = Turn.COMMAND, "", "", 0
        client_tls: int | None = None
        while self.at < len(self.client):
            if turn is Turn.TLS or self.client.startswith(_TLS_RECORD, self.at):
                client_tls = self.plaintext_before_tls()
                break
            if turn is Turn.COMMAND:
                unit = self.command()
                about, mechanism, step = unit.about, unit.mechanism, 0
                if about == "BDAT" and unit.role is Role.COMMAND:
                    self.chunk(unit)
            elif turn is Turn.CONTENT:
                unit = self.content()
                about = "."
            else:
                step += 1
                end = line_end(self.client, self.at, len(self.client))
                unit = self.add(Unit(Role.RESPONSE, self.at, end, "AUTH", "", mechanism, step))
            if unit.role is Role.FRAGMENT:
                continue
            turn = self.next_turn(about, self.reply(about, mechanism, step + 1))
        if turn is Turn.TLS and client_tls is None:
            client_tls = len(self.client)
        server_tls = self.rest_of_server(client_tls is not None)
        if server_tls is not None and client_tls is None:
            client_tls = len(self.client)
        return Reading(self.client_units, self.server_units, client_tls, server_tls)

    def add(self, unit: Unit) -> Unit:
        self.client_units.append(unit)
        self.at = unit.end
        self.lost = self.lost or self.at > self.client_gap
        return unit

    def command(self) -> Unit:
        end = line_end(self.client, self.at, len(self.client))
        if self.lost and not _SHAPE.match(self.client, self.at):
            return self.add(self.fragment(end))
        words = self.client[self.at : end].split(None, 2)
        verb = text(words[0]).upper() if words else ""
        mechanism = text(words[1]).upper() if verb == "AUTH" and len(words) > 1 else ""
        return self.add(Unit(Role.COMMAND, self.at, end, verb, "", mechanism))

    def fragment(self, end: int) -> Unit:
        """What stands where a command is expected and is none: the rest of a message, when one ends before any command."""
        if self.at == 0 or self.at <= self.client_gap <= end:
            stop = terminator(self.client, self.at)
            command = _NEXT_TRANSACTION.search(self.client, self.at)
            if stop and not (command and command.start() < stop[0]):
                return Unit(Role.CONTENT, self.at, stop[1], "DATA")
        return Unit(Role.FRAGMENT, self.at, end)

    def chunk(self, command: Unit) -> None:
        """The octets that follow BDAT, whatever the reply will be (RFC 3030 section 2)."""
        words = self.client[command.start : command.end].split()
        size = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) < 20 else 0
        end = min(self.at + size, len(self.client))
        if end > self.at:
            self.add(Unit(Role.CHUNK, self.at, end, "BDAT"))

    def content(self) -> Unit:
        stop = terminator(self.client, self.at)
        end = stop[1] if stop else len(self.client)
        if self.at <= self.client_gap < end:  # the terminator may be among the octets that are missing
            command = _NEXT_TRANSACTION.search(self.client, self.client_gap, end)
            end = command.start() if command else end
        return self.add(Unit(Role.CONTENT, self.at, max(end, self.at + 1), "DATA"))

    def next_turn(self, about: str, code: str | None) -> Turn:
        if code is not None:
            return AFTER.get((about, code), Turn.COMMAND)
        if about in ("DATA", "AUTH") and self.at < len(self.client) and not _SHAPE.match(self.client, self.at):
            return Turn.CONTENT if about == "DATA" else Turn.RESPONSE
        return Turn.COMMAND

    def reply(self, about: str, mechanism: str = "", step: int = 0) -> str | None:
        """The code of the reply to the command just read; None when it is not known which reply that is."""
        if self.lost or self.answered >= self.server_gap or self.answered >= len(self.server):
            return None
        unit = self.server_unit(about, mechanism, step)
        if BELONGS.get(unit.code, about) != about:
            return None
        self.server_units.append(unit)
        self.answered = unit.end
        return unit.code if unit.code else self.reply(about, mechanism, step)

    def server_unit(self, about: str, mechanism: str = "", step: int = 0) -> Unit:
        at, data = self.answered, self.server
        found = _REPLY.match(data, at) or _UNFINISHED_REPLY.match(data, at)
        if not found:
            return Unit(Role.FRAGMENT, at, line_end(data, at, len(data)))
        code = found.group(1).decode("ascii")
        role = Role.REPLY
        if code == "334":
            role = Role.CHALLENGE
        elif at == 0 and self.greeting:
            role = Role.GREETING
        return Unit(
            role, at, found.end(), about, code, mechanism if code == "334" else "", step if code == "334" else 0
        )

    def plaintext_before_tls(self) -> int:
        """Where TLS begins; what was sent between STARTTLS and it is plaintext that nobody may act on (RFC 3207 4.2)."""
        start = self.at
        while start < len(self.client) and not self.client.startswith(_TLS_RECORD, start):
            start = line_end(self.client, start, len(self.client))
        if start == len(self.client):
            return self.at
        while self.at < start:
            self.add(Unit(Role.FRAGMENT, self.at, line_end(self.client, self.at, start), "STARTTLS"))
        return start

    def rest_of_server(self, tls: bool) -> int | None:
        """Replies that no command of the client asked for, and where the server's TLS begins."""
        accepted = bool(self.server_units) and (self.server_units[-1].about, self.server_units[-1].code) in AFTER
        accepted = accepted and self.server_units[-1].about == "STARTTLS"
        while self.answered < len(self.server):
            if accepted or self.server.startswith(_TLS_RECORD, self.answered):
                return self.answered
            unit = self.server_unit("")
            self.server_units.append(unit)
            self.answered = unit.end
        return len(self.server) if tls else None


def spans(client: bytes, server: bytes, reading: Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    return tuple(Span(u.start, u.end, "smtp." + u.role.name.lower()) for u in reading.client), tuple(
        Span(u.start, u.end, "smtp." + u.role.name.lower()) for u in reading.server
    )
