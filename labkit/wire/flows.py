"""Frames become TCP byte streams; every byte keeps the packet that brought it.

A flow is one TCP connection. Each side's bytes are put in order by sequence number; what was retransmitted counts once
(first copy wins), what is missing is a gap. Bursts are what one side says before the other answers: unlike packets they do
not depend on how an operating system cuts a stream, so everything that must repeat everywhere is told in bursts.

Almost every packet of a capture is Ethernet, IPv4 without options, TCP, in order: those are read where they lie in the file,
without a Frame. Every other packet takes the general path (wire/packets.py) into the same directions. Segments, bursts and
packet numbers of a flow are kept as columns of numbers and become objects when somebody looks at them.
"""

import socket
from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from typing import NamedTuple, Protocol, TypeVar, overload

from labkit.wire.frames import ETHERNET, Frame
from labkit.wire.packets import (
    ACK,
    FIN,
    PLAIN_MASK,
    PLAIN_SIZE,
    PLAIN_START,
    PLAIN_TCP,
    PLAIN_VALUE,
    RST,
    SYN,
    SegmentReader,
    TcpSegment,
)
from labkit.wire.pcap import Frames

Clock = Callable[[int], int]
Progress = Callable[[int, int], None]
_Item = TypeVar("_Item", covariant=True)


class Side(StrEnum):
    """Who sent the bytes."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: an address, a port, and the name that people know it by."""

    address: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = self.name or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{host}:{self.port}"


class Segment(NamedTuple):
    """Bytes [start, end) of a stream, brought by packet number `packet` (1-based, as Wireshark counts) at `time` (ns)."""

    packet: int
    time: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """`length` octets are missing before stream position `at`."""

    at: int
    length: int


class _Column(Sequence[_Item]):
    """A tuple in all that can be asked of it, whose items are made when they are looked at."""

    __slots__ = ()

    def _item(self, index: int) -> _Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_Item, ...]: ...
    def __getitem__(self, index: int | slice) -> _Item | tuple[_Item, ...]:
        positions = range(len(self))[index]
        return tuple(map(self._item, positions)) if isinstance(positions, range) else self._item(positions)

    def __iter__(self) -> Iterator[_Item]:
        return map(self._item, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, tuple | _Column) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class _Numbers(_Column[int]):
    """Packet numbers."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: "array[int]") -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def _item(self, index: int) -> int:
        return self._numbers[index]


class _Segments(_Column[Segment]):
    """A stream's segments: which packet brought each, and where each ends; they touch, so an end is the next one's start."""

    __slots__ = ("clock", "ends", "packets")

    def __init__(self, packets: "array[int]", ends: "array[int]", clock: Clock) -> None:
        self.packets, self.ends, self.clock = packets, ends, clock

    def __len__(self) -> int:
        return len(self.packets)

    def _item(self, index: int) -> Segment:
        packet = self.packets[index]
        return Segment(packet, self.clock(packet), self.ends[index - 1] if index else 0, self.ends[index])

    def at(self, position: int) -> Segment:
        return self._item(bisect_right(self.ends, position))


@dataclass(frozen=True, slots=True)
class Stream:
    """What one side sent: the bytes that were captured, in order, without the octets in `gaps`."""

    side: Side
    data: bytes
    segments: Sequence[Segment] = ()
    gaps: tuple[Gap, ...] = ()

    def segment_at(self, position: int) -> Segment:
        """The segment that brought the byte at `position`. Raises IndexError outside the stream."""
        if not 0 <= position < len(self.data):
            raise IndexError(position)
        if isinstance(self.segments, _Segments):
            return self.segments.at(position)
        return self.segments[bisect_right(self.segments, position, key=lambda segment: segment.start) - 1]


class Burst(NamedTuple):
    """Consecutive data of one side, in the order of the wire: bytes [start, end) of its stream, first packet, time (ns)."""

    side: Side
    start: int
    end: int
    packet: int
    time: int


class _Bursts(_Column[Burst]):
    """The bursts of two streams, found when first asked for.

    A byte counts as said when everything before it in its stream is there, as its receiver would see it; so reordering and
    retransmission inside a burst do not tear it.
    """

    __slots__ = ("_client", "_found", "_server")

    def __init__(self, client: _Segments, server: _Segments) -> None:
        self._client, self._server = client, server
        self._found: list[Burst] | None = None

    def _bursts(self) -> list[Burst]:
        if self._found is None:
            self._found = list(_merged(self._client, self._server))
        return self._found

    def __len__(self) -> int:
        return len(self._bursts())

    def _item(self, index: int) -> Burst:
        return self._bursts()[index]


def _merged(client: _Segments, server: _Segments) -> Iterator[Burst]:
    columns = {Side.CLIENT: client, Side.SERVER: server}
    said: list[tuple[int, int, Side]] = []  # when a segment could be read, its index, who sent it
    for side, column in columns.items():
        latest = 0
        for index, packet in enumerate(column.packets):
            latest = max(latest, packet)
            said.append((latest, index, side))
    said.sort(key=lambda entry: entry[0])
    position = 0
    while position < len(said):
        _when, first, side = said[position]
        column, last = columns[side], first
        position += 1
        while position < len(said) and said[position][2] is side:
            last = said[position][1]
            position += 1
        packet = min(column.packets[first : last + 1])
        start = column.ends[first - 1] if first else 0
        yield Burst(side, start, column.ends[last], packet, column.clock(packet))


@dataclass(frozen=True, slots=True)
class Flow:
    """One TCP connection, both directions.

    number: 1-based, in the order of the first packet. packets: the numbers of its packets. opened: its SYN was captured.
    closed: "fin", "rst", or "" when the capture ends before the connection does.
    """

    number: int
    client: Endpoint
    server: Endpoint
    client_stream: Stream
    server_stream: Stream
    packets: Sequence[int] = ()
    opened: bool = True
    closed: str = ""
    bursts: Sequence[Burst] = field(default=())

    def stream(self, side: Side) -> Stream:
        """The stream that `side` sent."""
        return self.client_stream if side is Side.CLIENT else self.server_stream


class Book(Protocol):
    """Tells by which address, port and name people know an endpoint."""

    def client(self, address: str, port: int) -> Endpoint: ...

    def server(self, address: str, port: int) -> Endpoint | None:
        """None when no server of the book's is there."""


