"""Synthesized packets are what a dissector takes for real ones; readdressed packets are right to the last checksum."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.wire import pcap_writer
from labkit.wire.endpoints import RecordedNames
from labkit.wire.events import Connection, Event, EventKind
from labkit.wire.flows import Side, reassemble
from labkit.wire.frames import Frame, Synthesizer, readdress
from tests.conftest import output_of

V4 = Connection(1, ("127.0.0.1", 40_001), ("127.0.0.1", 2_525))
OTHER = Connection(2, ("127.0.0.7", 40_001), ("127.0.0.1", 2_525))
V6 = Connection(3, ("::1", 40_001), ("::1", 2_525))
SERVICES = {("127.0.0.1", 2_525): 25, ("::1", 2_525): 25}


def known() -> RecordedNames:
    return RecordedNames(SERVICES, server="mail.example", client="client.example")


PI_NOTE = 0x00400000  # epan/proto.h

FIN_CLOSE = [EventKind.SERVER_FIN, EventKind.CLIENT_FIN]


def session(
    connection: Connection, sizes: Sequence[int], close: Sequence[EventKind], opened: bool = True
) -> list[Event]:
    """The client and the server speak in turn."""
    events = [(EventKind.OPENED, b"")] if opened else []
    events += [
        ((EventKind.SENT, EventKind.RECEIVED)[number % 2], bytes([48 + number % 75]) * size)
        for number, size in enumerate(sizes)
    ]
    events += [(kind, b"") for kind in close]
    return [Event(1_700_000_000_000_000_000 + number, connection, *kind) for number, kind in enumerate(events)]


def tshark(path: Path, *arguments: str) -> str:
    checked = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    return output_of("tshark", "-r", path, *checked, *arguments)


def complaints(path: Path) -> list[str]:
    """tshark's expert notes, warnings and errors, wrong checksums among them; but it notes every orderly close."""
    fields = "tcp.checksum.status", "ip.checksum.status", "_ws.expert.severity", "_ws.expert.message"
    picked = [part for field in fields for part in ("-e", field)]
    found: list[str] = []
    for line in tshark(path, "-T", "fields", "-E", "separator=|", "-E", "aggregator=~", *picked).splitlines():
        tcp, ip, severities, messages = line.split("|")
        if tcp != "1" or ip not in {"1", ""}:
            found.append("wrong checksum")
        for severity, message in zip(severities.split("~"), messages.split("~"), strict=True):
            harmless = message.endswith(("initiates the connection closing", "undergoes the connection closing"))
            if severity and int(severity) >= PI_NOTE and not harmless:
                found.append(message)
    return found


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Sequence[Frame]], Path]:
    def write(frames: Sequence[Frame]) -> Path:
        path = tmp_path / "made.pcapng"
        pcap_writer.write(path, frames)
        return path

    return write


SESSIONS = {
    "a session": session(V4, [20, 10, 30, 40_000, 5], FIN_CLOSE),
    "over IPv6": session(V6, [20, 10, 30, 40_001, 5], FIN_CLOSE),
    "exact segments": session(V4, [1_460, 2_920, 1_461, 1_459, 1], [EventKind.CLIENT_FIN, EventKind.SERVER_FIN]),
    "one side only": session(V4, [7], FIN_CLOSE),
    "begun in the middle": session(V4, [20, 10, 3_000], FIN_CLOSE, opened=False),
    "no end": session(V4, [20, 10, 3_000], []),
    "two at once": [
        event
        for pair in zip(session(V4, [9, 8, 7], FIN_CLOSE), session(OTHER, [1, 2, 3], FIN_CLOSE), strict=True)
        for event in pair
    ],
    "a side that speaks twice": [
        *session(V4, [10], []),
        *session(V4, [20], [], opened=False),
        *session(V4, [30], FIN_CLOSE, opened=False),
    ],
}


@pytest.mark.parametrize("addresses", ["real", "names"])
@pytest.mark.parametrize("name", SESSIONS)
def test_tshark_finds_nothing(written, name, addresses):
    frames = Synthesizer().add(SESSIONS[name])
    if addresses == "names":
        frames = readdress(frames, known())
    assert complaints(written(frames)) == []


