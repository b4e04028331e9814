"""What there is to explore in a capture: a list, and of each entry its octets and the spans that explain them.

An entry is a packet, as it was recorded, or a burst: what one side says before the other answers. A packet's spans go from
its headers down to the innermost span of the stream's bytes that it carries, because every byte of a stream remembers the
packet that brought it; what keys opened follows the packet's own octets, as a second part. Packets differ from run to run;
bursts are the same wherever the same was said, so a notebook lists these. Neither knows anything of a browser.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, takewhile
from operator import attrgetter
from typing import NamedTuple, Protocol, runtime_checkable

from labkit.decode.dissection import Dissection, Line
from labkit.decode.headers import frame_spans
from labkit.decode.spans import Span, window
from labkit.show.dialogue import name_of, protocol_of
from labkit.show.explain import Explanation
from labkit.show.groups import sized
from labkit.show.safe import glimpse
from labkit.texts import _
from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Burst, Side
from labkit.wire.frames import Frame

ENTRIES = 1000  # entries of a list
OCTETS = 4096  # octets of an entry that are shown, and as many of what keys opened of it
LONGEST_INFO = 160  # characters
LONGEST_END = 80  # columns of an endpoint's name and port
LINES = 6  # lines that stand for an entry

_SOURCES = ("ip.source", "ip6.source")
_TARGETS = ("ip.destination", "ip6.destination")


@runtime_checkable
class Explorable(Protocol):
    """What is asked of a capture: its packets between the ends that people know, what they say, and a static view."""

    @property
    def named_frames(self) -> Sequence[Frame]: ...
    @property
    def flows(self) -> tuple[Dissection, ...]: ...
    def explain(self) -> Explanation: ...


class ListEntry(NamedTuple):
    """One row of a list. number: 1-based. time: seconds after the first, where it is told. length: octets."""

    number: int
    time: str
    source: str
    target: str
    protocol: str
    length: int
    info: str


class Section(NamedTuple):
    """Octets [start, end) of an entry that belong together. first: the number of the first of them, counted from 0."""

    title: str
    start: int
    end: int
    first: int


class Contents(NamedTuple):
    """What an entry holds. spans: they tile the octets. left_out: octets that are not here."""

    octets: bytes
    parts: tuple[Section, ...]
    spans: tuple[Span, ...]
    left_out: int


class Exploration(ABC):
    """A list of entries, and what each holds."""

    note: str = ""  # what is said of entries that are not listed; empty when all are

    @property
    @abstractmethod
    def entries(self) -> tuple[ListEntry, ...]:
        """The list."""

    @abstractmethod
    def contents(self, index: int) -> Contents:
        """What the entry with this index (from 0) holds. Raises IndexError for one that is not in the list."""


class Bursts(Exploration):
    """What one side says before the other answers, flow by flow; what keys opened of a flow comes after it."""

    def __init__(self, capture: Explorable) -> None:
        found = (
            (dissection, number, burst)
            for flow in capture.flows
            for dissection in filter(None, (flow, flow.opened))
            for number, burst in enumerate(dissection.flow.bursts, 1)
        )
        self._bursts = list(islice(found, ENTRIES + 1))
        if len(self._bursts) > ENTRIES:
            self._bursts.pop()
            self.note = _("The first {shown:,} bursts.").format(shown=ENTRIES)

    @cached_property
    def entries(self) -> tuple[ListEntry, ...]:
        """The list; a burst is numbered within its flow, as the exposure's "where" counts."""
        return tuple(self._entry(*each) for each in self._bursts)

    def _entry(self, dissection: Dissection, number: int, burst: Burst) -> ListEntry:
        ends = name_of(dissection.flow.client), name_of(dissection.flow.server)
        source, target = ends if burst.side is Side.CLIENT else reversed(ends)
        lines, length = self._lines[id(dissection), burst.side], burst.end - burst.start
        first, end = (bisect_left(lines, position, key=attrgetter("start")) for position in (burst.start, burst.end))
        protocol = _protocol(dissection, window(dissection.spans(burst.side), burst.start, burst.start + 1, 0))
        return ListEntry(number, "", source, target, protocol, length, _words(lines[first:end], length))

    @cached_property
    def _lines(self) -> Mapping[tuple[int, Side], list[Line]]:
        """The lines of each side of a dissection."""
        found: dict[tuple[int, Side], list[Line]] = defaultdict(list)
        for dissection in {id(dissection): dissection for dissection, _number, _burst in self._bursts}.values():
            for line in dissection.lines:
                found[id(dissection), line.side].append(line)
        return found

    def contents(self, index: int) -> Contents:
        dissection, _number, burst = self._bursts[index]
        end = min(burst.end, burst.start + OCTETS)
        octets = dissection.flow.stream(burst.side).data[burst.start : end]
        title = _("What the client sent") if burst.side is Side.CLIENT else _("What the server sent")
        spans = window(dissection.spans(burst.side), burst.start, end, -burst.start)
        return Contents(octets, (Section(title, 0, len(octets), burst.start),), spans, burst.end - end)


