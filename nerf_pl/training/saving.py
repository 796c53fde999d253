"""How much of a training's time saving takes, and may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.05  # of the time since a training began that saving may take before its next checkpoint waits
LEAST_SECONDS = 1.0  # that it may take in any case


class Saving:
    """Watches the clock while something is saved.

    each: seconds that the last validation took to save what it had to.
    """

    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.each = self._spent = 0.0
        self._began, self._before = self.clock(), 0.0  # when the training began, and what was spent before

    def begin(self) -> None:
        """The training begins."""
        self._began, self._before = self.clock(), self._spent

    @contextmanager
    def counted(self) -> Iterator[None]:
        """The block saves something."""
        start = self.clock()
        yield
        self._spent += self.clock() - start

    @contextmanager
    def of_a_validation(self) -> Iterator[None]:
        """The block saves all that is saved after a validation, with `counted`."""
        before = self._spent
        yield
        self.each = self._spent - before

    def clock_of_all_else(self) -> float:
        """Seconds by a clock that stands still while something is saved."""
        return self.clock() - self._spent

    @property
    def must_wait(self) -> bool:
        """Whether saving has taken too much of the time."""
        return self._room() < 0

    def seconds_left(self, validations: int, seconds: float) -> float:
        """How long saving takes from now on. validations: those to come, of which the last one saves in any case.
        seconds: that all else takes."""
        if validations < 1 or not self.each:
            return 0.0
        room = self._room(seconds)
        others = 0 if room < 0 else int(room // self.each) + 1
        return self.each * (min(others, validations - 1) + 1)

    def _room(self, seconds: float = 0.0) -> float:
        """Seconds that saving may still take, so many seconds from now."""
        return max(SHARE * (self.clock() + seconds - self._began), LEAST_SECONDS) - (self._spent - self._before)
