"""Three panes to explore a capture with: the packets, one packet as a tree, its bytes.

This half knows nothing of a browser: which rows there are, which tree a packet has, which octets a node stands for. A
packet's tree goes from its headers down to the innermost span of the stream's bytes that it carries, because every byte of a
stream remembers the packet that brought it. What keys opened follows the packet's own octets, as a second part.
The other half is `labkit.show.widget` and its script. Where a widget can't be, `explore` gives the static view instead.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, takewhile
from typing import NamedTuple, Protocol, runtime_checkable

from labkit.decode.dissection import Dissection, Line
from labkit.decode.headers import frame_spans
from labkit.decode.spans import Span, window
from labkit.errors import expect
from labkit.show.dialogue import protocol_of
from labkit.show.explain import LONGEST_VALUE, Explanation
from labkit.show.groups import sized
from labkit.show.safe import glimpse, visible
from labkit.show.view import View
from labkit.texts import _
from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Side
from labkit.wire.frames import Frame

PACKETS = 1000  # rows of the packet list
OCTETS = 4096  # octets of a packet, and of what keys opened of it, that are shown
NODES = 1500  # nodes of a packet's tree
LONGEST_INFO = 160  # characters
LONGEST_END = 80  # columns of an endpoint's name and port

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


class PacketRow(NamedTuple):
    """One packet in the list. number: 1-based, as Wireshark counts. time: seconds after the first. length: octets."""

    number: int
    time: str
    source: str
    target: str
    protocol: str
    length: int
    info: str


class TreeNode(NamedTuple):
    """A span of a packet's tree. [start, end): its octets in `PacketTree.octets`. depth: 0 for the outermost."""

    depth: int
    start: int
    end: int
    visibility: str
    field: str
    value: str
    meaning: str
    source: str


class PacketPart(NamedTuple):
    """A run of `PacketTree.octets`: the packet itself, or what keys opened of it."""

    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PacketTree:
    """One packet: its octets, and the spans that tile them. nodes: the spans as a list, parents before their children.

    note: what is left out.
    """

    number: int
    octets: bytes
    parts: tuple[PacketPart, ...]
    spans: tuple[Span, ...]
    nodes: tuple[TreeNode, ...]
    note: str = ""


class _Carried(NamedTuple):
    """Bytes [start, end) of what a side of a conversation sent. opened: they were inside TLS, and keys opened them."""

    conversation: Dissection
    side: Side
    start: int
    end: int
    opened: bool


