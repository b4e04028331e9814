"""The course in nbgrader's own hands: it releases every lesson, two learners hand theirs in, and it marks them.

`make grading`, or `python -m tests.classroom.grading` where nbgrader is installed. One learner has solved everything. The
other has answered nothing, and has put something else in place of every check, which nbgrader must not be taken in by.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat

from tests.notebooks import lessons
from tests.notebooks.solutions import SOLUTION, answers, exercise_of

# As the teacher's page of lesson 03 says.
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "mail"
c.ClearSolutions.enabled = False
"""


def solve(lesson: Path, notebook: nbformat.NotebookNode) -> None:
    """Put the solutions where the answers belong."""
    solutions = {answer.exercise: answer.source for answer in answers(lesson) if answer.name == SOLUTION}
    for cell in notebook.cells:
        exercise = exercise_of(cell, "answer")
        if exercise:
            cell.source = solutions[exercise]


def cheat(_lesson: Path, notebook: nbformat.NotebookNode) -> None:
    """Put something that raises nothing where the checks belong."""
    for cell in notebook.cells:
        if exercise_of(cell, "check"):
            cell.source = "'Right.'"


LEARNERS: dict[str, Callable[[Path, nbformat.NotebookNode], None]] = {"solved": solve, "cheated": cheat}


def grade(lesson: Path, course: Path) -> list[str]:
    """Release, hand in, mark. Sentences about what is wrong; none when all is well."""
    from nbgrader.api import Gradebook

    name = lesson.name[:2]
    source = course / "source" / name
    source.mkdir(parents=True)
    shutil.copyfile(lesson, source / lesson.name)
    _nbgrader(course, "generate_assignment", name)
    for learner, work in LEARNERS.items():
        notebook = nbformat.read(course / "release" / name / lesson.name, as_version=4)
        work(lesson, notebook)
        desk = course / "submitted" / learner / name
        desk.mkdir(parents=True)
        nbformat.write(notebook, desk / lesson.name)
    _nbgrader(course, "autograde", name)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        marks = {learner: book.find_submission(name, learner) for learner in LEARNERS}
        points = {learner: (mark.score, mark.max_score) for learner, mark in marks.items()}
    most = sum(bool(exercise_of(cell, "check")) for cell in nbformat.read(lesson, as_version=4).cells)
    print(f"{lesson.stem:40}" + "".join(f"{who:>10} {score:.0f} of {of:.0f}" for who, (score, of) in points.items()))
    wanted = {"solved": (most, most), "cheated": (0, most)}
    return [f"{name}: {who} got {points[who]}, not {wanted[who]}" for who in LEARNERS if points[who] != wanted[who]]


def _nbgrader(course: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command], cwd=course, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"nbgrader {' '.join(command)}:\n{done.stderr[-4000:]}")


def main() -> int:
    """Grade every lesson; exit code 1 when a mark is not the one deserved."""
    with tempfile.TemporaryDirectory(prefix="grading-") as folder:
        course = Path(folder)
        (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
        wrong = [sentence for lesson in lessons() for sentence in grade(lesson, course)]
    print(*(f"WRONG: {sentence}" for sentence in wrong), sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
