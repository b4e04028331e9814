"""Reads and writes pcap and pcapng, whoever made them, gzipped or not.

A file is walked once: the walk notes where each packet's octets begin and how many there are, nothing else. A Frame is made
when somebody asks for one. All formats keep the same four words before the octets (time, time, captured, on the wire), so
one small table of sources, one for each interface, tells how to read them.

Damage after the first packet ends the reading with a note; damage before it, and what is no capture at all, is BadCapture.
pcap: draft-ietf-opsawg-pcap; pcapng: draft-ietf-opsawg-pcapng.
"""

import gzip
import mmap
import os
import struct
import tempfile
import zlib
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from labkit import files
from labkit.errors import BadCapture
from labkit.texts import _
from labkit.wire.frames import ETHERNET, Frame
from labkit.wire.packets import LINK_LAYERS

LARGEST_FILE = 2 << 30  # octets of a capture that is read, packed or not
LARGEST_UNPACKED = 1 << 30  # octets that a gzipped capture may unpack to
LARGEST_RATIO = (
    50  # unpacked to packed, above 8 MiB: packets differ, so a capture shrinks to a tenth, never to a thousandth
)
LARGEST_PACKET = 256 << 10  # octets; what Wireshark takes for a packet, too
READ_WHOLE = 8 << 20  # files up to here are read, larger ones mapped: a mapped file that another program cuts is lost

Progress = Callable[[int, int], None]
Buffer = bytes | mmap.mmap

_SECOND = 1_000_000_000
_PCAP_TIMES = range(2**32 * _SECOND)  # ns: 32 bits of seconds
_PCAPNG_TIMES = range(2**64)  # ns: 64 bits, in the unit that `write` takes
_CHUNK = 1 << 13  # packets between two reports of progress
_WINDOW = 1 << 20  # octets
_PIECE = 1 << 20  # octets
_GZIP = b"\x1f\x8b"

# pcap magic → byte order, nanoseconds per unit of the second time word
_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}

_SECTION = 0x0A0D0D0A
_INTERFACE, _PACKET_OBSOLETE, _SIMPLE, _STATISTICS, _ENHANCED, _SECRETS = 1, 2, 3, 5, 6, 10
_ORDER_MAGIC = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_TLS_KEYLOG = 0x544C534B
_OPT_END, _OPT_COMMENT, _SHB_APPLICATION = 0, 1, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_TSOFFSET, _ISB_IFDROP = 2, 3, 9, 14, 5


@dataclass(frozen=True, slots=True)
class _Source:
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
            return high * _SECOND + low * (_SECOND // self.units), length
        return (high << 32 | low) * _SECOND // self.units + self.offset * _SECOND, length


def _release(buffer: Buffer, end: int) -> None:
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
        sources: Sequence[_Source],
        origins: "array[int] | None" = None,
    ) -> None:
        self.buffer, self.starts, self.sizes = buffer, starts, sizes
        self._sources, self._origins = sources, origins
        links = {sources[index].link for index in set(origins)} if origins else {source.link for source in sources}
        self.link = links.pop() if len(links) == 1 else None

    def __len__(self) -> int:
        return len(self.starts)

    def _source(self, index: int) -> _Source:
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
            last = max(bisect_left(starts, starts[first] + _WINDOW, first, safe), first + 1)
            yield first + 1, buffer, starts[first:last], sizes[first:last]
            _release(buffer, starts[last - 1])
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


def read(path: str | os.PathLike[str], progress: Progress | None = None) -> CaptureFile:
    """Read a pcap or pcapng file, gzipped or not. `progress` is told (octets done, octets in all) now and then.

    Raises BadCapture, with file, offset and what was expected there, when it cannot be read or is larger than LARGEST_FILE
    (gzipped: than LARGEST_UNPACKED when unpacked). A file cut in mid-packet is read as far as it goes; a note says so.
    """
    path = Path(path)
    return parse(path, *_contents(path), progress)


def parse(path: Path, buffer: Buffer, notes: Iterable[str] = (), progress: Progress | None = None) -> CaptureFile:
    """The same for the octets of a file, not gzipped; `path` is what sentences call it, `notes` what is known already."""
    reader = _Pcap if buffer[:4] in _PCAP_MAGIC else _Pcapng if buffer[:4] == _SECTION.to_bytes(4) else None
    if reader is None:
        found = buffer[:4].hex(" ") if len(buffer) else _("nothing: the file is empty")
        raise BadCapture(
            _(
                "{file} is not a capture: offset 0 should hold the magic number of pcap or pcapng and holds {found}; "
                "give a file that Wireshark, tcpdump or labkit saved."
            ).format(file=path, found=found)
        )
    return reader(path, buffer, [*notes], progress or (lambda done, total: None)).file()


