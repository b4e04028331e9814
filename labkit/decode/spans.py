"""Span: bytes [start, end) of a stream, the field they are, what it means, where that is written, who could read it.

Every decoder turns a stream into spans that cover each byte exactly once: siblings touch, children fill their parent.
That is the whole contract, and a property test holds it for any input; so no byte can be left unexplained.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum


class Visibility(StrEnum):
    """Who can read the bytes."""

    READABLE = "readable"  # anybody on the way
    ENCODED = "encoded"  # anybody who undoes an encoding; no key needed
    GUESSABLE = "guessable"  # anybody who tries passwords offline against it
    HANDSHAKE = "handshake"  # anybody, but it only sets up encryption
    HIDDEN = "hidden"  # the two ends only


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
