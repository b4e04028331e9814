"""A view: something to look at, with a text face and an HTML face.

Text is for a terminal, a screen reader and a diff. HTML is a static fragment: no script, nothing loaded from anywhere, and
still readable where a notebook that is not trusted takes its style sheet away; marks keep their colours there, because
those are written at the element. Templates escape everything, and `visible` makes harmless whatever they are given.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from labkit.show.marks import Style
from labkit.show.safe import visible
from labkit.texts import _

if TYPE_CHECKING:
    from jinja2 import Environment


def _harmless(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("labkit.show"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"_": _, "css_of": css_of}
    return environment


def render(template: str, values: Mapping[str, object]) -> Markup:
    """The template of that name in show/templates, filled in."""
    return Markup(_environment().get_template(template).render(values))  # noqa: S704 (autoescape is on)


class Wire(str):
    """A cell of a table that holds what was on the wire."""

    __slots__ = ()
    is_wire = True


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str | Style]], *, numbers: bool = False) -> Markup:
    """A table in HTML: a row's first cell heads it, a style is a mark and its word. numbers: all other cells are such."""
    return render("table.html", {"title": title, "head": head, "rows": tuple(rows), "numbers": numbers})


class View(ABC):
    """Something to look at. In a notebook it shows itself; `print` gives the text.

    The engine that made the packets goes into an output's metadata, because outputs are the same under every engine.
    """

    title: str = ""

    @property
    def engine(self) -> str:
        """What made the packets; empty where that does not matter."""
        return ""

    @abstractmethod
    def text(self) -> str:
        """The view in plain text, with no control character but the line feed."""

    @abstractmethod
    def body(self) -> Markup:
        """The view in HTML without its style sheet, for a page that has it already."""

    def html(self) -> str:
        """The view as one HTML fragment with its style sheet."""
        return str(render("view.html", {"body": self.body()}))

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, object]]:
        metadata: dict[str, object] = {"labkit": {"engine": self.engine}} if self.engine else {}
        return {"text/plain": self.text(), "text/html": self.html()}, metadata


def css_of(style: Style) -> str:
    """The style as a style attribute: both colours, so that it is right within any theme."""
    return f"background-color:{style.fill.value};color:{style.ink.value};padding:0 0.4em;border-radius:0.3em"
