"""Feedback: what a lesson says to its learner. A verdict in words, sentences, and the lines or cards that belong to them.

The verdict is a word and never only a colour or a sign, so that a screen reader says it. What stands between backticks in a
sentence is shown as code.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from labkit.decode.dissection import Line
from labkit.show.groups import ShownLine
from labkit.show.marks import style_of
from labkit.show.safe import block, fit, visible
from labkit.show.view import View, render
from labkit.texts import _
from labkit.wire.flows import Side

TEXT_WIDTH = 96  # columns


class Feedback(View):
    """A verdict and what there is to say about it.

    sentences: one paragraph each. cards: pairs of a short name and a text. lines: what was on the wire. is_right: whether an
    exercise is solved by what this note answers.
    """

    def __init__(
        self,
        verdict: str,
        *sentences: str,
        cards: Sequence[tuple[str, str]] = (),
        lines: Iterable[Line] = (),
        is_right: bool = False,
    ) -> None:
        self.title = verdict
        self.sentences = tuple(sentence for sentence in sentences if sentence)
        self.cards = tuple(cards)
        self.rows = tuple((line.side, ShownLine(style_of(line), line.text)) for line in lines)
        self.is_right = is_right

    def text(self) -> str:
        first, *others = [visible(sentence) for sentence in self.sentences] or [""]
        parts = [_wrapped(f"{self.title} {first}")]
        parts += [fit(f"  {_side(side)}: {row.style.mark} {visible(row.text)}", TEXT_WIDTH) for side, row in self.rows]
        parts += [_wrapped(other) for other in others]
        parts += list(self._table())
        return block(line for part in parts for line in part.splitlines())

    def _table(self) -> Iterator[str]:
        width = max((len(name) for name, _words in self.cards), default=0)
        for name, words in self.cards:
            yield fit(f"  {name:{width}}  {visible(words)}", TEXT_WIDTH)

    def body(self) -> Markup:
        values = {
            "verdict": self.title,
            "sentences": [[visible(part) for part in sentence.split("`")] for sentence in self.sentences],
            "rows": [(_side(side), row) for side, row in self.rows],
            "cards": self.cards,
        }
        return render("feedback.html", values)


def _side(side: Side) -> str:
    return _("C") if side is Side.CLIENT else _("S")


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
