"""MailPrograms of mail programs: what came of each meeting is what the protocols say must come of it."""

import pytest

import labkit
from labkit.decode.exposure import Verdict
from labkit.lessons import programs
from labkit.lessons.programs import (
    PROGRAMS,
    PROVIDERS,
    STRANGER,
    Compatibility,
    CompatibilityMatrix,
    MailProgram,
    try_out,
)

BOTH, READS, NOTHING = (True, True), (False, True), (False, False)
# What a program of each year could do at each door, written down from the RFCs and not from a run.
EXPECTED = {
    "1998": [BOTH, READS, READS, NOTHING, NOTHING, NOTHING, NOTHING],
    "1999": [BOTH, BOTH, READS, NOTHING, NOTHING, NOTHING, NOTHING],
    "2001": [BOTH, READS, BOTH, NOTHING, NOTHING, NOTHING, NOTHING],
    "2005": [BOTH, READS, BOTH, NOTHING, BOTH, READS, BOTH],
    "today": [NOTHING, NOTHING, NOTHING, BOTH, BOTH, BOTH, NOTHING],
}


@pytest.fixture(scope="module")
def met() -> CompatibilityMatrix:
    return try_out()


def test_every_program_can_do_what_its_year_could(met: CompatibilityMatrix) -> None:
    could = {
        name.partition(",")[0]: [(item.sends, item.reads) for item in met.of(name).values()] for name in met.programs
    }
    assert could == EXPECTED


def test_what_talks_in_the_clear_or_to_a_stranger_leaks(met: CompatibilityMatrix) -> None:
    for name in met.programs:
        for door, item in met.of(name).items():
            if not (item.sends or item.reads):
                wanted = Verdict.NOT_SENT
            else:
                wanted = Verdict.HIDDEN if door in {"STARTTLS", "SSL", "SSL + SCRAM"} else Verdict.READABLE
            assert item.leaks is wanted, (name, door)


def test_a_table_says_who_meets_whom(met: CompatibilityMatrix) -> None:
    lines = met.text().splitlines()
    assert [word for word in PROVIDERS if word not in lines[2]] == []
    assert [profile.name for profile in PROGRAMS if profile.name not in met.text()] == []
    assert met[PROGRAMS[3].name, STRANGER].style.label == "● both"
    assert '<th scope="row" style="text-align:left">today</th>' in met.html()


def test_a_window_that_somebody_opened_is_not_left_open_for_the_next() -> None:
    both = try_out(PROGRAMS[1], PROGRAMS[0])
    assert both[PROGRAMS[1].name, "POP first"].sends
    assert not both[PROGRAMS[0].name, "POP first"].sends


@pytest.mark.parametrize("security", ["starttls", "none"])
def test_who_begins_in_the_clear_does_not_wait_long_for_a_server_that_begins_with_tls(security: str) -> None:
    with labkit.Provider("ssl", repeatable=True) as provider:
        assert MailProgram("x", (security,)).settings(provider).timeout == programs.PATIENCE


def test_one_word_is_as_good_as_a_tuple_and_nonsense_is_a_sentence() -> None:
    assert MailProgram("x", "ssl", "PLAIN") == MailProgram("x", ("ssl",), ("PLAIN",))  # type: ignore[arg-type]
    for wrong in ("tls", ("ssl", "SSL3"), ()):
        with pytest.raises(labkit.LabError, match="none, starttls, ssl"):
            MailProgram("x", wrong)  # type: ignore[arg-type]


def test_a_meeting_without_anything_says_so() -> None:
    assert Compatibility(False, False, Verdict.NOT_SENT).style.label == "– nothing"
    assert Compatibility(True, False, Verdict.HIDDEN).style.label == "○ sends"
