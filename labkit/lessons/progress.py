"""Progress: what a learner predicted, answered and asked, step by step. To be saved, taken up again, or counted for a class.

It holds no time, no name and no answer: enough to see where a learner or a class stands, and nothing to watch anybody by.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Self

from markupsafe import Markup

from labkit import files
from labkit.errors import LabError
from labkit.lessons import course
from labkit.lessons.steps import Exercise, Experiment
from labkit.show.safe import block, grid
from labkit.show.view import View, table
from labkit.texts import N_, _

VERSION = 1  # of the JSON
LARGEST = 1_000_000  # octets of a saved progress that is still read: a whole course takes about 10,000
TEXT_COLUMNS = (10, 24, 12, 12, 6, 40)


class BadProgress(LabError):
    """The file holds no saved progress, or cannot be written."""


class Result(StrEnum):
    """How far a step has come; an experiment can only be seen."""

    NOT_YET = N_("not yet")
    WRONG = N_("not quite")
    RIGHT = N_("right")
    SEEN = N_("seen")


@dataclass(slots=True)
class Entry:
    """One step. prediction: a letter, "" when left blank. wire: the letter that the evidence made true.

    tries: different answers given. misconceptions: names of those that were diagnosed, in order.
    """

    prediction: str = ""
    wire: str = ""
    result: Result = Result.NOT_YET
    tries: int = 0
    hints: int = 0
    misconceptions: list[str] = field(default_factory=list)


Entries = dict[str, Entry]


class Progress(View):
    """The progress of one learner, or of a class: for each learner the entries by step."""

    def __init__(self, learners: Mapping[str, Mapping[str, Entry]]) -> None:
        self.learners = learners
        self.title = _("Progress")

    @classmethod
    def load(cls, paths: Iterable[str | os.PathLike[str]]) -> Self:
        """Read what `save` wrote as JSON, one file for each learner, called by the file's name.

        Where two have the same name, the folders' names tell them apart. Raises BadProgress, also for a file named twice.
        """
        found = [
            (_place(path, name), entries) for path in map(Path, paths) for name, entries in _learners(path).items()
        ]
        names = told_apart([place for place, _entries in found])
        return cls({name: entries for name, (_place, entries) in zip(names, found, strict=True)})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write .json, which can be loaded again, or .csv, a row for each learner and step. Raises BadProgress."""
        target = Path(path)
        make = {".json": self._json, ".csv": self._csv}.get(target.suffix.lower())
        if make is None:
            raise BadProgress(_("Progress is saved as .json or .csv: name a file that ends so."))
        try:
            files.write(target, make())
        except OSError as error:
            raise BadProgress(_("{path} cannot be written: {why}.").format(path=target, why=error.strerror)) from None
        return target

    def _json(self) -> str:
        learners = {
            name: {step: asdict(entry) for step, entry in entries.items()} for name, entries in self.learners.items()
        }
        return json.dumps({"labkit-progress": VERSION, "learners": learners}, indent=1)

    def _csv(self) -> str:
        names = [item.name for item in fields(Entry)]
        table = StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(["learner", "step", *names])
        for learner, entries in self.learners.items():
            for step, entry in entries.items():
                values = asdict(entry) | {"misconceptions": " ".join(entry.misconceptions)}
                writer.writerow(map(_inert, [learner, step, *(values[name] for name in names)]))
        return table.getvalue()

    @property
    def head(self) -> tuple[str, ...]:
        """The table's columns."""
        if len(self.learners) > 1:
            wrong = _("Most frequent misconception")
            return (_("Step"), _("Predicted rightly"), _("Right"), _("Not quite"), _("Not yet"), wrong)
        return (_("Step"), _("Prediction"), _("Result"), _("Tries"), _("Hints"))

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The table's rows: every step that asks something, of the lessons that were begun."""
        begun = {step.partition("-")[0] for entries in self.learners.values() for step in entries}
        lessons = (course.steps(number) for number in course.numbers() if number in begun)
        steps = [step for lesson in lessons for step in lesson if isinstance(step, Exercise) or step.truth]
        if len(self.learners) > 1:
            return tuple(_class_row(step.id, isinstance(step, Experiment), self._entries(step.id)) for step in steps)
        return tuple(_row(step.id, isinstance(step, Experiment), self._entries(step.id)[0]) for step in steps)

    def _entries(self, step: str) -> list[Entry]:
        return [entries.get(step, Entry()) for entries in self.learners.values()] or [Entry()]

    def text(self) -> str:
        if not self.rows:
            return _("No progress yet: make a prediction or answer an exercise first.")
        return block([self.title, "", *grid([self.head, *self.rows], TEXT_COLUMNS[: len(self.head)])])

    def body(self) -> Markup:
        return table(self.title if self.rows else self.text(), self.head, self.rows)


