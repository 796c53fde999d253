"""Which views a validation renders, and how many pixels of each: what a tenth of the training time allows."""

import math
import time
from dataclasses import dataclass

from nerf_pl.cameras import View
from nerf_pl.methods.model import Model
from nerf_pl.rendering import render_lattice
from nerf_pl.scenes import Scene
from nerf_pl.text import counted

SHARE = 0.1  # of the training's time
LEAST_SECONDS = 0.5  # a validation may take these in any case
PROBE = 64  # pixels, rendered to time one, at first: a thousand take seconds where fog is everywhere, as at first
ENOUGH_SECONDS = 0.05  # least time of a measurement that counts
LATTICES = (1, 2, 3, 4, 5, 6, 8)  # every so many pixels along rows and columns, before views are left out
COARSEST = 32


@dataclass(frozen=True)
class Plan:
    """views: indices of the views to render. every: the distance of rendered pixels along rows and columns."""

    views: tuple[int, ...]
    every: int = 1

    def describe(self) -> str:
        which = "all pixels" if self.every == 1 else f"one pixel in {self.every**2}"
        views = counted(len(self.views), "view")
        return f"validation looks at {which} of {views}, to take no more than a tenth of the time"


def plan(n_views: int, most: int, pixels: int, pixel_seconds: float, budget: float) -> Plan:
    """The plan that fits into a budget of seconds: at most `most` of n_views, evenly spread. pixels: of a view.

    The plan first takes fewer pixels of each view, evenly spread, then fewer views, because the score of one view says
    little about the others.
    """
    most = min(most, n_views)
    affordable = max(budget, 1e-12) / max(pixel_seconds, 1e-12)
    every = next((k for k in LATTICES if most * pixels / k**2 <= affordable), LATTICES[-1])
    n = max(min(most, int(affordable * every**2 / pixels)), 1)
    if n * pixels / every**2 > affordable:
        every = min(max(math.ceil(math.sqrt(pixels / affordable)), every), COARSEST)
    return Plan(tuple(round(i * (n_views - 1) / max(n - 1, 1)) for i in range(n)), every)


def probe(model: Model, scene: Scene, chunk: int) -> float:
    """Seconds that the model takes to render a pixel of the scene's first view.

    It renders more and more pixels, until their time outweighs the fixed cost of a call.
    """
    view = scene.view(0)
    width, height = view.size
    every = max(math.isqrt(width * height // PROBE), 1)
    _timed_lattice(model, view, every, chunk)  # the first call compiles
    while True:
        seconds, n = _timed_lattice(model, view, every, chunk)
        if seconds > ENOUGH_SECONDS or every == 1:
            return seconds / n
        every = max(every // 2, 1)


def _timed_lattice(model: Model, view: View, every: int, chunk: int) -> tuple[float, int]:
    """Seconds to render some pixels of a view, and the number of these pixels."""
    start = time.perf_counter()
    opacity = render_lattice(model, view, every, chunk).opacity
    float(opacity.sum())  # waits for the device
    return time.perf_counter() - start, opacity.numel()
