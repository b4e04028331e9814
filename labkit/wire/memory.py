"""A carrier without sockets or threads: connections in memory, servers on loops of their own, and one thread for everything.

A server's protocols live on a `MemoryLoop`, which runs only while somebody waits for the network: a cell's socket that
reads or writes runs all loops until what it waits for is there (`Switchboard.pump`). The loop and the task that are running
meanwhile, a notebook kernel's, are set aside. When no loop has anything left to do, nobody can end the wait: it ends at
once, with TimeoutError.

While a memory network runs, `socket.create_connection` finds its ports on loopback; all else goes where it always went.
"""

import asyncio
import errno
import itertools
import socket
import sys
import threading
import time
from asyncio import events, tasks
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from ssl import SSLContext, SSLSocket
from typing import Any, TypeVar, cast

from labkit.texts import _
from labkit.wire.events import EventKind
from labkit.wire.memory_ends import Address, End, MemorySocket, MemoryTransport, system_error
from labkit.wire.sockets import TlsSocket

T = TypeVar("T")

HOST = "127.0.0.1"
CONNECTIONS = 1024  # that are served at a time
_SERVERS, _CLIENTS = range(20_000, 30_000), range(40_000, 60_000)  # ports


# Loops


class _Idle(Exception):
    """A loop has nothing to do for so many seconds; None: until something comes."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Selector:
    """What a loop asks how long it may sleep. Instead of sleeping it stops."""

    turns = 0  # of the loop that did something

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout == 0:
            self.turns += 1
            return []
        raise _Idle(timeout)


class MemoryLoop(asyncio.BaseEventLoop):
    """An event loop that runs when it is told to, until it has nothing more to do."""

    def __init__(self, board: "Switchboard") -> None:
        super().__init__()
        self._board = board
        self._selector = _Selector()

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: what comes from the network comes through call_soon."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def run_until_idle(self) -> tuple[bool, float | None]:
        """Run all that is ready: whether anything was, and the seconds until the next timer, None when there is none."""
        self._selector.turns = 0
        try:
            with _set_aside():
                self.run_forever()
        except _Idle as idle:
            return self._selector.turns > 0, idle.seconds
        return True, 0.0

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect to a port of the same switchboard. Raises ConnectionRefusedError, and what TLS raises."""
        protocol = protocol_factory()
        near = MemoryTransport(self, protocol if ssl is None else asyncio.Protocol())
        self._board.join(near, HOST, port)
        if ssl is None:
            near.begin()
            return near, protocol
        secured = await self.start_tls(near, protocol, ssl, server_hostname=server_hostname)
        if secured is None:  # what asyncio returns when the other end leaves during the handshake
            raise ConnectionAbortedError
        protocol.connection_made(secured)
        return secured, protocol


_ONE_TASK = sys.version_info >= (3, 14)  # is current in a thread; before, one in each loop
_swap_task: Callable[..., Any] = getattr(tasks, "_swap_current_task", lambda _loop, _task: None)


@contextmanager
def _set_aside(loop: asyncio.AbstractEventLoop | None = None) -> Iterator[None]:
    """Another loop, or none, is the running one for a while, in the place of the kernel's."""
    outer = events._get_running_loop()
    task = _swap_task(outer, None) if outer is not None and _ONE_TASK else None
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(outer)
        if task is not None:
            _swap_task(outer, task)


# Who listens where


