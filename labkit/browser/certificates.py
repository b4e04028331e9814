"""The part of `cryptography.x509` that reads certificates, made with asn1crypto: the same names, the same errors.

`MODULES` is what is put in the place of that package where it cannot be installed (`platform.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from asn1crypto import pem
from asn1crypto.x509 import Certificate as Parsed
from asn1crypto.x509 import Name as ParsedName

NameOID = SimpleNamespace(
    COMMON_NAME="common_name",
    ORGANIZATION_NAME="organization_name",
    ORGANIZATIONAL_UNIT_NAME="organizational_unit_name",
)
_SHORT = {"common_name": "CN", "organization_name": "O", "organizational_unit_name": "OU", "country_name": "C"}


class ExtensionNotFound(Exception):
    """The certificate has no such extension."""


class RSAPublicKey:
    """A certificate's key is RSA's."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a name's attribute or an alternative name says."""

    value: Any


class Name:
    """A subject, or an issuer."""

    def __init__(self, parsed: ParsedName) -> None:
        self._pairs = [(part["type"].native, part["value"].native) for group in parsed.chosen for part in group]

    def get_attributes_for_oid(self, oid: str) -> list[Value]:
        """The attributes of a kind of NameOID's."""
        return [Value(value) for kind, value in self._pairs if kind == oid]

    def rfc4514_string(self) -> str:
        """The whole name, its most special part first."""
        return ",".join(f"{_SHORT.get(kind, kind)}={value}" for kind, value in reversed(self._pairs))


class SubjectAlternativeName:
    """The names that a certificate is for (RFC 5280 section 4.2.1.6)."""

    def __init__(self, parsed: Parsed) -> None:
        self._values = [Value(name.native) for name in parsed.subject_alt_name_value or ()]

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values)


class X509Certificate:
    """One certificate. Raises ValueError when it is none."""

    def __init__(self, der: bytes) -> None:
        self._parsed = parsed = Parsed.load(der, strict=True)
        self.subject, self.issuer = Name(parsed.subject), Name(parsed.issuer)
        self.not_valid_before_utc: datetime = parsed.not_valid_before
        self.not_valid_after_utc: datetime = parsed.not_valid_after
        self.extensions = self

    def get_extension_for_class(self, kind: type[SubjectAlternativeName]) -> Value:
        """The alternative names. Raises ExtensionNotFound."""
        if self._parsed.subject_alt_name_value is None:
            raise ExtensionNotFound
        return Value(kind(self._parsed))

    def public_key(self) -> object:
        """An RSAPublicKey, or something else."""
        return RSAPublicKey() if self._parsed.public_key.algorithm == "rsa" else object()


def load_der_x509_certificate(data: bytes) -> X509Certificate:
    """A certificate in DER."""
    return X509Certificate(data)


def load_pem_x509_certificate(data: bytes) -> X509Certificate:
    """A certificate in PEM."""
    return X509Certificate(pem.unarmor(data)[2])


_X509 = {
    "ExtensionNotFound": ExtensionNotFound,
    "Certificate": X509Certificate,
    "Name": Name,
    "NameOID": NameOID,
    "SubjectAlternativeName": SubjectAlternativeName,
    "load_der_x509_certificate": load_der_x509_certificate,
    "load_pem_x509_certificate": load_pem_x509_certificate,
}
MODULES: dict[str, dict[str, object]] = {
    "cryptography.x509": _X509,
    "cryptography.x509.oid": {"NameOID": NameOID},
    "cryptography.hazmat.primitives.asymmetric": {"rsa": SimpleNamespace(RSAPublicKey=RSAPublicKey)},
}
