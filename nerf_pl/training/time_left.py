"""How long the rest of a training takes, by what its steps and validations have taken of late."""

from collections import deque
from typing import NamedTuple

from nerf_pl.training.length import Length
from nerf_pl.training.saving import Saving

RECENT, FEWEST = 0.3, 4  # share of the time so far, and chunks of steps at least, that tell how long a step takes now


class Mark(NamedTuple):
    """How far a training was. active: seconds of the clock so far, without those of validations."""

    active: float
    step: int
    train_seconds: float


class TimeLeft:
    """Watches the clock while a training goes on.

    A step takes longer than the training counts, because logging and the progress bar come between. A validation
    takes longer than its pictures. Both are measured, without what saving takes: not all validations save.
    """

    def __init__(self, saving: Saving | None = None) -> None:
        self.saving = saving or Saving()
        self.marks: deque[Mark] = deque()
        self.val_seconds = 0.0  # of the last validation; 0 until there was one
        self._last = self._active = 0.0
        self._paused_at: float | None = None

    def begin(self, length: Length) -> None:
        """The first step is about to come."""
        self._last = self.saving.clock_of_all_else()
        self.marks.append(Mark(self._active, length.step, length.train_seconds))

    def stepped(self, length: Length) -> None:
        """Some steps were taken."""
        self.go_on()
        now = self.saving.clock_of_all_else()
        self._active, self._last = self._active + now - self._last, now
        self.marks.append(Mark(self._active, length.step, length.train_seconds))
        first = self._active * (1 - RECENT)
        while len(self.marks) > FEWEST + 1 and self.marks[1].active <= first:
            self.marks.popleft()

    def pause(self) -> None:
        """A validation begins."""
        self._paused_at = self.saving.clock_of_all_else()
        self._active += self._paused_at - self._last

    def go_on(self) -> None:
        """The validation is over. Does nothing without a validation."""
        if self._paused_at is not None:
            self._last = self.saving.clock_of_all_else()
            self.val_seconds, self._paused_at = self._last - self._paused_at, None

    def seconds(self, length: Length) -> float:
        """How long the rest takes."""
        first, last = (self.marks[0], self.marks[-1]) if self.marks else (Mark(0, 0, 0), Mark(0, 0, 0))
        spent, steps = last.train_seconds - first.train_seconds, last.step - first.step
        pace = spent / steps if steps > 0 else length.step_seconds
        stretch = (last.active - first.active) / spent if spent > 0 else 1.0
        so_far = 0.0 if self._paused_at is None else self.saving.clock_of_all_else() - self._paused_at
        left = length.seconds_left(pace, max(self.val_seconds, so_far), max(stretch, 1.0))
        return left + self.saving.seconds_left(length.passes_left(pace), left)
