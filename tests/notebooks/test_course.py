"""The form of a lesson: what every notebook of the course keeps to, as a table of small rules.

A rule takes a notebook and gives sentences about what is wrong with it; none when it is fine.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit.lessons import course
from labkit.lessons.steps import Exercise, Experiment, Step
from tests.notebooks import lessons
from tests.notebooks.execute import spoilers
from tests.notebooks.solutions import exercise_of, shown

CELLS, WORDS, CODE_LINES, MEDIAN_LINES, OUTPUT_LINES, EXPLAIN_WORDS = 40, 1500, 12, 5, 25, 120
VERBS = {"Authenticate", "Break", "Compare", "Explain", "Open", "Read", "Set", "Spot", "Strip", "Wrap"}
ALLOWED_IMPORTS = {"labkit", "scapy", *sys.stdlib_module_names}
ABSOLUTE = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|usr|work|Users|var|opt|mnt)/|[A-Za-z]:\\\\")
NBGRADER = {"grade": bool, "grade_id": str, "locked": bool, "schema_version": int, "solution": bool, "task": bool}


class Notebook:
    """A notebook, with what the rules ask of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells = nbformat.read(path, as_version=4).cells
        self.code = [cell for cell in self.cells if cell.cell_type == "code"]
        self.prose = [cell.source for cell in self.cells if cell.cell_type == "markdown"]
        self.steps = course.steps(path.name[:2])

    @property
    def head(self) -> str:
        return self.cells[0].source

    def asking(self, step: Step) -> list[str]:
        """The texts that ask a step's question."""
        return [text for text in self.prose if re.search(rf"^\*\*\w.* \({step.id}\)[.,]", text, re.MULTILINE)]

    @property
    def flat(self) -> str:
        """All prose on one line, without the signs of lists."""
        return flat("\n".join(self.prose))


def flat(text: str) -> str:
    return " ".join(re.sub(r"^- ", "", line) for line in text.split("\n")).replace("  ", " ").strip()


def titled_by_a_verb(book: Notebook) -> Iterator[str]:
    match = re.match(r"# (\w+) \S", book.head)
    if not match or match[1] not in VERBS:
        yield "the first cell begins with a title that begins with a verb"


def named_like_its_title(book: Notebook) -> Iterator[str]:
    title = book.head.split("\n")[0].removeprefix("# ")
    name = f"{book.path.name[:2]}-{'-'.join(re.findall(r'[a-z0-9]+', title.lower()))}"
    if name != book.path.stem:
        yield f"the file is called {book.path.stem}, its title makes {name}"


def says_time_and_prerequisites(book: Notebook) -> Iterator[str]:
    minutes = re.search(r"\*\*Time:\*\* (\d+) minutes", book.head)
    if not minutes or not 5 <= int(minutes[1]) <= 45:
        yield "the first cell says **Time:** N minutes, 45 at most"
    if "**Before this:**" not in book.head:
        yield "the first cell says what comes **Before this:**"


def has_three_objectives(book: Notebook) -> Iterator[str]:
    if re.findall(r"^(\d)\. ", book.head, re.MULTILINE) != ["1", "2", "3"]:
        yield "the first cell lists exactly three objectives"


def has_one_setup_cell(book: Notebook) -> Iterator[str]:
    importing = [cell for cell in book.code if re.search(r"^(import|from) ", cell.source, re.MULTILINE)]
    if importing != book.code[:1] or "import labkit" not in book.code[0].source:
        yield "the first code cell imports labkit and whatever else is used; no other cell imports"


def imports_little_and_uses_it(book: Notebook) -> Iterator[str]:
    tree = ast.parse("\n".join(cell.source for cell in book.code))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= set(re.findall(r"`(\w+)\.", book.flat))  # what an exercise tells the learner to use
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in modules if name.split(".")[0] not in ALLOWED_IMPORTS)
            names = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
            yield from (f"{name} is imported and not used" for name in names if name not in used)


def is_short(book: Notebook) -> Iterator[str]:
    words = sum(len(text.split()) for text in book.prose)
    if len(book.cells) > CELLS:
        yield f"{len(book.cells)} cells, {CELLS} at most"
    if words > WORDS:
        yield f"{words} words, {WORDS} at most"


def has_small_code_cells(book: Notebook) -> Iterator[str]:
    sizes = sorted(len(cell.source.splitlines()) for cell in book.code)
    yield from (f"a code cell of {size} lines, {CODE_LINES} at most" for size in sizes if size > CODE_LINES)
    if sizes[len(sizes) // 2] > MEDIAN_LINES:
        yield f"the middle code cell has {sizes[len(sizes) // 2]} lines, about 3 is wanted"


def has_short_outputs(book: Notebook) -> Iterator[str]:
    for cell in book.code:
        lines = len(shown(cell).splitlines())
        if lines > OUTPUT_LINES:
            yield f"the output of {cell.source.splitlines()[-1]!r} has {lines} lines, {OUTPUT_LINES} at most"


def tells_before_it_codes(book: Notebook) -> Iterator[str]:
    """Code follows text; only a run and its reveal may follow a prediction, and a check its answer."""
    for before, cell in pairwise(book.cells):
        follows = (
            before.cell_type == "markdown"
            or "labkit.predict(" in before.source
            or cell.source.startswith("labkit.reveal(")
            or (exercise_of(cell, "check") and exercise_of(before, "answer"))
        )
        if cell.cell_type == "code" and not follows:
            yield f"no text comes before {cell.source.splitlines()[0]!r}"


def explains_briefly_and_only_what_was_run(book: Notebook) -> Iterator[str]:
    for before, cell in pairwise(book.cells):
        for part in re.findall(r"\*\*Explain\.\*\*(.*?)(?=\n\n\*\*|\Z)", cell.source, re.DOTALL):
            if len(part.split()) > EXPLAIN_WORDS:
                yield f"an explanation of {len(part.split())} words, {EXPLAIN_WORDS} at most"
            if before.cell_type != "code":
                yield "an explanation that does not follow a run"


def is_the_same_everywhere(book: Notebook) -> Iterator[str]:
    everything = "\n".join([*(cell.source for cell in book.cells), *map(shown, book.code)])
    yield from (f"an absolute path: {path}" for path in ABSOLUTE.findall(everything))


def describes_its_figures(book: Notebook) -> Iterator[str]:
    for text in book.prose:
        yield from ("an image without alt text" for alt in re.findall(r"!\[(.*?)\]\(", text) if not alt.strip())
    for cell in book.code:
        for output in cell.outputs:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data) and len(data.get("text/plain", "").split()) < 3:
                yield f"the figure of {cell.source.splitlines()[-1]!r} has no words beside it"


