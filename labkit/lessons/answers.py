"""Kinds of answers. Each reads an answer, knows the truth from the evidence, and can say how far off a wrong answer is.

Each is a small frozen dataclass of pure functions. The evidence is what the learner handed to `reveal` for the experiment
that the exercise needs; the truth is computed from it anew each time.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Generic, TypeVar

from labkit.capture import Capture
from labkit.errors import LabError
from labkit.exchanges import Exchange
from labkit.lessons.evidence import Evidence, named
from labkit.mail.settings import Settings
from labkit.texts import _

A = TypeVar("A")
Cards = tuple[tuple[str, str], ...]

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


def is_blank(answer: object) -> bool:
    """Whether it is what a cell holds before anybody answers: nothing, dots, an empty text or list."""
    if isinstance(answer, str | bytes):
        return not answer.strip()
    return answer is None or answer is ... or (isinstance(answer, list | tuple | dict | set) and not answer)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of an answer. spelled: the answer as it was read. mistake: the known one that it shows, or "".

    remark: what can be said of any wrong answer.
    """

    spelled: str
    is_right: bool
    mistake: str = ""
    remark: str = ""


class AnswerKind(ABC):
    """What an exercise asks of every kind of answer."""

    @property
    @abstractmethod
    def known_mistakes(self) -> tuple[str, ...]:
        """The names of the mistakes that it tells apart; the first that fits is told."""

    @abstractmethod
    def judge(self, answer: object, seen: Evidence) -> Judgement:
        """Whether an answer is right, and what is wrong with it. Raises Unreadable."""

    def is_blank(self, answer: object) -> bool:
        """Whether the learner has not answered yet."""
        return is_blank(answer)

    def about_blank(self, answer: object) -> str:
        """What can be said of an answer that is blank; empty when nothing can."""
        return ""

    def deal(self, seen: Evidence) -> Cards:
        """What is laid on the table: pairs of a short name and a text, such as a letter and a card's words."""
        return ()


@dataclass(frozen=True, kw_only=True)
class _Read(AnswerKind, Generic[A]):
    """A kind of answer that is read as an A before it is judged. mistakes: known ways to be wrong, by name."""

    mistakes: Mapping[str, Callable[[A, Evidence], bool]] = field(default_factory=dict)

    @abstractmethod
    def read(self, answer: object, seen: Evidence) -> A:
        """The answer in the form that the other methods take. Raises Unreadable."""

    @abstractmethod
    def is_right(self, answer: A, seen: Evidence) -> bool:
        """Whether a read answer is right."""

    def remark(self, answer: A, seen: Evidence) -> str:
        """What can be said of any wrong answer; never empty."""
        return _("The answer is another one.")

    @property
    def known_mistakes(self) -> tuple[str, ...]:
        return tuple(self.mistakes)

    def judge(self, answer: object, seen: Evidence) -> Judgement:
        read = self.read(answer, seen)
        if self.is_right(read, seen):
            return Judgement(repr(read), is_right=True)
        mistake = next((name for name, fits in self.mistakes.items() if fits(read, seen)), "")
        return Judgement(repr(read), False, mistake, self.remark(read, seen))


@dataclass(frozen=True)
class _Exact(_Read[A]):
    """A kind of answer that is right when it is the truth."""

    truth: Callable[[Evidence], A]

    def is_right(self, answer: A, seen: Evidence) -> bool:
        return answer == self.truth(seen)


@dataclass(frozen=True)
class Number(_Exact[int]):
    """A whole number."""

    def read(self, answer: object, seen: Evidence) -> int:
        text = str(answer).strip().replace(",", "")
        if isinstance(answer, bool) or not re.fullmatch(r"-?\d{1,18}(\.0*)?", text):
            raise Unreadable(_("The answer is a whole number, such as 1000."))
        return int(text.partition(".")[0])


