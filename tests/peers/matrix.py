"""The matrix of peers: `python -m tests.peers.matrix` runs every trial and writes what happened into MATRIX.md.

Each (program, policy, way to log in) is tried once, with every letter; a policy's cell and a way's cell are two readings of
the same results. No cell is written by hand: one that does not say what `clients.py` claims says "fails", and the
command ends with 1.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from labkit.mail.policy import POLICIES, Policy
from tests.peers import trials
from tests.peers.clients import LETTERS, PEERS, Peer, Refusal, Task

DOCUMENT = Path(__file__).with_name("MATRIX.md")
PYTHONS = ("3.11", "3.12", "3.13")
FAILS = "**fails**"

INTRODUCTION = """\
# The matrix of peers

Made by `make peers`, never by hand. Every program was run against a provider of this lab on the loopback interface, under
every policy and with every way to log in that both sides speak.

- **works**: every trial succeeded. What was stored is what the program handed over, and what it fetched is what was stored,
  byte for byte, after undoing exactly what the program is documented to add (`tests/peers/clients.py`). The letters
  have dots at line starts, lines of 998 octets, UTF-8 in 8 bits, no newline at the end, and an empty body.
- **refused, N**: what must not succeed did not, and the program ended with exit code N. For the three certificates the
  recorded wire, decrypted with the session's keys, holds no AUTH, USER, PASS or APOP and no password.
- **cannot**: not possible by the program's design; the footnote says why. Where the program can be asked for it, it was.
"""


@dataclass(slots=True)
class Notes:
    """Footnotes in the order of their first use."""

    texts: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[^{self.texts.index(text) + 1}]"


@dataclass(frozen=True, slots=True)
class Row:
    """What happened with one program: cells by column, each a word and the reasons behind it."""

    label: str
    working: dict[str, tuple[str, tuple[str, ...]]]
    refusing: dict[str, tuple[str, tuple[str, ...]]]
    failures: tuple[str, ...]


def working_columns(task: Task) -> tuple[str, ...]:
    """The policies, then the ways to log in."""
    return (*POLICIES, *trials.every_way(task))


def refusal_columns(task: Task) -> tuple[str, ...]:
    """What must be refused to a program of this task."""
    return tuple(refusal for refusal in Refusal if task is Task.SEND or refusal not in trials.ONLY_WHEN_SENDING)


def peers() -> list[Peer]:
    """The table's rows for the programs that are here; those in Python once for each Python that is here."""
    found: list[Peer] = []
    for peer in PEERS:
        if peer.program != sys.executable:
            found += [peer] * peer.is_here
            continue
        for python in filter(None, map(interpreter, PYTHONS)):
            command, version = (text.replace("{python}", python) for text in (peer.command, peer.version))
            found.append(replace(peer, program=python, command=command, version=version))
    return found


