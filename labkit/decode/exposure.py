"""Exposure: what an eavesdropper learns, computed from the wire alone.

For each fact about a mail exchange there is a verdict, the value where it can be had, and the packet and bytes that gave
it away. Nothing here may know what the lab knows: it sees dissections without a key, and nothing else.

A fact is read from the spans: their fields say what they are, their visibility says how much it takes to read them. Of what
is as readable, that counts which came further: the login that was let in, the transaction that was accepted.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile
from operator import attrgetter
from typing import NamedTuple

from labkit.decode import message, sasl
from labkit.decode.dissection import Dissection
from labkit.decode.fields import octets, whole_number
from labkit.decode.outcomes import Outcome
from labkit.decode.protocol import TLS, Fact, Protocol
from labkit.decode.protocols import PROTOCOLS
from labkit.decode.spans import Span, Visibility
from labkit.decode.tls.session import Record, TlsSession
from labkit.texts import N_, _
from labkit.wire.flows import Flow, Side, Stream

__all__ = ["SOURCES", "Exposure", "Fact", "Finding", "Verdict", "expose"]


class Verdict(StrEnum):
    """How much of a fact the wire gives away, from most to least."""

    READABLE = N_("readable")
    ENCODED = N_("encoded")
    GUESSABLE = N_("guessable")
    SIZE_ONLY = N_("size only")
    HIDDEN = N_("hidden")
    NOT_SENT = N_("not sent")


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on one fact. flow, side, packet and [start, end) say which bytes gave it away; None when none did.

    burst: the 1-based burst of the flow that holds the first byte, the same under every capture engine.
    """

    fact: Fact
    verdict: Verdict
    value: str | None = None
    flow: int | None = None
    side: Side | None = None
    packet: int | None = None
    burst: int | None = None
    start: int | None = None
    end: int | None = None


Exposure = Mapping[Fact, Finding]

_TLS_FACTS = {Fact.SERVER_NAME: ("tls.sni.name", "x509.subject")}
_SOURCES_OF_ALL = (*(protocol.facts for protocol in PROTOCOLS), sasl.FACTS, message.FACTS, _TLS_FACTS)
# Which spans tell which fact; of two that are as readable, the one named first is taken. A message is measured instead.
SOURCES: Mapping[Fact, tuple[str, ...]] = {
    fact: tuple(dict.fromkeys(field for facts in _SOURCES_OF_ALL for field in facts.get(fact, ()))) for fact in Fact
}
_RANK = {field: (fact, rank) for fact, fields in SOURCES.items() for rank, field in enumerate(fields)}
_VERDICTS = {
    Visibility.READABLE: Verdict.READABLE,
    Visibility.ENCODED: Verdict.ENCODED,
    Visibility.HANDSHAKE: Verdict.READABLE,
    Visibility.GUESSABLE: Verdict.GUESSABLE,
    Visibility.HIDDEN: Verdict.HIDDEN,
}
_ORDER = {verdict: number for number, verdict in enumerate(Verdict)}
_MEASURED, _AT_LEAST = -1, len(SOURCES[Fact.MESSAGE_SIZE])  # ranks: a whole message counts most, a part of one least
_MORE_THAN_LINE_ENDS = re.compile(r"[^\r\n]")


class _Evidence(NamedTuple):
    """A span that tells a fact, and where it is."""

    verdict: Verdict
    outcome: Outcome
    rank: int
    flow: Flow
    side: Side
    start: int
    end: int
    value: str | None


def expose(dissections: Iterable[Dissection]) -> Exposure:
    """What an eavesdropper learns from these dissections: one finding for each of the ten facts, the most revealing.

    Only what crossed the wire counts: what a key log opened is not looked at.
    """
    known = tuple(dissections)
    found: dict[Fact, list[_Evidence]] = {fact: [] for fact in Fact}
    for dissection in known:
        for fact, told in _told(dissection):
            found[fact].append(told)
    return {fact: _finding(fact, found[fact], known) for fact in Fact}


def _told(dissection: Dissection) -> Iterator[tuple[Fact, _Evidence]]:
    flow = dissection.flow
    for side in Side:
        for span, outcome in _with_outcomes(dissection, side):
            fact, rank = _RANK[span.field]
            value, verdict = _value(fact, span)
            if value or verdict is Verdict.GUESSABLE:
                yield fact, _Evidence(verdict, outcome, rank, flow, side, span.start, span.end, value)
        for start, end, size, whole in _measured(dissection.protocol, dissection.spans(side), flow.stream(side)):
            rank, words = (_MEASURED, "{size}") if whole else (_AT_LEAST, _("at least {size}"))
            value, outcome = words.format(size=octets(size)), dissection.outcome(side, end - 1)
            yield Fact.MESSAGE_SIZE, _Evidence(Verdict.READABLE, outcome, rank, flow, side, start, end, value)
    if dissection.session is not None:
        estimate = _size_under_tls(dissection.session, dissection.protocol)
        if estimate:
            first, last, size = estimate
            words = _("at most {size}").format(size=octets(size))
            bound = _Evidence(Verdict.SIZE_ONLY, Outcome.ACCEPTED, 0, flow, first.side, first.start, last.end, words)
            yield Fact.MESSAGE_SIZE, bound


