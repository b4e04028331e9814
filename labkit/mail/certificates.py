"""The lab's certificate authority: certificates that are right, and three that are wrong in one way each.

They are made when they are first wanted (`mail/issuer.py`), or shipped: where there is a file of them beside this module, as
in the edition for a browser tab, which could not make any.
"""

import json
import ssl
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Protocol

from labkit.files import KeyLogFile, PrivateFolder
from labkit.mail.accounts import DOMAIN

ISSUER = "The lab's certificate authority"
STRANGER = "Nobody's certificate authority"
SHIPPED = Path(__file__).with_name("certificates.json")
NAMES = ("localhost", "127.0.0.1", "::1", DOMAIN)


class Certificate(StrEnum):
    """What a server shows, and what a client that checks it finds."""

    GOOD = "good"
    WRONG_NAME = "wrong-name"  # issued by the lab's authority, for another server
    EXPIRED = "expired"  # was good until the end of 2020
    UNKNOWN_ISSUER = "unknown-issuer"  # the right name, signed by an authority that nobody trusts


class CertificateSource(Protocol):
    """Where certificates come from. All in PEM."""

    def ca_pem(self) -> bytes:
        """The authority's own certificate."""

    def key_and_chain(self, certificate: Certificate) -> bytes:
        """What a server needs to show a certificate."""


class Shipped:
    """Certificates from a file that `ship` wrote."""

    def __init__(self, path: Path) -> None:
        self._pems: dict[str, str] = json.loads(path.read_text("ascii"))

    def ca_pem(self) -> bytes:
        """The authority's own certificate."""
        return self._pems["authority"].encode()

    def key_and_chain(self, certificate: Certificate) -> bytes:
        """What a server needs to show a certificate."""
        return self._pems[certificate].encode()


def ship(source: CertificateSource, path: Path) -> None:
    """Write all certificates, with their keys, into a file. They vouch for nothing: everybody has the keys."""
    pems = {"authority": source.ca_pem()} | {str(kind): source.key_and_chain(kind) for kind in Certificate}
    path.write_text(json.dumps({name: pem.decode() for name, pem in pems.items()}), "ascii")


class Authority:
    """A certificate authority and the certificates it issued. Safe to use from several threads."""

    def __init__(self, source: CertificateSource) -> None:
        self._source = source

    @property
    def ca_pem(self) -> bytes:
        """The authority's own certificate in PEM: what a mail program must trust."""
        return self._source.ca_pem()

    def key_and_chain(self, certificate: Certificate = Certificate.GOOD) -> bytes:
        """A server's private key and what it shows, in PEM."""
        return self._source.key_and_chain(certificate)

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
        folder = PrivateFolder()
        try:
            path = folder.path / "key"
            path.touch(0o600)
            path.write_bytes(self.key_and_chain(certificate))
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


@cache
def authority() -> Authority:
    """The authority of this process."""
    if SHIPPED.exists():
        return Authority(Shipped(SHIPPED))
    from labkit.mail.issuer import Issuer

    return Authority(Issuer())
