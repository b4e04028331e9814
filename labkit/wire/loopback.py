"""The loopback carrier: TCP on 127.0.0.1, served from a thread of its own.

The thread has its own event loop, so a server never disturbs the loop of a notebook's kernel, and a blocking client in a
cell cannot starve it. Sockets and threads live behind this door; what is served knows only its transport and its loop.
"""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from labkit.wire import live
from labkit.wire.events import EventKind

T = TypeVar("T")

HOST = "127.0.0.1"
BACKLOG = 1024  # connections that wait to be accepted; a class may connect at the same moment
CONNECTIONS = 1024  # that are served at a time, where the system gives this process descriptors enough
AT_ONCE = 32  # that are accepted before the first of them is counted
RESERVE = 160  # descriptors that are left to everything else in this process


class LoopbackCarrier:
    """A Carrier (labkit/wire/network.py) whose packets the operating system carries."""

    host = HOST

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._servers: list[asyncio.Server] = []

    def start(self) -> None:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="labkit network", daemon=True)
                self._thread.start()

    def stop(self, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            if self._thread.is_alive():
                self._await(self._wind_down(drop))
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            # Else this is a forked child: the thread, and all that it serves, are its parent's.
            self._loop = self._thread = None

    def listen(self, accept: Callable[[], asyncio.Protocol], port: int) -> int:
        sock = _bound(port)
        try:
            self._await(self._serve(sock, accept))
        except BaseException:
            sock.close()
            raise
        bound: int = sock.getsockname()[1]
        return bound

    def call(self, function: Callable[..., T], *args: object) -> T:
        # A forked child has its parent's objects, and not its thread.
        if self._thread is not None and (threading.current_thread() is self._thread or not self._thread.is_alive()):
            return function(*args)

        async def called() -> T:
            return function(*args)

        return self._await(called())

    def capacity(self) -> int:
        """Without a descriptor, accepting would fail over and over."""
        if sys.platform == "win32":
            return CONNECTIONS
        import resource

        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(CONNECTIONS, max(descriptors - RESERVE, 1))

    def last_events(self, transport: asyncio.Transport) -> tuple[EventKind, ...]:
        """A server that closes first never hears of the client's FIN, because its socket is gone: the FIN is supposed."""
        match _peek(transport.get_extra_info("socket")):
            case ConnectionError():
                return (EventKind.CLIENT_RST,)
            case bytes() as unread if unread:
                return (
                    EventKind.SERVER_RST,
                )  # closing with unread data resets the connection (RFC 1122 section 4.2.2.13)
            case bytes():
                return EventKind.CLIENT_FIN, EventKind.SERVER_FIN
            case _:
                return EventKind.SERVER_FIN, EventKind.CLIENT_FIN

    def why_not_live(self) -> str:
        return live.available()

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None or threading.current_thread() is self._thread:
                work.close()
                raise RuntimeError("the network must be started, and be asked from another thread than its own")
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self, sock: socket.socket, accept: Callable[[], asyncio.Protocol]) -> None:
        self._servers.append(await asyncio.get_running_loop().create_server(accept, sock=sock, backlog=AT_ONCE))
        sock.listen(BACKLOG)

    async def _wind_down(self, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
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
        await drop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _bound(port: int) -> socket.socket:
    """A listening socket's beginnings: bound to loopback, and to nothing else."""
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
    except OSError:
        sock.close()
        raise
    return sock


def _peek(sock: socket.socket) -> bytes | OSError:
    """The next unread octet, b"" where the client's FIN waits, or the error that the connection has met."""
    try:
        # A reset after the client's FIN reads like that FIN; only the socket's error tells.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return ConnectionResetError()
        with sock.dup() as twin:
            return twin.recv(1, socket.MSG_PEEK)
    except OSError as error:
        return error
