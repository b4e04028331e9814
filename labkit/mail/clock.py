"""Time for a provider: a clock that a lesson can advance, so that a 30-minute window need not take 30 minutes."""

import time
from datetime import timedelta

from labkit.errors import BadSetting
from labkit.texts import _


class Clock:
    """Seconds since an arbitrary start. It runs with the machine's monotonic clock and can be moved forward.

    still: it moves only by `advance`, so that what a lesson shows does not depend on how long its learner takes.
    """

    def __init__(self, *, still: bool = False) -> None:
        self._still = still
        self._moved = 0.0

    def now(self) -> float:
        """The time, in seconds."""
        return self._moved if self._still else time.monotonic() + self._moved

    def advance(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Move the clock forward. Raises BadSetting for a move into the past."""
        step = timedelta(minutes=minutes, seconds=seconds).total_seconds()
        if step < 0:
            raise BadSetting(_("A clock only moves forward: give minutes and seconds that come to 0 or more."))
        self._moved += step
