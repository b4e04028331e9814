"""Frames become TCP byte streams; every byte keeps the packet that brought it.

A flow is one TCP connection. Each side's bytes are put in order by sequence number; what was retransmitted counts once
(first copy wins), what is missing is a gap. Bursts are what one side says before the other answers: unlike packets they do
not depend on how an operating system cuts a stream, so everything that must repeat everywhere is told in bursts.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Segment:
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


@dataclass(frozen=True, slots=True)
class Stream:
    """What one side sent: the bytes that were captured, in order, without the octets in `gaps`."""

    side: Side
    data: bytes
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def segment_at(self, position: int) -> Segment:
        """The segment that brought the byte at `position`. Raises IndexError outside the stream."""
        if not 0 <= position < len(self.data):
            raise IndexError(position)
        return self.segments[bisect_right(self.segments, position, key=lambda segment: segment.start) - 1]


@dataclass(frozen=True, slots=True)
class Burst:
    """Consecutive data of one side, in the order of the wire: bytes [start, end) of its stream, first packet and time."""

    side: Side
    start: int
    end: int
    packet: int
    time: int


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
    packets: tuple[int, ...] = ()
    opened: bool = True
    closed: str = ""
    bursts: tuple[Burst, ...] = field(default=())

    def stream(self, side: Side) -> Stream:
        """The stream that `side` sent."""
        return self.client_stream if side is Side.CLIENT else self.server_stream
