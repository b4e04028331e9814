"""What a learner's own captures show: the questions that lessons put to them.

The truth of a check comes from here, so it comes from the wire, and it is found in fields and never in words that are
translated. A learner may hand in any capture at all: what one does not show is said in a sentence (Missing), never in a
traceback.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.exposure import Exposure, Fact, Verdict
from labkit.decode.protocol import Service
from labkit.decode.protocols import POP3, SMTP, SMTPS
from labkit.decode.spans import Span, leaves
from labkit.decode.tls.names import ALERT
from labkit.decode.tls.session import Record
from labkit.errors import LabError
from labkit.provider import Provider
from labkit.texts import _
from labkit.wire.flows import Side

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a learner handed to `reveal`, in order. Whoever asks knows from the experiment's `takes` what is there."""

    given: tuple[object, ...] = ()

    def all(self, kind: type[T]) -> tuple[T, ...]:
        """Whatever is of one kind."""
        return tuple(item for item in self.given if isinstance(item, kind))

    @property
    def captures(self) -> tuple[Capture, ...]:
        """The captures."""
        return self.all(Capture)

    @property
    def capture(self) -> Capture:
        """The capture, or the first of several."""
        return self.captures[0]

    @property
    def provider(self) -> Provider:
        """The provider, or the first of several."""
        return self.all(Provider)[0]


def named(kind: type) -> str:
    """What a learner calls a thing of this kind, with its article."""
    names: dict[type, str] = {Capture: _("a capture"), Provider: _("a provider")}
    return names.get(kind) or _("a {kind} object").format(kind=kind.__name__)


class Missing(LabError):
    """The capture does not show what the step is about."""


def first_of(found: Iterable[T], missing: str) -> T:
    """The first of what was found. Raises Missing, with this sentence, when that is nothing."""
    for item in found:
        return item
    raise Missing(missing)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the client said and what the server answered: two lines as they were on the wire."""

    asked: Line
    answered: Line

    @property
    def lines(self) -> tuple[Line, Line]:
        """Both."""
        return self.asked, self.answered

    @property
    def verb(self) -> str:
        """The client's first word, in upper case."""
        return self.asked.text.partition(" ")[0].upper()

    @property
    def code(self) -> str:
        """The reply's first three characters: SMTP's code, or POP3's +OK."""
        return self.answered.text[:3]


def lines_of(told: Iterable[Turn]) -> list[Line]:
    """The lines of commands and their answers, in order."""
    return [line for turn in told for line in turn.lines]


def smtp_flows(capture: Capture) -> tuple[Dissection, ...]:
    """The SMTP connections that begin in the clear, in order."""
    return tuple(flow for flow in capture.flows if flow.protocol is SMTP)


def turns(capture: Capture, *verbs: str) -> tuple[Turn, ...]:
    """Each line of the client's commands and logins, or of these commands, with its answer, in all SMTP connections."""
    return tuple(turn for flow in smtp_flows(capture) for turn in _turns(flow) if not verbs or turn.verb in verbs)


def pop3_flows(capture: Capture) -> tuple[Dissection, ...]:
    """The POP3 connections that begin in the clear, in order."""
    return tuple(flow for flow in capture.flows if flow.protocol is POP3)


def pop3_turns(capture: Capture, *verbs: str) -> tuple[Turn, ...]:
    """Each line of the client's commands, or of these commands, with its answer, in all POP3 connections."""
    return tuple(turn for flow in pop3_flows(capture) for turn in _turns(flow) if not verbs or turn.verb in verbs)


def opened_turns(capture: Capture) -> tuple[Turn, ...]:
    """Each line of the client's commands with the line that answered it, in all that the keys open. Raises Missing."""
    return tuple(turn for talk in opened(capture) for turn in _turns(talk))


def commands(flow: Dissection) -> list[Line]:
    """The lines of the client's commands and logins, in order."""
    return [line for line in flow.lines if line.side is Side.CLIENT and line.kind in {LineKind.COMMAND, LineKind.AUTH}]


def _turns(flow: Dissection) -> Iterator[Turn]:
    asked: Line | None = None
    for line in flow.lines:
        if line.side is Side.CLIENT:
            asked = line if line.kind in {LineKind.COMMAND, LineKind.AUTH} else None
        elif asked is not None:
            yield Turn(asked, line)
            asked = None


