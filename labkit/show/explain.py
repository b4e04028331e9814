"""Every byte explained: hexadecimal beside its meaning, nested as the spans are.

The hex dump is flat: one run of bytes for each innermost span. The explanation is a tree that opens where a reader wants to
know more: from a record to a handshake message, an extension, a field. It is static HTML; `<details>` needs no script, and
a keyboard reaches all of it. Both stop at a bound and say how much is left.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from markupsafe import Markup

from labkit.decode.conversation import Conversation, Handshake
from labkit.decode.spans import Span, leaves
from labkit.show.dialogue import CONVERSATIONS, more_connections, nothing, sides, with_opened
from labkit.show.marks import Look, legend, legend_text, look
from labkit.show.runs import sized
from labkit.show.safe import block, fit, glimpse, pad, visible
from labkit.show.view import View, render
from labkit.texts import _
from labkit.wire.flows import Side

PER_ROW = 8  # octets in a row of a dump: so that the meaning has room
FIRST = 8  # octets that the explanation shows of a span
HTML_SPANS = 1500  # spans of an explanation in HTML
HTML_ROWS = 600  # rows of a dump in HTML
TEXT_LINES = 24  # lines in text; one more says what is left out
TEXT_WIDTH = 118  # columns
LONGEST_VALUE = 240  # characters


def hexadecimal(data: bytes) -> str:
    """Octets in hexadecimal, a space between them."""
    return data.hex(" ")


def characters(data: bytes) -> str:
    """Octets as ASCII: controls as their pictures, everything above 127 as a dot."""
    return "".join(visible(chr(octet)) if octet < 0x80 else "." for octet in data)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a dump; the first row of a span has its look and meaning, the others go on."""

    offset: str
    hex: str
    characters: str
    look: Look | None = None
    value: str = ""
    meaning: str = ""


class HexDump(View):
    """Bytes beside what they mean."""

    def __init__(self, data: bytes, spans: Sequence[Span]) -> None:
        self.title = _("Bytes and their meaning")
        found = list(_rows(data, spans, HTML_ROWS + 1))
        self.rows = tuple(found[:HTML_ROWS])
        self._cut = len(found) > HTML_ROWS
        self._length = len(data)

    @property
    def looks(self) -> tuple[Look, ...]:
        """The marks that occur."""
        return legend(row.look for row in self.rows if row.look)

    def text(self) -> str:
        lines = []
        for row in self.rows[:TEXT_LINES]:
            start = f"{row.offset}  {pad(row.hex, PER_ROW * 3 - 1)}  {pad(row.characters, PER_ROW)}"
            about = f"  {row.look.mark} {visible(row.meaning or row.value)}" if row.look else ""
            lines.append(fit(start + about, TEXT_WIDTH))
        if self._cut or len(self.rows) > TEXT_LINES:
            lines.append(self.left_out)
        return block([*lines, legend_text(self.looks)])

    @property
    def left_out(self) -> str:
        """What is said where the dump stops before the bytes do."""
        return _("… {size} in all").format(size=sized(self._length))

    def body(self) -> Markup:
        values = {"title": self.title, "rows": self.rows, "looks": self.looks}
        return render("hexdump.html", values | {"left_out": self.left_out if self._cut else ""})


def _rows(data: bytes, spans: Iterable[Span], most: int) -> Iterator[Row]:
    told = 0
    for span in leaves(spans):
        for start in range(span.start, span.end, PER_ROW):
            octets = data[start : min(start + PER_ROW, span.end)]
            shown = (f"{start:06x}", hexadecimal(octets), characters(octets))
            if start == span.start:
                yield Row(*shown, look(span.visibility), glimpse(span.value, LONGEST_VALUE), span.meaning)
            else:
                yield Row(*shown)
            told += 1
            if told == most:
                return


