"""A browser, axe-core, and a real JupyterLab: one of each for all the tests here."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit.show.explore import explore
from labkit.show.view import View
from tests.browser.chromium import Page, chromium
from tests.browser.served import Lab, axe_source, lab_server
from tests.conftest import ROOT, THOROUGH, require

EXPLORING = """\
import labkit
letter = labkit.sample_message()
letter.replace_header("Subject", "<img src=x onerror=document.title='owned'>")
with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture(engine="tap") as capture:
    provider.client("hanako").send(letter)
labkit.explore(capture)"""


def committed(view: View) -> nbformat.NotebookNode:
    """A cell with that view as its output, as a committed notebook has it."""
    data, metadata = view._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    return nbformat.v4.new_code_cell("...", outputs=[output], execution_count=1)


def write(path: Path, cells: list[nbformat.NotebookNode]) -> None:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(metadata={"kernelspec": kernel}, cells=cells), path)


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Page]]:
    """Opens a tab in headless Chromium."""
    require("chromium")
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(tab: Callable[[], Page]) -> Iterator[Page]:
    """A fresh tab, as large as a small laptop's screen."""
    fresh = tab()
    fresh.see(1366, 768)
    yield fresh
    fresh.close()


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """axe-core's source."""
    require("npm")
    try:
        return axe_source(pytestconfig.cache.mkdir("axe-core"))
    except OSError as error:
        if THOROUGH:
            raise
        pytest.skip(f"axe-core cannot be had: {error}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """`labkit lab` on copies of the lessons, and on one notebook that explores a capture."""
    require("chromium")
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks" / "en", folder / "notebooks" / "en", ignore=shutil.ignore_patterns(".*"))
    comparison = labkit.compare("plaintext", "ssl", engine="tap")
    views: list[View] = [comparison.ladder(), comparison.view, explore(comparison.captures["plaintext"])]
    write(folder / "notebooks" / "en" / "exploring.ipynb", [nbformat.v4.new_code_cell(EXPLORING)])
    write(folder / "notebooks" / "en" / "committed.ipynb", [committed(view) for view in views])
    with lab_server(folder) as running:
        yield running
