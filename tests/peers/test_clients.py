"""Real mail programs against a running provider: each with every policy and every way to log in that it speaks.

This is a selection that covers each program's policies, ways, letters and refusals once; `make peers` tries all of them
together and writes what happened into MATRIX.md.
"""

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from labkit.mail.policy import POLICIES, Policy
from tests.conftest import require
from tests.peers import clients, matrix, own, trials
from tests.peers.clients import LETTERS, Letter, Peer, Refusal, Task

# aiosmtplib is not in the lock: tried where somebody installed it, promised nowhere. Thunderbird takes seconds to start: it
# is left to the matrix.
PEERS = [
    peer for peer in clients.PEERS if peer.program != "thunderbird" and (peer.program != "aiosmtplib" or peer.is_here)
]


def named(peer: Peer, *more: object) -> str:
    return "-".join(str(part).replace(" ", "_") for part in (peer.name, peer.task, *more))


def selection(peer: Peer) -> Iterator[tuple[Policy, str | None, Letter]]:
    """Each policy, each way and, for a program that sends, each letter at least once."""
    letters = cycle(LETTERS)
    missing = [way for way in peer.ways if peer.spoken(way)]
    for policy in POLICIES.values():
        if policy.security in peer.secure:
            possible = trials.ways(peer, policy)
            way = next((way for way in missing if way in possible), possible[0])
            missing = [other for other in missing if other != way]
            yield policy, way, next(letters)
    rest = POLICIES["smtp-auth" if "none" in peer.secure else "ssl"]
    for way in missing:
        yield rest, way, next(letters)


WORKING = [(peer, *choice) for peer in PEERS for choice in selection(peer)]
CANNOT = [
    (peer, policy, way)
    for peer in PEERS
    for policy in POLICIES.values()
    for way in trials.offered(peer.task, policy)
    if policy.name in ("smtp-auth", "starttls") and policy.security in peer.secure and way in peer.ways
    if not peer.spoken(way, policy.security)
]
UNCONNECTED = [(peer, policy) for peer in PEERS for policy in POLICIES.values() if policy.security not in peer.secure]
REFUSED = [(peer, refusal) for peer in PEERS for refusal in trials.refusals(peer)]


@pytest.mark.parametrize(
    ("peer", "policy", "way", "letter"), WORKING, ids=[named(p, o.name, w, t.shape) for p, o, w, t in WORKING]
)
def test_what_arrives_is_what_left(peer: Peer, policy: Policy, way: str | None, letter: Letter) -> None:
    require(peer.program)
    trials.works(peer, policy, way, letter)


@pytest.mark.parametrize(("peer", "policy", "way"), CANNOT, ids=[named(p, o.name, w) for p, o, w in CANNOT])
def test_a_way_that_it_does_not_speak_ends_without_success(peer: Peer, policy: Policy, way: str) -> None:
    require(peer.program)
    trials.cannot_log_in(peer, policy, way)


@pytest.mark.parametrize(("peer", "policy"), UNCONNECTED, ids=[named(p, o.name) for p, o in UNCONNECTED])
def test_a_connection_that_it_does_not_speak_ends_without_success(peer: Peer, policy: Policy) -> None:
    require(peer.program)
    trials.cannot_connect(peer, policy)


@pytest.mark.parametrize(("peer", "refusal"), REFUSED, ids=[named(p, r) for p, r in REFUSED])
def test_what_must_be_refused_is(peer: Peer, refusal: Refusal) -> None:
    require(peer.program)
    situations = trials.SITUATIONS[refusal]
    trials.refused(peer, refusal, situations[len(peer.name) % len(situations)])


def test_the_selection_leaves_nothing_out() -> None:
    for peer in PEERS:
        chosen = list(selection(peer))
        assert {policy.security for policy, _way, _letter in chosen} == set(peer.secure)
        assert {way for _policy, way, _letter in chosen if way} == {way for way in peer.ways if peer.spoken(way)}
        assert peer.task is Task.READ or {letter for _policy, _way, letter in chosen} == set(LETTERS)


def test_every_row_says_how_each_refusal_ends_or_why_it_does_not() -> None:
    for peer in clients.PEERS:
        for refusal in trials.refusals(peer):
            assert (refusal in peer.refused) or (refusal in peer.cannot), (peer.name, refusal)
        for way in trials.every_way(peer.task):
            assert (way in peer.ways) or (way in peer.cannot), (peer.name, way)


def test_the_committed_matrix_has_the_rows_and_columns_of_the_table() -> None:
    text = Path(matrix.__file__).with_name("MATRIX.md").read_text(encoding="utf-8")
    assert "fails" not in text
    for task in Task:
        for columns in (matrix.working_columns(task), matrix.refusal_columns(task)):
            assert f"| program | {' | '.join(columns)} |" in text
    for peer in clients.PEERS:
        assert text.count(f"\n| {peer.name} ") >= 2 or peer.name in text.partition("Not installed")[2], peer.name
    for task in Task:
        columns = [*matrix.OVER.values(), *own.WAYS[task], Refusal.WRONG_PASSWORD, Refusal.CLEARTEXT, *own.CERTIFICATES]
        assert f"| program | {' | '.join(columns)} |" in text
        assert re.search(rf"\n\| MailClient \w+ \w+ {own.NAMES[task]} [\d.]+ \|", text)
    for name, grades in own.CARDS.items():
        assert f"\n| {name} | {' | '.join(grades)} |\n" in text


def test_no_command_depends_on_where_the_checkout_lies() -> None:
    """A command is split into words before its values are put in: a folder's name may have a space in it."""
    assert [peer.name for peer in clients.PEERS if str(Path(clients.__file__).parent) in peer.command] == []
