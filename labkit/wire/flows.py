"""Frames become TCP byte streams; every byte keeps the packet that brought it.

A flow is one TCP connection. Each side's bytes are put in order by sequence number; what was retransmitted counts once
(first copy wins), what is missing is a gap. Bursts are what one side says before the other answers: unlike packets they do
not depend on how an operating system cuts a stream, so everything that must repeat everywhere is told in bursts.

Almost every packet of a capture is Ethernet, IPv4 without options, TCP, in order: those are read where they lie in the file,
without a Frame. Every other packet takes the general path (wire/packets.py) into the same directions. Segments, bursts and
packet numbers of a flow are kept as columns of numbers and become objects when somebody looks at them.
"""

import gc
import socket
import struct
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import lru_cache
from itertools import chain, count, groupby, repeat
from operator import itemgetter
from typing import NamedTuple, TypeVar, overload

from labkit.wire.capture_file import Frames
from labkit.wire.endpoints import Endpoint, NameResolver
from labkit.wire.frames import ACK, ETHERNET, FIN, RST, SYN, TCP, Frame
from labkit.wire.ordering import CIRCLE, LAST, Gap, Incoming, Ordered
from labkit.wire.packets import SegmentReader

Clock = Callable[[int], int]
_Item = TypeVar("_Item", covariant=True)


class Side(StrEnum):
    """Who sent the bytes."""

    CLIENT = "client"
    SERVER = "server"


class Segment(NamedTuple):
    """Bytes [start, end) of a stream, brought by packet number `packet` (1-based, as Wireshark counts) at `time` (ns)."""

    packet: int
    time: int
    start: int
    end: int


class _Column(Sequence[_Item]):
    """A tuple in all that can be asked of it, whose items are made when they are looked at."""

    __slots__ = ()

    @abstractmethod
    def _item(self, index: int) -> _Item: ...

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


class Stream(NamedTuple):
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

    def packet_at(self, position: int) -> int:
        """The packet that brought the byte at `position`; 0 where no packet is known."""
        return self.packet_finder()(position)

    def packet_finder(self) -> Callable[[int], int]:
        """`packet_at`, for those who ask often."""
        if isinstance(self.segments, _Segments):
            packets, ends = self.segments.packets, self.segments.ends
            return lambda position: packets[bisect_right(ends, position)]
        return lambda position: self.segment_at(position).packet if self.segments else 0


class Burst(NamedTuple):
    """Consecutive data of one side, in the order of the wire: bytes [start, end) of its stream, first packet, time (ns)."""

    side: Side
    start: int
    end: int
    packet: int
    time: int


class _FoundTogether(_Column[_Item]):
    """Items that are found together, when the first of them is asked for."""

    __slots__ = ("_find", "_given", "_items")

    def __init__(self, find: Callable[..., Sequence[_Item]], *given: object) -> None:
        self._find, self._given = find, given  # apart: a partial for each of many flows takes more memory
        self._items: Sequence[_Item] | None = None

    def _all(self) -> Sequence[_Item]:
        if self._items is None:
            self._items = self._find(*self._given)
        return self._items

    def __len__(self) -> int:
        return len(self._all())

    def _item(self, index: int) -> _Item:
        return self._all()[index]


def _numbers(*packets: "array[int]") -> list[int]:
    """Each packet once, in order."""
    return sorted({*chain.from_iterable(packets)})


def _bursts(client: _Segments, server: _Segments) -> list[Burst]:
    """The bursts of two streams.

    A byte counts as said when everything before it in its stream is there, as its receiver would see it; so reordering and
    retransmission inside a burst do not tear it.
    """
    columns = {Side.CLIENT: client, Side.SERVER: server}
    said: list[tuple[int, int, Side]] = []  # when a segment could be read, its index, who sent it
    for side, column in columns.items():
        latest = 0
        for index, packet in enumerate(column.packets):
            latest = max(latest, packet)
            said.append((latest, index, side))
    said.sort(key=itemgetter(0))
    bursts = []
    for side, run in groupby(said, key=itemgetter(2)):
        indexes = [index for _when, index, _side in run]
        column, first, last = columns[side], indexes[0], indexes[-1]
        packet = min(column.packets[first : last + 1])
        start = column.ends[first - 1] if first else 0
        bursts.append(Burst(side, start, column.ends[last], packet, column.clock(packet)))
    return bursts


class Flow(NamedTuple):
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
    bursts: Sequence[Burst] = ()

    def stream(self, side: Side) -> Stream:
        """The stream that `side` sent."""
        return self.client_stream if side is Side.CLIENT else self.server_stream


class ServerSigns(NamedTuple):
    """What tells a server from a client where a capture shows no SYN.

    ports: those of servers. can_be: whether octets are such as a client and a server say first, in this order.
    """

    ports: frozenset[int] = frozenset()
    can_be: Callable[[bytes, bytes], bool] = lambda client, server: False


