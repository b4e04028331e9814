"""Kinds of exercises. A kind reads an answer, knows the truth from the evidence, and can say how far off a wrong answer is.

Each is a small frozen dataclass of pure functions. The evidence is what the learner handed to `reveal` for the experiment
that the exercise needs, as positional arguments; the truth is computed from it anew each time.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.capture import Capture
from labkit.errors import LabError
from labkit.mail.settings import Settings
from labkit.texts import _

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# What a mail program's window shows and a provider's help page names.
SHOWN_SETTINGS = (
    "server",
    "security",
    "login",
    "password",
    "outgoing_requires_authentication",
    "check_mail_first",
    "mechanism",
)


class Unreadable(LabError):
    """An answer of another form than the exercise asks for; the message says which form that is."""


def is_blank(answer: Any) -> bool:
    """Whether it is what a cell holds before anybody answers: nothing, dots, an empty text or list."""
    if isinstance(answer, str | bytes):
        return not answer.strip()
    return answer is None or answer is ... or (isinstance(answer, list | tuple | dict | set) and not answer)


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """What all kinds can do."""

    def is_blank(self, answer: Any) -> bool:
        """Whether the learner has not answered yet."""
        return is_blank(answer)

    def about_blank(self, answer: Any) -> str:
        """What can be said of an answer that is blank; empty when nothing can."""
        return ""

    def deal(self, *evidence: Any) -> tuple[tuple[str, str], ...]:
        """What is laid on the table: pairs of a short name and a text, such as a letter and a card's words."""
        return ()

    @abstractmethod
    def read(self, answer: Any, *evidence: Any) -> Any:
        """The answer in the form that the other methods take. Raises Unreadable."""

    @abstractmethod
    def is_right(self, answer: Any, *evidence: Any) -> bool:
        """Whether a read answer is right."""

    def remark(self, answer: Any, *evidence: Any) -> str:
        """What can be said of any wrong answer; never empty."""
        return _("The answer is another one.")


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A whole number."""

    truth: Callable[..., int]

    def read(self, answer: Any, *evidence: Any) -> int:
        text = str(answer).strip().replace(",", "")
        if isinstance(answer, bool) or not re.fullmatch(r"-?\d{1,18}(\.0*)?", text):
            raise Unreadable(_("The answer is a whole number, such as 1000."))
        return int(text.partition(".")[0])

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return bool(answer == self.truth(*evidence))


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """A text that must be exact, as passwords must."""

    truth: Callable[..., str]

    def read(self, answer: Any, *evidence: Any) -> str:
        if isinstance(answer, bytes):  # what base64.b64decode returns is as good
            answer = answer.decode(errors="backslashreplace")
        if not isinstance(answer, str):
            raise Unreadable(_('The answer is a text: write it between quotes, as in "spam".'))
        return answer.strip(" \t\r\n")

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return bool(answer == self.truth(*evidence))

    def remark(self, answer: Any, *evidence: Any) -> str:
        if answer.casefold() == self.truth(*evidence).casefold():
            return _("Nearly: capital and small letters count here.")
        return Kind.remark(self, answer, *evidence)


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of several answers, named by a letter."""

    options: Mapping[str, str]
    truth: Callable[..., str]

    def deal(self, *evidence: Any) -> tuple[tuple[str, str], ...]:
        return tuple(self.options.items())

    def read(self, answer: Any, *evidence: Any) -> str:
        return chosen(answer, self.options)

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return bool(answer == self.truth(*evidence))


def chosen(answer: Any, options: Mapping[str, str]) -> str:
    """The letter that was meant, such as "b" by "B)". Raises Unreadable."""
    letter = answer.strip(" .()\"'").casefold() if isinstance(answer, str) else ""
    if letter not in options:
        raise Unreadable(_("The answer is one letter between quotes: {letters}.").format(letters=", ".join(options)))
    return letter


@dataclass(frozen=True, slots=True)
class Order(Kind):
    """Lines of a dialogue to be put in order, with cards among them that do not belong there.

    The cards lie mixed, in the same way for everybody; the answer names them by letter, in the right order.
    """

    lines: Callable[..., Sequence[str]]
    distractors: tuple[str, ...]

    def deal(self, *evidence: Any) -> tuple[tuple[str, str], ...]:
        cards = [*self.lines(*evidence), *self.distractors]
        places = sorted(range(len(cards)), key=self._mixed)
        return tuple(zip(LETTERS, (cards[place] for place in places), strict=False))

    def _mixed(self, place: int) -> bytes:
        """Where a card lies: mixed by what never changes, for a challenge in the cards differs from run to run."""
        return hashlib.sha256(f"{place} {self.distractors}".encode()).digest()

    def read(self, answer: Any, *evidence: Any) -> tuple[str, ...]:
        cards = dict(self.deal(*evidence))
        listed = list(answer) if isinstance(answer, list | tuple) else [answer]
        if not all(isinstance(item, str) for item in listed):
            listed = [""]
        letters = re.findall(r"[^\s,;>-]", "".join(listed).upper())
        strange = [letter for letter in letters if letter not in cards]
        if strange or not letters:
            last = max(cards)
            message = _('The answer names cards by their letters, A to {last}, in one text such as "BCA".')
            raise Unreadable(message.format(last=last))
        twice = next((letter for letter in letters if letters.count(letter) > 1), None)
        if twice:
            raise Unreadable(_("Card {letter} is there twice: each card is laid once at most.").format(letter=twice))
        return tuple(cards[letter] for letter in letters)

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return tuple(answer) == tuple(self.lines(*evidence))

    def remark(self, answer: Any, *evidence: Any) -> str:
        right = tuple(self.lines(*evidence))
        count = next(
            (n for n, (a, b) in enumerate(zip(answer, right, strict=False)) if a != b), min(len(answer), len(right))
        )
        if count == len(answer):
            return _("Right as far as it goes, but something is still to be said after that.")
        letter = next(name for name, card in self.deal(*evidence) if card == answer[count])
        if not count:
            return _("The conversation does not begin with card {letter}.").format(letter=letter)
        if count == len(right):
            return _("All is said before card {letter}.").format(letter=letter)
        return _("The first {count} are right, but card {letter} does not come next.").format(
            count=count, letter=letter
        )


