"""A conversation: one flow, understood. Commands, replies, lines in the order of the wire, TLS, and spans for every byte.

`converse` finds the protocol (by content, then by port; `protocol` overrules both), lets the decoder of that protocol
read the two streams, and hands the rest to TLS where an upgrade happened.
"""

from dataclasses import dataclass
from enum import StrEnum

from labkit.decode.spans import Span, Visibility
from labkit.wire.flows import Flow, Side


class Protocol(StrEnum):
    """What a flow speaks."""

    SMTP = "smtp"
    POP3 = "pop3"
    SMTPS = "smtps"
    POP3S = "pop3s"
    TLS = "tls"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What a line of the dialogue is."""

    COMMAND = "command"
    REPLY = "reply"
    AUTH = "auth"  # a step of an authentication exchange: challenge or response
    MESSAGE = "message"  # mail content: DATA, BDAT, RETR, TOP
    LISTING = "listing"  # a multiline answer that is not mail: LIST, UIDL, CAPA
    TLS = "tls"  # a TLS record or handshake message
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the dialogue: bytes [start, end) of a side's stream, as text.

    text: for a person, without the line end, unescaped; for TLS what an eavesdropper can say of it.
    inside_tls: it was opened with a key log, and start and end count in the opened stream.
    """

    side: Side
    kind: Kind
    start: int
    end: int
    text: str
    visibility: Visibility
    packet: int
    time: int
    inside_tls: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the client sent it; verb in upper case, argument as sent."""

    verb: str
    argument: str
    packet: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: SMTP's three digits or POP3's "+OK", "-ERR" and "+"; text joined with newlines when it has several lines."""

    code: str
    text: str
    packet: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tls:
    """What the handshake shows to everybody. started: "implicit", or the command that asked for it (STARTTLS, STLS)."""

    version: str | None
    cipher: str | None
    server_name: str | None
    started: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One flow, understood. `opened` holds what a key log opened of its TLS part, as a conversation of its own."""

    flow: Flow
    protocol: Protocol
    lines: tuple[Line, ...]
    commands: tuple[Command, ...]
    replies: tuple[Reply, ...]
    tls: Tls | None
    client_spans: tuple[Span, ...]
    server_spans: tuple[Span, ...]
    opened: "Conversation | None" = None