class _Carried(NamedTuple):
    """Bytes [start, end) of what a side of a connection sent. opened: they were inside TLS, and keys opened them."""

    dissection: Dissection
    side: Side
    start: int
    end: int
    opened: bool


class Packets(Exploration):
    """A capture's first packets."""

    def __init__(self, capture: Explorable) -> None:
        self._frames = list(islice(capture.named_frames, ENTRIES))
        in_all = len(capture.named_frames)
        if in_all > len(self._frames):
            words = _("The first {shown:,} of {count:,} packets.")
            self.note = words.format(shown=len(self._frames), count=in_all)
        self._dissections = list(takewhile(self._begins_here, capture.flows))

    def _begins_here(self, dissection: Dissection) -> bool:
        return next(iter(dissection.flow.packets), 0) <= len(self._frames)

    @cached_property
    def entries(self) -> tuple[ListEntry, ...]:
        """The list; packets are numbered as Wireshark counts."""
        return tuple(self._entry(number, frame) for number, frame in enumerate(self._frames, 1))

    def contents(self, index: int) -> Contents:
        frame, carried = self._frames[index], self._carried.get(index + 1, ())
        octets = frame.data[:OCTETS]
        spans = window(_with_streams(frame, carried), 0, OCTETS, 0)
        parts = [Section(_("The packet"), 0, len(octets), 0)]
        left_out, room = len(frame.data) - len(octets), OCTETS
        for entry in (entry for entry in carried if entry.opened):
            start, end = len(octets), min(entry.end, entry.start + room)
            spans += window(entry.dissection.spans(entry.side), entry.start, end, start - entry.start)
            octets += entry.dissection.flow.stream(entry.side).data[entry.start : end]
            parts.append(Section(_("Inside TLS, opened with the keys"), start, len(octets), entry.start))
            left_out += entry.end - end
            room -= end - entry.start
        return Contents(octets, tuple(parts), spans, left_out)

    def _entry(self, number: int, frame: Frame) -> ListEntry:
        spans = frame_spans(frame)
        fields = {child.field: child.value for span in spans for child in span.children}
        carried = self._carried.get(number, ())
        seconds = (frame.time - self._frames[0].time) / 1e9
        lines = self._lines.get(number, ())
        return ListEntry(
            number,
            f"{seconds:.6f}",
            self._end(fields, _SOURCES, "tcp.source_port") or fields.get("ethernet.source", ""),
            self._end(fields, _TARGETS, "tcp.destination_port") or fields.get("ethernet.destination", ""),
            _protocol_of(spans, carried),
            frame.length,
            glimpse(_info(spans, carried, lines), LONGEST_INFO),
        )

    def _end(self, fields: Mapping[str, str], addresses: Iterable[str], port: str) -> str:
        address = next((fields[name] for name in addresses if name in fields), "")
        if port not in fields:
            return address
        end = Endpoint(address, int(fields[port]))
        return glimpse(str(self._names.get((end.address, end.port), end)), LONGEST_END)

    @cached_property
    def _names(self) -> dict[tuple[str, int], Endpoint]:
        ends = [end for each in self._dissections for end in (each.flow.client, each.flow.server)]
        return {(end.address, end.port): end for end in ends}

    def _readings(self) -> Iterator[tuple[Dissection, bool]]:
        """Every connection, and after it what keys opened of it, with whether they did."""
        for dissection in self._dissections:
            yield dissection, False
            if dissection.opened:
                yield dissection.opened, True

    @cached_property
    def _carried(self) -> Mapping[int, list[_Carried]]:
        """For each packet that brought bytes of a stream, which; the stream itself before what was inside TLS."""
        found: dict[int, list[_Carried]] = defaultdict(list)
        for dissection, opened in self._readings():
            for side in Side:
                for segment in dissection.flow.stream(side).segments:
                    if segment.packet <= len(self._frames):
                        found[segment.packet].append(_Carried(dissection, side, segment.start, segment.end, opened))
        return found

    @cached_property
    def _lines(self) -> Mapping[int, list[Line]]:
        """The lines that begin in each packet."""
        found: dict[int, list[Line]] = defaultdict(list)
        for dissection, _opened in self._readings():
            for line in dissection.lines:
                if line.packet <= len(self._frames):
                    found[line.packet].append(line)
        return found