def test_tshark_would_have_found_it(written):
    """The test above can fail: a wrong octet, a lost packet and a wrong order are complaints."""
    frames = Synthesizer().add(SESSIONS["a session"])
    broken = Frame(frames[5].time, frames[5].data[:-1] + b"\0", frames[5].length)
    assert "wrong checksum" in complaints(written([*frames[:5], broken]))
    assert complaints(written([*frames[:9], *frames[11:]]))
    assert complaints(written([*frames[:9], frames[10], frames[9], *frames[11:]]))


def test_tshark_reads_the_same_bytes(written):
    events = SESSIONS["a session"]
    path = written(Synthesizer().add(events))
    followed = tshark(path, "-q", "-z", "follow,tcp,raw,0").splitlines()
    lines = [line for line in followed if line and set(line.strip()) <= set("0123456789abcdef")]
    said = {True: "", False: ""}
    for line in lines:
        said[line.startswith("\t")] += line.strip()
    sent = b"".join(event.data for event in events if event.kind is EventKind.SENT).hex()
    received = b"".join(event.data for event in events if event.kind is EventKind.RECEIVED).hex()
    assert sorted(said.values()) == sorted((sent, received))


def test_a_reset_is_a_reset(written):
    path = written(Synthesizer().add(session(V4, [20, 10], [EventKind.CLIENT_RST])))
    assert complaints(path) == ["Connection reset (RST)"]


def test_people_see_names_and_standard_ports(written):
    greetings = [
        Event(number, connection, kind, data)
        for number, connection in enumerate((V4, OTHER))
        for kind, data in ((EventKind.OPENED, b""), (EventKind.SENT, b"220 mail.example ESMTP\r\n"))
    ]
    path = written(readdress(Synthesizer().add(greetings), known()))
    fields = ("-T", "fields", "-e", "ip.src", "-e", "tcp.srcport", "-e", "ip.dst", "-e", "tcp.dstport")
    ends = {
        tuple(line.split("\t"))
        for line in tshark(path, "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0", *fields).splitlines()
    }
    assert ends == {("198.51.100.7", "50001", "192.0.2.25", "25"), ("198.51.100.8", "50002", "192.0.2.25", "25")}
    assert tshark(path, "-Y", "smtp.response.code == 220", "-T", "fields", "-e", "frame.number").split() == ["4", "9"]


@given(
    sizes=st.lists(st.integers(1, 5_000), max_size=8),
    connection=st.sampled_from([V4, OTHER, V6]),
    close=st.sampled_from([[], FIN_CLOSE, FIN_CLOSE[::-1], [EventKind.CLIENT_RST], [EventKind.SERVER_RST]]),
    opened=st.booleans(),
)
def test_frames_carry_the_events(sizes, connection, close, opened):
    """Reassembled again, synthesized packets give back the very bytes, turns and end."""
    events = session(connection, sizes, close, opened)
    frames = Synthesizer().add(events)
    times = [frame.time for frame in frames]
    assert all(later - earlier >= 1_000 for earlier, later in pairwise(times))
    assert all(frame.length == len(frame.data) <= 1_514 for frame in frames)
    if not frames:
        return
    (flow,) = reassemble(frames, known())
    assert (flow.client.name, flow.server.name, flow.server.port) == (
        "client.example" if connection is not OTHER else "client2.example",
        "mail.example",
        25,
    )
    assert flow.opened == opened
    assert flow.closed == ("" if not close else "fin" if close[0] in FIN_CLOSE else "rst")
    for side, kind in ((Side.CLIENT, EventKind.RECEIVED), (Side.SERVER, EventKind.SENT)):
        assert flow.stream(side).data == b"".join(event.data for event in events if event.kind is kind)
        assert not flow.stream(side).gaps
    turns = [(Side.SERVER, Side.CLIENT)[number % 2] for number in range(len(sizes))]
    assert [(burst.side, burst.end - burst.start) for burst in flow.bursts] == list(zip(turns, sizes, strict=True))


@given(cuts=st.lists(st.integers(0, 20), max_size=4))
def test_a_running_synthesis_gives_the_same_frames(cuts):
    events = SESSIONS["two at once"]
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    synthesizer = Synthesizer()
    pieces = [synthesizer.add(events[start:end]) for start, end in pairwise(edges)]
    assert [frame for piece in pieces for frame in piece] == Synthesizer().add(events)


