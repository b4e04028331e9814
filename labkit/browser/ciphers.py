"""The part of `cryptography` that opens TLS records, made with tlslite-ng and `hmac`: the same names, the same errors.

`MODULES` is what is put in the place of that package where it cannot be installed (`platform.py`).
"""

import hmac
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tlslite.utils.cipherfactory import createAES, createAESCCM, createAESCCM_8, createAESGCM, createCHACHA20

_PYTHON = ["python"]
_SHORT_TAG = 8


class InvalidTag(Exception):
    """What was sealed does not open with this key."""


@dataclass(frozen=True, slots=True)
class SHA256:
    """As in hashes."""

    name = "sha256"
    digest_size = 32


@dataclass(frozen=True, slots=True)
class SHA384:
    """As in hashes."""

    name = "sha384"
    digest_size = 48


class _Aead:
    """Authenticated encryption with associated data, to be opened."""

    tag = 16

    def __init__(self, made: Any) -> None:
        self._made = made

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The plaintext. Raises InvalidTag."""
        opened = None
        if len(data) >= self.tag:
            opened = self._made.open(bytearray(nonce), bytearray(data), bytearray(associated_data))
        if opened is None:
            raise InvalidTag
        return bytes(opened)


class AESGCM(_Aead):
    """RFC 5116 section 5.1."""

    def __init__(self, key: bytes) -> None:
        super().__init__(createAESGCM(bytearray(key), _PYTHON))


class AESCCM(_Aead):
    """RFC 6655: tags of 16 octets, or of 8."""

    def __init__(self, key: bytes, tag_length: int = 16) -> None:
        self.tag = tag_length
        create = createAESCCM_8 if tag_length == _SHORT_TAG else createAESCCM
        super().__init__(create(bytearray(key), _PYTHON))


class ChaCha20Poly1305(_Aead):
    """RFC 8439."""

    def __init__(self, key: bytes) -> None:
        super().__init__(createCHACHA20(bytearray(key), _PYTHON))


@dataclass(frozen=True, slots=True)
class AES:
    """As in ciphers.algorithms."""

    key: bytes


@dataclass(frozen=True, slots=True)
class CBC:
    """As in ciphers.modes."""

    initialization_vector: bytes


class Cipher:
    """AES in CBC mode, to be decrypted."""

    def __init__(self, algorithm: AES, mode: CBC) -> None:
        self._aes = createAES(bytearray(algorithm.key), bytearray(mode.initialization_vector), _PYTHON)

    def decryptor(self) -> "Cipher":
        """This."""
        return self

    def update(self, data: bytes) -> bytes:
        """Decrypt whole blocks."""
        return bytes(self._aes.decrypt(bytearray(data)))

    def finalize(self) -> bytes:
        """Nothing is kept back."""
        return b""


class HKDFExpand:
    """RFC 5869 section 2.3."""

    def __init__(self, algorithm: SHA256 | SHA384, length: int, info: bytes) -> None:
        self._algorithm, self._length, self._info = algorithm, length, info

    def derive(self, key_material: bytes) -> bytes:
        """The key."""
        output = block = b""
        for count in range(1, -(-self._length // self._algorithm.digest_size) + 1):
            block = hmac.digest(key_material, block + self._info + bytes([count]), self._algorithm.name)
            output += block
        return output[: self._length]


_PRIMITIVES = "cryptography.hazmat.primitives"
MODULES: dict[str, dict[str, object]] = {
    "cryptography": {},
    "cryptography.exceptions": {"InvalidTag": InvalidTag},
    "cryptography.hazmat": {},
    _PRIMITIVES: {"hashes": SimpleNamespace(SHA256=SHA256, SHA384=SHA384)},
    f"{_PRIMITIVES}.ciphers": {
        "Cipher": Cipher,
        "algorithms": SimpleNamespace(AES=AES),
        "modes": SimpleNamespace(CBC=CBC),
    },
    f"{_PRIMITIVES}.ciphers.aead": {"AESGCM": AESGCM, "AESCCM": AESCCM, "ChaCha20Poly1305": ChaCha20Poly1305},
    f"{_PRIMITIVES}.kdf": {},
    f"{_PRIMITIVES}.kdf.hkdf": {"HKDFExpand": HKDFExpand},
}
