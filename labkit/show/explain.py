"""Every byte explained: hexadecimal beside its meaning, nested as the spans are.

A tree that opens where a reader wants to know more: from a record to a handshake message, an extension, a field. It is
static HTML; `<details>` needs no script, and a keyboard reaches all of it. It stops at a bound and says how much is left.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from markupsafe import Markup

from labkit.decode.dissection import Dissection, Handshake
from labkit.decode.spans import Span
from labkit.show.dialogue import DISSECTIONS, more_connections, nothing, sides, with_opened
from labkit.show.marks import Style, legend, style
from labkit.show.safe import block, fit, glimpse, pad, visible
from labkit.show.view import View, render
from labkit.texts import _
from labkit.wire.flows import Side

FIRST = 8  # octets that the explanation shows of a span
HTML_SPANS = 1500  # spans of an explanation in HTML
TEXT_LINES = 24  # lines in text; one more says what is left out
TEXT_WIDTH = 118  # columns
LONGEST_VALUE = 240  # characters


@dataclass(frozen=True, slots=True)
class SpanNode:
    """A span with its first octets, ready to be shown. more: octets that are not."""

    hex: str
    more: str
    style: Style
    field: str
    value: str
    meaning: str
    source: str
    children: tuple["SpanNode", ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """One conversation: (side, node) in the order of the wire. left_out: spans that are not shown, in words."""

    title: str
    nodes: tuple[tuple[Side, SpanNode], ...]
    left_out: str


class _Budget:
    """How many spans may still be shown."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.refused = 0

    def grants(self) -> bool:
        if self.left > 0:
            self.left -= 1
            return True
        self.refused += 1
        return False


class Explanation(View):
    """Every byte of some conversations, as trees."""

    def __init__(self, dissections: Sequence[Dissection]) -> None:
        self.title = _("Every byte explained")
        budget = _Budget(HTML_SPANS)
        trees = [_tree(title, dissection, budget) for title, dissection in _with_handshakes(dissections)]
        more = more_connections(len(dissections) - DISSECTIONS)
        self.trees = (*trees, *([Tree(more, (), "")] if more else []))

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur."""
        return legend(node.style for tree in self.trees for _side, node in tree.nodes)

    def text(self) -> str:
        if not self.trees:
            return nothing()
        lines = list(self._lines())
        left = len(lines) - TEXT_LINES
        end = [_("… {count:,} more lines; the HTML face has more of them").format(count=left)] if left > 0 else []
        return block([*lines[:TEXT_LINES], *end])

    def _lines(self) -> Iterator[str]:
        for tree in self.trees:
            yield visible(tree.title)
            for side, node in tree.nodes:
                yield from _text_lines(node, "C: " if side is Side.CLIENT else "S: ", 0)
            if tree.left_out:
                yield tree.left_out

    def body(self) -> Markup:
        values = {"title": self.title, "trees": self.trees, "styles": self.styles, "sides": sides()}
        return render("explain.html", values | {"nothing": nothing()})


def _with_handshakes(dissections: Sequence[Dissection]) -> Iterator[tuple[str, Dissection | Handshake]]:
    """The conversations with what a key log opened of them, the encrypted part of the handshake among it."""
    for title, dissection in with_opened(dissections):
        yield title, dissection
        if dissection.opened_handshake:
            words = _("{title}, the handshake inside TLS: only the two ends can read this")
            yield words.format(title=title), dissection.opened_handshake


def _tree(title: str, dissection: Dissection | Handshake, budget: _Budget) -> Tree:
    nodes = []
    refused = budget.refused
    for side, span in in_order(dissection):
        node = _node(dissection.flow.stream(side).data, span, budget)
        if node:
            nodes.append((side, node))
    left = budget.refused - refused
    return Tree(title, tuple(nodes), _("… {count:,} more spans, in the capture").format(count=left) if left else "")


def in_order(dissection: Dissection | Handshake) -> Iterator[tuple[Side, Span]]:
    """The outermost spans of both sides, in the order of the wire: by the burst that brought their first byte."""
    both = (_numbered(dissection, side) for side in (Side.CLIENT, Side.SERVER))
    for _burst, side, span in merge(*both, key=lambda entry: entry[0]):
        yield side, span


def _numbered(dissection: Dissection | Handshake, side: Side) -> Iterator[tuple[int, Side, Span]]:
    bursts = [(burst.start, number) for number, burst in enumerate(dissection.flow.bursts) if burst.side is side]
    starts = [start for start, _number in bursts]
    for span in dissection.spans(side):
        index = bisect_right(starts, span.start) - 1
        yield bursts[index][1] if index >= 0 else -1, side, span


def _node(data: bytes, span: Span, budget: _Budget) -> SpanNode | None:
    if not budget.grants():
        return None
    octets = data[span.start : min(span.end, span.start + FIRST)]
    rest = span.end - span.start - len(octets)
    children = tuple(node for child in span.children if (node := _node(data, child, budget)))
    return SpanNode(
        octets.hex(" "),
        _("… {count:,} more").format(count=rest) if rest > 0 else "",
        style(span.visibility),
        span.field,
        glimpse(span.value, LONGEST_VALUE),
        span.meaning,
        span.source,
        children,
    )


def _text_lines(node: SpanNode, side: str, depth: int) -> Iterator[str]:
    words = " ".join(filter(None, (visible(node.value), node.meaning and f"({visible(node.meaning)})")))
    shown = pad(f"{side if depth == 0 else '   '}{'  ' * depth}{node.hex}", 40)
    yield fit(f"{shown}  {node.style.mark} {words or node.field}", TEXT_WIDTH)
    for child in node.children:
        yield from _text_lines(child, side, depth + 1)
