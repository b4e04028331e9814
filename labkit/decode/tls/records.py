"""The record layer of TLS (RFC 8446 section 5.1, RFC 5246 section 6.2): a stream becomes records, records become messages.

Everything TLS says travels in records: one octet of type, two of version, two of length, then the payload. Handshake
messages are a stream of their own inside the records of type handshake: one record may hold several messages, one message
may need several records. Octets that the capture lost are counted (`missing`); where that leaves no way to tell where the
next record begins, the bytes up to the next plausible header are a record of type UNREADABLE.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from labkit.decode.tls.names import CHANGE_CIPHER_SPEC, CONTENT_TYPES, HANDSHAKE
from labkit.wire.flows import Stream
from labkit.wire.ordering import Gap

UNREADABLE = -1
HEADER = 5
LONGEST = (1 << 14) + 2048  # RFC 5246 section 6.2.3 allows this much; RFC 8446 section 5.2 less


@dataclass(frozen=True, slots=True)
class RawRecord:
    """Bytes [start, end) of a stream; the payload begins HEADER later.

    missing: octets of it that were not captured; the bytes before `intact` follow each other without a hole.
    """

    start: int
    end: int
    content_type: int
    version: int = 0
    missing: int = 0
    intact: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, end) of a stream are the bytes of a message from `offset` on; `record` counts the side's records."""

    record: int
    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """A handshake message with its 4-octet header, as far as it was captured."""

    kind: int
    data: bytes
    pieces: tuple[Piece, ...]


def plausible_header(data: bytes, at: int = 0) -> bool:
    """Whether a record header could begin at `at`; with fewer than five octets left, as far as they go."""
    head = data[at : at + HEADER]
    return (
        bool(head)
        and head[0] in CONTENT_TYPES
        and head[1:2] in (b"\x03", b"")
        and head[2:3] <= b"\x04"
        and int.from_bytes(head[3:5], "big") <= LONGEST
    )


def cut_records(stream: Stream, start: int) -> list[RawRecord]:
    """The records of stream.data[start:]; together they cover it. Linear in its length."""
    data, gaps = stream.data, [gap for gap in stream.gaps if gap.at > start]
    records: list[RawRecord] = []
    position, passed = max(start, 0), 0
    while position < len(data):
        while passed < len(gaps) and gaps[passed].at <= position:
            passed += 1
        stop = min(gaps[passed].at, len(data)) if passed < len(gaps) else len(data)
        if stop - position < HEADER or not plausible_header(data, position):
            end = _next_header(data, position + 1, stop)
            records.append(RawRecord(position, end, UNREADABLE, intact=end))
        else:
            version, length = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (1, 3))
            end, missing = _record_end(position, HEADER + length, islice(gaps, passed, None), len(data))
            records.append(RawRecord(position, end, data[position], version, missing, min(end, stop)))
        position = end
    return records


def _record_end(start: int, octets: int, gaps: Iterable[Gap], size: int) -> tuple[int, int]:
    """Where a record of so many octets on the wire ends in the captured bytes, and how many octets are missing."""
    position, missing = start, 0
    for gap in gaps:
        if gap.at - position >= octets:
            break
        octets -= gap.at - position
        position = gap.at
        lost = min(gap.length, octets)
        missing += lost
        octets -= lost
        if not octets:
            return position, missing
    end = min(position + octets, size)
    return end, missing + position + octets - end


def _next_header(data: bytes, position: int, stop: int) -> int:
    """The first position from which a record, and the header after it, look right; `stop` when there is none."""
    while position < stop - HEADER:
        if data[position + 1] == 3 and plausible_header(data, position):
            after = position + HEADER + int.from_bytes(data[position + 3 : position + 5], "big")
            if after >= stop or plausible_header(data, after):
                return position
        position += 1
    return stop


def messages(stream: Stream, records: Iterable[tuple[int, RawRecord]]) -> list[HandshakeMessage]:
    """The handshake messages in these (number, record) pairs; others than clear handshake records only end a message.

    ChangeCipherSpec may stand between two fragments only in error, so a message begun before it is left as it is.
    """
    found: list[HandshakeMessage] = []
    data = bytearray()
    pieces: list[Piece] = []

    def finish() -> None:
        if data:
            found.append(HandshakeMessage(data[0], bytes(data), tuple(pieces)))
            data.clear()
            pieces.clear()

    for number, record in records:
        if record.content_type != HANDSHAKE:
            if record.content_type in (CHANGE_CIPHER_SPEC, UNREADABLE):
                finish()
            continue
        position = record.start + HEADER
        while position < record.intact:
            header = data[:4] + stream.data[position : min(position + max(4 - len(data), 0), record.intact)]
            wanted = 4 + (int.from_bytes(header[1:4], "big") if len(header) == 4 else 0) - len(data)
            end = min(position + wanted, record.intact)
            pieces.append(Piece(number, position, end, len(data)))
            data += stream.data[position:end]
            position = end
            if len(header) == 4 and len(data) == 4 + int.from_bytes(header[1:4], "big"):
                finish()
        if record.missing:
            finish()
    finish()
    return found