def _contents(path: Path) -> tuple[Buffer, list[str]]:
    """The octets of the file, unpacked, and notes about the unpacking."""
    try:
        with path.open("rb") as file:
            regular = path.is_file()
            size = path.stat().st_size if regular else 0
            if size > LARGEST_FILE:
                raise _too_large(path, LARGEST_FILE)
            if regular and file.read(2) == _GZIP:
                file.seek(0)
                return _unpacked(path, gzip.GzipFile(fileobj=file))
            if size > READ_WHOLE:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), []
            if regular:
                file.seek(0)
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise BadCapture(
            _("{file} cannot be read: {reason}. Check the name and that you may read it.").format(
                file=path, reason=error.strerror or error
            )
        ) from None
    if len(data) > LARGEST_FILE:
        raise _too_large(path, LARGEST_FILE)
    return data, []


def _too_large(path: Path, limit: int) -> BadCapture:
    return BadCapture(
        _(
            "{file} is larger than the {limit} MiB that are read at once; cut it first, "
            "for example with: editcap -c 1000000 {file} part.pcapng"
        ).format(file=path, limit=limit >> 20)
    )


def _unpacked(path: Path, packed: gzip.GzipFile) -> tuple[Buffer, list[str]]:
    """Unpack into a nameless temporary file, never more than LARGEST_UNPACKED octets or LARGEST_RATIO times the packed."""
    notes: list[str] = []
    size = 0
    limit = min(LARGEST_UNPACKED, max(8 << 20, LARGEST_RATIO * path.stat().st_size))
    with tempfile.TemporaryFile() as file:
        try:
            while piece := packed.read1(_PIECE):
                size += len(piece)
                if size > limit:
                    raise BadCapture(
                        _(
                            "{file} unpacks to more than {limit} MiB, so it is not unpacked further; if you trust it, "
                            "run gunzip and cut the result with editcap."
                        ).format(file=path, limit=limit >> 20)
                    )
                file.write(piece)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            if not size:
                raise BadCapture(
                    _(
                        "{file} is gzipped but damaged at its start: nothing can be unpacked; get the file again."
                    ).format(file=path)
                ) from None
            notes.append(
                _(
                    "{file}: the gzip data is cut or damaged after {size} unpacked octets; read as far as it goes."
                ).format(file=path, size=size)
            )
        file.flush()
        if size > READ_WHOLE:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), notes
        file.seek(0)
        return file.read(), notes


class _Reader(ABC):
    """What both formats share: the index of packets, the notes, and how damage is told."""

    def __init__(self, path: Path, buffer: Buffer, notes: list[str], report: Progress) -> None:
        self.path, self.buffer, self.notes, self.report = path, buffer, notes, report
        self.size = len(buffer)
        self.starts = array("Q")
        self.sizes = array("I")

    @abstractmethod
    def file(self) -> CaptureFile:
        """All that it holds."""

    def damaged(self, offset: int, expected: str) -> None:
        """Nothing after `offset` can be read: a note, or BadCapture when no packet came before it."""
        if not self.starts:
            raise BadCapture(
                _("{file} cannot be read: offset {offset} should hold {expected}; get or save the file again.").format(
                    file=self.path, offset=offset, expected=expected
                )
            )
        self.notes.append(
            _("{file}: offset {offset} should hold {expected}. Packets before it, all read: {count}.").format(
                file=self.path, offset=offset, expected=expected, count=len(self.starts)
            )
        )

    def cut(self, offset: int) -> None:
        self.notes.append(
            _(
                "{file} ends in the middle of what begins at offset {offset}. Packets before it, all read: {count}."
            ).format(file=self.path, offset=offset, count=len(self.starts))
        )

    def unsupported(self, link: int) -> BadCapture:
        return BadCapture(
            _(
                "{file} was captured on a link of type {link}, which is not read; capture on Ethernet, loopback, "
                "Linux cooked or raw IP instead (types {known})."
            ).format(file=self.path, link=link, known=", ".join(map(str, sorted(LINK_LAYERS))))
        )


