"""What README shows works as it is written: the cheat sheet as a script, each command, each line for another program."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.cli import main
from tests.conftest import ROOT, require

README = (ROOT / "README.md").read_text(encoding="utf-8")
PORTS = ("2525", "2110")


def lines(program: str) -> list[str]:
    """The lines that call a program, without what is said of them."""
    return re.findall(rf"^    ({program} .*?)(?:  +#.*)?$", README, re.MULTILINE)


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As in a terminal with the environment activated."""
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")])
    command = shlex.split(line)
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What README's `labkit serve` tells of itself, on ports that are free."""
    (line,) = lines("labkit serve")
    for port in PORTS:
        line = line.replace(port, "0")
    command = [sys.executable, "-m", *shlex.split(line), "--format", "json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield json.loads(server.stdout.readline())
        server.terminate()


def at(served: dict[str, Any], line: str) -> str:
    """The line, for that server and its password."""
    passwords = {account["login"]: account["password"] for account in served["accounts"]}
    ports = dict(zip(PORTS, (served["smtp_port"], served["pop3_port"]), strict=True))
    return re.sub("|".join([*ports, "PASSWORD"]), lambda found: str(ports.get(found[0], passwords["taro"])), line)


def test_the_cheat_sheet_runs_as_a_script_and_says_what_is_so(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found
    said = dict(re.findall(r"^(capture\S+) +# '(.*)'$", found[1], re.MULTILINE))
    assert len(said) == 2
    script = tmp_path / "sheet.py"
    script.write_text(f"{found[1]}\nprint({', '.join(said)})\n", encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{' '.join(said.values())}\n", "")
    assert (tmp_path / "auth.pcapng").exists()


def test_it_knows_every_command_and_every_function() -> None:
    commands = {f"    labkit {name} " for name in main.commands}
    functions = {f"labkit.{name}(" for name in labkit.__all__ if not name[0].isupper()}
    functions.remove("labkit.exchange(")  # what compare() runs once for each policy
    assert {name for name in commands | functions if name not in README} == set()


@pytest.mark.skipif(os.name != "posix", reason="environments have no bin there")
def test_each_command_works_as_it_is_written(served: dict[str, Any], tmp_path: Path) -> None:
    for line in lines("labkit"):
        if line.split()[1] not in {"serve", "lab"}:  # these run on: they have tests of their own
            done = run(at(served, line), tmp_path)
            assert (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.parametrize("program", ["swaks", "curl"])
def test_other_programs_speak_with_it_as_it_is_written(served: dict[str, Any], tmp_path: Path, program: str) -> None:
    require(*{"swaks", program})
    (send,) = lines("swaks")
    assert run(at(served, send), tmp_path).returncode == 0
    if program == "curl":
        (read,) = lines("curl")
        done = run(at(served, read), tmp_path)
        assert (done.returncode, "From: hanako@mail.example" in done.stdout) == (0, True)