def reassemble(frames: Sequence[Frame], book: Book | None = None, progress: Progress | None = None) -> tuple[Flow, ...]:
    """The TCP connections in `frames`, in the order of their first packets.

    book: names the endpoints of its servers' flows; without it, and in other flows, endpoints stay as captured.
    progress: is told (packets done, packets in all) now and then.
    The flows keep `frames` for the times of their packets. What is not TCP over IP is passed over (RFC 9293 section 3.10.7
    without checks of checksum and window: a capture may have begun too late to know them).
    """
    connections = _Connections()
    report = progress or (lambda done, total: None)
    if isinstance(frames, Frames) and frames.link == ETHERNET:
        _read_in_place(frames, connections, report)
    else:
        for index, frame in enumerate(frames):
            if not index % _CHUNK:
                report(index, len(frames))
            connections.frame(index + 1, frame)
    report(len(frames), len(frames))
    clock = _clock(frames)
    return tuple(connection.flow(number, clock, book) for number, connection in enumerate(connections.take(), 1))


def _read_in_place(frames: Frames, connections: "_Connections", report: Progress) -> None:
    """The fast path: plain packets are read where they lie. It does as `_Connections.frame` does, and leaves it the rest."""
    buffer, unpack, find = frames.buffer, PLAIN_TCP.unpack_from, connections.directions.get
    for number, (start, size) in enumerate(frames.walk(report), 1):
        if size >= PLAIN_SIZE:
            kind, total, shape, key, sequence, flags = unpack(buffer, start)
            if kind == PLAIN_START and shape & PLAIN_MASK == PLAIN_VALUE and flags >= _SHORTEST:
                length = total - 20 - (flags >> 10 & 0x3C)
                end = start + 14 + total
                if length >= 0 and end <= start + size:
                    direction = find(key)
                    if direction is None or flags & _UNUSUAL or (length and sequence != direction.next):
                        segment = TcpSegment(key, sequence, flags & 0xFF, buffer[end - length : end], length)
                        connections.segment(segment, (number,))
                        continue
                    direction.numbers.append(number)
                    if length:
                        data = direction.data
                        data += buffer[end - length : end]
                        direction.packets.append(number)
                        direction.ends.append(len(data))
                        direction.next = (sequence + length) & _LAST
                    continue
        connections.frame(number, frames[number - 1])


