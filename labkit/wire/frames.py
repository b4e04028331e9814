"""Frames: one packet each, as a capture file holds it; and how recorded bytes become frames.

The tap records what a server's socket received and sent; `Synthesizer` writes those bytes as Ethernet, IP and TCP, with
handshake, acknowledgements and checksums that a dissector finds nothing wrong with. The bytes carried are the real ones.
Segments are as long as Ethernet allows (1,460 octets of data over IPv4, 1,440 over IPv6): the loopback interface itself
carries up to 64 KiB in one packet, so the number of packets means nothing, and all that must repeat is told in bursts.
`readdress` writes the addresses that people know into the packets.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from labkit.wire.endpoints import Address, NameResolver
from labkit.wire.events import Connection, Event, EventKind

ETHERNET = 1  # LINKTYPE_ETHERNET

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10  # RFC 9293 section 3.1
WINDOW = 65_535
MTU = 1_500  # Ethernet's
STEP = 1_000  # ns between two packets of one instant: a microsecond, which is as fine as a classic pcap file tells time
IPV4, IPV6 = 0x0800, 0x86DD  # EtherTypes
TCP = 6

LOOPBACK_MACS = bytes(12)  # the loopback interface has no hardware addresses

_IPV4 = struct.Struct("!HHHBBH")  # total length, identification, fragment, time to live, protocol, checksum
_TCP = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured packet.

    time: nanoseconds since the epoch. data: the bytes captured, from the link layer on. length: octets on the wire
    (more than len(data) where a snap length cut the packet). link: the LINKTYPE_ number of the link layer.
    """

    time: int
    data: bytes
    length: int
    link: int = ETHERNET


class Synthesizer:
    """Recorded events as frames, with the real addresses and strictly increasing times."""

    def __init__(self) -> None:
        self._time = 0
        self._dialogues: dict[Connection, _Dialogue] = {}

    def add(self, events: Iterable[Event]) -> list[Frame]:
        """The frames that these further events make, after those of the events before."""
        frames: list[Frame] = []
        for event in events:
            dialogue = self._dialogues.get(event.connection)
            if dialogue is None:
                dialogue = self._dialogues[event.connection] = _Dialogue(event.connection)
            for data in dialogue.packets(event):
                self._time = max(event.time, self._time + STEP)
                frames.append(Frame(self._time, data, len(data)))
        return frames


class _Dialogue:
    """One connection as packets.

    Data is acknowledged after every second segment (RFC 9293 section 3.8.6.3) and at the end of what was sent at once.
    """

    def __init__(self, connection: Connection) -> None:
        # Any initial sequence numbers are right: they rise from connection to connection, and repeat run after run.
        first = connection.number << 20
        self.client = _End(connection.client, connection.server, first)
        self.server = _End(connection.server, connection.client, first + (1 << 19))
        self.client.peer, self.server.peer = self.server, self.client

    def packets(self, event: Event) -> Iterator[bytes]:
        """The packets of one event, acknowledgements included."""
        match event.kind:
            case EventKind.OPENED:
                yield from self._handshake()
            case EventKind.RECEIVED:
                yield from self.client.says(event.data)
            case EventKind.SENT:
                yield from self.server.says(event.data)
            case EventKind.CLIENT_FIN:
                yield from self.client.finishes()
            case EventKind.SERVER_FIN:
                yield from self.server.finishes()
            case EventKind.CLIENT_RST:
                yield self.client.packet(RST | ACK)
            case EventKind.SERVER_RST:
                yield self.server.packet(RST | ACK)

    def _handshake(self) -> Iterator[bytes]:
        self.client.sequence -= 1
        yield self.client.packet(SYN, options=self.client.mss_option)
        self.server.sequence -= 1
        yield self.server.packet(SYN | ACK, options=self.server.mss_option)
        yield self.client.packet(ACK)


