"""The ladder: lanes with arrows between client and server, one for each session, to be compared at a glance.

What is about people has an arrow of its own; protocol words between such arrows share one, with their verbs and codes, and
so do small TLS records beside a large one. Nothing is drawn over anything else, and what is left out is counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum

from labkit.decode.dissection import Dissection, LineKind
from labkit.show.comparison import ShownSession
from labkit.show.dialogue import ends_of, more_connections, protocol_of, title_of
from labkit.show.figure import Figure
from labkit.show.groups import TELLING, Group, groups
from labkit.show.marks import FAINT, PAPER, PROTOCOL, STYLES, Style, legend
from labkit.show.safe import block, fit, visible, width
from labkit.show.sheet import BOLD, END, FIXED, MIDDLE, POINT, WIRE, Sheet, columns, measure, wrap
from labkit.texts import _
from labkit.wire.flows import Side

TITLES = (14, 12, 11, 10)  # points of a lane's title, the largest that fits
SIZE = 10  # points of text on an arrow
LINE = 0.168  # inches from one text line to the next
EDGE, BETWEEN = 0.2, 0.26  # inches beside and between lanes
MARGIN = 0.2  # inches left free beside the longest text
SHAFT = 0.34  # inches of an arrow on either side of words in its gap
INLINE = 0.27  # inches that an arrow with words in its gap takes
CHIP = 0.24  # inches that a mark takes before its text
MOST = 40  # steps of a conversation that are drawn
TOGETHER = 20  # protocol words that share an arrow and are named
PARTS = 12  # conversations of a lane that are drawn
SMALL = 4  # records smaller than the largest one's part of this share an arrow
WORDS = 60  # characters of a step in the text alternative


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow. side: who sent it, None for several in both directions."""

    side: Side | None
    style: Style
    words: str
    hatched: bool = False


@dataclass(frozen=True, slots=True)
class LanePart:
    """One conversation of a lane."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One session."""

    title: str
    parts: tuple[LanePart, ...]


def steps(dissection: Dissection) -> tuple[Step, ...]:
    """The arrows of a conversation."""
    found = groups(dissection)
    largest = max((group.size for group in found if group.records), default=0)

    def sort(group: Group) -> str:
        if group.records:
            return "small" if group.size * SMALL < largest else "large"
        telling = TELLING[LineKind.REPLY].match(group.headline.text)
        return "words" if group.headline.style.name == PROTOCOL and not telling else "own"

    drawn = [step for kind, alike in groupby(found, sort) for step in _together(kind, tuple(alike))]
    if len(drawn) <= MOST:
        return tuple(drawn)
    left = _("… {count:,} more arrows, in the capture").format(count=len(drawn) - MOST)
    return (*drawn[:MOST], Step(None, STYLES[PROTOCOL], left))


def _together(kind: str, found: Sequence[Group]) -> Iterator[Step]:
    if kind == "words" and len(found) > 1:
        more = [_("… {count:,} more").format(count=len(found) - TOGETHER)] if len(found) > TOGETHER else []
        yield Step(None, STYLES[PROTOCOL], " · ".join([*map(_word, found[:TOGETHER]), *more]))
    elif kind == "small" and len(found) > 1:
        sizes = [group.size for group in found]
        words = _("{count} × {least:,}–{most:,} bytes").format(count=len(found), least=min(sizes), most=max(sizes))
        yield Step(None, found[0].headline.style, words, hatched=True)
    else:
        for group in found:
            yield Step(group.side, group.headline.style, group.headline.text, group.kind is LineKind.TLS)


def _word(group: Group) -> str:
    """A group in one word: a command's verb, a reply's code."""
    return fit(visible(group.rows[0].text.split(" ")[0].split("-")[0] or "…"), 12)


