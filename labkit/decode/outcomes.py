"""Outcome: what became of what a client said. A login or a message is accepted or refused.

A login is USER with PASS, APOP, or a whole AUTH exchange; a mail transaction is everything from MAIL on (RFC 5321
section 3.3). The last reply within it decides the outcome of each; a command that was refused by itself has its own. Bytes
alone tell all of it, so an eavesdropper knows which of two passwords is the right one.
"""

from collections.abc import Iterator
from enum import IntEnum

from labkit.decode.lines import Element, ElementKind, Reading
from labkit.decode.protocol import Protocol


class Outcome(IntEnum):
    """How far something came, from furthest to least."""

    ACCEPTED = 0  # a login or a message
    HANDED_OVER = 1  # a message that was refused, or whose reply is not known
    BEGUN = 2  # whatever else has not been refused
    REFUSED = 3


Answered = tuple[Element, str]  # what the client said, and the code that answered it, "" where none is known


def outcomes(protocol: Protocol, reading: Reading) -> list[tuple[int, int, Outcome]]:
    """Bytes [start, end) of the client's stream that are of a login or a mail transaction, and their outcome; in order."""
    return [told for group in _groups(protocol, reading) for told in _told(protocol, group)]


def _told(protocol: Protocol, group: list[Answered]) -> Iterator[tuple[int, int, Outcome]]:
    outcome = _outcome(protocol, *group[-1])
    for element, code in group:
        alone = element.kind is ElementKind.COMMAND and code.startswith(protocol.refuses)
        yield element.start, element.end, Outcome.REFUSED if alone else outcome


def _outcome(protocol: Protocol, last: Element, code: str) -> Outcome:
    """Of the whole, from its last element and the code that answered it."""
    if last.kind in (ElementKind.CONTENT, ElementKind.CHUNK) or last.about in protocol.carries:
        return Outcome.ACCEPTED if code.startswith(protocol.accepts) else Outcome.HANDED_OVER
    if last.about in protocol.proves and code.startswith((*protocol.accepts, *protocol.refuses)):
        return Outcome.ACCEPTED if code.startswith(protocol.accepts) else Outcome.REFUSED
    return Outcome.BEGUN


def _groups(protocol: Protocol, reading: Reading) -> Iterator[list[Answered]]:
    """The logins and mail transactions of a client, each with the codes that answered its elements."""
    group: list[Answered] = []
    for element, code in _answered(reading):
        within = element.about in protocol.continues or element.kind is ElementKind.RESPONSE
        if element.about in protocol.begins and not within and group:
            yield group
            group = []
        if within or element.about in protocol.begins:
            group.append((element, code))
    if group:
        yield group


def _answered(reading: Reading) -> Iterator[Answered]:
    """The client's elements, each with the code of the reply to it: replies come in order."""
    replies = [element for element in reading.server if element.code and element.about]
    at, code = 0, ""
    for element in reading.client:
        if element.kind is not ElementKind.CHUNK:  # octets that follow BDAT have the reply to it (RFC 3030 section 2)
            about = "." if element.kind is ElementKind.CONTENT else element.about
            known = element.kind is not ElementKind.FRAGMENT and at < len(replies) and replies[at].about == about
            code = replies[at].code if known else ""
            at += known
        yield element, code
