"""A sheet of paper to draw on, measured in inches from its upper left corner. What is drawn is kept as strokes.

The sheet writes itself as SVG; `canvas` replays the same strokes with matplotlib. Text stays text: it can be selected, read
aloud, and drawn by the reader's own fonts, in any script. Its width comes from a table of advances (those of DejaVu Sans,
and so nearly those of Verdana and Menlo) and is told to the reader's browser, so that a layout and its bytes are the same
everywhere. Colours are classes, one rule each: whoever embeds a sheet can give them other values.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from markupsafe import escape

from labkit.show.marks import FAINT, PAPER, TEXT, Paint, Style
from labkit.show.safe import ELLIPSIS, fit, fitting, visible, width

SANS, BOLD, WIRE = "sans", "bold", "wire"
START, MIDDLE, END = "start", "middle", "end"
FAMILIES = {
    SANS: "'DejaVu Sans',Verdana,sans-serif",
    BOLD: "'DejaVu Sans',Verdana,sans-serif;font-weight:bold",
    WIRE: "'DejaVu Sans Mono',Menlo,Consolas,monospace",
}
FIXED = 0.602  # advance of the typewriter face, in its size
WIDE = 1.0  # advance of a wide East Asian character, in any face
OTHER = 0.65  # advance of what the table does not have
POINT = 1 / 72  # inches
SIZE = 11  # points, where nothing else is said
MARKS = 2  # combining marks that one character may carry; more would be drawn over the neighbouring lines
MISSING = "□"
HATCHING = (1.0, 3.5)  # points of a line and of the gap after it

Point = tuple[float, float]


class Label(NamedTuple):
    """Words; (x, y): where their baseline starts, has its middle or ends. size: points. length: inches."""

    x: float
    y: float
    words: str
    face: str
    size: float
    paint: Paint
    anchor: str
    length: float


class Stroke(NamedTuple):
    """A line through points. width: points. dashes: points on and off; none for a line without gaps."""

    points: tuple[Point, ...]
    paint: Paint
    width: float
    dashes: tuple[float, ...] = ()


class Area(NamedTuple):
    """A filled polygon."""

    points: tuple[Point, ...]
    paint: Paint


class Sheet:
    """An empty sheet; y counts downwards, and what is drawn later lies above."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.strokes: list[Label | Stroke | Area] = []
        self.box(0, 0, width, height, fill=PAPER)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = SIZE,
        face: str = SANS,
        paint: Paint = TEXT,
        anchor: str = START,
        centred: bool = False,
        room: float | None = None,
    ) -> None:
        """Words on a baseline at y, or centred on y; no wider than `room`, where one is given."""
        shown = drawable(words) if room is None else _narrowed(words, face, size, room)
        if shown.strip():
            # DejaVu's letters stand 0.76 of its size high and go 0.236 below the line.
            y += 0.26 * size * POINT if centred else 0
            self.strokes.append(Label(x, y, shown, face, size, paint, anchor, measure(shown, face, size)))

    def mark(self, x: float, y: float, style: Style, *, size: float = 10) -> None:
        """A style's mark on its colour, its middle at (x, y)."""
        half = 0.6 * size * POINT
        self.box(x - half, y - half, 2 * half, 2 * half, fill=style.fill)
        # The marks sit on the typewriter face's baseline: this puts the circle's middle into the box's.
        self.text(x, y + 0.37 * size * POINT, style.mark, size=size, face=WIRE, paint=style.ink, anchor=MIDDLE)

    def line(self, *points: Point, paint: Paint = FAINT, width: float = 1) -> None:
        """A line through points; width in points."""
        self.strokes.append(Stroke(points, paint, width))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: Paint,
        edge: Paint | None = None,
        hatched: bool = False,
    ) -> None:
        """A filled rectangle; hatched in its edge's colour where asked."""
        corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
        self.strokes.append(Area(corners, fill))
        if edge and hatched:
            middle = y + height / 2
            self.strokes.append(Stroke(((x, middle), (x + width, middle)), edge, height / POINT, HATCHING))
        if edge:
            self.strokes.append(Stroke((*corners, corners[0]), edge, 1))

    def arrow(self, start: float, end: float, y: float, *, paint: Paint, width: float = 2, both: bool = False) -> None:
        """A horizontal arrow from x = start to x = end; with `both`, it has two heads."""
        ahead = 1 if end > start else -1
        length, half = 0.13 * ahead, 0.055
        tail = start + length if both else start
        self.line((tail, y), (end - length, y), paint=paint, width=width)
        self.strokes.append(Area(((end, y), (end - length, y - half), (end - length, y + half)), paint))
        if both:
            self.strokes.append(Area(((start, y), (tail, y - half), (tail, y + half)), paint))

    def legend(self, x: float, y: float, styles: Sequence[Style], *, hatched: str = "") -> None:
        """Mark and word of each style, from x on; `hatched` says what hatching means, where it is used."""
        for style in styles:
            self.mark(x, y, style, size=SIZE)
            self.text(x + 0.17, y, style.word, centred=True)
            x += 0.17 + measure(style.word, SANS, SIZE) + 0.32
        if hatched:
            self.box(x - 0.1, y - 0.08, 0.34, 0.16, fill=PAPER, edge=TEXT, hatched=True)
            self.text(x + 0.32, y, hatched, centred=True)

    def svg(self, label: str) -> str:
        """The sheet as an element for an HTML page; its unit is the point. label: what it shows, for who does not see it."""
        across, down = _n(self.width), _n(self.height)
        head = (
            f'<svg class="labkit-sheet" width="{across}pt" height="{down}pt" viewBox="0 0 {across} {down}"'
            f' fill="currentColor" xml:space="preserve" role="group" aria-label="{escape(visible(label))}">'
        )
        return "\n".join([head, f"<style>{self._rules()}</style>", *map(_element, self.strokes), "</svg>\n"])

    def _rules(self) -> str:
        """A rule for each face, and one for each colour that is used."""
        rules = [f".labkit-sheet .{face}{{font-family:{family}}}" for face, family in FAMILIES.items()]
        paints = sorted({stroke.paint for stroke in self.strokes})
        rules += [f".labkit-sheet .paint-{paint.name}{{color:{paint.value}}}" for paint in paints]
        return "\n".join(rules)


