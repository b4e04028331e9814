"""Recording: the packets of one experiment, whatever recorded them.

An engine (tap, live or a file) gives frames as they were recorded. From there on there is one way: frames become TCP
connections between the endpoints that people know, scapy packets, and files. While an engine runs, a recording tells what
there is so far, and before it starts nothing; once it has stopped, everything is worked out once and kept.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, cast

from labkit.errors import BadSetting, EngineUnavailable, LabError
from labkit.startable import Startable
from labkit.texts import N_, _
from labkit.wire import pcap, pcap_writer
from labkit.wire.capture_file import Progress
from labkit.wire.endpoints import MADE_HERE, NameResolver, SavedNames
from labkit.wire.events import Event
from labkit.wire.flows import Flow, ServerSigns, reassemble
from labkit.wire.frames import Frame, Synthesizer, readdress

if TYPE_CHECKING:
    from scapy.packet import Packet
    from scapy.plist import PacketList

    from labkit.wire.tap import Taps

T = TypeVar("T")

ENGINES = ("auto", "tap", "live")
ENGINE_VARIABLE = "LABKIT_CAPTURE"
_HOW_IT_WAS_MADE = {
    "tap": N_(
        "tap engine: real bytes, as the server's socket had them, in reconstructed Ethernet, IP and TCP headers."
    ),
    "live": N_("live engine: the operating system's own packets."),
}


class Engine(Protocol):
    """What a recording is made with: frames that grow until it stops.

    name: "tap", "live" or "file". notes: sentences about what is not as it should be.
    """

    @property
    def name(self) -> str: ...
    @property
    def running(self) -> bool: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def frames(self) -> Sequence[Frame]: ...


class TapEngine:
    """The bytes at the servers' sockets, as packets. `call` runs a function in the thread that the taps live in."""

    name = "tap"
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


class FileEngine:
    """The packets of a capture file. Raises BadCapture when there is nothing to read."""

    name = "file"
    running = False

    def __init__(self, path: str | os.PathLike[str], progress: Progress | None = None) -> None:
        self.file = pcap.read(path, progress)
        self.notes = self.file.notes

    def start(self) -> None:
        message = _("A capture file is complete and is not recorded: read it as it is, without `with` and start().")
        raise LabError(message)

    def stop(self) -> None:
        """A file has ended already."""

    def frames(self) -> Sequence[Frame]:
        return self.file.frames


class Recording(Startable):
    """The packets of one experiment.

    A context manager around what is to be recorded, or `start` and `stop`. `keylog` is text in NSS format, "" without
    one: whoever holds the keys may set it.
    """

    signs = ServerSigns()  # where neither a SYN nor a name tells which end is the server

    def __init__(
        self, engine: Engine, names: NameResolver | None = None, *, keylog: str = "", comment: str = ""
    ) -> None:
        self._engine = engine
        self._names = names
        self._comment = comment
        self._kept: dict[str, object] = {}
        self._started = False
        self.keylog = keylog

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Self:
        """Read a pcap or pcapng file, of whomever. `progress` is told (octets done, octets in all). Raises BadCapture."""
        engine = FileEngine(path, progress)
        comment = engine.file.comment
        return cls(engine, SavedNames(comment), keylog=engine.file.keylog, comment=comment)

    def start(self) -> None:
        """Record from now on. Raises LabError the second time, and for a file."""
        if self._started:
            message = _("A capture records once, and this one has: ask the provider for a new one with capture().")
            raise LabError(message)
        self._engine.start()
        self._started = True

    def stop(self) -> None:
        """Record no more, once the connections that are being closed are closed. Harmless when it has stopped."""
        self._engine.stop()

    @property
    def engine(self) -> str:
        """What made the packets: "tap", "live", or "file"."""
        return self._engine.name

    @property
    def running(self) -> bool:
        """Whether it still records."""
        return self._engine.running

    @property
    def frames(self) -> Sequence[Frame]:
        """The packets as they were recorded, with the addresses that the sockets had."""
        return self._keep("frames", self._engine.frames)

    @property
    def named_frames(self) -> Sequence[Frame]:
        """The packets between the addresses that people know, as a saved file has them."""
        names = self._names
        if names is None or self.engine == "file":
            return self.frames
        return self._keep("named_frames", lambda: readdress(self.frames, names))

    @property
    def connections(self) -> tuple[Flow, ...]:
        """The TCP connections, between the endpoints that people know."""
        return self._keep("connections", lambda: reassemble(self.frames, self._names, self.signs))

    @property
    def packets(self) -> "PacketList":
        """scapy's packets, with the addresses that people know. About 150 µs a packet, and scapy's import once."""
        return self._keep("packets", lambda: _scapy(self.named_frames))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what is missing or damaged: an end in mid-packet, packets that the system dropped."""
        return self._engine.notes

    def save(self, path: str | os.PathLike[str], *, addresses: str = "names") -> Path:
        """Write a pcap or pcapng file, as the suffix says, and return its path.

        addresses: "names" for the endpoints that people know, on their standard ports, "real" for what the sockets had.
        A pcapng file also tells what made it, and holds the key log. Raises BadCapture or BadSetting.
        """
        if addresses not in {"names", "real"}:
            message = _('The addresses of a saved capture are "names" or "real", not "{given}": choose one of the two.')
            raise BadSetting(message.format(given=addresses))
        named = addresses == "names"
        pcap_writer.write(
            path, self.named_frames if named else self.frames, comment=self._remark(named), keylog=self.keylog
        )
        return Path(path)

    def _keep(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives; the same from then on, once nothing more can come."""
        if name in self._kept:
            return cast(T, self._kept[name])
        finished = (self._started or self.engine == "file") and not self.running
        made = make()
        if finished:
            self._kept[name] = made
        return made

    def _remark(self, named: bool) -> str:
        """The comment of a saved file: which engine made the packets, and who the addresses are."""
        if self.engine == "file":
            return self._comment
        lines = [f"{MADE_HERE}, {_(_HOW_IT_WAS_MADE[self.engine])}"]
        if named and self._names is not None:
            lines.append(_("Loopback addresses and ports were replaced:"))
            ends = [end for flow in self.connections for end in (flow.client, flow.server)]
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
        message = _('There is no capture engine "{name}" ({where}): choose one of {engines}.')
        raise EngineUnavailable(message.format(name=name, where=where, engines=", ".join(ENGINES)))
    if name == "tap":
        return "tap"
    reason = why_not_live()
    if reason and name == "live":
        message = _('{reason} Take the engine "tap" instead: it records the same bytes and needs no privilege.')
        raise EngineUnavailable(message.format(reason=reason))
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
