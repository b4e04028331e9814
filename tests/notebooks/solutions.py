"""Solutions and wrong answers, from the teacher's pages into the notebooks: every check is asked everything it should know.

A teacher's page (notebooks/teachers/NAME.md) holds, once, fenced blocks labelled `python solution ID` and
`python wrong ID MISCONCEPTION`. `rehearse` makes of a notebook a longer one: at each exercise first the blank answer, then
every wrong one, then the solution, each followed by the check. One execution tells whether all are answered well.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from tests.notebooks import NOTEBOOKS
from tests.notebooks.kernels import client

BLOCK = re.compile(r"^```python (solution|wrong) (\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLANK = "blank"
SOLUTION = "solution"


@dataclass(frozen=True, slots=True)
class Answer:
    """What could stand in an answer cell. name: blank, solution, or the misconception it shows."""

    exercise: str
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer, and what the check said of it in plain text."""

    answer: Answer
    said: str


def page(notebook: Path) -> Path:
    """The teacher's page of a notebook."""
    return NOTEBOOKS / "teachers" / f"{notebook.stem}.md"


def answers(notebook: Path) -> list[Answer]:
    """The solutions and wrong answers of a notebook's teacher's page, in order."""
    found = BLOCK.findall(page(notebook).read_text(encoding="utf-8"))
    return [Answer(exercise, name or SOLUTION, source) for kind, exercise, name, source in found]


def exercise_of(cell: nbformat.NotebookNode, kind: str) -> str:
    """The exercise whose "answer" or "check" cell this is; "" for other cells."""
    grade_id: str = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return grade_id.removeprefix(f"{kind}-") if grade_id.startswith(f"{kind}-") else ""


def rehearse(notebook: Path, before: str = "", after: str = "", *, mistakes: bool = True) -> tuple[list[Judged], str]:
    """Run the rehearsal of a notebook. Returns what each check said, and all plain text that was shown.

    before, after: what a cell in front of all others, and one behind them, does. mistakes: the wrong answers are tried, too.
    """
    original = nbformat.read(notebook, as_version=4)
    known = [answer for answer in answers(notebook) if mistakes or answer.name == SOLUTION]
    cells, asked = _rehearsal(original.cells, known)
    cells = [nbformat.v4.new_code_cell(before), *cells, nbformat.v4.new_code_cell(after)]
    original.cells = cells
    client(original, notebook.parent).execute()
    return [Judged(answer, shown(cell)) for answer, cell in asked], "\n".join(map(shown, cells))


def shown(cell: nbformat.NotebookNode) -> str:
    """What a code cell showed, in plain text."""
    outputs = cell.get("outputs", [])
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def _rehearsal(
    cells: list[nbformat.NotebookNode], known: list[Answer]
) -> tuple[list[nbformat.NotebookNode], list[tuple[Answer, nbformat.NotebookNode]]]:
    longer, asked, waiting = [], [], []
    for cell in cells:
        exercise = exercise_of(cell, "answer")
        if exercise:
            wrong = [answer for answer in known if answer.exercise == exercise and answer.name != SOLUTION]
            right = [answer for answer in known if answer.exercise == exercise and answer.name == SOLUTION]
            waiting = [Answer(exercise, BLANK, cell.source), *wrong, *right]
        elif waiting and exercise_of(cell, "check"):
            for answer in waiting:
                check = nbformat.v4.new_code_cell(cell.source)
                longer += [nbformat.v4.new_code_cell(answer.source), check]
                asked.append((answer, check))
            waiting = []
        else:
            longer.append(cell)
    return longer, asked
