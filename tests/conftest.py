"""What every test may ask for."""

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from labkit import texts
from labkit.wire.network import CARRIER_VARIABLE

ROOT = Path(__file__).parent.parent
# As in CI: every tool must be there, and what takes long is tried as often as it should be.
THOROUGH = os.environ.get("LABKIT_ALL_TOOLS") == "1"
LONGEST = (
    "tests/browser/",
    "test_solutions.py",
    "test_translated.py",
    "tests/classroom/",
    ".ipynb",
    "test_figures.py",
    "test_limits.py",
)
NOT_INSTALLED = "not installed: "
# With LABKIT_NETWORK=memory the lab's servers are in this process: no other program can reach them.
IN_MEMORY = os.environ.get(CARRIER_VARIABLE) == "memory"
on_loopback = pytest.mark.skipif(IN_MEMORY, reason="what is tried here is the operating system's network")
SHARED = Path(os.environ.get("LABKIT_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session", autouse=True)
def every_sentence_is_found() -> None:
    """Whatever any test makes labkit say is a sentence that translators are given."""
    from tests.sentences import OnlyFound

    texts.CATALOGUE = OnlyFound()


@pytest.fixture(scope="session")
def shared_captures() -> Path:
    """Public captures by others, kept beside the project and never in it."""
    folder = SHARED / "captures"
    if not folder.is_dir():
        pytest.skip("the public captures of others are not beside this checkout (../shared/captures)")
    return folder


def examples(count: int) -> int:
    """How many examples a property is tried with: fewer on a desk than in CI."""
    return count if THOROUGH else max(count // 3, 20)


# No limit on the clock: a busy machine is no defect.
settings.register_profile(
    "labkit", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("labkit")


def require(*programs: str) -> None:
    """Skip the test that needs these programs where one is missing; fail it where all must be there, as in CI."""
    if IN_MEMORY:
        pytest.skip("other programs do not reach a network in memory")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        lack(f"{NOT_INSTALLED}{', '.join(missing)}")


def output_of(program: str, *arguments: str | Path) -> str:
    """What a program that may be missing prints. Raises subprocess.CalledProcessError when it fails."""
    require(program)
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", errors="backslashreplace")
    return done.stdout


def returns(call: Callable[[], object]) -> None:
    """Call it, and fail where it waits for what never comes. How long it takes on a busy machine is not asked."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), f"{call} does not return"


def lack(reason: str) -> NoReturn:
    """Skip the test for that reason; fail it where nothing may be lacking, as in CI."""
    if THOROUGH:
        pytest.fail(f"{reason}, and LABKIT_ALL_TOOLS=1 says that everything is there")
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped for want of what, in two lines: programs that are not installed, and what this system lacks."""
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ").rstrip(".") for report in reports)
    for title, lacks in (("skipped, not installed", True), ("skipped, not possible here", False)):
        told = [
            f"{reason.removeprefix(NOT_INSTALLED)} ({count})"
            for reason, count in reasons.most_common()
            if reason.startswith(NOT_INSTALLED) is lacks
        ]
        if told:
            terminalreporter.write_line(f"{title}: {'; '.join(told)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: not any(part in item.nodeid for part in LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share something costly stay on one worker: a browser and a lab, a lesson's rehearsal, a file's fixtures.

    xdist's own --dist loadgroup does not see its groups under pytest 9.2, and its loadscope begins with the most tests.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _colons, test = nodeid.partition("::")
            if "browser/" in file:
                return "browser"
            return test.partition("[")[2] if file.endswith("test_solutions.py") else file

    if config.getvalue("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return Together(config, log)
