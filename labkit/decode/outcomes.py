"""Outcome: what became of what a client said. A login is let in or turned away, a message is taken or not.

A login is USER with PASS, APOP, or a whole AUTH exchange; a mail transaction is everything from MAIL on (RFC 5321
section 3.3). The last reply within it decides the outcome of each; a command that was refused by itself has its own. Bytes
alone tell all of it, so an eavesdropper knows which of two passwords is the right one.
"""

from collections.abc import Iterator
from enum import IntEnum

from labkit.decode.lines import Element, ElementKind, Reading


class Outcome(IntEnum):
    """How far something came, from furthest to least."""

    ACCEPTED = 0  # a login that was let in, a message that was taken
    HANDED_OVER = 1  # a message that was refused, or whose reply is not known
    BEGUN = 2  # whatever else has not been refused
    REFUSED = 3


_BEGINS = {"MAIL", "USER", "APOP", "AUTH"}
_GOES_ON = {"RCPT", "DATA", "BDAT", "PASS"}
_PROVES = {"PASS", "APOP", "AUTH"}


def outcomes(reading: Reading) -> list[tuple[int, int, Outcome]]:
    """Bytes [start, end) of the client's stream that are of a login or a mail transaction, and their outcome; in order."""
    return [told for group in _groups(reading) for told in _told(group)]


def _told(group: list[tuple[Element, str]]) -> Iterator[tuple[int, int, Outcome]]:
    outcome = _outcome(*group[-1])
    for element, code in group:
        alone = element.kind is ElementKind.COMMAND and _refused(code)
        yield element.start, element.end, Outcome.REFUSED if alone else outcome


def _outcome(last: Element, code: str) -> Outcome:
    """Of the whole, from its last element and the code that answered it."""
    if last.kind is ElementKind.CONTENT or last.about == "BDAT":
        return Outcome.ACCEPTED if code.startswith("2") else Outcome.HANDED_OVER
    if last.about in _PROVES and _refused(code):
        return Outcome.REFUSED
    return Outcome.ACCEPTED if last.about in _PROVES and code in ("235", "+OK") else Outcome.BEGUN


def _refused(code: str) -> bool:
    return code[:1] in ("4", "5", "-")


def _groups(reading: Reading) -> Iterator[list[tuple[Element, str]]]:
    """The logins and mail transactions of a client, each with the codes that answered its elements."""
    group: list[tuple[Element, str]] = []
    for element, code in _answered(reading):
        within = element.about in _GOES_ON or element.kind is ElementKind.RESPONSE
        if element.about in _BEGINS and not within and group:
            yield group
            group = []
        if within or element.about in _BEGINS:
            group.append((element, code))
    if group:
        yield group


def _answered(reading: Reading) -> Iterator[tuple[Element, str]]:
    """The client's elements, each with the code of the reply to it, "" where none is known: replies come in order."""
    replies = [element for element in reading.server if element.code and element.about]
    at, code = 0, ""
    for element in reading.client:
        if element.kind is not ElementKind.CHUNK:  # octets that follow BDAT have the reply to it (RFC 3030 section 2)
            about = "." if element.kind is ElementKind.CONTENT else element.about
            known = element.kind is not ElementKind.FRAGMENT and at < len(replies) and replies[at].about == about
            code = replies[at].code if known else ""
            at += known
        yield element, code
