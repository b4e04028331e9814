"""Builds the site: a start page, and JupyterLite with the lessons, which run in the reader's own tab.

PYTHONPATH=.ci python -m website.build JUPYTER FOLDER      JUPYTER: the jupyter command of the environment of tools.txt

Any static host can serve the folder, under any path: all addresses in it are relative. It asks no other host for anything.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from labkit import __version__
from website.collect import ROOT, collect

LESSONS = ROOT / "notebooks" / "en"
LITE = "lite"
APPS = ["notebooks", "lab"]
_KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
_TITLE = re.compile(r"# (.+)")
_MINUTES = re.compile(r"\*\*Time:\*\* (\d+) minutes")
_AIM = re.compile(r"^\d+\. (.+?)[,.]?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the start page says of a lesson. minutes: how long it takes. aims: what one can do afterwards."""

    number: str
    file: str
    title: str
    minutes: int
    aims: tuple[str, ...]


def lesson(path: Path) -> Lesson:
    """Read a lesson's first cell, which every lesson writes in one form (CONTRIBUTING.md, "Writing a lesson")."""
    first = "".join(json.loads(path.read_text("utf-8"))["cells"][0]["source"])
    title, minutes = _TITLE.search(first), _MINUTES.search(first)
    if title is None or minutes is None:
        raise ValueError(f"{path.name} does not begin with its title and time")
    return Lesson(path.name[:2], path.name, title[1], int(minutes[1]), tuple(_AIM.findall(first)))


def build(jupyter: Path, folder: Path) -> None:
    """Build the site into a folder, which is replaced."""
    work = folder.with_name(folder.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    lite = work / LITE
    collect(lite / "static" / "pyodide")
    notebooks = sorted(LESSONS.glob("*.ipynb"))
    (lite / "files").mkdir()
    for path in notebooks:
        shutil.copy(path, lite / "files")
    _write(lite / "jupyter-lite.json", _settings())
    _write(lite / "jupyter_lite_config.json", {"LiteBuildConfig": _configuration(folder / LITE)})
    subprocess.run([jupyter, "lite", "build"], cwd=lite, check=True, stdout=subprocess.DEVNULL)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    start = pages.get_template("start.html").render(
        lessons=[lesson(path) for path in notebooks], lite=LITE, version=__version__
    )
    (folder / "index.html").write_text(start, "utf-8")


def _settings() -> dict[str, object]:
    """No package is asked of an index: what a tab needs is here."""
    kernel = {_KERNEL: {"disablePyPIFallback": True}}
    return {
        "jupyter-lite-schema-version": 0,
        "jupyter-config-data": {"appName": "labkit", "exposeAppInBrowser": True, "litePluginSettings": kernel},
    }


def _configuration(output: Path) -> dict[str, object]:
    return {"contents": ["files"], "output_dir": str(output), "apps": APPS, "no_sourcemaps": True}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