def _protocol(dissection: Dissection, spans: Sequence[Span]) -> str:
    """What is spoken where these spans are: before STARTTLS something else than after it."""
    return "TLS" if spans and spans[0].field.partition(".")[0] == "tls" else protocol_of(dissection)


def _protocol_of(spans: Sequence[Span], carried: Sequence[_Carried]) -> str:
    """What the packet speaks: the innermost protocol that is known."""
    for entry in carried[:1]:
        return _protocol(entry.dissection, window(entry.dissection.spans(entry.side), entry.start, entry.start + 1, 0))
    headers = [span.field.partition(".")[0] for span in spans if span.children]
    known = {"tcp": "TCP", "ip": "IPv4", "ip6": "IPv6", "ethernet": "Ethernet"}
    return next((known[name] for name in reversed(headers) if name in known), "")


def _info(spans: Sequence[Span], carried: Sequence[_Carried], lines: Sequence[Line]) -> str:
    """A packet in a few words: what it brings, else the flags of TCP."""
    if lines or carried:
        return _words(lines, carried[0].end - carried[0].start if carried else 0)
    return next((span.value for span in reversed(spans) if span.children), "")


def _words(lines: Sequence[Line], length: int) -> str:
    """The lines that begin in an entry, or what it is when none does."""
    if not lines:
        return _("goes on with what came before: {size}").format(size=sized(length))
    return glimpse("  ".join(line.text for line in lines[:LINES]), LONGEST_INFO)


def _with_streams(frame: Frame, carried: Sequence[_Carried]) -> tuple[Span, ...]:
    """The frame's spans; those of the stream's bytes that it brought stand inside its payload."""
    spans = frame_spans(frame)
    brought = [entry for entry in carried if not entry.opened]
    return tuple(_filled(span, frame.data, brought) if span.field == "tcp.payload" else span for span in spans)


def _filled(payload: Span, data: bytes, brought: Sequence[_Carried]) -> Span:
    """The payload with its streams' spans as children; bytes that are not the stream's (sent again) are one more each."""
    children: list[Span] = []
    at = payload.start
    for entry in brought:
        octets = entry.dissection.flow.stream(entry.side).data[entry.start : entry.end]
        # a segment shorter than the payload is what was new in it, and the new is mostly the end
        place = max(payload.end - len(octets), at)
        if data[place : payload.end] != octets:
            place = data.find(octets, at, payload.end)
        if place < 0:
            continue
        children += _again(at, place)
        children += window(entry.dissection.spans(entry.side), entry.start, entry.end, place - entry.start)
        at = place + len(octets)
    return replace(payload, children=(*children, *_again(at, payload.end))) if children else payload


def _again(start: int, end: int) -> list[Span]:
    meaning = _("Bytes that another packet brought too: the stream counts them once.")
    return [Span(start, end, "tcp.again", "", meaning)] if end > start else []