def _row(step: str, is_experiment: bool, entry: Entry) -> tuple[str, ...]:
    if not is_experiment:
        return (step, "", _(entry.result.value), str(entry.tries), str(entry.hints))
    predicted = entry.prediction or _("none")
    if entry.wire:
        predicted = _("{prediction}, the wire: {wire}").format(prediction=predicted, wire=entry.wire)
    return (step, predicted, _(entry.result.value), "", "")


def _class_row(step: str, is_experiment: bool, entries: list[Entry]) -> tuple[str, ...]:
    if is_experiment:
        seen = [entry for entry in entries if entry.wire]
        rightly = sum(entry.prediction == entry.wire for entry in seen)
        return (step, _("{count} of {total}").format(count=rightly, total=len(seen)), "", "", "", "")
    counts = Counter(entry.result for entry in entries)
    misconceptions = Counter(name for entry in entries for name in dict.fromkeys(entry.misconceptions))
    name, count = min(misconceptions.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
    frequent = f"{name} ({count})" if count else ""
    return (step, "", *(str(counts[result]) for result in (Result.RIGHT, Result.WRONG, Result.NOT_YET)), frequent)


def _inert(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _place(path: Path, name: str) -> tuple[str, ...]:
    """Where a learner's entries are: the folders, the file, and the name within a file of many."""
    resolved = os.fsencode(path.resolve()).decode(errors="backslashreplace")  # a file's name need not be Unicode
    *folders, file = Path(resolved).parts
    return (*folders, file, name) if name else (*folders, Path(file).stem)


def told_apart(places: Sequence[tuple[str, ...]]) -> list[str]:
    """As much of each place's end as no other place has. Raises BadProgress where two are the same."""
    ends = Counter(end for place in places for end in _ends(place))
    names = [next((end for end in _ends(place) if ends[end] == 1), None) for place in places]
    if None in names:
        twice = places[names.index(None)]
        message = _("{name} would be counted twice: name each file once, and call each learner's file differently.")
        raise BadProgress(message.format(name="/".join(twice[-2:])))
    return ["/".join(name or ()) for name in names]


def _ends(place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (place[-length:] for length in range(1, len(place) + 1))


def _learners(path: Path) -> dict[str, Entries]:
    try:
        with path.open("rb") as file:
            octets = file.read(LARGEST + 1)
        if len(octets) > LARGEST:
            raise ValueError
        saved = json.loads(octets)
        json.dumps(saved, ensure_ascii=False).encode()  # half a surrogate pair can be neither shown nor saved
        if saved["labkit-progress"] != VERSION:
            raise ValueError
        return {str(name): _entries(entries) for name, entries in saved["learners"].items()}
    except OSError as error:
        raise BadProgress(_("{path} cannot be read: {why}.").format(path=path, why=error.strerror)) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        message = _("{path} holds no saved progress: name a file that labkit.progress().save() wrote as .json.")
        raise BadProgress(message.format(path=path)) from None


def _entries(saved: Mapping[str, Mapping[str, object]]) -> Entries:
    return {str(step): _entry(entry) for step, entry in saved.items()}


def _entry(saved: Mapping[str, object]) -> Entry:
    misconceptions = saved["misconceptions"]
    if not isinstance(misconceptions, list):
        raise TypeError
    return Entry(
        prediction=str(saved["prediction"]),
        wire=str(saved["wire"]),
        result=Result(str(saved["result"])),
        tries=_count(saved["tries"]),
        hints=_count(saved["hints"]),
        misconceptions=[str(name) for name in misconceptions],
    )


def _count(saved: object) -> int:
    if not isinstance(saved, int) or saved < 0:
        raise ValueError
    return saved
