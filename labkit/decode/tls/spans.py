"""Every byte of a TLS stream explained: the records tile the stream, and what they carry is explained inside them.

A handshake message is explained as a whole first, counting from its own first byte, and then laid over the records that
carried it. Where a message, or a field of it, is split between records, each record shows its part and says so.
"""

from dataclasses import replace

from labkit.decode.fields import Cutter, how_long, octets
from labkit.decode.meanings import meaning_of
from labkit.decode.spans import Span, Visibility, window
from labkit.decode.tls import names
from labkit.decode.tls.handshake import Context, message_span
from labkit.decode.tls.names import naming, version_name
from labkit.decode.tls.records import HEADER, UNREADABLE, HandshakeMessage, RawRecord
from labkit.texts import _
from labkit.wire.flows import Stream


def stream_spans(
    stream: Stream, records: list[RawRecord], encrypted: set[int], clear: list[HandshakeMessage], context: Context
) -> tuple[Span, ...]:
    """One span for each record; they cover the stream from the first record on.

    encrypted: where the encrypted records start. clear: the messages in the others.
    """
    parts: dict[int, list[Span]] = {}
    for message in clear:
        whole = message_span(message.data, context)
        for piece in message.pieces:
            end = piece.offset + piece.end - piece.start
            parts.setdefault(piece.record, []).extend(
                window([whole], piece.offset, end, piece.start - piece.offset, _meaning)
            )
    return tuple(
        _record(stream.data, record, record.start in encrypted, parts.get(number, []), context)
        for number, record in enumerate(records)
    )


def handshake_spans(stream: Stream, context: Context) -> tuple[Span, ...]:
    """The messages of a stream of handshake bytes that a key log opened; HIDDEN, because only the two ends read them."""
    spans: list[Span] = []
    position = 0
    while position < len(stream.data):
        end = min(position + 4 + int.from_bytes(stream.data[position + 1 : position + 4], "big"), len(stream.data))
        span = message_span(stream.data[position:end], context)
        spans.append(_hidden(span.shifted(position)))
        position = end
    return tuple(spans)


def _hidden(span: Span) -> Span:
    return replace(span, visibility=Visibility.HIDDEN, children=tuple(_hidden(child) for child in span.children))


def _meaning(span: Span, first: int, last: int) -> str:
    """What [first, last) of a message's span means; that the rest is in other records, where there is one."""
    if (first, last) == (span.start, span.end):
        return span.meaning
    part = _("This record holds bytes {first} to {last} of its {count}.").format(
        first=first - span.start + 1, last=last - span.start, count=span.end - span.start
    )
    return f"{span.meaning} {part}".strip()


def _record(data: bytes, record: RawRecord, hidden: bool, parts: list[Span], context: Context) -> Span:
    if record.content_type == UNREADABLE:
        return Span(record.start, record.end, "tls.unreadable", "", *meaning_of("tls.unreadable"))
    cut = Cutter(data, record.start, record.end, "RFC 8446 section 5.1")

    def inside(inner: Cutter) -> str:
        show = Visibility.HANDSHAKE
        inner.group(HEADER, "tls.record.header", lambda head: _header(head, hidden, context), visibility=show)
        if parts:
            inner.spans += parts
            inner.position = parts[-1].end
        elif hidden:
            _sealed(inner, context)
        elif record.content_type in _PAYLOADS:
            _PAYLOADS[record.content_type](inner)
        inner.rest("tls.record.payload", meaning=_lost(record) if record.missing else "")
        return names.CONTENT_TYPES[record.content_type]

    visibility = Visibility.HIDDEN if hidden else Visibility.HANDSHAKE
    meaning = _("A TLS record.")
    if record.missing:
        meaning = f"{meaning} {_lost(record)}"
    cut.group(record.end - record.start, "tls.record", inside, visibility=visibility, meaning=meaning)
    return cut.spans[0]


def _lost(record: RawRecord) -> str:
    return _("The capture lacks {size} of this record.").format(size=octets(record.missing))


def _header(cut: Cutter, hidden: bool, context: Context) -> str:
    kind = _("What the record carries.")
    if hidden and context.tls13:
        kind = _("TLS 1.3 calls every encrypted record application data; the true type is encrypted.")
    cut.number(1, "tls.record.type", naming(names.CONTENT_TYPES, 2), meaning=kind)
    cut.number(2, "tls.record.version", version_name)
    cut.number(2, "tls.record.length")
    return ""


def _sealed(cut: Cutter, context: Context) -> None:
    """The payload of an encrypted record; up to TLS 1.2 some suites send a nonce or an IV before it in clear."""
    if "_NULL_" in context.suite:
        cut.take(cut.left, "tls.record.unencrypted", visibility=Visibility.READABLE)
        return
    if not context.tls13 and ("_GCM_" in context.suite or "_CCM" in context.suite):
        cut.take(8, "tls.record.nonce", visibility=Visibility.READABLE)
    elif "_CBC_" in context.suite and context.version >= 0x0302:
        size = 8 if "DES" in context.suite or "IDEA" in context.suite or "RC2" in context.suite else 16
        cut.take(size, "tls.record.iv", visibility=Visibility.READABLE)
    cut.take(cut.left, "tls.record.encrypted", how_long, visibility=Visibility.HIDDEN)


def _alert(cut: Cutter) -> None:
    cut.number(1, "tls.alert.level", naming(names.ALERT_LEVELS, 2))
    cut.number(1, "tls.alert.description", naming(names.ALERTS, 2))


def _change_cipher_spec(cut: Cutter) -> None:
    cut.number(1, "tls.change_cipher_spec")


_PAYLOADS = {names.ALERT: _alert, names.CHANGE_CIPHER_SPEC: _change_cipher_spec}
