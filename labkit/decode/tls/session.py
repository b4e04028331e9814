"""TLS as somebody on the way sees it: the records of both sides, what the clear handshake tells, and where secrecy begins.

`read` never fails: it explains what is there. Up to TLS 1.2 a side's records are encrypted after its ChangeCipherSpec; in
TLS 1.3 everything after the hellos is, and even the record type is disguised as application data. An eavesdropper then
infers: what the server sends before the client's first encrypted record, and that record, finish the handshake.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from labkit.decode.fields import octets
from labkit.decode.spans import Span
from labkit.decode.tls import names
from labkit.decode.tls.handshake import Context
from labkit.decode.tls.hello import EARLY_DATA, SUPPORTED_VERSIONS, Hello, is_tls13, parse_hello
from labkit.decode.tls.names import name_of, suite_name, version_name
from labkit.decode.tls.records import (
    HEADER,
    UNREADABLE,
    HandshakeMessage,
    RawRecord,
    cut_records,
    messages,
    plausible_header,
)
from labkit.decode.tls.spans import stream_spans
from labkit.texts import _
from labkit.wire.flows import Side, Stream


@dataclass(frozen=True, slots=True)
class Record:
    """A TLS record: bytes [start, end) of a side's stream, header included.

    content_type: as the header says, -1 for bytes that are no record. about: a few words for a line of the dialogue.
    encrypted: the payload is. application: it carries application data, as far as an eavesdropper can infer.
    missing: octets of the record that the capture does not have.
    """

    side: Side
    start: int
    end: int
    content_type: int
    about: str
    encrypted: bool
    application: bool
    missing: int = 0


@dataclass(frozen=True)
class TlsSession:
    """What the TLS part of a flow shows to everybody. Spans are built when first asked for.

    version, cipher: None until a ServerHello was seen. server_name: what the client asked for.
    """

    version: str | None
    cipher: str | None
    server_name: str | None
    client_random: bytes
    records: tuple[Record, ...]
    client_hello: Hello | None = field(repr=False)
    server_hello: Hello | None = field(repr=False)
    client: Stream = field(repr=False)
    server: Stream = field(repr=False)
    client_start: int = 0
    server_start: int = 0

    @cached_property
    def client_spans(self) -> tuple[Span, ...]:
        """Every byte of the client's stream from client_start on."""
        return self._spans(self.client, self.client_start)

    @cached_property
    def server_spans(self) -> tuple[Span, ...]:
        """Every byte of the server's stream from server_start on."""
        return self._spans(self.server, self.server_start)

    def _spans(self, stream: Stream, start: int) -> tuple[Span, ...]:
        records = cut_records(stream, start)
        encrypted = {record.start for record in self.records if record.side is stream.side and record.encrypted}
        clear = messages(stream, _clear(records, encrypted))
        return stream_spans(stream, records, encrypted, clear, self.context)

    @property
    def context(self) -> Context:
        """What the format of its handshake messages depends on."""
        chosen = self.server_hello.chosen_version if self.server_hello else 0
        return Context(chosen, self.cipher or "")


def looks_like_tls(data: bytes) -> bool:
    """Whether a stream that begins with these bytes speaks TLS (or what was captured of it begins at a record)."""
    if len(data) < HEADER or not plausible_header(data):
        return False
    after = HEADER + int.from_bytes(data[3:5], "big")
    return after >= len(data) or plausible_header(data, after)


