"""The timeline: who speaks when, and how much. It is what traffic analysis sees, encrypted or not.

Every burst is a bar, in the order of the wire: the client's upwards, the server's downwards, and twice the bytes are twice
the height, so that a message stands out of its commands. The bytes stand beside it where there is room. Time itself is not
drawn, because it never repeats; the order is what gives a protocol away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from labkit.decode.dissection import Dissection, LineKind
from labkit.decode.spans import Visibility
from labkit.show.dialogue import more_connections, protocol_of
from labkit.show.figure import Figure
from labkit.show.groups import Group, groups, sized
from labkit.show.marks import FAINT, PROTOCOL, TEXT, Style, legend, style
from labkit.show.safe import block, fit
from labkit.show.sheet import BOLD, END, MIDDLE, Sheet
from labkit.texts import _
from labkit.wire.flows import Side

PANEL = 2.45  # inches of a conversation
LEFT, EDGE = 1.35, 0.25
BURSTS = 60  # bursts of a conversation that are drawn
PANELS = 6  # conversations that are drawn
LEAST, HALF = 0.02, 0.7  # inches of a bar that would be lower, and of the largest bar
WIDEST = 0.42  # inches from bar to bar
HANDSHAKE = 0.2  # inches of a handshake, whatever its size
TIP, BEYOND = 0.1, 0.16  # inches from a bar to its mark, and from there to its bytes
NARROW = 0.17  # inches; a bar that gets less has no room for its mark
WORDS = 30  # bursts of a conversation that are told in words


@dataclass(frozen=True, slots=True)
class DrawnBurst:
    """What one side said before the other answered. size: bytes of mail, None for a handshake."""

    side: Side
    style: Style
    size: int | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One conversation."""

    title: str
    bursts: tuple[DrawnBurst, ...]
    left_out: int


def bursts(dissection: Dissection) -> Iterator[DrawnBurst]:
    """The bursts of a conversation, each with the style of what is easiest to learn from it."""
    for _side, found in groupby(groups(dissection), attrgetter("side")):
        yield _burst(tuple(found))


def _burst(found: Sequence[Group]) -> DrawnBurst:
    mail = [group for group in found if group.kind is not LineKind.TLS or group.records]
    if not mail:
        return DrawnBurst(found[0].side, style(Visibility.HANDSHAKE), None)
    styles = legend(group.headline.style for group in mail)
    telling = [each for each in styles if each.name != PROTOCOL]
    return DrawnBurst(found[0].side, (telling or list(styles))[0], sum(group.size for group in mail))


class Timeline(Figure):
    """Bars up and down, one panel for each conversation. engine: what made the packets."""

    def __init__(self, dissections: Sequence[Dissection], *, engine: str = "") -> None:
        super().__init__(engine)
        self.title = _("Who speaks, in which order, and how much")
        self.panels = tuple(map(_panel, dissections[:PANELS]))
        self.left_out = more_connections(len(dissections) - PANELS)
        self.height = 0.15 + PANEL * len(self.panels) + 0.75 + (0.3 if self.left_out else 0)

    @property
    def alt(self) -> str:
        told = []
        for panel in self.panels:
            known = [burst.size for burst in panel.bursts if burst.size is not None]
            one = len(panel.bursts) == 1
            words = _("{title}: 1 burst, of {most}") if one else _("{title}: {count} bursts, the largest of {most}")
            told.append(words.format(title=panel.title, count=len(panel.bursts), most=sized(max(known, default=0))))
        return _("Bars for each burst, the client's upwards, the server's downwards. {panels}.").format(
            panels="; ".join(told)
        )

    def text(self) -> str:
        lines = [self.title]
        for panel in self.panels:
            told = " ".join(map(_in_words, panel.bursts[:WORDS]))
            lines.append(fit(f"{panel.title}: {told}", 400))
        if self.left_out:
            lines.append(self.left_out)
        return block([*lines, _("→ client, ← server; bytes of each burst; a handshake's size is not told")])

    def draw(self, sheet: Sheet) -> None:
        most = max((burst.size or 0 for panel in self.panels for burst in panel.bursts), default=0)
        for number, panel in enumerate(self.panels):
            _draw_panel(sheet, panel, 0.15 + PANEL * number, most)
        below = 0.15 + PANEL * len(self.panels)
        if self.left_out:
            sheet.text(LEFT, below + 0.15, self.left_out, size=11)
        styles = legend(burst.style for panel in self.panels for burst in panel.bursts)
        sheet.legend(LEFT, self.height - 0.5, styles)
        scale = _("Twice the bytes are twice the height; a handshake's size is not told.")
        sheet.text(LEFT - 0.1, self.height - 0.15, scale, size=11)


def _in_words(burst: DrawnBurst) -> str:
    arrow = "→" if burst.side is Side.CLIENT else "←"
    return f"{arrow}{burst.style.mark}" + ("" if burst.size is None else f"{burst.size:,}")


def _panel(dissection: Dissection) -> Panel:
    found = tuple(bursts(dissection))
    return Panel(protocol_of(dissection), found[:BURSTS], max(len(found) - BURSTS, 0))


def _draw_panel(sheet: Sheet, panel: Panel, y: float, most: int) -> None:
    middle = y + 0.25 + TIP + BEYOND + 0.1 + HALF
    sheet.text(LEFT, y + 0.2, panel.title, size=13, face=BOLD)
    sheet.text(LEFT - 0.12, middle - HALF / 2, _("client ▲"), size=11, anchor=END, centred=True)
    sheet.text(LEFT - 0.12, middle + HALF / 2, _("server ▼"), size=11, anchor=END, centred=True)
    pitch = min(WIDEST, (sheet.width - LEFT - EDGE) / max(len(panel.bursts), 1))
    for number, burst in enumerate(panel.bursts):
        _draw_burst(sheet, burst, LEFT + pitch * number, middle, pitch, most)
    end = LEFT + pitch * len(panel.bursts)
    sheet.line((LEFT, middle), (end, middle), paint=TEXT, width=1.2)
    if panel.left_out:
        words = _("… {count:,} more bursts").format(count=panel.left_out)
        sheet.text(sheet.width - EDGE, y + 0.2, words, size=10, paint=FAINT, anchor=END)


def _draw_burst(sheet: Sheet, burst: DrawnBurst, x: float, middle: float, pitch: float, most: int) -> None:
    up = -1 if burst.side is Side.CLIENT else 1
    height = HANDSHAKE if burst.size is None else max(HALF * burst.size / max(most, 1), LEAST)
    top = middle - height if up < 0 else middle
    sheet.box(
        x + pitch * 0.1,
        top,
        pitch * 0.8,
        height,
        fill=burst.style.fill,
        edge=burst.style.stroke,
        hatched=burst.size is None,
    )
    if pitch < NARROW:
        return
    tip = middle + up * (height + TIP)
    sheet.text(x + pitch / 2, tip, burst.style.mark, size=10, anchor=MIDDLE, centred=True)
    if burst.size is not None and pitch >= WIDEST * 0.9:
        sheet.text(x + pitch / 2, tip + up * BEYOND, f"{burst.size:,}", size=10, anchor=MIDDLE, centred=True)
