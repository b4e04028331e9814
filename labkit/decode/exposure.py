"""Exposure: what an eavesdropper learns, computed from the wire alone.

For each fact about a mail exchange there is a verdict, the value where it can be had, and the packet and bytes that gave
it away. Nothing here may know what the lab knows: it sees conversations without a key, and nothing else.

A fact is read from the spans: their fields say what they are, their visibility says how much it takes to read them. Of what
is as readable, that counts which came further: the login that was let in, the transaction that was accepted.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile, groupby
from operator import attrgetter
from typing import NamedTuple

from labkit.decode.dissection import Dissection, Protocol
from labkit.decode.fields import octets
from labkit.decode.outcomes import Outcome
from labkit.decode.spans import Span, Visibility
from labkit.decode.tls import Record, TlsSession
from labkit.texts import _
from labkit.wire.flows import Flow, Side, Stream


class Fact(StrEnum):
    """What somebody might learn."""

    LOGIN_NAME = "login name"
    PASSWORD = "password"
    SENDER = "sender"
    RECIPIENTS = "recipients"
    SUBJECT = "subject"
    TEXT = "text"
    ATTACHMENT = "attachment"
    CLIENT_NAME = "client name"
    SERVER_NAME = "server name"
    MESSAGE_SIZE = "message size"


class Verdict(StrEnum):
    """How much of a fact the wire gives away, from most to least."""

    READABLE = "readable"
    ENCODED = "encoded"
    GUESSABLE = "guessable"
    SIZE_ONLY = "size only"
    HIDDEN = "hidden"
    NOT_SENT = "not sent"


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

# Which spans tell which fact; of two that are as readable, the one named first is taken. A message is measured instead.
SOURCES: Mapping[Fact, tuple[str, ...]] = {
    Fact.LOGIN_NAME: (
        "pop3.user.name",
        "pop3.apop.name",
        "sasl.plain.authcid",
        "sasl.login.name",
        "sasl.cram.name",
        "sasl.scram.name",
        "sasl.oauth.name",
    ),
    Fact.PASSWORD: (
        "pop3.pass.password",
        "sasl.plain.password",
        "sasl.login.password",
        "sasl.oauth.token",
        "sasl.cram.digest",
        "sasl.scram.proof",
        "pop3.apop.digest",
    ),
    Fact.SENDER: ("smtp.mail.sender", "message.from"),
    Fact.RECIPIENTS: ("smtp.rcpt.recipient", "message.to"),
    Fact.SUBJECT: ("message.subject",),
    Fact.TEXT: ("message.text", "message.html"),
    Fact.ATTACHMENT: ("message.attachment", "message.attached"),
    Fact.CLIENT_NAME: ("smtp.ehlo.client",),
    Fact.SERVER_NAME: ("smtp.greeting.server", "smtp.ehlo.server", "tls.sni.name", "x509.subject"),
    Fact.MESSAGE_SIZE: ("smtp.parameter.size", "pop3.retr.octets", "pop3.list.size"),
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
_MESSAGES = {"smtp.content", "pop3.content"}  # spans around a message: how long they are tells its size
_NOT_MESSAGE = {"message.terminator", "message.stuffing"}
_NUMBER = re.compile(r"\s*([0-9]{1,20})\s*")
_MORE_THAN_LINE_ENDS = re.compile(r"[^\r\n]")
_CLIENT_ONLY_IN_SMTP = {Fact.CLIENT_NAME}
_POP3 = {Protocol.POP3, Protocol.POP3S}


class _Found(NamedTuple):
    """A span that tells a fact, and where it is."""

    verdict: Verdict
    outcome: Outcome
    rank: int
    flow: Flow
    side: Side
    start: int
    end: int
    value: str | None


def expose(conversations: Iterable[Dissection]) -> Exposure:
    """What an eavesdropper learns from these conversations: one finding for each of the ten facts, the most revealing.

    Only what crossed the wire counts: what a key log opened is not looked at.
    """
    known = tuple(conversations)
    found: dict[Fact, list[_Found]] = {fact: [] for fact in Fact}
    for conversation in known:
        for fact, told in _told(conversation):
            found[fact].append(told)
    return {fact: _finding(fact, found[fact], known) for fact in Fact}


def _told(conversation: Dissection) -> Iterator[tuple[Fact, _Found]]:
    flow = conversation.flow
    for side in Side:
        for span, outcome in _with_outcomes(conversation, side):
            fact, rank = _RANK[span.field]
            value, verdict = _value(fact, span)
            if value or verdict is Verdict.GUESSABLE:
                yield fact, _Found(verdict, outcome, rank, flow, side, span.start, span.end, value)
        for start, end, size, whole in _measured(conversation.spans(side), flow.stream(side)):
            rank, words = (_MEASURED, "{size}") if whole else (_AT_LEAST, _("at least {size}"))
            value, outcome = words.format(size=octets(size)), conversation.outcome(side, end - 1)
            yield Fact.MESSAGE_SIZE, _Found(Verdict.READABLE, outcome, rank, flow, side, start, end, value)
    if conversation.session is not None:
        estimate = _size_under_tls(conversation.session, conversation.protocol)
        if estimate:
            first, last, size = estimate
            words = _("at most {size}").format(size=octets(size))
            bound = _Found(Verdict.SIZE_ONLY, Outcome.ACCEPTED, 0, flow, first.side, first.start, last.end, words)
            yield Fact.MESSAGE_SIZE, bound


def _with_outcomes(conversation: Dissection, side: Side) -> Iterator[tuple[Span, Outcome]]:
    """Every span that tells a fact, and how far it came; of a LIST, the message that the client then asked for."""
    asked = (command.argument for command in conversation.commands if command.verb in ("RETR", "TOP"))
    wanted = next(asked, "").partition(" ")[0]
    number = ""
    for span in _walk(conversation.spans(side)):
        if span.field == "pop3.list.number":
            number = span.value
        if span.field in _RANK:
            passed_over = span.field == "pop3.list.size" and number != wanted
            yield span, Outcome.BEGUN if passed_over else conversation.outcome(side, span.start)


def _measured(spans: tuple[Span, ...], stream: Stream) -> Iterator[tuple[int, int, int, bool]]:
    """For each message in the clear: where it begins and ends, its octets, and whether all of it was captured."""
    for start, end, size, complete in (*_dotted(spans), *_chunked(spans)):
        first = bisect_left(stream.gaps, start, key=attrgetter("at"))
        yield start, end, size, complete and not any(gap.at < end for gap in stream.gaps[first : first + 1])


def _dotted(spans: tuple[Span, ...]) -> Iterator[tuple[int, int, int, bool]]:
    """The messages that end with a single dot; neither it nor stuffed dots belong to them."""
    for span in spans:
        if span.field in _MESSAGES:
            size = span.end - span.start - sum(part.end - part.start for part in _overhead(span))
            yield span.start, span.end, size, span.children[-1].field == "message.terminator"


def _chunked(spans: tuple[Span, ...]) -> Iterator[tuple[int, int, int, bool]]:
    """The messages sent with BDAT: a message has as many octets as its chunks have together (RFC 3030 section 2)."""
    for chunked, together in groupby(spans, key=lambda span: span.field in ("smtp.bdat", "smtp.chunk")):
        found = tuple(together) if chunked else ()
        chunks = [span for span in found if span.field == "smtp.chunk"]
        if chunks:
            told = [child for span in found if span.field == "smtp.bdat" for child in span.children]
            announced = sum(_number(child.value) or 0 for child in told if child.field == "smtp.bdat.size")
            size = sum(span.end - span.start for span in chunks)
            whole = size == announced and any(child.field == "smtp.bdat.last" for child in told)
            yield chunks[0].start, chunks[-1].end, size, whole


def _number(value: str) -> int | None:
    found = _NUMBER.fullmatch(value)
    return int(found[1]) if found else None


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
        declared = _number(span.value)
        return (None if declared is None else octets(declared)), verdict
    if not _MORE_THAN_LINE_ENDS.search(span.value):
        return None, verdict
    if span.field == "sasl.oauth.token":  # it lets in whoever holds it (RFC 6750 section 1.2)
        return _("access token: {token}").format(token=span.value), verdict
    return span.value, verdict


def _overhead(span: Span) -> Iterator[Span]:
    for child in span.children:
        if child.field in _NOT_MESSAGE:
            yield child
        yield from _overhead(child)


def _finding(fact: Fact, found: list[_Found], conversations: tuple[Dissection, ...]) -> Finding:
    if not found:
        hidden = any(_could_hold(conversation, fact) for conversation in conversations)
        return Finding(fact, Verdict.HIDDEN if hidden else Verdict.NOT_SENT)
    best = min(found, key=lambda told: (_ORDER[told.verdict], told.outcome, told.rank))
    value = best.value and _neat(best.value)
    if fact is Fact.RECIPIENTS:
        value = ", ".join(dict.fromkeys(_neat(told.value) for told in found if _beside(best, told) and told.value))
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


def _beside(best: _Found, told: _Found) -> bool:
    """Whether a recipient is one as the best is: who was refused is not, unless nobody else is there."""
    least = max(best.outcome, Outcome.BEGUN)
    return (told.verdict, told.rank) == (best.verdict, best.rank) and told.outcome <= least


def _neat(value: str) -> str:
    return value.replace("\r\n", "\n").strip("\n")


def _packet(flow: Flow, side: Side, position: int) -> int | None:
    return flow.stream(side).packet_at(position) or None


def _burst(flow: Flow, side: Side, position: int) -> int | None:
    """The 1-based burst that holds a byte; None where the flow has none."""
    numbers = [(burst.start, number) for number, burst in enumerate(flow.bursts, 1) if burst.side is side]
    index = bisect_right(numbers, (position, len(flow.bursts) + 1)) - 1
    return numbers[index][1] if index >= 0 else None


def _could_hold(conversation: Dissection, fact: Fact) -> bool:
    """Whether the conversation has encrypted application data in which the fact may have travelled."""
    if conversation.session is None or not any(record.application for record in conversation.session.records):
        return False
    return not (fact in _CLIENT_ONLY_IN_SMTP and conversation.protocol in _POP3)


def _size_under_tls(session: TlsSession, protocol: Protocol) -> tuple[Record, Record, int] | None:
    """What the encrypted records still tell of the message's size: it cannot be longer than all that one side sent.

    A message travels from the client in SMTP, and in POP3 from the server once the client has spoken. What encryption
    adds to each record is taken off (RFC 8446 section 5.2, RFC 5288 section 3, RFC 7905 section 2); a closing alert of
    TLS 1.3 looks like data and counts with its 2 octets.
    """
    carrying = [record for record in session.records if record.application]
    if protocol in _POP3:
        spoken = dropwhile(lambda record: record.side is Side.SERVER, carrying)
        records = [record for record in spoken if record.side is Side.SERVER]
    else:
        records = [record for record in carrying if record.side is Side.CLIENT]
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
