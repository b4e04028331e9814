"""Dissection: one flow, understood. Commands, replies, lines in the order of the wire, TLS, and spans for every byte.

`dissect` finds the protocol (by content, then by port; `protocol` overrules both), lets the decoder of that protocol
read the two streams, and hands the rest to TLS where an upgrade happened. Everything but the protocol is worked out when
somebody looks at it, so that a large capture can be listed without explaining every byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from labkit.decode.fields import octets, text
from labkit.decode.lines import (
    Command,
    Element,
    Line,
    LineKind,
    Reading,
    Reply,
    cut,
    list_commands,
    locator,
    without_line_end,
)
from labkit.decode.meanings import meaning_of
from labkit.decode.outcomes import Outcome, outcomes
from labkit.decode.protocol import UNKNOWN, Protocol
from labkit.decode.protocols import recognise
from labkit.decode.spans import Span, Visibility, hardest_to_read, leaves
from labkit.decode.tls import session as tls
from labkit.decode.tls.handshake import Context
from labkit.decode.tls.records import UNREADABLE
from labkit.decode.tls.session import Record, TlsSession
from labkit.decode.tls.spans import handshake_spans
from labkit.errors import BadSetting
from labkit.texts import _
from labkit.wire.flows import Burst, Flow, Segment, Side, Stream

if TYPE_CHECKING:
    from labkit.decode.tls.decrypt import KeyLog

__all__ = ["Command", "Dissection", "Line", "LineKind", "Protocol", "Reply", "Tls", "dissect"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What the handshake shows to everybody. started: "implicit", or the command that asked for it (STARTTLS, STLS)."""

    version: str | None
    cipher: str | None
    server_name: str | None
    started: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """The encrypted handshake messages that a key log opened, as a flow of their own."""

    flow: Flow
    context: Context

    def spans(self, side: Side) -> tuple[Span, ...]:
        """The spans of the messages that `side` sent."""
        return handshake_spans(self.flow.stream(side), self.context)


def dissect(flow: Flow, *, protocol: Protocol | None = None, keylog: KeyLog | None = None) -> Dissection:
    """Understands one flow; never raises, whatever the bytes are.

    protocol: overrules what content and port say. keylog: opens the TLS records it has secrets for; what they held is in
    `opened`, and everything else stays as an eavesdropper sees it.
    """
    return Dissection(flow, protocol or recognise(flow), keylog)


class Dissection:
    """One flow, understood. Each part is read when somebody first looks at it, and kept.

    keylog: opens the TLS part. greeting: the server speaks first.
    """

    def __init__(self, flow: Flow, protocol: Protocol, keylog: KeyLog | None = None, *, greeting: bool = True) -> None:
        self.flow, self.protocol = flow, protocol
        self.number, self.client, self.server = flow.number, flow.client, flow.server
        self.client_stream, self.server_stream = flow.client_stream, flow.server_stream
        self._keylog, self._greeting = keylog, greeting

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The commands in the clear; read without the rest where the protocol can, for who lists them need not wait."""
        if self.protocol.commands:
            return self.protocol.commands(self.client_stream, self.server_stream, self.flow.opened, self._greeting)
        return list_commands(self.client_stream, self._reading.client)

    @cached_property
    def _reading(self) -> Reading:
        return self.protocol.scan(self.client_stream, self.server_stream, self.flow.opened, self._greeting)

    @cached_property
    def _outcomes(self) -> list[tuple[int, int, Outcome]]:
        return outcomes(self.protocol, self._reading)

    def outcome(self, side: Side, position: int) -> Outcome:
        """What became of the login or mail transaction that a byte belongs to; ACCEPTED where it belongs to none."""
        index = bisect_right(self._outcomes, position, key=lambda told: told[0]) - 1
        if side is Side.SERVER or index < 0 or position >= self._outcomes[index][1]:
            return Outcome.ACCEPTED
        return self._outcomes[index][2]

    @cached_property
    def session(self) -> TlsSession | None:
        """The TLS part, record by record; None without TLS."""
        client_tls, server_tls = self._reading.client_tls, self._reading.server_tls
        if client_tls is None or server_tls is None:
            return None
        return tls.read(self.client_stream, self.server_stream, client_tls, server_tls)

    @cached_property
    def tls(self) -> Tls | None:
        """What the handshake shows to everybody; None without TLS."""
        if self.session is None:
            return None
        upgraded = self._reading.client or self._reading.server
        started = self.protocol.upgrade if upgraded else "implicit"
        return Tls(self.session.version, self.session.cipher, self.session.server_name, started)

    @property
    def opened(self) -> Dissection | None:
        """What a key log opened of its TLS part, as a dissection of its own."""
        return self._opening[0]

    @property
    def opened_handshake(self) -> Handshake | None:
        """The handshake messages that a key log opened."""
        return self._opening[1]

    @property
    def closed_because(self) -> tuple[str, ...]:
        """Why records stayed hidden although a key log was given."""
        return self._opening[2]

    @cached_property
    def _opening(self) -> tuple[Dissection | None, Handshake | None, tuple[str, ...]]:
        """What the key log opens, as a dissection of its own, the handshake, and why the rest stayed closed."""
        if self.session is None or self._keylog is None:
            return None, None, ()
        from labkit.decode.tls import decrypt  # and with it the ciphers, which few captures need

        result = decrypt.open_session(self.session, self.client_stream, self.server_stream, self._keylog)
        why = tuple(dict.fromkeys(reason for _side, _start, reason in result.hidden))
        setup = _inside(self.flow, result.client_handshake, result.server_handshake)
        shaken = setup and Handshake(setup, self.session.context)
        inside = _inside(self.flow, result.client, result.server)
        if inside is None:
            return None, shaken, why
        protocol = self.protocol.inside or (recognise(inside) if self.protocol.is_tls else self.protocol)
        # after STARTTLS and STLS the server waits for the client (RFC 3207 section 4.2, RFC 2595 section 4)
        return Dissection(inside, protocol, greeting=self.protocol.is_tls), shaken, why

    @cached_property
    def replies(self) -> tuple[Reply, ...]:
        """The replies in the clear."""
        return self.protocol.replies(self.server_stream, self._reading)

    @cached_property
    def _spans(self) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        client, server = self.client_stream.data, self.server_stream.data
        if self.protocol is UNKNOWN:
            return _unknown(client), _unknown(server)
        read = self.protocol.spans(client, server, self._reading)
        if self.session is None:
            return read
        return (*read[0], *self.session.client_spans), (*read[1], *self.session.server_spans)

    @property
    def client_spans(self) -> tuple[Span, ...]:
        """The spans of what the client sent."""
        return self._spans[0]

    @property
    def server_spans(self) -> tuple[Span, ...]:
        """The spans of what the server sent."""
        return self._spans[1]

    def spans(self, side: Side | str) -> tuple[Span, ...]:
        """The spans that explain every byte of what a side sent: "client" or "server". Raises BadSetting."""
        if side not in tuple(Side):
            raise BadSetting(_('The sides of a flow are "client" and "server", not {given!r}.').format(given=side))
        return self.client_spans if Side(side) is Side.CLIENT else self.server_spans

    def __repr__(self) -> str:
        return f"<Dissection {self.protocol}: {self.client} → {self.server}>"

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Both sides' lines in the order of the wire."""
        client, server = self.client_stream, self.server_stream
        told = [
            *_lines(client, self._reading.client, self._spans[0]),
            *_lines(server, self._reading.server, self._spans[1]),
        ]
        if self.protocol is UNKNOWN:
            told.extend(_unknown_line(stream) for stream in (client, server) if stream.data)
        if self.session is not None:
            locate = {Side.CLIENT: locator(client), Side.SERVER: locator(server)}
            told.extend(_record_line(record, locate[record.side](record.start)) for record in self.session.records)
        return tuple(sorted(told, key=_order(self.flow)))


