"""A sheet's strokes replayed by matplotlib, which makes PNG and PDF of them, or a figure for whoever knows matplotlib.

It is drawn by matplotlib's own objects, without pyplot and without touching anybody's settings, in the fonts that
matplotlib carries; a character that they do not have is a box.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labkit.show.sheet import BOLD, END, MIDDLE, MISSING, SANS, START, WIRE, Area, Label, Sheet, Stroke

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

DOTS = 150  # dots per inch of a PNG
FILES = {SANS: "DejaVuSans.ttf", BOLD: "DejaVuSans-Bold.ttf", WIRE: "DejaVuSansMono.ttf"}
ANCHORS: dict[str, Literal["left", "center", "right"]] = {START: "left", MIDDLE: "center", END: "right"}


def drawn(sheet: Sheet) -> "Figure":
    """The sheet as matplotlib's figure."""
    with _settled():
        return _drawn(sheet)


def written(sheet: Sheet, kind: str) -> bytes:
    """The sheet as a "png" or a "pdf" file."""
    out = BytesIO()
    with _settled():
        _drawn(sheet).savefig(out, format=kind, dpi=DOTS, metadata={"CreationDate": None} if kind == "pdf" else {})
    return out.getvalue()


@contextmanager
def _settled() -> Iterator[None]:
    """matplotlib's defaults for as long as it lasts, whatever the reader's notebook has set."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"pdf.fonttype": 42})
        yield


def _drawn(sheet: Sheet) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(sheet.width, sheet.height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, sheet.width)
    axes.set_ylim(sheet.height, 0)
    axes.set_axis_off()
    for order, stroke in enumerate(sheet.strokes):
        for artist in _artists(stroke):
            artist.set_zorder(order)
            axes.add_artist(artist)
    return figure


def _artists(stroke: Label | Stroke | Area) -> "Iterator[Artist]":
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon
    from matplotlib.text import Text

    if isinstance(stroke, Label):
        yield Text(
            stroke.x,
            stroke.y,
            "".join(letter if ord(letter) in _letters(stroke.face) else MISSING for letter in stroke.words),
            fontproperties=_font(stroke.face),
            fontsize=stroke.size,
            color=stroke.paint.value,
            horizontalalignment=ANCHORS[stroke.anchor],
            verticalalignment="baseline",
            parse_math=False,
        )
    elif isinstance(stroke, Stroke):
        xs, ys = zip(*stroke.points, strict=True)
        line = Line2D(xs, ys, color=stroke.paint.value, linewidth=stroke.width, solid_capstyle="butt")
        if stroke.dashes:
            line.set_dashes([points / stroke.width for points in stroke.dashes])  # matplotlib counts in widths
        yield line
    else:
        yield Polygon(stroke.points, facecolor=stroke.paint.value, linewidth=0)


@cache
def _path(face: str) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / FILES[face])


@cache
def _font(face: str) -> "FontProperties":
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_path(face))


@cache
def _letters(face: str) -> frozenset[int]:
    """The characters that a face has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_path(face)).get_charmap())
