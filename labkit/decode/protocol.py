"""What a protocol is, as one record. Everything above asks the record, and names no protocol.

A protocol is a file with its record, and a line in `protocols.py`. The record says how a flow that speaks it is recognised,
how the two streams are cut into elements and spans, which commands log in and carry a message, and which spans tell which
fact. A protocol inside TLS from the first octet is a record too, made from the one in the clear (`over_tls`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from labkit.decode.lines import Command, Reading, Reply
from labkit.decode.spans import Span
from labkit.texts import N_
from labkit.wire.flows import Side, Stream


class Fact(StrEnum):
    """What somebody might learn."""

    LOGIN_NAME = N_("login name")
    PASSWORD = N_("password")
    SENDER = N_("sender")
    RECIPIENTS = N_("recipients")
    SUBJECT = N_("subject")
    TEXT = N_("text")
    ATTACHMENT = N_("attachment")
    CLIENT_NAME = N_("client name")
    SERVER_NAME = N_("server name")
    MESSAGE_SIZE = N_("message size")


class Service(StrEnum):
    """What a protocol is for."""

    SENDING = "sending"
    READING = "reading"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a protocol: in the clear, where TLS is asked for, inside TLS; and what else is usual in the clear."""

    clear: int = 0
    upgraded: int = 0
    tls: int = 0
    others: tuple[int, ...] = ()

    @property
    def in_clear(self) -> frozenset[int]:
        """Every port on which a connection begins in the clear."""
        return frozenset({self.clear, self.upgraded, *self.others}) - {0}


Spans = tuple[Span, ...]
# A message in the clear: where it begins and ends, its octets, whether its end was captured.
Measured = tuple[int, int, int, bool]


def _nothing_cut(client: Stream, server: Stream, opened: bool, greeting: bool) -> Reading:
    return Reading([], [])


def _all_tls(client: Stream, server: Stream, opened: bool, greeting: bool) -> Reading:
    return Reading([], [], 0, 0)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Protocol:
    """A protocol as the decoder knows it. The defaults are those of one that is not known.

    name, label: for programs and for people. upgrade: the command that asks for TLS.
    recognise: whether the first octets of client and server are its own; also whether the port says so.
    scan: cuts both streams into elements; told whether the connection was captured from its start, and whether the server
    speaks first. commands: lists them without the rest, where that is cheaper. spans: of both sides, up to where TLS begins.
    begins, continues: verbs with which a login or a mail transaction begins and goes on. proves: verbs that log in. carries:
    verbs that bring a message, or a part of it, themselves.
    accepts, refuses: how a reply begins that does.
    personal: verbs whose lines are about people. offers: what an answer begins with that tells what can be asked for.
    facts: the spans' fields that tell a fact, the best first. sender: who sends the messages.
    measure: the messages in a side's spans. other_messages: where a span starts that tells of a message nobody asked for.
    """

    name: str
    label: str
    service: Service = Service.OTHER
    ports: Ports = Ports()
    upgrade: str = ""
    inside: "Protocol | None" = None  # what is spoken inside TLS from the first octet

    recognise: Callable[[bytes, bytes, bool], bool] = lambda client, server, expected: False
    scan: Callable[[Stream, Stream, bool, bool], Reading] = _nothing_cut
    commands: Callable[[Stream, Stream, bool, bool], tuple[Command, ...]] | None = None
    replies: Callable[[Stream, Reading], tuple[Reply, ...]] = lambda server, reading: ()
    spans: Callable[[bytes, bytes, Reading], tuple[Spans, Spans]] = lambda client, server, reading: ((), ())

    begins: frozenset[str] = frozenset()
    continues: frozenset[str] = frozenset()
    proves: frozenset[str] = frozenset()
    carries: frozenset[str] = frozenset()
    accepts: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    personal: frozenset[str] = frozenset()
    offers: tuple[str, ...] = ()

    facts: Mapping[Fact, tuple[str, ...]] = field(default_factory=dict)
    sender: Side = Side.CLIENT
    measure: Callable[[Spans], Iterator[Measured]] = lambda spans: iter(())
    other_messages: Callable[[tuple[Command, ...], Iterable[Span]], frozenset[int]] = lambda commands, spans: (
        frozenset()
    )

    @cached_property
    def over_tls(self) -> "Protocol":
        """The same protocol inside TLS from the first octet: nothing of it can be seen, and everything else holds."""
        nothing = Protocol(name="", label="")
        hidden = {name: getattr(nothing, name) for name in ("recognise", "commands", "replies", "spans")}
        return replace(self, name=f"{self.name}s", label=f"{self.label}S", inside=self, scan=_all_tls, **hidden)

    @property
    def is_tls(self) -> bool:
        """Whether TLS begins with the first octet."""
        return self.scan is _all_tls

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Protocol {self.name}>"


TLS = Protocol(name="tls", label="TLS", scan=_all_tls)
UNKNOWN = Protocol(name="unknown", label="")
