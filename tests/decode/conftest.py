"""Flows by hand: a dialogue written as (side, bytes) turns, cut into packets at will."""

from collections.abc import Iterable, Sequence

from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Burst, Flow, Gap, Segment, Side, Stream

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