def reassemble(
    frames: Sequence[Frame],
    names: NameResolver | None = None,
    signs: ServerSigns | None = None,
) -> tuple[Flow, ...]:
    """The TCP connections in `frames`, in the order of their first packets.

    names: those of its servers' flows; without it, and in other flows, endpoints stay as captured.
    signs: tell which end is the server where neither a SYN nor a name does.
    The flows keep `frames` for the times of their packets. What is not TCP over IP is passed over (RFC 9293 section 3.10.7
    without checks of checksum and window: a capture may have begun too late to know them).
    """
    connections = _Connections()
    with _no_collecting():
        if isinstance(frames, Frames) and frames.link == ETHERNET:
            _read_in_place(frames, connections)
        else:
            for number, frame in enumerate(frames, 1):
                connections.frame(number, frame)
        clock, signs = _clock(frames), signs or ServerSigns()
        return tuple(
            connection.flow(number, clock, names, signs) for number, connection in enumerate(connections.take(), 1)
        )


@contextmanager
def _no_collecting() -> Iterator[None]:
    """No search for garbage meanwhile: what is read stays, and counts as old at its end without being looked at."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
            # What somebody else keeps frozen would be let go of, too.
            if gc.get_freeze_count() <= _FROZEN_AT_FIRST:
                gc.freeze()
                gc.unfreeze()


_FROZEN_AT_FIRST = gc.get_freeze_count()  # Python 3.12 begins with some


def _read_in_place(frames: Frames, connections: "_Connections") -> None:
    """The fast path: plain packets are read where they lie. It does as `_Connections.frame` does, and leaves it the rest.

    One packet of a hundred thousand costs less than a microsecond here, so names are looked up once, and nothing is made
    that is not kept.
    """
    unpack, plain_headers, link = _PLAIN_TCP.unpack_from, _PLAIN_HEADERS, _PLAIN_LINK
    directions = connections.directions
    for number, buffer, starts, sizes in frames.pieces(_PLAIN_SIZE):
        packets = zip(count(number), starts, sizes, map(unpack, repeat(buffer), starts), strict=False)
        for number, start, size, (kind, total, fragment, protocol, key, sequence, flags) in packets:
            end = total + link
            if kind == _PLAIN_START and protocol == TCP and end <= size and not fragment & _PLAIN_FRAGMENT:
                if flags in plain_headers and key in directions:
                    direction, headers = directions[key], plain_headers[flags]
                    if end == headers:
                        direction.others.append(number)
                        continue
                    if sequence == direction.next and end > headers:
                        direction.packets.append(number)
                        direction.chunks.append(buffer[start + headers : start + end])
                        direction.next = sequence + end - headers & LAST
                        continue
                headers = _PLAIN_SIZE - 20 + (flags >> 12) * 4
                if _PLAIN_SIZE <= headers <= end:
                    payload = buffer[start + headers : start + end]
                    connections.segment(key, sequence, flags & 0xFF, payload, len(payload), number)
                    continue
            if size >= _SMALLEST:
                connections.frame(number, frames[number - 1])


def _clock(frames: Sequence[Frame]) -> Clock:
    if isinstance(frames, Frames):
        time = frames.time
        return lambda packet: time(packet - 1)
    return lambda packet: frames[packet - 1].time


# The fast path's view of Ethernet, IPv4 without options, TCP: EtherType and version and header length; total length;
# fragment; protocol; the key; sequence number; data offset and flags.
_PLAIN_TCP = struct.Struct(">12x3sxH2xHxB2x12sI4xH")
_PLAIN_SIZE, _PLAIN_LINK = 54, 14  # octets of the three headers at least, and of Ethernet's
_SMALLEST = 20  # octets of an IP header at least: nothing shorter is read
_PLAIN_START = b"\x08\x00\x45"
_PLAIN_FRAGMENT = 0x3FFF  # of the fragment word: more fragments, and the offset
_UNUSUAL = FIN | SYN | RST
# Data offset and flags of a TCP segment that only carries octets on → octets of all headers before them.
_PLAIN_HEADERS = {
    words << 12 | flags: _PLAIN_SIZE - 20 + words * 4
    for words in range(5, 16)
    for flags in range(256)
    if not flags & _UNUSUAL
}


class _Direction(Incoming):
    """One side of a connection. `others`: the connection's packets that brought nothing in order."""

    __slots__ = ("connection", "others", "peer")

    def __init__(self, connection: "_Connection") -> None:
        super().__init__()
        self.connection = connection
        self.others = connection.others
        self.peer: _Direction = self


