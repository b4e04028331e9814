"""From a frame to the TCP segment it carries: link layer, IP, fragments, TCP. The general path of reading.

One table says where the IP header begins for each link type; IPv4 and IPv6 both become a Datagram; a datagram in fragments
waits until its last octet is there. Lengths come from the IP header, so Ethernet padding never becomes data. Checksums are
not verified: a sender that leaves them to its network card is captured with wrong ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.wire.frames import IPV4, IPV6, TCP, Frame

_TAGS = frozenset({0x8100, 0x88A8, 0x9100})  # IEEE 802.1Q, 802.1ad (QinQ), and QinQ's older number
_FAMILIES_IP = frozenset({2, 10, 24, 28, 30})  # AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD and macOS
_FRAGMENT = 44
# IPv6 extension header → its octets, by the length that it names (RFC 8200 section 4). In the first row: hop-by-hop,
# routing, destination, mobility, HIP, shim6.
_EXTENSIONS: dict[int, Callable[[int], int]] = {
    **dict.fromkeys((0, 43, 60, 135, 139, 140), lambda length: (length + 1) * 8),
    _FRAGMENT: lambda _reserved: 8,
    51: lambda length: (length + 2) * 4,  # authentication: RFC 4302 section 2.2
}

_REASSEMBLY_TIME = 60_000_000_000  # ns, RFC 8200 section 4.5
_PENDING_DATAGRAMS = 1024
_PENDING_PIECES = 2048


class TcpSegment(NamedTuple):
    """A TCP segment as captured.

    key: source address, destination address, source port, destination port, as on the wire (12 or 36 octets).
    payload: the octets captured; length: the octets on the wire, more than captured where a snap length cut the packet.
    """

    key: bytes
    sequence: int
    flags: int
    payload: bytes
    length: int


class Datagram(NamedTuple):
    """An IP datagram or a fragment of it: `length` octets on the wire from `offset` on; `payload` was captured."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    length: int
    identification: int = 0
    offset: int = 0
    more: bool = False


def _after_ethertype(data: bytes, offset: int) -> int | None:
    """Where IP begins, given where the EtherType (or the tags before it) is."""
    kind = int.from_bytes(data[offset : offset + 2])
    while kind in _TAGS:
        offset += 4
        kind = int.from_bytes(data[offset : offset + 2])
    return offset + 2 if kind in (IPV4, IPV6) else None


def _after_family(data: bytes) -> int | None:
    """BSD loopback: an address family in the byte order of the machine that captured, so either is taken."""
    family = data[:4]
    return 4 if {int.from_bytes(family, "little"), int.from_bytes(family, "big")} & _FAMILIES_IP else None


def _after_cooked_v2(data: bytes) -> int | None:
    """Linux cooked v2 names the protocol first; a tag's own EtherType stands in the payload, which begins at 20."""
    kind = int.from_bytes(data[:2])
    return _after_ethertype(data, 22) if kind in _TAGS else 20 if kind in (IPV4, IPV6) else None


# LINKTYPE_ number → where the IP header begins, None when the frame carries something else (tcpdump.org/linktypes.html)
LINK_LAYERS: dict[int, Callable[[bytes], int | None]] = {
    **dict.fromkeys((0, 108), _after_family),  # NULL, LOOP
    1: lambda data: _after_ethertype(data, 12),  # ETHERNET
    **dict.fromkeys((12, 14, 101, 228, 229), lambda data: 0),  # DLT_RAW (OpenBSD's is 14), RAW, IPV4, IPV6
    113: lambda data: _after_ethertype(data, 14),  # LINUX_SLL
    276: _after_cooked_v2,  # LINUX_SLL2
}


def _ipv4(data: bytes, room: int) -> Datagram | None:
    """RFC 791. `room`: octets on the wire from the IP header on."""
    if len(data) < 20:
        return None
    header = (data[0] & 0x0F) * 4
    total = int.from_bytes(data[2:4]) or room  # 0: the sender left segmentation to its network card
    if header < 20 or total < header:
        return None
    fragment = int.from_bytes(data[6:8])
    return Datagram(
        data[12:16],
        data[16:20],
        data[9],
        data[header:total],
        total - header,
        int.from_bytes(data[4:6]),
        (fragment & 0x1FFF) * 8,
        bool(fragment & 0x2000),
    )


