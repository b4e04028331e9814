"""Opening TLS records with the keys that one of the two ends wrote into an NSS key log (SSLKEYLOGFILE).

A key log names each session by its ClientHello's random. From its secrets follow the keys of both directions: one pair up
to TLS 1.2 (RFC 5246 section 6.3), a chain of them in TLS 1.3 (RFC 8446 section 7): early data, handshake, application
data, and a new one after each KeyUpdate. A record that the present key does not open was sealed with a later one of the
chain, or stays hidden; since every cipher here authenticates what it opens, nothing is ever opened wrongly.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from labkit.decode.fields import octets
from labkit.decode.tls.ciphers import Opener, suite_of, tls12_opener, tls13_openers
from labkit.decode.tls.hello import is_tls13
from labkit.decode.tls.names import APPLICATION_DATA, HANDSHAKE, suite_name
from labkit.decode.tls.records import HEADER
from labkit.decode.tls.session import TlsSession
from labkit.errors import BadKeyLog
from labkit.texts import _
from labkit.wire.flows import Segment, Side, Stream
from labkit.wire.ordering import Gap

MASTER_SECRET = "CLIENT_RANDOM"
LABELS = frozenset(
    {
        MASTER_SECRET,
        "CLIENT_EARLY_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    }
)
_CHAIN = {
    Side.CLIENT: ("CLIENT_EARLY_TRAFFIC_SECRET", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"),
    Side.SERVER: ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"),
}
_LINE = re.compile(r"([A-Z][A-Z0-9_]*) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2})+)")
_SKIPPED = 64  # how many records a hole in the capture may have swallowed and the sequence number still be found


@dataclass(frozen=True, slots=True)
class KeyLog:
    """The secrets of a key log by label and client random. Its text face never shows them."""

    secrets: Mapping[tuple[str, bytes], bytes] = field(repr=False)

    def secret(self, label: str, client_random: bytes) -> bytes | None:
        """The secret that the log holds for a session; None when it holds none."""
        return self.secrets.get((label, client_random))


@dataclass(frozen=True, slots=True)
class Opened:
    """What a key log opened.

    client, server: the application data; each segment carries the packet and time that its record began in; a gap stands
    for application data that stayed hidden. client_handshake, server_handshake: the handshake messages that travelled
    encrypted. hidden: (side, where the record starts, why it could not be opened).
    """

    client: Stream
    server: Stream
    hidden: tuple[tuple[Side, int, str], ...]
    client_handshake: Stream
    server_handshake: Stream


def parse_keylog(text: str) -> KeyLog:
    """The secrets in an NSS key log. Comments, unknown labels and damaged lines are passed over.

    Raises BadKeyLog when there is not a single usable line.
    """
    secrets: dict[tuple[str, bytes], bytes] = {}
    complaint = _("The key log is empty")
    doubtful = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found and found[1] in LABELS:
            secrets[found[1], bytes.fromhex(found[2])] = bytes.fromhex(found[3])
        elif not doubtful:
            doubtful = number
            complaint = _("Line {number} of the key log holds no key that can be used").format(number=number)
    if not secrets:
        raise BadKeyLog(
            _(
                "{complaint}: expected lines such as “CLIENT_RANDOM”, a space, 64 hexadecimal digits, a space and the "
                "secret in hexadecimal; give the file that a TLS client or server wrote when SSLKEYLOGFILE was set."
            ).format(complaint=complaint)
        )
    return KeyLog(secrets)


def open_session(session: TlsSession, client: Stream, server: Stream, keylog: KeyLog) -> Opened:
    """Open what the key log opens of a session that `tls.read` found in these streams. Never raises."""
    hidden: list[tuple[Side, int, str]] = []
    client_data, client_handshake = _open_side(session, client, keylog, hidden)
    server_data, server_handshake = _open_side(session, server, keylog, hidden)
    return Opened(client_data, server_data, tuple(hidden), client_handshake, server_handshake)


class _Plaintext:
    """Opened bytes, growing; becomes a Stream."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.segments: list[Segment] = []
        self.gaps: list[Gap] = []
        self.length = 0

    def add(self, data: bytes, packet: int, time: int) -> None:
        if data:
            self.segments.append(Segment(packet, time, self.length, self.length + len(data)))
            self.parts.append(data)
            self.length += len(data)

    def miss(self, octets: int) -> None:
        self.gaps.append(Gap(self.length, octets))

    def stream(self, side: Side) -> Stream:
        return Stream(side, b"".join(self.parts), tuple(self.segments), tuple(self.gaps))


