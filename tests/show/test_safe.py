"""Text from the wire cannot act, cannot hide, and fits where it is put."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.show.safe import ELLIPSIS, fit, glimpse, grid, pad, visible, width

ANY = st.text(st.characters(exclude_categories=()))
# Everything that Unicode lets act on its neighbours or gives no form: what no terminal may get.
ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY)
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(character) for character in shown} & ACTING
    shown.encode()


@given(ANY)
def test_what_is_safe_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("a\r\nb\tc\0\x7f", "a␍␊b␉c␀␡"),
        ("\x9b31m", "\\x9b31m"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("pass\u200bword\ufeff", "pass\\u200bword\\ufeff"),
        ("\udc80", "\\x80"),
        ("\ud800", "\\ud800"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("filler\u3164", "filler\\u3164"),
        ("正午に駅前で – ﾃｽﾄ é", "正午に駅前で – ﾃｽﾄ é"),
    ],
)
def test_what_would_hide_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY, st.integers(1, 40))
def test_padding_fills_exactly(text: str, columns: int) -> None:
    assert width(pad(visible(text), columns)) == columns


@given(ANY, st.integers(1, 40))
def test_fitting_never_exceeds(text: str, columns: int) -> None:
    assert width(fit(visible(text), columns)) <= columns


def test_wide_characters_count_twice() -> None:
    assert width("駅前") == 4
    assert fit("駅前です", 5) == "駅前…"


def test_a_grid_is_as_wide_as_it_must_be() -> None:
    assert grid([("a", "long"), ("駅", "x" * 9)], (5, 6)) == ["a   long", "駅  xxxxx…"]


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 10, "x" * 11, "\x1b" * 50, "e\u0301" * 500, "\u0301" * 500, "幅" * 50]
)
def test_a_glimpse_is_the_beginning_and_says_when_there_is_more(text: str) -> None:
    seen = glimpse(text, 10)
    assert width(seen) <= 10
    if visible(text) == seen:
        assert width(visible(text)) <= 10
    else:
        assert seen.endswith(ELLIPSIS)
        assert visible(text).startswith(seen[:-1])
