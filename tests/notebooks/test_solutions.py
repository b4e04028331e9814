"""Every check of the course, asked everything that the teacher's pages know: blanks, wrong answers, solutions.

The same run proves the prose: what a lesson quotes as code or from the wire is there, in its cells or in what they show.
"""

import functools
import re
from pathlib import Path

import nbformat
import pytest

from labkit.lessons import course
from labkit.lessons.steps import Exercise
from tests.notebooks import lessons
from tests.notebooks.solutions import BLANK, SOLUTION, Judged, answers, page, rehearse

WITH_STEPS = [path for path in lessons() if course.steps(path.name[:2])]
QUOTED = re.compile(r"`([^`\n]+)`")
REPLY_CODE = re.compile(r"(?<![\w,.-])([2-5][0-5]\d)(?!\w|[,.-]\w)")
NOT_ON_THE_WIRE = re.compile(r"RFC \d+|port \d+|ports \d+(?:(?:,| and| or) \d+)*")

each_lesson = pytest.mark.parametrize("notebook", WITH_STEPS, ids=lambda path: path.stem)


def exercises(notebook: Path) -> list[Exercise]:
    return [step for step in course.steps(notebook.name[:2]) if isinstance(step, Exercise)]


@functools.cache
def rehearsed(notebook: Path) -> tuple[list[Judged], str]:
    return rehearse(notebook)


def flat(text: str) -> str:
    return " ".join(text.split())


@each_lesson
def test_the_teachers_page_knows_a_solution_and_every_misconception(notebook: Path) -> None:
    known = sorted((answer.exercise, answer.name) for answer in answers(notebook))
    names = [(step.id, name) for step in exercises(notebook) for name in (SOLUTION, *step.says)]
    assert known == sorted(names), page(notebook).name


@each_lesson
def test_a_blank_is_not_yet_and_a_solution_is_right(notebook: Path) -> None:
    begins = {BLANK: "Not yet.", SOLUTION: "Right."}
    said = {(j.answer.exercise, j.answer.name): j.said for j in rehearsed(notebook)[0] if j.answer.name in begins}
    assert len(said) == 2 * len(exercises(notebook))
    assert {key: text for key, text in said.items() if not text.startswith(begins[key[1]])} == {}


@each_lesson
def test_each_misconception_gets_its_own_diagnosis(notebook: Path) -> None:
    says = {(step.id, name): text for step in exercises(notebook) for name, text in step.says.items()}
    wrong = [judged for judged in rehearsed(notebook)[0] if judged.answer.name not in {BLANK, SOLUTION}]
    assert len(set(says.values())) == len(says) == len(wrong)
    for judged in wrong:
        diagnosis = says[judged.answer.exercise, judged.answer.name]
        assert flat(judged.said).startswith(f"Not quite. {flat(diagnosis)} Hint:"), judged


@each_lesson
def test_what_the_prose_quotes_is_in_the_cells_or_in_what_they_show(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    seen = flat("\n".join(cell.source for cell in cells if cell.cell_type == "code") + rehearsed(notebook)[1])
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    quoted = [text.removesuffix(".exposure") for text in QUOTED.findall(prose) if not text.startswith("labkit.")]
    codes = REPLY_CODE.findall(NOT_ON_THE_WIRE.sub("", prose))
    assert [fragment for fragment in (*quoted, *codes) if flat(fragment) not in seen] == []