def _clock(frames: Sequence[Frame]) -> Clock:
    if isinstance(frames, Frames):
        time = frames.time
        return lambda packet: time(packet - 1)
    return lambda packet: frames[packet - 1].time


_CHUNK = 1 << 16
_CIRCLE, _HALF, _LAST = 1 << 32, 1 << 31, (1 << 32) - 1  # sequence numbers count modulo 2**32 (RFC 9293 section 3.4)
_SERVER_PORTS = frozenset({25, 465, 587, 2525, 110, 995})
_HOLDING = -1  # no sequence number
_UNUSUAL = FIN | SYN | RST
_SHORTEST = 0x5000  # data offset and flags of a TCP header with the 5 words it has at least


def _ahead(sequence: int, of: int) -> int:
    """How far `sequence` is ahead of `of` (negative: behind), the shorter way round the circle."""
    return (sequence - of + _HALF) % _CIRCLE - _HALF


class _Held(NamedTuple):
    """Pieces that did not come in order, as columns: where each begins (from the stream's base), its packet, its octets."""

    starts: "array[int]"
    packets: "array[int]"
    ends: "array[int]"
    data: bytearray

    def add(self, start: int, packet: int, payload: bytes) -> None:
        self.starts.append(start)
        self.packets.append(packet)
        self.data.extend(payload)
        self.ends.append(len(self.data))


class _Direction:
    """One side's octets as they come.

    What comes in order is appended at once. From the first piece that does not, everything is held until the end, and is
    then put in order in one go: so a hostile capture costs no more than a sort.
    """

    __slots__ = (
        "base",
        "connection",
        "data",
        "ends",
        "extent",
        "finished",
        "held",
        "initial",
        "mark",
        "next",
        "numbers",
        "packets",
        "peer",
    )

    def __init__(self, connection: "_Connection") -> None:
        self.connection = connection
        self.numbers = connection.packets
        self.peer: _Direction = self
        self.data = bytearray()
        self.packets = array("I")
        self.ends = array("Q")
        self.next = _HOLDING  # the sequence number that would be in order
        self.initial: int | None = None  # the SYN's sequence number
        self.base: int | None = None  # the sequence number of the stream's first octet, as far as known
        self.mark = 0  # where the last held piece began: the next one is placed near it
        self.extent = 0  # how far octets are known to have been sent
        self.finished = False
        self.held: _Held | None = None

    def begin(self, sequence: int) -> None:
        """A SYN: the stream begins after it."""
        if self.initial is None:
            self.initial = sequence
            if self.base is None:
                self.base = self.next = (sequence + 1) % _CIRCLE

    def place(self, sequence: int) -> int:
        """Where in the stream a sequence number is, counted from the base."""
        near = self.mark if self.held else len(self.data)
        return near + _ahead(sequence, ((self.base or 0) + near) % _CIRCLE)

    def take(self, packet: int, sequence: int, payload: bytes, length: int) -> None:
        if self.base is None:
            self.base = self.next = sequence
        if self.held is None and len(payload) == length:
            start = self.place(sequence)
            known = len(self.data)
            if start == known or 0 <= start < known < start + length:
                self.data += payload[known - start :]
                self.packets.append(packet)
                self.ends.append(len(self.data))
                self.next = (self.base + len(self.data)) % _CIRCLE
                return
            if start + length <= known and (start >= 0 or self.initial is not None):
                return
        self._hold(packet, sequence, payload, length)

    def _hold(self, packet: int, sequence: int, payload: bytes, length: int) -> None:
        start = self.place(sequence)
        if self.held is None:
            self.held = _Held(array("q"), array("I"), array("Q"), bytearray())
            self.next = _HOLDING
        self.mark = start
        self.extent = max(self.extent, start + length)
        if payload:
            self.held.add(start, packet, payload)

    def finish(self, sequence: int) -> None:
        """A FIN: nothing was sent from this number on."""
        self.finished = True
        if self.base is not None:
            self.extent = max(self.extent, self.place(sequence))

    def stream(self, side: Side, clock: Clock) -> Stream:
        """The octets in order; gives up what was collected."""
        gaps: list[Gap] = []
        if self.held:
            reach = self._settle(self.held, gaps)
            self.held = None
        else:
            reach = len(self.data)
        if self.extent > reach:
            gaps.append(Gap(len(self.data), self.extent - reach))
        stream = Stream(side, bytes(self.data), _Segments(self.packets, self.ends, clock), tuple(gaps))
        self.data = bytearray()
        return stream

    def _settle(self, held: _Held, gaps: list[Gap]) -> int:
        """Merge what came in order with what was held; returns the place after the last octet."""
        ordered, packets, ends = self.data, self.packets, self.ends
        self.data, self.packets, self.ends = bytearray(), array("I"), array("Q")
        spans = [(0, len(ordered))] if ordered else []
        offsets: list[int] = []
        for start, low, high in zip(held.starts, (0, *held.ends), held.ends, strict=False):
            spans.append((start, start + high - low))
            offsets.append(low)
        first = len(spans) - len(held.starts)  # spans[first:] are the held pieces
        lowest = min((start for start, _end in spans), default=0)
        reach = 0 if self.initial is not None else lowest
        for piece, start, end in _first_copies(spans, reach):
            if start > reach:
                gaps.append(Gap(len(self.data), start - reach))
            reach = end
            if piece < first:
                shift = len(self.data)
                self.data += ordered
                self.packets.extend(packets)
                self.ends.extend(shift + stop for stop in ends)
                continue
            low = offsets[piece - first] + start - spans[piece][0]
            self.data += held.data[low : low + end - start]
            self.packets.append(held.packets[piece - first])
            self.ends.append(len(self.data))
        return reach


