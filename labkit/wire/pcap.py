"""Reads pcap and pcapng, whoever made them, gzipped or not.

A file is walked once: the walk notes where each packet's octets begin and how many there are, nothing else.
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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labkit.errors import BadCapture
from labkit.texts import _
from labkit.wire.capture_file import SECOND, WINDOW, Buffer, CaptureFile, Frames, Progress, Source, release
from labkit.wire.packets import LINK_LAYERS

LARGEST_FILE = 2 << 30  # octets of a capture that is read, packed or not
LARGEST_UNPACKED = 1 << 30  # octets that a gzipped capture may unpack to
LARGEST_RATIO = 50  # unpacked to packed, above 8 MiB: packets differ, so a capture shrinks to a tenth, not a thousandth
LARGEST_PACKET = 256 << 10  # octets; what Wireshark takes for a packet, too
READ_WHOLE = 8 << 20  # files up to here are read, larger ones mapped: a mapped file that another program cuts is lost


_CHUNK = 1 << 13  # packets between two reports of progress
_PIECE = 1 << 20  # octets
_GZIP = b"\x1f\x8b"

# pcap magic → byte order, nanoseconds per unit of the second time word
PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}

SECTION = 0x0A0D0D0A
INTERFACE, _PACKET_OBSOLETE, _SIMPLE, _STATISTICS, ENHANCED, SECRETS = 1, 2, 3, 5, 6, 10
_ORDER_MAGIC = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
TLS_KEYLOG = 0x544C534B
_OPT_END, OPT_COMMENT = 0, 1
IF_NAME, IF_TSRESOL, _IF_TSOFFSET, _ISB_IFDROP = 2, 9, 14, 5


def read(path: str | os.PathLike[str], progress: Progress | None = None) -> CaptureFile:
    """Read a pcap or pcapng file, gzipped or not. `progress` is told (octets done, octets in all) now and then.

    Raises BadCapture, with file, offset and what was expected there, when it cannot be read or is larger than LARGEST_FILE
    (gzipped: than LARGEST_UNPACKED when unpacked). A file cut in mid-packet is read as far as it goes; a note says so.
    """
    path = Path(path)
    return parse(path, *_contents(path), progress)


def parse(path: Path, buffer: Buffer, notes: Iterable[str] = (), progress: Progress | None = None) -> CaptureFile:
    """The same for the octets of a file, not gzipped; `path` is what sentences call it, `notes` what is known already."""
    reader = _Pcap if buffer[:4] in PCAP_MAGIC else _Pcapng if buffer[:4] == SECTION.to_bytes(4) else None
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
            if regular and file.peek(2)[:2] == _GZIP:
                return _unpacked(path, gzip.GzipFile(fileobj=file))
            if size > READ_WHOLE:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), []
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
        order, unit = PCAP_MAGIC[self.buffer[:4]]
        if self.size < 24:
            self.damaged(0, _("a pcap file header of 24 octets"))
        (link,) = struct.unpack_from(order + "I", self.buffer, 20)
        link &= 0xFFFF  # the upper half tells of frame check sequences
        if link not in LINK_LAYERS:
            raise self.unsupported(link)
        self._index(struct.Struct(order + "8xI4x").unpack_from)
        source = Source(order, link, SECOND // unit, split=True)
        return CaptureFile(Frames(self.buffer, self.starts, self.sizes, (source,)), tuple(self.notes))

    def _index(self, captured_at: Callable[[Buffer, int], tuple[int, ...]]) -> None:
        buffer, size, last = self.buffer, self.size, self.size - 16
        start, measure = self.starts.append, self.sizes.append
        position = 24
        while position <= last:
            self.report(position, size)
            release(buffer, position)
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
        self.sources: list[Source] = []
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
            INTERFACE: self._interface,
            _PACKET_OBSOLETE: self._packet,
            _SIMPLE: self._simple_packet,
            _STATISTICS: self._statistics,
            ENHANCED: self._packet,
            SECRETS: self._secrets,
        }
        while position + 12 <= self.size:
            if position >= mark:
                self.report(position, self.size)
                release(self.buffer, position)
                mark = position + WINDOW
            position = self._plain_packets(position)
            if position + 12 > self.size:
                break
            if self.buffer[position : position + 4] == SECTION.to_bytes(4) and not self._section(position):
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
                kind != ENHANCED
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
            if code == OPT_COMMENT:
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
            if code == IF_TSRESOL and len(value) == 1:
                units = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _IF_TSOFFSET and len(value) == 8:
                (offset,) = struct.unpack(self.order + "q", value)
            elif code == IF_NAME:
                name = value.decode("utf-8", "replace")
        self.interfaces.append(len(self.sources))
        self.sources.append(Source(self.order, link, units, offset, snap, name=name))
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
            self.sources.append(Source(self.order, interface.link, 1, snap=interface.snap, timed=False))
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
        if kind == TLS_KEYLOG:
            text = self.buffer[position + 16 : min(position + 16 + length, end)].decode("utf-8", "replace")
            self.keylogs.append(text if text.endswith("\n") else text + "\n")
        return ""
