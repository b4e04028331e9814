"""Capture: what a learner holds in hand. The wire's recording, read with decode's eyes and shown with show's faces.

What it shows is what an eavesdropper sees. `unlock` gives the same capture as its two ends see it, with a TLS key log.
Everything is worked out when it is asked for, anew until the recording has stopped, and kept from then on.
"""

import os
from collections.abc import Callable, Mapping
from copy import copy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from markupsafe import Markup

from labkit.decode.cost import Cost, cost
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import Exposure, expose
from labkit.decode.protocol import Protocol
from labkit.decode.protocols import PROTOCOLS, by_name
from labkit.errors import BadKeyLog, BadSetting, expect, is_port
from labkit.files import KeyLogFile
from labkit.show.view import View
from labkit.texts import _
from labkit.wire.endpoints import NameResolver
from labkit.wire.flows import ServerSigns
from labkit.wire.recording import Engine, Recording

if TYPE_CHECKING:
    from labkit.decode.tls.decrypt import KeyLog
    from labkit.show.dialogue import Dialogue
    from labkit.show.explain import Explanation
    from labkit.show.exposure import ExposureTable
    from labkit.show.figure import Figure

MOST_REASONS = 3  # why keys did not open something: as many are told


def _can_be(client: bytes, server: bytes) -> bool:
    """Whether these are a client's and a server's first octets, in some protocol."""
    return any(known.recognise(client, server, False) for known in PROTOCOLS)


class Capture(Recording, View):
    """The packets of one experiment, and all that can be seen in them. A context manager around what is recorded."""

    signs = ServerSigns(frozenset().union(*(known.ports.in_clear | {known.ports.tls} for known in PROTOCOLS)), _can_be)

    def __init__(
        self,
        engine: Engine,
        names: NameResolver | None = None,
        *,
        keylog: str = "",
        comment: str = "",
        keylog_file: KeyLogFile | None = None,
    ) -> None:
        super().__init__(engine, names, keylog=keylog, comment=comment)
        self._keylog_file = keylog_file
        self._keys: KeyLog | None = None
        self._inside = False
        self._decode_as: dict[int, Protocol] = {}

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
        decode = _taken_for({} if decode_as is None else decode_as)
        capture = super().load(path, progress=progress)
        capture._decode_as = decode
        return capture

    def stop(self) -> None:
        """Record no more, once the connections that are being closed are closed. Harmless when it has stopped."""
        super().stop()
        if self._keylog_file is not None:
            self.keylog = self._keylog_file.text()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what is missing or damaged, and about what the keys, where there are any, did not open."""
        return (*super().notes, *self._keep("closed", self._closed))

    def unlock(self, keylog: str | os.PathLike[str] | None = None) -> Self:
        """The same capture as its two ends see it: what the keys open is explained like plaintext, marked as inside TLS.

        keylog: a file in NSS format (SSLKEYLOGFILE); without one, the keys that came with the capture: they open what they
        fit, and nothing where no handshake was made. Raises BadKeyLog for a file without keys, and where no keys came.
        """
        return self._seen_with(self._own_keys() if keylog is None else _keys_in(keylog))

    def read_with(self, keylog: str) -> Self:
        """The capture as those who made these keys read it: what is inside TLS stands in the place of the ciphertext."""
        keys = _parsed(keylog)
        seen = self._seen_with(keys if keys.secrets else None)
        seen._inside = True
        return seen

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
        from labkit.show.exposure import ExposureTable

        return ExposureTable(self.findings, self.flows)

    @property
    def cost(self) -> Cost:
        """Connections, packets, octets of payload, round trips."""
        return cost(dissection.flow for dissection in self.flows)

    @property
    def dialogue(self) -> "Dialogue":
        """What the two sides said, line by line, with marks."""
        from labkit.show.dialogue import Dialogue

        return Dialogue(self.flows)

    def explain(self, flow: int | None = None) -> "Explanation":
        """Every byte beside its meaning; of the one flow with this number (1-based), or of all. Raises BadSetting."""
        from labkit.show.explain import Explanation

        chosen = [one for one in self.flows if flow is None or one.number == flow]
        if flow is not None and not chosen:
            message = _("This capture has no flow number {number!r}: it has {count}, numbered from 1.")
            raise BadSetting(message.format(number=flow, count=len(self.flows)))
        return Explanation(chosen)

    def ladder(self) -> "Figure":
        """The dialogue as arrows between the two ends."""
        from labkit.show.ladder import Ladder

        return Ladder(self.flows, engine=self.engine)

    def strip(self) -> "Figure":
        """What share of the bytes anybody could read."""
        from labkit.show.strip import Strip

        return Strip(self.flows, engine=self.engine)

    def timeline(self) -> "Figure":
        """Who spoke when, and how much: what traffic analysis sees."""
        from labkit.show.timeline import Timeline

        return Timeline(self.flows, engine=self.engine)

    def report(self) -> dict[str, Any]:
        """All of it as plain data, for JSON; the README documents the shape."""
        from labkit.show.report import report

        return report(
            engine=self.engine,
            packets=len(self.frames),
            notes=self.notes,
            dissections=self.flows,
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

    def body(self) -> Markup:
        """The dialogue in HTML."""
        return self.dialogue.body()

    def _dissect(self) -> tuple[Dissection, ...]:
        flows = tuple(
            dissect(flow, protocol=self._decode_as.get(flow.server.port), keylog=self._keys)
            for flow in self.connections
        )
        return tuple(flow.opened or flow for flow in flows) if self._inside else flows

    def _seen_with(self, keys: "KeyLog | None") -> Self:
        """The same packets, seen anew."""
        seen = copy(self)
        seen._keys = keys
        seen._kept = {name: made for name, made in self._kept.items() if name not in {"flows", "findings", "closed"}}
        return seen

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
        if not self.keylog and self._keylog_file is None:
            raise BadKeyLog(
                _("This capture came without TLS keys: make it with Provider(…, keylog=True), or name a key log file.")
            )
        return _parsed(self.keylog)


def _taken_for(decode_as: Mapping[int, str]) -> dict[int, Protocol]:
    expect(decode_as, Mapping, _('ports with what they speak, such as {2525: "smtp"}'))
    for port, name in decode_as.items():
        if not is_port(port) or by_name(name) is None:
            message = _(
                "Port {port!r} cannot be decoded as {name!r}: give a number from 1 to 65535, and smtp, pop3, smtps or pop3s."
            )
            raise BadSetting(message.format(port=port, name=name))
    return {port: protocol for port, name in decode_as.items() if (protocol := by_name(name))}


def _parsed(keylog: str) -> "KeyLog":
    """The keys that came with a capture: none where nobody has shaken hands, or where somebody put in what is no key log."""
    from labkit.decode.tls.decrypt import KeyLog, parse_keylog

    try:
        return parse_keylog(keylog)
    except BadKeyLog:
        return KeyLog({})


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
