"""The headers around TCP's bytes, field by field: link layer, IPv4 or IPv6, TCP (RFC 791, 8200, 9293).

Each layer says which one comes next, so the whole is a walk through tables, from the link type of the capture to the
payload. Headers are never encrypted: who speaks with whom, when, and how much, stays visible whatever is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from labkit.decode.fields import Cutter, hexadecimal, how_long, octets
from labkit.decode.registries import REGISTRIES
from labkit.decode.spans import Span, Visibility
from labkit.texts import _
from labkit.wire.frames import Frame

_VLANS = (0x8100, 0x88A8, 0x9100)
_TCP = 6
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
_LINUX_PACKET_TYPES = ("to this host", "broadcast", "multicast", "to another host", "sent by this host")
_LOOPBACK_FAMILIES = {2: "IPv4", 10: "IPv6", 23: "IPv6", 24: "IPv6", 28: "IPv6", 30: "IPv6"}


@dataclass(slots=True)
class _IpPacket:
    """What the layers have to know of each other."""

    pseudo_header: bytes = b""  # addresses, for the checksum of TCP (RFC 9293 section 3.1)
    whole: bool = True  # all octets of the IP packet's payload were captured, and it is no fragment
    later_fragment: bool = False  # begins in the middle, so no header of the next layer is in it


Layer = Callable[[Cutter, _IpPacket], None]


def frame_spans(frame: Frame) -> tuple[Span, ...]:
    """The frame's captured bytes, covered by one span for each header and one for the payload. Never raises."""
    cut = Cutter(frame.data, 0, len(frame.data), visibility=Visibility.READABLE)
    _LINKS.get(frame.link, _unknown_link)(cut, _IpPacket())
    cut.rest("frame.trailer")
    return tuple(cut.spans)


def _unknown_link(cut: Cutter, packet: _IpPacket) -> None:
    cut.rest("frame.data")


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def _ethertype(number: int) -> str:
    if number <= 1500:
        return _("no type but a length: {size}").format(size=octets(number))
    return REGISTRIES["ethertypes"].get(number, f"0x{number:04X}")


def _ethernet(cut: Cutter, packet: _IpPacket) -> None:
    following = int.from_bytes(cut.peek(14)[12:], "big")

    def inside(inner: Cutter) -> str:
        inner.take(6, "ethernet.destination", _mac)
        inner.take(6, "ethernet.source", _mac)
        inner.number(2, "ethernet.type", _ethertype)
        return ""

    cut.group(14, "ethernet", inside)
    _ethernet_payload(cut, packet, following)


def _ethernet_payload(cut: Cutter, packet: _IpPacket, following: int) -> None:
    """VLAN tags, any number of them, then what the last type says."""
    while following in _VLANS and cut.left:
        following_next = int.from_bytes(cut.peek(4)[2:], "big")
        cut.group(4, "vlan", _vlan)
        following = following_next
    _NETWORKS.get(following, _payload)(cut, packet)


def _vlan(cut: Cutter) -> str:
    tag = int.from_bytes(cut.peek(2), "big")

    def control(number: int) -> str:
        return _("VLAN {vlan}, priority {priority}").format(vlan=number & 0x0FFF, priority=number >> 13)

    cut.number(2, "vlan.control", control)
    cut.number(2, "vlan.type", _ethertype)
    return control(tag)


def _linux_cooked(cut: Cutter, packet: _IpPacket) -> None:
    following = int.from_bytes(cut.peek(16)[14:], "big")

    def inside(inner: Cutter) -> str:
        inner.number(2, "sll.packet_type", _packet_type)
        inner.number(2, "sll.address_type")
        length = inner.number(2, "sll.address_length")
        inner.take(8, "sll.address", lambda octets: _mac(octets[: min(length, 8)]))
        inner.number(2, "sll.protocol", _ethertype)
        return ""

    cut.group(16, "sll", inside)
    _ethernet_payload(cut, packet, following)


def _linux_cooked_2(cut: Cutter, packet: _IpPacket) -> None:
    following = int.from_bytes(cut.peek(2), "big")

    def inside(inner: Cutter) -> str:
        inner.number(2, "sll2.protocol", _ethertype)
        inner.take(2, "sll2.reserved")
        inner.number(4, "sll2.interface")
        inner.number(2, "sll2.address_type")
        inner.number(1, "sll2.packet_type", _packet_type)
        length = inner.number(1, "sll2.address_length")
        inner.take(8, "sll2.address", lambda octets: _mac(octets[: min(length, 8)]))
        return ""

    cut.group(20, "sll2", inside)
    _ethernet_payload(cut, packet, following)


