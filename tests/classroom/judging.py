"""What each learner's kernel is asked, and what is wrong with a class's answers.

A cell before the lesson (BEFORE) notes every port that the learner's providers listen on; a cell after it (AFTER) prints,
from the packets of every capture, who spoke with whom and when. A connection is two ports at a time: the operating system
lets no two connections of one host share them, so a connection that two learners have is one that was overheard.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

BEFORE = """\
import labkit as _labkit
_own, _start = set(), _labkit.Provider.start
def _noted(provider):
    _start(provider)
    _own.update((provider.smtp_port, provider.pop3_port))
_labkit.Provider.start = _noted"""

AFTER = """\
import gc as _gc, json as _json, struct as _struct
_captures = [_thing for _thing in _gc.get_objects() if isinstance(_thing, _labkit.Capture)]
_providers = [_thing for _thing in _gc.get_objects() if isinstance(_thing, _labkit.Provider) and _thing._ports]
_connections = {}
for _capture in _captures:
    for _frame in _capture.frames:
        _tcp = 14 + 4 * (_frame.data[14] & 15)
        _pair = tuple(sorted(_struct.unpack_from("!HH", _frame.data, _tcp)))
        _first, _last = _connections.get((id(_capture), _pair), (_frame.time, _frame.time))
        _connections[id(_capture), _pair] = min(_first, _frame.time), max(_last, _frame.time)
print(_json.dumps({
    "own": sorted(_own),
    "listening": sorted(_port for _provider in _providers for _port in _provider._ports),
    "engines": [_capture.engine for _capture in _captures],
    "connections": [[*_pair, *_times] for (_capture, _pair), _times in _connections.items()],
}))"""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection in somebody's capture: its two ports, and its first and last packet in ns since the epoch."""

    ports: tuple[int, int]
    first: int
    last: int

    def is_the_same_as(self, other: Self) -> bool:
        """Two ports on loopback belong to one connection at a time."""
        return self.ports == other.ports and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Report:
    """What a learner's kernel knows at the end of the lesson.

    own: every port that a provider of theirs had; listening: those still open; engines: one for each capture.
    """

    own: frozenset[int]
    listening: frozenset[int]
    engines: tuple[str, ...]
    connections: tuple[Connection, ...]

    @classmethod
    def read(cls, printed: str) -> Self:
        """From what AFTER printed."""
        data: dict[str, Any] = json.loads(printed)
        connections = tuple(Connection((a, b), first, last) for a, b, first, last in data["connections"])
        return cls(frozenset(data["own"]), frozenset(data["listening"]), tuple(data["engines"]), connections)


def wrong_with(class_: Mapping[str, Report], engine: str) -> list[str]:
    """Sentences about what one learner has of another's; none when all is well."""
    rules: tuple[Callable[[Mapping[str, Report], str], Iterator[str]], ...] = (_captured, _strange, _shared, _clashing)
    return [sentence for rule in rules for sentence in rule(class_, engine)]


def _captured(class_: Mapping[str, Report], engine: str) -> Iterator[str]:
    for name, report in class_.items():
        if not report.connections or set(report.engines) != {engine}:
            yield f"{name} has {len(report.connections)} connections, captured by {set(report.engines) or 'nothing'}"


def _strange(class_: Mapping[str, Report], _engine: str) -> Iterator[str]:
    for name, report in class_.items():
        strange = [found.ports for found in report.connections if not report.own & set(found.ports)]
        if strange:
            yield f"{name} has captured connections with servers that are not {name}'s: {strange}"


def _shared(class_: Mapping[str, Report], _engine: str) -> Iterator[str]:
    for (one, mine), (other, theirs) in combinations(class_.items(), 2):
        both = [a.ports for a in mine.connections for b in theirs.connections if a.is_the_same_as(b)]
        if both:
            yield f"{one} and {other} have captured the same connections: {both}"


def _clashing(class_: Mapping[str, Report], _engine: str) -> Iterator[str]:
    for (one, mine), (other, theirs) in combinations(class_.items(), 2):
        if mine.listening & theirs.listening:
            yield f"{one} and {other} listen on the same ports: {sorted(mine.listening & theirs.listening)}"