def _first_copies(spans: Sequence[tuple[int, int]], low: int) -> Iterator[tuple[int, int, int]]:
    """(index, start, end): which span gives which octets from `low` on, when the first in the sequence wins."""
    order = sorted(range(len(spans)), key=lambda index: spans[index][0])
    open_spans: list[int] = []  # a heap: those that begin at or before the position
    position, coming = low, 0
    while open_spans or coming < len(order):
        if not open_spans:
            position = max(position, spans[order[coming]][0])
        while coming < len(order) and spans[order[coming]][0] <= position:
            heappush(open_spans, order[coming])
            coming += 1
        while open_spans and spans[open_spans[0]][1] <= position:
            heappop(open_spans)
        if not open_spans:
            continue
        piece = open_spans[0]
        end = spans[piece][1]
        while coming < len(order) and spans[order[coming]][0] < end:
            rival = order[coming]
            heappush(open_spans, rival)
            coming += 1
            if rival < piece:
                end = spans[rival][0]
        yield piece, position, end
        position = end


class _Connection:
    """Two directions, in the order of their first packets."""

    __slots__ = ("client", "closed", "first", "key", "packets")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.packets = array("I")
        self.first = _Direction(self)
        self.first.peer = _Direction(self)
        self.first.peer.peer = self.first
        self.client: _Direction | None = None  # known when a SYN was seen
        self.closed = ""

    def flow(self, number: int, clock: Clock, book: Book | None) -> Flow:
        size = (len(self.key) - 4) // 2
        ports = self.key[2 * size :]
        first = _endpoint(self.key[:size], ports[:2])
        second = _endpoint(self.key[size : 2 * size], ports[2:])
        forward = self._first_is_client(first, second, book)
        client, server = (first, second) if forward else (second, first)
        sender = self.first if forward else self.first.peer
        known = book.server(server.address, server.port) if book else None
        if book and known:
            client, server = book.client(client.address, client.port), known
        client_stream = sender.stream(Side.CLIENT, clock)
        server_stream = sender.peer.stream(Side.SERVER, clock)
        return Flow(
            number,
            client,
            server,
            client_stream,
            server_stream,
            _Numbers(self.packets),
            sender.initial is not None,
            self._closed(),
            _bursts(client_stream, server_stream),
        )

    def _closed(self) -> str:
        one_sided = any(side.finished and side.peer.base is None for side in (self.first, self.first.peer))
        return self.closed or ("fin" if one_sided else "")

    def _first_is_client(self, first: Endpoint, second: Endpoint, book: Book | None) -> bool:
        """The SYN tells; else the book, a mail port, a reply at a stream's start, the higher port, in that order."""
        if self.client:
            return self.client is self.first
        if book:
            known = [book.server(end.address, end.port) is not None for end in (first, second)]
            if known[0] != known[1]:
                return known[1]
        mail = [end.port in _SERVER_PORTS for end in (first, second)]
        if mail[0] != mail[1]:
            return mail[1]
        replies = [_is_reply(direction.data) for direction in (self.first, self.first.peer)]
        if replies[0] != replies[1]:
            return replies[1]
        return first.port >= second.port