def _record_line(record: Record, segment: Segment) -> Line:
    clear = Visibility.READABLE if record.content_type == UNREADABLE else Visibility.HANDSHAKE
    visibility = Visibility.HIDDEN if record.encrypted else clear
    packet, time = segment.packet, segment.time
    return Line(record.side, LineKind.TLS, record.start, record.end, record.about, visibility, packet, time)


def _inside(flow: Flow, client: Stream, server: Stream) -> Flow | None:
    """What was inside the TLS of a flow, as a flow of its own; None where there is nothing."""
    if not client.data and not server.data:
        return None
    return flow._replace(client_stream=client, server_stream=server, bursts=_bursts(client, server))


def _bursts(client: Stream, server: Stream) -> tuple[Burst, ...]:
    """The bursts of what was inside TLS, in the order of the packets that carried the records."""
    said = sorted(
        (segment.packet, segment.start, stream.side, segment)
        for stream in (client, server)
        for segment in stream.segments
    )
    bursts: list[Burst] = []
    for packet, start, side, segment in said:
        if bursts and bursts[-1].side is side:
            bursts[-1] = bursts[-1]._replace(end=segment.end)
        else:
            bursts.append(Burst(side, start, segment.end, packet, segment.time))
    return tuple(bursts)


def _unknown(data: bytes) -> tuple[Span, ...]:
    if not data:
        return ()
    return (Span(0, len(data), "unknown", octets(len(data)), *meaning_of("unknown")),)


def _unknown_line(stream: Stream) -> Line:
    segment, size = locator(stream)(0), len(stream.data)
    words = _("unknown protocol: {size}").format(size=octets(size))
    return Line(stream.side, LineKind.UNKNOWN, 0, size, words, Visibility.READABLE, segment.packet, segment.time)


def _lines(stream: Stream, elements: list[Element], spans: tuple[Span, ...]) -> Iterator[Line]:
    data, locate = stream.data, locator(stream)
    innermost = leaves(spans)
    leaf = next(innermost, None)
    for element in elements:
        for start, end in cut(data, element.start, element.end):
            seen = []
            while leaf is not None and leaf.start < end:
                seen.append(leaf)
                if leaf.end > end:
                    break
                leaf = next(innermost, None)
            words = text(data[start : without_line_end(data, start, end)])
            segment = locate(start)
            yield Line(
                stream.side, element.kind.line, start, end, words, hardest_to_read(seen), segment.packet, segment.time
            )


def _order(flow: Flow) -> Callable[[Line], tuple[int, int]]:
    """When a line began: by the burst that its first byte belongs to, so that it depends on nothing else."""
    if not flow.bursts:
        return lambda line: (line.packet, 0)
    starts: dict[Side, list[int]] = {Side.CLIENT: [], Side.SERVER: []}
    numbers: dict[Side, list[int]] = {Side.CLIENT: [], Side.SERVER: []}
    for number, burst in enumerate(flow.bursts):
        starts[burst.side].append(burst.start)
        numbers[burst.side].append(number)

    def order(line: Line) -> tuple[int, int]:
        index = bisect_right(starts[line.side], line.start) - 1
        return (numbers[line.side][index] if index >= 0 else -1, line.start)

    return order