class Exploration:
    """A capture's first packets, as rows and trees."""

    def __init__(self, capture: Explorable) -> None:
        self._frames = list(islice(capture.named_frames, PACKETS))
        self._in_all = len(capture.named_frames)
        self._conversations = list(takewhile(self._begins_here, capture.flows))

    def _begins_here(self, conversation: Dissection) -> bool:
        return next(iter(conversation.flow.packets), 0) <= len(self._frames)

    @property
    def note(self) -> str:
        """What is said of packets that are not listed; empty when all are."""
        if self._in_all == len(self._frames):
            return ""
        return _("The first {shown:,} of {count:,} packets.").format(shown=len(self._frames), count=self._in_all)

    @cached_property
    def rows(self) -> tuple[PacketRow, ...]:
        """The packet list."""
        return tuple(self._row(number, frame) for number, frame in enumerate(self._frames, 1))

    def tree(self, number: int) -> PacketTree:
        """The tree of the packet with that number. Raises IndexError for one that is not in the list."""
        if not 1 <= number <= len(self._frames):
            raise IndexError(number)
        frame, carried = self._frames[number - 1], self._carried.get(number, ())
        octets = frame.data[:OCTETS]
        spans = window(_with_streams(frame, carried), 0, OCTETS, 0)
        parts = [PacketPart(_("The packet"), 0, len(octets))]
        left_out, room = len(frame.data) - len(octets), OCTETS
        for entry in (entry for entry in carried if entry.opened):
            start, end = len(octets), min(entry.end, entry.start + room)
            spans += window(entry.conversation.spans(entry.side), entry.start, end, start - entry.start)
            octets += entry.conversation.flow.stream(entry.side).data[entry.start : end]
            parts.append(PacketPart(_("Inside TLS, opened with the keys"), start, len(octets)))
            left_out += entry.end - end
            room -= end - entry.start
        nodes = tuple(islice(_nodes(spans, 0), NODES + 1))
        note = _left_out(left_out, len(nodes) > NODES)
        return PacketTree(number, octets, tuple(parts), spans, nodes[:NODES], note)

    def _row(self, number: int, frame: Frame) -> PacketRow:
        spans = frame_spans(frame)
        fields = {child.field: child.value for span in spans for child in span.children}
        carried = self._carried.get(number, ())
        seconds = (frame.time - self._frames[0].time) / 1e9
        lines = self._lines.get(number, ())
        return PacketRow(
            number,
            f"{seconds:.6f}",
            self._end(fields, _SOURCES, "tcp.source_port") or fields.get("ethernet.source", ""),
            self._end(fields, _TARGETS, "tcp.destination_port") or fields.get("ethernet.destination", ""),
            _protocol(spans, carried),
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
        ends = [end for each in self._conversations for end in (each.flow.client, each.flow.server)]
        return {(end.address, end.port): end for end in ends}

    def _readings(self) -> Iterator[tuple[Dissection, bool]]:
        """Every conversation, and after it what keys opened of it, with whether they did."""
        for conversation in self._conversations:
            yield conversation, False
            if conversation.opened:
                yield conversation.opened, True

    @cached_property
    def _carried(self) -> Mapping[int, list[_Carried]]:
        """For each packet that brought bytes of a stream, which; the stream itself before what was inside TLS."""
        found: dict[int, list[_Carried]] = defaultdict(list)
        for conversation, opened in self._readings():
            for side in Side:
                for segment in conversation.flow.stream(side).segments:
                    if segment.packet <= len(self._frames):
                        found[segment.packet].append(_Carried(conversation, side, segment.start, segment.end, opened))
        return found

    @cached_property
    def _lines(self) -> Mapping[int, list[Line]]:
        """The lines that begin in each packet."""
        found: dict[int, list[Line]] = defaultdict(list)
        for conversation, _opened in self._readings():
            for line in conversation.lines:
                if line.packet <= len(self._frames):
                    found[line.packet].append(line)
        return found


def _protocol(spans: Sequence[Span], carried: Sequence[_Carried]) -> str:
    """What the packet speaks: the innermost protocol that is known."""
    for entry in carried[:1]:
        first = window(entry.conversation.spans(entry.side), entry.start, entry.start + 1, 0)
        if first and first[0].field.partition(".")[0] == "tls":
            return "TLS"
        return protocol_of(entry.conversation)
    headers = [span.field.partition(".")[0] for span in spans if span.children]
    known = {"tcp": "TCP", "ip": "IPv4", "ip6": "IPv6", "ethernet": "Ethernet"}
    return next((known[name] for name in reversed(headers) if name in known), "")


def _info(spans: Sequence[Span], carried: Sequence[_Carried], lines: Sequence[Line]) -> str:
    """A packet in a few words: the lines that begin in it, else what it brings, else the flags of TCP."""
    if lines:
        return "  ".join(line.text for line in lines[:6])
    if carried:
        return _("goes on with what came before: {size}").format(size=sized(carried[0].end - carried[0].start))
    return next((span.value for span in reversed(spans) if span.children), "")


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
        octets = entry.conversation.flow.stream(entry.side).data[entry.start : entry.end]
        # a segment shorter than the payload is what was new in it, and the new is mostly the end
        place = max(payload.end - len(octets), at)
        if data[place : payload.end] != octets:
            place = data.find(octets, at, payload.end)
        if place < 0:
            continue
        children += _again(at, place)
        children += window(entry.conversation.spans(entry.side), entry.start, entry.end, place - entry.start)
        at = place + len(octets)
    return replace(payload, children=(*children, *_again(at, payload.end))) if children else payload


def _again(start: int, end: int) -> list[Span]:
    meaning = _("Bytes that another packet brought too: the stream counts them once.")
    return [Span(start, end, "tcp.again", "", meaning)] if end > start else []


def _nodes(spans: Iterable[Span], depth: int) -> Iterator[TreeNode]:
    for span in spans:
        value, meaning = glimpse(span.value, LONGEST_VALUE), visible(span.meaning)
        yield TreeNode(depth, span.start, span.end, span.visibility.value, span.field, value, meaning, span.source)
        yield from _nodes(span.children, depth + 1)


def _left_out(octets: int, nodes: bool) -> str:
    told = [_("Not shown: {size} more.").format(size=sized(octets))] if octets else []
    told += [_("The tree stops at {count:,} fields.").format(count=NODES)] if nodes else []
    return " ".join(told)


def explore(capture: Explorable) -> View:
    """The capture in three panes: the packet list with a filter, a packet's tree, its bytes; all of it by keyboard too.

    It needs a running kernel. In exported HTML, and where anywidget is missing, it is `capture.explain()`. Raises BadSetting
    for what is no capture.
    """
    expect(capture, Explorable, _("a capture, such as labkit.Capture.load(path) gives"))
    try:
        from labkit.show.widget import Explorer
    except ImportError:
        return capture.explain()
    return Explorer(Exploration(capture), capture.explain())