def _bursts(client: Stream, server: Stream) -> Sequence[Burst]:
    if isinstance(client.segments, _Segments) and isinstance(server.segments, _Segments):
        return _Bursts(client.segments, server.segments)
    return ()


def _is_reply(data: bytes | bytearray) -> bool:
    """Whether a stream begins as a mail server's does: three digits (RFC 5321) or a status indicator (RFC 1939)."""
    return data.startswith((b"+OK", b"-ERR")) or (data[:3].isdigit() and data[3:4] in (b" ", b"-"))


def _endpoint(address: bytes, port: bytes) -> Endpoint:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return Endpoint(socket.inet_ntop(family, address), int.from_bytes(port))


def _reused(direction: _Direction, sequence: int, flags: int) -> bool:
    """Whether a SYN opens a new connection between endpoints that had one."""
    peer = direction.peer
    if direction.initial is not None:
        reset = direction.connection.closed == "rst" and peer.initial is not None
        return sequence != direction.initial or (not flags & ACK and (direction.finished or reset))
    if direction.base is not None:
        return direction.base != (sequence + 1) % _CIRCLE
    return not flags & ACK and peer.initial is None  # nothing but the answer to a SYN may be captured before it


class _Connections:
    """All connections of a capture; `directions` finds the one that a segment's key belongs to now."""

    def __init__(self) -> None:
        self.directions: dict[bytes, _Direction] = {}
        self._all: list[_Connection] = []
        self._reader = SegmentReader()

    def take(self) -> Iterator[_Connection]:
        """The connections in order, each let go of when the next is asked for."""
        self.directions.clear()
        self._all.reverse()
        while self._all:
            yield self._all.pop()

    def frame(self, number: int, frame: Frame) -> None:
        """The general path: any frame."""
        if found := self._reader.read(number, frame):
            self.segment(*found)

    def segment(self, segment: TcpSegment, numbers: Sequence[int]) -> None:
        """One TCP segment, which came in the packets `numbers`, the last of which completed it."""
        key, sequence, flags, payload, length = segment
        direction = self.directions.get(key)
        if direction is None or (flags & SYN and _reused(direction, sequence, flags)):
            direction = self._open(key)
        connection, packet = direction.connection, numbers[-1]
        for number in numbers:
            insort(connection.packets, number)  # a fragment came before others of the flow
        if flags & RST:  # its octets, if any, say why (RFC 9293 section 3.5.3): they are not the stream's
            connection.closed = connection.closed or "rst"
            return
        if flags & SYN:
            direction.begin(sequence)
            sequence += 1
            if connection.client is None:
                connection.client = direction.peer if flags & ACK else direction
        if length:
            direction.take(packet, sequence % _CIRCLE, payload, length)
        if flags & FIN:
            direction.finish((sequence + length) % _CIRCLE)
            if direction.peer.finished:
                connection.closed = connection.closed or "fin"

    def _open(self, key: bytes) -> _Direction:
        connection = _Connection(key)
        size = (len(key) - 4) // 2
        reverse = key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]
        self.directions[reverse] = connection.first.peer
        self.directions[key] = connection.first
        self._all.append(connection)
        return connection.first
