"""What a lesson is made of: experiments, which bind what a learner recorded, and exercises, which are judged by it.

Lessons are data in these classes, one module each in `course/`. A step's functions get the evidence as positional
arguments; they raise Missing (lessons/evidence.py) when it does not show what the step is about.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.lessons.kinds import Kind
from labkit.provider import Provider
from labkit.texts import _


def _no_lines(*evidence: Any) -> Iterable[Line]:
    return ()


def _nothing(*evidence: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question that the wire answers.

    section: the notebook's heading under which it stands. takes: what `reveal` is given. truth: the letter of the choice
    that the evidence makes true. found: what the wire shows, in a sentence. lines: the lines that prove it. replies: what to
    say to a prediction that was wrong, by its letter. Without a question it only binds the evidence, and truth gives "".
    """

    id: str
    section: str
    takes: tuple[type, ...]
    found: Callable[..., str]
    question: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    truth: Callable[..., str] = _nothing
    replies: Mapping[str, str] = field(default_factory=dict)
    lines: Callable[..., Iterable[Line]] = _no_lines


@dataclass(frozen=True, slots=True)
class Misconception:
    """A known way to be wrong. when: called with the answer and the evidence. says: the diagnosis for the learner."""

    name: str
    when: Callable[..., bool]
    says: str


@dataclass(frozen=True, slots=True)
class Exercise:
    """Something to find out or to make.

    needs: the experiment whose evidence it is judged by; None where the answer is the evidence. why: what a right answer is
    told. misconceptions: the first that fits is told. hints: from gentle to nearly telling. where: the place to look at.
    """

    id: str
    section: str
    needs: str | None
    task: str
    kind: Kind
    why: Callable[..., str]
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, ...]
    where: str


Step = Experiment | Exercise


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson's steps, in the order of its notebook."""

    number: str
    title: str
    steps: tuple[Step, ...] = field(default=())


def takes_in_words(experiment: Experiment) -> str:
    """What an experiment's `reveal` is given, such as "a provider and a capture"."""
    names = {Capture: _("a capture"), Provider: _("a provider")}
    return _(" and ").join(names.get(kind) or _("what the cells before it made") for kind in experiment.takes)
