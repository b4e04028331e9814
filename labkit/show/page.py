"""A page: the views of a capture in one HTML file that needs nothing else, to hand in, to mail, or to print."""

from collections.abc import Sequence

from labkit.show.view import View, render
from labkit.texts import LANGUAGE, _


def page(title: str, parts: Sequence[View], *, engine: str, notes: Sequence[str] = ()) -> str:
    """One self-contained HTML page. engine: what made the packets shown; notes: what is missing or damaged in them."""
    shown = [{"id": f"part-{number}", "title": part.title, "body": part.body()} for number, part in enumerate(parts, 1)]
    made = _("Made by labkit; capture engine: {engine}.").format(engine=engine)
    values = {
        "title": title,
        "parts": shown,
        "made": made,
        "notes": notes,
        "language": LANGUAGE,
    }
    return str(render("page.html", values))
