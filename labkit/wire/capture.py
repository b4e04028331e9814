"""Capture: the packets of one experiment, whatever recorded them; what a learner holds in hand.

A recording (tap, live or a file) gives frames as they were recorded. From there on there is one way: frames become flows
between the endpoints that people know, scapy packets, and files. While a recording runs, a capture tells what there is so
far, and before it starts nothing; once it has stopped, everything is worked out once and kept.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, cast

from labkit.errors import BadSetting, EngineUnavailable, LabError
from labkit.texts import _
from labkit.wire import pcap
from labkit.wire.endpoints import Book, Endpoint
from labkit.wire.events import Address, Event
from labkit.wire.flows import Flow, reassemble
from labkit.wire.frames import Frame, Synthesizer, readdress

if TYPE_CHECKING:
    from scapy.packet import Packet
    from scapy.plist import PacketList

    from labkit.wire.tap import Taps

T = TypeVar("T")

ENGINES = ("auto", "tap", "live")
ENGINE_VARIABLE = "LABKIT_CAPTURE"

# The line of a host table (as in /etc/hosts), in the comment of a file that labkit wrote.
_HOST = re.compile(r"(?P<address>[0-9a-fA-F:.]+) (?P<name>[A-Za-z0-9.-]+)")
_MADE_HERE = "labkit"


class AddressBook:
    """Who the two ends of a connection are for people.

    The lab's servers listen on loopback and on free ports; people know mail.example and port 25. `services` gives the
    standard port for each real (address, port) that the lab listens on. Clients get ports 50001, 50002, … in the order
    in which they first appear. Names are from RFC 2606, addresses from RFC 5737 and RFC 3849. One book for each capture:
    it remembers whom it has seen.
    """

    SERVER = "mail.example"
    CLIENT = "client.example"

    def __init__(self, services: Mapping[Address, int]) -> None:
        self._services = dict(services)
        self._hosts: list[str] = []
        self._ports: dict[Address, int] = {}

    def server(self, address: str, port: int) -> Endpoint | None:
        """The lab's server that listens there, or None."""
        standard = self._services.get((address, port))
        if standard is None:
            return None
        return Endpoint("2001:db8::25" if ":" in address else "192.0.2.25", standard, self.SERVER)

    def client(self, address: str, port: int) -> Endpoint:
        """The client that uses that address and port."""
        # The first is 198.51.100.7, and the network ends at .254: more hosts than that keep their own address.
        host = self._host(address)
        known = self._ports.setdefault((address, port), 50_001 + len(self._ports) % 15_000)
        if host > 247:
            return Endpoint(address, port)
        name = self.CLIENT if host == 0 else self.CLIENT.replace(".", f"{host + 1}.")
        return Endpoint(f"2001:db8::{host + 7:x}" if ":" in address else f"198.51.100.{host + 7}", known, name)

    def _host(self, address: str) -> int:
        """0 for this machine's usual loopback address, then 1, 2, … in order of appearance."""
        if address in {"127.0.0.1", "::1"}:
            return 0
        if address not in self._hosts:
            self._hosts.append(address)
        return self._hosts.index(address) + 1


class HostTable:
    """The names in a file that labkit saved: its addresses are the ones that people know, and stay as they are."""

    def __init__(self, comment: str) -> None:
        """From the file's comment. Of what others wrote nothing is believed."""
        lines = comment.splitlines() if comment.startswith(_MADE_HERE) else []
        self._names = {match["address"]: match["name"] for match in map(_HOST.fullmatch, lines) if match}

    def server(self, address: str, port: int) -> Endpoint | None:
        return self.client(address, port) if address in self._names else None

    def client(self, address: str, port: int) -> Endpoint:
        return Endpoint(address, port, self._names.get(address, ""))


class Recording(Protocol):
    """What a capture is made from: frames that grow until the recording stops.

    engine: "tap", "live" or "file". notes: sentences about what is not as it should be.
    """

    @property
    def engine(self) -> str: ...
    @property
    def running(self) -> bool: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def frames(self) -> Sequence[Frame]: ...


class TapRecording:
    """The bytes at the servers' sockets, as packets. `call` runs a function in the thread that the taps live in."""

    engine = "tap"
    notes = ()

    def __init__(self, taps: "Taps", call: Callable[..., object]) -> None:
        self._taps = taps
        self._call = call
        self._events: list[Event] = []
        self._synthesizer = Synthesizer()
        self._frames: list[Frame] = []
        self.running = False

    def start(self) -> None:
        self._call(self._taps.record, self._events)
        self.running = True

    def stop(self) -> None:
        """Stop, once every connection that is being closed is closed: that takes a moment, and half a second at most."""
        self._taps.finish(self._events, self._call)
        self.running = False

    def frames(self) -> Sequence[Frame]:
        fresh = self._events[:]
        del self._events[: len(fresh)]  # in place, for the taps go on writing to it
        self._frames += self._synthesizer.add(fresh)
        return tuple(self._frames)


class FileRecording:
    """The packets of a capture file. Raises BadCapture when there is nothing to read."""

    engine = "file"
    running = False

    def __init__(self, path: str | os.PathLike[str], progress: pcap.Progress | None = None) -> None:
        self.file = pcap.read(path, progress)
        self.notes = self.file.notes

    def start(self) -> None:
        message = _("A capture file is complete and is not recorded: read it as it is, without `with` and start().")
        raise LabError(message)

    def stop(self) -> None:
        """A file has ended already."""

    def frames(self) -> Sequence[Frame]:
        return self.file.frames


