"""The packets of a capture file by their places in it: a Frame is made when somebody asks for one.

All formats keep the same four words before a packet's octets (time, time, captured, on the wire), so one small table of
sources, one for each interface, tells how to read them.
"""

import mmap
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from labkit.wire.frames import Frame

Progress = Callable[[int, int], None]
Buffer = bytes | mmap.mmap

SECOND = 1_000_000_000  # ns
WINDOW = 1 << 20  # octets of a large file that are in memory at a time


@dataclass(frozen=True, slots=True)
class Source:
    """How to read the words before a packet: one for a pcap file, one for each interface of a pcapng section."""

    order: str
    link: int
    units: int  # time units per second
    offset: int = 0  # seconds to add
    snap: int = 0  # octets, 0: no limit
    split: bool = False  # pcap: the time words are seconds and units; pcapng: they are the halves of one number
    timed: bool = True  # a simple packet block has no time
    name: str = ""

    def words(self, buffer: Buffer, start: int) -> tuple[int, int]:
        """Time (ns since the epoch; 0 where the file keeps none) and octets on the wire of the packet at `start`."""
        high, low, _captured, length = struct.unpack_from(self.order + "IIII", buffer, start - 16)
        if not self.timed:
            return 0, length
        if self.split:
            return high * SECOND + low * (SECOND // self.units), length
        return (high << 32 | low) * SECOND // self.units + self.offset * SECOND, length


def release(buffer: Buffer, end: int) -> None:
    """The octets before `end` are not needed for now: where the system can, a mapped file's pages leave the memory."""
    if not isinstance(buffer, bytes) and hasattr(buffer, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED, 0, end)


class Frames(Sequence[Frame]):
    """The packets of a file, made when asked for.

    For those who must be quick, `pieces` hands out the octets, `time` is one packet's time, and `link` the
    LINKTYPE_ number that all packets share, or None.
    """

    __slots__ = ("_origins", "_sources", "buffer", "link", "sizes", "starts")

    def __init__(
        self,
        buffer: Buffer,
        starts: "array[int]",
        sizes: "array[int]",
        sources: Sequence[Source],
        origins: "array[int] | None" = None,
    ) -> None:
        self.buffer, self.starts, self.sizes = buffer, starts, sizes
        self._sources, self._origins = sources, origins
        links = {sources[index].link for index in set(origins)} if origins else {source.link for source in sources}
        self.link = links.pop() if len(links) == 1 else None

    def __len__(self) -> int:
        return len(self.starts)

    def _source(self, index: int) -> Source:
        return self._sources[self._origins[index] if self._origins else 0]

    def time(self, index: int) -> int:
        """Nanoseconds since the epoch of the packet at `index` (from 0)."""
        return self._source(index).words(self.buffer, self.starts[index])[0]

    def pieces(self, room: int) -> Iterator[tuple[int, Buffer, "array[int]", "array[int]"]]:
        """One pass over a large file in little memory: the number of the first packet, octets, where in them each packet
        begins, and the packets' sizes. `room` octets follow the begin of every packet, its own or others.
        """
        starts, sizes, buffer = self.starts, self.sizes, self.buffer
        safe = bisect_left(starts, len(buffer) - room)
        first = 0
        while first < safe:
            last = max(bisect_left(starts, starts[first] + WINDOW, first, safe), first + 1)
            yield first + 1, buffer, starts[first:last], sizes[first:last]
            release(buffer, starts[last - 1])
            first = last
        if safe < len(self):
            low = starts[safe]
            yield (
                safe + 1,
                buffer[low:] + bytes(room),
                array("Q", (start - low for start in starts[safe:])),
                sizes[safe:],
            )

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        start, source = self.starts[index], self._source(index)
        time, length = source.words(self.buffer, start)
        return Frame(time, self.buffer[start : start + self.sizes[index]], length, source.link)


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """What a capture file holds.

    notes: sentences about what is not as it should be, such as an end in mid-packet. keylog: the TLS key log in a pcapng.
    comment: the comment on the whole file (pcapng).
    """

    frames: Sequence[Frame]
    notes: tuple[str, ...] = ()
    keylog: str = ""
    comment: str = ""
