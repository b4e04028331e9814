"""The project's own files agree with each other: dependencies, lock, environment, what may be committed."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

import labkit
from tests import conftest

ROOT = Path(__file__).parent.parent
CARD = {"jupyterlab", "aiosmtpd", "scapy", "matplotlib", "nbval"}


def specification(line: str) -> tuple[str, str]:
    """Name and bounds of a requirement, in one spelling: ("jupyterlab", ">=4.2")."""
    match = re.fullmatch(r"\s*([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?\s*([<>=!~].*)?", line)
    assert match, line
    return match[1].lower().replace("_", "-"), (match[2] or "").replace(" ", "")


@pytest.fixture(scope="module")
def project() -> dict[str, str]:
    """What pyproject.toml asks for: the dependencies, and nbval from the tests'."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = dict(map(specification, metadata["dependencies"]))
    names |= {
        name: bound for name, bound in map(specification, metadata["optional-dependencies"]["test"]) if name == "nbval"
    }
    return names | {"python": metadata["requires-python"]}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """What environment.yml asks for, from conda and from pip alike, without pip itself and the project."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = [entry for entry in listed if isinstance(entry, str) and entry != "pip"]
    pip = [entry for entry in listed[-1]["pip"] if entry != "-e ."]
    assert len(pip) < len(listed[-1]["pip"]), "the project itself is installed by pip"
    return dict(map(specification, conda + pip))


def test_environment_and_project_ask_for_the_same(project: dict[str, str], environment: dict[str, str]) -> None:
    assert environment == project


def test_the_card_is_kept(environment: dict[str, str]) -> None:
    assert set(environment) >= CARD


def test_the_lock_holds_every_dependency_with_hashes_and_no_address(project: dict[str, str]) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", lock)
    locked = {entry.split("==")[0] for entry in entries}
    assert set(project) - {"python"} <= locked
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"https?://|file:|--(extra-)?index|--find-links", lock)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Every path that is in the repository."""
    try:
        return conftest.output_of("git", "-C", ROOT, "ls-files").splitlines()
    except subprocess.CalledProcessError:
        pytest.skip("not a git checkout")


def test_top_level_is_the_card(tracked: list[str]) -> None:
    allowed = {"notebooks", "labkit", "environment.yml", "tests", "README.md", "pyproject.toml", "Makefile",
               "LICENSE", "requirements.lock", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", ".ci",
               ".gitignore"}  # fmt: skip
    assert {path.split("/")[0] for path in tracked} <= allowed


def test_the_source_distribution_holds_the_whole_project(tracked: list[str], tmp_path: Path) -> None:
    """`make lab` and `make test` begin in it as in the repository."""
    wanted = {path for path in tracked if not path.startswith(".ci/") and (ROOT / path).exists()}
    build = f"from hatchling.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with tarfile.open(tmp_path / done.stdout.split()[-1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted - held == set()
    assert [path for path in held if "__pycache__" in path] == []


def test_the_changelog_begins_with_this_release() -> None:
    releases = re.findall(
        r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert releases[0] == labkit.__version__
    assert len(set(releases)) == len(releases)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
@pytest.mark.parametrize("other", ["SECURITY.md", "notebooks/teachers/classroom.md", "tests/peers/MATRIX.md"])
def test_the_pages_that_others_need_are_found(page: str, other: str) -> None:
    assert f"]({other})" in (ROOT / page).read_text(encoding="utf-8")


def test_no_test_is_skipped_for_want_of_a_tool_where_every_tool_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """`require` and `lack` know the promise; Postfix and Dovecot are skipped for want of root, too."""
    monkeypatch.setattr(conftest, "THOROUGH", True)
    with pytest.raises(pytest.fail.Exception, match="not installed: no-such-program"):
        conftest.require("no-such-program")
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    alone = [path.name for path, text in sources.items() if re.search(r"skip(if)?\(", text) and "shutil.which" in text]
    assert set(alone) - {"test_project.py"} == {"conftest.py", "servers.py"}