def _packet_type(number: int) -> str:
    return _LINUX_PACKET_TYPES[number] if number < len(_LINUX_PACKET_TYPES) else str(number)


def _null(cut: Cutter, packet: _IpPacket) -> None:
    """BSD loopback: the family in the byte order of the recording machine, or (LOOP) of the network."""
    head = cut.peek(4)
    number = min(int.from_bytes(head, "little"), int.from_bytes(head, "big"))

    def family(_number: int) -> str:
        return _LOOPBACK_FAMILIES.get(number, str(number))

    cut.number(4, "loopback.family", family)
    _raw(cut, packet)


def _raw(cut: Cutter, packet: _IpPacket) -> None:
    version = cut.peek(1)[0] >> 4 if cut.left else 0
    {4: _ipv4, 6: _ipv6}.get(version, _payload)(cut, packet)


def _payload(cut: Cutter, packet: _IpPacket) -> None:
    cut.rest("payload")


def _ipv4(cut: Cutter, packet: _IpPacket) -> None:
    head = cut.peek(20)
    header = max((head[0] & 15) * 4, 20) if head else 20
    total = int.from_bytes(head[2:4], "big")
    fragment = int.from_bytes(head[6:8], "big")
    octets = cut.peek(header)
    checksum = _verdict(_sum(octets) == 0xFFFF, octets[10:12] == b"\0\0") if len(octets) == header else ""

    def inside(inner: Cutter) -> str:
        _ipv4_fields(inner, header, checksum)
        return f"{_ip(head[12:16])} → {_ip(head[16:20])}" if len(head) == 20 else ""

    end = cut.position + total if total else cut.end  # 0: the network card cuts the packet up later (offload)
    cut.group(header, "ip", inside)
    packet.whole = end <= cut.end and not fragment & 0x3FFF
    length = max(end - cut.position, 0)
    packet.pseudo_header = (
        head[12:20] + bytes([0, head[9] if len(head) > 9 else 0]) + (length & 0xFFFF).to_bytes(2, "big")
    )
    protocol = head[9] if len(head) > 9 else -1
    _inside_ip(cut, packet, length, -1 if fragment & 0x1FFF else protocol)


def _ipv4_fields(cut: Cutter, header: int, checksum: str) -> None:
    cut.number(1, "ip.version", _version_and_length)
    cut.number(1, "ip.service", _hex(2))
    cut.number(2, "ip.total_length")
    cut.number(2, "ip.identification", _hex(4))
    cut.number(2, "ip.fragment", _fragment)
    cut.number(1, "ip.ttl")
    cut.number(1, "ip.protocol", _protocol)
    meaning = _("A sum over this header.") + f" {checksum}" * bool(checksum)
    cut.number(2, "ip.checksum", _hex(4), meaning=meaning, source="RFC 1071")
    cut.take(4, "ip.source", _ip)
    cut.take(4, "ip.destination", _ip)
    while cut.left:
        kind = cut.peek(2)
        if kind[0] in (0, 1):
            cut.number(
                1, "ip.option", meaning=_("End of the options.") if kind[0] == 0 else _("No operation: fills up.")
            )
        else:
            cut.take(max(kind[1] if len(kind) > 1 else 0, 2), "ip.option")


def _version_and_length(number: int) -> str:
    return _("version {version}, {octets} octets").format(version=number >> 4, octets=(number & 15) * 4)


def _fragment(number: int) -> str:
    words = [word for bit, word in ((0x4000, _("don't fragment")), (0x2000, _("more fragments"))) if number & bit]
    if number & 0x1FFF:
        words.append(_("from octet {octet}").format(octet=(number & 0x1FFF) * 8))
    return ", ".join(words) or _("not a fragment")


def _hex(digits: int) -> Callable[[int], str]:
    return lambda number: f"0x{number:0{digits}x}"


def _protocol(number: int) -> str:
    return REGISTRIES["ip_protocols"].get(number, str(number))


def _ip(octets: bytes) -> str:
    return str(IPv4Address(octets)) if len(octets) == 4 else str(IPv6Address(octets)) if len(octets) == 16 else ""


