"""The browser's half of `explore`: a widget whose script asks for one packet's tree at a time.

All text reaches the page as data and becomes text nodes there, never HTML. Beside the widget, the output holds the static
view, so that a notebook that is exported, or opened without a kernel, still shows something.
"""

from pathlib import Path
from typing import Any

import anywidget
import traitlets
from markupsafe import Markup

from labkit.show.explain import Explanation
from labkit.show.explore import Exploration
from labkit.show.marks import STYLES
from labkit.show.view import View
from labkit.texts import _

_STATIC = Path(__file__).parent / "static"


class Explorer(View, anywidget.AnyWidget):
    """The three panes of a capture."""

    _esm = _STATIC / "explore.js"
    _css = _STATIC / "explore.css"
    packets: traitlets.List[list[object]] = traitlets.List().tag(sync=True)
    styles = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)

    def __init__(self, exploration: Exploration, static: Explanation) -> None:
        super().__init__(
            packets=[list(row) for row in exploration.rows],
            styles={
                style.name: [style.mark, style.word, style.fill.value, style.ink.value] for style in STYLES.values()
            },
            words=_words(),
            note=exploration.note,
        )
        self._exploration = exploration
        self._static = static
        self.on_msg(self._answer)

    def _answer(self, _widget: object, asked: object, _buffers: object) -> None:
        """Send the tree of the packet that the page asks for; whatever else it sends is passed over."""
        number = asked.get("packet") if isinstance(asked, dict) else None
        if isinstance(number, int) and 1 <= number <= len(self._exploration.rows):
            tree = self._exploration.tree(number)
            sent = {"number": number, "octets": tree.octets.hex(), "parts": tree.parts, "nodes": tree.nodes}
            self.send(sent | {"note": tree.note})

    def text(self) -> str:
        """The static view in plain text."""
        return self._static.text()

    def body(self) -> Markup:
        """The static view."""
        return self._static.body()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        static, metadata = View._repr_mimebundle_(self)
        widget = anywidget.AnyWidget._repr_mimebundle_(self)
        return (widget[0] if widget else {}) | static, metadata


def _words() -> dict[str, str]:
    """What the page says, in the reader's language."""
    return {
        "filter": _("Show only packets with"),
        "filtered": _("{shown} of {count} packets"),
        "packets": _("Packets"),
        "tree": _("What the bytes mean"),
        "bytes": _("Bytes"),
        "number": _("No."),
        "time": _("Time (s)"),
        "source": _("From"),
        "target": _("To"),
        "protocol": _("Protocol"),
        "length": _("Bytes"),
        "info": _("What it says"),
        "range": _("bytes {first} to {last}"),
        "waiting": _("Waiting for the kernel: it answers when no cell is running."),
        "keys": _("Tab changes the pane, arrows move, Enter goes to the next pane, letters filter or find."),
    }
