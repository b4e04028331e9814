"""The matrix of peers: `python -m tests.peers.matrix` runs every trial and writes what happened into MATRIX.md.

Each (program, policy, way to log in) is tried once, with every letter; a policy's cell and a way's cell are two readings of
the same results. No cell is written by hand: one that does not say what `clients.py` claims says "fails", and the
command ends with 1.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.mail.certificates import Certificate
from labkit.mail.policy import POLICIES, Policy, Security
from tests.peers import own, trials
from tests.peers.clients import LETTERS, PEERS, Peer, Refusal, Task
from tests.peers.servers import MailServers, running_servers, why_not

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

ABOUT_SERVERS = """\
## The lab's own client and probe, at servers of others

`MailClient` with every way to log in, over every kind of connection: what it sent was stored, below the
server's own fields, and what was stored it read, byte for byte. "Refused": the server did not let it in, or it gave up by
itself, and it said so in a sentence.
"""
OVER = {Security.NONE: "without TLS", Security.STARTTLS: "STARTTLS", Security.SSL: "TLS from the first byte"}


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


@dataclass(frozen=True, slots=True)
class AtServers:
    """What happened at servers of others. cells: for each task the server's version and a word by column.

    said: the probe's grades by what it asked, of servers that leave TLS to the client and of such as insist on it.
    """

    cells: dict[Task, tuple[str, dict[str, str]]]
    said: dict[str, tuple[str, str]]
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
    if way in peer.instead:
        reasons.append(f"takes {' or '.join(peer.instead[way])} instead of {way} where the server offers it")
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


def at_servers() -> AtServers:
    """Try everything with the lab's own client and probe, at servers of others."""
    failures: list[str] = []

    def passes(word: str, trial: Callable[..., None], *arguments: object) -> str:
        try:
            trial(*arguments)
        except (AssertionError, LabError, OSError, pytest.fail.Exception) as error:
            failures.append(f"MailClient, {trial.__name__}: {arguments[1:]}\n  {error!r}"[:2000])
            return FAILS
        return word

    with running_servers() as servers:
        lax = own.grades(own.card_of(servers))
        cells = {task: _where_tls_is_a_choice(servers, task, passes) for task in Task}
    for refusal in own.CERTIFICATES:
        with running_servers(strict=True, certificate=Certificate(refusal)) as servers:
            if refusal is Refusal.WRONG_NAME:
                strict = own.grades(own.card_of(servers, servers.host))
                for task, mine in cells.items():
                    tried = [passes("refused", own.no_login_without_tls, servers, task, way) for way in own.WAYS[task]]
                    mine[Refusal.CLEARTEXT] = _worst(tried)
            for task, mine in cells.items():
                secure = (Security.STARTTLS, Security.SSL)
                mine[refusal] = _worst(passes("refused", own.bad_certificate, servers, task, each) for each in secure)
    said = {name: (lax.get(name, FAILS), strict.get(name, FAILS)) for name in own.CARDS}
    failures += [f"labkit.probe on {name}: {said[name]}" for name, right in own.CARDS.items() if said[name] != right]
    return AtServers({task: (own.version(task), mine) for task, mine in cells.items()}, said, tuple(failures))


def _where_tls_is_a_choice(servers: MailServers, task: Task, passes: Callable[..., str]) -> dict[str, str]:
    """Cells by column: over each kind of connection, with each way to log in, with a wrong password."""
    every = [(security, way) for security in Security for way in own.WAYS[task]]
    tried = {each: passes("works", own.works, servers, task, *each) for each in every}
    cells = {column: _worst(tried[each] for each in every if each[0] is security) for security, column in OVER.items()}
    cells |= {way: _worst(tried[each] for each in every if each[1] == way) for way in own.WAYS[task]}
    wrong = _worst(passes("refused", own.wrong_password, servers, task, *each) for each in every)
    return cells | {Refusal.WRONG_PASSWORD: wrong}


def _worst(words: Iterable[str]) -> str:
    found = list(words)
    return FAILS if FAILS in found else found[0]


def document(rows: Iterable[tuple[Task, Row]], absent: Iterable[str], servers: AtServers | None) -> str:
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
    parts += [] if servers is None else _at_servers(servers)
    parts += [f"[^{number}]: It {text}.\n" for number, text in enumerate(notes.texts, 1)]
    parts += [f"Not installed, so not tried: {', '.join(names)}.\n" for names in [sorted(set(absent))] if names]
    return "\n".join(parts)


def _table(rows: Iterable[Row], part: str, columns: tuple[str, ...], notes: Notes) -> Iterator[str]:
    yield _grid(("program", *columns), [(row.label, *_cells(row, part, columns, notes)) for row in rows])


def _cells(row: Row, part: str, columns: tuple[str, ...], notes: Notes) -> Iterator[str]:
    for word, reasons in (getattr(row, part)[name] for name in columns):
        yield word + "".join(map(notes, reasons))


def _at_servers(servers: AtServers) -> Iterator[str]:
    yield ABOUT_SERVERS
    for task, (version, cells) in servers.cells.items():
        does = "sends to" if task is Task.SEND else "reads from"
        yield _grid(("program", *cells), [(f"MailClient {does} {own.NAMES[task]} {version}", *cells.values())])
    names = " and ".join(f"{own.NAMES[task]} {version}" for task, (version, _cells) in servers.cells.items())
    head = (
        "labkit.probe says of",
        f"{names}, TLS as the client likes",
        "the same, insisting on TLS, with a wrong name",
    )
    yield _grid(head, [(name, *said) for name, said in servers.said.items()])


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join((lines[0], "|---" * len(head) + "|", *lines[1:])) + "\n"


def main() -> int:
    """Run everything, write the document, say what failed."""
    here = peers()
    with ProcessPoolExecutor() as pool:
        elsewhere = None if why_not() else pool.submit(at_servers)
        rows = list(pool.map(row, range(len(here))))
        servers = elsewhere and elsewhere.result()
    absent = [peer.name for peer in PEERS if not peer.is_here]
    absent += [] if servers else own.NAMES.values()
    told = document(((peer.task, row) for peer, row in zip(here, rows, strict=True)), absent, servers)
    DOCUMENT.write_text(told, encoding="utf-8")
    failures = [failure for row in rows for failure in row.failures] + list(servers.failures if servers else ())
    print(*failures, f"{len(rows)} rows, {len(failures)} failures: {DOCUMENT.name}", sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
