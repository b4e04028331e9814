"""The ciphers that seal TLS records, and the keys that go into them: all cryptography of the decoder stands here.

A suite's name says which cipher, which hash, which MAC. From a secret of the key log follow keys and IVs (RFC 8446
section 7.3, RFC 5246 section 6.3), and from them an Opener, which opens one record of one direction or raises InvalidTag.
"""

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from labkit.decode.tls.hello import ENCRYPT_THEN_MAC, Hello
from labkit.decode.tls.records import HEADER
from labkit.wire.flows import Side

# Opens the record data[start:end] as number `sequence` of its key: (content type, plaintext). Raises InvalidTag.
Opener = Callable[[int, bytes, int, int], tuple[int, bytes]]
Aead = AESGCM | AESCCM | ChaCha20Poly1305


@dataclass(frozen=True, slots=True)
class Suite:
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


def suite_of(name: str) -> Suite | None:
    """What a suite of this name seals with; None for one that this lab cannot open."""
    found = _SUITE.fullmatch(name)
    if not found or (found["mode"] == "CBC" and not found["hash"]):
        return None
    prf = hashes.SHA384 if found["hash"] == "SHA384" else hashes.SHA256
    mac = {"SHA": "sha1", "SHA256": "sha256", "SHA384": "sha384"}.get(found["hash"] or "", "")
    mode = found["mode"] or "CHACHA20"
    return Suite(mode, int(found["bits"] or 256) // 8, prf, mac, 8 if found["short"] else 16)


def _expand_label(suite: Suite, secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(suite.prf(), length, info).derive(secret)


def tls13_openers(suite: Suite, secrets: list[bytes], complete: bool) -> Iterator[Opener]:
    """The openers of these secrets, then (RFC 8446 section 7.2) of those that KeyUpdate makes from the last."""
    for secret in secrets:
        yield _tls13_opener(suite, secret)
    secret = secrets[-1]
    while complete:
        secret = _expand_label(suite, secret, "traffic upd", suite.prf.digest_size)
        yield _tls13_opener(suite, secret)


def _tls13_opener(suite: Suite, secret: bytes) -> Opener:
    """RFC 8446 section 5.2 and 5.3: the header is authenticated, the true type stands last, zeros after it are padding."""
    cipher = _aead(suite, _expand_label(suite, secret, "key", suite.key))
    iv = int.from_bytes(_expand_label(suite, secret, "iv", 12), "big")

    def open_record(sequence: int, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        nonce = (iv ^ sequence).to_bytes(12, "big")
        inner = _decrypt(cipher, nonce, data[start + HEADER : end], data[start : start + HEADER]).rstrip(b"\0")
        return (inner[-1], inner[:-1]) if inner else (0, b"")

    return open_record


def _decrypt(cipher: Aead, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, sealed, associated)
    except (ValueError, OverflowError) as error:  # shorter than a tag, longer than the cipher allows
        raise InvalidTag from error


def _aead(suite: Suite, key: bytes) -> Aead:
    if suite.mode == "GCM":
        return AESGCM(key)
    return AESCCM(key, suite.tag) if suite.mode == "CCM" else ChaCha20Poly1305(key)


def tls12_opener(client: Hello, server: Hello, suite: Suite, side: Side, master: bytes) -> Opener:
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


def _aead12_opener(cipher: Aead, iv: bytes, suite: Suite) -> Opener:
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
