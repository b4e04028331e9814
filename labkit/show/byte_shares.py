"""Byte shares: how many bytes of a session are what, in the order of the wire.

Words of the protocol, content that can be read, content that is only encoded, ciphertext: this is what the byte strip draws
and what the cost table counts. A TLS handshake's size depends on the TLS library, so it is kept apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.spans import Span, Visibility, leaves
from labkit.show.groups import application_data
from labkit.show.marks import PROTOCOL, STYLES, Style, style, style_of
from labkit.texts import _
from labkit.wire.flows import Side


@dataclass(frozen=True, slots=True)
class ByteShare:
    """`size` octets that follow each other on the wire and look alike."""

    style: Style
    size: int

    @property
    def is_handshake(self) -> bool:
        """Whether its size depends on the TLS library."""
        return self.style.name == Visibility.HANDSHAKE


def byte_shares(dissections: Iterable[Dissection]) -> tuple[ByteShare, ...]:
    """All bytes of some conversations; neighbours that look alike are one share."""
    pieces = (piece for dissection in dissections for piece in _pieces(dissection))
    return tuple(
        ByteShare(alike, sum(piece.size for piece in group)) for alike, group in groupby(pieces, attrgetter("style"))
    )


def payload(found: Iterable[ByteShare]) -> str:
    """How many bytes these are, in words that repeat everywhere."""
    pieces = tuple(found)
    total = sum(piece.size for piece in pieces if not piece.is_handshake)
    if any(piece.is_handshake for piece in pieces):
        return _("{total:,} + TLS handshake").format(total=total)
    return f"{total:,}"


def _pieces(dissection: Dissection) -> Iterator[ByteShare]:
    """A line of TLS as a whole; of any other line each innermost span."""
    secret = application_data(dissection)
    spans = {Side.CLIENT: _Ahead(dissection.client_spans), Side.SERVER: _Ahead(dissection.server_spans)}
    told = 0
    for line in dissection.lines:
        told += line.end - line.start
        if line.kind is LineKind.TLS:
            hidden = (line.side, line.start) in secret
            yield ByteShare(style(Visibility.HIDDEN if hidden else Visibility.HANDSHAKE), line.end - line.start)
        else:
            yield from _inside(line, spans[line.side])
    flow = dissection.flow
    if untold := len(flow.client_stream.data) + len(flow.server_stream.data) - told:
        yield ByteShare(STYLES[PROTOCOL], untold)


class _Ahead:
    """The innermost spans of a stream, taken line by line."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._leaves = leaves(spans)
        self._leaf = next(self._leaves, None)

    def within(self, start: int, end: int) -> Iterator[Span]:
        """Those that reach into [start, end). Lines have to be asked for in order."""
        while self._leaf is not None and self._leaf.start < end:
            if self._leaf.end > start:
                yield self._leaf
            if self._leaf.end > end:
                return
            self._leaf = next(self._leaves, None)


def _inside(line: Line, spans: _Ahead) -> Iterator[ByteShare]:
    """In a line about people everything readable counts as content, except the words before a value that is not."""
    whole = style_of(line)
    position = line.start
    for span in spans.within(line.start, line.end):
        end = min(span.end, line.end)
        alike = style(span.visibility)
        if span.visibility is Visibility.READABLE:
            alike = whole if whole.name == Visibility.READABLE else STYLES[PROTOCOL]
        yield ByteShare(alike, end - position)
        position = end
    if position < line.end:
        yield ByteShare(whole, line.end - position)