def first_smtp(capture: Capture) -> Dissection:
    """The first SMTP connection in the clear in which something was said. Raises Missing."""
    spoken = (flow for flow in smtp_flows(capture) if flow.lines)
    return first_of(spoken, _("In this capture nobody spoke SMTP in the clear."))


def sends(capture: Capture) -> bool:
    """Whether somebody called a server for sending."""
    return any(flow.protocol.service is Service.SENDING for flow in capture.flows)


def was_sent(capture: Capture) -> bool:
    """Whether a letter crossed the wire in the clear and the server took it."""
    return any(map(_accepted, smtp_flows(capture)))


def _accepted(flow: Dissection) -> Line | None:
    """The server's line that took a letter."""
    pairs = pairwise(flow.lines)
    answers = (b for a, b in pairs if a.kind is LineKind.MESSAGE and b.side is Side.SERVER)
    return next((line for line in answers if line.text.startswith("250")), None)


@dataclass(frozen=True, slots=True)
class Sending:
    """An SMTP connection, begun in the clear, that named a sender. accepted: the line with which a letter was taken."""

    turns: tuple[Turn, ...]
    accepted: Line | None

    @property
    def taken(self) -> bool:
        """Whether the server took a letter."""
        return self.accepted is not None

    @property
    def mail(self) -> Turn:
        """The first MAIL command with its answer."""
        return next(turn for turn in self.turns if turn.verb == "MAIL")

    @property
    def sender(self) -> str:
        """The address that MAIL named."""
        return self.mail.asked.text.partition("<")[2].partition(">")[0]

    @property
    def refused(self) -> bool:
        """Whether MAIL was answered 530: whoever sends has to do something first (RFC 4954 section 6)."""
        return self.mail.code == "530"

    @property
    def logged_in(self) -> bool:
        """Whether AUTH succeeded."""
        return any(turn.code == "235" for turn in self.turns)


def sendings(capture: Capture) -> tuple[Sending, ...]:
    """Each SMTP connection, begun in the clear, in which somebody named a sender; in order."""
    told = ((tuple(_turns(flow)), _accepted(flow)) for flow in smtp_flows(capture))
    return tuple(Sending(turns, accepted) for turns, accepted in told if any(turn.verb == "MAIL" for turn in turns))


def policy_on_the_wire(capture: Capture) -> str:
    """Which of the course's five policies a capture of sending and reading looks like. Raises Missing without sending.

    A POP3 login before the sending is taken for POP before SMTP: nothing else on the wire tells it from plaintext.
    """
    numbered = list(enumerate(capture.flows))
    sent = next(((n, flow) for n, flow in numbered if flow.protocol.service is Service.SENDING), None)
    if sent is None:
        raise Missing(_("In this capture nobody tried to send a letter."))
    number, flow = sent
    if flow.tls is not None:
        return "ssl" if flow.protocol is SMTPS else "starttls"
    if any(turn.code == "235" for turn in _turns(flow)):
        return "smtp-auth"
    read_first = (
        turn for n, other in numbered if n < number and other in pop3_flows(capture) for turn in _turns(other)
    )
    opened_window = any(turn.verb in {"PASS", "APOP"} and turn.code == "+OK" for turn in read_first)
    return "pop-before-smtp" if opened_window else "plaintext"


def verdict(capture: Capture, fact: Fact) -> Verdict:
    """How much of a fact the capture gives away."""
    return capture.findings[fact].verdict


def password(capture: Capture) -> Verdict:
    """How much of a password the capture gives away."""
    return verdict(capture, Fact.PASSWORD)


def in_words(capture: Capture, fact: Fact) -> str:
    """How much of a fact the capture gives away, as the reader calls it."""
    return _(verdict(capture, fact).value)


def value(capture: Capture, fact: Fact) -> str:
    """A fact as the capture gives it away. Raises Missing when it does not."""
    return known(capture.findings, fact)


def known(exposure: Exposure, fact: Fact) -> str:
    """A fact as an exposure has it. Raises Missing when it does not."""
    found = exposure[fact].value
    if not found:
        raise Missing(_("The {fact} cannot be read in this capture.").format(fact=_(fact.value)))
    return found


def login_lines(capture: Capture, mechanism: str) -> tuple[Line, ...]:
    """The first login with a mechanism: the lines from the AUTH command to its outcome. Raises Missing."""
    found = (tuple(_login(flow.lines, mechanism)) for flow in smtp_flows(capture))
    missing = _("Nobody logged in with AUTH {mechanism} in this capture.").format(mechanism=mechanism)
    return first_of(filter(None, found), missing)