class _End:
    """One end of a connection: what it has sent so far, and all that stays the same in its packets."""

    peer: "_End"

    def __init__(self, own: Address, other: Address, first: int) -> None:
        self.v6 = ":" in own[0]
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        self.addresses = socket.inet_pton(family, own[0]) + socket.inet_pton(family, other[0])
        self.ports = own[1], other[1]
        self.sequence = first
        self.identification = 0
        self.mss = MTU - (60 if self.v6 else 40)
        self.mss_option = struct.pack("!BBH", 2, 4, self.mss)
        self.link = LOOPBACK_MACS + struct.pack("!H", IPV6 if self.v6 else IPV4)
        # What every checksum of this end has in common.
        self.ip_sum = 0x4500 + 0x4000 + (64 << 8 | TCP) + _sum(self.addresses)
        self.tcp_sum = _sum(self.addresses) + TCP + sum(self.ports)

    def says(self, data: bytes) -> Iterator[bytes]:
        """The segments that carry `data`, and the other end's acknowledgements."""
        for number, start in enumerate(range(0, len(data), self.mss), 1):
            chunk = data[start : start + self.mss]
            last = start + self.mss >= len(data)
            yield self.packet(PSH | ACK if last else ACK, chunk)
            if last or number % 2 == 0:
                yield self.peer.packet(ACK)

    def finishes(self) -> Iterator[bytes]:
        """FIN, and its acknowledgement."""
        yield self.packet(FIN | ACK)
        yield self.peer.packet(ACK)

    def packet(self, flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
        """The next packet from this end; it acknowledges all that the other end has sent."""
        header = 20 + len(options)
        length = header + len(data)
        acknowledged = self.peer.sequence & 0xFFFF_FFFF if flags & ACK else 0
        sequence = self.sequence & 0xFFFF_FFFF
        offset = header << 2
        tcp = _TCP.pack(
            *self.ports,
            sequence,
            acknowledged,
            offset,
            flags,
            WINDOW,
            # 2^16 is 1 modulo 65535, so a 32-bit number stands for the sum of its two halves.
            _checksum(
                self.tcp_sum
                + length
                + sequence
                + acknowledged
                + (offset << 8 | flags)
                + WINDOW
                + _sum(options)
                + _sum(data)
            ),
            0,
        )
        self.sequence += len(data) + bool(flags & (SYN | FIN))
        return b"".join((self.link, self._ip(length), tcp, options, data))

    def _ip(self, length: int) -> bytes:
        if self.v6:
            return struct.pack("!IHBB", 0x6000_0000, length, TCP, 64) + self.addresses
        self.identification = (self.identification + 1) & 0xFFFF
        total = 20 + length
        checksum = _checksum(self.ip_sum + total + self.identification)
        return b"\x45\x00" + _IPV4.pack(total, self.identification, 0x4000, 64, TCP, checksum) + self.addresses


def _sum(data: bytes | bytearray) -> int:
    """A number that is congruent, modulo 65535, to the sum of the 16-bit words of `data` (padded with a zero octet)."""
    value = int.from_bytes(data, "big")
    return value << 8 if len(data) % 2 else value


def _checksum(total: int) -> int:
    """The Internet checksum (RFC 1071) of words whose sum is congruent to `total`; total is never 0."""
    rest = total % 0xFFFF
    return 0xFFFF - rest if rest else 0


def readdress(frames: Sequence[Frame], names: NameResolver) -> list[Frame]:
    """The same packets between the addresses and ports that people know, with checksums made right.

    The kernel leaves TCP checksums on loopback to a network card that is not there. Packets that are not TCP over IP on
    Ethernet stay as they are, and so does the TCP checksum of a packet that was cut.
    """
    known: dict[bytes, _Rewrite] = {}
    return [_readdressed(frame, names, known) for frame in frames]


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """What is written into the packets of one direction of a connection."""

    macs: bytes
    addresses: bytes
    ports: bytes
    tcp_sum: int


def _readdressed(frame: Frame, names: NameResolver, known: dict[bytes, _Rewrite]) -> Frame:
    data = frame.data
    place = _place(data) if frame.link == ETHERNET else None
    if place is None:
        return frame
    addresses, size, tcp, end = place
    key = data[addresses : addresses + 2 * size] + data[tcp : tcp + 4]
    rewrite = known.get(key) or known.setdefault(key, _rewrite(key, names))
    head = bytearray(data[14:tcp])
    start = addresses - 14
    head[start : start + 2 * size] = rewrite.addresses
    if size == 4:
        head[10:12] = b"\0\0"
        head[10:12] = _checksum(_sum(head)).to_bytes(2, "big")
    checksum = data[tcp + 16 : tcp + 18]
    if frame.length == len(data):
        covered = b"".join((rewrite.ports, data[tcp + 4 : tcp + 16], b"\0\0", data[tcp + 18 : end]))
        checksum = _checksum(rewrite.tcp_sum + (end - tcp) + _sum(covered)).to_bytes(2, "big")
    rest = data[tcp + 4 : tcp + 16], checksum, data[tcp + 18 :]
    return Frame(
        frame.time, b"".join((rewrite.macs, data[12:14], head, rewrite.ports, *rest)), frame.length, frame.link
    )


def _place(data: bytes) -> tuple[int, int, int, int] | None:
    """Where the IP addresses are, the size of one, where TCP starts and the packet ends; None if not TCP over IP."""
    kind = data[12:14]
    if kind == b"\x08\x00" and len(data) >= 34 and data[23] == TCP and not int.from_bytes(data[20:22], "big") & 0x3FFF:
        tcp = 14 + 4 * (data[14] & 0x0F)
        place = 26, 4, tcp, 14 + int.from_bytes(data[16:18], "big")
    elif kind == b"\x86\xdd" and len(data) >= 54 and data[20] == TCP:
        place = 22, 16, 54, 54 + int.from_bytes(data[18:20], "big")
    else:
        return None
    return place if place[2] + 20 <= min(len(data), place[3]) else None


def _rewrite(key: bytes, names: NameResolver) -> _Rewrite:
    source_port, target_port = struct.unpack("!HH", key[-4:])
    size = (len(key) - 4) // 2
    family = socket.AF_INET6 if size == 16 else socket.AF_INET
    ends = (socket.inet_ntop(family, key[:size]), source_port), (socket.inet_ntop(family, key[size:-4]), target_port)
    source, target = (names.server(*end) or names.client(*end) for end in ends)
    addresses = socket.inet_pton(family, source.address) + socket.inet_pton(family, target.address)
    ports = struct.pack("!HH", source.port, target.port)
    macs = _mac(addresses[size:]) + _mac(addresses[:size])
    return _Rewrite(macs, addresses, ports, _sum(addresses) + TCP)


def _mac(address: bytes) -> bytes:
    """A hardware address from those set aside for documentation (RFC 9542 section 2.1.2), ending like the IP address."""
    return b"\x00\x00\x5e\x00\x53" + address[-1:]
