"""Connections in memory: the end that a protocol on a loop has, and the end that a cell has.

Each end knows what has arrived and was not read, and how the other end left; what is sent is at once in the other's inbox,
as far as there is room. The rules are TCP's: a close is a FIN, or a reset when something has not been read; what is sent to
an end that has closed is answered with a reset.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

from labkit.wire.sockets import BlockingSocket

Address = tuple[str, int]

WINDOW = 2**16  # octets that have arrived and nobody has read: no more are sent, as in TCP
MOST = 2**18  # octets that a protocol is given at a time, as asyncio does it
_LINGER = b"\1\0\0\0\0\0\0\0"  # struct linger: on, for 0 seconds; closing resets the connection


def system_error(kind: type[OSError], number: int) -> OSError:
    """The error that the system would raise."""
    return kind(number, os.strerror(number))


class Pump(Protocol):
    """Runs the network until `done()`, or, without it, until nothing moves any more. Raises TimeoutError."""

    def __call__(self, done: Callable[[], bool] | None = None, timeout: float | None = None) -> None: ...


class End:
    """One end of a connection: what has arrived and waits to be read, and how the other end left."""

    peer: "End"

    def __init__(self) -> None:
        self.inbox = bytearray()
        self.ended = False  # the peer has finished sending (FIN)
        self.broken = False  # the peer has dropped the connection (RST)
        self.closed = False
        self._finished = False

    @property
    def room(self) -> int:
        """How many octets may be sent to it now."""
        return WINDOW if self.closed else max(0, WINDOW - len(self.inbox))

    def arrive(self, octets: bytes) -> None:
        """The peer has sent octets. A closed end answers them with a reset."""
        if self.closed:
            self.peer.drop()
        else:
            self.inbox += octets
            self.notice()

    def end(self) -> None:
        """The peer has finished sending."""
        self.ended = True
        self.notice()

    def drop(self) -> None:
        """The peer has reset the connection. What had arrived before can still be read, as on Linux."""
        if not self.closed:
            self.broken = True
            self.notice()

    def take(self, most: int) -> bytes:
        """Read what has arrived."""
        octets = bytes(self.inbox[:most])
        del self.inbox[:most]
        self.peer.notice()
        return octets

    def finish(self) -> None:
        """Send nothing more."""
        if not self._finished:
            self._finished = True
            self.peer.end()

    def leave(self, *, reset: bool = False) -> None:
        """Close: with a reset when something has not been read (RFC 1122 section 4.2.2.13)."""
        self.closed = True
        if reset or self.inbox:
            self.peer.drop()
        else:
            self.finish()

    def notice(self) -> None:
        """Something has changed: at this end, or in the room that the peer has."""


class MemoryTransport(asyncio.Transport, End):
    """The end that a protocol on a loop has."""

    _start_tls_compatible = True

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol | None = None, **addresses: Address
    ) -> None:
        asyncio.Transport.__init__(self, addresses)
        End.__init__(self)
        self._loop = loop
        self._protocol = protocol
        self._unsent = bytearray()
        self._closing = self._eof_told = self._paused = self._finishing = False
        self._peer_full = self._noticed = False
        self._low, self._high = WINDOW // 4, WINDOW

    def begin(self, factory: Callable[[], asyncio.BaseProtocol] | None = None) -> None:
        """Tell the protocol, which a server makes now."""
        self._loop.call_soon(self._begin, factory)

    def _begin(self, factory: Callable[[], asyncio.BaseProtocol] | None) -> None:
        if factory is not None:
            self._protocol = factory()
        self.get_protocol().connection_made(self)
        self.notice()

    # From the network: whatever happens is looked at in the loop, once

    def notice(self) -> None:
        if not self._noticed and not self.closed:
            self._noticed = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._noticed = False
        if self._protocol is None or self.closed:
            return
        self._send()
        if self._paused or self._closing:
            return
        if self.inbox:
            _feed(self.get_protocol(), self.take(MOST))
            self.notice()
        elif self.ended and not self._eof_told:
            self._eof_told = True
            if not cast(asyncio.Protocol, self.get_protocol()).eof_received():
                self.close()
            self.notice()
        elif self.broken:
            self._force_close(system_error(ConnectionResetError, errno.ECONNRESET))

    # To the network

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not (self._finishing or self._closing):
            self._unsent += data
            self._send()

    def _send(self) -> None:
        octets = bytes(self._unsent[: self.peer.room])
        if octets and self.broken:
            self._force_close(system_error(ConnectionResetError, errno.ECONNRESET))
            return
        if octets:
            del self._unsent[: len(octets)]
            self.peer.arrive(octets)
        protocol = self.get_protocol()
        if len(self._unsent) > self._high and not self._peer_full:
            self._peer_full = True
            protocol.pause_writing()
        elif len(self._unsent) <= self._low and self._peer_full:
            self._peer_full = False
            protocol.resume_writing()
        if not self._unsent and self._finishing:
            self.finish()
        if not self._unsent and self._closing:
            self._force_close(None)

    def write_eof(self) -> None:
        self._finishing = True
        self._send()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send()

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        """What asyncio's SSLProtocol calls."""
        self._closing = True
        self._unsent.clear()
        self._loop.call_soon(self._lose, exc)

    def _lose(self, exc: BaseException | None) -> None:
        if self.closed:
            return
        try:
            self.get_protocol().connection_lost(cast(Exception | None, exc))
        finally:
            self.leave(reset=self.broken)

    # What protocols ask

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.notice()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None  # noqa: S101 - before there is one, nobody has the transport
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = WINDOW if high is None else high
        self._low = self._high // 4 if low is None else low


