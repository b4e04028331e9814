"""tlslite-ng, made to behave as OpenSSL does. What is overridden of its inside is in this file alone; its release is pinned.

tlslite-ng works in generators that yield 0 while they wait for octets, and their result at last. What differs from it:
- a certificate is judged when it arrives, before anything else is said;
- close_notify is sent when asked, never by itself, and one direction may end before the other (RFC 8446 section 6.1);
- session keys go into a log;
- what is no record of TLS is an error at once: tlslite-ng would take it for SSL 2.0, and wait for more of it.
"""

import errno
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from tlslite.constants import AlertDescription, AlertLevel, CipherSuite, ContentType
from tlslite.handshakesettings import HandshakeSettings
from tlslite.messages import Alert, ApplicationData, Certificate, ClientHello, Message, RecordHeader3
from tlslite.recordlayer import RecordLayer, RecordSocket
from tlslite.tlsconnection import TLSConnection
from tlslite.utils.codec import Parser
from tlslite.utils.rsakey import RSAKey
from tlslite.x509certchain import X509CertChain

from labkit.browser.tls.chain import Refusal
from labkit.browser.tls.errors import WrongVersion, failed
from labkit.browser.tls.keylog import KeyLogWriter

Judge = Callable[[list[bytes]], Refusal | None]

VERSIONS = {ssl.TLSVersion.TLSv1_2: (3, 3), ssl.TLSVersion.TLSv1_3: (3, 4)}
CIPHERS = ("aes256gcm", "aes128gcm", "aes256", "aes128")  # not ChaCha20: a server of tlslite-ng would prefer it
_CURVES = ["x25519", "secp256r1", "secp521r1", "secp384r1"]
_MAJOR = 3  # of the version of every record since SSL 3.0


