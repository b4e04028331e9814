"""Groups: how a long dialogue becomes short enough to look at.

What belongs together (a reply of several lines, a message, a listing, a flight of TLS records) is one group. It shows what
tells most, and folds the rest. Every face uses the same groups, so a learner finds in the figure what the text showed.
Sizes of a handshake are never told: they depend on the TLS library.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.protocols import PROTOCOLS
from labkit.decode.spans import Visibility
from labkit.show.marks import Style, style, style_of
from labkit.texts import _
from labkit.wire.flows import Side

SHORT = 3  # a group of so many lines is shown whole
LONGEST = 400  # characters of a line that are shown
RECORD_HEADER = 5  # octets before a TLS record's payload (RFC 8446 section 5.1)

_OFFERS = rf"(?:{'|'.join(offer for protocol in PROTOCOLS for offer in protocol.offers)})\b"
# What tells most in a group: how a server lets people in, and whom a message is from, for, and about.
TELLING = {
    LineKind.REPLY: re.compile(rf"(?i)\d{{3}}[- ]{_OFFERS}"),
    LineKind.LISTING: re.compile(rf"(?i){_OFFERS}"),
    LineKind.MESSAGE: re.compile(r"(?i)(?:From|To|Subject):"),
}
NOTHING = re.compile(r"(?!)")


def sized(count: int) -> str:
    """So many bytes, in words."""
    return _("1 byte") if count == 1 else _("{count:,} bytes").format(count=count)


@dataclass(frozen=True, slots=True)
class ShownLine:
    """One line as it is shown. text: as it was on the wire, not yet made visible."""

    style: Style
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Lines of one side that belong together. rows: what is shown of them; folded: the rest, and `more` says what it is.

    headline: the group in a single row, for a figure or a narrow column. size: octets of what it says, without the headers
    of TLS records. records: how many TLS records carry it, of which nothing but the size can be seen; 0 otherwise.
    """

    side: Side
    kind: LineKind
    rows: tuple[ShownLine, ...]
    folded: tuple[ShownLine, ...]
    more: str
    headline: ShownLine
    size: int
    records: int = 0


def groups(dissection: Dissection) -> tuple[Group, ...]:
    """The conversation's lines, gathered into groups, in the order of the wire."""
    secret = application_data(dissection)
    grouped = groupby(dissection.lines, _belongs(dissection, secret))
    return tuple(_group(tuple(lines), secret) for _key, lines in grouped)


def application_data(dissection: Dissection) -> frozenset[tuple[Side, int]]:
    """Side and start of the TLS records that carry mail, as far as an eavesdropper can infer; all others set TLS up."""
    records = dissection.session.records if dissection.session else ()
    return frozenset((record.side, record.start) for record in records if record.application)


def _belongs(dissection: Dissection, secret: frozenset[tuple[Side, int]]) -> Callable[[Line], object]:
    """What lines of one group have in common."""
    replies = [reply.start for reply in dissection.replies]

    def key(line: Line) -> object:
        if line.kind in {LineKind.MESSAGE, LineKind.LISTING}:
            return line.side, line.kind
        if line.kind is LineKind.TLS:
            return line.side, line.kind, (line.side, line.start) in secret
        if line.side is Side.SERVER:
            return line.side, line.kind, bisect_right(replies, line.start)
        return line.side, line.kind, line.start

    return key


def _group(lines: tuple[Line, ...], secret: frozenset[tuple[Side, int]]) -> Group:
    first = lines[0]
    if (first.side, first.start) in secret:
        return _ciphertext(lines)
    if first.kind is LineKind.TLS:
        return _handshake(lines)
    shown = set(lines if len(lines) <= SHORT else _telling(lines))
    rows = tuple(_row(line) for line in lines if line in shown)
    folded = tuple(_row(line) for line in lines if line not in shown)
    return Group(first.side, first.kind, rows, folded, _more(len(folded)), _headline(lines), _size(lines))


def _row(line: Line) -> ShownLine:
    return ShownLine(style_of(line), _beginning(line.text))


def _beginning(text: str) -> str:
    """A line, or how it begins and how much more there is: who attacks writes megabytes without a line end."""
    left = len(text) - LONGEST
    return text if left <= 0 else _("{start} … {count:,} more characters").format(start=text[:LONGEST], count=left)


def _size(lines: tuple[Line, ...]) -> int:
    return sum(line.end - line.start for line in lines)


def _telling(lines: tuple[Line, ...]) -> Iterator[Line]:
    """The lines that tell most, and the first one, except of a message, whose first line seldom tells anything."""
    telling = TELLING.get(lines[0].kind, NOTHING)
    marked = [line for line in lines if telling.match(line.text)][:SHORT]
    if lines[0].kind is not LineKind.MESSAGE or not marked:
        yield lines[0]
    yield from marked


def _headline(lines: tuple[Line, ...]) -> ShownLine:
    """A reply is known by how it lets people in, a message by its subject, everything else by its first line."""
    telling = TELLING.get(lines[0].kind, NOTHING)
    marked = [line for line in lines if telling.match(line.text)]
    if lines[0].kind is LineKind.MESSAGE:
        marked = [line for line in marked if line.text.casefold().startswith("subject:")]
    best = marked[0] if marked else lines[0]
    words = _beginning(best.text)
    return ShownLine(style_of(best), f"{words} …" if len(lines) > 1 else words)


def _more(count: int) -> str:
    if count == 1:
        return _("… 1 more line")
    return _("… {count:,} more lines").format(count=count) if count else ""


def _ciphertext(lines: tuple[Line, ...]) -> Group:
    records = tuple(ShownLine(style(Visibility.HIDDEN), line.text) for line in lines)
    shown = records[0]
    payload = _size(lines) - RECORD_HEADER * len(lines)
    if len(lines) > 1:
        words = _("application data, {count} records, {size}").format(count=len(lines), size=sized(payload))
        shown = ShownLine(shown.style, words)
    folded = records if len(lines) > 1 else ()
    more = _("… record by record") if folded else ""
    headline = ShownLine(shown.style, sized(payload))
    return Group(lines[0].side, LineKind.TLS, (shown,), folded, more, headline, payload, len(lines))


def _handshake(lines: tuple[Line, ...]) -> Group:
    """How many records a flight has depends on the TLS library: a repeated kind of message is named once.

    ChangeCipherSpec, which says nothing in TLS 1.3, stands last.
    """
    names = dict.fromkeys(map(attrgetter("visibility", "text"), lines))
    ordered = sorted(names, key=lambda name: name[1].startswith("ChangeCipherSpec"))
    rows = tuple(ShownLine(style(visibility), text) for visibility, text in ordered)
    more = _("… the rest of the handshake") if rows[1:] else ""
    return Group(lines[0].side, LineKind.TLS, rows[:1], rows[1:], more, rows[0], _size(lines))
