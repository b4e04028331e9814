"""Span: bytes [start, end) of a stream, the field they are, what it means, where that is written, who could read it.

Every decoder turns a stream into spans that cover each byte exactly once: siblings touch, children fill their parent.
That is the whole contract, and a property test holds it for any input; so no byte can be left unexplained.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice, takewhile

from labkit.decode.meanings import meaning_of
from labkit.texts import N_


class Visibility(StrEnum):
    """Who can read the bytes."""

    READABLE = N_("readable")  # anybody on the way
    ENCODED = N_("encoded")  # anybody who undoes an encoding; no key needed
    GUESSABLE = N_("guessable")  # anybody who tries passwords offline against it
    HANDSHAKE = N_("handshake")  # anybody, but it only sets up encryption
    HIDDEN = N_("hidden")  # the two ends only


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of one side's stream.

    field: a dotted name, such as "smtp.mail.sender". value: the field's value as text, ready for a person, unescaped.
    meaning: one plain-English sentence (translated). source: RFC and section. children: tile [start, end) when not empty.
    """

    start: int
    end: int
    field: str
    value: str = ""
    meaning: str = ""
    source: str = ""
    visibility: Visibility = Visibility.READABLE
    children: tuple["Span", ...] = ()

    def shifted(self, offset: int) -> "Span":
        """The same span, `offset` bytes further on."""
        children = tuple(child.shifted(offset) for child in self.children)
        return replace(self, start=self.start + offset, end=self.end + offset, children=children)


class Tiles:
    """Makes spans that touch: each starts where the last one ended, and an empty one is left out."""

    __slots__ = ("at", "data", "spans")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.spans: list[Span] = []

    def add(
        self,
        end: int,
        field: str,
        value: str | None = None,
        *,
        visibility: Visibility = Visibility.READABLE,
        meaning: str = "",
        source: str = "",
    ) -> None:
        """A leaf up to `end`; its value is its own text, and its meaning the table's, unless others are given."""
        if end > self.at:
            if value is None:
                value = self.data[self.at : end].decode("utf-8", "backslashreplace")
            if not (meaning and source):
                sentence, written = meaning_of(field)
                meaning, source = meaning or sentence, source or written
            self.spans.append(Span(self.at, end, field, value, meaning, source, visibility))
            self.at = end

    def nest(
        self, field: str, children: Iterable[Span], value: str = "", *, meaning: str = "", source: str = ""
    ) -> None:
        """A span around children that begin where the last span ended."""
        inner = tuple(children)
        if inner:
            end, (sentence, written) = inner[-1].end, meaning_of(field)
            meaning, source = meaning or sentence, source or written
            self.spans.append(Span(self.at, end, field, value, meaning, source, hardest_to_read(inner), inner))
            self.at = end

    def extend(self, spans: Iterable[Span]) -> None:
        """Spans made elsewhere that begin where the last span ended."""
        self.spans.extend(spans)
        self.at = self.spans[-1].end if self.spans else self.at


_CLOSEDNESS = {
    Visibility.READABLE: 0,
    Visibility.ENCODED: 1,
    Visibility.HANDSHAKE: 2,
    Visibility.GUESSABLE: 3,
    Visibility.HIDDEN: 4,
}


def hardest_to_read(spans: Iterable[Span]) -> Visibility:
    """The visibility of the span that is hardest to read; what stands for a line or a group of spans as a whole."""
    return max((span.visibility for span in spans), key=_CLOSEDNESS.__getitem__, default=Visibility.READABLE)


def window(
    spans: Sequence[Span], start: int, end: int, offset: int, meaning: Callable[[Span, int, int], str] | None = None
) -> tuple[Span, ...]:
    """What touching spans say of [start, end), moved by `offset`; a span that reaches over an edge is cut there.

    meaning: says what [first, last) of a span means; else every span keeps its own.
    """
    found = []
    following = islice(spans, bisect_right(spans, start, key=lambda span: span.end), None)
    for span in takewhile(lambda span: span.start < end, following):
        first, last = max(span.start, start), min(span.end, end)
        children = window(span.children, start, end, offset, meaning)
        told = meaning(span, first, last) if meaning else span.meaning
        found.append(replace(span, start=first + offset, end=last + offset, meaning=told, children=children))
    return tuple(found)


def leaves(spans: Iterable[Span]) -> Iterator[Span]:
    """The innermost spans, in order."""
    for span in spans:
        if span.children:
            yield from leaves(span.children)
        else:
            yield span


def at(spans: Iterable[Span], position: int) -> tuple[Span, ...]:
    """The spans around a byte, outermost first; empty when no span covers it."""
    for span in spans:
        if span.start <= position < span.end:
            return (span, *at(span.children, position))
    return ()


def untiled(spans: tuple[Span, ...], start: int, end: int) -> str:
    """Why the spans do not cover [start, end) exactly once, at every level; empty when they do."""
    position = start
    for span in spans:
        if span.start != position or span.end <= span.start:
            return f"{span.field} covers [{span.start}, {span.end}) where {position} comes next"
        if span.children and (why := untiled(span.children, span.start, span.end)):
            return f"{span.field}: {why}"
        position = span.end
    return "" if position == end else f"covered up to {position}, not {end}"
