"""What is tried with a mail program and a provider: one message sent, a maildrop read, a thing that must be refused.

Each trial runs the program against a provider of its own, records the wire, and raises AssertionError where something else
happened than the row in `clients.py` says. The tests run a selection of trials; the matrix runs all of them.
"""

import poplib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit import Provider
from labkit.capture import Capture
from labkit.decode.dissection import Command, Dissection
from labkit.decode.exposure import Fact, Verdict
from labkit.mail.accounts import Account
from labkit.mail.certificates import Certificate
from labkit.mail.maildrop import canonical
from labkit.mail.policy import POLICIES, Policy, Security
from tests.peers.clients import (
    APOP,
    LETTERS,
    USER_PASS,
    Errand,
    Letter,
    Peer,
    Refusal,
    Result,
    Task,
    body_of,
)

ACCOUNTS = (
    Account("hanako@mail.example", "Hanako Yamada", "kumo-to-ame-7", "m1001-hy"),
    Account("taro@mail.example", "Taro Suzuki", "yama-to-umi-9", "m1002-ts"),
)
HANAKO = ACCOUNTS[0]
CREDENTIALS = frozenset({"AUTH", "USER", "PASS", "APOP"})


@dataclass(frozen=True, slots=True)
class Situation:
    """In which a refusal must come: what the provider demands and shows, and what the program is told instead."""

    policy: str
    logs_in: bool = True
    password: str = HANAKO.password
    security: Security | None = None  # None: what the policy wants
    certificate: Certificate = Certificate.GOOD


SITUATIONS: Mapping[Refusal, tuple[Situation, ...]] = {
    Refusal.NO_AUTH: (Situation("smtp-auth", logs_in=False),),
    Refusal.WRONG_PASSWORD: tuple(Situation(policy, password="wrong") for policy in ("smtp-auth", "starttls", "ssl")),
    Refusal.NO_POP: (Situation("pop-before-smtp", logs_in=False),),
    Refusal.CLEARTEXT: (Situation("starttls", security=Security.NONE),),
} | {
    Refusal(certificate): tuple(Situation(policy, certificate=certificate) for policy in ("starttls", "ssl"))
    for certificate in (Certificate.WRONG_NAME, Certificate.EXPIRED, Certificate.UNKNOWN_ISSUER)
}
CERTIFICATES = frozenset({Refusal.WRONG_NAME, Refusal.EXPIRED, Refusal.UNKNOWN_ISSUER})
ONLY_WHEN_SENDING = frozenset({Refusal.NO_AUTH, Refusal.NO_POP})


def offered(task: Task, policy: Policy) -> tuple[str, ...]:
    """The ways to log in that a server for this task offers under a policy."""
    return policy.mechanisms if task is Task.SEND else (USER_PASS, APOP, *policy.mechanisms)


def ways(peer: Peer, policy: Policy) -> tuple[str | None, ...]:
    """Those of them that the program speaks; None stands for sending without a login."""
    offers = offered(peer.task, policy)
    spoken = tuple(
        way for way in offers if peer.spoken(way, policy.security) and not set(peer.instead.get(way, ())) & set(offers)
    )
    return (None,) if peer.task is Task.SEND and not policy.auth_required else spoken


def every_way(task: Task) -> tuple[str, ...]:
    """Every way to log in that any policy offers."""
    return offered(task, POLICIES["smtp-auth"])


def first_way(peer: Peer) -> str:
    """A way to log in that it speaks, for trials in which the way does not matter."""
    return next(way for way in peer.ways if peer.spoken(way, Security.STARTTLS))


def refusals(peer: Peer) -> tuple[Refusal, ...]:
    """What can be refused to a program of this task."""
    return tuple(refusal for refusal in Refusal if peer.task is Task.SEND or refusal not in ONLY_WHEN_SENDING)


def works(peer: Peer, policy: Policy, way: str | None, letter: Letter = LETTERS[0]) -> None:
    """Send the letter, or read a maildrop that holds every letter: what arrives is what left, byte for byte."""
    with _running(policy) as (provider, folder):
        if peer.task is Task.READ:
            fill(provider)
        if policy.pop_window and peer.task is Task.SEND:
            read_mail(provider)
        result, capture = _run(peer, provider, folder, policy.security, way, letter=letter)
        assert result.code == 0, result
        assert [_way(command) for command in said(capture) if _way(command)] == ([way] if way else [])
        if peer.task is Task.SEND:
            (stored,) = contents(provider, "taro")
            assert stuffed(stored) in sent_bytes(capture)
            handed = canonical(peer.sent(folder, letter))
            assert stored == handed or (peer.redates and undated(stored) == undated(handed))
            assert not peer.decoded or body_of(stored) == canonical(letter.body)
        else:
            assert sorted(map(canonical, peer.fetched(folder, result))) == sorted(contents(provider, "hanako"))


def cannot_log_in(peer: Peer, policy: Policy, way: str) -> None:
    """A way that the program does not speak: where it can be asked for it, nothing happens but an end without success."""
    assert peer.why_not(way, policy.security)
    if way in peer.ways:
        with _running(policy) as (provider, folder):
            fill(provider)
            result, _capture = _run(peer, provider, folder, policy.security, way)
            assert_nothing_happened(peer, provider, folder, result)


