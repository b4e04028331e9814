"""The one vocabulary: for each verdict and visibility a mark, a word, and the colours that repeat them.

Colour never says anything alone: everywhere it is used, the mark or the word stands beside it. The palette is here and
nowhere else. A test holds it to WCAG 2.2 (ink on its fill 4.5:1, stroke on white 3:1) and keeps all colours apart for
people with deuteranopia and protanopia.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from labkit.decode.dissection import Line, LineKind
from labkit.decode.exposure import Verdict
from labkit.decode.protocols import PROTOCOLS
from labkit.decode.spans import Visibility
from labkit.texts import N_, _

PROTOCOL = N_("protocol words")


class Paint(NamedTuple):
    """A colour by what it is for; the value is what it is where nobody gives it another."""

    name: str
    value: str


TEXT = Paint("text", "#1f2937")
FAINT = Paint("faint", "#566174")  # axes and captions
PAPER = Paint("paper", "#ffffff")  # what a figure is drawn on
LIGHT = "#ffffff"


@dataclass(frozen=True, slots=True)
class Style:
    """How one verdict or visibility is shown. fill: an area; ink: text on that area; stroke: a line on paper."""

    name: str
    mark: str
    fill: Paint
    ink: Paint
    stroke: Paint

    @property
    def word(self) -> str:
        """The verdict in the reader's language."""
        return _(self.name)

    @property
    def label(self) -> str:
        """Mark and word."""
        return f"{self.mark} {self.word}"


def _style(name: str, mark: str, fill: str, ink: str, stroke: str) -> Style:
    told = name.replace(" ", "-")
    return Style(name, mark, Paint(told, fill), Paint(f"{told}-ink", ink), Paint(f"{told}-stroke", stroke))


_ORDER = (
    _style(PROTOCOL, "·", "#e2e8f0", TEXT.value, "#334155"),
    _style(Visibility.READABLE, "●", "#c2410c", LIGHT, "#b93a08"),
    _style(Visibility.ENCODED, "◐", "#eab308", TEXT.value, "#bd8600"),
    _style(Visibility.GUESSABLE, "◒", "#9333ea", LIGHT, "#9333ea"),
    _style(Verdict.SIZE_ONLY, "◌", "#7dd3fc", TEXT.value, "#0284c7"),
    _style(Visibility.HANDSHAKE, "◇", "#94a3b8", TEXT.value, "#8492a8"),
    _style(Visibility.HIDDEN, "○", "#0f766e", LIGHT, "#0f766e"),
    _style(Verdict.NOT_SENT, "–", "#f1f5f9", TEXT.value, "#64748b"),
)
STYLES: Mapping[str, Style] = MappingProxyType({style.name: style for style in _ORDER})

# Commands whose argument says who somebody is or what they know. All other readable commands and replies are
# protocol words: anybody can read them too, but they are the same for everybody.
PERSONAL = frozenset(verb for protocol in PROTOCOLS for verb in protocol.personal)
TELLING = frozenset(
    {LineKind.MESSAGE, LineKind.AUTH, LineKind.TLS, LineKind.UNKNOWN}
)  # none of these is a protocol's own word


def style(what: Verdict | Visibility) -> Style:
    """How a verdict or a visibility is shown."""
    return STYLES[what.value]


def style_of(line: Line) -> Style:
    """How a line of a dialogue is shown: by its visibility, and protocol words apart from what is about people."""
    telling = line.kind in TELLING or (line.kind is LineKind.COMMAND and verb(line) in PERSONAL)
    if line.visibility is Visibility.READABLE and not telling:
        return STYLES[PROTOCOL]
    return style(line.visibility)


def verb(line: Line) -> str:
    """The command's first word, in upper case."""
    return line.text.partition(" ")[0].partition(":")[0].upper()


def legend(styles: Iterable[Style]) -> tuple[Style, ...]:
    """The styles that occur, each once, in the vocabulary's order."""
    seen = {item.name for item in styles}
    return tuple(item for item in _ORDER if item.name in seen)


def legend_text(styles: Iterable[Style]) -> str:
    """One line that says what each mark means."""
    return "   ".join(item.label for item in legend(styles))