def _ipv6(cut: Cutter, packet: _IpPacket) -> None:
    head = cut.peek(40)
    length, protocol = int.from_bytes(head[4:6], "big"), head[6] if len(head) > 6 else -1

    def inside(inner: Cutter) -> str:
        inner.number(4, "ip6.flow", _hex(8))
        inner.number(2, "ip6.payload_length")
        inner.number(1, "ip6.next_header", _protocol)
        inner.number(1, "ip6.hop_limit")
        inner.take(16, "ip6.source", _ip)
        inner.take(16, "ip6.destination", _ip)
        return f"{_ip(head[8:24])} → {_ip(head[24:40])}" if len(head) == 40 else ""

    cut.group(40, "ip6", inside)
    length = length or cut.left
    end = cut.position + length
    packet.whole = end <= cut.end
    addresses = head[8:40]
    protocol = _ipv6_extensions(cut, packet, protocol, end)
    length = max(end - cut.position, 0)
    packet.pseudo_header = addresses + length.to_bytes(4, "big") + bytes([0, 0, 0, max(protocol, 0)])
    _inside_ip(cut, packet, length, -1 if packet.later_fragment else protocol)


_IPV6_EXTENSIONS = {0: "options", 43: "routing", 44: "fragment", 51: "authentication", 60: "options", 135: "mobility"}


def _ipv6_extensions(cut: Cutter, packet: _IpPacket, protocol: int, end: int) -> int:
    """Cut the extension headers; what follows the last one."""
    while protocol in _IPV6_EXTENSIONS and cut.left and cut.position < end and not packet.later_fragment:
        head = cut.peek(4)
        count = head[1] if len(head) > 1 else 0
        length = {44: 8, 51: (count + 2) * 4}.get(protocol, (count + 1) * 8)
        name, following = f"ip6.{_IPV6_EXTENSIONS[protocol]}", head[0]
        offset = int.from_bytes(head[2:4], "big")
        if protocol == 44:
            packet.whole = packet.whole and not offset & 0xFFF9
            packet.later_fragment = bool(offset & 0xFFF8)
        elif protocol == 43 and offset & 0xFF:  # segments left: the checksum counts the last address
            packet.whole = False
        _ipv6_extension(cut, protocol, length, name)
        protocol = following
    return protocol


def _ipv6_extension(cut: Cutter, protocol: int, length: int, name: str) -> None:
    def inside(inner: Cutter) -> str:
        inner.number(1, f"{name}.next_header", _protocol, meaning=_("What follows."))
        if protocol == 44:
            inner.take(1, f"{name}.reserved")
            inner.number(2, f"{name}.offset", _fragment6)
            inner.number(4, f"{name}.identification", _hex(8))
        else:
            inner.take(1, f"{name}.length", meaning=_("The length of this header, in units that depend on its kind."))
            inner.rest(f"{name}.data", meaning=_("What the extension header says."))
        return ""

    cut.group(length, name, inside, meaning=_("An extension header of IPv6."), source="RFC 8200 section 4")


def _fragment6(number: int) -> str:
    more = _("more follow") if number & 1 else _("the last one")
    return _("from octet {octet}, {more}").format(octet=number & 0xFFF8, more=more)


def _inside_ip(cut: Cutter, packet: _IpPacket, length: int, protocol: int) -> None:
    """What the IP packet carries; after it there may be bytes that belong to no packet."""
    if length <= 0:
        return
    end = min(cut.position + length, cut.end)
    inner = Cutter(cut.data, cut.position, end, visibility=Visibility.READABLE)
    if protocol == _TCP:
        _tcp(inner, packet)
    else:
        _payload(inner, packet)
    cut.spans += inner.spans
    cut.position = end


def _tcp(cut: Cutter, packet: _IpPacket) -> None:
    head = cut.peek(20)
    header = max((head[12] >> 4) * 4 if len(head) > 12 else 20, 20)
    checksum = _tcp_checksum(cut, packet)

    def inside(inner: Cutter) -> str:
        flags = _flags(int.from_bytes(head[12:14], "big"))
        inner.number(2, "tcp.source_port")
        inner.number(2, "tcp.destination_port")
        inner.number(4, "tcp.sequence")
        acknowledgment = _("The sender has everything up to the octet before this one.")
        if "ACK" not in flags:
            acknowledgment = _("Means nothing, because the ACK flag is not set.")
        inner.number(4, "tcp.acknowledgment", meaning=acknowledgment)
        inner.number(2, "tcp.flags", _length_and_flags)
        inner.number(2, "tcp.window")
        meaning = _("A sum over header, content and addresses.") + f" {checksum}" * bool(checksum)
        inner.number(2, "tcp.checksum", _hex(4), meaning=meaning)
        inner.number(2, "tcp.urgent")
        _tcp_options(inner)
        return flags

    cut.group(header, "tcp", inside)
    cut.rest("tcp.payload", how_long)


