"""Time for a provider: a clock that a lesson can advance, so that a 30-minute window need not take 30 minutes."""

import time

from labkit.errors import BadSetting, expect
from labkit.texts import _

FURTHEST = 100 * 365.25 * 86400  # seconds


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
        """Move the clock forward. Raises BadSetting for a move into the past, and for what is no length of time."""
        for given in (minutes, seconds):
            expect(given, (int, float), _("a number of minutes or seconds"))
        step = 60 * minutes + seconds
        if not 0 <= step <= FURTHEST:  # so not a number is refused, too
            message = _(
                "A clock only moves forward, by a hundred years at most: give minutes and seconds that come to 0 or more."
            )
            raise BadSetting(message)
        self._moved += step
