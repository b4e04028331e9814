"""A learner's session: predict, reveal, check, hint and progress, and what it remembers.

A prediction is recorded before an experiment; `reveal` binds the learner's own capture to it; `check` judges an answer by
that capture. What a step asks stands in its notebook: here it is only pointed at, by the step's id. Whatever goes wrong on
the way, a step that does not exist, cells out of order, a restarted kernel, an answer of another type, is answered by
feedback that says what to do next: never by an exception.
"""

import os

from labkit.errors import LabError
from labkit.lessons import course
from labkit.lessons.answers import Judgement, Unreadable, chosen, is_blank
from labkit.lessons.evidence import Evidence, named
from labkit.lessons.feedback import Feedback
from labkit.lessons.progress import BadProgress, Entries, Entry, Progress, Result
from labkit.lessons.steps import Exercise, Experiment, told
from labkit.texts import _, n_


class NotRight(LabError):
    """Raised instead of shown where nbgrader grades: it takes a cell that raises nothing for right."""


class _Stop(Exception):
    """Feedback that ends the work early."""

    def __init__(self, feedback: Feedback) -> None:
        super().__init__()
        self.feedback = feedback


class Session:
    """One learner's session."""

    def __init__(self) -> None:
        self._entries: Entries = {}
        self._evidence: dict[str, Evidence] = {}
        self._last: dict[str, str] = {}

    def predict(self, step: str, choice: object = None) -> Feedback:
        """Record a prediction before an experiment: one of its letters, or "" to leave it open."""
        try:
            return self._predict(_experiment(step), choice)
        except _Stop as stop:
            return stop.feedback

    def reveal(self, step: str, *evidence: object) -> Feedback:
        """Hand over what an experiment recorded; say what its wire shows and what was predicted."""
        try:
            return self._reveal(_experiment(step), Evidence(evidence))
        except _Stop as stop:
            return stop.feedback

    def check(self, step: str, answer: object = None) -> Feedback:
        """Judge an answer by the learner's own captures. A blank one (None, "", ...) gets the cards to look at."""
        try:
            feedback = self._check(_exercise(step), answer)
        except _Stop as stop:
            feedback = stop.feedback
        if os.environ.get("NBGRADER_EXECUTION") == "autograde" and not feedback.is_right:
            raise NotRight(feedback.text())
        return feedback

    def hint(self, step: str) -> Feedback:
        """The next hint for an exercise, with those given before."""
        try:
            exercise = _exercise(step)
        except _Stop as stop:
            return stop.feedback
        entry = self._entry(exercise.id)
        entry.hints = min(entry.hints + 1, len(exercise.hints) + 1)
        given = (*map(_, exercise.hints), _where(exercise))
        shown = [f"{number}. {words}" for number, words in enumerate(given[: entry.hints], 1)]
        rest = len(given) - entry.hints
        more = n_("There is one more: run this again.", "There are {count} more: run this again.", rest)
        last = more.format(count=rest) if rest else _("That was the last one.")
        return Feedback(_("Hints for {step}.").format(step=exercise.id), last, *shown)

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

    def _predict(self, experiment: Experiment, choice: object) -> Feedback:
        if experiment.truth is None:
            return Feedback(_("Nothing to predict."), _("Step {step} only looks.").format(step=experiment.id))
        entry = self._entry(experiment.id)
        if is_blank(choice):
            text = _("That is fine. A guess, even a wrong one, makes what follows stick; it would be one of {letters}.")
            letters = ", ".join(f'"{letter}"' for letter in experiment.letters)
            return Feedback(_("No prediction."), text.format(letters=letters))
        try:
            letter = chosen(choice, experiment.letters)
        except Unreadable as error:
            return Feedback(_("Not recorded."), str(error))
        if entry.result is Result.SEEN and letter != entry.prediction:
            kept = entry.prediction or _("none")
            text = _("The wire has answered {step} already, so your prediction stays as it was: {kept}.")
            return Feedback(_("Too late."), text.format(step=experiment.id, kept=kept))
        entry.prediction = letter
        return Feedback(
            _("Recorded."), _("Your prediction for {step} is {letter}.").format(step=experiment.id, letter=letter)
        )

    def _reveal(self, experiment: Experiment, seen: Evidence) -> Feedback:
        if len(seen.given) != len(experiment.takes) or not all(map(isinstance, seen.given, experiment.takes)):
            text = _("{call} takes {kinds}. Run the cells above it as they stand, from the heading of this part on.")
            kinds = _(" and ").join(map(named, experiment.takes))
            return Feedback(_("Not this."), text.format(call=_call("reveal", experiment.id), kinds=kinds))
        try:
            letter = experiment.truth(seen) if experiment.truth else ""
            found, lines = experiment.finding(letter, seen), experiment.lines(seen)
        except LabError as error:
            again = _("Run the cells again, from the heading of this part down to this one.")
            return Feedback(_("Not this."), str(error), again)
        self._evidence[experiment.id] = seen
        entry = self._entry(experiment.id) if experiment.truth else Entry()  # what asks nothing makes no progress
        entry.wire, entry.result = letter, Result.SEEN
        verdict = _("The wire says {letter}.").format(letter=letter) if letter else _("On the wire:")
        return Feedback(verdict, found, _compared(experiment, entry), lines=lines)

    def _check(self, exercise: Exercise, answer: object) -> Feedback:
        entry, kind = self._entry(exercise.id), exercise.answer
        if exercise.needs and exercise.needs not in self._evidence:
            return _first(exercise.id, exercise.needs)
        seen = self._evidence[exercise.needs] if exercise.needs else Evidence()
        try:
            if kind.is_blank(answer):
                asked = _("Nothing is in the answer cell yet: the text above it, {step}, says what to do.")
                return Feedback(
                    _("Not yet."), kind.about_blank(answer) or asked.format(step=exercise.id), cards=kind.deal(seen)
                )
            judgement = kind.judge(answer, seen)
            self._count(exercise.id, entry, judgement.spelled)
            if judgement.is_right:
                entry.result = Result.RIGHT
                return Feedback(_("Right."), told(exercise.why, seen), is_right=True)
            return self._diagnosed(exercise, entry, judgement)
        except Unreadable as error:
            return Feedback(_("Not yet."), str(error), cards=kind.deal(seen))
        except LabError as error:
            return Feedback(_("Not yet."), str(error))

    def _count(self, step: str, entry: Entry, answer: str) -> None:
        if self._last.get(step) != answer:
            self._last[step] = answer
            entry.tries += 1

    def _diagnosed(self, exercise: Exercise, entry: Entry, judgement: Judgement) -> Feedback:
        if entry.result is not Result.RIGHT:
            entry.result = Result.WRONG
        mistake = judgement.mistake
        if mistake and mistake not in entry.misconceptions:
            entry.misconceptions.append(mistake)
        diagnosis = _(exercise.says[mistake]) if mistake else judgement.remark
        hint = _("Hint: {hint}").format(hint=_(exercise.hints[0]))
        more = _("For the next hint run {call}.").format(call=f'`labkit.hint("{exercise.id}")`')
        return Feedback(_("Not quite."), diagnosis, f"{hint} {more}", _where(exercise))


