"""The dialogue of a running provider, line by line as it is said, of which a bounded part is kept."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from labkit.capture import Capture
from labkit.cli.base import as_json
from labkit.cli.terminal import NobodyReads, say
from labkit.decode.dissection import Dissection, Line, dissect
from labkit.provider import Provider
from labkit.show.marks import style_of
from labkit.texts import _
from labkit.wire.flows import Flow


class Limit(NamedTuple):
    """Of what is kept of a capture: strangers may send for ever."""

    packets: int
    octets: int


FOLLOWED = Limit(8_000, 64 << 20)
SAVED = Limit(200_000, 128 << 20)
SHOWN = 64 << 10  # octets of one connection


def is_full(capture: Capture, limit: Limit) -> bool:
    frames = capture.frames
    return len(frames) > limit.packets or sum(frame.length for frame in frames) > limit.octets


class SavedSession:
    """The session in a file, however it ends: also when whoever read the dialogue has gone. A context manager."""

    def __init__(self, provider: Provider, pcap: Path | None) -> None:
        self._pcap = pcap
        self._capture = provider.capture() if pcap is not None else None
        self._full = False

    def __enter__(self) -> Self:
        if self._capture is not None:
            self._capture.start()
        return self

    def limit(self) -> None:
        """Record no more once there is enough, and say so."""
        if self._capture is not None and not self._full and is_full(self._capture, SAVED):
            self._full = True
            self._capture.stop()
            say(_("{path} is full: what comes now is shown, but not saved.").format(path=self._pcap), error=True)

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if self._capture is None or self._pcap is None:
            return
        if kind is NobodyReads:
            message = _("Nobody reads the dialogue any more: the server stops, and the session goes into {path}.")
            with suppress(NobodyReads):
                say(message.format(path=self._pcap), error=True)
        self._capture.stop()
        self._capture.save(self._pcap)


class Follower:
    """Prints the lines that a running provider's connections have got since it was last asked.

    It follows a capture of its own, and begins another before that grows too long to be read again and again: when nobody
    is connected, or at the latest when it is full. Of one connection no more is shown than the beginning.
    """

    def __init__(self, provider: Provider, style: str) -> None:
        self._provider = provider
        self._style = style
        self._connections = 0  # in all
        self._begin()

    def _begin(self) -> None:
        self._capture = self._provider.capture()
        self._packets = 0
        self._busy = False
        self._numbers: dict[int, int] = {}
        self._octets: dict[int, int] = {}
        self._printed: dict[int, int] = {}
        self._capture.start()

    def print_new(self) -> None:
        """One line each: the connection's number, who spoke, the mark, the text."""
        self._print()
        full = is_full(self._capture, FOLLOWED)
        if not full and (self._packets < FOLLOWED.packets // 4 or self._busy):
            return
        self.stop()
        if full:
            say(_("Much has been said: what the connections that are open now go on to say is not shown."), error=True)
        self._connections += len(self._numbers)
        self._begin()

    def stop(self) -> None:
        """Follow no longer; what has been said is printed."""
        self._capture.stop()
        self._print()

    def _print(self) -> None:
        packets = len(self._capture.frames)
        if packets == self._packets:
            return
        self._packets = packets
        flows = [dissection for dissection in self._capture.flows if dissection.flow.opened]
        self._busy = not all(dissection.flow.closed for dissection in flows)
        for dissection in flows:
            self._print_of(dissection)

    def _print_of(self, dissection: Dissection) -> None:
        """The new lines of one connection."""
        flow = dissection.flow
        octets, before = len(flow.client_stream.data) + len(flow.server_stream.data), self._octets.get(flow.number, 0)
        if octets == before or before > SHOWN:
            return
        self._octets[flow.number] = octets
        number = self._numbers.setdefault(flow.number, self._connections + len(self._numbers) + 1)
        if octets > SHOWN:
            lines, complete = _beginning(dissection).lines, None
            said = _("Connection {number} says much: what comes after its first {size} KiB is not shown.")
            say(said.format(number=number, size=SHOWN >> 10), error=True)
        else:
            # A line without its end may still grow: it is printed when the next one has begun, or the connection ends.
            lines = dissection.lines
            complete = len(lines) if flow.closed or _ends_a_line(flow) else len(lines) - 1
        printed = self._printed.get(flow.number, 0)
        for line in lines[printed:complete]:
            say(self._shown(number, line))
        self._printed[flow.number] = max(complete or 0, printed)

    def _shown(self, number: int, line: Line) -> str:
        if self._style == "json":
            told = {"flow": number, "side": line.side, "kind": line.kind, "visibility": line.visibility}
            return as_json(told | {"text": line.text}, indent=None)  # a line each
        return f"{number:3} {line.side.value[0].upper()}: {style_of(line).mark} {line.text}"


def _ends_a_line(flow: Flow) -> bool:
    return all(flow.stream(burst.side).data[: burst.end].endswith(b"\n") for burst in flow.bursts[-1:])


def _beginning(dissection: Dissection) -> Dissection:
    """What both sides said first, and no more of it than is shown."""
    flow = dissection.flow
    size = SHOWN // 2
    client, server = (stream._replace(data=stream.data[:size]) for stream in (flow.client_stream, flow.server_stream))
    return dissect(flow._replace(client_stream=client, server_stream=server), protocol=dissection.protocol)
