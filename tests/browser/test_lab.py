"""End to end: `labkit lab`, a lesson opened in real JupyterLab, Run All, and its outputs are the committed ones."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.browser.served import Lab
from tests.conftest import THOROUGH
from tests.notebooks import lessons
from tests.notebooks.outputs import joined, seen

HIDDEN = "jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.outputHidden === true)"
CELLS = "jupyterapp.shell.currentWidget.content.model.toJSON().cells"


@pytest.fixture(scope="module")
def desk(tab: Callable[[], Page], lab: Lab) -> Iterator[Page]:
    """JupyterLab, as it opens: notebooks are opened in it one after another."""
    page = tab()
    page.see(1366, 768)
    lab.enter(page)
    yield page
    page.close()


# Where the machine is busy, JupyterLab 4.6 looks for the focus and the debugger of a notebook that has just been closed.
JUPYTERLABS_OWN = ("._ensureFocus (", "Could not restore the debugger state: Canceled future")

# nbval runs every lesson anyway; in a browser CI opens all of them, and everybody else the one that a newcomer opens first.
OPENED = lessons() if THOROUGH else lessons()[:1]


@pytest.mark.parametrize("path", OPENED, ids=lambda path: path.stem)
def test_run_all_in_jupyterlab_gives_the_committed_outputs(desk: Page, lab: Lab, path: Path) -> None:
    committed = json.loads(path.read_text(encoding="utf-8"))["cells"]
    with lab.opened(desk, path.name):
        opened = desk.evaluate(CELLS)
        assert [joined(cell["source"]) for cell in opened] == [joined(cell["source"]) for cell in committed]
        spoils = [cell["metadata"].get("jupyter") == {"outputs_hidden": True} for cell in committed]
        assert desk.evaluate(HIDDEN) == spoils
        lab.run_all(desk)
        assert not any(desk.evaluate(HIDDEN))
        assert seen(desk.evaluate(CELLS)) == seen(committed)
    assert [said for said in desk.take_complaints() if not any(own in said for own in JUPYTERLABS_OWN)] == []
    assert desk.beyond_this_machine() == []
    assert lab.left_the_machine() == []


def test_before_run_all_everything_is_readable(desk: Page, lab: Lab) -> None:
    """A notebook that nobody has trusted: JupyterLab takes style sheets away, and runs nothing.

    Marks keep their colours and figures are there, so `labkit lab` has no need to trust notebooks on a learner's behalf.
    """
    output = "jupyterapp.shell.currentWidget.node.querySelectorAll('.jp-OutputArea')"
    with lab.opened(desk, "committed.ipynb"):
        desk.wait(f"{output}[0]?.querySelector('img')?.naturalWidth > 300")
        assert desk.evaluate(f"{output}[0].querySelector('img').alt.length") > 20
        assert desk.evaluate(f"{output}[1].querySelectorAll('style').length") == 0
        mark = f"getComputedStyle({output}[1].querySelector('span[style]')).backgroundColor"
        assert desk.evaluate(mark) == "rgb(226, 232, 240)"
        assert "The server is ready." in desk.evaluate(f"{output}[2].textContent")