class Switchboard:
    """The ports of this process's memory networks, and the loops that serve them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pumping = False
        self._loops: list[MemoryLoop] = []
        self._listening: dict[int, tuple[MemoryLoop, Callable[[], asyncio.BaseProtocol]]] = {}
        self._server_ports, self._client_ports = itertools.cycle(_SERVERS), itertools.cycle(_CLIENTS)

    def add(self, loop: MemoryLoop) -> None:
        """From now on this loop is run."""
        if not self._loops:
            socket.create_connection = create_connection  # type: ignore[assignment]
            SSLContext.sslsocket_class = _SecuredSocket
        self._loops.append(loop)

    def close_ports(self, loop: MemoryLoop) -> None:
        """Nobody is connected to this loop any more."""
        self._listening = {port: served for port, served in self._listening.items() if served[0] is not loop}

    def remove(self, loop: MemoryLoop) -> None:
        """This loop is run no more, and its ports are free."""
        self._loops.remove(loop)
        self.close_ports(loop)
        if not self._loops:
            socket.create_connection = _elsewhere
            SSLContext.sslsocket_class = _secured_elsewhere

    def listen(self, loop: MemoryLoop, factory: Callable[[], asyncio.BaseProtocol], port: int) -> int:
        """Serve a factory's protocols; 0 takes a free port. Raises OSError (EADDRINUSE)."""
        port = port or next(port for port in self._server_ports if port not in self._listening)
        if port in self._listening:
            raise system_error(OSError, errno.EADDRINUSE)
        self._listening[port] = loop, factory
        return port

    def listens(self, port: object) -> bool:
        """Whether a memory network has this port."""
        return port in self._listening

    def join(self, near: End, host: str, port: int) -> tuple[Address, Address]:
        """Connect an end to a port, from that address: both addresses. Raises ConnectionRefusedError."""
        if port not in self._listening:
            raise system_error(ConnectionRefusedError, errno.ECONNREFUSED)
        loop, factory = self._listening[port]
        own, other = (host, next(self._client_ports)), (HOST, port)
        far = MemoryTransport(loop, sockname=other, peername=own)
        near.peer, far.peer = far, near
        far.begin(factory)
        return own, other

    def connect(self, port: int, timeout: float | None, host: str) -> MemorySocket:
        """A cell's connection to a port."""
        near = MemorySocket(self.pump, timeout)
        near.own, near.other = self.join(near, host, port)
        self.pump()
        return near

    def pump(self, done: Callable[[], bool] | None = None, timeout: float | None = None) -> None:
        """Run every loop until `done()`; without it, until none has anything ready.

        Raises TimeoutError after so many seconds, and at once when nothing will happen in them by itself.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while done is None or not done():
            wait = self._run_all()
            if done is None or done():
                return
            left = None if ends is None else ends - time.monotonic()
            if wait is None or (left is not None and wait > left):
                raise TimeoutError("timed out")
            time.sleep(wait)

    def _run_all(self) -> float | None:
        """Run the loops until all are idle: seconds until the first timer of any."""
        with self._lock:
            if self._pumping:  # asked by what a loop runs: its own work goes on when that returns
                return 0.0
            self._pumping = True
            try:
                worked = True
                while worked:
                    looks = [loop.run_until_idle() for loop in tuple(self._loops)]
                    worked = any(did for did, _wait in looks)
            finally:
                self._pumping = False
            return min((wait for _did, wait in looks if wait is not None), default=None)

    def run(self, loop: MemoryLoop, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop to its end."""
        task = loop.create_task(work)
        self.pump(task.done)
        return task.result()


SWITCHBOARD = Switchboard()
_elsewhere, _secured_elsewhere = socket.create_connection, SSLContext.sslsocket_class


class _SecuredSocket(SSLSocket):
    """What contexts make of a socket in memory, and of any other."""

    @classmethod
    def _create(cls, sock: Any, *given: Any, **more: Any) -> Any:
        kind: Any = TlsSocket if isinstance(sock, MemorySocket) else _secured_elsewhere
        return kind._create(sock, *given, **more)


def create_connection(
    address: tuple[str | None, int],
    timeout: float | None = cast(float, socket._GLOBAL_DEFAULT_TIMEOUT),  # type: ignore[attr-defined]
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
) -> socket.socket:
    """As `socket.create_connection`; ports of memory networks are found on loopback."""
    host, port = address
    if not (host == "localhost" or str(host).startswith("127.")) or not SWITCHBOARD.listens(port):
        return _elsewhere(address, timeout, source_address, all_errors=all_errors)
    seconds = socket.getdefaulttimeout() if timeout is socket._GLOBAL_DEFAULT_TIMEOUT else timeout  # type: ignore[attr-defined]
    source = source_address[0] if source_address and source_address[0] else HOST
    return cast(socket.socket, SWITCHBOARD.connect(port, seconds, source))


class MemoryCarrier:
    """A Carrier (labkit/wire/network.py) whose octets never leave the process."""

    host = HOST

    def __init__(self) -> None:
        self._loop: MemoryLoop | None = None

    def start(self) -> None:
        if self._loop is None:
            self._loop = MemoryLoop(SWITCHBOARD)
            SWITCHBOARD.add(self._loop)

    def stop(self, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        try:
            SWITCHBOARD.close_ports(loop)
            SWITCHBOARD.run(loop, drop())
        finally:
            SWITCHBOARD.remove(loop)
            loop.close()

    def listen(self, accept: Callable[[], asyncio.Protocol], port: int) -> int:
        return SWITCHBOARD.listen(self._running(), accept, port)

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Whatever is ready is done first, as a thread of its own would have done it."""
        loop = self._running()
        if events._get_running_loop() is loop:
            return function(*args)
        SWITCHBOARD.pump()
        with _set_aside(loop):
            return function(*args)

    def capacity(self) -> int:
        """As many as on loopback."""
        return CONNECTIONS

    def last_events(self, transport: asyncio.Transport) -> tuple[EventKind, ...]:
        """As on loopback: a server that closes first never hears of the client's FIN, and it is supposed."""
        match transport:
            case MemoryTransport(broken=True):
                return (EventKind.CLIENT_RST,)
            case MemoryTransport(inbox=unread) if unread:
                return (EventKind.SERVER_RST,)
            case MemoryTransport(ended=True):
                return EventKind.CLIENT_FIN, EventKind.SERVER_FIN
        return EventKind.SERVER_FIN, EventKind.CLIENT_FIN

    def why_not_live(self) -> str:
        return _("This network is in memory, where the operating system sees no packets.")

    def _running(self) -> MemoryLoop:
        if self._loop is None:
            raise RuntimeError("the network must be started")
        return self._loop
