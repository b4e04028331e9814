"""Fate: what became of what a client said. A login is let in or turned away, a message is taken or not.

A login is USER with PASS, APOP, or a whole AUTH exchange; a mail transaction is everything from MAIL on (RFC 5321
section 3.3). Each of them has the fate that the last reply within it decides; a command that was refused by itself has its
own. Bytes alone tell all of it, so an eavesdropper knows which of two passwords is the right one.
"""

from collections.abc import Iterator
from enum import IntEnum

from labkit.decode.lines import Reading, Role, Unit


class Fate(IntEnum):
    """How far something came, from furthest to least."""

    ACCEPTED = 0  # a login that was let in, a message that was taken
    HANDED_OVER = 1  # a message that was refused, or whose reply is not known
    BEGUN = 2  # whatever else has not been refused
    REFUSED = 3


_BEGINS = {"MAIL", "USER", "APOP", "AUTH"}
_GOES_ON = {"RCPT", "DATA", "BDAT", "PASS"}
_PROVES = {"PASS", "APOP", "AUTH"}


def fates(reading: Reading) -> list[tuple[int, int, Fate]]:
    """Bytes [start, end) of the client's stream that belong to a login or a mail transaction, and their fate; in order."""
    return [told for group in _groups(reading) for told in _told(group)]


def _told(group: list[tuple[Unit, str]]) -> Iterator[tuple[int, int, Fate]]:
    fate = _fate(*group[-1])
    for unit, code in group:
        alone = unit.role is Role.COMMAND and _refused(code)
        yield unit.start, unit.end, Fate.REFUSED if alone else fate


def _fate(last: Unit, code: str) -> Fate:
    """Of the whole, from its last unit and the code that answered it."""
    if last.role is Role.CONTENT or last.about == "BDAT":
        return Fate.ACCEPTED if code.startswith("2") else Fate.HANDED_OVER
    if last.about in _PROVES and _refused(code):
        return Fate.REFUSED
    return Fate.ACCEPTED if last.about in _PROVES and code in ("235", "+OK") else Fate.BEGUN


def _refused(code: str) -> bool:
    return code[:1] in ("4", "5", "-")


def _groups(reading: Reading) -> Iterator[list[tuple[Unit, str]]]:
    """The logins and mail transactions of a client, each with the codes that answered its units."""
    group: list[tuple[Unit, str]] = []
    for unit, code in _answered(reading):
        within = unit.about in _GOES_ON or unit.role is Role.RESPONSE
        if unit.about in _BEGINS and not within and group:
            yield group
            group = []
        if within or unit.about in _BEGINS:
            group.append((unit, code))
    if group:
        yield group


def _answered(reading: Reading) -> Iterator[tuple[Unit, str]]:
    """The client's units, each with the code of the reply to it, "" where none is known: replies come in order."""
    replies = [unit for unit in reading.server if unit.code and unit.about]
    at, code = 0, ""
    for unit in reading.client:
        if unit.role is not Role.CHUNK:  # octets that follow BDAT have the reply to it (RFC 3030 section 2)
            about = "." if unit.role is Role.CONTENT else unit.about
            known = unit.role is not Role.FRAGMENT and at < len(replies) and replies[at].about == about
            code = replies[at].code if known else ""
            at += known
        yield unit, code
