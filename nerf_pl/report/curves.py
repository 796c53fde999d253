"""The curves of a training, from what it logged for TensorBoard."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nerf_pl.console import warn

SECONDS = "train/seconds"  # the axis of the other curves, if the run logged it


@dataclass(frozen=True)
class Curve:
    """Values by training steps; seconds: of training, at each of them; None if the run did not log them."""

    steps: tuple[float, ...]
    values: tuple[float, ...]
    seconds: tuple[float, ...] | None = None

    @property
    def x(self) -> tuple[float, ...]:
        return self.steps if self.seconds is None else self.seconds


def read_curves(logs: Path) -> dict[str, Curve]:
    """The curves in a folder of logs, by their names, such as val/psnr. None if there is no log."""
    if not any(logs.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # takes a while to import

    events = EventAccumulator(str(logs), size_guidance={"scalars": 0, "images": 1})
    try:
        events.Reload()
        found = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    except Exception:  # damaged bytes make the reader raise nearly any type
        warn(f"{logs}: the log of the training cannot be read, so the report has no curves")
        return {}
    found = {name: _in_order(points) for name, points in found.items()}
    clock = found.pop(SECONDS, [])
    return {name: _curve(points, clock) for name, points in found.items() if points}


def _in_order(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The points by rising steps. A run that was resumed from an earlier step has logged some steps twice; the later
    ones count."""
    kept: list[tuple[int, float]] = []
    for step, value in points:
        while kept and kept[-1][0] >= step:
            kept.pop()
        if math.isfinite(value):
            kept.append((step, value))
    return kept


def _curve(points: list[tuple[int, float]], clock: list[tuple[int, float]]) -> Curve:
    steps, values = zip(*points, strict=True)
    at = _times(steps, clock)
    return Curve(tuple(map(float, steps)), tuple(values), at)


def _times(steps: tuple[int, ...], clock: list[tuple[int, float]]) -> tuple[float, ...] | None:
    """Seconds of training at each step, between the known ones by straight lines. None if the clock does not cover
    them, as that of a run that an earlier version began."""
    if not clock or clock[0][0] > steps[0] + max(steps[-1] // 10, 1):
        return None
    known: Mapping[int, float] = dict(clock)
    if all(step in known for step in steps):
        return tuple(known[step] for step in steps)
    import numpy as np

    at, seconds = zip(*clock, strict=True)
    return tuple(np.interp(steps, at, seconds).tolist())


def thinned(curve: Curve, most: int) -> Curve:
    """A curve of at most so many points, each the mean of those that it stands for."""
    n = len(curve.steps)
    if n <= most:
        return curve
    ends = [round(i * n / most) for i in range(most + 1)]

    def means(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(ends))

    seconds = None if curve.seconds is None else means(curve.seconds)
    return Curve(means(curve.steps), means(curve.values), seconds)
