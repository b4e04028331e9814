"""The explorer: a list, one entry of it as a tree, and its bytes, in a page that needs neither a kernel nor a network.

All that it shows is in the page, as data: the script makes text nodes and attributes of it, never HTML. A page of a capture
has the explorer as one of its parts; a notebook shows it in a frame of its own, whose script cannot reach the notebook, and
keeps the static explanation below, for whoever reads the notebook without scripts.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from labkit.decode.spans import Span
from labkit.errors import expect
from labkit.show.explain import LONGEST_VALUE
from labkit.show.exploration import Bursts, Contents, Explorable, Exploration, Packets
from labkit.show.groups import sized
from labkit.show.marks import STYLES, style
from labkit.show.page import framed, script
from labkit.show.safe import glimpse, visible
from labkit.show.view import View, render
from labkit.texts import _

NODES = 1500  # nodes of an entry's tree
ALL_NODES = 40_000  # nodes of all trees; where they end, the list does


class Node(NamedTuple):
    """A span of a tree. [start, end): its octets within the entry. depth: 0 for the outermost."""

    depth: int
    start: int
    end: int
    style: str
    field: str
    value: str
    meaning: str
    source: str


def nodes(spans: Iterable[Span], depth: int = 0) -> Iterator[Node]:
    """The spans as a list, parents before their children."""
    for span in spans:
        value, meaning = glimpse(span.value, LONGEST_VALUE), visible(span.meaning)
        yield Node(depth, span.start, span.end, style(span.visibility).name, span.field, value, meaning, span.source)
        yield from nodes(span.children, depth + 1)


class Explorer(View):
    """The three panes of a capture. exact: its packets, with their headers, ports and times, and not its bursts."""

    def __init__(self, capture: Explorable, *, exact: bool = False) -> None:
        self.title = _("Every byte, to be explored")
        self._capture = capture
        self._static = capture.explain()
        self._exploration: Exploration = Packets(capture) if exact else Bursts(capture)

    def exact(self) -> "Explorer":
        """The packets as they were recorded, with what differs from run to run: for a page, not for a notebook."""
        return Explorer(self._capture, exact=True)

    def text(self) -> str:
        """The static explanation."""
        return self._static.text()

    def body(self) -> Markup:
        return render("explorer.html", {"data": htmlsafe_json_dumps(self.data(), dumps=_compact), "script": script()})

    def html(self) -> str:
        """A frame for a notebook, and the static explanation, folded."""
        page = escape(framed(self.title, self.body()))
        values = {"title": self.title, "page": page, "static": self._static.body()}
        return str(render("view.html", {"body": render("framed.html", values)}))

    def data(self) -> dict[str, object]:
        """What the page shows. Strings of trees stand in `texts` once; a tree is a list of numbers."""
        texts: dict[str, int] = {}
        trees: list[tuple[str, tuple[object, ...], str, str]] = []
        left = ALL_NODES
        entries = self._exploration.entries
        for index in range(len(entries)):
            contents = self._exploration.contents(index)
            found = list(islice(nodes(contents.spans), NODES + 1))
            left -= len(found)
            if left < 0 and trees:
                break
            numbers = " ".join(map(str, _numbers(found[:NODES], texts)))
            trees.append((contents.octets.hex(), contents.parts, numbers, _left_out(contents, len(found) > NODES)))
        note = self._exploration.note
        if len(trees) < len(entries):
            note = _("The first {shown:,} of {count:,}.").format(shown=len(trees), count=len(entries))
        return {
            "entries": entries[: len(trees)],
            "trees": trees,
            "texts": list(texts),
            "styles": {each.name: (each.mark, each.word, each.fill.value, each.ink.value) for each in STYLES.values()},
            "words": _words(),
            "note": note,
        }


def _compact(value: object, **_options: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _numbers(found: Iterable[Node], texts: dict[str, int]) -> Iterator[int]:
    """Depth, start, end of each node, and the places of its texts."""
    for node in found:
        yield from node[:3]
        for words in node[3:]:
            yield texts.setdefault(words, len(texts))


def _left_out(contents: Contents, nodes_are: bool) -> str:
    told = [_("Not shown: {size} more.").format(size=sized(contents.left_out))] if contents.left_out else []
    told += [_("The tree stops at {count:,} fields.").format(count=NODES)] if nodes_are else []
    return " ".join(told)


def _words() -> dict[str, str]:
    """What the page says, in the reader's language."""
    return {
        "filter": _("Show only lines with"),
        "filtered": _("{shown} of {count} lines"),
        "list": _("Who sent what"),
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
        "keys": _("Tab changes the pane, arrows move, Enter goes to the next pane, letters filter or find."),
    }


def explore(capture: Explorable) -> Explorer:
    """The capture in three panes: what each side said, burst by burst; its fields as a tree; its bytes. By keyboard, too.

    `.exact()` lists the packets instead, with their headers, ports and times. Raises BadSetting for what is no capture.
    """
    expect(capture, Explorable, _("a capture, such as labkit.Capture.load(path) gives"))
    return Explorer(capture)