def _experiment(step: str) -> Experiment:
    found = _step(step)
    if isinstance(found, Exercise):
        text = _("{step} is an exercise: answer it with {call}.")
        raise _Stop(Feedback(_("Not this."), text.format(step=step, call=_call("check", step))))
    return found


def _exercise(step: str) -> Exercise:
    found = _step(step)
    if isinstance(found, Experiment):
        text = _("{step} is an experiment: it takes {predict} before it and {reveal} after it.")
        values = {"predict": _call("predict", step), "reveal": _call("reveal", step)}
        raise _Stop(Feedback(_("Not this."), text.format(step=step, **values)))
    return found


def _step(step: str) -> Experiment | Exercise:
    found = course.step(step) if isinstance(step, str) else None
    if found is None:
        raise _Stop(Feedback(_("Not this."), _no_such_step(step)))
    return found


def _no_such_step(step: object) -> str:
    number = step.partition("-")[0] if isinstance(step, str) else ""
    steps = course.steps(number)
    if not steps:
        text = _('There is no step {step}. A step is named by its lesson and its number, such as "03-1".')
        return text.format(step=repr(step)[:40])
    text = _("There is no step {step}. Lesson {number} has {steps}.")
    return text.format(step=repr(step)[:40], number=number, steps=", ".join(item.id for item in steps))


def _first(step: str, needs: str) -> Feedback:
    text = _(
        "{step} is judged by what you recorded in {needs}, and this session has no such recording: a restarted kernel "
        "forgets it. Run the cells down to {call}, then this one; the menu's Run All Above Selected Cell does it in one go."
    )
    return Feedback(_("First things first."), text.format(step=step, needs=needs, call=_call("reveal", needs)))


def _compared(experiment: Experiment, entry: Entry) -> str:
    if experiment.truth is None:
        return ""
    if entry.prediction not in tuple(
        experiment.letters
    ):  # a saved progress may be of a lesson that asked something else
        return _("You made no prediction here.")
    if entry.prediction == entry.wire:
        return _("You predicted {letter}. That was right.").format(letter=entry.prediction)
    reply = experiment.replies.get(entry.prediction, "")
    return _("You predicted {letter}.").format(letter=entry.prediction) + (f" {_(reply)}" if reply else "")


def _where(exercise: Exercise) -> str:
    return _("Where to look: {where}").format(where=_(exercise.where))


def _call(function: str, step: str) -> str:
    return f'`labkit.{function}("{step}", …)`'


_SESSION = Session()
predict = _SESSION.predict
reveal = _SESSION.reveal
check = _SESSION.check
hint = _SESSION.hint
progress = _SESSION.progress
resume = _SESSION.resume
