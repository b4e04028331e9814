"""Makes the lab's certificates with trustme, when they are first wanted: making an RSA key takes long.

RSA keys, because their signatures are always of one length, and a common name, because some mail programs still ask for it.
"""

import threading
from datetime import datetime

from cryptography import x509
from trustme import CA, KeyType, LeafCert

from labkit.mail.certificates import ISSUER, NAMES, STRANGER, Certificate

_ORGANIZATION = "labkit"
_SERIAL_BITS = 152


class Issuer:
    """An authority with a key of its own. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._issuers: dict[str, CA] = {}
        self._leaves: dict[Certificate, LeafCert] = {}

    def ca_pem(self) -> bytes:
        """The authority's own certificate."""
        return self._issuer(ISSUER).cert_pem.bytes()

    def key_and_chain(self, certificate: Certificate) -> bytes:
        """What a server needs to show a certificate."""
        with self._lock:
            if certificate not in self._leaves:
                self._leaves[certificate] = self._issue(certificate)
            return self._leaves[certificate].private_key_and_cert_chain_pem.bytes()

    def _issuer(self, name: str) -> CA:
        with self._lock:
            if name not in self._issuers:
                self._issuers[name] = CA(
                    organization_name=_ORGANIZATION, organization_unit_name=name, key_type=KeyType.RSA
                )
            return self._issuers[name]

    def _issue(self, certificate: Certificate) -> LeafCert:
        names = ("other.example",) if certificate is Certificate.WRONG_NAME else NAMES
        issuer = self._issuer(STRANGER if certificate is Certificate.UNKNOWN_ISSUER else ISSUER)
        while True:
            leaf = issuer.issue_cert(
                *names,
                common_name=names[-1],
                organization_name=_ORGANIZATION,
                organization_unit_name="A mail server of the lab",
                not_after=datetime(2021, 1, 1) if certificate is Certificate.EXPIRED else None,  # noqa: DTZ001 (UTC)
                key_type=KeyType.RSA,
            )
            # One serial number in 256 is an octet shorter; without those, every certificate of a kind has one length.
            if _serial_number(leaf).bit_length() >= _SERIAL_BITS:
                return leaf


def _serial_number(leaf: LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
