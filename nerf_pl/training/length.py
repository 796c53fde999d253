"""How long a training is, and how far it is: by steps, by the clock, or by whichever ends first."""

import math

from nerf_pl.options import EPOCHS, TrainOptions
from nerf_pl.training.validation import LEAST_SECONDS, SHARE

CHUNK_SECONDS = 0.4  # of steps without Lightning; logging, callbacks and the clock come between two chunks
TIMED_PASSES, PASS_SECONDS = 4, 5.0  # a training that ends by the clock: most validations, least time between two
AROUND_SECONDS = 0.8  # of a validation, before and after its pictures: to plan it, for the log and checkpoints
NEARLY = 0.1  # of a pass by the clock, by which it may be longer or shorter
LEAST_REST = 0.02  # share of a training that ends by the clock


class Length:
    """When a training ends and when it validates, where it is now, and how many steps to take at once.

    steps_per_epoch: an epoch is about as many rays as there are pixels. fixed_batches: see `methods.model.Model`.
    validates: whether there are views for it. step: of the run, those before a resume included. train_seconds: of all
    steps, without validations. step_seconds: of one step, as last measured.
    """

    def __init__(self, options: TrainOptions, steps_per_epoch: int, *, fixed_batches: bool, validates: bool):
        self.seconds, self.max_steps = options.seconds, options.max_steps
        self.num_epochs, self.steps_per_epoch = options.num_epochs or EPOCHS, steps_per_epoch
        self._by_epochs = self.max_steps is None and self.seconds is None
        if self._by_epochs:
            self.max_steps = math.ceil(self.num_epochs * steps_per_epoch)
        self.validates, self._asked, self._fixed_batches = validates, options.val_every, fixed_batches
        self.step = 0
        self._ahead = 0  # steps that count as taken besides, see `go_on`
        self.train_seconds = 0.0
        self.step_seconds = 0.0
        self._pass_end, self._pass_chunks = 0.0, 0  # of a pass by the clock: training seconds at its end, its chunks

    def go_on(self, step: int, train_seconds: float, epochs: float | None) -> None:
        """Continue a training after so many steps. epochs: those it has taken; None if that is not known. With another
        number of processes, or other batches, they are other than as many steps would be now."""
        self.step, self.train_seconds = step, train_seconds
        if self._by_epochs and self.max_steps is not None and epochs is not None:
            self._ahead = round(epochs * self.steps_per_epoch) - step
            self.max_steps -= self._ahead

    @property
    def epochs(self) -> float:
        """Those that are done, of a training whose length is in epochs."""
        return (self.step + self._ahead) / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 to 1."""
        by_time = self.train_seconds / self.seconds if self.seconds else 0.0
        steps = self.step + self._ahead
        by_steps = 0.0 if self.max_steps is None else steps / (self.max_steps + self._ahead)
        return min(max(by_time, by_steps), 1.0)  # whichever ends first

    @property
    def finished(self) -> bool:
        """Whether there are no steps left, or no time for another one."""
        if self.seconds is None:
            return self.progress >= 1
        # a rest that is too short for a chunk is not worth another validation
        rest = max(self.step_seconds / 2, min(CHUNK_SECONDS / 2, LEAST_REST * self.seconds))
        return self.progress >= 1 or self.seconds - self.train_seconds < rest

    def spend(self, seconds: float, steps: int) -> None:
        """So many steps, the last ones, took so long."""
        self.train_seconds += seconds
        self.step_seconds = seconds / steps

    def seconds_left(self, step_seconds: float, val_seconds: float, stretch: float = 1.0) -> float:
        """How long the rest of the training takes, if a step and a validation take as long as is said.

        val_seconds: 0 as long as that is not known. stretch: how much longer than the steps is the time from one to the
        next, because of what is done between them.
        """
        left = self._left(step_seconds) * stretch
        if not self.validates:
            return left
        # it may take all of the plan, or little
        by_plan = max(SHARE * self.pass_seconds(step_seconds), LEAST_SECONDS) / 2 + AROUND_SECONDS
        return left + self.passes_left(step_seconds) * (val_seconds or by_plan)

    def passes_left(self, step_seconds: float) -> int:
        """Validations to come or, without any, as many times to save."""
        if self.max_steps is not None and self.seconds is None:
            return -(-self.max_steps // self.val_every) - self.step // self.val_every
        passes = self._left(step_seconds) / self.pass_seconds(step_seconds)
        return max(math.ceil(passes - NEARLY), 1)  # a pass may end a little late or early; the last one is to come

    def _left(self, step_seconds: float) -> float:
        """Seconds of training to come."""
        steps = math.inf if self.max_steps is None else self.max_steps - self.step
        seconds = math.inf if self.seconds is None else self.seconds - self.train_seconds
        return 0.0 if self.finished else max(min(seconds, steps * step_seconds), 0.0)

    # ---- from one validation to the next -----------------------------------------------------------------------------

    @property
    def val_every(self) -> int:
        """Steps of a pass, which ends at a validation, if the clock does not set its end."""
        tenth = self.steps_per_epoch if self.max_steps is None else self.max_steps // 10
        by_default = min(self.steps_per_epoch, tenth) if self._fixed_batches else tenth
        return self._asked or max(by_default, 1)

    @property
    def _share(self) -> float | None:
        """Seconds of a pass, if the clock sets its end."""
        if self.seconds is None or self._asked is not None:
            return None
        return self.seconds / int(min(max(self.seconds / PASS_SECONDS, 1), TIMED_PASSES))

    def pass_seconds(self, step_seconds: float) -> float:
        """Training seconds of a pass, if a step takes as long as is said."""
        return self.val_every * step_seconds if self._share is None else self._share

    def next_chunks(self) -> list[int]:
        """Numbers of steps to take at once, up to the next validation. 0 means as many as the time allows."""
        if (share := self._share) is not None:
            # rounded, since a pass ends a little before or after its share of the time
            self._pass_end = share * (round(self.train_seconds / share) + 1)
            left = self._pass_end - self.train_seconds
            self._pass_chunks = max(math.ceil(left / max(CHUNK_SECONDS, self.step_seconds)), 1)
            return [0] * self._pass_chunks
        total = self.val_every - self.step % self.val_every
        if self.max_steps is not None:
            total = min(total, self.max_steps - self.step)
        n = max(min(round(total * self.step_seconds / CHUNK_SECONDS), total), 1)
        return [total * (i + 1) // n - total * i // n for i in range(n)]

    def chunk(self, asked: int, index: int) -> int:
        """Steps to take in this chunk of the pass: as many as asked for, within the steps and the time left."""
        left = math.inf if self.max_steps is None else self.max_steps - self.step
        if not asked:
            asked = round((self._pass_end - self.train_seconds) / (self._pass_chunks - index) / self.step_seconds)
        if self.seconds is not None:
            left = min(left, int((self.seconds - self.train_seconds) / self.step_seconds))
        return int(max(min(asked, left), 1))
