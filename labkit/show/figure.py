"""A figure: a picture, drawn when somebody looks at it, that says the same in words.

It is drawn on a sheet, which writes itself as SVG: the same bytes on every machine, and nothing in them depends on a
system's fonts, the time, or the capture engine. A page holds the picture itself, whose text can be selected and read aloud;
a notebook holds it as an image, for JupyterLab shows no other picture of a notebook that is not trusted yet. A saved file
is for this machine, and names the engine in its footer.
"""

import base64
import os
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from labkit import files
from labkit.errors import BadSetting
from labkit.show.canvas import drawn, written
from labkit.show.sheet import END, Sheet
from labkit.show.view import View, render
from labkit.texts import _

if TYPE_CHECKING:
    import matplotlib.figure

FOOTER = 0.3  # inches
NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # a file says it; within a page the parser knows


class Figure(View):
    """A picture with a text alternative. A kind of figure sets `width` and `height`, in inches, and says how to draw."""

    width: float = 10.5
    height: float = 1.0

    def __init__(self, engine: str = "") -> None:
        """engine: what made the packets shown; it is told in saved files and in the output's metadata only."""
        self._engine = engine

    @property
    def engine(self) -> str:
        """What made the packets shown."""
        return self._engine

    @property
    @abstractmethod
    def alt(self) -> str:
        """The figure in a sentence or two, from its data."""

    @abstractmethod
    def draw(self, sheet: Sheet) -> None:
        """Draw on a sheet of this figure's width and height."""

    def matplotlib(self) -> "matplotlib.figure.Figure":
        """The figure as matplotlib's own, to be changed or saved by whoever knows it."""
        return drawn(self._sheet())

    @cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file, the same bytes on every machine."""
        return self._file(self._sheet())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a PNG, SVG or PDF file, as the suffix says, with the capture engine in its footer; return its path.

        Raises BadSetting for another suffix.
        """
        target = Path(path)
        kind = target.suffix.lower().removeprefix(".")
        if kind not in ("png", "svg", "pdf"):
            message = _("A figure can't be saved as {name!r}: give it a name that ends in .png, .svg or .pdf.")
            raise BadSetting(message.format(name=target.name))
        sheet = self._sheet(FOOTER)
        footer = _("labkit, capture engine: {engine}").format(engine=self.engine) if self.engine else "labkit"
        sheet.text(sheet.width - 0.15, sheet.height - 0.15, footer, size=10, anchor=END)
        return files.write(target, self._file(sheet) if kind == "svg" else written(sheet, kind))

    def body(self) -> Markup:
        return self._framed(Markup(self._sheet().svg(self.alt)))  # noqa: S704 (the sheet escapes what it writes)

    def html(self) -> str:
        """The figure as a fragment for a notebook: an image with its alternative."""
        data = base64.b64encode(self.svg).decode("ascii")
        image = render("image.html", {"alt": self.alt, "data": data})
        return str(render("view.html", {"body": self._framed(image)}))

    def _framed(self, picture: Markup) -> Markup:
        return render("figure.html", {"picture": picture, "title": self.title, "words": self.text().split("\n")})

    def _sheet(self, below: float = 0) -> Sheet:
        sheet = Sheet(self.width, self.height + below)
        self.draw(sheet)
        return sheet

    def _file(self, sheet: Sheet) -> bytes:
        return sheet.svg(self.alt).replace("<svg", f"<svg{NAMESPACE}", 1).encode()
