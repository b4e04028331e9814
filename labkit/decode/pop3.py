"""POP3 on the wire: what each octet of a session means (RFC 1939 and its extensions).

Every command gets one response, in order, and the command decides whether lines follow a "+OK". So the server's stream
can only be read beside the client's. Where the commands are missing, what follows a "+OK" decides instead.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum

from labkit.decode import sasl
from labkit.decode.fields import text
from labkit.decode.lines import (
    TLS_RECORD,
    Command,
    Element,
    ElementKind,
    Reading,
    Reply,
    Terminators,
    blank_end,
    command_word,
    cut,
    fragment,
    line_end,
    line_end_span,
    mechanism_of,
    separator,
    terminator_start,
    tls_start,
    upper,
    verb_of,
    verb_span,
    without_line_end,
    word_end,
    words_of,
)
from labkit.decode.message import content, dotted, stuffing
from labkit.decode.protocol import Fact, Measured, Ports, Protocol, Service
from labkit.decode.spans import Span, Tiles, Visibility
from labkit.texts import _
from labkit.wire.flows import Side, Stream


class Turn(Enum):
    """What the client says next."""

    COMMAND = "a command"
    RESPONSE = "an answer within AUTH"
    TLS = "a TLS handshake"


# After this command and this response comes …; in every other case another command (RFC 5034 4, RFC 2595 4).
AFTER = {("AUTH", "+"): Turn.RESPONSE, ("STLS", "+OK"): Turn.TLS}

# What follows "+OK", up to a line with a single dot (RFC 1939 3); LIST, UIDL, LANG and AUTH only without an argument.
FOLLOWS = {"RETR": ElementKind.CONTENT, "TOP": ElementKind.CONTENT, "CAPA": ElementKind.LISTING}
FOLLOWS_ALONE = {
    "LIST": ElementKind.LISTING,
    "UIDL": ElementKind.LISTING,
    "LANG": ElementKind.LISTING,
    "AUTH": ElementKind.LISTING,
}
SINGLE = {"USER", "PASS", "APOP", "STAT", "DELE", "NOOP", "RSET", "QUIT", "STLS", "UTF8", "LAST"}
VERBS = SINGLE | FOLLOWS.keys() | FOLLOWS_ALONE.keys()

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
        turn, about, mechanism, step = Turn.COMMAND, "", "", 0
        client_tls: int | None = None
        while self.at < len(self.client):
            if turn is Turn.TLS or self.client.startswith(TLS_RECORD, self.at):
                client_tls = self.plaintext_before_tls()
                break
            end = line_end(self.client, self.at, len(self.client))
            follows: ElementKind | None = None
            if turn is Turn.COMMAND:
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
        if turn is Turn.TLS and client_tls is None:
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
        _unit, follows = self.command(line_end(self.client, 0, len(self.client)))
        return follows is not None

    def command(self, end: int) -> tuple[Element, ElementKind | None]:
        if self.lost and not _SHAPE.match(self.client, self.at):
            return Element(ElementKind.FRAGMENT, self.at, end), None
        words = words_of(self.client[self.at : end], 1)
        verb = command_word(words[0], VERBS) if words else ""
        mechanism = mechanism_of(self.client[self.at : end]) if verb == "AUTH" else ""
        follows = FOLLOWS.get(verb) or (FOLLOWS_ALONE.get(verb) if len(words) == 1 else None)
        return Element(ElementKind.COMMAND, self.at, end, verb, "", mechanism), follows

    def next_turn(self, about: str, code: str | None) -> Turn:
        if code is not None:
            return AFTER.get((about, code), Turn.COMMAND)
        if about == "AUTH" and self.at < len(self.client) and not _SHAPE.match(self.client, self.at):
            return Turn.RESPONSE
        return Turn.COMMAND

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
        while self.at < start:
            end = line_end(self.client, self.at, start)
            self.client_elements.append(Element(ElementKind.FRAGMENT, self.at, end, "STLS"))
            self.at = end
        return start

    def rest_of_server(self, tls: bool) -> int | None:
        """Responses that no command of the client asked for, and where the server's TLS begins."""
        last = self.server_elements[-1] if self.server_elements else None
        accepted = last is not None and AFTER.get((last.about, last.code)) is Turn.TLS
        if self.lost and not accepted:
            self.lines_if_any("")
        while self.answered < len(self.server):
            if accepted or self.server.startswith(TLS_RECORD, self.answered):
                return self.answered
            if self.status("") == "+OK":
                self.lines_if_any("")
        return len(self.server) if tls else None