def _open_side(
    session: TlsSession, stream: Stream, keylog: KeyLog, hidden: list[tuple[Side, int, str]]
) -> tuple[Stream, Stream]:
    """One side's application data and handshake messages; what stays hidden goes to `hidden` with the reason."""
    records = [record for record in session.records if record.side is stream.side]
    chain, reason = _openers(session, stream.side, keylog)
    plaintext = {APPLICATION_DATA: _Plaintext(), HANDSHAKE: _Plaintext()}
    previous_end = records[0].start if records else 0
    for record in records:
        if chain and (record.missing or record.content_type < 0 or _gap_between(stream, previous_end, record.start)):
            chain.doubt()
        previous_end = record.end
        if not record.encrypted:
            continue
        why = reason
        if chain and record.missing:
            why = _("The capture lacks {size} of this record, and a record opens whole or not at all.")
            why = why.format(size=octets(record.missing))
        elif chain:
            content_type, data = chain.open(stream.data, record.start, record.end)
            if content_type in plaintext:
                packet, time = _where(stream, record.start)
                plaintext[content_type].add(data, packet, time)
            if content_type:
                continue
            why = _("No key in the key log opens this record: the key is wrong, or the record was changed on the way.")
        hidden.append((stream.side, record.start, why))
        if record.application:
            plaintext[APPLICATION_DATA].miss(max(record.end - record.start + record.missing - HEADER, 1))
    return plaintext[APPLICATION_DATA].stream(stream.side), plaintext[HANDSHAKE].stream(stream.side)


def _gap_between(stream: Stream, start: int, end: int) -> bool:
    index = bisect_left(stream.gaps, start, key=lambda gap: gap.at)
    return index < len(stream.gaps) and stream.gaps[index].at <= end


def _where(stream: Stream, position: int) -> tuple[int, int]:
    if not len(stream.segments):
        return 0, 0
    segment = stream.segment_at(position)
    return segment.packet, segment.time


class _Chain:
    """The openers of one direction in the order in which their keys come into use."""

    def __init__(self, openers: Iterator[Opener], known: int) -> None:
        self._rest = openers
        self._ready = [next(openers) for _number in range(known)]  # the first is the one in use
        self._sequence = 0
        self._slack = 1

    def doubt(self) -> None:
        """Records may be missing here: the sequence number is no longer certain."""
        self._slack = _SKIPPED

    def open(self, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        """The record's content type and plaintext; type 0 when no key opens it."""
        for index, opener in enumerate(self._ready):
            first = 0 if index else self._sequence
            for sequence in range(first, first + self._slack):
                try:
                    content_type, plaintext = opener(sequence, data, start, end)
                except InvalidTag:
                    continue
                self._sequence, self._slack = sequence + 1, 1
                del self._ready[:index]
                if len(self._ready) == 1:
                    self._ready += [opener for opener in [next(self._rest, None)] if opener]
                return content_type, plaintext
        self._sequence += 1
        self._slack = max(self._slack // 2, 1)
        return 0, b""


def _openers(session: TlsSession, side: Side, keylog: KeyLog) -> tuple[_Chain | None, str]:
    """What opens a side's records, or why nothing does."""
    client, server = session.client_hello, session.server_hello
    if client is None or server is None:
        return None, _("The capture does not hold both hellos of this session, so its keys cannot be told.")
    name = suite_name(server.suites[0]) if server.suites else "?"
    suite, tls13 = suite_of(name), is_tls13(server.chosen_version)
    if suite is None or server.chosen_version < 0x0301 or (tls13 and suite.mode == "CBC"):
        reason = _("This lab cannot open {version} records sealed with {suite}.")
        return None, reason.format(version=session.version, suite=name)
    labels = _CHAIN[side] if tls13 else (MASTER_SECRET,)
    secrets = [secret for label in labels if (secret := keylog.secret(label, session.client_random))]
    if not secrets:
        return None, _("The key log has no {label} for this session.").format(label=labels[-1])
    if not tls13:
        return _Chain(iter([tls12_opener(client, server, suite, side, secrets[0])]), 1), ""
    complete = keylog.secret(labels[-1], session.client_random) is not None
    return _Chain(tls13_openers(suite, secrets, complete), len(secrets)), ""
