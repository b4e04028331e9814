"""Reassembly: against tshark on captures of others, against a model that knows every octet, and case by case."""

import gc
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.wire import pcap, pcap_writer
from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Burst, Flow, Gap, Segment, ServerSigns, Side, Stream, reassemble
from labkit.wire.frames import Frame
from tests.benchmarks import reading
from tests.conftest import examples, output_of
from tests.wire.building import ACK, CLIENT, FIN, PSH, RST, SERVER, SYN, handshake, ipv4, segment


def only(frames: list[Frame]) -> Flow:
    (flow,) = reassemble(frames)
    return flow


def tshark_streams(path: Path, expected: int) -> tuple[int, dict[int, list[bytes]]]:
    """How many TCP streams tshark sees, and the octets that both ends of each sent."""
    follow = [word for number in range(expected) for word in ("-z", f"follow,tcp,raw,{number}")]
    output = output_of("tshark", "-n", "-r", path, "-T", "fields", "-e", "tcp.stream", *follow)
    streams: dict[int, list[bytes]] = {}
    numbers: set[str] = set()
    current: list[bytes] | None = None
    for line in output.splitlines():
        if match := re.match(r"Filter: tcp.stream eq (\d+)", line):
            current = streams.setdefault(int(match[1]), [b"", b""])
        elif current is None and line.isdigit():
            numbers.add(line)
        elif current is not None and re.fullmatch(r"\t?([0-9a-f]{2})+", line):
            current[line.startswith("\t")] += bytes.fromhex(line.strip())
    return len(numbers), streams


def test_captures_of_others_give_what_tshark_gives(shared_captures: Path) -> None:
    for path in sorted(shared_captures.glob("*.pcap")):
        frames = pcap.read(path).frames
        flows = reassemble(frames)
        count, streams = tshark_streams(path, len(flows))
        assert len(flows) == count, path
        for flow in flows:
            assert sorted(streams[flow.number - 1]) == sorted([flow.client_stream.data, flow.server_stream.data]), path
            assert not flow.client_stream.gaps, path
        assert flows == reassemble(list(frames)), path


# a model: each octet of a stream has a value of its own place, unless a copy says otherwise


def model(pieces: list[tuple[int, bytes, int]], opened: bool) -> tuple[bytes, tuple[Gap, ...]]:
    """First copy wins, octet by octet. Pieces: (place, data, octets cut off by the snap length)."""
    octets: dict[int, int] = {}
    sent = 0 if opened else min((place for place, _data, _cut in pieces), default=0)
    end = sent
    for place, data, cut in pieces:
        end = max(end, place + len(data))
        for index, octet in enumerate(data[: len(data) - cut]):
            octets.setdefault(place + index, octet)
    first = 0 if opened else min(octets, default=sent)
    gaps: list[Gap] = []
    found = bytearray()
    missing = 0
    for place in range(first, end):
        if place not in octets:
            missing += 1
            continue
        if missing:
            gaps.append(Gap(len(found), missing))
            missing = 0
        found.append(octets[place])
    return bytes(found), (*gaps, *([Gap(len(found), missing)] if missing else []))