def _login(lines: Sequence[Line], mechanism: str) -> Iterator[Line]:
    inside = False
    for line in lines:
        words = line.text.upper().split()
        inside = inside or (line.side is Side.CLIENT and words[:2] == ["AUTH", mechanism])
        if inside:
            yield line
            if line.side is Side.SERVER and not line.text.startswith("334"):
                return


def spans(capture: Capture, lines: Sequence[Line]) -> tuple[tuple[Span, ...], ...]:
    """The innermost spans of each of the lines, which must be of one connection."""
    holding = (flow for flow in capture.flows if set(lines) <= set(flow.lines))
    flow = first_of(holding, _("These lines are not from this capture."))
    every = {side: tuple(leaves(flow.spans(side))) for side in Side}
    return tuple(
        tuple(span for span in every[line.side] if line.start <= span.start and span.end <= line.end) for line in lines
    )


def every_span(*conversations: Dissection) -> Iterator[Span]:
    """All spans of both sides, outer ones before those inside them."""
    waiting = [
        span for talk in reversed(conversations) for side in reversed(Side) for span in reversed(talk.spans(side))
    ]
    while waiting:
        span = waiting.pop()
        yield span
        waiting.extend(reversed(span.children))


def values(talks: Iterable[Dissection], field: str) -> list[str]:
    """What a field of the spans holds in these conversations, in order."""
    return [span.value for span in every_span(*talks) if span.field == field]


def first_span(talks: Iterable[Dissection], field: str, missing: str) -> Span:
    """The first span of a field in these conversations. Raises Missing with this sentence."""
    return first_of((span for span in every_span(*talks) if span.field == field), missing)


def card(line: Line) -> str:
    """A line as it stands on a card: who says it, and what."""
    return f"{'C' if line.side is Side.CLIENT else 'S'}: {line.text}"


@dataclass(frozen=True, slots=True)
class TlsLine:
    """A TLS record: its line in the dialogue, its bytes, and the handshake messages that begin in it in the clear."""

    record: Record
    line: Line
    octets: bytes
    messages: tuple[str, ...]

    @property
    def is_alert(self) -> bool:
        """Whether it is an alert in the clear."""
        return self.record.content_type == ALERT and not self.record.encrypted


def tls_lines(capture: Capture) -> Iterator[TlsLine]:
    """The TLS records of every connection, in the order of the wire."""
    for flow in capture.flows:
        lines = {(line.side, line.start): line for line in flow.lines if line.kind is LineKind.TLS}
        for record in flow.session.records if flow.session else ():
            stream = flow.client_stream if record.side is Side.CLIENT else flow.server_stream
            begun = (span for span in leaves(flow.spans(record.side)) if span.field == "tls.handshake.type")
            messages = tuple(span.value for span in begun if record.start <= span.start < record.end)
            octets = stream.data[record.start : record.end]
            yield TlsLine(record, lines[record.side, record.start], octets, messages)


def tls_version(capture: Capture) -> str:
    """The version of the first TLS handshake, such as "TLS 1.3". Raises Missing."""
    versions = (flow.tls.version for flow in capture.flows if flow.tls)
    return first_of(filter(None, versions), _("One of these captures does not hold a TLS handshake."))


def opened(capture: Capture) -> tuple[Dissection, ...]:
    """What the keys that came with a capture open of it, a conversation for each connection. Raises Missing."""
    unlocked = capture.unlock() if capture.keylog else capture
    found = tuple(flow.opened for flow in unlocked.flows if flow.opened)
    if not found:
        raise Missing(_("No key opens this capture: record it with the provider that has keylog=True."))
    return found


def holds_a_letter(capture: Capture) -> bool:
    """Whether a client said something inside TLS that is as long as a letter, and longer than any step of a login."""
    records = (record for flow in capture.flows if flow.session for record in flow.session.records)
    return any(
        record.encrypted and record.side is Side.CLIENT and record.end - record.start > _LONGER for record in records
    )


_LONGER = 250  # octets: the last message of SCRAM has fewer, a letter with its headers more


def decoded(line: Line) -> str:
    """A line's last word with its base64 undone (RFC 4648 section 4). Raises Missing when it is none."""
    try:
        return base64.b64decode(line.text.split()[-1], validate=True).decode()
    except (IndexError, UnicodeDecodeError, binascii.Error):
        raise Missing(_("The line {line!r} holds no base64.").format(line=line.text)) from None
