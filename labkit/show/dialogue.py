"""The dialogue: what the two sides said, line by line, each with the mark that says who else could read it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, takewhile

from markupsafe import Markup

from labkit.decode.dissection import Dissection
from labkit.show.groups import SHORT, Group, groups
from labkit.show.marks import Style, legend, legend_text
from labkit.show.safe import block, fit, glimpse, visible
from labkit.show.view import View, render
from labkit.texts import _
from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Side

TEXT_LINES = 25  # lines of a conversation in text
TEXT_WIDTH = 100  # columns
DISSECTIONS = 40  # conversations that are shown
HTML_GROUPS = 300  # groups of a conversation in HTML
HTML_FOLDED = 400  # lines inside one fold
HTML_LINES = 4000  # lines of all conversations in HTML, in folds and out of them
LONGEST_NAME = 64  # columns of an endpoint's name; who forges packets writes longer ones


@dataclass(frozen=True, slots=True)
class ShownConversation:
    """One conversation, ready to be shown. left_out: what of it is too long to be shown, in words."""

    title: str
    protocol: str
    groups: tuple[Group, ...]
    left_out: str = ""


def name_of(endpoint: Endpoint) -> str:
    """An endpoint for people: its name or address. Ports are not told, because a client's port never repeats."""
    return glimpse(endpoint.name or endpoint.address, LONGEST_NAME)


def protocol_of(dissection: Dissection) -> str:
    """The protocol's name for people."""
    return dissection.protocol.label or _("unknown protocol")


def ends_of(dissection: Dissection) -> str:
    """Between whom the conversation is."""
    return f"{name_of(dissection.flow.client)} → {name_of(dissection.flow.server)}"


def title_of(dissection: Dissection) -> str:
    """A conversation in a few words: protocol and both ends."""
    return f"{protocol_of(dissection)}  {ends_of(dissection)}"


def with_opened(dissections: Iterable[Dissection]) -> Iterator[tuple[str, Dissection]]:
    """The conversations that are shown, with their titles, and after each what a key log opened of it."""
    for dissection in islice(dissections, DISSECTIONS):
        yield title_of(dissection), dissection
        if dissection.opened:
            title = _("{title}, inside TLS: only the two ends can read this")
            yield title.format(title=title_of(dissection)), dissection.opened


def more_connections(count: int) -> str:
    """What is said of connections that are not shown; empty when all are."""
    return _("… {count:,} more connections, in the capture").format(count=count) if count > 0 else ""


def parts(dissections: Sequence[Dissection]) -> Iterator[ShownConversation]:
    """The conversations, ready to be shown."""
    room = HTML_LINES
    for title, dissection in with_opened(dissections):
        part, room = _part(title, dissection, room)
        yield part
    if more := more_connections(len(dissections) - DISSECTIONS):
        yield ShownConversation(more, more, ())


def _part(title: str, dissection: Dissection, room: int) -> tuple[ShownConversation, int]:
    """As many groups as there is room for, in lines, and the room that is left."""
    found = groups(dissection)
    lines = accumulate(
        (len(group.rows) + min(len(group.folded), HTML_FOLDED) for group in found[:HTML_GROUPS]), initial=0
    )
    taken = list(takewhile(lambda count: count <= room, lines))
    kept = len(taken) - 1
    left_out = beyond(sum(len(group.rows) for group in found[kept:])) if found[kept:] else ""
    return ShownConversation(title, protocol_of(dissection), found[:kept], left_out), room - taken[-1]


def beyond(count: int) -> str:
    """What is said where a view stops before the capture does."""
    return _("… {count:,} more lines, in the capture").format(count=count)


def sides() -> dict[Side, str]:
    """The two sides in the reader's language."""
    return {Side.CLIENT: _("Client"), Side.SERVER: _("Server")}


class Dialogue(View):
    """The dialogue of some conversations. whole: the text goes on where it would stop for a notebook."""

    def __init__(self, dissections: Sequence[Dissection], *, whole: bool = False) -> None:
        self.title = _("Dialogue")
        self.dissections = tuple(dissections)
        self._most = HTML_GROUPS * SHORT if whole else TEXT_LINES
        self.parts = tuple(parts(dissections))

    def whole(self) -> "Dialogue":
        """The same with a text that goes on where it would stop for a notebook: for a terminal."""
        return Dialogue(self.dissections, whole=True)

    @property
    def styles(self) -> tuple[Style, ...]:
        """The marks that occur."""
        return legend(row.style for part in self.parts for group in part.groups for row in group.rows + group.folded)

    def text(self) -> str:
        if not self.parts:
            return nothing()
        lines = []
        for part in self.parts:
            lines += [visible(part.title), *_text_lines(part, self._most), ""]
        return block([*lines, legend_text(self.styles)])

    def body(self) -> Markup:
        values = {"parts": self.parts, "styles": self.styles, "sides": sides(), "nothing": nothing()}
        return render("dialogue.html", values | {"limit": HTML_FOLDED, "beyond": beyond})


def nothing() -> str:
    """What is said where there is no conversation to show."""
    return _("Nothing was said: the capture holds no TCP connection with data.")


def _text_lines(part: ShownConversation, most: int) -> Iterator[str]:
    total = sum(len(group.rows) + bool(group.more) for group in part.groups)
    room = total if total <= most else most - 1
    yield from islice(_all_lines(part), room)
    if total > room:
        yield beyond(total - room)
    elif part.left_out:
        yield part.left_out


def _all_lines(part: ShownConversation) -> Iterator[str]:
    for group in part.groups:
        side = "C:" if group.side is Side.CLIENT else "S:"
        for row in group.rows:
            yield fit(f"{side} {row.style.mark} {visible(row.text)}", TEXT_WIDTH)
        if group.more:
            yield f"{side}   {group.more}"
