"""Blocking sockets that are none of the system's: what Python's can do, over nothing but receiving and sending.

`BlockingSocket` adds files, buffers, and closing once all files are closed. `TlsSocket` is TLS around one, made of an
SSLObject of whatever `ssl` there is: its own SSLSocket wants a descriptor of the system's.
"""

import contextlib
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_PIECE = 65_536  # octets asked for at a time


class BlockingSocket(ABC):
    """The part of `socket.socket` that smtplib, poplib and `makefile` use, over recv, sendall and _close."""

    def __init__(self) -> None:
        self._io_refs = 0  # files that are open: socket.SocketIO counts here
        self._closed = self._to_close = False

    @abstractmethod
    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """The next octets, at least one; b"" at the end of what the other side has to say."""

    @abstractmethod
    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of these octets."""

    @abstractmethod
    def _close(self) -> None:
        """Close it: called once."""

    makefile = socket.socket.makefile

    def send(self, data: Any, flags: int = 0) -> int:
        """Send octets: how many."""
        self.sendall(data, flags)
        return len(bytes(data))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Fill a buffer with the next octets: how many."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it, once every file made of it is closed."""
        self._to_close = True
        if self._io_refs <= 0 and not self._closed:
            self._closed = True
            self._close()

    def _decref_socketios(self) -> None:
        self._io_refs -= 1
        if self._to_close:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TlsSocket(BlockingSocket):
    """As `ssl.SSLSocket`, but around the socket that it is given, and not in its place."""

    @classmethod
    def _create(
        cls,
        sock: Any,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        context: Any = None,
        session: object = None,
    ) -> Self:
        """What `SSLContext.wrap_socket` calls, of its `sslsocket_class`."""
        if context.check_hostname and not server_side and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        made = cls(context, sock, server_side, server_hostname, suppress_ragged_eofs)
        if do_handshake_on_connect:
            made.do_handshake()
        return made

    def __init__(
        self,
        context: Any,
        sock: Any,
        server_side: bool,
        server_hostname: str | None,
        suppress_ragged_eofs: bool,
    ) -> None:
        super().__init__()
        self.context, self.server_side, self.server_hostname = context, server_side, server_hostname
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._sock = sock
        sock._io_refs += 1  # as a file does: whoever closes that socket now closes this one's connection no more
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)

    def __getattr__(self, name: str) -> Any:
        """What TLS adds nothing to is the object's or the socket's: version() and settimeout(), for example."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._object if hasattr(type(self._object), name) else self._sock, name)

    @property
    def _sslobj(self) -> Any:
        """What is asked for the chain before Python 3.13, which has get_unverified_chain."""
        return self._object._sslobj

    def do_handshake(self, block: bool = False) -> None:
        """Make the handshake. When it fails, the connection is closed."""
        try:
            self._work(self._object.do_handshake)
        except BaseException:
            self.close()
            raise

    def recv(self, bufsize: int = 1024, flags: int = 0) -> bytes:
        """The next octets, b"" at their end: also, unless it is asked for, at an end without close_notify."""
        try:
            data: bytes = self._work(lambda: self._object.read(bufsize))
            return data
        except ssl.SSLEOFError:
            if self.suppress_ragged_eofs:
                return b""
            raise

    read = recv

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of these octets."""
        self._work(lambda: self._object.write(data))

    write = BlockingSocket.send

    def unwrap(self) -> Any:
        """End TLS in order, both ways: the socket below."""
        self._work(self._object.unwrap)
        return self._sock

    def _work(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._sock.recv(_PIECE):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except BaseException:
                with contextlib.suppress(OSError):  # an alert that nobody hears
                    self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

    def _close(self) -> None:
        self._sock.close()
        self._sock._decref_socketios()