class Capture:
    """The packets of one experiment.

    A context manager around what is to be recorded, or `start` and `stop`. `keylog` is text in NSS format, "" without
    one: whoever holds the keys may set it.
    """

    def __init__(self, recording: Recording, book: Book | None = None, keylog: str = "", comment: str = "") -> None:
        self._recording = recording
        self._book = book
        self._comment = comment
        self._kept: dict[str, object] = {}
        self._started = False
        self.keylog = keylog

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, progress: pcap.Progress | None = None) -> Self:
        """Read a pcap or pcapng file, of whomever. `progress` is told (octets done, octets in all). Raises BadCapture."""
        recording = FileRecording(path, progress)
        comment = recording.file.comment
        return cls(recording, HostTable(comment), recording.file.keylog, comment)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Record from now on. Raises LabError the second time, and for a file."""
        if self._started:
            message = _("A capture records once, and this one has: ask the provider for a new one with capture().")
            raise LabError(message)
        self._recording.start()
        self._started = True

    def stop(self) -> None:
        """Record no more, once the connections that are being closed are closed. Harmless when it has stopped."""
        self._recording.stop()

    @property
    def engine(self) -> str:
        """What made the packets: "tap", "live", or "file"."""
        return self._recording.engine

    @property
    def running(self) -> bool:
        """Whether it still records."""
        return self._recording.running

    @property
    def finished(self) -> bool:
        """Whether nothing more can come: it has recorded and stopped, or is a file."""
        return (self._started or self.engine == "file") and not self.running

    @property
    def frames(self) -> Sequence[Frame]:
        """The packets as they were recorded, with the addresses that the sockets had."""
        return self._keep("frames", self._recording.frames)

    @property
    def named_frames(self) -> Sequence[Frame]:
        """The packets between the addresses that people know."""
        if self._book is None or self.engine == "file":
            return self.frames
        book = self._book
        return self._keep("named_frames", lambda: readdress(self.frames, book))

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The TCP connections, between the endpoints that people know."""
        return self._keep("flows", lambda: reassemble(self.frames, self._book))

    @property
    def packets(self) -> "PacketList":
        """scapy's packets, with the addresses that people know. About 150 µs a packet, and scapy's import once."""
        return self._keep("packets", lambda: _scapy(self.named_frames))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what is missing or damaged: an end in mid-packet, packets that the system dropped."""
        return self._recording.notes

    def save(self, path: str | os.PathLike[str], *, addresses: str = "names") -> Path:
        """Write a pcap or pcapng file, as the suffix says, and return its path.

        addresses: "names" for the endpoints that people know, on their standard ports, "real" for what the sockets had.
        A pcapng file also tells what made it, and holds the key log. Raises BadCapture or BadSetting.
        """
        if addresses not in {"names", "real"}:
            raise BadSetting(
                _(
                    'The addresses of a saved capture are "names" or "real", not "{given}": choose one of the two.'
                ).format(given=addresses)
            )
        named = addresses == "names"
        frames = self.named_frames if named else self.frames
        pcap.write(path, frames, comment=self._remark(named), keylog=self.keylog)
        return Path(path)

    def _keep(self, name: str, make: Callable[[], T]) -> T:
        if name in self._kept:
            return cast(T, self._kept[name])
        finished = self.finished
        made = make()
        if finished:
            self._kept[name] = made
        return made

    def _remark(self, named: bool) -> str:
        """The comment of a saved file: which engine made the packets, and who the addresses are."""
        if self.engine == "file":
            return self._comment
        made = {
            "tap": _(
                "tap engine: real bytes, as the server's socket had them, in reconstructed Ethernet, IP and TCP headers."
            ),
            "live": _("live engine: the operating system's own packets."),
        }[self.engine]
        lines = [f"{_MADE_HERE}, {made}"]
        if named and self._book is not None:
            lines.append(_("Loopback addresses and ports were replaced:"))
            ends = [end for flow in self.flows for end in (flow.client, flow.server)]
            lines += dict.fromkeys(f"{end.address} {end.name}" for end in ends if end.name)
        return "\n".join(lines)


def choose_engine(engine: str, why_not_live: Callable[[], str]) -> str:
    """ "tap" or "live" for an engine's name; "auto" takes LABKIT_CAPTURE's, else live where it is possible, else tap.

    why_not_live: gives a sentence where the live engine cannot run, else "".
    Raises EngineUnavailable for a name that no engine has, and for a named engine that cannot run.
    """
    name = engine if engine != "auto" else os.environ.get(ENGINE_VARIABLE) or "auto"
    if name not in ENGINES:
        where = _("capture engine") if name == engine else ENGINE_VARIABLE
        raise EngineUnavailable(
            _('There is no capture engine "{name}" ({where}): choose one of {engines}.').format(
                name=name, where=where, engines=", ".join(ENGINES)
            )
        )
    if name == "tap":
        return "tap"
    reason = why_not_live()
    if reason and name == "live":
        raise EngineUnavailable(
            _('{reason} Take the engine "tap" instead: it records the same bytes and needs no privilege.').format(
                reason=reason
            )
        )
    return "tap" if reason else "live"


def _scapy(frames: Sequence[Frame]) -> "PacketList":
    """Packets for scapy; only the layers up to IP and TCP are loaded."""
    import scapy.layers.inet
    import scapy.layers.inet6  # IPv6 inside Ethernet
    import scapy.layers.l2  # noqa: F401  # Ethernet, and the link types of other systems
    from scapy.config import conf
    from scapy.packet import Raw
    from scapy.plist import PacketList
    from scapy.utils import EDecimal

    def packet(frame: Frame) -> "Packet":
        made = conf.l2types.num2layer.get(frame.link, Raw)(frame.data)
        made.time = EDecimal(frame.time) / 10**9
        made.wirelen = frame.length
        return made

    return PacketList([packet(frame) for frame in frames], name="labkit")
