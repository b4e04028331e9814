"""What ClientHello and ServerHello agree on (RFC 8446 section 4.1, RFC 5246 section 7.4.1), and the client's fingerprints.

The hellos are never encrypted, so whoever listens learns the server's name, the versions and suites on offer, and, from
the particular choice and order of them, which program is calling: that is what JA3 and JA4 condense into one short text.
JA4 is the TLS client fingerprint alone, which its authors publish under the BSD licence.
"""

from dataclasses import dataclass
from hashlib import md5, sha256

from labkit.decode.tls_names import is_grease

SERVER_NAME, SUPPORTED_GROUPS, POINT_FORMATS, SIGNATURE_ALGORITHMS, ALPN = 0, 10, 11, 13, 16
ENCRYPT_THEN_MAC, EARLY_DATA, SUPPORTED_VERSIONS = 22, 42, 43
TLS12, TLS13 = 0x0303, 0x0304
# The random of a ServerHello that is a HelloRetryRequest: SHA-256 of that word (RFC 8446 section 4.1.3).
RETRY_RANDOM = sha256(b"HelloRetryRequest").digest()


@dataclass(frozen=True, slots=True)
class Hello:
    """A ClientHello or ServerHello as far as it was captured; a server's `suites` holds the one it chose."""

    version: int
    random: bytes
    suites: tuple[int, ...]
    extensions: tuple[tuple[int, bytes], ...]

    def extension(self, number: int) -> bytes | None:
        """The extension's content; None when it was not sent."""
        return next((content for kind, content in self.extensions if kind == number), None)

    @property
    def retry(self) -> bool:
        """Whether this ServerHello is a HelloRetryRequest."""
        return self.random == RETRY_RANDOM

    @property
    def offered_versions(self) -> tuple[int, ...]:
        """The versions a client offers, its order kept, GREASE left out."""
        content = self.extension(SUPPORTED_VERSIONS)
        if content is None:
            return (self.version,)
        return tuple(number for number in _numbers(content[1:]) if not is_grease(number))

    @property
    def chosen_version(self) -> int:
        """The version a server chose: TLS 1.3 says so in an extension (RFC 8446 section 4.2.1)."""
        content = self.extension(SUPPORTED_VERSIONS)
        return int.from_bytes(content[:2], "big") if content and len(content) >= 2 else self.version

    @property
    def server_name(self) -> str | None:
        """The host name in server_name (RFC 6066 section 3), undecodable bytes as backslash escapes."""
        content = self.extension(SERVER_NAME) or b""
        length = int.from_bytes(content[3:5], "big")
        if len(content) < 5 or content[2] != 0:
            return None
        return content[5 : 5 + length].decode("utf-8", "backslashreplace")

    @property
    def protocols(self) -> tuple[bytes, ...]:
        """The names in ALPN (RFC 7301 section 3.1): what the client offers, or the one that the server chose."""
        content = (self.extension(ALPN) or b"")[2:]
        names: list[bytes] = []
        while content:
            names.append(content[1 : 1 + content[0]])
            content = content[1 + content[0] :]
        return tuple(names)


def is_tls13(version: int) -> bool:
    """Whether a version number is TLS 1.3 or one of its drafts."""
    return version == TLS13 or version >> 8 == 0x7F


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]


def parse_hello(message: bytes, from_client: bool) -> Hello | None:
    """A hello from its handshake message, header included; None when not even the random is whole."""
    if len(message) < 38:
        return None
    version, random = int.from_bytes(message[4:6], "big"), message[6:38]
    at = 39 + (message[38] if len(message) > 38 else 0)
    if from_client:
        after = at + 2 + int.from_bytes(message[at : at + 2], "big")
        suites = _numbers(message[at + 2 : after])
        after += 1 + (message[after] if len(message) > after else 0)
    else:
        suites, after = _numbers(message[at : at + 2]), at + 3
    extensions: list[tuple[int, bytes]] = []
    at, end = after + 2, min(after + 2 + int.from_bytes(message[after : after + 2], "big"), len(message))
    while at + 4 <= end:
        content_end = at + 4 + int.from_bytes(message[at + 2 : at + 4], "big")
        extensions.append((int.from_bytes(message[at : at + 2], "big"), message[at + 4 : min(content_end, end)]))
        at = content_end
    return Hello(version, random, tuple(suites), tuple(extensions))


def ja3_text(hello: Hello) -> str:
    """JA3 before hashing: version, suites, extensions, groups, point formats, in the client's order, without GREASE."""
    formats = list((hello.extension(POINT_FORMATS) or b"")[1:])
    groups = _numbers((hello.extension(SUPPORTED_GROUPS) or b"")[2:])
    lists = (hello.suites, [kind for kind, _ in hello.extensions], groups)
    parts = ["-".join(str(number) for number in numbers if not is_grease(number)) for numbers in lists]
    return ",".join([str(hello.version), *parts, "-".join(map(str, formats))])


def ja3(hello: Hello) -> str:
    """The JA3 fingerprint: the MD5 of `ja3_text` in hexadecimal."""
    return md5(ja3_text(hello).encode(), usedforsecurity=False).hexdigest()


def ja4(hello: Hello) -> str:
    """The JA4 fingerprint of a client that speaks TLS over TCP: counts in clear, then two truncated SHA-256 sums."""
    suites = [number for number in hello.suites if not is_grease(number)]
    extensions = [kind for kind, _ in hello.extensions if not is_grease(kind)]
    versions = [number for number in hello.offered_versions if number in _JA4_VERSIONS]
    version = _JA4_VERSIONS[max(versions)] if versions else "00"
    name = "i" if hello.extension(SERVER_NAME) is None else "d"
    counts = f"{min(len(suites), 99):02}{min(len(extensions), 99):02}"
    signatures = [
        number for number in _numbers((hello.extension(SIGNATURE_ALGORITHMS) or b"")[2:]) if not is_grease(number)
    ]
    others = _hexadecimal(sorted(kind for kind in extensions if kind not in (SERVER_NAME, ALPN)))
    if others and signatures:
        others += "_" + _hexadecimal(signatures)
    return f"t{version}{name}{counts}{_ja4_alpn(hello)}_{_short_sum(_hexadecimal(sorted(suites)))}_{_short_sum(others)}"


_JA4_VERSIONS = {0x0002: "s2", 0x0300: "s3", 0x0301: "10", 0x0302: "11", 0x0303: "12", 0x0304: "13"}


def _ja4_alpn(hello: Hello) -> str:
    first = hello.protocols[0] if hello.protocols else b""
    if not first:
        return "00"
    ends = bytes([first[0], first[-1]])
    return ends.decode() if ends.isalnum() else first.hex()[0] + first.hex()[-1]


def _hexadecimal(numbers: list[int]) -> str:
    return ",".join(f"{number:04x}" for number in numbers)


def _short_sum(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12] if text else "0" * 12
