"""Frames: one packet each, as a capture file holds it; and how recorded bytes become frames.

The tap records what a server's socket received and sent; `synthesize` writes those bytes as Ethernet, IPv4 and TCP, with
handshake, acknowledgements and checksums that a dissector finds nothing wrong with. The bytes carried are the real ones.
"""

from dataclasses import dataclass

ETHERNET = 1  # LINKTYPE_ETHERNET


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
