"""The clock that a lesson can move."""

import time
from typing import Any

import pytest

from labkit.errors import BadSetting
from labkit.mail.clock import Clock


def test_it_runs_with_time_and_can_be_moved_ahead_of_it() -> None:
    clock = Clock()
    before, began = clock.now(), time.monotonic()
    while time.monotonic() == began:
        pass
    assert clock.now() > before
    clock.advance(minutes=30, seconds=1)
    assert clock.now() - before >= 1801


def test_a_still_one_moves_only_when_it_is_moved() -> None:
    clock = Clock(still=True)
    before, began = clock.now(), time.monotonic()
    while time.monotonic() == began:
        pass
    assert clock.now() == before
    clock.advance(minutes=15, seconds=-1)
    assert clock.now() - before == 899


@pytest.mark.parametrize("still", [True, False])
def test_it_never_goes_back(still: bool) -> None:
    clock = Clock(still=still)
    for step in (-1, float("nan"), float("inf"), float("-inf"), 1e300, 10**400):
        for unit in ("seconds", "minutes"):
            with pytest.raises(BadSetting, match="only moves forward"):
                clock.advance(**{unit: step})
    assert clock.now() < 1e9


@pytest.mark.parametrize("step", ["5", None, [1]])
def test_a_step_is_a_number(step: Any) -> None:
    with pytest.raises(BadSetting, match="give a number of minutes or seconds"):
        Clock().advance(minutes=step)