def interpreter(version: str) -> str | None:
    """A Python of this version: this one, one on PATH, or one that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        sys.executable,
        shutil.which(f"python{version}"),
        *sorted(kept.glob(f"{version}.*/bin/python{version}")),
    ]
    for candidate in filter(None, map(str, candidates)):
        told = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        if told.startswith(f"Python {version}."):
            return candidate
    return None


def row(index: int) -> Row:
    """Try everything with one program."""
    peer = peers()[index]
    failures: list[str] = []

    def passes(trial: Callable[..., None], *arguments: object) -> bool:
        try:
            trial(peer, *arguments)
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            what = ", ".join(str(getattr(argument, "name", argument)) for argument in arguments)
            failures.append(f"{peer.name} ({peer.task}), {trial.__name__}: {what}\n  {error!r}"[:2000])
            return False
        return True

    results = {
        (policy.name, way): _all(passes(trials.works, policy, way, letter) for letter in _letters(peer))
        for policy in POLICIES.values()
        if policy.security in peer.secure
        for way in trials.ways(peer, policy)
    }
    working = {policy.name: _policy_cell(peer, policy, results, passes) for policy in POLICIES.values()}
    working |= {way: _way_cell(peer, way, results, passes) for way in trials.every_way(peer.task)}
    refusing = {str(refusal): _refusal_cell(peer, refusal, passes) for refusal in trials.refusals(peer)}
    return Row(f"{peer.name} {peer.told_version()}", working, refusing, tuple(failures))


_Passes = Callable[..., bool]
_Results = dict[tuple[str, str | None], bool]
_Cell = tuple[str, tuple[str, ...]]


def _all(outcomes: Iterable[bool]) -> bool:
    """Whether every trial passed; all of them are made, also after one that did not."""
    return False not in list(outcomes)


def _letters(peer: Peer) -> Iterable[object]:
    return LETTERS if peer.task is Task.SEND else LETTERS[:1]  # who reads, reads all of them at once


def _policy_cell(peer: Peer, policy: Policy, results: _Results, passes: _Passes) -> _Cell:
    if policy.security not in peer.secure:
        return ("cannot" if passes(trials.cannot_connect, policy) else FAILS), (peer.cannot[policy.security],)
    mine = [passed for (name, _way), passed in results.items() if name == policy.name]
    reasons = [peer.cannot.get(f"{way} over {policy.security}") for way in peer.ways]
    return ("works" if mine and all(mine) else FAILS), tuple(filter(None, reasons))


def _way_cell(peer: Peer, way: str, results: _Results, passes: _Passes) -> _Cell:
    untold = [
        passes(trials.cannot_log_in, policy, way)
        for policy in POLICIES.values()
        if policy.security in peer.secure and way in trials.offered(peer.task, policy)
        if not peer.spoken(way, policy.security)
    ]
    if way in peer.cannot:
        return ("cannot" if all(untold) else FAILS), (peer.cannot[way],)
    mine = [passed for (_name, used), passed in results.items() if used == way]
    reasons = [peer.cannot.get(f"{way} over {security}") for security in peer.secure]
    return ("works" if mine and all(mine + untold) else FAILS), tuple(filter(None, reasons))


def _refusal_cell(peer: Peer, refusal: Refusal, passes: _Passes) -> _Cell:
    if not _all(passes(trials.refused, refusal, situation) for situation in trials.SITUATIONS[refusal]):
        return FAILS, ()
    if refusal in peer.cannot:
        return "cannot", (peer.cannot[refusal],)
    exposed = (
        "had sent the password all the same: USER and PASS leave together (PIPELINING, RFC 2449 section 6.6)",
    ) * (refusal in peer.exposes)
    return f"refused, {peer.refused[refusal][0]}", exposed + peer.remarks


def document(rows: Iterable[tuple[Task, Row]], absent: Iterable[str]) -> str:
    """MATRIX.md's text."""
    rows = list(rows)
    notes = Notes()
    parts = [INTRODUCTION]
    for task, does in ((Task.SEND, "send"), (Task.READ, "read")):
        mine = [row for kind, row in rows if kind is task]
        parts += [f"## Programs that {does}\n", *_table(mine, "working", working_columns(task), notes)]
        parts += [
            f"## What is refused to programs that {does}\n",
            *_table(mine, "refusing", refusal_columns(task), notes),
        ]
    parts += [f"[^{number}]: It {text}.\n" for number, text in enumerate(notes.texts, 1)]
    parts += [f"Not installed, so not tried: {', '.join(names)}.\n" for names in [sorted(set(absent))] if names]
    return "\n".join(parts)


def _table(rows: Iterable[Row], part: str, columns: tuple[str, ...], notes: Notes) -> Iterator[str]:
    lines = [f"| program | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [
            (word, "".join(map(notes, reasons))) for word, reasons in (getattr(row, part)[name] for name in columns)
        ]
        lines.append(f"| {row.label} | {' | '.join(word + marks for word, marks in cells)} |")
    yield "\n".join(lines) + "\n"


def main() -> int:
    """Run everything, write the document, say what failed."""
    here = peers()
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(row, range(len(here))))
    absent = [peer.name for peer in PEERS if not peer.is_here]
    DOCUMENT.write_text(
        document(((peer.task, row) for peer, row in zip(here, rows, strict=True)), absent), encoding="utf-8"
    )
    failures = [failure for row in rows for failure in row.failures]
    print(*failures, f"{len(rows)} rows, {len(failures)} failures: {DOCUMENT.name}", sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