class _Connection:
    """Two directions, in the order of their first packets."""

    __slots__ = ("client", "closed", "first", "key", "others")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.others = array("I")
        self.first = _Direction(self)
        self.first.peer = _Direction(self)
        self.first.peer.peer = self.first
        self.client: _Direction | None = None  # known when a SYN was seen
        self.closed = ""

    def flow(self, number: int, clock: Clock, names: NameResolver | None, signs: ServerSigns) -> Flow:
        size = (len(self.key) - 4) // 2
        ends = (
            _endpoint(self.key[:size], self.key[-4:-2]),
            _endpoint(self.key[size:-4], self.key[-2:]),
        )
        closed, opened = self._closed(), (self.first.initial is not None, self.first.peer.initial is not None)
        sent = self.first.ordered(), self.first.peer.ordered()
        one = 0 if self._first_is_client(ends, sent, names, signs) else 1
        client, server = ends[one], ends[1 - one]
        if names and (known := names.server(server.address, server.port)):
            client, server = names.client(client.address, client.port), known
        from_client, from_server = sent[one], sent[1 - one]
        client_segments = _Segments(from_client.packets, from_client.ends, clock)
        server_segments = _Segments(from_server.packets, from_server.ends, clock)
        return Flow(
            number,
            client,
            server,
            Stream(Side.CLIENT, from_client.data, client_segments, tuple(from_client.gaps)),
            Stream(Side.SERVER, from_server.data, server_segments, tuple(from_server.gaps)),
            _FoundTogether(_numbers, self.others, from_client.packets, from_server.packets),
            opened[one],
            closed,
            _FoundTogether(_bursts, client_segments, server_segments),
        )

    def release(self) -> None:
        """Part what holds each other, so that memory comes back at once."""
        for side in (self.first.peer, self.first):
            del side.peer, side.connection

    def _closed(self) -> str:
        if self.closed:
            return self.closed
        ended = [side.fin is not None and side.peer.base is None for side in (self.first, self.first.peer)]
        return "fin" if any(ended) else ""  # of a connection captured from one side, one end is all there is

    def _first_is_client(
        self,
        ends: tuple[Endpoint, Endpoint],
        sent: tuple[Ordered, Ordered],
        names: NameResolver | None,
        signs: ServerSigns,
    ) -> bool:
        """The SYN tells; else a name, a server's port, what was said first, the higher port, in that order."""
        if self.client:
            return self.client is self.first
        tell = (
            [names is not None and names.server(end.address, end.port) is not None for end in ends],
            [end.port in signs.ports for end in ends],
            [signs.can_be(client.data, server.data) for client, server in (sent[::-1], sent)],
        )
        for first, second in tell:
            if first != second:
                return second
        return ends[0].port >= ends[1].port


@lru_cache(maxsize=4096)
def _endpoint(address: bytes, port: bytes) -> Endpoint:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return Endpoint(socket.inet_ntop(family, address), int.from_bytes(port))


def _reused(direction: _Direction, sequence: int, flags: int) -> bool:
    """Whether a SYN opens a new connection between endpoints that had one."""
    peer = direction.peer
    if direction.initial is not None:
        reset = direction.connection.closed == "rst" and peer.initial is not None
        return sequence != direction.initial or (not flags & ACK and (direction.fin is not None or reset))
    if direction.base is not None:
        return direction.base != (sequence + 1) % CIRCLE
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
            connection = self._all.pop()
            yield connection
            connection.release()

    def frame(self, number: int, frame: Frame) -> None:
        """The general path: any frame."""
        if found := self._reader.read(number, frame):
            segment, numbers = found
            self.segment(*segment, numbers[-1]).others.extend(numbers[:-1])

    def segment(self, key: bytes, sequence: int, flags: int, payload: bytes, length: int, packet: int) -> "_Connection":
        """One TCP segment, as a TcpSegment has it, which `packet` brought or completed; and the connection it is of."""
        direction = self.directions.get(key)
        if direction is None or (flags & SYN and _reused(direction, sequence, flags)):
            direction = self._open(key)
        connection = direction.connection
        connection.others.append(packet)
        if flags & RST:  # its octets, if any, say why (RFC 9293 section 3.5.3): they are not the stream's
            connection.closed = connection.closed or "rst"
            return connection
        if flags & SYN:
            direction.begin(sequence)
            sequence += 1
            if connection.client is None:
                connection.client = direction.peer if flags & ACK else direction
        if length:
            direction.take(packet, sequence % CIRCLE, payload, length)
        if flags & FIN:
            direction.finish((sequence + length) % CIRCLE)
            if direction.peer.fin is not None:
                connection.closed = connection.closed or "fin"
        return connection

    def _open(self, key: bytes) -> _Direction:
        connection = _Connection(key)
        size = (len(key) - 4) // 2
        reverse = key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]
        self.directions[reverse] = connection.first.peer
        self.directions[key] = connection.first
        self._all.append(connection)
        return connection.first