def _element(stroke: Label | Stroke | Area) -> str:
    paint = f"paint-{stroke.paint.name}"
    if isinstance(stroke, Label):
        anchor = "" if stroke.anchor == START else f' text-anchor="{stroke.anchor}"'
        return (
            f'<text class="{stroke.face} {paint}" x="{_n(stroke.x)}" y="{_n(stroke.y)}" font-size="{stroke.size:g}"'
            f'{anchor} textLength="{_n(stroke.length)}">{escape(stroke.words)}</text>'
        )
    if isinstance(stroke, Stroke):
        thick = f' stroke-width="{stroke.width:.4g}"' if stroke.width != 1 else ""
        dashes = f' stroke-dasharray="{" ".join(map(str, stroke.dashes))}"' if stroke.dashes else ""
        return f'<path class="{paint}" fill="none" stroke="currentColor"{thick}{dashes} d="{_path(stroke.points)}"/>'
    return f'<path class="{paint}" d="{_path(stroke.points)}z"/>'


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(inches: float) -> str:
    """Inches in points, as short as exact enough."""
    return f"{inches / POINT:.2f}".rstrip("0").rstrip(".")


def drawable(words: str) -> str:
    """The words made visible, with a box for each combining mark beyond those that a character may carry."""
    shown, marks = [], 0
    for character in visible(words):
        marks = marks + 1 if unicodedata.combining(character) else 0
        shown.append(MISSING if marks > MARKS else character)
    return "".join(shown)


@cache
def _advances() -> dict[str, dict[str, int]]:
    """Of each face the advance of its commonest characters, in thousandths of its size."""
    table: dict[str, dict[str, int]] = json.loads(files("labkit.show").joinpath("static/advances.json").read_bytes())
    return table


@cache
def _advance(character: str, face: str) -> float:
    """How far a character takes the pen, in its size."""
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    if unicodedata.east_asian_width(character) in {"W", "F"}:
        return WIDE
    if face == WIRE:
        return FIXED
    base = unicodedata.normalize("NFD", character)[0]
    return _advances()[face].get(base, OTHER * 1000) / 1000


def measure(words: str, face: str, size: float) -> float:
    """How wide words are when they are drawn, in inches."""
    return sum(_advance(character, face) for character in words) * size * POINT


def _narrowed(words: str, face: str, size: float, room: float) -> str:
    """Words, or as many of their characters as have room beside an ellipsis; the rest is not even looked at."""
    most = int(room / (0.2 * size * POINT))  # no letter is narrower than a fifth of its size
    shown = drawable(words[:most])
    if len(words) <= most and measure(shown, face, size) <= room:
        return shown
    left, kept = room - measure(ELLIPSIS, face, size), 0
    for character in shown:
        left -= measure(character, face, size)
        if left < 0:
            break
        kept += 1
    return shown[:kept] + ELLIPSIS


def columns(inches: float, size: float) -> int:
    """How many columns of the typewriter face fit."""
    return int(inches / (FIXED * size * POINT))


def wrap(text: str, most: int, lines: int) -> list[str]:
    """Visible text in at most so many lines of so many columns, broken after a space or a colon where one is near."""
    found: list[str] = []
    while width(text) > most and len(found) < lines - 1:
        end = fitting(text, most)
        near = max(text.rfind(" ", 0, end + 1), text.rfind(":", 0, end)) + 1
        at = near if near > end // 4 else end
        found.append(text[:at].rstrip(" "))
        text = text[at:].lstrip(" ")
    return [*found, fit(text, most)]
