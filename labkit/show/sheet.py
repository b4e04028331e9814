"""A sheet of paper to draw on, measured in inches from its upper left corner, with text whose width is known.

Only the DejaVu fonts that matplotlib carries are used, by file, so that a picture is the same everywhere. A character that
they do not have is drawn as a box. Text of the wire is set in the typewriter face, where a width is a number of characters;
`wrap` and `room` need no font for it, so a figure can be laid out before anything is drawn.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.show.marks import FAINT, TEXT, Style
from labkit.show.safe import ELLIPSIS, visible

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

PLAIN, BOLD, WIRE = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"
ADVANCE = 0.60205  # width of a character of the typewriter face, in its size
POINT = 1 / 72  # inches
LEGEND = 11  # points
MISSING = "□"
LEFT, CENTER, RIGHT = "left", "center", "right"
TOP, MIDDLE, BOTTOM, BASELINE = "top", "center", "bottom", "baseline"


@contextmanager
def settled() -> Iterator[None]:
    """matplotlib's defaults for as long as it lasts, whatever the reader's notebook has set, and SVG that repeats."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "labkit", "pdf.fonttype": 42})
        yield


def room(inches: float, size: float) -> int:
    """How many characters of the typewriter face fit."""
    return int(inches / (ADVANCE * size * POINT))


def cut(text: str, characters: int) -> str:
    """At most so many characters; an ellipsis where there were more."""
    return text if len(text) <= characters else text[: characters - 1] + ELLIPSIS


def wrap(text: str, characters: int, lines: int) -> list[str]:
    """Text in at most so many lines of so many characters, broken after a space or a colon where one is near."""
    found: list[str] = []
    while len(text) > characters and len(found) < lines - 1:
        near = max(text.rfind(" ", 0, characters + 1), text.rfind(":", 0, characters)) + 1
        at = near if near > characters // 4 else characters
        found.append(text[:at].rstrip(" "))
        text = text[at:].lstrip(" ")
    return [*found, cut(text, characters)]


class Sheet:
    """An empty sheet, in inches; y counts downwards."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(self.figure)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.set_axis_off()
        self._drawn = 0

    def _above(self) -> int:
        """What is drawn later lies above what was drawn before."""
        self._drawn += 1
        return self._drawn

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 11,
        face: str = PLAIN,
        colour: str = TEXT,
        across: str = LEFT,
        along: str = BASELINE,
        width: float | None = None,
    ) -> None:
        """Words at a point; with a width, no wider than that."""
        shown = _drawable(words, face) if width is None else _narrowed(words, face, size, width)
        self._axes.text(
            x,
            y,
            shown,
            fontproperties=_font(face),
            fontsize=size,
            color=colour,
            ha=across,
            va=along,
            parse_math=False,
            zorder=self._above(),
        )

    def mark(self, x: float, y: float, style: Style, *, size: float = 10) -> None:
        """A style's mark on its colour, its middle at (x, y)."""
        half = 0.6 * size * POINT
        self.box(x - half, y - half, 2 * half, 2 * half, fill=style.fill)
        # The marks sit on the typewriter face's baseline: this puts the circle's middle into the box's.
        self.text(x, y + 0.37 * size * POINT, style.mark, size=size, face=WIRE, colour=style.ink, across=CENTER)

    def line(self, xs: Sequence[float], ys: Sequence[float], *, colour: str = FAINT, width: float = 1) -> None:
        """A line through points; width in points."""
        from matplotlib.lines import Line2D

        style: dict[str, Any] = {"color": colour, "linewidth": width, "solid_capstyle": "butt"}
        self._axes.add_artist(Line2D(xs, ys, zorder=self._above(), **style))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        edge: str = "none",
        hatch: str | None = None,
    ) -> None:
        """A filled rectangle, hatched in the edge's colour where asked."""
        from matplotlib.patches import Rectangle

        style: dict[str, Any] = {"facecolor": fill, "edgecolor": edge, "linewidth": 0 if edge == "none" else 1}
        self._axes.add_artist(Rectangle((x, y), width, height, hatch=hatch, zorder=self._above(), **style))

    def area(self, points: Sequence[tuple[float, float]], *, fill: str) -> None:
        """A filled polygon."""
        from matplotlib.patches import Polygon

        self._axes.add_artist(Polygon(points, closed=True, facecolor=fill, linewidth=0, zorder=self._above()))

    def arrow(self, start: float, end: float, y: float, *, colour: str, width: float = 2, both: bool = False) -> None:
        """A horizontal arrow from x = start to x = end; with `both`, it has two heads."""
        ahead = 1 if end > start else -1
        length, half = 0.13, 0.055
        tail = start + ahead * length if both else start
        self.line([tail, end - ahead * length], [y, y], colour=colour, width=width)
        self.area([(end, y), (end - ahead * length, y - half), (end - ahead * length, y + half)], fill=colour)
        if both:
            self.area([(start, y), (tail, y - half), (tail, y + half)], fill=colour)

    def legend(self, x: float, y: float, styles: Sequence[Style], *, hatched: str = "") -> None:
        """Mark and word of each style, from x on; `hatched` says what hatching means, where it is used."""
        for style in styles:
            self.mark(x, y, style, size=LEGEND)
            self.text(x + 0.17, y, style.word, size=LEGEND, along=MIDDLE)
            x += 0.17 + measure(style.word, PLAIN, LEGEND) + 0.32
        if hatched:
            self.box(x - 0.1, y - 0.08, 0.34, 0.16, fill="white", edge=TEXT, hatch="////")
            self.text(x + 0.32, y, hatched, size=LEGEND, along=MIDDLE)


@cache
def _path(face: str) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face)


@cache
def _font(face: str) -> "FontProperties":
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_path(face))


@cache
def _glyphs(face: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_path(face)).get_charmap())


def _drawable(text: str, face: str) -> str:
    """The text with a box for each character that the font does not have, or that would not take a place of its own."""
    known = _glyphs(face)
    return "".join(
        character
        if ord(character) in known and unicodedata.category(character)[0] != "M" and bidi(character)
        else MISSING
        for character in visible(text)
    )


def bidi(character: str) -> bool:
    """Whether a character is written from left to right, or takes the direction of its neighbours."""
    return unicodedata.bidirectional(character) not in {"R", "AL", "AN"}


@cache
def measure(words: str, face: str, size: float) -> float:
    """How wide words are when they are drawn, in inches."""
    from matplotlib.textpath import text_to_path

    width, _height, _descent = text_to_path.get_text_width_height_descent(
        _drawable(words, face), _sized(face, size), False
    )
    return float(width) * POINT


def _sized(face: str, size: float) -> "FontProperties":
    font = _font(face).copy()
    font.set_size(size)
    return font


def _narrowed(words: str, face: str, size: float, width: float) -> str:
    """Words, or as many of their characters as have room beside an ellipsis."""
    most = 3 * room(width, size)  # the narrowest letters take a third of the typewriter face's advance
    shown = _drawable(words[:most], face)
    if len(words) <= most and measure(shown, face, size) <= width:
        return shown
    fits = bisect_right(range(most), width, key=lambda count: measure(shown[:count] + ELLIPSIS, face, size)) - 1
    return shown[: max(fits, 0)] + ELLIPSIS