def read(client: Stream, server: Stream, client_start: int = 0, server_start: int = 0) -> TlsSession:
    """The TLS session in the two streams from these positions on. Never raises, whatever the bytes."""
    client_raw, server_raw = cut_records(client, client_start), cut_records(server, server_start)
    client_hello = _first_hello(client, client_raw, names.CLIENT_HELLO)
    server_hello = _first_hello(server, server_raw, names.SERVER_HELLO)
    chosen = server_hello.chosen_version if server_hello else None
    tls13 = is_tls13(chosen) if chosen is not None else _offers_tls13(client_hello)
    sides = [
        _Side(client, client_raw, _encrypted(client_raw, tls13)),
        _Side(server, server_raw, _encrypted(server_raw, tls13)),
    ]
    early = client_hello is not None and client_hello.extension(EARLY_DATA) is not None
    return TlsSession(
        version=version_name(chosen) if chosen is not None else None,
        cipher=suite_name(server_hello.suites[0]) if server_hello and server_hello.suites else None,
        server_name=client_hello.server_name if client_hello else None,
        client_random=client_hello.random if client_hello else b"",
        records=tuple(_records(sides, tls13, early)),
        client_hello=client_hello,
        server_hello=server_hello,
        client=client,
        server=server,
        client_start=client_start,
        server_start=server_start,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    stream: Stream
    raw: list[RawRecord]
    encrypted: set[int]  # where an encrypted record starts


def _first_hello(stream: Stream, records: list[RawRecord], kind: int) -> Hello | None:
    """The first hello in clear. A HelloRetryRequest chooses the version and suite that the ServerHello repeats."""
    first = messages(stream, _clear(records, _encrypted(records, False)))
    found = next((message for message in first if message.kind == kind), None)
    return parse_hello(found.data, kind == names.CLIENT_HELLO) if found else None


def _offers_tls13(hello: Hello | None) -> bool:
    return (
        hello is not None
        and hello.extension(SUPPORTED_VERSIONS) is not None
        and any(is_tls13(version) for version in hello.offered_versions)
    )


def _encrypted(records: list[RawRecord], tls13: bool) -> set[int]:
    """Where the encrypted records of a side start."""
    found: set[int] = set()
    changed = False
    for record in records:
        kind = record.content_type
        if kind == names.APPLICATION_DATA or (changed and kind != UNREADABLE):
            found.add(record.start)
        elif kind == names.CHANGE_CIPHER_SPEC and not tls13:
            changed = True
    return found


def _clear(records: list[RawRecord], encrypted: set[int]) -> Iterator[tuple[int, RawRecord]]:
    return ((number, record) for number, record in enumerate(records) if record.start not in encrypted)


def _records(sides: list[_Side], tls13: bool, early: bool) -> Iterator[Record]:
    """All records in the order of the wire, with what an eavesdropper can say of each."""
    words = [_message_words(side) for side in sides]
    answered = client_finished = False
    for which, number in _wire_order(sides):
        side, raw = sides[which], sides[which].raw[number]
        encrypted = raw.start in side.encrypted
        application = encrypted and raw.content_type == names.APPLICATION_DATA
        if tls13 and application:
            if side.stream.side is Side.SERVER or (early and not answered):
                application = client_finished or side.stream.side is Side.CLIENT
            else:
                application, client_finished = client_finished, True
        answered = answered or side.stream.side is Side.SERVER
        about = _about(side.stream, raw, words[which].get(number, []), encrypted, application, tls13)
        yield Record(side.stream.side, raw.start, raw.end, raw.content_type, about, encrypted, application, raw.missing)


def _wire_order(sides: list[_Side]) -> list[tuple[int, int]]:
    """(side, number of the record) by the packet that brought the record's first byte; a side's own order always holds."""
    keyed: list[tuple[int, int, int]] = []
    for which, side in enumerate(sides):
        packet = 0
        for number, record in enumerate(side.raw):
            packet = max(packet, side.stream.packet_at(record.start))
            keyed.append((packet, which, number))
    return [(which, number) for _packet, which, number in sorted(keyed)]


def _message_words(side: _Side) -> dict[int, list[str]]:
    """For each record by number: its handshake messages in words."""
    words: dict[int, list[str]] = {}
    for message in messages(side.stream, _clear(side.raw, side.encrypted)):
        for piece in message.pieces:
            text = describe(message) if piece.offset == 0 else _("{message}, continued").format(message=_name(message))
            words.setdefault(piece.record, []).append(text)
    return words


def _name(message: HandshakeMessage) -> str:
    return name_of(names.HANDSHAKE_TYPES, message.kind, 2)


def describe(message: HandshakeMessage) -> str:
    """A handshake message in a few words: its name, and for the hellos what they say."""
    hello = (
        parse_hello(message.data, message.kind == names.CLIENT_HELLO)
        if message.kind in (names.CLIENT_HELLO, names.SERVER_HELLO)
        else None
    )
    if hello is None:
        return _name(message)
    if message.kind == names.SERVER_HELLO:
        name = "HelloRetryRequest" if hello.retry else "ServerHello"
        suite = suite_name(hello.suites[0]) if hello.suites else "?"
        return _("{message}, {version}, {suite}").format(
            message=name, version=version_name(hello.chosen_version), suite=suite
        )
    best = version_name(max(hello.offered_versions, default=hello.version))
    if hello.server_name is None:
        return _("ClientHello, no server name, {version} offered").format(version=best)
    return _("ClientHello, server name {name}, {version} offered").format(name=hello.server_name, version=best)


def _about(stream: Stream, raw: RawRecord, words: list[str], encrypted: bool, application: bool, tls13: bool) -> str:
    payload = stream.data[raw.start + HEADER : raw.end]
    kind = raw.content_type
    if kind == UNREADABLE:
        return _("not a TLS record: {size}").format(size=octets(raw.end - raw.start))
    if application:
        size = len(payload) + raw.missing
        return _("application data, 1 byte") if size == 1 else _("application data, {count} bytes").format(count=size)
    if encrypted:
        kinds = {names.HANDSHAKE: _("encrypted handshake message"), names.ALERT: _("encrypted alert")}
        return kinds.get(kind, _("encrypted handshake") if tls13 else _("encrypted record"))
    if kind == names.ALERT and len(payload) >= 2:
        return _("alert: {level}, {description}").format(
            level=name_of(names.ALERT_LEVELS, payload[0], 2), description=name_of(names.ALERTS, payload[1], 2)
        )
    if kind == names.CHANGE_CIPHER_SPEC:
        return _("ChangeCipherSpec, which TLS 1.3 ignores") if tls13 else "ChangeCipherSpec"
    return ", ".join(words) or names.CONTENT_TYPES[kind]