def hides_what_would_spoil_a_prediction(book: Notebook) -> Iterator[str]:
    hidden = [cell for cell in book.code if cell.metadata.get("jupyter") == {"outputs_hidden": True}]
    if hidden != spoilers(book.cells):
        yield "outputs between a prediction and its reveal are not hidden, or others are: run make notebooks"


def ends_by_making(book: Notebook) -> Iterator[str]:
    if "labkit.check(" not in book.code[-1].source:
        yield "the last code cell is a check"


def offers_the_letters_that_its_steps_know(book: Notebook) -> Iterator[str]:
    """The choices stand in the text that asks, or, as texts to try out, in a cell."""
    tried = "".join(re.findall(r'"([a-z])": ', "".join(cell.source for cell in book.code)))
    for step in book.steps:
        letters = (
            step.letters * bool(step.truth) if isinstance(step, Experiment) else getattr(step.answer, "letters", "")
        )
        offered = "".join(re.findall(r"^- ([a-z])\) ", "\n".join(book.asking(step)), re.MULTILINE))
        if letters not in {offered, offered or tried}:
            yield f"{step.id}: the text offers {offered!r}, its step knows {letters!r}"


def marks_every_question(book: Notebook) -> Iterator[str]:
    """Feedback points at what is asked by the step's id."""
    for step in book.steps:
        asks = isinstance(step, Exercise) or step.truth
        if asks and len(book.asking(step)) != 1:
            yield f"{step.id}: no text, or more than one, says **… ({step.id}).**"


def runs_every_step_in_order(book: Notebook) -> Iterator[str]:
    source = "\n".join(cell.source for cell in book.code)
    called = re.findall(r'labkit\.(predict|reveal|check)\("([\w-]+)"', source)
    wanted = []
    for step in book.steps:
        if isinstance(step, Exercise):
            wanted.append(("check", step.id))
        else:
            wanted += [("predict", step.id)] * bool(step.truth) + [("reveal", step.id)]
    if called != wanted:
        yield f"its calls are {called}, its steps want {wanted}"


def can_be_graded(book: Notebook) -> Iterator[str]:
    """nbgrader's metadata, schema 3: an answer cell before each check, a point for each check, ids that occur once."""
    ids = []
    for cell in book.code:
        data = cell.metadata.get("nbgrader")
        match = re.match(r'labkit\.check\("([\w-]+)"', cell.source)
        if match and exercise_of(cell, "check") != match[1]:
            yield f"the check of {match[1]} has no metadata of its own"
        if data is None:
            continue
        ids.append(data["grade_id"])
        if {name: type(data.get(name)) for name in NBGRADER} != NBGRADER or data["schema_version"] != 3:
            yield f"{data['grade_id']}: not nbgrader's schema 3"
        if data["grade"] == data["solution"] or data["grade"] != data["locked"] or data["grade"] != ("points" in data):
            yield f"{data['grade_id']}: an answer is a solution, a check is locked and has points"
    pairs = [
        f"{kind}-{name}"
        for name in dict.fromkeys(item.partition("-")[2] for item in ids)
        for kind in ("answer", "check")
    ]
    if ids != pairs:
        yield f"answers and checks do not alternate: {ids}"


RULES: list[Callable[[Notebook], Iterator[str]]] = [
    titled_by_a_verb,
    named_like_its_title,
    says_time_and_prerequisites,
    has_three_objectives,
    has_one_setup_cell,
    imports_little_and_uses_it,
    is_short,
    has_small_code_cells,
    has_short_outputs,
    tells_before_it_codes,
    explains_briefly_and_only_what_was_run,
    is_the_same_everywhere,
    describes_its_figures,
    hides_what_would_spoil_a_prediction,
    ends_by_making,
    marks_every_question,
    offers_the_letters_that_its_steps_know,
    runs_every_step_in_order,
    can_be_graded,
]


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_lesson_keeps_to_the_form(path: Path, rule: Callable[[Notebook], Iterator[str]]) -> None:
    assert list(rule(Notebook(path))) == []


def test_every_lesson_with_steps_has_its_notebook() -> None:
    assert set(course.numbers()) <= {path.name[:2] for path in lessons()}


def test_the_names_that_prose_mentions_exist() -> None:
    mentioned = {
        name for path in lessons() for text in Notebook(path).prose for name in re.findall(r"`labkit\.(\w+)", text)
    }
    assert mentioned <= set(labkit.__all__)
