"""What ClientHello and ServerHello agree on (RFC 8446 section 4.1, RFC 5246 section 7.4.1).

The hellos are never encrypted, so whoever listens learns the server's name and the versions and suites on offer.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from labkit.decode.tls.names import is_grease

SERVER_NAME, ENCRYPT_THEN_MAC, EARLY_DATA, SUPPORTED_VERSIONS = 0, 22, 42, 43
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


def is_tls13(version: int) -> bool:
    """Whether a version number is TLS 1.3 or one of its drafts."""
    return version == TLS13 or version >> 8 == 0x7F


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]


@lru_cache(maxsize=64)  # the session, its lines and its records ask for the same hello
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