def _flags(number: int) -> str:
    return " ".join(name for bit, name in enumerate(_FLAGS) if number >> bit & 1)


def _length_and_flags(number: int) -> str:
    return _("{octets} octets, {flags}").format(octets=(number >> 12) * 4, flags=_flags(number) or _("no flag"))


def _tcp_options(cut: Cutter) -> None:
    while cut.left:
        head = cut.peek(2)
        kind, length = head[0], head[1] if len(head) > 1 else 0
        if kind == 0:
            cut.rest("tcp.option.end")
        elif kind == 1:
            cut.number(1, "tcp.option.nop")
        else:
            _tcp_option(cut, kind, max(length, 2))


def _tcp_option(cut: Cutter, kind: int, length: int) -> None:
    name, say = _TCP_OPTIONS.get(kind, ("unknown", hexadecimal))
    field = f"tcp.option.{name}"

    def inside(inner: Cutter) -> str:
        inner.number(1, f"{field}.kind", meaning=_("Which option."))
        inner.number(1, f"{field}.length", meaning=_("Its length, these two octets included."))
        return say(inner.rest(f"{field}.value", say))

    cut.group(length, field, inside)


def _decimal(octets: bytes) -> str:
    return str(int.from_bytes(octets[:8], "big"))


def _scale(octets: bytes) -> str:
    return _("times {factor}").format(factor=1 << min(octets[0], 14)) if octets else ""


def _blocks(octets: bytes) -> str:
    edges = [int.from_bytes(octets[at : at + 4], "big") for at in range(0, len(octets), 4)]
    return ", ".join(f"{left}–{right}" for left, right in zip(edges[::2], edges[1::2], strict=False))


def _timestamps(octets: bytes) -> str:
    value, echo = int.from_bytes(octets[:4], "big"), int.from_bytes(octets[4:8], "big")
    return _("{value}, answering {echo}").format(value=value, echo=echo)


_TCP_OPTIONS: dict[int, tuple[str, Callable[[bytes], str]]] = {
    2: ("mss", _decimal),
    3: ("window_scale", _scale),
    4: ("sack_permitted", hexadecimal),
    5: ("sack", _blocks),
    8: ("timestamps", _timestamps),
    28: ("user_timeout", hexadecimal),
    30: ("multipath", hexadecimal),
    34: ("fast_open", hexadecimal),
}


def _sum(octets: bytes, start: int = 0) -> int:
    """The one's complement sum of 16-bit words (RFC 1071). Modulo 65535, which is the same sum, at C speed."""
    total = start + int.from_bytes(octets + b"\0" * (len(octets) % 2), "big")
    return total % 0xFFFF or (0xFFFF if total else 0)


def _tcp_checksum(cut: Cutter, packet: _IpPacket) -> str:
    if not packet.whole or cut.left < 20:
        return _("It cannot be checked here: the packet is a fragment, cut short, or on its way to another address.")
    octets = cut.peek(cut.left)
    pseudo, checksum = packet.pseudo_header, int.from_bytes(octets[16:18], "big")
    right = _sum(octets, _sum(pseudo)) == 0xFFFF
    without_length = pseudo[:8] + pseudo[8:10] if len(pseudo) == 12 else pseudo[:32] + pseudo[36:]
    return _verdict(right, checksum in (0, _sum(pseudo), _sum(without_length)))


def _verdict(right: bool, offload: bool) -> str:
    """offload: it is what the operating system leaves for the network card to finish."""
    if right:
        return _("It is right.")
    if offload:
        return _("It is not filled in: the network card does it (offload), after this recording was made.")
    return _("It is wrong: the packet was damaged, or changed without a new sum.")


_NETWORKS: dict[int, Layer] = {0x0800: _ipv4, 0x86DD: _ipv6}
_LINKS: dict[int, Layer] = {
    0: _null,
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    108: _null,
    113: _linux_cooked,
    228: _raw,
    229: _raw,
    276: _linux_cooked_2,
}
