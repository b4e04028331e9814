"""The tap: what a server's socket received and sent, written down as it happens. It needs no privilege.

A `Tap` stands between the real transport and the server's protocol, below TLS, so it sees exactly the bytes that cross
the network, and it keeps the client's true address and port. It stays in place when a connection is upgraded to TLS.
Nothing is kept while nobody records; any number of recordings may run at once. Only bytes that were handed to the
operating system count as sent: what a closed or broken connection never carried is not written down.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from labkit.wire.endpoints import Address
from labkit.wire.events import Connection, Event, EventKind

GRACE = 0.5  # seconds

Served = asyncio.Protocol | asyncio.BufferedProtocol


class Taps:
    """All taps of one network, and the event lists that they write to. Used only in the network's thread."""

    def __init__(self, last_events: Callable[[asyncio.Transport], Sequence[EventKind]]) -> None:
        """last_events: tells how a connection ends whose transport has closed without an error."""
        self.last_events = last_events
        self.live: set[Tap] = set()
        self.recordings: list[list[Event]] = []
        self.accepted = 0

    def record(self, events: list[Event]) -> None:
        """From now on, every event is appended to `events`."""
        self.flush()
        self.recordings.append(events)

    def stop(self, events: list[Event]) -> None:
        """Nothing is appended to `events` any more. Harmless for a list that is not recorded to."""
        self.flush()
        self.recordings[:] = [recording for recording in self.recordings if recording is not events]

    def finish(self, events: list[Event], call: Callable[..., object]) -> None:
        """`stop`, once every connection that is being closed is closed: half a second at most.

        `call` runs a function in the network's thread. Two quiet looks in a row: what a client has just sent or closed
        is read before the first, and answered before the second.
        """
        began = time.monotonic()
        quiet = 0
        while self.recording(events) and quiet < 2 and time.monotonic() - began < GRACE:
            quiet = 0 if call(self.closing) else quiet + 1
            time.sleep(0.001)
        if self.recording(events):
            call(self.stop, events)

    def recording(self, events: list[Event]) -> bool:
        """Whether `events` is still written to."""
        # By identity: two recordings may hold equal events.
        return any(recording is events for recording in self.recordings)

    def closing(self) -> bool:
        """Whether a connection is being closed."""
        return any(tap.closing for tap in self.live)

    def flush(self) -> None:
        """Write down what the operating system has taken meanwhile of data that had to wait."""
        for tap in self.live:
            tap.flush()

    def abort(self) -> None:
        """Drop every live connection."""
        for tap in tuple(self.live):
            tap.abort()


