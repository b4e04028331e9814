"""The tutor: predict, reveal, check, hint and progress, and what it remembers of this session.

A prediction is recorded before an experiment; `reveal` binds the learner's own capture to it; `check` judges an answer by
that capture. Whatever goes wrong on the way, a step that does not exist, cells out of order, a restarted kernel, an answer
of another type, is answered by a note that says what to do next: never by an exception.
"""

import os
from typing import Any

from labkit.errors import LabError
from labkit.lessons import course
from labkit.lessons.kinds import Unreadable, chosen, is_blank
from labkit.lessons.notes import Note
from labkit.lessons.progress import BadProgress, Entries, Entry, Progress, Result
from labkit.lessons.steps import Exercise, Experiment, Misconception, takes_in_words
from labkit.texts import _, n_


class NotRight(LabError):
    """Raised instead of shown where nbgrader grades: it takes a cell that raises nothing for right."""


class _Stop(Exception):
    """A note that ends the work early."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self.note = note


class Tutor:
    """One learner's session."""

    def __init__(self) -> None:
        self._entries: Entries = {}
        self._evidence: dict[str, tuple[Any, ...]] = {}
        self._last: dict[str, str] = {}

    def predict(self, step: str, choice: str | None = None) -> Note:
        """Record a prediction before an experiment: one of its letters, or "" to leave it open."""
        try:
            return self._predict(_experiment(step), choice)
        except _Stop as stop:
            return stop.note

    def reveal(self, step: str, *evidence: Any) -> Note:
        """Hand over what an experiment recorded; say what its wire shows and what was predicted."""
        try:
            return self._reveal(_experiment(step), evidence)
        except _Stop as stop:
            return stop.note

    def check(self, step: str, answer: Any = None) -> Note:
        """Judge an answer by the learner's own captures. A blank one (None, "", ...) is told the task again."""
        try:
            note = self._check(_exercise(step), answer)
        except _Stop as stop:
            note = stop.note
        if os.environ.get("NBGRADER_EXECUTION") == "autograde" and not note.is_right:
            raise NotRight(note.text())
        return note

    def hint(self, step: str) -> Note:
        """The next hint for an exercise, with those given before."""
        try:
            exercise = _exercise(step)
        except _Stop as stop:
            return stop.note
        entry = self._entry(exercise.id)
        entry.hints = min(entry.hints + 1, len(exercise.hints) + 1)
        given = (*exercise.hints, _("Where to look: {where}").format(where=exercise.where))
        shown = [f"{number}. {words}" for number, words in enumerate(given[: entry.hints], 1)]
        rest = len(given) - entry.hints
        more = n_("There is one more: run this again.", "There are {count} more: run this again.", rest)
        last = more.format(count=rest) if rest else _("That was the last one.")
        return Note(_("Hints for {step}.").format(step=exercise.id), last, *shown)

    def progress(self, *files: str | os.PathLike[str]) -> Progress:
        """This session's progress; or that of a class, from the files that its learners saved. Raises BadProgress."""
        return Progress.load(files) if files else Progress({"": self._entries})

    def resume(self, file: str | os.PathLike[str]) -> Progress:
        """Take up what `progress().save(file)` kept, after a restart. Captures are not kept: run their cells again.

        Raises BadProgress.
        """
        saved = list(Progress.load([file]).learners.values())
        if len(saved) > 1:
            message = _("{file} holds the progress of {count} learners: name a file of one learner.")
            raise BadProgress(message.format(file=file, count=len(saved)))
        for entries in saved:
            self._entries.update(entries)
        return self.progress()

    def _entry(self, step: str) -> Entry:
        return self._entries.setdefault(step, Entry())

    def _predict(self, experiment: Experiment, choice: str | None) -> Note:
        if not experiment.choices:
            return Note(_("Nothing to predict."), _("Step {step} only looks.").format(step=experiment.id))
        entry = self._entry(experiment.id)
        letters = _letters(experiment)
        if is_blank(choice):
            text = _("That is fine. A guess, even a wrong one, makes what follows stick; it would be one of {letters}.")
            return Note(_("No prediction."), text.format(letters=letters))
        try:
            letter = chosen(choice, experiment.choices)
        except Unreadable as error:
            return Note(_("Not recorded."), str(error))
        if entry.result is Result.SEEN and letter != entry.prediction:
            kept = entry.prediction or _("none")
            text = _("The wire has answered {step} already, so your prediction stays as it was: {kept}.")
            return Note(_("Too late."), text.format(step=experiment.id, kept=kept))
        entry.prediction = letter
        return Note(_("Recorded."), f"{letter}) {experiment.choices[letter]}")

    def _reveal(self, experiment: Experiment, evidence: tuple[Any, ...]) -> Note:
        if len(evidence) != len(experiment.takes) or not all(map(isinstance, evidence, experiment.takes)):
            text = _("{call} takes {kinds}. Run the cells under “{section}” from the first one, as they stand.")
            values = {"call": _call("reveal", experiment.id), "kinds": takes_in_words(experiment)}
            return Note(_("Not this."), text.format(**values, section=experiment.section))
        try:
            truth, found, lines = experiment.truth(*evidence), experiment.found(*evidence), experiment.lines(*evidence)
        except LabError as error:
            text = _("Run the cells under “{section}” again, from the first one, then this one.")
            return Note(_("Not this."), str(error), text.format(section=experiment.section))
        self._evidence[experiment.id] = evidence
        entry = self._entry(experiment.id) if experiment.choices else Entry()  # what asks nothing makes no progress
        entry.wire, entry.result = truth, Result.SEEN
        verdict = _("The wire says {letter}.").format(letter=truth) if truth else _("On the wire:")
        return Note(verdict, found, _compared(experiment, entry), lines=lines)

    def _check(self, exercise: Exercise, answer: Any) -> Note:
        entry = self._entry(exercise.id)
        if exercise.needs and exercise.needs not in self._evidence:
            return _first(exercise, exercise.needs)
        evidence = self._evidence[exercise.needs] if exercise.needs else ()
        kind = exercise.kind
        try:
            if kind.is_blank(answer):
                return Note(_("Not yet."), kind.about_blank(answer), exercise.task, cards=kind.deal(*evidence))
            read = kind.read(answer, *evidence)
            self._count(exercise.id, entry, repr(read))
            if kind.is_right(read, *evidence):
                entry.result = Result.RIGHT
                return Note(_("Right."), exercise.why(*evidence), is_right=True)
            misconception = next((item for item in exercise.misconceptions if item.when(read, *evidence)), None)
            return self._diagnosed(exercise, entry, misconception, kind.remark(read, *evidence))
        except Unreadable as error:
            return Note(_("Not yet."), str(error), exercise.task, cards=kind.deal(*evidence))
        except LabError as error:
            return Note(_("Not yet."), str(error), exercise.task)

    def _count(self, step: str, entry: Entry, answer: str) -> None:
        if self._last.get(step) != answer:
            self._last[step] = answer
            entry.tries += 1

    def _diagnosed(self, exercise: Exercise, entry: Entry, known: Misconception | None, remark: str) -> Note:
        if entry.result is not Result.RIGHT:
            entry.result = Result.WRONG
        if known and known.name not in entry.misconceptions:
            entry.misconceptions.append(known.name)
        diagnosis = known.says if known else remark
        hint = _("Hint: {hint}").format(hint=exercise.hints[0])
        more = _("For the next hint run {call}.").format(call=f'`labkit.hint("{exercise.id}")`')
        where = _("Where to look: {where}").format(where=exercise.where)
        return Note(_("Not quite."), diagnosis, f"{hint} {more}", where)


