"""Re-executes every notebook and writes it back normalised: outputs and counts stay, everything personal goes.

`python -m tests.notebooks.execute [NAME...]` runs those whose file name contains one of the names, or all.
"""

import os
import sys
from pathlib import Path

import nbformat

from tests.notebooks import lessons
from tests.notebooks.kernels import client

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Keep what a reader sees; drop what differs between machines."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in {"tags", "nbgrader"}}
    for cell in spoilers(notebook.cells):
        cell.metadata["jupyter"] = {"outputs_hidden": True}


def spoilers(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The cells from after a prediction to its reveal: JupyterLab shows their outputs when they are run, not before."""
    found, waits = [], False
    for cell in cells:
        if cell.cell_type == "code" and waits:
            found.append(cell)
        if "labkit.predict(" in cell.source:
            waits = True
        elif "labkit.reveal(" in cell.source:
            waits = False
    return found


def execute(path: Path) -> None:
    """Run one notebook with the tap and write it back. Raises CellExecutionError when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client(notebook, path.parent).execute()
    normalise(notebook)
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    os.environ["LABKIT_CAPTURE"] = "tap"
    for path in lessons():
        if not names or any(name in path.name for name in names):
            print(f"executing {path.name}")
            execute(path)


if __name__ == "__main__":
    main(sys.argv[1:])