class Tap(asyncio.Protocol):
    """The protocol that the real transport knows; `make` gives the one that is served through it."""

    def __init__(self, taps: Taps, make: Callable[[], Served]) -> None:
        self._taps = taps
        self._recordings = taps.recordings
        self._make = make
        self._unsent = bytearray()
        self._finished: set[EventKind] = set()

    @property
    def closing(self) -> bool:
        """One side has begun to close the connection."""
        return bool(self._finished) or self._raw.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = raw = cast(asyncio.Transport, transport)
        self._taps.live.add(self)
        self._taps.accepted += 1
        peer, own = (raw.get_extra_info(name) or ("", 0) for name in ("peername", "sockname"))
        self._connection = Connection(self._taps.accepted, _plain(peer), _plain(own))
        if self._recordings:
            self._write_down(EventKind.OPENED)
        self.serve(self._make())
        self.inner.connection_made(TapTransport(self, raw))

    def serve(self, inner: Served) -> None:
        """From now on `inner` is served: an upgrade to TLS puts another protocol in place."""
        self.inner = inner
        self._feed: Callable[[bytes], None]
        if isinstance(inner, asyncio.BufferedProtocol):
            self._feed = self._fill
        else:
            self._feed = inner.data_received

    def data_received(self, data: bytes) -> None:
        if self._recordings:
            self.flush()
            self._write_down(EventKind.RECEIVED, data)
        self._feed(data)

    def eof_received(self) -> bool | None:
        self.flush()
        self._end(EventKind.CLIENT_FIN)
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.flush()
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._taps.live.discard(self)
        if self._recordings:
            if self._unsent and exc is None:
                self._write_down(EventKind.SENT, bytes(self._unsent))
            for kind in (
                (EventKind.CLIENT_RST,) if isinstance(exc, ConnectionError) else self._taps.last_events(self._raw)
            ):
                self._end(kind)
        self._unsent.clear()
        self.inner.connection_lost(exc)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and write down what the operating system took.

        A connection that is being closed takes nothing more: asyncio would only report it on stderr, again and again.
        """
        if self._raw.is_closing():
            return
        if not self._recordings:
            self._raw.write(data)
            return
        self._raw.write(data)
        if self._raw.get_write_buffer_size() or self._unsent:
            self._unsent += data
            self.flush()
        elif data and not self._raw.is_closing():
            self._write_down(EventKind.SENT, bytes(data))

    def write_eof(self) -> None:
        """Half-close: the server has finished sending."""
        self._raw.write_eof()
        self.flush()
        if not self._raw.get_write_buffer_size():
            self._end(EventKind.SERVER_FIN)

    def flush(self) -> None:
        """Write down what left the transport's buffer since the last look.

        A closing transport with an empty buffer has either sent everything or thrown it away: connection_lost knows.
        """
        if not self._unsent:
            return
        waiting = self._raw.get_write_buffer_size()
        taken = len(self._unsent) - waiting
        if taken <= 0 or (not waiting and self._raw.is_closing()):
            return
        self._write_down(EventKind.SENT, bytes(self._unsent[:taken]))
        del self._unsent[:taken]

    def abort(self) -> None:
        """Drop the connection; what still waits to be sent is lost."""
        self.flush()
        self._unsent.clear()
        self._raw.abort()

    def _write_down(self, kind: EventKind, data: bytes = b"") -> None:
        event = Event(time.time_ns(), self._connection, kind, data)
        for events in self._recordings:
            events.append(event)

    def _end(self, kind: EventKind) -> None:
        if kind not in self._finished:
            self._finished.add(kind)
            self._write_down(kind)

    def _fill(self, data: bytes) -> None:
        """Feed a BufferedProtocol. An upgrade may replace it while it is being fed."""
        rest = memoryview(data)
        while rest:
            inner = self.inner
            if not isinstance(inner, asyncio.BufferedProtocol):
                self._feed(bytes(rest))
                return
            buffer = memoryview(inner.get_buffer(len(rest)))
            taken = min(len(buffer), len(rest))
            if not taken:
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:taken] = rest[:taken]
            inner.buffer_updated(taken)
            rest = rest[taken:]


_PASSED_ON = (
    "can_write_eof",
    "get_extra_info",
    "get_write_buffer_limits",
    "get_write_buffer_size",
    "is_closing",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_write_buffer_limits",
)


class TapTransport(asyncio.Transport):
    """The transport that a served protocol gets: the real one, with the tap on it.

    It can be upgraded in place both ways that asyncio knows: `loop.start_tls`, and an SSLProtocol set by hand.
    """

    _start_tls_compatible = True

    def __init__(self, tap: Tap, raw: asyncio.Transport) -> None:
        super().__init__()
        self._tap = tap
        self._raw = raw
        # Bound methods, not wrappers: what the tap has nothing to say about costs nothing.
        vars(self).update({name: getattr(raw, name) for name in _PASSED_ON}, write=tap.write, write_eof=tap.write_eof)

    def writelines(self, list_of_data: Any) -> None:
        self._tap.write(b"".join(list_of_data))

    def close(self) -> None:
        self._tap.flush()
        self._raw.close()

    def abort(self) -> None:
        self._tap.abort()

    def _force_close(self, exc: BaseException | None) -> None:
        """What asyncio's SSLProtocol calls where TLS has broken."""
        self._tap.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._tap.serve(cast(Served, protocol))

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._tap.inner


def _plain(address: tuple[Any, ...]) -> Address:
    """(address, port), with an IPv4-mapped IPv6 address written as the IPv4 address that it is."""
    host, port = address[:2]
    if ":" in host:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        host = str(mapped or host)
    return host, port
