"""A short run of every target, and a replay of everything that was ever found."""

import time
from pathlib import Path

import pytest

from tests.fuzz import fuzzer
from tests.fuzz.fuzzer import GUIDED, fuzz
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_breaks_nothing(name: str) -> None:
    result = fuzz(TARGETS[name], executions=400, seed=1)
    assert result.finding is None
    assert result.executions == 400


def test_what_was_found_stays_mended() -> None:
    for finding in (Path(__file__).parent / "findings").glob("*.bin"):
        names = (name for name in TARGETS if finding.stem.startswith(name.replace(", ", "-").replace(" ", "-") + "."))
        TARGETS[next(names)].run(finding.read_bytes())


def test_the_fuzzer_finds_what_is_there() -> None:
    def breaks(data: bytes) -> None:
        if b"QUIT\r\n\r\n" in data:
            raise ValueError(data)

    result = fuzz(Target(breaks, (b"NOOP",), (b"QUIT", b"\r\n")), executions=20_000, seed=1)
    assert result.finding is not None
    assert result.finding[1].startswith("ValueError")


@pytest.mark.skipif(not GUIDED, reason="coverage needs Python 3.12")
def test_it_keeps_what_reached_something_new() -> None:
    result = fuzz(TARGETS["key log"], executions=300, seed=1)
    assert result.lines > 5
    assert len(result.corpus) > len(TARGETS["key log"].seeds)


def test_the_fuzzer_finds_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzer, "SLOWEST", 0.02)

    def dwells(data: bytes) -> None:
        end = time.process_time() + 0.05
        while data == b"NOOP" and time.process_time() < end:
            pass

    assert fuzz(Target(dwells, (b"x", b"NOOP"), (b"x",)), executions=10).finding == (b"NOOP", "took 0.1 s")
