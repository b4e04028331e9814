"""A page: the views of a capture in one HTML file that needs nothing else, to hand in, to mail, or to print.

Its only script is the explorer's. The page itself forbids every other, and everything from elsewhere: whatever the bytes of
a capture try, the browser refuses to run them.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from labkit.show.view import View, render
from labkit.texts import LANGUAGE, _


@cache
def script() -> Markup:
    """The explorer's script."""
    return Markup(files("labkit.show").joinpath("static/explore.js").read_text("utf-8"))  # noqa: S704 (our own)


def _head() -> dict[str, str]:
    """What the head of every page says: its language, and what it may run and load (Content Security Policy)."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return {"language": LANGUAGE, "policy": policy}


def page(title: str, parts: Sequence[View], *, engine: str, notes: Sequence[str] = ()) -> str:
    """One self-contained HTML page. engine: what made the packets shown; notes: what is missing or damaged in them."""
    shown = [{"id": f"part-{number}", "title": part.title, "body": part.body()} for number, part in enumerate(parts, 1)]
    made = _("Made by labkit; capture engine: {engine}.").format(engine=engine)
    return str(render("page.html", _head() | {"title": title, "parts": shown, "made": made, "notes": notes}))


def framed(title: str, body: Markup) -> str:
    """One view as a page of its own, for a frame within another page."""
    return str(render("frame.html", _head() | {"title": title, "body": body}))