# --- spans -----------------------------------------------------------------------------------------------------------

COMMANDS = {
    "USER": ("The client says which maildrop it wants.", "RFC 1939 section 7"),
    "PASS": ("The client proves who it is by sending the password as it is.", "RFC 1939 section 7"),
    "APOP": ("The client proves who it is by a digest, without sending the password.", "RFC 1939 section 7"),
    "AUTH": ("The client wants to prove who it is by a SASL mechanism.", "RFC 5034 section 4"),
    "STAT": ("The client asks how many messages there are and how large they are together.", "RFC 1939 section 5"),
    "LIST": ("The client asks for the sizes of the messages.", "RFC 1939 section 5"),
    "RETR": ("The client asks for a message.", "RFC 1939 section 5"),
    "DELE": ("The client marks a message as deleted; it is deleted at QUIT.", "RFC 1939 section 5"),
    "NOOP": ("Nothing is to be done; the server just answers.", "RFC 1939 section 5"),
    "RSET": ("The marks of deletion are taken back.", "RFC 1939 section 5"),
    "QUIT": ("The client says goodbye; only now are marked messages deleted.", "RFC 1939 section 6"),
    "TOP": ("The client asks for the headers of a message and some lines of its body.", "RFC 1939 section 7"),
    "UIDL": ("The client asks for the lasting names of the messages.", "RFC 1939 section 7"),
    "CAPA": ("The client asks what the server can do.", "RFC 2449 section 5"),
    "STLS": ("The client asks to encrypt everything from here on.", "RFC 2595 section 4"),
    "UTF8": ("The client asks for messages in UTF-8 as they are.", "RFC 6856 section 2.1"),
    "LANG": ("The client asks for the server's words in another language, or which there are.", "RFC 6856 section 3"),
    "LAST": ("Obsolete: the highest message number that was read.", "RFC 1460 section 5"),
}

CAPABILITIES = {
    "TOP": ("The server knows TOP.", "RFC 2449 section 6.1"),
    "USER": ("The server lets clients in by USER and PASS, in clear.", "RFC 2449 section 6.2"),
    "SASL": ("Mechanisms with which a client can prove who it is.", "RFC 2449 section 6.3, RFC 5034 section 3"),
    "RESP-CODES": ("Words in brackets say why a command failed.", "RFC 2449 section 6.4"),
    "LOGIN-DELAY": ("How many seconds to wait between two logins.", "RFC 2449 section 6.5"),
    "PIPELINING": ("The client may send several commands without waiting for each response.", "RFC 2449 section 6.6"),
    "EXPIRE": ("After how many days the server deletes messages by itself.", "RFC 2449 section 6.7"),
    "UIDL": ("The server knows UIDL.", "RFC 2449 section 6.8"),
    "IMPLEMENTATION": ("The name of the server's software.", "RFC 2449 section 6.9"),
    "STLS": (
        "The client may ask for encryption. Whoever can change bytes on the way can strike this line out.",
        "RFC 2595 section 4",
    ),
    "AUTH-RESP-CODE": (
        "Words in brackets say whether the credentials were wrong or something else.",
        "RFC 3206 section 6",
    ),
    "UTF8": ("The client may ask for UTF-8; with USER, names and passwords may be in UTF-8.", "RFC 6856 section 2"),
    "LANG": ("The server can speak other languages.", "RFC 6856 section 3"),
}

RESPONSE_CODES = {
    "LOGIN-DELAY": ("Too soon after the last login.", "RFC 2449 section 8.1.1"),
    "IN-USE": ("Another session holds the maildrop's lock.", "RFC 2449 section 8.1.2"),
    "SYS/TEMP": ("The server has a problem that will pass.", "RFC 3206 section 4"),
    "SYS/PERM": ("The server has a problem that somebody has to mend.", "RFC 3206 section 4"),
    "AUTH": ("The credentials are wrong.", "RFC 3206 section 5"),
    "UTF8": ("The message needs UTF-8, and the client has not asked for it.", "RFC 6856 section 5"),
}
_RESPONSE_CODE = re.compile(rb"\[([^\]\r\n]+)\]")
_TIMESTAMP = re.compile(rb"<[^<>\r\n]+>")
_OCTETS = re.compile(rb"[ \t]*(\d+)(?= octets)")
_LISTED = {
    "LIST": ("The message's size in octets.", "size", "RFC 1939 section 5"),
    "UIDL": ("The message's lasting name, the same in every session.", "uid", "RFC 1939 section 7"),
    "LANG": ("A language.", "language", "RFC 6856 section 3"),
}
_SYNTAX = "RFC 1939 section 3"


