"""Challenges never repeat, except for a lesson, where they always do."""

import re

from labkit.mail.nonces import Counted, Nonces


def test_random_ones_differ_and_have_one_length() -> None:
    nonces = Nonces()
    challenges = {nonces.challenge("mail.example") for _ in range(200)}
    assert len(challenges) == 200
    assert all(re.fullmatch(r"<\d{10}\.\d{10}@mail\.example>", challenge) for challenge in challenges)
    assert len({nonces.nonce() for _ in range(200)}) == 200
    assert "," not in nonces.nonce()


def test_those_of_a_lesson_repeat_from_run_to_run_but_not_within_one() -> None:
    def run() -> list[str]:
        counted = Counted()
        return [counted.challenge("mail.example") for _ in range(9)] + [counted.nonce() for _ in range(9)]

    assert run() == run()
    assert len(set(run())) == 18
    assert {len(challenge) for challenge in run()[:9]} == {len(Nonces().challenge("mail.example"))}
