"""What reads certificates without `cryptography` reads in them what `cryptography` reads."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from labkit.browser import certificates
from labkit.mail.certificates import Certificate, authority
from tests.browser.tls.test_chain import LEAF


def pems() -> list[bytes]:
    """The lab's certificates, each with its issuer's, and one without alternative names."""
    shown = [authority().key_and_chain(kind) for kind in Certificate]
    bare = _without_names().public_bytes(Encoding.PEM)
    return [authority().ca_pem, bare, *(pem[pem.index(b"-----BEGIN CERT") :] for pem in shown)]


def _without_names() -> x509.Certificate:
    return LEAF.__class__(names=()).made()


READ: list[Callable[[Any, Any], object]] = [
    lambda leaf, oid: leaf.subject.rfc4514_string(),
    lambda leaf, oid: leaf.issuer.rfc4514_string(),
    lambda leaf, oid: [found.value for found in leaf.subject.get_attributes_for_oid(oid.COMMON_NAME)],
    lambda leaf, oid: [found.value for found in leaf.issuer.get_attributes_for_oid(oid.ORGANIZATIONAL_UNIT_NAME)],
    lambda leaf, oid: (leaf.not_valid_before_utc, leaf.not_valid_after_utc),
]


@pytest.mark.parametrize("read", range(len(READ)))
def test_what_a_certificate_says(read: int) -> None:
    for pem in pems():
        theirs = READ[read](x509.load_pem_x509_certificate(pem), NameOID)
        assert READ[read](certificates.load_pem_x509_certificate(pem), certificates.NameOID) == theirs


def test_alternative_names_and_keys() -> None:
    for pem in pems():
        ours, theirs = certificates.load_pem_x509_certificate(pem), x509.load_pem_x509_certificate(pem)
        try:
            names = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            with pytest.raises(certificates.ExtensionNotFound):
                ours.extensions.get_extension_for_class(certificates.SubjectAlternativeName)
        else:
            found = ours.extensions.get_extension_for_class(certificates.SubjectAlternativeName).value
            assert [str(name.value) for name in found] == [str(name.value) for name in names]
        assert isinstance(ours.public_key(), certificates.RSAPublicKey) == isinstance(
            theirs.public_key(), rsa.RSAPublicKey
        )


def test_what_is_none() -> None:
    for octets in (b"", b"0", b"\x30\x03\x02\x01\x01"):
        with pytest.raises((ValueError, TypeError)):
            certificates.load_der_x509_certificate(octets)


def test_every_name_is_there_in_cryptography() -> None:
    for name, contents in certificates.MODULES.items():
        assert not [wanted for wanted in contents if not hasattr(import_module(name), wanted)]
