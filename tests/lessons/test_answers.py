"""Kinds of answers, each with right, wrong, blank and impossible answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.lessons.answers import Choice, Labels, Made, Number, Order, Text, Unreadable, WrongSetting, is_blank
from labkit.lessons.evidence import Evidence
from labkit.mail.settings import Settings

NONE = Evidence()
LINES = ("C: ehlo client.example", "S: 250 OK", "C: mail FROM:<>", "S: 250 OK", "C: QUIT")
PIECES = (("334 VXNlcm5hbWU6", "question"), ("aGFuYWtv", "login name"))
RIGHT = Settings(smtp_port=25, pop3_port=110, login="m1002-ts", password="x")

number = Number(lambda _seen: 4096)
text = Text(lambda _seen: "Sakura")
choice = Choice(lambda _seen: "b", "ab")
order = Order(lambda _seen: LINES, ("S: 334 Password:",))
labels = Labels(lambda _seen: PIECES, ("question", "login name", "password"))
setting = WrongSetting(
    lambda _seen: Settings(smtp_port=25, pop3_port=110, login="taro", password="x"), lambda _seen: RIGHT
)
made = Made(Settings, lambda settings, _seen: settings.login == "m1002-ts")
KINDS = (number, text, choice, order, labels, setting, made)


def letters(*cards: str) -> str:
    """The letters of cards, each card once."""
    left = list(order.deal(NONE))
    found = []
    for card in cards:
        pair = next(pair for pair in left if pair[1] == card)
        left.remove(pair)
        found.append(pair[0])
    return "".join(found)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (number, 4096),
        (number, "4,096"),
        (number, 4096.0),
        (text, "Sakura"),
        (text, b"Sakura\n"),
        (choice, "B)"),
        (order, letters(*LINES)),
        (order, ", ".join(letters(*LINES)).lower()),
        (order, list(letters(*LINES))),
        (labels, ["question", "Login name"]),
        (labels, "question, LOGIN-NAME"),
        (labels, {2: "login name", 1: "question"}),
        (setting, " Login "),
        (made, RIGHT),
    ],
)
def test_right_in_any_reasonable_spelling(kind: Any, answer: Any) -> None:
    assert kind.judge(answer, NONE).is_right


@pytest.mark.parametrize(
    ("kind", "answer", "remark"),
    [
        (number, 256, "The answer is another one."),
        (text, "sakura", "capital and small letters"),
        (text, "fuji", "The answer is another one."),
        (choice, "a", "The answer is another one."),
        (order, letters(*LINES[:3]), "something is still to be said"),
        (order, letters(LINES[2], LINES[0]), "does not begin with card"),
        (order, letters(LINES[0], LINES[1], "S: 334 Password:"), "The first 2 are right"),
        (order, letters(*LINES, "S: 334 Password:"), "All is said before card"),
        (labels, ["question", "password"], "1 of 2 are right. Piece 2 is something else than “password”."),
        (setting, "security", "security is none, and that is what the provider wants."),
        (made, Settings(smtp_port=25, pop3_port=110), "does not do yet"),
    ],
)
def test_wrong_with_a_remark(kind: Any, answer: Any, remark: str) -> None:
    read = kind.read(answer, NONE)
    assert not kind.is_right(read, NONE)
    assert remark in kind.remark(read, NONE)


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        (number, True, "whole number"),
        (number, "many", "whole number"),
        (text, 7, "between quotes"),
        (choice, "c", "a, b"),
        (order, "AZ", "A to F"),
        (order, "AA", "Card A is there twice"),
        (order, 3, "A to F"),
        (order, [1, 2], "A to F"),
        (labels, ["question"], "a list of 2 labels.* Yours has 1"),
        (labels, ["question", "wallet"], '“wallet” is none of the labels. .*"question", "login name", "password"'),
        (labels, 5, "a list of 2 labels"),
        (labels, {1: "question"}, "a list of 2 labels"),
        (setting, "colour", "outgoing_requires_authentication"),
        (made, "done", "a Settings object itself"),
    ],
)
def test_an_answer_of_another_form_is_told_the_form(kind: Any, answer: Any, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        kind.read(answer, NONE)


@pytest.mark.parametrize("answer", [None, ..., "", " \n", b"", [], (), {}, set()])
def test_blank(answer: Any) -> None:
    assert is_blank(answer)


@pytest.mark.parametrize("answer", [0, False, "a", [0], 0.0])
def test_not_blank(answer: Any) -> None:
    assert not is_blank(answer)


simple = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = st.recursive(
    simple, lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner), max_leaves=5
)


@given(anything)
def test_no_answer_brings_a_kind_down(answer: Any) -> None:
    for kind in KINDS:
        if not kind.is_blank(answer):
            try:
                read = kind.read(answer, NONE)
            except Unreadable:
                continue
            assert kind.is_right(read, NONE) or isinstance(kind.remark(read, NONE), str)


def test_cards_lie_mixed_and_the_same_whatever_they_say() -> None:
    others = Order(lambda _seen: [line.replace("250", "251") for line in LINES], order.distractors)
    mixed = [card.replace("251", "250") for _letter, card in others.deal(NONE)]
    assert [card for _letter, card in order.deal(NONE)] == mixed
    assert sorted(mixed) == sorted([*LINES, "S: 334 Password:"])
    assert mixed[: len(LINES)] != list(LINES)