@dataclass(frozen=True)
class Text(_Exact[str]):
    """A text that must be exact, as passwords must."""

    def read(self, answer: object, seen: Evidence) -> str:
        if isinstance(answer, bytes):  # what base64.b64decode returns is as good
            answer = answer.decode(errors="backslashreplace")
        if not isinstance(answer, str):
            raise Unreadable(_('The answer is a text: write it between quotes, as in "spam".'))
        return answer.strip(" \t\r\n")

    def remark(self, answer: str, seen: Evidence) -> str:
        if answer.casefold() == self.truth(seen).casefold():
            return _("Nearly: capital and small letters count here.")
        return super().remark(answer, seen)


@dataclass(frozen=True)
class Choice(_Exact[str]):
    """One of several answers, named by a letter."""

    letters: str

    def read(self, answer: object, seen: Evidence) -> str:
        return chosen(answer, self.letters)


def chosen(answer: object, letters: str) -> str:
    """The letter that was meant, such as "b" by "B)". Raises Unreadable."""
    letter = answer.strip(" .()\"'").casefold() if isinstance(answer, str) else ""
    if letter not in tuple(letters):
        raise Unreadable(_("The answer is one letter between quotes: {letters}.").format(letters=", ".join(letters)))
    return letter


@dataclass(frozen=True)
class Order(_Read[tuple[str, ...]]):
    """Lines of a dialogue to be put in order, with cards among them that do not belong there.

    The cards lie mixed, in the same way for everybody; the answer names them by letter, in the right order.
    """

    lines: Callable[[Evidence], Sequence[str]]
    distractors: tuple[str, ...]

    def deal(self, seen: Evidence) -> Cards:
        cards = [*self.lines(seen), *self.distractors]
        places = sorted(range(len(cards)), key=self._mixed)
        return tuple(zip(ascii_uppercase, (cards[place] for place in places), strict=False))

    def _mixed(self, place: int) -> bytes:
        """Where a card lies: mixed by what never changes, for a challenge in the cards differs from run to run."""
        return hashlib.sha256(f"{place} {self.distractors}".encode()).digest()

    def read(self, answer: object, seen: Evidence) -> tuple[str, ...]:
        cards = dict(self.deal(seen))
        listed = list(answer) if isinstance(answer, list | tuple) else [answer]
        text = "".join(item if isinstance(item, str) else "?" for item in listed)
        letters = re.findall(r"[^\s,;>-]", text.upper())
        strange = [letter for letter in letters if letter not in cards]
        if strange or not letters:
            message = _('The answer names cards by their letters, A to {last}, in one text such as "BCA".')
            raise Unreadable(message.format(last=max(cards)))
        twice = next((letter for letter in letters if letters.count(letter) > 1), None)
        if twice:
            raise Unreadable(_("Card {letter} is there twice: each card is laid once at most.").format(letter=twice))
        return tuple(cards[letter] for letter in letters)

    def is_right(self, answer: tuple[str, ...], seen: Evidence) -> bool:
        return answer == tuple(self.lines(seen))

    def remark(self, answer: tuple[str, ...], seen: Evidence) -> str:
        right = tuple(self.lines(seen))
        count = next(
            (n for n, (a, b) in enumerate(zip(answer, right, strict=False)) if a != b), min(len(answer), len(right))
        )
        if count == len(answer):
            return _("Right as far as it goes, but something is still to be said after that.")
        letter = next(name for name, card in self.deal(seen) if card == answer[count])
        if not count:
            return _("The conversation does not begin with card {letter}.").format(letter=letter)
        if count == len(right):
            return _("All is said before card {letter}.").format(letter=letter)
        return _("The first {count} are right, but card {letter} does not come next.").format(
            count=count, letter=letter
        )


def laid_before(answer: Sequence[str], cards: Sequence[str], early: int, late: int) -> bool:
    """Whether the card at place `early` was laid before the one at `late`; one that was not laid is not before any."""
    first, second = cards[early], cards[late]
    return first in answer and second in answer and answer.index(first) < answer.index(second)


