"""Opening TLS records with the keys that one of the two ends wrote into an NSS key log (SSLKEYLOGFILE).

A key log names each session by its ClientHello's random. From its secrets follow the keys of both directions: one pair up
to TLS 1.2 (RFC 5246 section 6.3), a chain of them in TLS 1.3 (RFC 8446 section 7): early data, handshake, application
data, and a new one after each KeyUpdate. A record that the present key does not open was sealed with a later one of the
chain, or stays hidden; since every cipher here authenticates what it opens, nothing is ever opened wrongly.
"""

import hmac
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from labkit.decode.fields import octets
from labkit.decode.tls.hello import ENCRYPT_THEN_MAC, Hello, is_tls13
from labkit.decode.tls.names import APPLICATION_DATA, HANDSHAKE, suite_name
from labkit.decode.tls.records import HEADER
from labkit.decode.tls.session import Record, TlsSession
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

# Opens the record data[start:end] as number `sequence` of its key: (content type, plaintext). Raises InvalidTag.
Opener = Callable[[int, bytes, int, int], tuple[int, bytes]]


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
    opened: dict[Side, tuple[Stream, Stream]] = {}
    for stream in (client, server):
        records = [record for record in session.records if record.side is stream.side]
        openers, reason = _openers(session, stream.side, keylog)
        opened[stream.side] = _open_side(stream, records, openers, reason, hidden)
    return Opened(
        client=opened[client.side][0],
        server=opened[server.side][0],
        hidden=tuple(hidden),
        client_handshake=opened[client.side][1],
        server_handshake=opened[server.side][1],
    )


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
    stream: Stream, records: list[Record], chain: "_Chain | None", reason: str, hidden: list[tuple[Side, int, str]]
) -> tuple[Stream, Stream]:
    """One side's application data and handshake messages; what stays hidden goes to `hidden` with the reason."""
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


@dataclass(frozen=True, slots=True)
class _Suite:
    """What a suite's name says: AEAD or CBC, key length, hash of the key schedule, MAC, tag length (octets)."""

    mode: str
    key: int
    prf: type[hashes.SHA256] | type[hashes.SHA384]
    mac: str
    tag: int


_SUITE = re.compile(
    r"TLS_(?:.+_WITH_)?(?:AES_(?P<bits>128|256)_(?P<mode>GCM|CCM|CBC)|CHACHA20_(?P<chacha>POLY1305))"
    r"(?P<short>_8)?(?:_(?P<hash>SHA256|SHA384|SHA))?"
)