PIECES = st.lists(
    st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=12)).flatmap(
        lambda piece: st.tuples(st.just(piece[0]), st.just(piece[1]), st.sampled_from([0, 0, 0, len(piece[1]) // 2]))
    ),
    max_size=12,
)


@settings(max_examples=examples(300), deadline=None)
@given(PIECES, st.sampled_from([0, 77, 2**31 - 5, 2**32 - 20]))
def test_any_pieces_after_a_syn_are_what_the_model_says(pieces: list[tuple[int, bytes, int]], initial: int) -> None:
    frames = handshake(numbers=(initial, 5))
    frames += [segment(sequence=initial + 1 + place, data=data, cut=cut) for place, data, cut in pieces]
    stream = only(frames).client_stream
    assert (stream.data, stream.gaps) == model(pieces, opened=True)
    for index, entry in enumerate(stream.segments):
        assert entry.start == (stream.segments[index - 1].end if index else 0)
        assert stream.segment_at(entry.start) == stream.segment_at(entry.end - 1) == entry
    assert not stream.data or stream.segments[-1].end == len(stream.data)


@settings(max_examples=examples(300), deadline=None)
@given(PIECES.filter(bool), st.sampled_from([50, 2**32 - 20]))
def test_any_pieces_without_a_syn_are_what_the_model_says(pieces: list[tuple[int, bytes, int]], base: int) -> None:
    frames = [segment(sequence=base + place, data=data, cut=cut) for place, data, cut in pieces]
    flow = only(frames)
    assert not flow.opened
    assert (flow.client_stream.data, flow.client_stream.gaps) == model(pieces, opened=False)


STREAM = st.binary(min_size=1, max_size=400)


@settings(max_examples=examples(100), deadline=None)
@given(STREAM, STREAM, st.data())
def test_segmented_shuffled_and_repeated_streams_come_back_by_both_paths(
    client: bytes, server: bytes, data: st.DataObject
) -> None:
    numbers = data.draw(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))
    packets: list[Frame] = []
    for content, ends, initial in ((client, (CLIENT, SERVER), numbers[0]), (server, (SERVER, CLIENT), numbers[1])):
        cuts = sorted(data.draw(st.sets(st.integers(1, len(content)), max_size=8)) | {0, len(content)})
        pieces = [(low, content[low:high]) for low, high in pairwise(cuts)]
        packets += [segment(*ends, initial + 1 + low, piece, PSH | ACK) for low, piece in pieces]
    packets += data.draw(st.lists(st.sampled_from(packets), max_size=4))
    frames = handshake(numbers=numbers) + data.draw(st.permutations(packets))
    flow = only(frames)
    assert (flow.client_stream.data, flow.server_stream.data) == (client, server)
    assert flow.client_stream.gaps == flow.server_stream.gaps == ()
    assert tuple(flow.packets) == tuple(range(1, len(frames) + 1))
    raw = b"".join(struct.pack("<IIII", 0, 0, len(frame.data), frame.length) + frame.data for frame in frames)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    frames_in_file = pcap.parse(Path("test.pcap"), head + raw).frames
    assert reassemble(frames_in_file) == (flow,)
    check_bursts(flow)


def check_bursts(flow: Flow) -> None:
    """Bursts alternate, and those of one side tile its stream."""
    for one, two in pairwise(flow.bursts):
        assert one.side != two.side
    for side in Side:
        position = 0
        for burst in flow.bursts:
            if burst.side is side:
                assert burst.start == position < burst.end
                position = burst.end
        assert position == len(flow.stream(side).data)


# case by case


def both(frames: list[Frame], path: Path) -> tuple[Flow, ...]:
    """The flows by the general path, after checking that the fast path finds the same."""
    flows = reassemble(frames)
    pcap_writer.write(path, frames)
    assert reassemble(pcap.read(path).frames) == flows
    return flows


def test_an_ordinary_session(tmp_path: Path) -> None:
    frames = [
        *handshake(),
        segment(SERVER, CLIENT, 5001, b"220 hi\r\n", time=7000),
        segment(CLIENT, SERVER, 1001, b"QUIT\r\n", time=8000),
        segment(SERVER, CLIENT, 5009, b"221 ", time=9000),
        segment(SERVER, CLIENT, 5013, b"bye\r\n", FIN | ACK, time=10000),
        segment(CLIENT, SERVER, 1007, flags=FIN | ACK),
    ]
    (flow,) = both(frames, tmp_path / "a.pcap")
    assert (flow.client, flow.server) == (Endpoint(*CLIENT), Endpoint(*SERVER))
    assert (flow.number, flow.opened, flow.closed, len(flow.packets)) == (1, True, "fin", 8)
    assert flow.client_stream == Stream(Side.CLIENT, b"QUIT\r\n", (Segment(5, 8000, 0, 6),))
    assert flow.server_stream.segments[1:] == (Segment(6, 9000, 8, 12), Segment(7, 10000, 12, 17))
    assert flow.bursts == (
        Burst(Side.SERVER, 0, 8, 4, 7000),
        Burst(Side.CLIENT, 0, 6, 5, 8000),
        Burst(Side.SERVER, 8, 17, 6, 9000),
    )


def test_a_keep_alive_adds_nothing(tmp_path: Path) -> None:
    frames = [
        *handshake(),
        segment(sequence=1000, data=b"?"),
        segment(sequence=1001, data=b"NOOP\r\n"),
        segment(sequence=1006, data=b"?"),
        segment(sequence=1006),
        segment(sequence=1007, data=b"QUIT\r\n"),
    ]
    (flow,) = both(frames, tmp_path / "a.pcap")
    assert (flow.client_stream.data, flow.client_stream.gaps) == (b"NOOP\r\nQUIT\r\n", ())


def test_lost_octets_are_a_gap_and_reading_goes_on(tmp_path: Path) -> None:
    frames = [
        *handshake(),
        segment(sequence=1001, data=b"abc"),
        segment(sequence=1010, data=b"xyz"),
        segment(sequence=1020, flags=FIN),
    ]
    (flow,) = both(frames, tmp_path / "a.pcap")
    assert (flow.client_stream.data, flow.client_stream.gaps) == (b"abcxyz", (Gap(3, 6), Gap(6, 7)))
    assert flow.client_stream.segment_at(3).packet == 5


def test_a_reused_port_with_another_number_is_a_new_flow(tmp_path: Path) -> None:
    first = [*handshake(), segment(sequence=1001, data=b"one"), segment(sequence=1004, flags=FIN | ACK)]
    second = [*handshake(numbers=(700000, 9)), segment(sequence=700001, data=b"two")]
    flows = both([*first, *second], tmp_path / "a.pcap")
    assert [flow.client_stream.data for flow in flows] == [b"one", b"two"]
    assert [flow.number for flow in flows] == [1, 2]


def test_a_repeated_syn_is_the_same_flow(tmp_path: Path) -> None:
    frames = [
        segment(sequence=1000, flags=SYN),
        *handshake(),
        segment(SERVER, CLIENT, 5000, flags=SYN | ACK, acknowledged=1001),
    ]
    assert len(both([*frames, segment(sequence=1001, data=b"x")], tmp_path / "a.pcap")) == 1


def test_a_syn_answer_captured_before_its_syn_is_the_same_flow() -> None:
    frames = handshake()
    flow = only([frames[1], frames[0], frames[2], segment(sequence=1001, data=b"x")])
    assert (flow.client, flow.client_stream.data, flow.opened) == (Endpoint(*CLIENT), b"x", True)


def test_a_syn_after_a_flow_from_its_middle_is_a_new_flow() -> None:
    flows = reassemble([segment(sequence=99, data=b"old"), *handshake(), segment(sequence=1001, data=b"new")])
    assert [flow.client_stream.data for flow in flows] == [b"old", b"new"]
    assert [flow.opened for flow in flows] == [False, True]


def test_a_reset_closes_and_its_octets_are_not_the_streams(tmp_path: Path) -> None:
    frames = [
        *handshake(),
        segment(sequence=1001, data=b"QUIT\r\n"),
        segment(SERVER, CLIENT, 5001, b"go away", RST | ACK),
    ]
    (flow,) = both(frames, tmp_path / "a.pcap")
    assert (flow.closed, flow.server_stream.data) == ("rst", b"")


def test_open_and_half_closed_flows_are_not_closed() -> None:
    frames = [*handshake(), segment(SERVER, CLIENT, 5001, b"220 "), segment(sequence=1001, flags=FIN | ACK)]
    assert only(frames[:4]).closed == ""
    assert only(frames).closed == ""
    assert only([*frames, segment(SERVER, CLIENT, 5005, flags=FIN | ACK)]).closed == "fin"


def test_one_side_only() -> None:
    flow = only([segment(SERVER, CLIENT, 5001, b"220 "), segment(SERVER, CLIENT, 5005, b"hi\r\n", FIN | ACK)])
    assert (flow.client_stream.data, flow.server_stream.data, flow.closed) == (b"", b"220 hi\r\n", "fin")
    assert flow.bursts == (Burst(Side.SERVER, 0, 8, 1, 0),)


@pytest.mark.parametrize(
    ("one", "two", "said", "server"),
    [
        (40000, 587, (b"", b""), 587),
        (110, 90, (b"", b""), 110),
        (40000, 41000, (b"220 mail.example\r\n", b"EHLO x\r\n"), 40000),
        (40000, 41000, (b"USER x\r\n", b"+OK\r\n"), 41000),
        (40000, 41000, (b"12345", b"hello"), 40000),
    ],
)
def test_who_the_server_is_without_a_syn(one: int, two: int, said: tuple[bytes, bytes], server: int) -> None:
    ends = ("192.0.2.1", one), ("192.0.2.2", two)
    frames = [segment(*ends, 10, said[0]), segment(*ends[::-1], 20, said[1])]
    signs = ServerSigns(frozenset({110, 587}), lambda client, server: server.startswith((b"220 ", b"+OK")))
    for captured in (frames, frames[::-1]):
        (flow,) = reassemble(captured, signs=signs)
        assert flow.server.port == server


class Names:
    """Knows one server, which it calls mail.example."""

    def client(self, address: str, port: int) -> Endpoint:
        return Endpoint("198.51.100.99", 50001, "client.example")

    def server(self, address: str, port: int) -> Endpoint | None:
        return Endpoint("192.0.2.99", 25, "mail.example") if port == 45678 else None


def test_names_are_for_the_ends_of_its_servers_flows_only() -> None:
    known, other = ("127.0.0.1", 45678), ("127.0.0.1", 45679)
    client = ("127.0.0.1", 60000)
    flows = reassemble([*handshake(client, known), *handshake(client, other)], Names())
    assert [str(flow.server) for flow in flows] == ["mail.example:25", "127.0.0.1:45679"]
    assert [str(flow.client) for flow in flows] == ["client.example:50001", "127.0.0.1:60000"]
    # without a SYN, a name tells more than the ports
    flow = only_with_names([segment(("127.0.0.1", 30000), known, 5, b"x")])
    assert str(flow.server) == "mail.example:25"


def only_with_names(frames: list[Frame]) -> Flow:
    (flow,) = reassemble(frames, Names())
    return flow


def test_padding_does_not_become_data(tmp_path: Path) -> None:
    short = segment(sequence=1001, data=b"x")
    padded = Frame(0, short.data + b"\0" * 5, 60)
    ack = Frame(0, segment(sequence=1002).data + b"\0" * 6, 60)
    (flow,) = both([*handshake(), padded, ack, segment(sequence=1002, data=b"y")], tmp_path / "a.pcap")
    assert flow.client_stream.data == b"xy"


def test_a_bad_checksum_and_a_total_length_of_0_are_offload() -> None:
    """A segment that the network card was to cut has no length yet (total length 0 in the IP header)."""
    plain = segment(sequence=1001, data=b"D" * 3000).data
    frame = Frame(0, plain[:16] + b"\0\0" + plain[18:], len(plain))
    assert only([*handshake(), frame]).client_stream.data == b"D" * 3000


def test_the_same_through_every_link_layer(tmp_path: Path) -> None:
    datagram = ipv4(CLIENT, SERVER, 5, b"QUIT\r\n", ACK)
    macs = bytes(12)
    frames = {
        "ethernet": (1, macs + b"\x08\0"),
        "vlan": (1, macs + b"\x81\0\0\x07\x08\0"),
        "qinq": (1, macs + b"\x88\xa8\0\x07\x81\0\0\x08\x08\0"),
        "null, little-endian": (0, b"\2\0\0\0"),
        "null, big-endian": (0, b"\0\0\0\2"),
        "loop": (108, b"\0\0\0\2"),
        "raw": (101, b""),
        "raw as BSD numbers it": (12, b""),
        "raw as OpenBSD numbers it": (14, b""),
        "ipv4": (228, b""),
        "cooked": (113, bytes(14) + b"\x08\0"),
        "cooked, vlan": (113, bytes(14) + b"\x81\0\0\x07\x08\0"),
        "cooked v2": (276, b"\x08\0" + bytes(18)),
        "cooked v2, vlan": (276, b"\x81\0" + bytes(18) + b"\0\x07\x08\0"),
    }
    captured = [Frame(0, head + datagram, len(head + datagram), link) for link, head in frames.values()]
    for name, frame in zip(frames, captured, strict=True):
        assert only([frame]).client_stream.data == b"QUIT\r\n", name
    (flow,) = both(captured, tmp_path / "a.pcapng")  # all of them: thirteen retransmissions
    assert flow.client_stream.data == b"QUIT\r\n"
    assert len(flow.packets) == len(captured)
    # 12 and 14 are numbers that a pcapng should not have, though old captures do
    pcap_writer.write(tmp_path / "b.pcapng", [frame for frame in captured if frame.link not in (12, 14)])
    payloads = output_of("tshark", "-r", tmp_path / "b.pcapng", "-T", "fields", "-e", "tcp.payload").split()
    assert payloads == [b"QUIT\r\n".hex()] * (len(captured) - 2)


def test_what_is_not_tcp_is_passed_over() -> None:
    arp = Frame(0, bytes(12) + b"\x08\x06" + bytes(46), 60)
    empty = Frame(0, b"", 60)
    icmp = bytearray(segment(sequence=3, data=b"quoted").data)
    icmp[23] = 1  # the protocol: an ICMP message may quote a whole TCP header
    assert reassemble([arp, empty, Frame(0, bytes(icmp), len(icmp))]) == ()


def test_scapys_fragments_and_extension_headers() -> None:
    from scapy.layers.inet import IP, TCP, IPOption_Router_Alert, fragment
    from scapy.layers.inet6 import (
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        fragment6,
    )
    from scapy.packet import Raw

    text = bytes(range(256)) * 12
    tcp = TCP(sport=50000, dport=25, seq=1, flags="PA") / Raw(text)
    four = fragment(IP(src="198.51.100.7", dst="192.0.2.25", id=9) / tcp, fragsize=512)
    six_head = IPv6(src="2001:db8::7", dst="2001:db8::25") / IPv6ExtHdrHopByHop()
    six = fragment6(six_head / IPv6ExtHdrFragment(id=7) / IPv6ExtHdrDestOpt() / tcp, 700)
    options = IP(src="198.51.100.7", dst="192.0.2.25", options=[IPOption_Router_Alert()]) / tcp
    assert len(four) > 3
    assert len(six) > 3
    for packets in (
        four,
        four[::-1],
        [four[1], *four],
        six,
        six[::-1],
        [options],
        [six_head / IPv6ExtHdrDestOpt() / tcp],
    ):
        frames = [Frame(0, bytes(packet), len(packet), 101) for packet in packets]
        flow = only(frames)
        assert flow.client_stream.data == text
        assert flow.client_stream.segments[0].packet == len(frames)
        assert len(flow.packets) == len(frames)
    assert reassemble([Frame(0, bytes(packet), len(packet), 101) for packet in four[:-1]]) == ()
    late = [Frame(index * 61 * 10**9, bytes(packet), len(packet), 101) for index, packet in enumerate(four)]
    assert reassemble(late) == ()  # fragments wait 60 seconds for each other


def test_segment_at_outside_the_stream() -> None:
    stream = only([segment(sequence=1, data=b"ab")]).client_stream
    for position in (-1, 2):
        with pytest.raises(IndexError):
            stream.segment_at(position)


def test_columns_are_like_tuples() -> None:
    flow = only([segment(sequence=1, data=b"ab"), segment(sequence=3, data=b"cd")])
    segments = flow.client_stream.segments
    assert segments == (Segment(1, 0, 0, 2), Segment(2, 0, 2, 4))
    assert segments[-1] == tuple(segments)[-1]
    assert segments[:1] == (Segment(1, 0, 0, 2),)
    assert hash(segments) == hash(tuple(segments))
    assert repr(flow.packets) == "(1, 2)"
    assert segments != [1]
    with pytest.raises(IndexError):
        _ = segments[2]


@pytest.mark.parametrize("collecting", [True, False])
def test_the_search_for_garbage_is_left_as_it_was(collecting: bool) -> None:
    seen: list[bool] = []

    class Interrupted(list[Frame]):
        def __iter__(self) -> Iterator[Frame]:
            seen.append(gc.isenabled())
            raise KeyboardInterrupt

    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        reassemble(handshake())
        assert gc.isenabled() is collecting
        with pytest.raises(KeyboardInterrupt):
            reassemble(Interrupted())
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False]


def test_what_was_read_is_not_searched_for_garbage(tmp_path: Path) -> None:
    path, searched = tmp_path / "mail.pcap", []
    reading.make(path, 20_000)
    frames = pcap.read(path).frames
    gc.callbacks.append(lambda _phase, info: searched.append(info["generation"]))
    try:
        flows = reassemble(frames)
        more = [[] for _time in range(50)]
    finally:
        gc.callbacks.pop()
    assert (len(flows) > 600, len(more)) == (True, 50)
    assert searched == []


def test_a_hostile_order_costs_no_more_than_a_sort() -> None:
    """Backwards, every other one first: what makes a list of intervals quadratic."""
    count = 20_000
    places = [*range(count, 0, -2), *range(1, count, 2)]
    frames = [*handshake(), *(segment(sequence=1001 + place, data=b"ab") for place in places)]
    (flow,) = reassemble(frames)
    assert len(flow.client_stream.data) == count + 1
    assert flow.client_stream.gaps == (Gap(0, 1),)
