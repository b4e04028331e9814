"""Every byte of a TLS stream explained: record, handshake message, extension, field."""

from labkit.decode.spans import Span, Visibility
from labkit.decode.tls_names import CONTENT_TYPES
from labkit.decode.tls_records import HEADER, UNREADABLE, Message, RawRecord
from labkit.texts import _
from labkit.wire.flows import Stream


def stream_spans(
    stream: Stream, records: list[RawRecord], encrypted: set[int], clear: list[Message], tls13: bool
) -> tuple[Span, ...]:
    """One span for each record; they cover the stream from the first record on."""
    spans: list[Span] = []
    for record in records:
        hidden = record.start in encrypted
        visibility = Visibility.HIDDEN if hidden else Visibility.HANDSHAKE
        if record.content_type == UNREADABLE:
            spans.append(
                Span(record.start, record.end, "tls.unreadable", meaning=_("These bytes are not a TLS record."))
            )
            continue
        body = min(record.start + HEADER, record.end)
        children = [Span(record.start, body, "tls.record.header", source="RFC 8446 section 5.1")]
        if body < record.end:
            children.append(Span(body, record.end, "tls.record.payload", visibility=visibility))
        name = CONTENT_TYPES[record.content_type]
        spans.append(
            Span(record.start, record.end, "tls.record", name, visibility=visibility, children=tuple(children))
        )
    return tuple(spans)