def _experiment(step: str) -> Experiment:
    found = _step(step)
    if isinstance(found, Exercise):
        text = _("{step} is an exercise: answer it with {call}.")
        raise _Stop(Note(_("Not this."), text.format(step=step, call=_call("check", step))))
    return found


def _exercise(step: str) -> Exercise:
    found = _step(step)
    if isinstance(found, Experiment):
        text = _("{step} is an experiment: it takes {predict} before it and {reveal} after it.")
        values = {"predict": _call("predict", step), "reveal": _call("reveal", step)}
        raise _Stop(Note(_("Not this."), text.format(step=step, **values)))
    return found


def _step(step: str) -> Experiment | Exercise:
    found = course.step(step) if isinstance(step, str) else None
    if found is None:
        raise _Stop(Note(_("Not this."), _no_such_step(step)))
    return found


def _no_such_step(step: object) -> str:
    lesson = course.lesson(step.partition("-")[0]) if isinstance(step, str) else None
    if lesson is None:
        text = _('There is no step {step}. A step is named by its lesson and its number, such as "03-1".')
        return text.format(step=repr(step)[:40])
    text = _("There is no step {step}. Lesson {number} has {steps}.")
    return text.format(step=repr(step)[:40], number=lesson.number, steps=", ".join(item.id for item in lesson.steps))


def _first(exercise: Exercise, needs: str) -> Note:
    experiment = course.step(needs)
    text = _(
        "{step} is judged by what you recorded in {needs}, and this session has no such recording: a restarted kernel "
        "forgets it. Run the cells under “{section}” down to {call}, then this one; the menu's Run All Above Selected Cell "
        "does it in one go."
    )
    section = experiment.section if experiment else exercise.section
    values = {"step": exercise.id, "needs": needs, "section": section}
    return Note(_("First things first."), text.format(**values, call=_call("reveal", needs)))


def _compared(experiment: Experiment, entry: Entry) -> str:
    if not experiment.choices:
        return ""
    if entry.prediction not in experiment.choices:  # a saved progress may be of a lesson that asked something else
        return _("You made no prediction here.")
    told = _("You predicted {letter}) {choice}").format(
        letter=entry.prediction, choice=experiment.choices[entry.prediction]
    )
    if entry.prediction == entry.wire:
        return _("{told} That was right.").format(told=told)
    return f"{told} {experiment.replies.get(entry.prediction, '')}".strip()


def _call(function: str, step: str) -> str:
    return f'`labkit.{function}("{step}", …)`'


def _letters(experiment: Experiment) -> str:
    return ", ".join(f'"{letter}"' for letter in experiment.choices)


_TUTOR = Tutor()
predict = _TUTOR.predict
reveal = _TUTOR.reveal
check = _TUTOR.check
hint = _TUTOR.hint
progress = _TUTOR.progress
resume = _TUTOR.resume
