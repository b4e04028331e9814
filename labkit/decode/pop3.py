"""POP3 on the wire: what each octet of a session means (RFC 1939 and its extensions).

Every command gets one response, in order, and the command decides whether lines follow a "+OK". So the server's stream
can only be read beside the client's. Where the commands are missing, what follows a "+OK" decides instead.
"""

import re
from enum import Enum

from labkit.decode.lines import Command, Reading, Reply, Role, Unit, line_end, list_commands, locator, terminator, text
from labkit.decode.spans import Span
from labkit.wire.flows import Stream


class Turn(Enum):
    """What the client says next."""

    COMMAND = "a command"
    RESPONSE = "an answer within AUTH"
    TLS = "a TLS handshake"


# After this command and this response comes …; in every other case another command (RFC 5034 4, RFC 2595 4).
AFTER = {("AUTH", "+"): Turn.RESPONSE, ("STLS", "+OK"): Turn.TLS}

# What follows "+OK", up to a line with a single dot (RFC 1939 3); LIST, UIDL, LANG and AUTH only without an argument.
FOLLOWS = {"RETR": Role.CONTENT, "TOP": Role.CONTENT, "CAPA": Role.LISTING}
FOLLOWS_ALONE = {"LIST": Role.LISTING, "UIDL": Role.LISTING, "LANG": Role.LISTING, "AUTH": Role.LISTING}
SINGLE = {"USER", "PASS", "APOP", "STAT", "DELE", "NOOP", "RSET", "QUIT", "STLS", "UTF8", "LAST"}
VERBS = SINGLE | FOLLOWS.keys() | FOLLOWS_ALONE.keys()

_STATUS = re.compile(rb"(?i)(\+OK|-ERR|\+(?=[ \r\n]|\Z))")
_SHAPE = re.compile(
    rb"(?i)(?:(?:USER|PASS|APOP) [^\r\n]+|(?:DELE|RETR) \d+|TOP \d+ \d+|(?:LIST|UIDL)(?: \d+)?|AUTH(?: [^\r\n]+)?"
    rb"|STAT|NOOP|RSET|QUIT|CAPA|STLS|UTF8|LANG(?: [^\r\n]+)?) *\r?(?:\n|\Z)"
)
_HEADER = re.compile(rb"[!-9;-~]+:")
_TLS_RECORD = b"\x16\x03"


def looks_like_command(data: bytes, at: int = 0) -> bool:
    """Whether the line at `at` has the shape of a POP3 command."""
    return _SHAPE.match(data, at) is not None


def scan(client: Stream, server: Stream, *, opened: bool = True, greeting: bool = True) -> Reading:
    """Cuts both streams into units, pairing commands and responses. Never raises.

    opened: the connection was captured from its start. greeting: the server speaks first, as it does unless TLS has just
    been negotiated with STLS.
    """
    return _Scanner(client, server, opened, greeting).read()


def commands(client: Stream, server: Stream, *, opened: bool = True) -> tuple[Command, ...]:
    """Every POP3 command of a session; cheap enough for captures with hundreds of thousands of packets."""
    return list_commands(client, scan(client, server, opened=opened).client)


def replies(server: Stream, reading: Reading) -> tuple[Reply, ...]:
    """Every status line and challenge; the text of a multiline response has the lines of a listing, but not of a message."""
    data, locate = server.data, locator(server)
    found: list[Reply] = []
    for unit in reading.server:
        if unit.code:
            words = text(data[unit.start + len(unit.code) : unit.end].strip())
            found.append(Reply(unit.code, words, locate(unit.start).packet, unit.start, unit.end))
        elif unit.role is Role.LISTING and found:
            status = found.pop()
            lines = [text(line) for line in data[unit.start : unit.end].splitlines() if line != b"."]
            found.append(Reply(status.code, "\n".join([status.text, *lines]), status.packet, status.start, unit.end))
    return tuple(found)