@settings(deadline=None)  # scapy is imported in the first run
@given(data=st.binary(max_size=3_000), sport=st.integers(1, 65_535), v6=st.booleans())
def test_checksums_agree_with_scapy(data, sport, v6):
    """scapy computes the checksums of the same packet anew."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    host = "::1" if v6 else "127.0.0.1"
    connection = Connection(1, (host, sport), (host, 2_525))
    for frame in Synthesizer().add(
        [Event(1, connection, EventKind.OPENED), Event(2, connection, EventKind.RECEIVED, data)]
    ):
        for packet in (frame, *readdress([frame], known())):
            parsed = Ether(packet.data)
            del parsed[TCP].chksum
            if not v6:
                del parsed[IP].chksum
            assert (IPv6 if v6 else IP) in parsed
            assert bytes(parsed) == packet.data


def offloaded(frame: Frame) -> Frame:
    """As the kernel leaves it on loopback: the checksum of the pseudo-header only; here, any wrong one."""
    data = bytearray(frame.data)
    data[50:52] = b"\xfe\x30"
    return Frame(frame.time, bytes(data), frame.length)


def test_readdress_mends_offloaded_checksums():
    frames = Synthesizer().add(SESSIONS["a session"])
    names = known()
    assert readdress([offloaded(frame) for frame in frames], names) == readdress(frames, names)


def test_readdress_leaves_alone_what_it_cannot_know():
    """ARP, UDP, fragments, cut headers and other link layers stay as they are; a cut segment keeps its TCP checksum."""
    names = known()
    data = next(frame.data for frame in Synthesizer().add(SESSIONS["a session"]) if frame.length > 1_000)
    arp = data[:12] + b"\x08\x06" + data[14:]
    udp = data[:23] + b"\x11" + data[24:]
    fragment = data[:20] + b"\x00\x01" + data[22:]
    strange = [Frame(1, octets, len(octets)) for octets in (arp, udp, fragment, data[:40], data[:13], b"")]
    strange.append(Frame(1, data, len(data), 113))
    assert readdress(strange, names) == strange
    (cut,) = readdress([Frame(1, data[:60], len(data))], names)
    assert cut.data[50:52] == data[50:52]
    assert cut.data[26:34] == ipaddress.ip_address("198.51.100.7").packed + ipaddress.ip_address("192.0.2.25").packed


def test_readdress_takes_a_segment_as_long_as_loopback_makes_them():
    """64 KiB in one packet, with IP options; scapy agrees on both checksums."""
    from scapy.layers.inet import IP, TCP, IPOption_NOP
    from scapy.layers.l2 import Ether

    made = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00") / IP(
        src="127.0.0.1", dst="127.0.0.1", options=[IPOption_NOP()] * 24
    )
    raw = bytes(made / TCP(sport=40_000, dport=2_525, flags="PA", chksum=1) / (bytes(range(256)) * 255))
    (frame,) = readdress([Frame(1, raw, len(raw))], known())
    parsed = Ether(frame.data)
    assert (parsed[IP].dst, parsed[TCP].dport) == ("192.0.2.25", 25)
    del parsed[TCP].chksum
    del parsed[IP].chksum
    assert bytes(parsed) == frame.data


def test_the_address_book_counts_in_order_of_appearance():
    names = known()
    assert names.server("127.0.0.1", 2_526) is None
    ends = [names.client("127.0.0.1", 40_000), names.client("127.0.0.9", 40_000), names.client("127.0.0.1", 40_007)]
    assert [str(end) for end in ends] == ["client.example:50001", "client2.example:50002", "client.example:50003"]
    assert names.client("127.0.0.1", 40_000) == ends[0]
    for end in ends:
        assert ipaddress.ip_address(end.address) in ipaddress.ip_network("198.51.100.0/24")
    assert ipaddress.ip_address(names.client("::1", 1).address) in ipaddress.ip_network("2001:db8::/32")


def test_the_address_book_gives_every_address_of_a_network_once():
    names = known()
    ends = [names.client(f"127.0.1.{number}", 1) for number in range(256)]
    assert len({end.address for end in ends}) == 256
    assert ends[246].address == "198.51.100.254"
    assert (ends[247].address, ends[247].name) == ("127.0.1.247", "")


def test_an_address_is_written_as_the_socket_has_it():
    first = Synthesizer().add(session(V4, [1], []))[0].data
    assert first[26:30] == socket.inet_aton("127.0.0.1")
    assert int.from_bytes(first[34:36], "big") == 40_001
