"""Packet headers: against tshark on captures of others, on packets that scapy builds, and on any bytes at all."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from labkit.decode.headers import frame_spans
from labkit.decode.spans import Span, leaves, untiled
from labkit.wire import pcap
from labkit.wire.frames import Frame
from tests.conftest import examples, output_of

ETHERNET, NULL, RAW, COOKED, COOKED_2 = 1, 0, 101, 113, 276
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
SEGMENT = TCP(sport=40000, dport=25, seq=1000, ack=2000, flags="PA") / Raw(b"NOOP\r\n")
RIGHT, WRONG, OFFLOAD = "It is right.", "It is wrong", "It is not filled in"


def explain(data: bytes, link: int = ETHERNET) -> dict[str, Span]:
    """The leaves by field, after checking that they tile the frame and say what they are."""
    spans = frame_spans(Frame(0, data, len(data), link))
    assert untiled(spans, 0, len(data)) == ""
    found = list(leaves(spans))
    assert all(leaf.meaning for leaf in found)
    return {leaf.field: leaf for leaf in reversed(found)}


def built(packet: Packet) -> bytes:
    return bytes(Ether(**MACS) / packet)


CAPTURES = [
    "illustrated-tls13_capture.pcap",
    "zeek_smtp-starttls.pcap",
    "zeek_hrr.pcap",
    "sv_smtp-errors.pcap",
    "zeek_smtp.pcap",
]


@pytest.mark.parametrize("name", CAPTURES)
def test_every_field_as_tshark_reads_it(shared_captures: Path, name: str) -> None:
    ours = [
        "ip.source",
        "ip.destination",
        "ip.ttl",
        "ip.total_length",
        "ip.checksum",
        "tcp.source_port",
        "tcp.destination_port",
    ]
    ours += ["tcp.sequence", "tcp.acknowledgment", "tcp.window", "tcp.checksum", "tcp.option.mss.value"]
    theirs = ["ip.src", "ip.dst", "ip.ttl", "ip.len", "ip.checksum", "tcp.srcport", "tcp.dstport"]
    theirs += ["tcp.seq_raw", "tcp.ack_raw", "tcp.window_size_value", "tcp.checksum", "tcp.options.mss_val"]
    theirs += ["tcp.checksum.status", "tcp.len", "frame.number"]
    shown = [part for field in theirs for part in ("-e", field)]
    asked = ("-Y", "tcp && !icmp", "-T", "fields", "-o", "tcp.check_checksum:TRUE")
    said = output_of("tshark", "-r", shared_captures / name, *asked, *shown)
    frames = pcap.read(shared_captures / name).frames
    rows = [line.split("\t") for line in said.splitlines()]
    assert rows
    for *values, status, length, number in rows:
        frame = frames[int(number) - 1]
        fields = explain(frame.data, frame.link)
        assert [fields[field].value if field in fields else "" for field in ours] == values
        assert fields["tcp.payload"].value.split()[0] == length if length != "0" else "tcp.payload" not in fields
        assert (RIGHT in fields["tcp.checksum"].meaning) == (status == "1")


@pytest.mark.parametrize("flags", ["S", "SA", "PA", "FA", "R", "SEC", "U"])
def test_flags_by_name(flags: str) -> None:
    names = {"F": "FIN", "S": "SYN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG", "E": "ECE", "C": "CWR"}
    found = explain(built(IP() / TCP(flags=flags)))["tcp.flags"].value
    assert set(found.removeprefix("20 octets, ").split()) == {names[flag] for flag in flags}


def test_options_one_by_one() -> None:
    options = [
        ("MSS", 1460),
        ("SAckOK", b""),
        ("Timestamp", (7, 3)),
        ("NOP", None),
        ("WScale", 7),
        ("SAck", (100, 200)),
    ]
    found = explain(built(IP() / TCP(options=options, flags="S")))
    assert found["tcp.option.mss.value"].value == "1460"
    assert found["tcp.option.timestamps.value"].value == "7, answering 3"
    assert found["tcp.option.window_scale.value"].value == "times 128"
    assert found["tcp.option.sack.value"].value == "100–200"
    assert "tcp.option.sack_permitted.kind" in found


def test_ipv4_options() -> None:
    found = explain(built(IP(options=[IPOption_NOP(), IPOption_Router_Alert()]) / SEGMENT))
    assert found["ip.option"].value == "1"
    assert found["ip.version"].value == "version 4, 28 octets"
    assert RIGHT in found["ip.checksum"].meaning
    assert RIGHT in found["tcp.checksum"].meaning


def test_vlan_tags_one_inside_the_other() -> None:
    found = explain(bytes(Ether(**MACS) / Dot1AD(vlan=7, prio=3) / Dot1Q(vlan=42) / IP() / SEGMENT))
    assert found["vlan.control"].value == "VLAN 7, priority 3"
    assert found["tcp.destination_port"].value == "25"


@pytest.mark.parametrize(
    "extensions",
    [
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
    ],
)
def test_ipv6_extension_headers(extensions: Packet) -> None:
    found = explain(built(IPv6(src="2001:db8::1", dst="2001:db8::2") / extensions / SEGMENT))
    assert found["ip6.source"].value == "2001:db8::1"
    assert RIGHT in found["tcp.checksum"].meaning
    assert found["tcp.payload"].value == "6 octets"


def test_ipv6_on_its_way_to_another_address() -> None:
    routed = (
        IPv6(src="2001:db8::1", dst="2001:db8::9") / IPv6ExtHdrRouting(addresses=["2001:db8::2"], segleft=1) / SEGMENT
    )
    assert "cannot be checked" in explain(built(routed))["tcp.checksum"].meaning


def test_fragments_have_no_second_tcp_header() -> None:
    first = explain(built(IP(flags="MF") / SEGMENT))
    assert "cannot be checked" in first["tcp.checksum"].meaning
    later = explain(built(IP(frag=2, proto=6) / Raw(b"x" * 40)))
    assert "tcp.flags" not in later
    assert later["ip.fragment"].value == "from octet 16"
    six = explain(built(IPv6() / IPv6ExtHdrFragment(offset=2, nh=6) / Raw(b"x" * 40)))
    assert six["ip6.fragment.offset"].value == "from octet 16, the last one"
    assert "tcp.flags" not in six


def test_the_three_verdicts_on_a_checksum() -> None:
    packet = built(IP(src="192.0.2.1", dst="192.0.2.2") / SEGMENT)
    assert RIGHT in explain(packet)["tcp.checksum"].meaning
    damaged = packet[:-1] + b"x"
    assert WRONG in explain(damaged)["tcp.checksum"].meaning
    # What Linux leaves to the network card: the sum of the pseudo-header alone.
    words = packet[26:34] + b"\0\6" + (len(packet) - 34).to_bytes(2, "big")
    total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, 12, 2))
    partial = (total & 0xFFFF) + (total >> 16)
    offloaded = packet[:50] + partial.to_bytes(2, "big") + packet[52:]
    assert OFFLOAD in explain(offloaded)["tcp.checksum"].meaning
    assert OFFLOAD in explain(packet[:24] + b"\0\0" + packet[26:])["ip.checksum"].meaning


def test_padding_after_a_short_packet_is_told_apart() -> None:
    found = explain(built(IP() / TCP()) + b"\0" * 6)
    assert len(found["frame.trailer"].value) == 12
    assert "tcp.payload" not in found


def test_a_packet_that_the_snap_length_cut() -> None:
    packet = built(IP() / SEGMENT)
    found = explain(packet[:-3])
    assert found["tcp.payload"].value == "3 octets"
    assert "cannot be checked" in found["tcp.checksum"].meaning


@pytest.mark.parametrize(
    ("link", "head", "field", "value"),
    [
        (NULL, b"\2\0\0\0", "loopback.family", "IPv4"),
        (108, b"\0\0\0\2", "loopback.family", "IPv4"),
        (RAW, b"", "ip.protocol", "TCP"),
        (COOKED, b"\0\4\0\1\0\6\2\0\0\0\0\1\0\0\x08\x00", "sll.packet_type", "sent by this host"),
        (COOKED_2, b"\x08\0\0\0\0\0\0\3\0\1\4\6\2\0\0\0\0\1\0\0", "sll2.address", "02:00:00:00:00:01"),
    ],
)
def test_other_link_layers(link: int, head: bytes, field: str, value: str) -> None:
    found = explain(head + bytes(IP() / SEGMENT), link)
    assert found[field].value == value
    assert found["tcp.destination_port"].value == "25"


def test_other_protocols_are_one_span() -> None:
    assert len(explain(built(IP() / UDP() / Raw(b"x")))["payload"].value) == 18
    assert explain(b"\0" * 20, 147)["frame.data"].start == 0


BASES = [
    built(IP(options=[IPOption_NOP()]) / TCP(options=[("MSS", 1460), ("Timestamp", (7, 3))]) / Raw(b"QUIT\r\n")),
    built(IPv6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrFragment() / SEGMENT),
    bytes(Ether(**MACS) / Dot1Q(vlan=42) / IP() / SEGMENT),
]


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data(), link=st.sampled_from([ETHERNET, NULL, RAW, COOKED, COOKED_2, 12, 14, 108, 228, 229, 9999]))
def test_any_bytes_are_tiled(data: st.DataObject, link: int) -> None:
    octets = bytearray(data.draw(st.one_of(st.binary(max_size=120), st.sampled_from(BASES))))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)):
        if at < len(octets):
            octets[at] = value
    explain(bytes(octets[: data.draw(st.integers(0, len(octets)))]), link)
