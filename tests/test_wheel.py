"""The wheel stands alone: built offline from the lock's hatchling, it holds package and lessons, and works elsewhere."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.notebooks import lessons

LEFT_OUT = {"__pycache__", ".ipynb_checkpoints"}
# sitecustomize.py beside the unpacked wheel: whoever reaches beyond this machine gets an error.
OFFLINE = """
import sys
def alone(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not str(arguments[1][0]).startswith("127."):
        raise RuntimeError(f"reaches for {arguments[1]}")
sys.addaudithook(alone)
"""
COMMAND = "import labkit.cli; labkit.cli.main()"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without a package index."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def elsewhere(wheel: Path) -> Path:
    """A folder with the unpacked wheel and nothing of the repository."""
    folder = wheel.parent / "elsewhere"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (folder / "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
    return folder


def python(elsewhere: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the unpacked wheel, offline, with no repository around."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LABKIT")}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=elsewhere,
        env=kept | {"PYTHONPATH": str(elsewhere), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_it_holds_every_file_of_the_package_and_the_lessons(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "labkit").rglob("*")
        if path.is_file() and not LEFT_OUT & set(path.parts)
    } | {f"labkit/notebooks/en/{path.name}" for path in lessons()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == files
    assert {Path(name).suffix for name in held} >= {".py", ".html", ".css", ".js", ".json"}
    assert "labkit/py.typed" in held
    if (ROOT / "labkit" / "locale").exists():
        assert any(name.endswith(".mo") for name in held), "translations are read from .mo files"


def test_it_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = {name.partition(".dist-info/")[2]: archive.read(name) for name in archive.namelist()}
    assert b"labkit = labkit.cli:main" in about["entry_points.txt"]
    assert b"License-Expression: MIT AND CC-BY-4.0" in about["METADATA"]
    assert b"Requires-Python: >=3.11" in about["METADATA"]
    assert about["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_what_runs_there_is_the_wheel_and_it_is_alone(elsewhere: Path) -> None:
    done = python(
        elsewhere, "import labkit, socket; print(labkit.__file__); socket.create_connection(('192.0.2.1', 25))"
    )
    assert Path(done.stdout.strip()).is_relative_to(elsewhere)
    assert "reaches for ('192.0.2.1', 25)" in done.stderr


def test_compare_and_doctor_work_there(elsewhere: Path) -> None:
    done = python(elsewhere, COMMAND, "compare", "plaintext", "ssl", "--format", "html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lstrip().lower().startswith("<!doctype html>")
    assert "<style" in done.stdout
    assert '<svg class="labkit-sheet"' in done.stdout
    done = python(elsewhere, COMMAND, "doctor", "--format", "json")
    assert json.loads(done.stdout)["ok"] is True


def test_the_lab_in_an_empty_folder_puts_the_lessons_there(elsewhere: Path) -> None:
    done = python(elsewhere, COMMAND, "lab", "--show-config-json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["ServerApp"]
    assert (told["root_dir"], told["default_url"]) == (
        str(elsewhere / "notebooks"),
        f"/lab/tree/en/{lessons()[0].name}",
    )
    for lesson in lessons():
        assert (elsewhere / "notebooks" / "en" / lesson.name).read_bytes() == lesson.read_bytes()
