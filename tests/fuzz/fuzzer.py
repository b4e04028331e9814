"""The fuzzer: puts input together from a grammar, changes what it has, and keeps what reached a line of labkit first.

Coverage costs next to nothing: sys.monitoring tells of a line the first time it runs and is told never to tell of it again
(PEP 669, Python 3.12). On 3.11 the fuzzer goes by grammar and mutation alone, and says so.
"""

import hashlib
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import labkit
from tests.fuzz.targets import Target

PACKAGE = str(Path(labkit.__file__).parent)
SLOWEST = 2.0  # seconds of the processor for one run that count as a hang: a busy machine is no finding
LONGEST = 6_000  # octets of an input
GUIDED = sys.version_info >= (3, 12)


class Coverage:
    """Counts lines of labkit that ran, each once."""

    def __init__(self) -> None:
        self.lines = 0

    def __enter__(self) -> "Coverage":
        if GUIDED:
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, "labkit fuzzer")
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, self._line)
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)
            monitoring.restart_events()  # an earlier fuzzer of this process has told lines never to be told of again
        return self

    def __exit__(self, *_error: object) -> None:
        if GUIDED:
            sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)

    def _line(self, code: CodeType, _line: int) -> object:
        if code.co_filename.startswith(PACKAGE):
            self.lines += 1
        return sys.monitoring.DISABLE


@dataclass(slots=True)
class Result:
    """What a run of the fuzzer came to. finding: the input that broke the target, and how."""

    executions: int = 0
    seconds: float = 0.0
    lines: int = 0
    corpus: list[bytes] = field(default_factory=list)
    finding: tuple[bytes, str] | None = None


def fuzz(target: Target, *, seconds: float = 1e9, executions: int = 1 << 62, seed: int = 0) -> Result:
    """Run a target until the time or the number of executions is used up, or something is found."""
    chance = random.Random(seed)  # noqa: S311 (a fuzzer is to repeat)
    result = Result(corpus=list(target.seeds))
    began = time.perf_counter()
    with Coverage() as coverage:
        while result.executions < executions and result.seconds < seconds and result.finding is None:
            data = _next(target, result, chance)
            before, started = coverage.lines, time.process_time()
            try:
                target.run(data)
            except Exception as error:
                result.finding = data, f"{type(error).__name__}: {error}"
            took = time.process_time() - started
            result.executions += 1
            result.seconds = time.perf_counter() - began
            if took > SLOWEST:
                result.finding = result.finding or (data, f"took {took:.1f} s")
            if coverage.lines > before:
                result.corpus.append(data)
        result.lines = coverage.lines
    return result


def _next(target: Target, result: Result, chance: random.Random) -> bytes:
    if result.executions < len(target.seeds):
        return target.seeds[result.executions]
    if chance.random() < 0.3:
        return target.grammatical(chance)[:LONGEST]
    data = chance.choice(result.corpus)
    for _change in range(chance.randint(1, 6)):
        data = chance.choice(_MUTATIONS)(data, target, result, chance)
    return data[:LONGEST]


def _insert(data: bytes, target: Target, _result: Result, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(target.words) + data[at:]


def _overwrite(data: bytes, target: Target, _result: Result, chance: random.Random) -> bytes:
    at, word = chance.randint(0, len(data)), chance.choice(target.words)
    return data[:at] + word + data[at + len(word) :]


def _flip(data: bytes, _target: Target, _result: Result, chance: random.Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _octet(data: bytes, _target: Target, _result: Result, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + chance.randrange(2) :]


def _delete(data: bytes, _target: Target, _result: Result, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + data[at + chance.randint(1, 16) :]


def _repeat(data: bytes, _target: Target, _result: Result, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + data[at : at + chance.randint(1, 64)] * chance.randint(2, 8) + data[at:]


def _splice(data: bytes, _target: Target, result: Result, chance: random.Random) -> bytes:
    other = chance.choice(result.corpus)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _truncate(data: bytes, _target: Target, _result: Result, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


_MUTATIONS = (_insert, _insert, _overwrite, _flip, _octet, _delete, _repeat, _splice, _truncate)


def keep(finding: bytes, name: str, folder: Path) -> Path:
    """Write a finding where every test run replays it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.{hashlib.sha256(finding).hexdigest()[:12]}.bin"
    path.write_bytes(finding)
    return path