def _ipv6(data: bytes, room: int) -> Datagram | None:
    """RFC 8200, with its extension headers passed."""
    if len(data) < 40:
        return None
    length = int.from_bytes(data[4:6]) or room - 40
    datagram = Datagram(data[8:24], data[24:40], data[6], data[40 : 40 + length], length)
    return _past_extensions(datagram)


def _past_extensions(datagram: Datagram) -> Datagram | None:
    """The datagram without its extension headers, up to a fragment header, whose fields it takes over."""
    while datagram.protocol in _EXTENSIONS:
        protocol, payload = datagram.protocol, datagram.payload
        size = _EXTENSIONS[protocol](payload[1]) if len(payload) >= 8 else 0
        if not size or size > datagram.length:
            return None
        rest = datagram._replace(protocol=payload[0], payload=payload[size:], length=datagram.length - size)
        if protocol != _FRAGMENT:
            datagram = rest
            continue
        place = int.from_bytes(payload[2:4])
        offset, more = place & 0xFFF8, bool(place & 1)
        if offset or more:
            return rest._replace(identification=int.from_bytes(payload[4:8]), offset=offset, more=more)
        datagram = rest  # an atomic fragment (RFC 6946) is whole
    return datagram


def _tcp(datagram: Datagram) -> TcpSegment | None:
    payload = datagram.payload
    if datagram.protocol != TCP or len(payload) < 20:
        return None
    header = (payload[12] >> 4) * 4
    if header < 20 or header > datagram.length:
        return None
    return TcpSegment(
        datagram.source + datagram.destination + payload[:4],
        int.from_bytes(payload[4:8]),
        payload[13],
        payload[header:],
        datagram.length - header,
    )


@dataclass(slots=True)
class _Pending:
    """A datagram whose fragments are still coming. `end` is known once the last one was seen; first copies stay."""

    since: int
    protocol: int = -1
    pieces: dict[int, bytes] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    end: int = -1

    def whole(self) -> bytes | None:
        """The payload, when no octet is missing."""
        if self.end < 0 or self.protocol < 0 or sum(map(len, self.pieces.values())) < self.end:
            return None
        data = bytearray()
        for offset in sorted(self.pieces):
            if offset > len(data):
                return None
            data += self.pieces[offset][len(data) - offset :]
        return bytes(data[: self.end]) if len(data) >= self.end else None


class SegmentReader:
    """Reads TCP segments out of frames, one by one; remembers fragments between them."""

    def __init__(self) -> None:
        self._pending: dict[tuple[bytes, bytes, int, int], _Pending] = {}

    def read(self, number: int, frame: Frame) -> tuple[TcpSegment, tuple[int, ...]] | None:
        """The segment that packet `number` completes, and the numbers of all packets it came in; None when there is none."""
        find = LINK_LAYERS.get(frame.link)
        start = find(frame.data) if find else None
        if start is None or start >= len(frame.data):
            return None
        data = frame.data[start:] if start else frame.data
        version = data[0] >> 4
        parse = _ipv4 if version == 4 else _ipv6 if version == 6 else None
        datagram = parse(data, max(frame.length, len(frame.data)) - start) if parse else None
        numbers: tuple[int, ...] = (number,)
        if datagram and (datagram.more or datagram.offset):
            datagram, numbers = self._defragment(number, frame.time, datagram)
        segment = _tcp(datagram) if datagram else None
        return (segment, numbers) if segment else None

    def _defragment(self, number: int, time: int, piece: Datagram) -> tuple[Datagram | None, tuple[int, ...]]:
        # IPv6 takes the next header from the first fragment alone; IPv4 has the protocol in every one, and in the key
        six = len(piece.source) == 16
        key = (piece.source, piece.destination, piece.identification, -1 if six else piece.protocol)
        pending = self._pending.get(key)
        if pending is None or not 0 <= time - pending.since <= _REASSEMBLY_TIME:
            self._pending.pop(key, None)
            if len(self._pending) >= _PENDING_DATAGRAMS:
                del self._pending[next(iter(self._pending))]
            pending = self._pending[key] = _Pending(time)
        if len(pending.pieces) < _PENDING_PIECES:
            pending.pieces.setdefault(piece.offset, piece.payload)
            pending.numbers.append(number)
        if not piece.offset or not six:
            pending.protocol = piece.protocol
        if not piece.more:
            pending.end = piece.offset + piece.length
        payload = pending.whole()
        if payload is None:
            return None, ()
        del self._pending[key]
        whole = Datagram(piece.source, piece.destination, pending.protocol, payload, len(payload))
        return (_past_extensions(whole) if six else whole), tuple(pending.numbers)
