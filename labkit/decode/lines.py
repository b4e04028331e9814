"""What a dialogue is made of: lines, commands, replies, and the elements that a scanner cuts a stream into.

SMTP and POP3 are read twice. A scanner first cuts both streams into elements (a command, a whole reply, a step of AUTH, a
message), by finding line ends and following the replies; that is cheap, and enough to list every command of a large
capture. Spans are then made element by element, when somebody asks for them. Both see bytes alone, never how TCP cut them.
"""

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from typing import NamedTuple

from labkit.decode.fields import text
from labkit.decode.meanings import meaning_of
from labkit.decode.spans import Tiles, Visibility
from labkit.texts import _
from labkit.wire.flows import Segment, Side, Stream


class LineKind(StrEnum):
    """What a line of the dialogue is."""

    COMMAND = "command"
    REPLY = "reply"
    AUTH = "auth"  # a step of an authentication exchange: challenge or response
    MESSAGE = "message"  # mail content: DATA, BDAT, RETR, TOP
    LISTING = "listing"  # a multiline answer that is not mail: LIST, UIDL, CAPA
    TLS = "tls"  # a TLS record or handshake message
    UNKNOWN = "unknown"  # all that a side says in a protocol that is none of these
    OTHER = "other"


class Awaited(Enum):
    """What the client says next."""

    COMMAND = "a command"
    CONTENT = "a message, up to a line with a single dot"
    RESPONSE = "an answer within AUTH"
    TLS = "a TLS handshake"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the dialogue: bytes [start, end) of a side's stream, as text.

    text: for a person, without the line end, unescaped; what can be said of it where it is TLS or an unknown protocol.
    """

    side: Side
    kind: LineKind
    start: int
    end: int
    text: str
    visibility: Visibility
    packet: int
    time: int


class Command(NamedTuple):
    """A command as the client sent it; verb in upper case, argument as sent."""

    verb: str
    argument: str
    packet: int
    start: int
    end: int


class Reply(NamedTuple):
    """A reply: SMTP's three digits or POP3's "+OK", "-ERR" and "+"; text joined with newlines when it has several lines."""

    code: str
    text: str
    packet: int
    start: int
    end: int


class ElementKind(Enum):
    """What an element is, and how the lines in it are told."""

    COMMAND = LineKind.COMMAND, 1
    RESPONSE = LineKind.AUTH, 1  # the client's answer in an AUTH exchange
    GREETING = LineKind.REPLY, 2
    REPLY = LineKind.REPLY, 3
    CHALLENGE = LineKind.AUTH, 2  # the server's question in an AUTH exchange
    CONTENT = LineKind.MESSAGE, 1  # dot-stuffed lines up to the terminator
    CHUNK = LineKind.MESSAGE, 2  # BDAT: counted octets, no terminator
    LISTING = LineKind.LISTING, 1
    FRAGMENT = LineKind.OTHER, 1  # what cannot be placed: after a gap, or against the protocol

    @property
    def line(self) -> LineKind:
        """What a line of such an element is."""
        return self.value[0]


class Element(NamedTuple):
    """Bytes [start, end) that one side says as one thing.

    about: the verb of the command it is or answers, "" when unknown. code: of a reply. mechanism, step: within AUTH,
    the SASL mechanism and the number of the exchange, from 0 (an initial response) on.
    """

    kind: ElementKind
    start: int
    end: int
    about: str = ""
    code: str = ""
    mechanism: str = ""
    step: int = 0


Row = tuple[ElementKind, int, int, str, str, str, int]  # what an Element is, before somebody asks for its parts by name


class Reading(NamedTuple):
    """Both streams cut into elements, in order; client_tls and server_tls: where TLS takes over, or None.

    The elements tile [0, client_tls or the stream's length), and likewise for the server.
    """

    client: list[Element]
    server: list[Element]
    client_tls: int | None = None
    server_tls: int | None = None


def line_end(data: bytes, start: int, limit: int) -> int:
    """Where the line at `start` ends, its LF included; `limit` when it never does."""
    return data.find(b"\n", start, limit) + 1 or limit


class Terminators:
    """Finds the lines that hold a single dot and end dot-stuffed content, from front to back.

    RFC 5321 section 4.1.1.4 knows CRLF "." CRLF and nothing else. Only where that never comes are bare line feeds
    taken for line ends, as software that sends nothing else means them.
    """

    __slots__ = ("data", "last")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.last: int | None = None  # from here on no proper one comes; it need not be searched for again

    def after(self, start: int) -> tuple[int, int] | None:
        """Bytes [start, end) of the first such line from `start` on; None when it does not come."""
        data = self.data
        if data.startswith(b".\r\n", start):
            return start, start + 3
        if self.last is None or start < self.last:
            if (at := data.find(b"\r\n.\r\n", start)) >= 0:
                return at + 2, at + 5
            self.last = start
        found = _BARE_TERMINATOR.search(data, start - 1 if start and data[start - 1] == 0x0A else start)
        return (found.end(1), found.end()) if found else None


def terminator_start(data: bytes, start: int, end: int) -> int:
    """Where the terminator of the content [start, end) begins, if that ends with one; `end` if not."""
    for mark in (b".\r\n", b".\n"):
        at = end - len(mark)
        if at >= start and data.startswith(mark, at) and (at == start or data[at - 1] == 0x0A):
            return at
    return end


# White space as lenient servers split at it: all of Unicode's in UTF-8, and the no-break space of ISO 8859-1.
_BLANK = (
    rb"(?:[\t\v\f\r \x1c-\x1f]|(?<![\x80-\xff])\xa0|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]"
    rb"|\xe2\x81\x9f|\xe3\x80\x80)"
)
_BLANKS = re.compile(_BLANK + rb"+")
_BARE_TERMINATOR = re.compile(rb"(\A|\n)\.\r?\n")


TLS_RECORD = b"\x16\x03"  # a handshake record, of whatever version: no line of a mail protocol begins so


def tls_start(data: bytes, start: int) -> int:
    """Where TLS begins after the command that asked for it: at the first line that is a handshake record, or at once."""
    at = start
    while at < len(data) and not data.startswith(TLS_RECORD, at):
        at = line_end(data, at, len(data))
    return start if at == len(data) else at


@lru_cache(maxsize=256)
def upper(word: bytes) -> str:
    """A word of the protocol as text, its ASCII letters in upper case: so commands and mechanisms are compared.

    No other letter has two cases there (RFC 5321 section 2.4, RFC 1939 section 3, RFC 4422 section 3.1).
    """
    return text(word.upper())


def verb_of(line: bytes) -> str:
    """The command word of a line, in upper case."""
    words = line.split(None, 1)
    return upper(words[0]) if words else ""


def command_word(word: bytes, known: Container[str]) -> str:
    """The verb that a line begins with; `word` goes up to ASCII white space.

    What is no verb is taken for the one that a lenient server reads there, which splits at any white space of Unicode and
    folds its letters: a credential that follows can be read on the way, whatever the server makes of it.
    """
    verb = upper(word)
    if verb in known:
        return verb
    lenient = text(b"".join(words_of(word, 1)[:1])).upper()
    return lenient if lenient in known else verb


def words_of(line: bytes, limit: int) -> list[bytes]:
    """The first words of a line, split at any white space, and then the rest: `limit` and one at most."""
    line = line[blank_end(line, 0, len(line)) :].rstrip(b"\r\n")
    return _BLANKS.split(line, limit) if line else []


def mechanism_of(line: bytes) -> str:
    """The SASL mechanism that an AUTH command names, in upper case; "" when it names none."""
    words = words_of(line, 2)
    return upper(words[1]) if len(words) > 1 else ""


def locator(stream: Stream) -> Callable[[int], Segment]:
    """`Stream.segment_at`, which answers packet 0 where no packet is known instead of raising."""
    nowhere = Segment(0, 0, 0, len(stream.data))
    return stream.segment_at if stream.segments else lambda _position: nowhere


def list_commands(stream: Stream, elements: Iterable[Row]) -> tuple[Command, ...]:
    """The commands among a client's elements. Made without Command's own constructor, which is a function in Python."""
    data, packet_at, command, new = stream.data, stream.packet_finder(), ElementKind.COMMAND, tuple.__new__
    found: list[Command] = []
    for kind, start, end, about, _code, _mechanism, _step in elements:
        if kind is command:
            words = data[start:end].split(None, 1)
            if words and len(words[0]) != len(about):
                words = words_of(data[start:end], 1)
            argument = text(words[1].rstrip(b"\r\n")) if len(words) > 1 else ""
            found.append(new(Command, (about, argument, packet_at(start), start, end)))
    return tuple(found)


def cut(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """The lines of [start, end), as (start, end), line ends included."""
    lines = []
    while start < end:
        stop = line_end(data, start, end)
        lines.append((start, stop))
        start = stop
    return lines


def without_line_end(data: bytes, start: int, end: int) -> int:
    """Where the text of the line [start, end) ends: before its CRLF or LF."""
    if end > start and data[end - 1] == 0x0A:
        end -= 1
        if end > start and data[end - 1] == 0x0D:
            end -= 1
    return end


def blank_end(data: bytes, start: int, stop: int) -> int:
    """Where the white space at `start` ends."""
    found = _BLANKS.match(data, start, stop)
    return found.end() if found else start


def word_end(data: bytes, start: int, stop: int) -> int:
    """Where the word at `start` ends."""
    found = _BLANKS.search(data, start, stop)
    return found.start() if found else stop


def not_as_written(word: str) -> str:
    """What to say of a word that only lenient software takes for `word`."""
    odd = _("Not written as the protocol wants it: a strict server does not know it, a lenient one reads {word}.")
    return odd.format(word=word)


def verb_span(tiles: Tiles, end: int, field: str, verb: str) -> None:
    """The command word, which a lenient server may have taken for the verb although it is none (`command_word`)."""
    meaning = ""
    if upper(tiles.data[tiles.at : end]) != verb:
        meaning = f"{meaning_of(field).sentence} {not_as_written(verb)}"
    tiles.add(end, field, meaning=meaning)


def separator(tiles: Tiles, end: int, source: str) -> None:
    """The white space between words, up to `end`: one space, or what only a lenient server takes for one."""
    meaning = ""
    if tiles.data[tiles.at : end] != b" ":
        meaning = _("White space where the protocol has one space: only a lenient server reads on.")
    tiles.add(end, "space", meaning=meaning, source=source)


def line_end_span(tiles: Tiles, end: int) -> None:
    """The CRLF (or the LF) of a line."""
    if end > tiles.at:
        value = "CRLF" if end - tiles.at == 2 else "LF"
        tiles.add(end, "line-end", value=value)


def fragment(tiles: Tiles, element: Element) -> None:
    """Bytes that cannot be placed, or that stand where the protocol does not allow any."""
    if element.about:
        meaning = _("Sent in clear after {verb} and before TLS; the receiver must not act on it.").format(
            verb=element.about
        )
        tiles.add(element.end, "fragment.before-tls", meaning=meaning)
    else:
        tiles.add(element.end, "fragment")