def _feed(protocol: asyncio.BaseProtocol, octets: bytes) -> None:
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast(asyncio.Protocol, protocol).data_received(octets)
        return
    rest = memoryview(octets)
    while rest:
        buffer = memoryview(protocol.get_buffer(len(rest)))
        taken = min(len(buffer), len(rest))
        buffer[:taken] = rest[:taken]
        protocol.buffer_updated(taken)
        rest = rest[taken:]


class MemorySocket(BlockingSocket, End):
    """The end that a cell has: a blocking socket, as far as smtplib, poplib and a learner use one."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, pump: Pump, timeout: float | None) -> None:
        BlockingSocket.__init__(self)
        End.__init__(self)
        self._pump = pump
        self._timeout = timeout
        self._lingers = True
        self.own = self.other = ("", 0)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of these octets. Raises TimeoutError when the other end does not read them."""
        rest = bytes(data)
        while rest:
            self._refuse_when_closed()
            if self.broken and not self.ended:
                raise system_error(ConnectionResetError, errno.ECONNRESET)
            if self._finished or self.broken:
                raise system_error(BrokenPipeError, errno.EPIPE)
            octets, rest = rest[: self.peer.room], rest[self.peer.room :]
            self.peer.arrive(octets)
            self._pump()
            if rest:
                self._pump(lambda: bool(self.peer.room or self.broken), self._timeout)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """The next octets, b"" at their end; MSG_PEEK leaves them there. Raises TimeoutError when none can come any more."""
        self._refuse_when_closed()
        if self._timeout == 0:
            self._pump()
            if not self._readable():
                raise system_error(BlockingIOError, errno.EAGAIN)
        self._pump(self._readable, self._timeout)
        if self.inbox:
            return bytes(self.inbox[:bufsize]) if flags & socket.MSG_PEEK else self.take(bufsize)
        if self.broken and not self.ended:
            raise system_error(ConnectionResetError, errno.ECONNRESET)
        return b""

    def _readable(self) -> bool:
        return bool(self.inbox or self.ended or self.broken)

    def _refuse_when_closed(self) -> None:
        if self.closed:
            raise system_error(OSError, errno.EBADF)

    def settimeout(self, value: float | None) -> None:
        """Seconds to wait; None: as long as anything can still happen."""
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Seconds to wait."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Wait, or do not."""
        self._timeout = None if flag else 0.0

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Only SO_LINGER means something here: with 0 seconds, closing resets the connection."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._lingers = value != _LINGER

    def getsockname(self) -> Address:
        """This end's address and port."""
        return self.own

    def getpeername(self) -> Address:
        """The other end's."""
        return self.other

    def fileno(self) -> int:
        """-1: the system knows nothing of it."""
        return -1

    def shutdown(self, how: int) -> None:
        """Send nothing more."""
        self._refuse_when_closed()
        if how != socket.SHUT_RD:
            self.finish()
            self._pump()

    def _close(self) -> None:
        self.leave(reset=not self._lingers)
        self._pump()