class Ladder(Figure):
    """Lanes side by side, one for each session; a capture's conversations are one lane. engine: what made the packets."""

    def __init__(self, shown: Sequence[ShownSession] | Sequence[Dissection], *, engine: str = "") -> None:
        super().__init__(engine)
        self.title = _("Who says what, and who else can read it")
        self.lanes = tuple(Lane(title, tuple(_parts(dissections))) for title, dissections in _titled(shown))
        count = max(len(self.lanes), 1)
        self.width = 10.5 if count > 1 else 7.0
        self._lane = (self.width - 2 * EDGE - BETWEEN * (count - 1)) / count
        self._columns = columns(self._lane - CHIP - MARGIN, SIZE)
        self.height = 0.75 + max((self._length(lane) for lane in self.lanes), default=0.5) + 0.62

    def _lines(self, step: Step) -> list[str]:
        return wrap(visible(step.words), self._columns, 2)

    def _inline(self, step: Step) -> bool:
        """Whether the words have room in a gap of their arrow: protocol words, if there are few."""
        return step.style.name == PROTOCOL and width(visible(step.words)) <= columns(self._lane - 2 * SHAFT, SIZE)

    def _step_height(self, step: Step) -> float:
        return INLINE if self._inline(step) else LINE * len(self._lines(step)) + 0.24

    def _length(self, lane: Lane) -> float:
        return fsum(0.38 + fsum(map(self._step_height, part.steps)) for part in lane.parts)

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur."""
        return legend(step.style for lane in self.lanes for part in lane.parts for step in part.steps)

    @property
    def alt(self) -> str:
        told = []
        for lane in self.lanes:
            found = [step for part in lane.parts for step in part.steps]
            counts = [
                f"{sum(step.style is one for step in found)} {one.word}" for one in legend(step.style for step in found)
            ]
            told.append(_("{title}: {counts}").format(title=visible(lane.title), counts=", ".join(counts)))
        return _("Arrows between client and server. {lanes}.").format(lanes="; ".join(told))

    def text(self) -> str:
        lines = [self.title]
        for lane in self.lanes:
            lines.append(visible(lane.title))
            lines += [f"  {visible(part.name)}: {_in_words(part.steps)}" for part in lane.parts]
        return block(lines[:24])

    def draw(self, sheet: Sheet) -> None:
        for number, lane in enumerate(self.lanes):
            left = EDGE + number * (self._lane + BETWEEN)
            self._draw_lane(sheet, lane, left, left + self._lane)
        hatched = any(step.hatched for lane in self.lanes for part in lane.parts for step in part.steps)
        sheet.legend(EDGE + 0.1, self.height - 0.28, self.styles, hatched=_("TLS records") if hatched else "")

    def _draw_lane(self, sheet: Sheet, lane: Lane, left: float, right: float) -> None:
        middle = (left + right) / 2
        size = next((size for size in TITLES if measure(lane.title, BOLD, size) <= right - left), TITLES[-1])
        sheet.text(middle, 0.3, lane.title, size=size, face=BOLD, anchor=MIDDLE, room=right - left)
        sheet.text(left, 0.6, _("client"), size=SIZE, paint=FAINT)
        sheet.text(right, 0.6, _("server"), size=SIZE, paint=FAINT, anchor=END)
        y = 0.7
        for part in lane.parts:
            sheet.text(middle, y + 0.24, part.name, size=11, face=BOLD, anchor=MIDDLE, room=right - left - 0.1)
            y += 0.38
            if not part.steps:
                continue
            top = y
            for step in part.steps:
                self._draw_step(sheet, step, left, right, y)
                y += self._step_height(step)
            for x in (left, right):
                sheet.line((x, top - 0.06), (x, y - 0.04), width=1.5)

    def _draw_step(self, sheet: Sheet, step: Step, left: float, right: float, y: float) -> None:
        lines = self._lines(step)
        if self._inline(step):
            self._draw_arrow(sheet, step, left, right, y + INLINE / 2)
            half = (width(lines[0]) + 1) * FIXED * SIZE * POINT / 2
            sheet.box((left + right) / 2 - half, y, 2 * half, INLINE, fill=PAPER)
            sheet.text((left + right) / 2, y + INLINE / 2 + 0.05, lines[0], size=SIZE, face=WIRE, anchor=MIDDLE)
            return
        chip = 0 if step.style.name == PROTOCOL else CHIP
        start = (left + right - chip - max(map(width, lines)) * FIXED * SIZE * POINT) / 2 + chip
        for number, words in enumerate(lines):
            sheet.text(start, y + LINE * (number + 0.85), words, size=SIZE, face=WIRE)
        if chip:
            sheet.mark(start - 0.13, y + LINE * 0.6, step.style)
        self._draw_arrow(sheet, step, left, right, y + LINE * len(lines) + 0.12)

    def _draw_arrow(self, sheet: Sheet, step: Step, left: float, right: float, y: float) -> None:
        ends = (right - 0.03, left + 0.03) if step.side is Side.SERVER else (left + 0.03, right - 0.03)
        thick = 1.2 if step.style.name == PROTOCOL else 2.4
        sheet.arrow(*ends, y, paint=step.style.stroke, width=thick, both=step.side is None)
        if step.hatched:
            edge = step.style.stroke
            sheet.box(left + 0.4, y - 0.05, right - left - 0.8, 0.1, fill=PAPER, edge=edge, hatched=True)


def _in_words(found: Iterable[Step]) -> str:
    arrows = {Side.CLIENT: "→", Side.SERVER: "←", None: "⇄"}
    return "; ".join(f"{arrows[step.side]} {step.style.mark} {fit(visible(step.words), WORDS)}" for step in found)


def _titled(shown: Sequence[ShownSession] | Sequence[Dissection]) -> Iterator[tuple[str, tuple[Dissection, ...]]]:
    """A title and the conversations of each session; those of one capture are one session."""
    alone = tuple(item for item in shown if isinstance(item, Dissection))
    if alone:
        ends = {ends_of(dissection) for dissection in alone}
        yield ends.pop() if len(ends) == 1 else _("{count:,} connections").format(count=len(alone)), alone
    for item in shown:
        if isinstance(item, ShownSession):
            yield item.title, item.dissections


def _parts(dissections: Sequence[Dissection]) -> Iterator[LanePart]:
    name = protocol_of if len(set(map(ends_of, dissections))) == 1 else title_of
    for dissection in dissections[:PARTS]:
        yield LanePart(name(dissection), steps(dissection))
    if more := more_connections(len(dissections) - PARTS):
        yield LanePart(more, ())
