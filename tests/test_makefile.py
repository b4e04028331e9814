"""`make setup`: one that cannot be finished says why; another Python gets an environment of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, require

NOBODY = "http://127.0.0.1:9/simple"  # the discard port: no package index is there


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    require("make")
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["make", "--no-print-directory", "-C", str(ROOT), *arguments]
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, check=False)


def test_a_python_that_is_too_old_or_missing_is_said(tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), str(tmp_path / "missing")):
        done = make("setup", f"PYTHON={python}", f"VENV={tmp_path}/venv")
        assert done.returncode == 2
        assert done.stdout == "labkit needs Python 3.11 or newer. Name one: make PYTHON=python3.12 setup\n"
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_first_setup_without_a_network_says_that_it_needs_one(tmp_path: Path, installer: str) -> None:
    away = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": NOBODY, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    away |= {"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": NOBODY, "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1"}
    if installer == "uv":
        require("uv")
    else:
        away["PATH"] = without(tmp_path / "bin", "uv")
    done = make("setup", f"PYTHON={sys.executable}", f"VENV={tmp_path}/venv", **away)
    assert done.returncode == 2
    assert "The first setup needs a network; the lab itself does not." in done.stdout
    assert not list((tmp_path / "venv").glob(".ready*"))


def without(folder: Path, hidden: str) -> str:
    """A PATH with all that this one has but one program."""
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).glob("*"):
            (folder / program.name).unlink(missing_ok=True)
            (folder / program.name).symlink_to(program)
    (folder / hidden).unlink(missing_ok=True)
    return str(folder)


def test_another_python_sets_up_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    mine = ("setup", f"PYTHON={sys.executable}", f"VENV={venv}")
    recipe = make("-n", *mine).stdout.splitlines()
    (venv / "bin").mkdir(parents=True)
    Path(recipe[-1].removeprefix("touch ")).touch()
    assert make("-q", *mine).returncode == 0
    other = tmp_path / "python3.99"
    other.write_text("#!/bin/sh\necho 399\n")
    other.chmod(0o755)
    assert make("-q", "setup", f"PYTHON={other}", f"VENV={venv}").returncode == 1