def _suite(name: str) -> _Suite | None:
    found = _SUITE.fullmatch(name)
    if not found or (found["mode"] == "CBC" and not found["hash"]):
        return None
    prf = hashes.SHA384 if found["hash"] == "SHA384" else hashes.SHA256
    mac = {"SHA": "sha1", "SHA256": "sha256", "SHA384": "sha384"}.get(found["hash"] or "", "")
    mode = found["mode"] or "CHACHA20"
    return _Suite(mode, int(found["bits"] or 256) // 8, prf, mac, 8 if found["short"] else 16)


def _openers(session: TlsSession, side: Side, keylog: KeyLog) -> tuple[_Chain | None, str]:
    """What opens a side's records, or why nothing does."""
    client, server = session.client_hello, session.server_hello
    if client is None or server is None:
        return None, _("The capture does not hold both hellos of this session, so its keys cannot be told.")
    name = suite_name(server.suites[0]) if server.suites else "?"
    suite, tls13 = _suite(name), is_tls13(server.chosen_version)
    if suite is None or server.chosen_version < 0x0301 or (tls13 and suite.mode == "CBC"):
        reason = _("This lab cannot open {version} records sealed with {suite}.")
        return None, reason.format(version=session.version, suite=name)
    labels = _CHAIN[side] if tls13 else (MASTER_SECRET,)
    secrets = [secret for label in labels if (secret := keylog.secret(label, session.client_random))]
    if not secrets:
        return None, _("The key log has no {label} for this session.").format(label=labels[-1])
    if not tls13:
        return _Chain(iter([_tls12_opener(client, server, suite, side, secrets[0])]), 1), ""
    complete = keylog.secret(labels[-1], session.client_random) is not None
    return _Chain(_tls13_openers(suite, secrets, complete), len(secrets)), ""


def _expand_label(suite: _Suite, secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(suite.prf(), length, info).derive(secret)


def _tls13_openers(suite: _Suite, secrets: list[bytes], complete: bool) -> Iterator[Opener]:
    """The openers of these secrets, then (RFC 8446 section 7.2) of those that KeyUpdate makes from the last."""
    for secret in secrets:
        yield _tls13_opener(suite, secret)
    secret = secrets[-1]
    while complete:
        secret = _expand_label(suite, secret, "traffic upd", suite.prf.digest_size)
        yield _tls13_opener(suite, secret)


def _tls13_opener(suite: _Suite, secret: bytes) -> Opener:
    """RFC 8446 section 5.2 and 5.3: the header is authenticated, the true type stands last, zeros after it are padding."""
    cipher = _aead(suite, _expand_label(suite, secret, "key", suite.key))
    iv = int.from_bytes(_expand_label(suite, secret, "iv", 12), "big")

    def open_record(sequence: int, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        nonce = (iv ^ sequence).to_bytes(12, "big")
        inner = _decrypt(cipher, nonce, data[start + HEADER : end], data[start : start + HEADER]).rstrip(b"\0")
        return (inner[-1], inner[:-1]) if inner else (0, b"")

    return open_record


def _decrypt(cipher: AESGCM | AESCCM | ChaCha20Poly1305, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, sealed, associated)
    except (ValueError, OverflowError) as error:  # shorter than a tag, longer than the cipher allows
        raise InvalidTag from error


def _aead(suite: _Suite, key: bytes) -> AESGCM | AESCCM | ChaCha20Poly1305:
    if suite.mode == "GCM":
        return AESGCM(key)
    return AESCCM(key, suite.tag) if suite.mode == "CCM" else ChaCha20Poly1305(key)


def _tls12_opener(client: Hello, server: Hello, suite: _Suite, side: Side, master: bytes) -> Opener:
    """The key block of TLS 1.0 to 1.2 cut up (RFC 5246 section 6.3): MAC keys, keys and IVs, each the client's first."""
    version = server.chosen_version
    digest = suite.prf.name if version >= 0x0303 else ""
    lengths = (hmac.new(b"", None, suite.mac).digest_size if suite.mode == "CBC" else 0, suite.key, 16)
    block = _prf(master, b"key expansion" + server.random + client.random, 2 * sum(lengths), digest)
    mac_key, key, iv = _keys(block, lengths if suite.mode == "CBC" else (0, suite.key, _IV[suite.mode]), side)
    if suite.mode == "CBC":
        then_mac = server.extension(ENCRYPT_THEN_MAC) is not None
        return _cbc_opener(key, mac_key, suite.mac, iv if version < 0x0302 else b"", then_mac)
    return _aead12_opener(_aead(suite, key), iv, suite)


_IV = {"GCM": 4, "CCM": 4, "CHACHA20": 12}


def _keys(block: bytes, lengths: tuple[int, int, int], side: Side) -> tuple[bytes, bytes, bytes]:
    found: list[bytes] = []
    at = 0
    for length in lengths:
        start = at + (length if side is Side.SERVER else 0)
        found.append(block[start : start + length])
        at += 2 * length
    return found[0], found[1], found[2]


def _prf(secret: bytes, seed: bytes, length: int, digest: str) -> bytes:
    """RFC 5246 section 5; with no digest, the older MD5 and SHA-1 together (RFC 2246 section 5)."""
    if digest:
        return _p_hash(secret, seed, length, digest)
    half = (len(secret) + 1) // 2
    both = (_p_hash(secret[:half], seed, length, "md5"), _p_hash(secret[-half:], seed, length, "sha1"))
    return bytes(one ^ other for one, other in zip(*both, strict=True))


def _p_hash(secret: bytes, seed: bytes, length: int, digest: str) -> bytes:
    output, step = b"", seed
    while len(output) < length:
        step = hmac.digest(secret, step, digest)
        output += hmac.digest(secret, step + seed, digest)
    return output[:length]


def _aead12_opener(cipher: AESGCM | AESCCM | ChaCha20Poly1305, iv: bytes, suite: _Suite) -> Opener:
    """GCM and CCM send eight octets of each nonce (RFC 5288 section 3); ChaCha20 sends none (RFC 7905 section 2)."""
    explicit = 0 if suite.mode == "CHACHA20" else 8

    def open_record(sequence: int, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        body = start + HEADER
        nonce = iv + data[body : body + explicit]
        if not explicit:
            nonce = (int.from_bytes(iv, "big") ^ sequence).to_bytes(12, "big")
        length = end - body - explicit - suite.tag
        if length < 0:
            raise InvalidTag
        header = data[start : start + 3] + length.to_bytes(2, "big")
        plaintext = _decrypt(cipher, nonce, data[body + explicit : end], sequence.to_bytes(8, "big") + header)
        return data[start], plaintext

    return open_record


def _cbc_opener(key: bytes, mac_key: bytes, digest: str, first_iv: bytes, encrypt_then_mac: bool) -> Opener:
    """MAC-then-encrypt (RFC 5246 section 6.2.3.2) or encrypt-then-MAC (RFC 7366 section 3).

    first_iv: TLS 1.0 takes each record's IV from the last block before it; later versions send it and leave this empty.
    """
    size = hmac.new(b"", None, digest).digest_size
    trailer = size if encrypt_then_mac else 0
    intact_end = 0  # of the last record whose own MAC was right: with encrypt-then-MAC that says nothing of the IV

    def check(sequence: int, header: bytes, content: bytes, mac: bytes) -> None:
        covered = sequence.to_bytes(8, "big") + header + len(content).to_bytes(2, "big") + content
        if not hmac.compare_digest(hmac.digest(mac_key, covered, digest), mac):
            raise InvalidTag

    def open_record(sequence: int, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        nonlocal intact_end
        header, sealed = data[start : start + 3], data[start + HEADER : end]
        if encrypt_then_mac:
            sealed, mac = sealed[:-size], sealed[-size:]
            check(sequence, header, sealed, mac)
            follows, intact_end = start == intact_end, end
            if first_iv and sequence and not follows:
                raise InvalidTag
        chained = data[start - trailer - 16 : start - trailer] if sequence else first_iv
        iv = chained if first_iv else sealed[:16]
        blocks = sealed if first_iv else sealed[16:]
        if not blocks or len(blocks) % 16 or len(iv) != 16:
            raise InvalidTag
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        plaintext = decryptor.update(blocks) + decryptor.finalize()
        padding = plaintext[-1] + 1
        kept = len(plaintext) - padding - size + trailer
        if kept < 0 or plaintext[-padding:] != bytes([padding - 1]) * padding:
            raise InvalidTag
        if not encrypt_then_mac:
            check(sequence, header, plaintext[:kept], plaintext[kept : kept + size])
        return header[0], plaintext[:kept]

    return open_record
