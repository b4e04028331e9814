"""Cases to solve: each wrong setting is the only one, and each recording tells what it is."""

from dataclasses import fields, replace

import pytest

import labkit
from labkit.attack import logins
from labkit.lessons import puzzles
from labkit.lessons.evidence import policy_on_the_wire

POLICIES = {
    "company": (replace(labkit.POLICIES["starttls"], login_format=labkit.LoginFormat.ADDRESS), "security"),
    "campus": (replace(labkit.POLICIES["ssl"], mechanisms=("SCRAM-SHA-256",)), "mechanism"),
    "shop": (labkit.POLICIES["ssl"], "server"),
}


@pytest.mark.parametrize("case", POLICIES)
def test_a_case_fails_by_one_setting_and_works_without_it(case: str) -> None:
    policy, wrong = POLICIES[case]
    with labkit.Provider(policy, repeatable=True) as provider:
        typed = puzzles.settings(case, provider)
        right = provider.settings("hanako", mechanism=policy.mechanisms[0])
        different = [f.name for f in fields(typed) if getattr(typed, f.name) != getattr(right, f.name)]
        assert different == [wrong]
        with pytest.raises(labkit.LabError):
            labkit.MailClient(typed).send(labkit.sample_message())
        labkit.MailClient(replace(typed, **{wrong: getattr(right, wrong)})).send(labkit.sample_message())
        assert len(provider.maildrops["taro"].messages()) == 1


def test_an_unknown_case_is_a_sentence() -> None:
    with labkit.Provider(repeatable=True) as provider, pytest.raises(labkit.LabError, match="company, campus, shop"):
        puzzles.settings("school", provider)


def test_blind_recordings_differ_and_repeat() -> None:
    told = {number: logins(puzzles.recording(number))[0] for number in range(12)}
    assert len({(login.protocol, login.mechanism, login.name) for login in told.values()}) >= 6
    assert all(login.accepted for login in told.values())
    assert puzzles.recording(1).text() == puzzles.recording(1).text()


@pytest.mark.parametrize(
    ("number", "policy", "mechanism", "login"),
    # as the teacher's page says
    [
        (0, "smtp-auth", "LOGIN", "m1001-hy"),
        (1, "smtp-auth", "CRAM-MD5", "hanako@mail.example"),
        (3, "smtp-auth", "PLAIN", "hanako@mail.example"),
        (6, "pop-before-smtp", "APOP", "hanako@mail.example"),
        (7, "pop-before-smtp", "USER/PASS", "m1001-hy"),
        (8, "smtp-auth", "SCRAM-SHA-256", "hanako"),
    ],
)
def test_the_teachers_numbers_are_what_the_page_says(number: int, policy: str, mechanism: str, login: str) -> None:
    capture = puzzles.recording(number)
    found = logins(capture)[0]
    assert (policy_on_the_wire(capture), found.mechanism, found.name) == (policy, mechanism, login)


@pytest.mark.parametrize("number", range(12))
def test_the_check_knows_each_recording(number: int) -> None:
    capture = puzzles.recording(number)
    found = logins(capture)[0]
    kind = {"hanako": "local-part", "hanako@mail.example": "address", "m1001-hy": "separate"}[found.name]
    leak = {"PLAIN": "encoded", "LOGIN": "encoded", "USER/PASS": "readable"}.get(found.mechanism, "guessable")
    labkit.reveal("09-11", capture)
    answer = [policy_on_the_wire(capture), kind, found.mechanism, leak]
    assert labkit.check("09-12", answer).is_right, answer


def test_a_policy_is_recognised_on_the_wire() -> None:
    for name, capture in labkit.compare(*labkit.POLICIES, engine="tap").captures.items():
        assert policy_on_the_wire(capture) == name