def settings(lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> HandshakeSettings:
    """What is offered and accepted: what Python's `ssl` does with OpenSSL's default, as far as tlslite-ng knows it."""
    top = ssl.TLSVersion.TLSv1_3 if highest == ssl.TLSVersion.MAXIMUM_SUPPORTED else highest
    wanted = [number for version, number in VERSIONS.items() if lowest <= version <= top]
    if not wanted:
        raise failed("NO_PROTOCOLS_AVAILABLE")
    made = HandshakeSettings()
    made.minVersion, made.maxVersion, made.versions = wanted[0], wanted[-1], wanted[::-1]
    made.cipherNames, made.cipherImplementations = list(CIPHERS), ["python"]
    made.macNames, made.keyExchangeNames = ["sha256", "sha384", "aead"], ["ecdhe_rsa"]
    made.eccCurves, made.defaultCurve, made.dhGroups = _CURVES, _CURVES[0], []
    made.keyShares = _CURVES[:1] if made.maxVersion > VERSIONS[ssl.TLSVersion.TLSv1_2] else []
    made.rsaSigHashes = ["sha256", "sha384", "sha512"]
    made.ecdsaSigHashes, made.dsaSigHashes, made.more_sig_schemes = [], [], []
    made.use_heartbeat_extension = made.usePaddingExtension = False
    made.record_size_limit = None
    made.certificate_compression_send = made.certificate_compression_receive = []
    return made


class TlsEngine(TLSConnection):
    """One end of a connection between two BIOs."""

    def __init__(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, judge: Judge | None, keylog: KeyLogWriter
    ) -> None:
        super().__init__(_Wire(incoming, outgoing))
        self._recordLayer = self._records = _Records(self.sock, keylog)
        self._judge = judge
        self.refusal: Refusal | None = None

    # What is done with it

    def connect(self, wanted: HandshakeSettings, server_name: str | None) -> Iterator[object]:
        """A client's handshake. server_name goes into the SNI extension (RFC 6066 section 3)."""
        yield from self.handshakeClientCert(settings=wanted, serverName=server_name, async_=True, reqTack=False)
        self._records.write_down("EXPORTER_SECRET", self.session.exporterMasterSecret)

    def accept(self, wanted: HandshakeSettings, chain: X509CertChain | None, key: RSAKey | None) -> Iterator[object]:
        """A server's handshake."""
        yield from self.handshakeServerAsync(certChain=chain, privateKey=key, settings=wanted)
        self._records.write_down("EXPORTER_SECRET", self.session.exporterMasterSecret)

    def receive(self) -> Iterator[object]:
        """The next octets that the other side sends; b"" at the end of what it has to say."""
        yield from self.readAsync()

    def transmit(self, data: bytes) -> Iterator[object]:
        """Send data, also after the other side's close_notify."""
        yield from self._sendMsg(ApplicationData().create(bytearray(data)))

    def say_goodbye(self) -> Iterator[object]:
        """Send close_notify."""
        yield from super()._sendMsg(Alert().create(AlertDescription.close_notify, AlertLevel.warning))

    # What it learned

    @property
    def suite(self) -> str:
        """The cipher suite, in IANA's name."""
        return str(CipherSuite.ietfNames.get(self.session.cipherSuite, "")) if self.session else ""

    @property
    def server_chain(self) -> list[bytes]:
        """The certificates that the server has shown, in DER, its own first."""
        return _ders(self.session.serverCertChain) if self.session and self.session.serverCertChain else []

    # tlslite-ng's inside

    def _getMsg(self, *expected: Any) -> Iterator[object]:  # noqa: N802
        try:
            for message in super()._getMsg(*expected):
                if isinstance(message, ClientHello):
                    self._records.client_random = bytes(message.random)
                elif isinstance(message, Certificate) and self._judge and message.cert_chain:
                    self.refusal = self._judge(_ders(message.cert_chain))
                    if self.refusal is not None:
                        yield from self._sendError(self.refusal.alert, self.refusal.words)
                yield message
        except WrongVersion as wrong:
            if wrong.in_the_middle:  # who has never spoken TLS would not understand an alert
                yield from self._sendMsg(Alert().create(AlertDescription.protocol_version, AlertLevel.fatal))
            raise

    def _sendMsg(self, msg: Message, *how: Any, **more: Any) -> Iterator[object]:  # noqa: N802
        if isinstance(msg, ClientHello):
            self._records.client_random = bytes(msg.random)
        if msg.contentType == ContentType.alert and msg.description == AlertDescription.close_notify:
            return  # tlslite-ng would answer one with one
        yield from super()._sendMsg(msg, *how, **more)

    def _shutdown(self, resumable: bool) -> None:
        """Nothing more will come. tlslite-ng would forget the keys and the version as well."""
        del resumable
        self.sock.flush()
        self.closed = True


class _Records(RecordLayer):
    """tlslite-ng's record layer, which is told every secret first: so it writes the key log (NSS format)."""

    _NAMES = (
        ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_HANDSHAKE_TRAFFIC_SECRET"),
        ("SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0"),
    )

    def __init__(self, sock: Any, keylog: KeyLogWriter) -> None:
        super().__init__(sock)
        self._recordSocket = _Headers(sock)
        self._keylog = keylog
        self._names = iter(self._NAMES)
        self.client_random = b""

    def write_down(self, name: str, secret: bytes | None) -> None:
        """Put a line into the key log, where there is a secret: TLS 1.2 has none to export with."""
        if secret:
            self._keylog.write(name, self.client_random, bytes(secret))

    def calcPendingStates(self, suite: int, secret: bytes, *rest: Any) -> None:  # noqa: N802
        self.write_down("CLIENT_RANDOM", secret)
        super().calcPendingStates(suite, secret, *rest)

    def calcTLS1_3PendingState(self, suite: int, client: bytes, server: bytes, *rest: Any) -> None:  # noqa: N802
        servers, clients = next(self._names)
        self.write_down(servers, server)
        self.write_down(clients, client)
        super().calcTLS1_3PendingState(suite, client, server, *rest)


class _Headers(RecordSocket):
    """Where tlslite-ng reads records: their headers are TLS's, or this is an error."""

    _heard_tls = False

    def _recvHeader(self) -> Iterator[object]:  # noqa: N802
        octets = b""
        for octets in self._sockRecvAll(5):
            if octets != 0:
                break
            yield 0
        if octets[0] not in ContentType.all or octets[1] != _MAJOR:
            raise WrongVersion(self._heard_tls)
        self._heard_tls = True
        yield RecordHeader3().parse(Parser(octets))


class _Wire:
    """Two BIOs, as the socket that tlslite-ng wants."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def recv(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if not data and not self._incoming.eof:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing has come yet")
        return data

    def send(self, data: bytes) -> int:
        return self._outgoing.write(data)

    sendall = send


def _ders(chain: X509CertChain) -> list[bytes]:
    return [bytes(certificate.writeBytes()) for certificate in chain.x509List]
