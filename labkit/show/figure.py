"""A figure: something that says more when it is looked at, and says the same in words.

Every figure is drawn on a sheet measured in inches, by matplotlib's own objects, without pyplot and without touching
anybody's settings. A notebook gets it as SVG with all text as outlines of the fonts that matplotlib carries, so that its
bytes are the same on every machine; nothing in it depends on a system's fonts, the time, or the capture engine. A saved
file is for this machine, and names the engine in its footer.
"""

import base64
import os
from abc import abstractmethod
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from labkit import files
from labkit.errors import BadSetting
from labkit.show.sheet import BOTTOM, Sheet, settled
from labkit.show.view import View, render
from labkit.texts import _

if TYPE_CHECKING:
    import matplotlib.figure

FORMATS = ("png", "svg", "pdf")
DOTS = 150  # dots per inch of a PNG
FOOTER = 0.3  # inches


class Figure(View):
    """A picture with a text alternative. A kind of figure sets `width` and `height`, in inches, and says how to draw."""

    width: float = 10.5
    height: float = 1.0

    def __init__(self, engine: str = "") -> None:
        """engine: what made the packets shown; it is told in saved files and in the output's metadata only."""
        self.engine = engine

    @property
    @abstractmethod
    def alt(self) -> str:
        """The figure in a sentence or two, from its data."""

    @abstractmethod
    def draw(self, sheet: Sheet) -> None:
        """Draw on a sheet of this figure's width and height."""

    def matplotlib(self) -> "matplotlib.figure.Figure":
        """The figure as matplotlib's own, to be changed or saved by whoever knows it."""
        with settled():
            return self._sheet("").figure

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG, the same bytes on every machine."""
        return self._written("svg", "")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a PNG, SVG or PDF file, as the suffix says, with the capture engine in its footer; return its path.

        Raises BadSetting for another suffix.
        """
        target = Path(path)
        kind = target.suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            message = _("A figure can't be saved as {name!r}: give it a name that ends in .png, .svg or .pdf.")
            raise BadSetting(message.format(name=target.name))
        footer = _("labkit, capture engine: {engine}").format(engine=self.engine) if self.engine else "labkit"
        return files.write(target, self._written(kind, footer))

    def body(self) -> Markup:
        data = base64.b64encode(self.svg).decode("ascii")
        values = {"alt": self.alt, "data": data, "title": self.title, "words": self.text().split("\n")}
        return render("figure.html", values)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both faces; the engine goes into the metadata, because outputs are the same under every engine."""
        return {"text/plain": self.text(), "text/html": self.html()}, {"labkit": {"engine": self.engine}}

    def _sheet(self, footer: str) -> Sheet:
        sheet = Sheet(self.width, self.height + (FOOTER if footer else 0))
        self.draw(sheet)
        if footer:
            sheet.text(self.width - 0.15, sheet.height - 0.12, footer, size=10, across="right", along=BOTTOM)
        return sheet

    def _written(self, kind: str, footer: str) -> bytes:
        out = BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
        with settled():
            self._sheet(footer).figure.savefig(out, format=kind, dpi=DOTS, metadata=metadata)
        return out.getvalue()
