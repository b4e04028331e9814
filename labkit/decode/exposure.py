"""Exposure: what an eavesdropper learns, computed from the wire alone.

For each fact about a mail exchange there is a verdict, the value where it can be had, and the packet and bytes that gave
it away. Nothing here may know what the lab knows: it sees conversations without a key, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from labkit.wire.flows import Side


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
