"""Puts the octets that one side of a TCP connection sent in the order of their sequence numbers (RFC 9293 section 3.4).

What comes in order is kept as it comes. From the first piece that does not, everything is held, and settled in one go at
the end: octet by octet the first copy wins, what nobody brought is a gap. So a hostile order costs no more than a sort.
Places count octets from the stream's base: the octet after the SYN, or the first one seen where no SYN was captured.
"""

from array import array
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import NamedTuple

CIRCLE, LAST = 1 << 32, (1 << 32) - 1  # sequence numbers count modulo 2**32
_HALF = 1 << 31
_NONE_IN_ORDER = -1  # no sequence number


class Gap(NamedTuple):
    """`length` octets are missing before stream position `at`."""

    at: int
    length: int


class Ordered(NamedTuple):
    """A stream in order. Segment i of `data` ends before ends[i] and came in packets[i]."""

    data: bytes
    packets: "array[int]"
    ends: "array[int]"
    gaps: list[Gap]


class _Held:
    """Pieces that did not come in order, as columns: where each begins, its packet, its octets."""

    __slots__ = ("data", "ends", "extent", "packets", "prefix", "recent", "starts")

    def __init__(self, prefix: int) -> None:
        self.prefix = prefix  # octets that had come in order
        self.recent = prefix  # where the latest piece began: the next one is placed near it
        self.extent = prefix  # how far octets are known to have been sent
        self.starts, self.packets, self.ends = array("q"), array("I"), array("I")
        self.data = bytearray()

    def add(self, start: int, packet: int, payload: bytes, length: int) -> None:
        self.recent = start
        self.extent = max(self.extent, start + length)
        if payload:
            self.starts.append(start)
            self.packets.append(packet)
            self.data += payload
            self.ends.append(len(self.data))


class Incoming:
    """One side's octets as they come: chunks[i] came in packets[i]; `next` is the sequence number that would be in order."""

    __slots__ = ("base", "chunks", "fin", "held", "initial", "next", "packets")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.packets = array("I")
        self.next = _NONE_IN_ORDER
        self.base: int | None = None  # the sequence number of place 0
        self.initial: int | None = None  # the SYN's sequence number
        self.fin: int | None = None  # the place of the FIN
        self.held: _Held | None = None

    def begin(self, sequence: int) -> None:
        """A SYN: the stream begins after it."""
        if self.initial is None:
            self.initial = sequence
            if self.base is None:
                self.base = self.next = (sequence + 1) % CIRCLE

    def take(self, packet: int, sequence: int, payload: bytes, length: int) -> None:
        """Octets of a segment: `length` on the wire, of which `payload` was captured."""
        start = self._place(sequence)
        if self.held is None:
            known = self._known()
            if len(payload) == length and (start == known or 0 <= start < known < start + length):
                self.chunks.append(payload[known - start :])
                self.packets.append(packet)
                self.next = (sequence + length) % CIRCLE
                return
            if start + length <= known and (start >= 0 or self.initial is not None):
                return  # nothing new: a retransmission, or a keep-alive
            self.held = _Held(known)
            self.next = _NONE_IN_ORDER
        self.held.add(start, packet, payload, length)

    def finish(self, sequence: int) -> None:
        """A FIN: nothing was sent from this number on."""
        self.fin = self._place(sequence)

    def _known(self) -> int:
        return self.held.prefix if self.held else (self.next - (self.base or 0)) % CIRCLE

    def _place(self, sequence: int) -> int:
        """The place of a sequence number, taken the shorter way round the circle from the latest one."""
        if self.base is None:
            self.base = self.next = sequence
        near = self.held.recent if self.held else self._known()
        return near + (sequence - self.base - near + _HALF) % CIRCLE - _HALF

    def ordered(self) -> Ordered:
        """The stream; what was collected is given up."""
        held, self.held = self.held, None
        chunks, self.chunks = self.chunks, []
        whole = Ordered(b"".join(chunks), self.packets, array("I", accumulate(map(len, chunks))), [])
        reach = len(whole.data)
        if held:
            whole, reach = _with_held(whole, held, self.initial is not None)
        end = max(held.extent if held else 0, self.fin or 0)
        if end > reach:
            whole.gaps.append(Gap(len(whole.data), end - reach))
        return whole


def _with_held(prefix: Ordered, held: _Held, opened: bool) -> tuple[Ordered, int]:
    """What came in order together with what was held; and the place after its last octet."""
    lows = [0, *held.ends]
    # The prefix is the first piece: what came in order came before all that was held.
    spans = [(0, len(prefix.data))]
    spans += [(start, start + high - low) for start, low, high in zip(held.starts, lows, held.ends, strict=False)]
    reach = 0 if opened else min((start for start, end in spans if end > start), default=0)
    data, packets, ends, gaps = bytearray(), array("I"), array("I"), []
    for piece, start, end in first_copies(spans, reach):
        if start > reach:
            gaps.append(Gap(len(data), start - reach))
        reach = end
        if piece == 0:
            shift = len(data)
            data += prefix.data
            packets.extend(prefix.packets)
            ends.extend(shift + stop for stop in prefix.ends)
            continue
        low = lows[piece - 1] + start - spans[piece][0]
        data += held.data[low : low + end - start]
        packets.append(held.packets[piece - 1])
        ends.append(len(data))
    return Ordered(bytes(data), packets, ends, gaps), reach


def first_copies(spans: Sequence[tuple[int, int]], low: int) -> Iterator[tuple[int, int, int]]:
    """(index, start, end): which span gives which octets from `low` on, when the first in the sequence wins."""
    order = sorted(range(len(spans)), key=lambda index: spans[index][0])
    begun: list[int] = []  # a heap of those that begin at or before the position
    position, coming = low, 0
    while begun or coming < len(order):
        if not begun:
            position = max(position, spans[order[coming]][0])
        while coming < len(order) and spans[order[coming]][0] <= position:
            heappush(begun, order[coming])
            coming += 1
        while begun and spans[begun[0]][1] <= position:
            heappop(begun)
        if not begun:
            continue
        piece = begun[0]
        end = spans[piece][1]
        while coming < len(order) and spans[order[coming]][0] < end:
            rival = order[coming]
            heappush(begun, rival)
            coming += 1
            if rival < piece:
                end = spans[rival][0]
        yield piece, position, end
        position = end
