"""The lab's certificate authority: certificates that are right, and three that are wrong in one way each.

Made with trustme: RSA keys, because their signatures are always of one length, and a common name, because some mail
programs still ask for it. Making an RSA key takes long, so there is one authority in a process, and it makes each
certificate when it is first wanted.
"""

import ssl
import threading
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from trustme import CA, KeyType, LeafCert

from labkit.files import KeyLogFile, PrivateFolder
from labkit.mail.accounts import DOMAIN

NAMES = ("localhost", "127.0.0.1", "::1", DOMAIN)
_ORGANIZATION = "labkit"
_SERIAL_BITS = 152


class Certificate(StrEnum):
    """What a server shows, and what a client that checks it finds."""

    GOOD = "good"
    WRONG_NAME = "wrong-name"  # issued by the lab's authority, for another server
    EXPIRED = "expired"  # was good until the end of 2020
    UNKNOWN_ISSUER = "unknown-issuer"  # the right name, signed by an authority that nobody trusts


class Authority:
    """A certificate authority and the certificates it issued. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._issuers: dict[str, CA] = {}
        self._leaves: dict[Certificate, LeafCert] = {}

    @property
    def ca_pem(self) -> bytes:
        """The authority's own certificate in PEM: what a mail program must trust."""
        return self._issuer("The lab's certificate authority").cert_pem.bytes()

    def server_context(
        self, certificate: Certificate = Certificate.GOOD, *, keylog: KeyLogFile | None = None
    ) -> ssl.SSLContext:
        """A server's TLS settings: TLS 1.2 or later, showing `certificate`.

        keylog: gets the session keys.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # No session tickets: their number and size differ between TLS libraries, and what the lab shows must repeat.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if keylog is not None:
            keylog.attach(context)
        # ssl reads a private key from a file only: it exists for this moment, in a folder that nobody else may enter.
        pem = self._leaf(certificate).private_key_and_cert_chain_pem
        folder = PrivateFolder()
        try:
            with pem.tempfile(str(folder.path)) as path:
                context.load_cert_chain(path)
        finally:
            folder.remove()
        return context

    def client_context(self, *, verify: bool = True, keylog: KeyLogFile | None = None) -> ssl.SSLContext:
        """A client's TLS settings: trusts this authority alone, or with verify=False whatever the server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if verify:
            context.load_verify_locations(cadata=self.ca_pem.decode())
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if keylog is not None:
            keylog.attach(context)
        return context

    def _issuer(self, name: str) -> CA:
        with self._lock:
            if name not in self._issuers:
                self._issuers[name] = CA(
                    organization_name=_ORGANIZATION, organization_unit_name=name, key_type=KeyType.RSA
                )
            return self._issuers[name]

    def _leaf(self, certificate: Certificate) -> LeafCert:
        with self._lock:
            if certificate not in self._leaves:
                self._leaves[certificate] = self._issue(certificate)
            return self._leaves[certificate]

    def _issue(self, certificate: Certificate) -> LeafCert:
        stranger = certificate is Certificate.UNKNOWN_ISSUER
        names = ("other.example",) if certificate is Certificate.WRONG_NAME else NAMES
        issuer = self._issuer("Nobody's certificate authority" if stranger else "The lab's certificate authority")
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


_OURS = Authority()


def authority() -> Authority:
    """The authority of this process."""
    return _OURS


def _serial_number(leaf: LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
