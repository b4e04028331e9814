"""What opens records without `cryptography` opens what `cryptography` sealed, and nothing else."""

import os
from importlib import import_module

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from labkit.browser import ciphers

AEADS = {
    "AES-128-GCM": (AESGCM, ciphers.AESGCM, (16,), ()),
    "AES-256-GCM": (AESGCM, ciphers.AESGCM, (32,), ()),
    "AES-128-CCM": (AESCCM, ciphers.AESCCM, (16,), (16,)),
    "AES-128-CCM-8": (AESCCM, ciphers.AESCCM, (16,), (8,)),
    "ChaCha20-Poly1305": (ChaCha20Poly1305, ciphers.ChaCha20Poly1305, (32,), ()),
}


@pytest.mark.parametrize("name", AEADS)
def test_aead(name: str) -> None:
    theirs, ours, (size,), more = AEADS[name]
    key, nonce, header = os.urandom(size), os.urandom(12), os.urandom(13)
    for plain in (b"", b"x", os.urandom(1000)):
        sealed = theirs(key, *more).encrypt(nonce, plain, header)  # type: ignore[arg-type]
        opener = ours(key, *more)  # type: ignore[call-arg]
        assert opener.decrypt(nonce, sealed, header) == plain
        for wrong in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:4], b""):
            with pytest.raises(ciphers.InvalidTag):
                opener.decrypt(nonce, wrong, header)
        with pytest.raises(ciphers.InvalidTag):
            opener.decrypt(nonce, sealed, header[1:])


@pytest.mark.parametrize("size", [16, 32])
def test_cbc(size: int) -> None:
    key, iv, plain = os.urandom(size), os.urandom(16), os.urandom(64)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(plain) + encryptor.finalize()
    decryptor = ciphers.Cipher(ciphers.AES(key), ciphers.CBC(iv)).decryptor()
    assert decryptor.update(sealed) + decryptor.finalize() == plain


@pytest.mark.parametrize("length", [12, 32, 48, 100])
def test_hkdf(length: int) -> None:
    secret, info = os.urandom(48), b"info"
    for theirs, ours in ((hashes.SHA256(), ciphers.SHA256()), (hashes.SHA384(), ciphers.SHA384())):
        expected = HKDFExpand(theirs, length, info).derive(secret)
        assert ciphers.HKDFExpand(ours, length, info).derive(secret) == expected


def test_every_name_is_there_in_cryptography() -> None:
    for name, contents in ciphers.MODULES.items():
        assert not [wanted for wanted in contents if not hasattr(import_module(name), wanted)]
