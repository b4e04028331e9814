"""Packets for the tests of wire: TCP over IPv4 over Ethernet, each field as the test wants it."""

import struct

from labkit.wire.frames import Frame

CLIENT, SERVER = ("198.51.100.7", 50000), ("192.0.2.25", 25)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

Address = tuple[str, int]


def _octets(address: str) -> bytes:
    return bytes(map(int, address.split(".")))


def ipv4(source: Address, destination: Address, sequence: int, data: bytes, flags: int, acknowledged: int = 0) -> bytes:
    """An IPv4 datagram with a TCP segment; checksums are left 0, as a network card would find them."""
    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], sequence % 2**32, acknowledged, 0x50, flags, 8192, 0, 0)
    total = 40 + len(data)
    addresses = _octets(source[0]) + _octets(destination[0])
    return struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0x4000, 64, 6, 0) + addresses + tcp + data


def segment(
    source: Address = CLIENT,
    destination: Address = SERVER,
    sequence: int = 0,
    data: bytes = b"",
    flags: int = ACK,
    *,
    time: int = 0,
    acknowledged: int = 0,
    cut: int = 0,
) -> Frame:
    """One frame. cut: octets of the data that the snap length took away."""
    frame = bytes(range(12)) + b"\x08\x00" + ipv4(source, destination, sequence, data, flags, acknowledged)
    return Frame(time, frame[: len(frame) - cut], len(frame))


def handshake(
    client: Address = CLIENT, server: Address = SERVER, numbers: tuple[int, int] = (1000, 5000)
) -> list[Frame]:
    """SYN, SYN-ACK, ACK with these initial sequence numbers."""
    return [
        segment(client, server, numbers[0], flags=SYN),
        segment(server, client, numbers[1], flags=SYN | ACK, acknowledged=(numbers[0] + 1) % 2**32),
        segment(client, server, numbers[0] + 1, acknowledged=(numbers[1] + 1) % 2**32),
    ]
