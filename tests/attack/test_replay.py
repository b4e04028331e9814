"""Captured logins, said again."""

from collections.abc import Callable

import pytest

import labkit
from labkit.attack import logins, replay
from labkit.errors import LabError
from labkit.mail.sample import sample_message


def stolen(provider: labkit.Provider, *, pop3: bool = False, way: str) -> labkit.Capture:
    """A capture of one login."""
    with provider.capture() as capture:
        if pop3:
            provider.client("hanako", pop3_login=way).check()
        else:
            provider.client("hanako", mechanism=way).send(sample_message())
    return capture


@pytest.mark.parametrize(("pop3", "way"), [(False, "PLAIN"), (False, "LOGIN"), (True, "PLAIN"), (True, "USER")])
def test_a_login_that_carries_the_password_works_again(pop3: bool, way: str) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        capture = stolen(provider, pop3=pop3, way=way)
        with provider.capture() as again:
            result = replay(capture, provider)
    assert result.worked
    assert result.same_challenge is None
    assert result.login == "hanako"
    assert result.answer.startswith("+OK" if pop3 else "235")
    # The thief said nothing but what was captured.
    said = {line for login in logins(capture) for line in login.sent}
    assert {line for login in logins(again) for line in login.sent} == said


@pytest.mark.parametrize("policy", ["starttls", "ssl"])
@pytest.mark.parametrize(("pop3", "way"), [(False, "PLAIN"), (True, "USER")])
def test_tls_at_the_provider_does_not_stop_a_thief(policy: str, pop3: bool, way: str) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        capture = stolen(provider, pop3=pop3, way=way)
    with labkit.Provider(policy, repeatable=True) as secure:
        assert replay(capture, secure).worked


@pytest.mark.parametrize(
    ("pop3", "way"),
    [(False, "CRAM-MD5"), (False, "SCRAM-SHA-256"), (True, "CRAM-MD5"), (True, "SCRAM-SHA-256"), (True, "APOP")],
)
def test_an_answer_to_a_challenge_is_worth_nothing_the_second_time(pop3: bool, way: str) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        capture = stolen(provider, pop3=pop3, way=way)
        result = replay(capture, provider)
    assert not result.worked
    assert result.same_challenge is False
    assert result.mechanism == way
    assert result.answer.startswith("-ERR [AUTH]" if pop3 else "535 5.7.8")  # a failed login, not a malformed one
    assert "another challenge" in result.text()


@pytest.mark.parametrize(("pop3", "way"), [(False, "CRAM-MD5"), (True, "APOP")])
def test_a_server_that_repeats_its_challenge_is_open_to_replay(pop3: bool, way: str) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        capture = stolen(provider, pop3=pop3, way=way)
    with labkit.Provider("smtp-auth", repeatable=True) as forgetful:  # a lesson's provider counts from the start
        result = replay(capture, forgetful)
    assert result.worked
    assert result.same_challenge
    assert "it never should" in result.text()


def test_a_changed_password_ends_it() -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        capture = stolen(provider, way="PLAIN")
    with labkit.Provider("smtp-auth") as changed:
        result = replay(capture, changed)
    assert not result.worked
    assert result.answer.startswith("535")


def test_of_several_logins_the_one_that_succeeded() -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as provider:
        with provider.capture() as capture:
            with pytest.raises(LabError):
                provider.client("hanako", password="wrong").send(sample_message())
            provider.client("taro").send(sample_message())
        assert replay(capture, provider).login == "taro"


def test_inside_tls_there_is_nothing_to_copy() -> None:
    with labkit.Provider("ssl", repeatable=True) as provider:
        capture = stolen(provider, way="PLAIN")
        with pytest.raises(LabError, match="without TLS"):
            replay(capture, provider)


def test_outputs_repeat() -> None:
    def result() -> tuple[str, str]:
        with labkit.Provider("smtp-auth", repeatable=True) as provider:
            replayed = replay(stolen(provider, way="PLAIN"), provider)
        return replayed.text(), replayed.html()

    assert result() == result()


def test_hostile_names_are_shown_harmless(play: Callable[..., labkit.Capture]) -> None:
    capture = play(110, b"+OK hello", b"USER <b>\x1b[2J", b"+OK", b"PASS x", b"+OK in", b"QUIT", b"+OK")
    with labkit.Provider("plaintext") as provider:
        result = replay(capture, provider)
    assert "\x1b" not in result.text() + result.html()
    assert "&lt;b&gt;" in result.html()
