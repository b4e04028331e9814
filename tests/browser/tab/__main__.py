"""The lessons as a browser tab runs them, in Node: every code cell's output against the committed one.

python -m tests.browser.tab [--tab FOLDER] [NN ...]     exit code 1 when a cell differs
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from website.collect import collect

from tests.conftest import ROOT
from tests.notebooks.outputs import seen

RUNNER = Path(__file__).with_name("run.mjs")
TAB = ROOT / ".tab"


def ran(tab: Path, notebook: Path) -> list[dict[str, object]]:
    """Run the code cells of a notebook in a tab's Python, which is new: their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        subprocess.run(["node", RUNNER, results, tab, notebook], check=True)
        told: list[dict[str, object]] = json.loads(results.read_text("utf-8"))
    return told


def different(notebook: Path, cells: list[dict[str, object]]) -> list[int]:
    """The numbers of code cells that show something else than what is committed, from 1."""
    committed = [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    pairs = zip(seen(committed), seen(cells), strict=True)
    return [number for number, (before, now) in enumerate(pairs, 1) if before != now]


def main() -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.tab")
    parser.add_argument("lessons", nargs="*", help="their numbers; all when none is named")
    parser.add_argument("--tab", type=Path, help="what .ci/website/collect.py made; made anew when it is not given")
    asked = parser.parse_args()
    tab = asked.tab or collect(TAB)
    notebooks = sorted((ROOT / "notebooks" / "en").glob("*.ipynb"))
    notebooks = [path for path in notebooks if not asked.lessons or path.name[:2] in asked.lessons]
    failed = False
    for path in notebooks:
        cells = ran(tab, path)
        wrong = different(path, cells)
        seconds = sum(float(str(cell["seconds"])) for cell in cells)
        verdict = f"DIFFERENT: {wrong}" if wrong else "as committed"
        print(f"{path.name:45}{len(cells):>4} cells {seconds:>7.1f} s  {verdict}")
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
