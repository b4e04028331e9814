"""What every blocking socket can do that can receive and send: files, buffers, and closing once all files are closed.

Python's own sockets do this in C and with a descriptor of the system's; these need neither.
"""

import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self


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