class _Scanner:
    """One pass over both streams. `lost` says that commands and responses can no longer be paired by counting."""

    def __init__(self, client: Stream, server: Stream, opened: bool, greeting: bool) -> None:
        self.client, self.server = client.data, server.data
        self.client_gap = client.gaps[0].at if client.gaps else len(client.data) + 1
        self.server_gap = server.gaps[0].at if server.gaps else len(server.data) + 1
        self.client_units: list[Unit] = []
        self.server_units: list[Unit] = []
        self.at = 0  # in the client's stream
        self.answered = 0  # in the server's stream
        self.greeting = greeting and opened
        self.lost = not opened or not client.data

    def read(self) -> Reading:
        if self.greeting:
            self.status("")
        turn, about, mechanism, step = Turn.COMMAND, "", "", 0
        client_tls: int | None = None
        while self.at < len(self.client):
            if turn is Turn.TLS or self.client.startswith(_TLS_RECORD, self.at):
                client_tls = self.plaintext_before_tls()
                break
            end = line_end(self.client, self.at, len(self.client))
            follows: Role | None = None
            if turn is Turn.COMMAND:
                unit, follows = self.command(end)
                about, mechanism, step = unit.about, unit.mechanism, 0
            else:
                step += 1
                unit = Unit(Role.RESPONSE, self.at, end, "AUTH", "", mechanism, step)
            self.client_units.append(unit)
            self.at = end
            self.lost = self.lost or end > self.client_gap
            if unit.role is not Role.FRAGMENT:
                turn = self.next_turn(about, self.response(about, follows, mechanism, step + 1))
        if turn is Turn.TLS and client_tls is None:
            client_tls = len(self.client)
        server_tls = self.rest_of_server(client_tls is not None)
        if server_tls is not None and client_tls is None:
            client_tls = len(self.client)
        return Reading(self.client_units, self.server_units, client_tls, server_tls)

    def command(self, end: int) -> tuple[Unit, Role | None]:
        if self.lost and not _SHAPE.match(self.client, self.at):
            return Unit(Role.FRAGMENT, self.at, end), None
        words = self.client[self.at : end].split(None, 2)
        verb = text(words[0]).upper() if words else ""
        mechanism = text(words[1]).upper() if verb == "AUTH" and len(words) > 1 else ""
        follows = FOLLOWS.get(verb) or (FOLLOWS_ALONE.get(verb) if len(words) == 1 else None)
        return Unit(Role.COMMAND, self.at, end, verb, "", mechanism), follows

    def next_turn(self, about: str, code: str | None) -> Turn:
        if code is not None:
            return AFTER.get((about, code), Turn.COMMAND)
        if about == "AUTH" and self.at < len(self.client) and not _SHAPE.match(self.client, self.at):
            return Turn.RESPONSE
        return Turn.COMMAND

    def response(self, about: str, follows: Role | None, mechanism: str, step: int) -> str | None:
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
        while self.answered < len(self.server) and not self.server.startswith(_TLS_RECORD, self.answered):
            at = self.answered
            self.answered = line_end(self.server, at, len(self.server))
            found = _STATUS.match(self.server, at)
            if not found:
                self.server_units.append(Unit(Role.FRAGMENT, at, self.answered))
                continue
            code = found.group(1).decode("ascii").upper()
            role = Role.CHALLENGE if code == "+" else Role.GREETING if at == 0 and self.greeting else Role.REPLY
            steps = (mechanism, step) if code == "+" else ("", 0)
            self.server_units.append(Unit(role, at, self.answered, about, code, *steps))
            return code
        return None

    def lines(self, role: Role, about: str) -> None:
        """The rest of a multiline response; up to the end of the capture when its terminator does not come."""
        stop = terminator(self.server, self.answered)
        end = stop[1] if stop else len(self.server)
        if end > self.answered:
            self.server_units.append(Unit(role, self.answered, end, about))
            self.answered = end

    def lines_if_any(self, about: str) -> None:
        """A multiline response to a command that is not known, or was not captured."""
        at = self.answered
        if at < len(self.server) and not _STATUS.match(self.server, at) and terminator(self.server, at):
            if not self.server.startswith(_TLS_RECORD, at):
                self.lines(Role.CONTENT if _HEADER.match(self.server, at) else Role.LISTING, about)

    def plaintext_before_tls(self) -> int:
        """Where TLS begins; what was sent between STLS and it is plaintext that nobody may act on (RFC 2595 4)."""
        start = self.at
        while start < len(self.client) and not self.client.startswith(_TLS_RECORD, start):
            start = line_end(self.client, start, len(self.client))
        if start == len(self.client):
            return self.at
        while self.at < start:
            end = line_end(self.client, self.at, start)
            self.client_units.append(Unit(Role.FRAGMENT, self.at, end, "STLS"))
            self.at = end
        return start

    def rest_of_server(self, tls: bool) -> int | None:
        """Responses that no command of the client asked for, and where the server's TLS begins."""
        last = self.server_units[-1] if self.server_units else None
        accepted = last is not None and (last.about, last.code) == ("STLS", "+OK")
        if self.lost and not accepted:
            self.lines_if_any("")
        while self.answered < len(self.server):
            if accepted or self.server.startswith(_TLS_RECORD, self.answered):
                return self.answered
            if self.status("") == "+OK":
                self.lines_if_any("")
        return len(self.server) if tls else None


def spans(client: bytes, server: bytes, reading: Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    return tuple(Span(u.start, u.end, "pop3." + u.role.name.lower()) for u in reading.client), tuple(
        Span(u.start, u.end, "pop3." + u.role.name.lower()) for u in reading.server
    )