def _with_outcomes(dissection: Dissection, side: Side) -> Iterator[tuple[Span, Outcome]]:
    """Every span that tells a fact, and how far it came; what tells of a message that nobody asked for came less far."""
    told = tuple(_walk(dissection.spans(side)))
    others = dissection.protocol.other_messages(dissection.commands, told)
    for span in told:
        if span.field in _RANK:
            yield span, Outcome.BEGUN if span.start in others else dissection.outcome(side, span.start)


def _measured(protocol: Protocol, spans: tuple[Span, ...], stream: Stream) -> Iterator[tuple[int, int, int, bool]]:
    """For each message in the clear: where it begins and ends, its octets, and whether all of it was captured."""
    for start, end, size, complete in protocol.measure(spans):
        first = bisect_left(stream.gaps, start, key=attrgetter("at"))
        yield start, end, size, complete and not any(gap.at < end for gap in stream.gaps[first : first + 1])


def _walk(spans: Iterable[Span]) -> Iterator[Span]:
    """Every span, outer ones first; inside one that tells a fact nothing else tells the same."""
    for span in spans:
        yield span
        if span.children and span.field not in _RANK:
            yield from _walk(span.children)


def _value(fact: Fact, span: Span) -> tuple[str | None, Verdict]:
    verdict = _VERDICTS[span.visibility]
    if verdict is Verdict.GUESSABLE:
        return None, verdict
    if fact is Fact.MESSAGE_SIZE:
        declared = whole_number(span.value)
        return (None if declared is None else octets(declared)), verdict
    if not _MORE_THAN_LINE_ENDS.search(span.value):
        return None, verdict
    if span.field == "sasl.oauth.token":  # it lets in whoever holds it (RFC 6750 section 1.2)
        return _("access token: {token}").format(token=span.value), verdict
    return span.value, verdict


def _finding(fact: Fact, found: list[_Evidence], dissections: tuple[Dissection, ...]) -> Finding:
    if not found:
        hidden = any(_could_hold(dissection, fact) for dissection in dissections)
        return Finding(fact, Verdict.HIDDEN if hidden else Verdict.NOT_SENT)
    best = min(found, key=lambda told: (_ORDER[told.verdict], told.outcome, told.rank))
    value = best.value and neat(best.value)
    if fact is Fact.RECIPIENTS:
        value = ", ".join(dict.fromkeys(neat(told.value) for told in found if _beside(best, told) and told.value))
    return Finding(
        fact=fact,
        verdict=best.verdict,
        value=value,
        flow=best.flow.number,
        side=best.side,
        packet=_packet(best.flow, best.side, best.start),
        burst=_burst(best.flow, best.side, best.start),
        start=best.start,
        end=best.end,
    )


def _beside(best: _Evidence, told: _Evidence) -> bool:
    """Whether a recipient is one as the best is: who was refused is not, unless nobody else is there."""
    least = max(best.outcome, Outcome.BEGUN)
    return (told.verdict, told.rank) == (best.verdict, best.rank) and told.outcome <= least


def neat(value: str) -> str:
    return value.replace("\r\n", "\n").strip("\n")


def _packet(flow: Flow, side: Side, position: int) -> int | None:
    return flow.stream(side).packet_at(position) or None


def _burst(flow: Flow, side: Side, position: int) -> int | None:
    """The 1-based burst that holds a byte; None where the flow has none."""
    numbers = [(burst.start, number) for number, burst in enumerate(flow.bursts, 1) if burst.side is side]
    index = bisect_right(numbers, (position, len(flow.bursts) + 1)) - 1
    return numbers[index][1] if index >= 0 else None


def _could_hold(dissection: Dissection, fact: Fact) -> bool:
    """Whether there is encrypted application data in which the fact may have travelled, as far as the protocol has it."""
    if dissection.session is None or not any(record.application for record in dissection.session.records):
        return False
    told = (dissection.protocol.facts, sasl.FACTS, message.FACTS, _TLS_FACTS)
    return dissection.protocol is TLS or any(fact in facts for facts in told)


def _size_under_tls(session: TlsSession, protocol: Protocol) -> tuple[Record, Record, int] | None:
    """What the encrypted records still tell of the message's size: it cannot be longer than all that one side sent.

    What a server says before the client has spoken is its greeting, and no message. What encryption adds to each record
    is taken off (RFC 8446 section 5.2, RFC 5288 section 3, RFC 7905 section 2); a closing alert of TLS 1.3 looks like data
    and counts with its 2 octets.
    """
    carrying = [record for record in session.records if record.application]
    spoken = dropwhile(lambda record: record.side is Side.SERVER, carrying)
    records = [record for record in spoken if record.side is protocol.sender]
    if not records:
        return None
    overhead = _added(session)
    size = sum(max(0, record.end - record.start - overhead) for record in records)
    return records[0], records[-1], size


def _added(session: TlsSession) -> int:
    """Octets that each record has beyond its plaintext: the least that is possible, so that the estimate is a bound."""
    header = 5
    cipher = (session.cipher or "").upper()
    tag = 8 if cipher.endswith(("CCM_8", "CCM_8_SHA256")) else 16
    if session.version == "TLS 1.3":
        return header + tag + 1
    if "GCM" in cipher or "CCM" in cipher:
        return header + 8 + tag
    if "CHACHA20" in cipher:
        return header + tag
    return header
