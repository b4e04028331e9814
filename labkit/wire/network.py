"""Where protocols listen, whatever carries their octets.

A network runs on a carrier: TCP on loopback (wire/loopback.py), or memory. Every accepted connection is layered
transport → tap → (TLS) → protocol: protocols use only their transport and their loop, so one protocol serves on all of them.
"""

import asyncio
import errno
import os
import ssl
import sys
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from labkit.errors import BadSetting, LabError, PortTaken, is_port
from labkit.startable import Startable
from labkit.texts import _
from labkit.wire.events import EventKind
from labkit.wire.live import LiveEngine
from labkit.wire.recording import Engine, TapEngine, choose_engine
from labkit.wire.tap import Served, Tap, Taps

T = TypeVar("T")

CARRIERS = ("loopback", "memory")
CARRIER_VARIABLE = "LABKIT_NETWORK"
PATIENCE = 0.3  # seconds that a handler has to end by itself after its connection was dropped
LIMIT = 1.5  # seconds after which stop() no longer waits for a handler that refuses to be cancelled


class Carrier(Protocol):
    """What a network runs on. host: the address that its listeners have."""

    host: str

    def start(self) -> None:
        """Be ready to listen. Harmless when it is."""

    def stop(self, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Listen no more, run `drop` in the loop, which ends what was accepted, and end the loop. Harmless when it has."""

    def listen(self, accept: Callable[[], asyncio.Protocol], port: int) -> int:
        """Give each connection to that port, 0 for any free one, the protocol that `accept` makes; return the port.

        Raises OSError when the port cannot be had, RuntimeError when the carrier was not started.
        """

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` where the protocols run, and return what it returns."""

    def capacity(self) -> int:
        """How many connections can be served at a time."""

    def last_events(self, transport: asyncio.Transport) -> tuple[EventKind, ...]:
        """How a connection ends: asked when its transport has closed without an error, and has not let go of it yet."""

    def why_not_live(self) -> str:
        """Why the live engine cannot hear it: a sentence, or "" where it can."""


def default_carrier() -> Carrier:
    """What LABKIT_NETWORK names, or else loopback; in a browser tab memory, which is all that there is.

    Raises BadSetting for another name.
    """
    usual = "memory" if sys.platform == "emscripten" else "loopback"
    match os.environ.get(CARRIER_VARIABLE) or usual:
        case "memory":
            from labkit.wire.memory import MemoryCarrier

            return MemoryCarrier()
        case "loopback":
            from labkit.wire.loopback import LoopbackCarrier

            return LoopbackCarrier()
        case other:
            message = _("{variable} is {name!r}, which is no network of the lab. Choose one of: {names}.")
            raise BadSetting(message.format(variable=CARRIER_VARIABLE, name=other, names=", ".join(CARRIERS)))


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a protocol listens."""

    host: str
    port: int


class Network(Startable):
    """A place for protocols to listen. A context manager; `start` and `stop` may be repeated, `stop` is idempotent."""

    def __init__(self, carrier: Carrier | None = None) -> None:
        self._carrier: Carrier = default_carrier() if carrier is None else carrier
        self.taps = Taps(self._carrier.last_events)  # what is connected now, and who records it
        self.listeners: tuple[Listener, ...] = ()
        self.turned_away = 0  # connections that were closed at once, because too many were open

    def start(self) -> None:
        """Be ready to listen. Harmless when it is."""
        self._carrier.start()

    def stop(self) -> None:
        """Close every listener and drop every connection: in less than two seconds, whatever clients do."""
        self._carrier.stop(self._drop)
        self.listeners = ()

    def listen(self, factory: Callable[[], Served], port: int = 0, tls: ssl.SSLContext | None = None) -> Listener:
        """Serve `factory`'s protocols; port 0 takes a free one; `tls` is spoken from the first byte.

        Raises PortTaken, or another LabError where the system does not allow the port.
        """
        if not is_port(port, lowest=0):
            message = _("{port!r} is not a port: give a number from 1 to 65535, or 0 for a free port.")
            raise LabError(message.format(port=port))
        make = factory if tls is None else partial(_secured, factory, tls)
        try:
            bound = self._carrier.listen(partial(self._admitted, make), port)
        except OSError as error:
            raise _port_error(self._carrier.host, port, error) from error
        listener = Listener(self._carrier.host, bound)
        self.listeners += (listener,)
        return listener

    def record(self, engine: str = "auto") -> Engine:
        """What records all that crosses this network's listeners.

        engine: "tap", "live" or "auto" (see `choose_engine`). Listen first: the live engine hears the ports that are
        listened on when it is made. Raises EngineUnavailable.
        """
        if choose_engine(engine, self._carrier.why_not_live) == "live":
            return LiveEngine(listener.port for listener in self.listeners)
        return TapEngine(self.taps, self.call)

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` where the protocols run, and return what it returns."""
        return self._carrier.call(function, *args)

    def _admitted(self, make: Callable[[], Served]) -> asyncio.Protocol:
        """What is served to the next connection: nothing when there are as many as can be."""
        if len(self.taps.live) < self._carrier.capacity():
            return Tap(self.taps, make)
        self.turned_away += 1
        return _TurnedAway()

    async def _drop(self) -> None:
        """Drop every connection and wait until nothing is left, tasks last, so that protocols can end by themselves."""
        began = time.monotonic()
        me = asyncio.current_task()
        pause = 0.0
        while (left := asyncio.all_tasks() - {me}) or self.taps.live:
            self.taps.abort()
            waited = time.monotonic() - began
            if waited > PATIENCE:
                for task in left:
                    task.cancel()
            if waited > LIMIT:
                break
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.01)
        self.taps.recordings.clear()
        # What was scheduled by the last connection_lost still runs.
        await asyncio.sleep(0)


class _TurnedAway(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def _secured(factory: Callable[[], Served], tls: ssl.SSLContext) -> SSLProtocol:
    """`factory`'s protocol inside TLS.

    asyncio documents TLS from the first byte only for servers that it opens itself, which leave no room for a tap below
    TLS. Nobody waits for the handshake, hence no waiter.
    """
    protocol = cast(asyncio.Protocol, factory())
    return SSLProtocol(asyncio.get_running_loop(), protocol, tls, cast(Any, None), server_side=True)


def _port_error(host: str, port: int, error: OSError) -> LabError:
    if error.errno == errno.EADDRINUSE:
        message = _(
            "Port {port} is taken by another program: stop that program, or give another port, or 0 for a free one."
        )
        return PortTaken(message.format(port=port))
    if isinstance(error, PermissionError):
        message = _("This system does not let you listen on port {port}: give a port above 1023, or 0 for a free one.")
        return LabError(message.format(port=port))
    message = _("Port {port} on {host} cannot be used ({reason}): give another port, or 0 for a free one.")
    return LabError(message.format(port=port, host=host, reason=error.strerror))