@dataclass(frozen=True, slots=True)
class Node:
    """A span with its first octets, ready to be shown. more: octets that are not."""

    hex: str
    more: str
    look: Look
    field: str
    value: str
    meaning: str
    source: str
    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """One conversation: (side, node) in the order of the wire. left_out: spans that are not shown, in words."""

    title: str
    nodes: tuple[tuple[Side, Node], ...]
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

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self.title = _("Every byte explained")
        budget = _Budget(HTML_SPANS)
        trees = [_tree(title, conversation, budget) for title, conversation in _with_handshakes(conversations)]
        more = more_connections(len(conversations) - CONVERSATIONS)
        self.trees = (*trees, *([Tree(more, (), "")] if more else []))

    @property
    def looks(self) -> tuple[Look, ...]:
        """The marks that occur."""
        return legend(node.look for tree in self.trees for _side, node in tree.nodes)

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
        values = {"title": self.title, "trees": self.trees, "looks": self.looks, "sides": sides()}
        return render("explain.html", values | {"nothing": nothing()})


def _with_handshakes(conversations: Sequence[Conversation]) -> Iterator[tuple[str, Conversation | Handshake]]:
    """The conversations with what a key log opened of them, the encrypted part of the handshake among it."""
    for title, conversation in with_opened(conversations):
        yield title, conversation
        if conversation.opened_handshake:
            words = _("{title}, the handshake inside TLS: only the two ends can read this")
            yield words.format(title=title), conversation.opened_handshake


def _tree(title: str, conversation: Conversation | Handshake, budget: _Budget) -> Tree:
    nodes = []
    refused = budget.refused
    for side, span in in_order(conversation):
        node = _node(conversation.flow.stream(side).data, span, budget)
        if node:
            nodes.append((side, node))
    left = budget.refused - refused
    return Tree(title, tuple(nodes), _("… {count:,} more spans, in the capture").format(count=left) if left else "")


def in_order(conversation: Conversation | Handshake) -> Iterator[tuple[Side, Span]]:
    """The outermost spans of both sides, in the order of the wire: by the burst that brought their first byte."""
    both = (_numbered(conversation, side) for side in (Side.CLIENT, Side.SERVER))
    for _burst, side, span in merge(*both, key=lambda entry: entry[0]):
        yield side, span


def _numbered(conversation: Conversation | Handshake, side: Side) -> Iterator[tuple[int, Side, Span]]:
    bursts = [(burst.start, number) for number, burst in enumerate(conversation.flow.bursts) if burst.side is side]
    starts = [start for start, _number in bursts]
    for span in conversation.spans(side):
        index = bisect_right(starts, span.start) - 1
        yield bursts[index][1] if index >= 0 else -1, side, span


def _node(data: bytes, span: Span, budget: _Budget) -> Node | None:
    if not budget.grants():
        return None
    octets = data[span.start : min(span.end, span.start + FIRST)]
    rest = span.end - span.start - len(octets)
    children = tuple(node for child in span.children if (node := _node(data, child, budget)))
    return Node(
        hexadecimal(octets),
        _("… {count:,} more").format(count=rest) if rest > 0 else "",
        look(span.visibility),
        span.field,
        glimpse(span.value, LONGEST_VALUE),
        span.meaning,
        span.source,
        children,
    )


def _text_lines(node: Node, side: str, depth: int) -> Iterator[str]:
    words = " ".join(filter(None, (visible(node.value), node.meaning and f"({visible(node.meaning)})")))
    shown = pad(f"{side if depth == 0 else '   '}{'  ' * depth}{node.hex}", 40)
    yield fit(f"{shown}  {node.look.mark} {words or node.field}", TEXT_WIDTH)
    for child in node.children:
        yield from _text_lines(child, side, depth + 1)


def hexdump(data: bytes, spans: Sequence[Span]) -> HexDump:
    """A stream's bytes, each run beside its meaning. spans: those of this stream."""
    return HexDump(data, spans)


def explain(conversations: Sequence[Conversation]) -> Explanation:
    """Every byte of some conversations: hexadecimal beside meaning, nested."""
    return Explanation(conversations)