def spans(client: bytes, server: bytes, reading: Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans for both streams, up to where TLS takes over; `reading` is what `scan` made of the same streams."""
    return _client_spans(client, reading.client), _server_spans(server, reading.server)


def _client_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    initial = 0  # whether the AUTH command itself carried the first message of the exchange
    for element in elements:
        if element.kind is ElementKind.COMMAND:
            initial = _command(tiles, element)
        elif element.kind is ElementKind.RESPONSE:
            sasl.answer(tiles, element, element.step - 1 + initial)
        else:
            fragment(tiles, element)
    return tuple(tiles.spans)


def _command(tiles: Tiles, element: Element) -> int:
    """A command line; returns 1 when it carried an initial response of AUTH, else 0."""
    data = tiles.data
    known = COMMANDS.get(element.about)
    meaning, source = (_(known[0]), known[1]) if known else (_("A command that POP3 does not know."), _SYNTAX)
    name = element.about.lower() if known else "unknown"
    stop = without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    inner.add(blank_end(data, element.start, stop), "space", _("White space."), _SYNTAX)
    verb_span(inner, word_end(data, inner.at, stop), f"pop3.{name}.verb", element.about, meaning, source)
    single = data.startswith(b" ", inner.at)  # a password may begin with spaces (RFC 1939 section 7)
    separator(inner, inner.at + 1 if single else blank_end(data, inner.at, stop), _SYNTAX)
    initial = 0
    if inner.at < stop:
        if element.about == "AUTH":
            initial = sasl.arguments(inner, stop, element.mechanism)
        else:
            _ARGUMENTS.get(element.about, _numbers)(inner, stop, name)
    line_end_span(inner, element.end)
    tiles.nest(f"pop3.{name}", meaning, source, inner.spans, text(data[element.start : stop]))
    return initial


def _user(tiles: Tiles, stop: int, _name: str) -> None:
    tiles.add(stop, "pop3.user.name", _("The login name."), "RFC 1939 section 7")


def _pass(tiles: Tiles, stop: int, _name: str) -> None:
    meaning = _("The password, as it is: everything after the space, further spaces too.")
    tiles.add(stop, "pop3.pass.password", meaning, "RFC 1939 section 7")


def _apop(tiles: Tiles, stop: int, _name: str) -> None:
    space = tiles.data.rfind(b" ", tiles.at, stop)
    if space > tiles.at:
        tiles.add(space, "pop3.apop.name", _("The login name."), "RFC 1939 section 7")
        tiles.add(space + 1, "space", _("A space."), _SYNTAX)
        meaning = _(
            "MD5 of the greeting's timestamp followed by the password, in hexadecimal: a guessed password can be checked "
            "against it."
        )
        tiles.add(stop, "pop3.apop.digest", meaning, "RFC 1939 section 7", Visibility.GUESSABLE)
    tiles.add(stop, "pop3.apop.invalid", _("APOP wants a name, a space and a digest."), "RFC 1939 section 7")


def _numbers(tiles: Tiles, stop: int, name: str) -> None:
    words = [("number", _("The number of a message in this session.")), ("lines", _("How many lines of the body."))]
    source = COMMANDS[name.upper()][1] if name.upper() in COMMANDS else _SYNTAX
    for field, meaning in words:
        known = name in ("list", "retr", "dele", "uidl", "top") and (field == "number" or name == "top")
        end = word_end(tiles.data, tiles.at, stop)
        if known:
            tiles.add(end, f"pop3.{name}.{field}", meaning, source)
            tiles.add(blank_end(tiles.data, tiles.at, stop), "space", _("A space."), _SYNTAX)
    tiles.add(stop, f"pop3.{name}.argument", _("What the command is about."), source)


_ARGUMENTS = {"USER": _user, "PASS": _pass, "APOP": _apop}


def _server_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    for number, element in enumerate(elements):
        follows = elements[number + 1] if number + 1 < len(elements) else None
        if element.kind is ElementKind.CHALLENGE:
            _challenge(tiles, element)
        elif element.kind is ElementKind.CONTENT:
            stop = terminator_start(data, element.start, element.end)
            inside = content(data, element.start, element.end, stop)
            tiles.nest(*_handed_over(element), inside)
        elif element.kind is ElementKind.LISTING:
            _listing(tiles, element)
        elif element.kind is ElementKind.FRAGMENT:
            fragment(tiles, element)
        else:
            _status(tiles, element, follows)
    return tuple(tiles.spans)


def _handed_over(element: Element) -> tuple[str, str, str]:
    """Field, meaning and source of a message, or of the part of one that TOP asks for."""
    if element.about == "TOP":
        meaning = _("The headers of a message, and as many lines of its body as the client asked for.")
        return "pop3.excerpt", meaning, "RFC 1939 section 7"
    return "pop3.content", _("The message, as the server hands it over."), "RFC 1939 section 5"


def _challenge(tiles: Tiles, element: Element) -> None:
    data = tiles.data
    stop = without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    inner.add(element.start + 1, "pop3.status", _("A plus: go on with AUTH."), "RFC 5034 section 4")
    inner.add(min(inner.at + 1, stop), "space", _("A space."), "RFC 5034 section 4")
    inner.extend(sasl.challenge(data, inner.at, stop, element.mechanism))
    line_end_span(inner, element.end)
    meaning = _("Step {number} of {mechanism}: the server asks.").format(
        number=element.step, mechanism=element.mechanism or "AUTH"
    )
    tiles.nest("auth.challenge", meaning, "RFC 5034 section 4", inner.spans, element.mechanism)


def _status(tiles: Tiles, element: Element, follows: Element | None) -> None:
    data = tiles.data
    stop = without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    meaning = (
        _("Positive: the server did what was asked.") if element.code == "+OK" else _("Negative: the server refuses.")
    )
    inner.add(element.start + len(element.code), "pop3.status", meaning, _SYNTAX)
    inner.add(blank_end(data, inner.at, stop), "space", _("A space."), _SYNTAX)
    if element.kind is ElementKind.GREETING:
        _greeting(inner, stop)
    elif element.code == "+OK":
        _answer(inner, stop, element, follows)
    code = _RESPONSE_CODE.match(data, inner.at, stop)
    if code:
        key = text(code.group(1)).upper()
        words, source = (
            RESPONSE_CODES.get(key)
            or RESPONSE_CODES.get(key.partition("/")[0])
            or ("Why, in a word for programs.", "RFC 2449 section 8")
        )
        inner.add(code.end(), "pop3.response-code", _(words), source)
    inner.add(stop, "pop3.text", _("Words for people."), _SYNTAX)
    line_end_span(inner, element.end)
    field = "pop3.greeting" if element.kind is ElementKind.GREETING else "pop3.response"
    tiles.nest(field, meaning, _SYNTAX, inner.spans, element.code)


def _greeting(tiles: Tiles, stop: int) -> None:
    found = list(_TIMESTAMP.finditer(tiles.data, tiles.at, stop))
    if found:
        tiles.add(found[-1].start(), "pop3.text", _("Words for people."), "RFC 1939 section 4")
        meaning = _("A timestamp that the server never uses twice: it offers APOP, which mixes it with the password.")
        tiles.add(found[-1].end(), "pop3.greeting.timestamp", meaning, "RFC 1939 section 7")


def _answer(tiles: Tiles, stop: int, element: Element, follows: Element | None) -> None:
    """The values that an +OK carries before its words: counts and sizes."""
    if element.about == "STAT":
        count, size = _("How many messages there are."), _("How many octets they have together.")
        _values(tiles, stop, [("pop3.stat.count", count), ("pop3.stat.size", size)])
    elif element.about in ("LIST", "UIDL") and (follows is None or follows.kind is not ElementKind.LISTING):
        words, field, _source = _LISTED[element.about]
        number = _("The number of a message in this session.")
        _values(
            tiles,
            stop,
            [(f"pop3.{element.about.lower()}.number", number), (f"pop3.{element.about.lower()}.{field}", _(words))],
        )
    elif element.about in ("RETR", "TOP"):
        announced = _OCTETS.match(tiles.data, tiles.at, stop)
        if announced:
            meaning = _octets_meaning(tiles.data, int(announced.group(1)[:20]), element.about, follows)
            tiles.add(announced.end(), f"pop3.{element.about.lower()}.octets", meaning, "RFC 1939 section 5")


def _octets_meaning(data: bytes, announced: int, verb: str, follows: Element | None) -> str:
    """What the server announced beside what came: without the terminator and without stuffed dots (RFC 1939 section 11)."""
    if verb == "TOP":
        return _("A number of octets: whether of the whole message or of what follows, only the server knows.")
    if follows is None or follows.kind is not ElementKind.CONTENT:
        return _("The size of the message in octets, as the server announces.")
    stop = terminator_start(data, follows.start, follows.end)
    came = stop - follows.start - stuffing(data, follows.start, stop)
    if stop == follows.end:
        sentence = _(
            "The size of the message in octets, as the server announces; {came} were captured, and not the end."
        )
    elif came == announced:
        sentence = _("The size of the message in octets, as the server announces; exactly {came} came.")
    else:
        sentence = _("The size of the message in octets, as the server announces; {came} came.")
    return sentence.format(came=came)


def _values(tiles: Tiles, stop: int, values: list[tuple[str, str]]) -> None:
    for field, meaning in values:
        tiles.add(word_end(tiles.data, tiles.at, stop), field, meaning, "RFC 1939 section 5")
        tiles.add(blank_end(tiles.data, tiles.at, stop), "space", _("A space."), _SYNTAX)


def _listing(tiles: Tiles, element: Element) -> None:
    data = tiles.data
    inner = Tiles(data, element.start)
    stop = terminator_start(data, element.start, element.end)
    for start, end in cut(data, element.start, stop):
        line = Tiles(data, start)
        line_stop = without_line_end(data, start, end)
        if element.about == "CAPA":
            _capability(line, line_stop)
        elif element.about == "AUTH":
            line.add(
                line_stop,
                "pop3.auth.mechanism",
                sasl.mechanism_meaning(upper(data[start:line_stop])),
                "RFC 5034 section 4",
            )
        elif element.about in _LISTED:
            _listed(line, line_stop, element.about)
        line.add(line_stop, "pop3.listing.text", _("A line of the answer."), _SYNTAX)
        line_end_span(line, end)
        inner.nest("pop3.listing.line", _("One line of the answer."), _SYNTAX, line.spans, text(data[start:line_stop]))
    meaning = _("A line with a single dot: the end of the answer.")
    inner.add(element.end, "pop3.terminator", meaning, _SYNTAX, value=".")
    tiles.nest("pop3.listing", _("An answer of several lines."), _SYNTAX, inner.spans, element.about)


def _listed(line: Tiles, stop: int, verb: str) -> None:
    words, field, source = _LISTED[verb]
    number = _("The number of a message in this session.") if verb != "LANG" else _(words)
    line.add(
        word_end(line.data, line.at, stop),
        f"pop3.{verb.lower()}.{'number' if verb != 'LANG' else field}",
        number,
        source,
    )
    line.add(blank_end(line.data, line.at, stop), "space", _("A space."), _SYNTAX)
    if verb == "LANG":
        line.add(stop, "pop3.lang.name", _("The language's own name."), source)
    else:
        line.add(word_end(line.data, line.at, stop), f"pop3.{verb.lower()}.{field}", _(words), source)


def _capability(line: Tiles, stop: int) -> None:
    data = line.data
    end = word_end(data, line.at, stop)
    key = text(data[line.at : end]).upper()
    words, source = CAPABILITIES.get(key, ("A capability.", "RFC 2449 section 5"))
    name = key.lower() if key in CAPABILITIES else "other"
    line.add(end, f"pop3.capa.{name}", _(words), source)
    while line.at < stop:
        line.add(blank_end(data, line.at, stop), "space", _("A space."), "RFC 2449 section 5")
        end = word_end(data, line.at, stop)
        meaning = sasl.mechanism_meaning(upper(data[line.at : end])) if key == "SASL" else _(words)
        line.add(end, f"pop3.capa.{name}.parameter", meaning, source)


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
