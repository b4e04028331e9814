"""Capture: what a learner holds in hand. The wire's record, read with decode's eyes and shown with show's faces.

What it shows is what an eavesdropper sees. `unlock` gives the same capture as its two ends see it, with a TLS key log.
Everything is worked out when it is asked for, anew until the recording has stopped, and kept from then on.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from labkit.decode.cost import Cost, cost
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import Exposure, expose
from labkit.decode.protocol import Protocol
from labkit.decode.protocols import by_name
from labkit.errors import BadKeyLog, BadSetting, expect, is_port
from labkit.files import KeyLogFile
from labkit.texts import _
from labkit.wire.capture import Capture as Record
from labkit.wire.frames import Frame

if TYPE_CHECKING:
    from scapy.plist import PacketList

    from labkit.decode.tls.decrypt import KeyLog
    from labkit.show.dialogue import Dialogue
    from labkit.show.explain import Explanation
    from labkit.show.exposure import ExposureTable
    from labkit.show.figure import Figure

T = TypeVar("T")
MOST_REASONS = 3  # why keys did not open something: as many are told


class Capture:
    """The packets of one experiment, and all that can be seen in them. A context manager around what is recorded."""

    def __init__(
        self,
        record: Record,
        *,
        keylog: KeyLogFile | None = None,
        keys: "KeyLog | None" = None,
        decode_as: Mapping[int, str] | None = None,
    ) -> None:
        self._record = record
        self._keylog = keylog
        self._keys = keys
        self._decode_as: Mapping[int, str] = {} if decode_as is None else decode_as
        self._taken_for = _taken_for(self._decode_as)
        self._kept: dict[str, object] = {}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        decode_as: Mapping[int, str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Read a pcap or pcapng file, of whomever. decode_as: what to take a port for, such as {2525: "smtp"}.

        progress is called with octets done and octets in all. Raises BadCapture, and BadSetting for `decode_as`.
        """
        return cls(Record.load(path, progress=progress), decode_as=decode_as)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Record from now on. Raises LabError the second time, and for a file."""
        self._record.start()

    def stop(self) -> None:
        """Record no more, once the connections that are being closed are closed. Harmless when it has stopped."""
        self._record.stop()
        if self._keylog is not None:
            self._record.keylog = self._keylog.text()

    @property
    def engine(self) -> str:
        """What made the packets: "tap", "live", or "file"."""
        return self._record.engine

    @property
    def frames(self) -> Sequence[Frame]:
        """The packets as they were recorded, with the addresses that the sockets had."""
        return self._record.frames

    @property
    def named_frames(self) -> Sequence[Frame]:
        """The packets with the addresses that people know, as a saved file has them."""
        return self._record.named_frames

    @property
    def packets(self) -> "PacketList":
        """scapy's packets, with the addresses that people know."""
        return self._record.packets

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what is missing or damaged, and about what the keys, where there are any, did not open."""
        return (*self._record.notes, *self._keep("closed", self._closed))

    @property
    def keylog(self) -> str:
        """The TLS session keys in NSS format, where the provider was asked to write them; else empty."""
        return self._record.keylog

    def save(self, path: str | os.PathLike[str], *, addresses: str = "names") -> Path:
        """Write a pcap or pcapng file, as the suffix says, and return its path.

        addresses: "names" for the endpoints that people know, on their standard ports, "real" for what the sockets had.
        Raises BadCapture or BadSetting.
        """
        return self._record.save(path, addresses=addresses)

    def unlock(self, keylog: str | os.PathLike[str] | None = None) -> Self:
        """The same capture as its two ends see it: what the keys open is explained like plaintext, marked as inside TLS.

        keylog: a file in NSS format (SSLKEYLOGFILE); without one, the keys that came with the capture: they open what they
        fit, and nothing where no handshake was made. Raises BadKeyLog for a file without keys, and where no keys came.
        """
        keys = self._own_keys() if keylog is None else _keys_in(keylog)
        return type(self)(self._record, keylog=self._keylog, keys=keys, decode_as=self._decode_as)

    @property
    def flows(self) -> tuple[Dissection, ...]:
        """Every TCP connection, understood."""
        return self._keep("flows", self._dissect)

    @property
    def findings(self) -> Exposure:
        """What an eavesdropper learns, as data: a finding for each fact."""
        return self._keep("findings", lambda: expose(self.flows))

    @property
    def exposure(self) -> "ExposureTable":
        """What an eavesdropper learns: a table, and a mapping from each fact to its finding."""
        from labkit.show.exposure import exposure_table

        return exposure_table(self.findings, self.flows)

    @property
    def cost(self) -> Cost:
        """Connections, packets, octets of payload, round trips."""
        return cost(dissection.flow for dissection in self.flows)

    @property
    def dialogue(self) -> "Dialogue":
        """What the two sides said, line by line, with marks."""
        from labkit.show.dialogue import dialogue

        return dialogue(self.flows)

    def explain(self, flow: int | None = None) -> "Explanation":
        """Every byte beside its meaning; of the one flow with this number (1-based), or of all. Raises BadSetting."""
        from labkit.show.explain import explain

        chosen = [one for one in self.flows if flow is None or one.number == flow]
        if flow is not None and not chosen:
            message = _("This capture has no flow number {number!r}: it has {count}, numbered from 1.")
            raise BadSetting(message.format(number=flow, count=len(self.flows)))
        return explain(chosen)

    def ladder(self) -> "Figure":
        """The dialogue as arrows between the two ends."""
        from labkit.show.ladder import ladder

        return ladder(self.flows, engine=self.engine)

    def strip(self) -> "Figure":
        """What share of the bytes anybody could read."""
        from labkit.show.strip import strip

        return strip(self.flows, engine=self.engine)

    def timeline(self) -> "Figure":
        """Who spoke when, and how much: what traffic analysis sees."""
        from labkit.show.timeline import timeline

        return timeline(self.flows, engine=self.engine)

    def report(self) -> dict[str, Any]:
        """All of it as plain data, for JSON; the README documents the shape."""
        from labkit.show.report import report

        return report(
            engine=self.engine,
            packets=len(self.frames),
            notes=self.notes,
            conversations=self.flows,
            exposure=self.findings,
            cost=self.cost,
        )

    def text(self) -> str:
        """The dialogue in plain text."""
        return self.dialogue.text()

    def page(self, title: str = "") -> str:
        """One self-contained HTML page with all of it."""
        from labkit.show.explore import explore
        from labkit.show.page import page

        figures = [self.ladder(), self.strip(), self.timeline()]
        parts = [self.dialogue, self.exposure, *figures, explore(self).exact(), self.explain()]
        return page(title or _("A mail capture"), parts, engine=self.engine, notes=self.notes)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.dialogue.html()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both faces; the engine goes into the metadata, because outputs are the same under every engine."""
        return {"text/plain": self.text(), "text/html": self._repr_html_()}, {"labkit": {"engine": self.engine}}

    def _dissect(self) -> tuple[Dissection, ...]:
        return tuple(
            dissect(flow, protocol=self._taken_for.get(flow.server.port), keylog=self._keys)
            for flow in self._record.flows
        )

    def _closed(self) -> tuple[str, ...]:
        if self._keys is None:
            return ()
        reasons = dict.fromkeys(why for flow in self.flows for why in flow.closed_because)
        told = [
            _("Not all of TLS was opened. {reason}").format(reason=reason) for reason in islice(reasons, MOST_REASONS)
        ]
        more = len(reasons) - len(told)
        return (*told, *([_("Reasons that are not told here: {count}.").format(count=more)] if more else []))

    def _own_keys(self) -> "KeyLog":
        from labkit.decode.tls.decrypt import KeyLog, parse_keylog

        if not self.keylog and self._keylog is None:
            raise BadKeyLog(
                _("This capture came without TLS keys: make it with Provider(…, keylog=True), or name a key log file.")
            )
        try:
            return parse_keylog(self.keylog)
        except BadKeyLog:  # nobody has shaken hands, or whoever made the capture put in what cannot be used
            return KeyLog({})

    def _keep(self, name: str, make: Callable[[], T]) -> T:
        if not self._record.finished:
            return make()
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]  # type: ignore[return-value]


def _taken_for(decode_as: Mapping[int, str]) -> dict[int, Protocol]:
    expect(decode_as, Mapping, _('ports with what they speak, such as {2525: "smtp"}'))
    for port, name in decode_as.items():
        if not is_port(port) or by_name(name) is None:
            message = _(
                "Port {port!r} cannot be decoded as {name!r}: give a number from 1 to 65535, and smtp, pop3, smtps or pop3s."
            )
            raise BadSetting(message.format(port=port, name=name))
    return {port: protocol for port, name in decode_as.items() if (protocol := by_name(name))}


def _keys_in(path: str | os.PathLike[str]) -> "KeyLog":
    from labkit.decode.tls.decrypt import parse_keylog

    try:
        return parse_keylog(Path(path).read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise BadKeyLog(
            _("The key log {path} cannot be read: {why}. Name a file that SSLKEYLOGFILE made.").format(
                path=path, why=error.strerror
            )
        ) from None
