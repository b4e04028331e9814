"""One connection: `SSLObject` between two BIOs."""

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.browser.tls import chain, describe, errors
from labkit.browser.tls.engine import VERSIONS, TlsEngine

if TYPE_CHECKING:
    from labkit.browser.tls.context import SSLContext

_NAMES = {number: {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name] for version, number in VERSIONS.items()}
_size = len  # which is the name of a parameter below, as in ssl


class SSLObject:
    """As `ssl.SSLObject`: its methods raise SSLWantReadError until the octets that they need are in `incoming`."""

    session = None
    session_reused = False

    def __init__(
        self,
        context: "SSLContext",
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None,
    ) -> None:
        name = server_hostname.encode("idna").decode() if server_hostname else None
        self.context, self.server_side, self.server_hostname = context, server_side, name
        self._engine = TlsEngine(incoming, outgoing, context.judge(name) if not server_side else None, context.keylog)
        self._shaking: Iterator[object] | None = self._handshake()
        self._receiving: Iterator[object] | None = None
        self._plain = bytearray()
        self._said_goodbye = False
        self._failure: ssl.SSLError | None = None

    def _handshake(self) -> Iterator[object]:
        context, name = self.context, self.server_hostname
        if not self.server_side:
            return self._engine.connect(context.settings(), None if name and chain.ip_address(name) else name)
        return self._engine.accept(context.settings(), context.chain, context.key)

    def _advance(self, work: Iterator[object]) -> object:
        """Go on with the engine's work to its end: what it has come to. Raises what `ssl` raises."""
        if self._failure is not None:
            raise self._failure
        result: object = None
        try:
            for result in work:
                if isinstance(result, int):  # it waits
                    self._engine.sock.flush()
                    raise errors.want_read()
        except ssl.SSLWantReadError:
            raise
        except Exception as error:  # on hostile octets tlslite-ng raises what it likes
            why = self._engine.refusal
            raise self._failed(errors.translated(error) if why is None else errors.refused(why)) from None
        return result

    def _failed(self, error: ssl.SSLError) -> ssl.SSLError:
        """From now on this error is all that there is."""
        self._failure = error
        return error

    def do_handshake(self) -> None:
        """Make the handshake, or go on with it."""
        if self._shaking is not None:
            self._advance(self._shaking)
            self._shaking = None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 (as in ssl)
        """Octets that the other side sent; b"" at their end. With a buffer: how many were put into it."""
        self.do_handshake()
        if not self._plain:
            self._plain += self._received()
        data = bytes(self._plain[:len])
        del self._plain[:len]
        if not data and len and self._said_goodbye:
            raise errors.closed()
        if buffer is None:
            return data
        memoryview(buffer).cast("B")[: _size(data)] = data
        return _size(data)

    def _received(self) -> bytes:
        if self._receiving is None:
            self._receiving = self._engine.receive()
        data = self._advance(self._receiving)
        self._receiving = None
        return data if isinstance(data, bytes) else b""

    def write(self, data: Any) -> int:
        """Send octets: how many."""
        self.do_handshake()
        octets = bytes(data)
        if self._said_goodbye:
            raise errors.failed("PROTOCOL_IS_SHUTDOWN")
        if octets:
            self._advance(self._engine.transmit(octets))
        return len(octets)

    def unwrap(self) -> None:
        """Send close_notify, and wait for the other side's."""
        if self._shaking is not None:
            raise errors.failed("SHUTDOWN_WHILE_IN_INIT")
        if not self._said_goodbye:
            self._said_goodbye = True
            self._advance(self._engine.say_goodbye())
        if self._plain or self._received():
            raise self._failed(errors.failed("APPLICATION_DATA_AFTER_CLOSE_NOTIFY"))

    def pending(self) -> int:
        """How many octets can be read at once."""
        return len(self._plain)

    def version(self) -> str | None:
        """The version of TLS; None before it is agreed on and after a failure."""
        return None if self._shaking is not None or self._failure is not None else _NAMES[self._engine.version]

    def cipher(self) -> tuple[str, str, int] | None:
        """OpenSSL's name of the suite, the version, and the bits of its key; None before it is agreed on."""
        version = self.version()
        return None if version is None else describe.suite(self._engine.suite, version)

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The server's certificate: in DER, or as a dict, which is empty when it was not checked."""
        shown = self.get_unverified_chain()
        if self._shaking is not None:
            raise ValueError("handshake not done yet")
        if not shown:
            return None
        if binary_form:
            return shown[0]
        return describe.certificate(shown[0]) if self.context.verify_mode != ssl.CERT_NONE else {}

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates that the server has shown, in DER, its own first."""
        return [] if self.server_side else self._engine.server_chain

    def compression(self) -> None:
        """None: nobody compresses any more (RFC 8446 section 4.1.2)."""

    def selected_alpn_protocol(self) -> None:
        """None: ALPN is not spoken."""
