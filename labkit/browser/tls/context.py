"""SSLContext: what one wants of TLS, and `create_default_context`, in the names of `ssl`."""

import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from asn1crypto import pem
from asn1crypto.x509 import Certificate
from tlslite.handshakesettings import HandshakeSettings
from tlslite.utils.keyfactory import parsePEMKey
from tlslite.utils.rsakey import RSAKey
from tlslite.x509certchain import X509CertChain

from labkit.browser.tls import chain, engine, errors
from labkit.browser.tls.keylog import KeyLogWriter
from labkit.browser.tls.session import SSLObject
from labkit.wire.sockets import TlsSocket

_OPTIONS = ssl.OP_ALL | ssl.OP_NO_SSLv3 | ssl.OP_NO_COMPRESSION


class SSLContext:
    """As `ssl.SSLContext`. A client's checks the certificate and the name from the start, a server's asks for none."""

    sslobject_class = SSLObject
    sslsocket_class = TlsSocket

    def __init__(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> None:
        client = protocol == ssl.PROTOCOL_TLS_CLIENT
        self.protocol = ssl._SSLMethod(protocol)
        self._check_hostname = client
        self._verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
        self.minimum_version, self.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED
        self.options: int = _OPTIONS
        self.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
        self.num_tickets = 0 if client else 2  # what is asked for; none is ever sent
        self.keylog, self._keylog_name = KeyLogWriter(None), cast(str | None, None)
        self._trusted: list[Certificate] = []
        self.chain: X509CertChain | None = None
        self.key: RSAKey | None = None

    @property
    def check_hostname(self) -> bool:
        """Whether the certificate must name the server."""
        return self._check_hostname

    @check_hostname.setter
    def check_hostname(self, wanted: bool) -> None:
        self._check_hostname = bool(wanted)
        if wanted and self._verify_mode == ssl.CERT_NONE:
            self._verify_mode = ssl.CERT_REQUIRED

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """Whether the certificate is checked at all."""
        return self._verify_mode

    @verify_mode.setter
    def verify_mode(self, wanted: int) -> None:
        if wanted == ssl.CERT_NONE and self._check_hostname:
            raise ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.")
        self._verify_mode = ssl.VerifyMode(wanted)

    @property
    def keylog_filename(self) -> str | None:
        """The file that gets the session keys, appended. Setting it raises OSError when it cannot be written."""
        return self._keylog_name

    @keylog_filename.setter
    def keylog_filename(self, path: str | os.PathLike[str] | None) -> None:
        self.keylog.close()
        self.keylog, self._keylog_name = KeyLogWriter(path), None if path is None else os.fspath(path)

    def load_verify_locations(
        self, cafile: str | None = None, capath: str | None = None, cadata: str | bytes | None = None
    ) -> None:
        """Trust these certificates: text in PEM, or octets in DER. Raises TypeError, ValueError, ssl.SSLError."""
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        if cafile is not None:
            self._trust(_from_pem(Path(cafile).read_bytes()))
        if cadata is not None:
            if not cadata:
                raise ValueError("Empty certificate data")
            if isinstance(cadata, str) and not cadata.isascii():
                raise TypeError("cadata should be an ASCII string or a bytes-like object")
            self._trust(_from_pem(cadata.encode()) if isinstance(cadata, str) else [cadata])

    def _trust(self, ders: Iterable[bytes]) -> None:
        certificates = [Certificate.load(der, strict=True) for der in ders]
        for certificate in certificates:
            certificate.native  # noqa: B018 (asn1crypto reads lazily: what is broken must be found out now)
        self._trusted += certificates

    def load_default_certs(self, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        """A browser shows no program the certificates that it trusts: none are added."""

    set_default_verify_paths = load_default_certs

    def load_cert_chain(self, certfile: str | Path, keyfile: str | Path | None = None, password: None = None) -> None:
        """Show these certificates; their key is in `keyfile`, or in the same file, not encrypted."""
        text = Path(certfile).read_text("ascii")
        key = Path(keyfile).read_text("ascii") if keyfile else text
        self.chain = X509CertChain()
        self.chain.parsePemList(text)
        self.key = parsePEMKey(key, private=True, implementations=["python"])

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: None = None,
    ) -> SSLObject:
        """One end of a connection between two BIOs."""
        return self.sslobject_class(self, incoming, outgoing, server_side, server_hostname)

    def wrap_socket(self, sock: Any, **how: Any) -> TlsSocket:
        """TLS over a blocking socket. The handshake is made at once."""
        return self.sslsocket_class._create(sock, context=self, **how)

    def settings(self) -> HandshakeSettings:
        """What is offered and accepted, for the engine. Raises ssl.SSLError when that is no version at all."""
        return engine.settings(self.minimum_version, self.maximum_version)

    def judge(self, server_name: str | None) -> engine.Judge | None:
        """What looks at the certificates of a server of this name; None where none are checked."""
        if self._verify_mode == ssl.CERT_NONE:
            return None
        name = server_name if self._check_hostname else None

        def judged(shown: list[bytes]) -> chain.Refusal | None:
            return chain.refusal(shown, self._trusted, name, datetime.now(UTC))

        return judged


def _from_pem(octets: bytes) -> list[bytes]:
    try:
        found = [der for kind, _headers, der in pem.unarmor(octets, multiple=True) if kind == "CERTIFICATE"]
    except ValueError:
        found = []
    if not found:
        raise errors.failed("NO_START_LINE")
    return found


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | None = None,
    capath: str | None = None,
    cadata: str | bytes | None = None,
) -> SSLContext:
    """As `ssl.create_default_context`. Without certificates to trust it trusts none."""
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT if purpose is ssl.Purpose.SERVER_AUTH else ssl.PROTOCOL_TLS_SERVER)
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    return context


def create_unverified_context(protocol: int = ssl.PROTOCOL_TLS_CLIENT, **_more: object) -> SSLContext:
    """A context that checks nothing: what smtplib and poplib take when they are given none."""
    context = SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