@dataclass(frozen=True)
class Labels(_Read[tuple[str, ...]]):
    """Pieces of what was on the wire, each to be given one of the labels. pieces: pairs of a text and its right label."""

    pieces: Callable[[Evidence], Sequence[tuple[str, str]]]
    words: tuple[str, ...]

    def deal(self, seen: Evidence) -> Cards:
        return tuple((str(number), text) for number, (text, _label) in enumerate(self.pieces(seen), 1))

    def read(self, answer: object, seen: Evidence) -> tuple[str, ...]:
        expected = len(self.deal(seen))
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

    def is_right(self, answer: tuple[str, ...], seen: Evidence) -> bool:
        return answer == tuple(label for _text, label in self.pieces(seen))

    def remark(self, answer: tuple[str, ...], seen: Evidence) -> str:
        pairs = zip(answer, self.pieces(seen), strict=True)
        wrong = [(n, given) for n, (given, (_text, label)) in enumerate(pairs, 1) if given != label]
        number, given = wrong[0]
        message = _("{right} of {count} are right. Piece {number} is something else than “{given}”.")
        right = len(answer) - len(wrong)
        return message.format(right=right, count=len(answer), number=number, given=given)


def _folded(label: str) -> str:
    return " ".join(label.casefold().replace("-", " ").split())


@dataclass(frozen=True)
class WrongSetting(_Read[str]):
    """A mail program's settings with a mistake in them, beside what its provider wants; the answer is the setting's name."""

    filled_in: Callable[[Evidence], Settings]
    wanted: Callable[[Evidence], Settings]

    def deal(self, seen: Evidence) -> Cards:
        settings = self.filled_in(seen)
        return tuple((name, _as_shown(getattr(settings, name))) for name in SHOWN_SETTINGS)

    def read(self, answer: object, seen: Evidence) -> str:
        name = answer.strip().casefold().replace(" ", "_") if isinstance(answer, str) else ""
        if name not in SHOWN_SETTINGS:
            message = _("The answer is the name of one setting, between quotes: {names}.")
            raise Unreadable(message.format(names=", ".join(SHOWN_SETTINGS)))
        return name

    def is_right(self, answer: str, seen: Evidence) -> bool:
        return bool(getattr(self.filled_in(seen), answer) != getattr(self.wanted(seen), answer))

    def remark(self, answer: str, seen: Evidence) -> str:
        shown = _as_shown(getattr(self.wanted(seen), answer))
        return _("{setting} is {shown}, and that is what the provider wants.").format(setting=answer, shown=shown)


def _as_shown(value: object) -> str:
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return str(value)


@dataclass(frozen=True)
class Made(_Read[A]):
    """Something made: a Capture, a Provider, Settings … in which something holds."""

    of: type[A]
    holds: Callable[[A, Evidence], bool]

    def is_blank(self, answer: object) -> bool:
        return is_blank(answer) or (isinstance(answer, Capture) and not answer.flows)

    def about_blank(self, answer: object) -> str:
        if not isinstance(answer, Capture):
            return ""
        return _(
            "This capture is empty: nothing was said where it listens. If you have written your lines, look at the names in "
            "them: they have to speak to what this cell has started, not to something of a cell above."
        )

    def read(self, answer: object, seen: Evidence) -> A:
        if isinstance(answer, Exchange):  # whoever forgot `.capture` has recorded all the same
            answer = answer.capture
        if not isinstance(answer, self.of):
            message = _("The answer is {named} itself: the variable that holds it, not a text with its name.")
            raise Unreadable(message.format(named=named(self.of)))
        return answer

    def is_right(self, answer: A, seen: Evidence) -> bool:
        return self.holds(answer, seen)

    def remark(self, answer: A, seen: Evidence) -> str:
        return _("What you made does not do yet what the task asks for.")
