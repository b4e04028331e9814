"""Flows by hand: a dialogue written as (side, bytes) turns, cut into packets at will; and what tshark says of a capture."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest

from labkit.decode.conversation import Conversation, converse
from labkit.wire import pcap
from labkit.wire.flows import Burst, Endpoint, Flow, Gap, Segment, Side, Stream, reassemble

C, S = Side.CLIENT, Side.SERVER


def flow_of(
    turns: Iterable[tuple[Side, bytes]],
    *,
    port: int = 25,
    number: int = 1,
    cuts: Sequence[int] = (),
    opened: bool = True,
    gaps: dict[Side, tuple[Gap, ...]] | None = None,
) -> Flow:
    """A flow in which each turn is one packet, or several where `cuts` gives the lengths to cut turns into, in rotation."""
    data = {C: bytearray(), S: bytearray()}
    segments: dict[Side, list[Segment]] = {C: [], S: []}
    bursts: list[Burst] = []
    packet = 3  # after the handshake
    turn_number = 0
    for side, octets in turns:
        if not octets:
            continue
        start = len(data[side])
        end = start + len(octets)
        data[side] += octets
        at = start
        first = packet + 1
        while at < end:
            packet += 1
            length = cuts[turn_number % len(cuts)] if cuts else len(octets)
            turn_number += 1
            stop = min(end, at + max(1, length))
            segments[side].append(Segment(packet, packet * 1_000_000, at, stop))
            at = stop
        if bursts and bursts[-1].side is side:
            last = bursts.pop()
            bursts.append(Burst(side, last.start, end, last.packet, last.time))
        else:
            bursts.append(Burst(side, start, end, first, first * 1_000_000))
    gaps = gaps or {}
    return Flow(
        number=number,
        client=Endpoint("192.0.2.10", 49152),
        server=Endpoint("192.0.2.25", port),
        client_stream=Stream(C, bytes(data[C]), tuple(segments[C]), gaps.get(C, ())),
        server_stream=Stream(S, bytes(data[S]), tuple(segments[S]), gaps.get(S, ())),
        packets=tuple(range(1, packet + 1)),
        opened=opened,
        closed="fin",
        bursts=tuple(bursts),
    )


def tshark_rows(capture: Path, protocol: str, *fields: str) -> list[list[list[str]]]:
    """What tshark finds: for each of its packets that speaks `protocol`, the values of each field."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    asked = [argument for field in fields for argument in ("-e", field)]
    command = [
        "tshark",
        "-r",
        str(capture),
        "-Y",
        protocol,
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=\x1f",
        *asked,
    ]
    found = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", errors="backslashreplace")
    rows = (line.split("\t") for line in found.stdout.split("\n") if line)
    return [[[value for value in column.split("\x1f") if value] for column in row] for row in rows]


@pytest.fixture(scope="session")
def conversations_of(shared_captures: Path) -> Callable[[str], tuple[Conversation, ...]]:
    """The conversations of a public capture, by its file name."""

    @cache
    def read(name: str) -> tuple[Conversation, ...]:
        return tuple(converse(flow) for flow in reassemble(pcap.read(shared_captures / name).frames))

    return read


def flow_from(client: Stream, server: Stream, port: int) -> Flow:
    """A flow around two streams whose segments say in which order they were sent."""
    said = sorted((segment.packet, stream.side, segment) for stream in (client, server) for segment in stream.segments)
    bursts: list[Burst] = []
    for packet, side, segment in said:
        if bursts and bursts[-1].side is side:
            bursts[-1] = bursts[-1]._replace(end=segment.end)
        else:
            bursts.append(Burst(side, segment.start, segment.end, packet, segment.time))
    ends = Endpoint("192.0.2.10", 49152), Endpoint("192.0.2.25", port)
    return Flow(
        1, *ends, client, server, packets=tuple(packet for packet, _side, _segment in said), bursts=tuple(bursts)
    )