class _Pcap(_Reader):
    """A file header of 24 octets, then packets, each with a header of 16."""

    def file(self) -> CaptureFile:
        order, unit = _PCAP_MAGIC[self.buffer[:4]]
        if self.size < 24:
            self.damaged(0, _("a pcap file header of 24 octets"))
        (link,) = struct.unpack_from(order + "I", self.buffer, 20)
        link &= 0xFFFF  # the upper half tells of frame check sequences
        if link not in LINK_LAYERS:
            raise self.unsupported(link)
        self._index(struct.Struct(order + "8xI4x").unpack_from)
        source = _Source(order, link, _SECOND // unit, split=True)
        return CaptureFile(Frames(self.buffer, self.starts, self.sizes, (source,)), tuple(self.notes))

    def _index(self, captured_at: Callable[[Buffer, int], tuple[int, ...]]) -> None:
        buffer, size, last = self.buffer, self.size, self.size - 16
        start, measure = self.starts.append, self.sizes.append
        position = 24
        while position <= last:
            self.report(position, size)
            _release(buffer, position)
            for _packet in range(_CHUNK):
                if position > last:
                    break
                (captured,) = captured_at(buffer, position)
                end = position + 16 + captured
                if captured > LARGEST_PACKET:
                    return self.damaged(position, _("the header of a packet of at most 262144 octets"))
                if end > size:
                    return self.cut(position)
                start(position + 16)
                measure(captured)
                position = end
        self.report(size, size)
        if position < size:
            self.cut(position)
        return None


class _Pcapng(_Reader):
    """Sections of blocks; each block has a type, a length, a body, and its length again."""

    def __init__(self, path: Path, buffer: Buffer, notes: list[str], report: Progress) -> None:
        super().__init__(path, buffer, notes, report)
        self.order = "<"
        self.sources: list[_Source] = []
        self.interfaces: list[int] = []  # this section's interfaces, as indexes of sources
        self.simple = -1  # the source for simple packet blocks of this section
        self.origins = array("I")
        self.keylogs: list[str] = []
        self.section_comments: list[str] = []
        self.dropped: dict[int, int] = {}

    def file(self) -> CaptureFile:
        self._walk()
        for index, count in self.dropped.items():
            self.notes.append(
                _("{file}: the capturing program lost packets on interface {name}: {count}.").format(
                    file=self.path, count=count, name=self.sources[index].name or index
                )
            )
        foreign = sorted({self.sources[index].link for index in set(self.origins)} - LINK_LAYERS.keys())
        frames = Frames(self.buffer, self.starts, self.sizes, self.sources, self.origins)
        if foreign and all(self.sources[index].link in foreign for index in set(self.origins)):
            raise self.unsupported(foreign[0])
        if foreign:
            self.notes.append(
                _("{file}: packets on links of type {links} are not read.").format(
                    file=self.path, links=", ".join(map(str, foreign))
                )
            )
        comment = "\n".join(self.section_comments)
        return CaptureFile(frames, tuple(self.notes), "".join(self.keylogs), comment)

    def _walk(self) -> None:
        position = mark = 0
        readers = {
            _INTERFACE: self._interface,
            _PACKET_OBSOLETE: self._packet,
            _SIMPLE: self._simple_packet,
            _STATISTICS: self._statistics,
            _ENHANCED: self._packet,
            _SECRETS: self._secrets,
        }
        while position + 12 <= self.size:
            if position >= mark:
                self.report(position, self.size)
                _release(self.buffer, position)
                mark = position + _WINDOW
            position = self._plain_packets(position)
            if position + 12 > self.size:
                break
            if self.buffer[position : position + 4] == _SECTION.to_bytes(4) and not self._section(position):
                return None
            kind, length = struct.unpack_from(self.order + "II", self.buffer, position)
            end = position + length
            if length < 12 or length % 4:
                return self.damaged(position + 4, _("the length of a block, a multiple of 4 from 12 on"))
            if end > self.size:
                return self.cut(position)
            if struct.unpack_from(self.order + "I", self.buffer, end - 4)[0] != length:
                return self.damaged(end - 4, _("the block's length again, {length}").format(length=length))
            reader = readers.get(kind)
            if reader and (expected := reader(position, end - 4)):
                return self.damaged(position, expected)
            position = end
        self.report(self.size, self.size)
        if position < self.size:
            self.cut(position)
        return None

    def _plain_packets(self, position: int) -> int:
        """The fast path: enhanced packet blocks without options, in a row. Returns where it stopped."""
        buffer, interfaces, known = self.buffer, self.interfaces, len(self.interfaces)
        start, measure, origin = self.starts.append, self.sizes.append, self.origins.append
        head, length_at = struct.Struct(self.order + "3I8xI4x").unpack_from, struct.Struct(self.order + "I").unpack_from
        last = self.size - 32
        for _packet in range(_CHUNK):
            if position > last:
                break
            kind, length, interface, captured = head(buffer, position)
            end = position + length
            if (
                kind != _ENHANCED
                or length != 32 + captured + -captured % 4
                or captured > LARGEST_PACKET
                or interface >= known
                or end > self.size
                or length_at(buffer, end - 4)[0] != length
            ):
                break
            start(position + 28)
            measure(captured)
            origin(interfaces[interface])
            position = end
        return position

    def _section(self, position: int) -> bool:
        """A section header sets the byte order and forgets the interfaces before it."""
        order = _ORDER_MAGIC.get(self.buffer[position + 8 : position + 12])
        if order is None:
            self.damaged(position + 8, _("a section's byte-order magic, 1a2b3c4d"))
            return False
        self.order = order
        self.interfaces, self.simple = [], -1
        (length,) = struct.unpack_from(order + "I", self.buffer, position + 4)
        end = min(position + length - 4, self.size)
        for code, value in self._options(position + 24, end):
            if code == _OPT_COMMENT:
                self.section_comments.append(value.decode("utf-8", "replace"))
        return True

    def _options(self, position: int, end: int) -> Iterator[tuple[int, bytes]]:
        while position + 4 <= end:
            code, length = struct.unpack_from(self.order + "HH", self.buffer, position)
            position += 4
            if code == _OPT_END or position + length > end:
                return
            yield code, self.buffer[position : position + length]
            position += length + -length % 4

    def _interface(self, position: int, end: int) -> str:
        if end - position < 16:
            return _("an interface description of 20 octets or more")
        link, _reserved, snap = struct.unpack_from(self.order + "HHI", self.buffer, position + 8)
        units, offset, name = 1_000_000, 0, ""
        for code, value in self._options(position + 16, end):
            if code == _IF_TSRESOL and len(value) == 1:
                units = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _IF_TSOFFSET and len(value) == 8:
                (offset,) = struct.unpack(self.order + "q", value)
            elif code == _IF_NAME:
                name = value.decode("utf-8", "replace")
        self.interfaces.append(len(self.sources))
        self.sources.append(_Source(self.order, link, units, offset, snap, name=name))
        return ""

    def _packet(self, position: int, end: int) -> str:
        """An enhanced packet block, or the obsolete packet block: they differ in the width of the interface number."""
        if end - position < 28:
            return _("a packet block of 32 octets or more")
        kind, _length, interface, _high, _low, captured, _wire = struct.unpack_from(
            self.order + "7I", self.buffer, position
        )
        if kind == _PACKET_OBSOLETE:
            (interface,) = struct.unpack_from(self.order + "H", self.buffer, position + 8)
        start = position + 28
        if interface >= len(self.interfaces):
            return _("a packet of an interface described before it; number {number} is not").format(number=interface)
        if captured > LARGEST_PACKET or start + captured > end:
            return _("a packet that fits its block")
        self._add(start, captured, self.interfaces[interface])
        return ""

    def _simple_packet(self, position: int, end: int) -> str:
        if end - position < 12 or not self.interfaces:
            return _("a simple packet block after the description of its interface")
        if self.simple < 0:
            interface = self.sources[self.interfaces[0]]
            self.simple = len(self.sources)
            self.sources.append(_Source(self.order, interface.link, 1, snap=interface.snap, timed=False))
        start = position + 12
        (length,) = struct.unpack_from(self.order + "I", self.buffer, position + 8)
        captured = min(length, end - start, self.sources[self.simple].snap or length)
        if captured > LARGEST_PACKET:
            return _("a packet of at most 262144 octets")
        self._add(start, captured, self.simple)
        return ""

    def _add(self, start: int, captured: int, origin: int) -> None:
        self.starts.append(start)
        self.sizes.append(captured)
        self.origins.append(origin)

    def _statistics(self, position: int, end: int) -> str:
        if end - position >= 20:
            (interface,) = struct.unpack_from(self.order + "I", self.buffer, position + 8)
            for code, value in self._options(position + 20, end):
                if code == _ISB_IFDROP and len(value) == 8 and interface < len(self.interfaces):
                    (count,) = struct.unpack(self.order + "Q", value)
                    if count:
                        self.dropped[self.interfaces[interface]] = count
        return ""

    def _secrets(self, position: int, end: int) -> str:
        if end - position < 16:
            return _("a decryption secrets block of 20 octets or more")
        kind, length = struct.unpack_from(self.order + "II", self.buffer, position + 8)
        if kind == _TLS_KEYLOG:
            text = self.buffer[position + 16 : min(position + 16 + length, end)].decode("utf-8", "replace")
            self.keylogs.append(text if text.endswith("\n") else text + "\n")
        return ""


def write(path: str | os.PathLike[str], frames: Iterable[Frame], *, comment: str = "", keylog: str = "") -> None:
    """Write a capture: pcap or pcapng, as the name's suffix says.

    pcap has microseconds where nothing is lost by it, else nanoseconds; it has no place for a comment or a key log, so they
    are left out. pcapng keeps both: Wireshark then decrypts by itself. An existing file is replaced only by a complete one.
    Raises BadCapture for another suffix, for frames of several link types in a pcap, for times that
    the format cannot hold, and when the system refuses.
    """
    path = Path(path)
    blocks = _format(path)
    try:
        files.write(path, blocks(path, list(frames), comment, keylog))
    except OSError as error:
        raise _unwritable(path, error) from None


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Raise now what `write` would raise for this name, for whoever has no capture yet, and then one to lose."""
    path = Path(path)
    _format(path)
    try:
        files.refuse_unwritable(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _format(path: Path) -> Callable[[Path, list[Frame], str, str], Iterator[bytes]]:
    """What makes the octets of a file of that name."""
    blocks = {".pcap": _pcap_file, ".pcapng": _pcapng_file}.get(path.suffix.lower())
    if blocks is None:
        raise BadCapture(
            _("{file} cannot be saved: the name must end in .pcap or .pcapng, which says what is written.").format(
                file=path
            )
        )
    return blocks


def _unwritable(path: Path, error: OSError) -> BadCapture:
    message = _("{file} cannot be saved: {reason}. Choose another name, in a folder that you may write to.")
    return BadCapture(message.format(file=path, reason=error.strerror or error))


def _refuse_times_outside(path: Path, frames: list[Frame], times: range, year: int) -> None:
    for number, frame in enumerate(frames, 1):
        if frame.time not in times:
            message = _(
                "{file} cannot be saved: packet {number} has a time outside 1970 to {year}, which is all that such a file "
                "holds. Move the times first, for example with editcap -t; .pcapng goes up to 2554."
            )
            raise BadCapture(message.format(file=path, number=number, year=year))


def _pcap_file(path: Path, frames: list[Frame], comment: str, keylog: str) -> Iterator[bytes]:
    links = {frame.link for frame in frames} or {ETHERNET}
    if len(links) > 1:
        raise BadCapture(
            _(
                "{file} cannot be saved: its packets come from several kinds of link, which only .pcapng can hold."
            ).format(file=path)
        )
    _refuse_times_outside(path, frames, _PCAP_TIMES, 2106)
    unit = 1 if any(frame.time % 1000 for frame in frames) else 1000
    magic = next(magic for magic, kind in _PCAP_MAGIC.items() if kind == ("<", unit))
    yield magic + struct.pack("<HHiIII", 2, 4, 0, 0, LARGEST_PACKET, links.pop())
    for frame in frames:
        seconds, rest = divmod(frame.time, _SECOND)
        yield struct.pack("<IIII", seconds, rest // unit, len(frame.data), frame.length) + frame.data


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option_list(*options: tuple[int, bytes]) -> bytes:
    """Options with a value, closed by the end of options; nothing at all when none has one."""
    written = [
        struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in ((code, value[:0xFFFF]) for code, value in options if value)
    ]
    return b"".join(written) + bytes(4) if written else b""


def _pcapng_file(path: Path, frames: list[Frame], comment: str, keylog: str) -> Iterator[bytes]:
    _refuse_times_outside(path, frames, _PCAPNG_TIMES, 2554)
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    yield _block(_SECTION, section + _option_list((_OPT_COMMENT, comment.encode()), (_SHB_APPLICATION, b"labkit")))
    if keylog:
        secrets = keylog.encode()
        yield _block(_SECRETS, struct.pack("<II", _TLS_KEYLOG, len(secrets)) + secrets)
    links = list(dict.fromkeys(frame.link for frame in frames)) or [ETHERNET]
    for number, link in enumerate(links):
        options = _option_list(
            (_IF_NAME, b"labkit%d" % number), (_IF_DESCRIPTION, comment.encode()), (_IF_TSRESOL, b"\x09")
        )
        yield _block(_INTERFACE, struct.pack("<HHI", link, 0, 0) + options)
    for frame in frames:
        time = frame.time
        head = struct.pack("<5I", links.index(frame.link), time >> 32, time & 0xFFFFFFFF, len(frame.data), frame.length)
        yield _block(_ENHANCED, head + frame.data)