def cannot_connect(peer: Peer, policy: Policy) -> None:
    """A kind of connection that the program does not speak: told any other, it gets nowhere."""
    assert policy.security in peer.cannot
    for security in peer.secure.keys() - {
        Security.SSL
    }:  # TLS at once, to a server that greets first: neither would end
        with _running(policy) as (provider, folder):
            fill(provider)
            result, _capture = _run(peer, provider, folder, security, first_way(peer))
            assert_nothing_happened(peer, provider, folder, result)


def refused(peer: Peer, refusal: Refusal, situation: Situation) -> None:
    """What must be refused is: with this program's own exit code and words, and without a credential where none is due."""
    policy = POLICIES[situation.policy]
    security = situation.security or policy.security
    if security not in peer.secure:
        assert security in peer.cannot
        return
    way = first_way(peer) if situation.logs_in else None
    with _running(policy, situation.certificate) as (provider, folder):
        fill(provider)
        result, capture = _run(peer, provider, folder, security, way, password=situation.password)
        if refusal in peer.cannot:
            assert result.code == 0, result  # the program does not see what it should refuse
            assert CREDENTIALS & {command.verb for command in said(capture)}
            return
        assert_nothing_happened(peer, provider, folder, result)
        code, words = peer.refused[refusal]
        assert (result.code, words.encode() in result.said) == (code, True), result
        if refusal in CERTIFICATES:
            assert not CREDENTIALS & {command.verb for command in said(capture)}
            assert capture.findings[Fact.PASSWORD].verdict in (Verdict.NOT_SENT, Verdict.HIDDEN)
            assert HANAKO.password.encode() not in sent_bytes(capture)
        if refusal is Refusal.CLEARTEXT:
            exposed = capture.findings[Fact.PASSWORD].verdict in (Verdict.READABLE, Verdict.ENCODED)
            assert exposed == (refusal in peer.exposes)
        if refusal is Refusal.NO_POP:
            read_mail(provider)
            (folder / "again").mkdir()
            result, _capture = _run(peer, provider, folder / "again", security, None)
            assert (result.code, len(contents(provider, "taro"))) == (0, 1), result


def assert_nothing_happened(peer: Peer, provider: Provider, folder: Path, result: Result) -> None:
    """No message was taken, none was given out."""
    assert not contents(provider, "taro")
    assert not peer.fetched(folder, result) or peer.task is Task.SEND
    assert result.code or peer.refused[Refusal.WRONG_PASSWORD][0] == 0


def fill(provider: Provider) -> None:
    """One of each letter in Hanako's maildrop."""
    for letter in LETTERS:
        provider.maildrops["hanako"].append(letter.content)


def contents(provider: Provider, name: str) -> list[bytes]:
    """What is stored in a maildrop."""
    return [message.content for message in provider.maildrops[name].messages()]


def read_mail(provider: Provider) -> None:
    """Log in by POP3 from this address, as POP before SMTP wants it."""
    pop = poplib.POP3(provider.host, provider.pop3_port, timeout=10)
    pop.user(HANAKO.login)
    pop.pass_(HANAKO.password)
    pop.quit()


def said(capture: Capture) -> list[Command]:
    """Every command of every client, inside TLS too where there were keys."""
    return [command for conversation in _opened(capture) for command in conversation.commands]


def sent_bytes(capture: Capture) -> bytes:
    """Every octet that clients sent, as it crossed the wire and as it was before it was encrypted."""
    return b"\n".join(conversation.flow.client_stream.data for conversation in _opened(capture))


def stuffed(content: bytes) -> bytes:
    """A message as it follows DATA (RFC 5321 section 4.5.2)."""
    return re.sub(rb"^\.", b"..", content, flags=re.MULTILINE) + b".\r\n"


def undated(content: bytes) -> bytes:
    """A message without its Date."""
    return re.sub(rb"^Date: .*\r\n", b"", content, count=1, flags=re.MULTILINE)


def _opened(capture: Capture) -> Iterator[Dissection]:
    yield from capture.flows
    if "_SECRET" in capture.keylog or "CLIENT_RANDOM" in capture.keylog:
        yield from (conversation.opened for conversation in capture.unlock().flows if conversation.opened)


def _way(command: Command) -> str | None:
    """The way to log in that a command begins."""
    if command.verb == "AUTH":
        return command.argument.partition(" ")[0].upper()
    return {"USER": USER_PASS, "APOP": APOP}.get(command.verb)


@contextmanager
def _running(policy: Policy, certificate: Certificate = Certificate.GOOD) -> Iterator[tuple[Provider, Path]]:
    keylog = policy.security is not Security.NONE
    with (
        tempfile.TemporaryDirectory(prefix="labkit-peer-") as folder,
        Provider(policy, accounts=ACCOUNTS, certificate=certificate, keylog=keylog) as provider,
    ):
        yield provider, Path(folder)


def _run(
    peer: Peer,
    provider: Provider,
    folder: Path,
    security: Security,
    way: str | None,
    *,
    password: str = HANAKO.password,
    letter: Letter = LETTERS[0],
) -> tuple[Result, Capture]:
    port = provider.smtp_port if peer.task is Task.SEND else provider.pop3_port
    errand = Errand(port, folder, security, way, HANAKO.login, password, provider.ca_file, letter)
    with provider.capture("tap") as capture:
        result = peer.run(errand)
    return result, capture
