"""Where protocols listen: TCP on the loopback interface, served from a thread of its own.

The thread has its own event loop, so a server never disturbs the loop of a notebook's kernel, and a blocking client in a
cell cannot starve it. Every accepted connection is layered transport → tap → (TLS) → protocol: protocols use only their
transport and their loop, and sockets, threads and implicit TLS live behind this door.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
import threading
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from labkit.errors import LabError, PortTaken, is_port
from labkit.texts import _
from labkit.wire.capture import Capture, TapRecording, choose_engine
from labkit.wire.endpoints import Book
from labkit.wire.live import LiveRecording
from labkit.wire.tap import Served, Tap, Taps

T = TypeVar("T")

if sys.platform != "win32":
    import resource

HOST = "127.0.0.1"
BACKLOG = 1024  # connections that wait to be accepted; a class may connect at the same moment
CONNECTIONS = 1024  # that are served at a time, where the system gives this process descriptors enough
AT_ONCE = 32  # that are accepted before the first of them is counted
RESERVE = 160  # descriptors that are left to everything else in this process
PATIENCE = 0.3  # seconds that a handler has to end by itself after its connection was dropped
LIMIT = 1.5  # seconds after which stop() no longer waits for a handler that refuses to be cancelled


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a protocol listens."""

    host: str
    port: int


class Network:
    """A place for protocols to listen. A context manager; `start` and `stop` may be repeated, `stop` is idempotent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._servers: list[asyncio.Server] = []
        self.listeners: tuple[Listener, ...] = ()
        self.turned_away = 0  # connections that were closed at once, because too many were open
        self._taps = Taps()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread. Harmless when it runs already."""
        with self._lock:
            if self._loop is not None:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), name="labkit network", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Close every listener, drop every connection, end the thread: in less than two seconds, whatever clients do."""
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            if self._thread.is_alive():
                self._await(self._wind_down())
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            # Else this is a forked child: the thread, and all that it serves, are its parent's.
            self._loop = self._thread = None

    def listen(self, factory: Callable[[], Served], port: int = 0, tls: ssl.SSLContext | None = None) -> Listener:
        """Serve `factory`'s protocols on 127.0.0.1; port 0 takes a free one; `tls` is spoken from the first byte.

        Raises PortTaken, or another LabError where the system does not allow the port.
        """
        sock = _bound(port)
        try:
            self._await(self._serve(sock, factory, tls))
        except BaseException:
            sock.close()
            raise
        listener = Listener(HOST, sock.getsockname()[1])
        self.listeners += (listener,)
        return listener

    def record(self, engine: str = "auto", *, book: Book | None = None) -> Capture:
        """A capture of all that crosses this network's listeners, to be started: `with network.record() as capture:`.

        engine: "tap", "live" or "auto" (see `choose_engine`). book: the endpoints that people know. Listen first:
        the live engine hears the ports that are listened on when it is made. Raises EngineUnavailable.
        """
        if choose_engine(engine) == "live":
            return Capture(LiveRecording(listener.port for listener in self.listeners), book)
        return Capture(TapRecording(self._taps, self.call), book)

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` in the network's thread and return what it returns."""

        async def called() -> T:
            return function(*args)

        # A forked child has its parent's objects, and not its thread.
        if self._thread is not None and (threading.current_thread() is self._thread or not self._thread.is_alive()):
            return function(*args)
        return self._await(called())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None or threading.current_thread() is self._thread:
                work.close()
                raise RuntimeError("the network must be started, and be asked from another thread than its own")
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self, sock: socket.socket, factory: Callable[[], Served], tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        make = factory if tls is None else partial(_secured, loop, factory, tls)
        self._servers.append(await loop.create_server(partial(self._admitted, make), sock=sock, backlog=AT_ONCE))
        sock.listen(BACKLOG)

    def _admitted(self, make: Callable[[], Served]) -> asyncio.Protocol:
        """What is served to the next connection: nothing when there are as many as can be."""
        if len(self._taps.live) < _most():
            return Tap(self._taps, make)
        self.turned_away += 1
        return _TurnedAway()

    async def _wind_down(self) -> None:
        """Close, drop, and wait until nothing is left: connections first, so that protocols can end by themselves."""
        # What has just been accepted is attached to its server, which must still be open then: so first accept no more,
        # then let that happen. (Windows' loop does both in one step, and has no readers.)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):
            for sock in (sock for server in self._servers for sock in server.sockets):
                loop.remove_reader(sock.fileno())
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.listeners = ()
        began = time.monotonic()
        me = asyncio.current_task()
        pause = 0.0
        while (left := asyncio.all_tasks() - {me}) or self._taps.live:
            self._taps.abort()
            waited = time.monotonic() - began
            if waited > PATIENCE:
                for task in left:
                    task.cancel()
            if waited > LIMIT:
                break
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.01)
        self._taps.recordings.clear()
        # What was scheduled by the last connection_lost still runs.
        await asyncio.sleep(0)


class _TurnedAway(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def _most() -> int:
    """How many connections are served at a time: without a descriptor, accepting would fail over and over."""
    if sys.platform == "win32":
        return CONNECTIONS
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(CONNECTIONS, max(descriptors - RESERVE, 1))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _secured(loop: asyncio.AbstractEventLoop, factory: Callable[[], Served], tls: ssl.SSLContext) -> SSLProtocol:
    """`factory`'s protocol inside TLS. Nobody waits for the handshake, hence no waiter."""
    return SSLProtocol(loop, cast(asyncio.Protocol, factory()), tls, cast(Any, None), server_side=True)


def _bound(port: int) -> socket.socket:
    """A listening socket's beginnings: bound to loopback, and to nothing else."""
    if not is_port(port, lowest=0):
        message = _("{port!r} is not a port: give a number from 1 to 65535, or 0 for a free port.")
        raise LabError(message.format(port=port))
    # With its protocol named, asyncio sends small replies at once (TCP_NODELAY) instead of 40 ms later.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        # Two sockets may be bound to one port until one of them listens: the second learns it here.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _port_error(port, error) from error
    return sock


def _port_error(port: int, error: OSError) -> LabError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            _(
                "Port {port} is taken by another program: stop that program, or give another port, or 0 for a free one."
            ).format(port=port)
        )
    if isinstance(error, PermissionError):
        return LabError(
            _(
                "This system does not let you listen on port {port}: give a port above 1023, or 0 for a free one."
            ).format(port=port)
        )
    return LabError(
        _("Port {port} on {host} cannot be used ({reason}): give another port, or 0 for a free one.").format(
            port=port, host=HOST, reason=error.strerror
        )
    )
