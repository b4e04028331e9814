"""What a lesson is made of: experiments, which bind what a learner recorded, and exercises, which are judged by it.

What a step asks stands in its notebook alone. Here is how the wire answers: letters, truths, findings, mistakes and hints,
as data, one module of `course/` a lesson. A step's functions get its evidence; they raise Missing (lessons/evidence.py) when
that does not show what the step is about. Sentences are marked by N_ and translated where they are told.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.lessons.answers import AnswerKind
from labkit.lessons.evidence import Evidence
from labkit.texts import _

Sentence = str | Callable[[Evidence], str]


def told(sentence: Sentence, seen: Evidence) -> str:
    """A sentence in the reader's language: a fixed one, or one that is made from the evidence."""
    return _(sentence) if isinstance(sentence, str) else sentence(seen)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question that the wire answers; without a truth it asks nothing and only binds the evidence.

    takes: what `reveal` is given. truth: the letter of the choice that the evidence makes true. found: what the wire shows,
    in one sentence or in one for each letter. lines: those that prove it. replies: to a wrong prediction, by its letter.
    """

    id: str
    found: Sentence | Mapping[str, str]
    takes: tuple[type, ...] = (Capture,)
    letters: str = "abc"
    truth: Callable[[Evidence], str] | None = None
    replies: Mapping[str, str] = field(default_factory=dict)
    lines: Callable[[Evidence], Iterable[Line]] = lambda _seen: ()

    def finding(self, letter: str, seen: Evidence) -> str:
        """What the wire shows, when it makes this letter true."""
        return told(self.found[letter] if isinstance(self.found, Mapping) else self.found, seen)


@dataclass(frozen=True, slots=True)
class Exercise:
    """Something to find out or to make.

    needs: the experiment whose evidence it is judged by; None where the answer is the evidence. answer: its kind, with the
    mistakes that it knows; says: what each of them is told. why: what a right answer is told. hints: from gentle to nearly
    telling. where: the place to look at.
    """

    id: str
    answer: AnswerKind
    why: Sentence
    says: Mapping[str, str]
    hints: tuple[str, ...]
    where: str
    needs: str | None = None


Step = Experiment | Exercise