@dataclass(frozen=True, slots=True)
class Labels(Kind):
    """Pieces of what was on the wire, each to be given one of the labels. pieces: pairs of a text and its right label."""

    pieces: Callable[..., Sequence[tuple[str, str]]]
    words: tuple[str, ...]

    def deal(self, *evidence: Any) -> tuple[tuple[str, str], ...]:
        return tuple((str(number), text) for number, (text, _label) in enumerate(self.pieces(*evidence), 1))

    def read(self, answer: Any, *evidence: Any) -> tuple[str, ...]:
        expected = len(self.deal(*evidence))
        if isinstance(answer, str):
            answer = answer.split(",")
        if isinstance(answer, dict):
            answer = [answer[number] for number in range(1, expected + 1) if number in answer]
        listed = [str(label) for label in answer] if isinstance(answer, list | tuple) else []
        words = {_folded(word): word for word in self.words}
        strange = next((label for label in listed if _folded(label) not in words), None)
        message = _("The answer is a list of {count} labels, one for each piece, out of these: {words}.")
        asked = message.format(count=expected, words=", ".join(f'"{word}"' for word in self.words))
        if strange is not None:
            told = _("“{label}” is none of the labels.").format(label=strange[:40])
            raise Unreadable(f"{told} {asked}")
        if len(listed) != expected:
            told = _("Yours has {count}.").format(count=len(listed))
            raise Unreadable(f"{asked} {told}")
        return tuple(words[_folded(label)] for label in listed)

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return tuple(answer) == tuple(label for _text, label in self.pieces(*evidence))

    def remark(self, answer: Any, *evidence: Any) -> str:
        pairs = zip(answer, self.pieces(*evidence), strict=True)
        wrong = [(n, given) for n, (given, (_text, label)) in enumerate(pairs, 1) if given != label]
        number, given = wrong[0]
        right = len(answer) - len(wrong)
        message = _("{right} of {count} are right. Piece {number} is something else than “{given}”.")
        return message.format(right=right, count=len(answer), number=number, given=given)


def _folded(label: str) -> str:
    return " ".join(label.casefold().replace("-", " ").split())


@dataclass(frozen=True, slots=True)
class WrongSetting(Kind):
    """A mail program's settings with a mistake in them, beside what its provider wants; the answer is the setting's name."""

    filled_in: Callable[..., Settings]
    wanted: Callable[..., Settings]

    def deal(self, *evidence: Any) -> tuple[tuple[str, str], ...]:
        settings = self.filled_in(*evidence)
        return tuple((name, _as_shown(getattr(settings, name))) for name in SHOWN_SETTINGS)

    def read(self, answer: Any, *evidence: Any) -> str:
        name = answer.strip().casefold().replace(" ", "_") if isinstance(answer, str) else ""
        if name not in SHOWN_SETTINGS:
            message = _("The answer is the name of one setting, between quotes: {names}.")
            raise Unreadable(message.format(names=", ".join(SHOWN_SETTINGS)))
        return name

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return bool(getattr(self.filled_in(*evidence), answer) != getattr(self.wanted(*evidence), answer))

    def remark(self, answer: Any, *evidence: Any) -> str:
        shown = _as_shown(getattr(self.wanted(*evidence), answer))
        return _("{setting} is {shown}, and that is what the provider wants.").format(setting=answer, shown=shown)


def _as_shown(value: object) -> str:
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return str(value)


@dataclass(frozen=True, slots=True)
class Proof(Kind):
    """Something made: a Capture, a Provider or Settings in which something holds. `named` says what, with its article."""

    of: type
    named: str
    holds: Callable[..., bool]

    def is_blank(self, answer: Any) -> bool:
        return is_blank(answer) or (isinstance(answer, Capture) and not answer.flows)

    def about_blank(self, answer: Any) -> str:
        if not isinstance(answer, Capture):
            return ""
        return _(
            "This capture is empty: nothing was said where it listens. If you have written your lines, look at the names in "
            "them: they have to speak to what this cell has started, not to something of a cell above."
        )

    def read(self, answer: Any, *evidence: Any) -> Any:
        if not isinstance(answer, self.of):
            message = _("The answer is {named} itself: the variable that holds it, not a text with its name.")
            raise Unreadable(message.format(named=self.named))
        return answer

    def is_right(self, answer: Any, *evidence: Any) -> bool:
        return self.holds(answer, *evidence)

    def remark(self, answer: Any, *evidence: Any) -> str:
        return _("What you made does not do yet what the task asks for.")
