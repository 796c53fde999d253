"""Tuning of a baked grid, until its rays show what the model's rays show."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.console import progress
from nerf_pl.export.web.colours import shown
from nerf_pl.export.web.grid import Grid
from nerf_pl.export.web.march import STEP, samples_of
from nerf_pl.export.web.opacity import thickness
from nerf_pl.export.web.pack import Baked
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating, render_rays
from nerf_pl.types import Rays

RATES = {"opacity": 0.01, "colours": 0.01, "features": 0.02, "table": 0.002}  # of Adam, at the start
BATCH = {"cpu": 2**12, "cuda": 2**13}  # rays of a step at least; as many more as meet each point once, about
MARCHED = {"cpu": 2**16, "cuda": 2**19}  # rays that go through a grid at once
AT_ONCE = {"cpu": 2**12, "cuda": 2**17}  # rays that the model is asked for before the clock is read
RAYS = {"cpu": 2**19, "cuda": 2**21}  # whose colours the model is asked for
PASSES = {"cpu": 2, "cuda": 6}  # how often each of them is used
MOST = {"cpu": 2**25, "cuda": 2**27}  # samples that are kept, of 24 bytes each; of fog a ray has hundreds
SECONDS = {"cpu": 60.0, "cuda": 45.0}  # that the steps take at most; so do asking for colours and marching
LEAST_RATE = 0.1  # at the end, as a share of the start
ROUGH = 0.04  # a root mean square error of colours; where it is smaller, so are the rates


@dataclass(frozen=True)
class Light:
    """What rays show: colours without a background, and opacities."""

    rgb: Float[Tensor, "R 3"]
    opacity: Float[Tensor, "R"]


@dataclass(frozen=True)
class Ways:
    """Rays, and the samples along them where there is something: ids (N,) of their rays, in ascending order, places
    counted in cells, and weights, the shares of the ray's light that are lost there."""

    rays: Rays
    ids: Int[Tensor, "N"]
    places: Float[Tensor, "N 3"]
    weights: Float[Tensor, "N"]

    def part(self, start: int, end: int) -> "Ways":
        """Those of some of the rays."""
        ends = torch.tensor([start, end], device=self.ids.device)
        own = slice(*torch.searchsorted(self.ids, ends).tolist())
        return Ways(self.rays[start:end], self.ids[own] - start, self.places[own], self.weights[own])


def ways_of(grid: Grid, rays: Rays) -> Ways:
    """The samples of rays through a grid, which lie where they are whatever the colours and opacities."""
    ids, places, weights = samples_of(grid, rays)
    order = ids.argsort(stable=True)
    return Ways(rays, ids[order], places[order], weights[order])


def all_ways(grid: Grid, rays: Rays) -> list[Ways]:
    """The samples of many rays, those of a step together; or of the first ones, if all would take more than SECONDS
    or be more than MOST. rays: on any device."""
    device, found, size, kept = grid.numbers.device, [], 0, 0
    end = time.monotonic() + SECONDS[device.type]
    parts = range(0, len(rays), MARCHED[device.type])
    for start in progress(parts, len(parts), "looking for what shows"):
        ways = ways_of(grid, rays[start : start + MARCHED[device.type]].to(device))
        size = size or _batch(len(grid.numbers), ways)
        found += [ways.part(i, min(i + size, len(ways.rays))) for i in range(0, len(ways.rays), size)]
        kept += len(ways.ids)
        if time.monotonic() > end or kept > MOST[device.type]:
            break
    return found


def _batch(points: int, ways: Ways) -> int:
    """Of how many rays the samples are next to about as many points as there are. Fewer make steps of noise."""
    rays = points * len(ways.rays) / (8 * max(len(ways.ids), 1))
    return max(BATCH[ways.ids.device.type], min(2 ** round(math.log2(max(rays, 1))), len(ways.rays)))


def tuned(model: Model, baked: Baked, ways: Sequence[Ways], chunk: int) -> Baked:
    """The same grid, with values under which the rays show what the model shows along them.

    ways: of all rays; some may not be used. chunk: rays that the model renders at once. Asking the model ends after
    SECONDS, and so do the steps. The rates fall with the time or with the steps that are done, whichever is farther.
    The last rays only say whether the grid became better. If it did not, it stays as it was.
    """
    device = baked.grid.values.device
    known = list(_asked(model, ways, chunk))
    check = known.pop() if len(known) > 1 else known[0]
    with torch.no_grad():
        before = float(difference(baked, *check))
    pace = min(math.sqrt(before) / ROUGH, 1)
    free = _free(baked)
    groups = [{"params": [free[name].requires_grad_()]} for name in RATES]
    optimizer = torch.optim.Adam(groups)
    steps = PASSES[device.type] * len(known)
    for step, share in progress(_until(time.monotonic() + SECONDS[device.type], steps), steps, "tuning the grid"):
        for group, rate in zip(optimizer.param_groups, RATES.values(), strict=True):
            group["lr"] = pace * rate * LEAST_RATE**share
        some, wanted = known[step % len(known)]
        loss = difference(_read(baked, free), some, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = _read(baked, {name: value.detach() for name, value in free.items()})
    return found if float(difference(found, *check)) < before else baked


def _until(end: float, steps: int) -> Iterator[tuple[int, float]]:
    """The number of each step, and which share of the whole is over; no more steps after a time of the clock."""
    start = time.monotonic()
    for step in range(steps):
        share = max(step / steps, (time.monotonic() - start) / (end - start))
        if share >= 1:
            return
        yield step, share


def _asked(model: Model, ways: Sequence[Ways], chunk: int) -> Iterator[tuple[Ways, Light]]:
    """What the model shows along rays, or along the first ones if there are more than it can render in SECONDS."""
    device = model.step.device.type
    end, left = time.monotonic() + SECONDS[device], RAYS[device]
    with evaluating(model):
        for some in progress(ways, len(ways), "rendering"):
            parts, size = [], min(len(some.rays), left)
            for start in range(0, size, AT_ONCE[device]):
                rgb, _, opacity = render_rays(model, some.rays[start : min(start + AT_ONCE[device], size)], None, chunk)
                parts.append((rgb, opacity))
                if time.monotonic() > end:
                    break
            if not parts:
                return
            rgb, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
            left -= len(rgb)
            yield some.part(0, len(rgb)), Light(rgb, opacity)
            if len(rgb) < len(some.rays) or time.monotonic() > end:
                return


def difference(baked: Baked, ways: Ways, wanted: Light) -> Float[Tensor, ""]:
    """The mean squared difference between what rays show of a grid and what they should show. Differentiable in the
    grid's values and in the table."""
    found = along(baked, ways)
    return (found.rgb - wanted.rgb).pow(2).mean() + (found.opacity - wanted.opacity).pow(2).mean() / 3


def through(baked: Baked, rays: Rays) -> Light:
    """What rays show of a grid. Differentiable in its values and in the table."""
    return along(baked, ways_of(baked.grid, rays))


def along(baked: Baked, ways: Ways) -> Light:
    """What rays show of a grid. Differentiable in its values and in the table."""
    ids, count, viewdirs = ways.ids, len(ways.rays), ways.rays.viewdirs
    found = baked.grid.at(ways.places)
    weights = weights_of(STEP * thickness(found[:, 0]), ids)
    total = found.new_zeros(count, found.shape[1] - 1).index_add(0, ids, weights[:, None] * found[:, 1:])
    opacity = found.new_zeros(count).index_add(0, ids, weights)
    rgb = baked.base[0] * opacity[:, None] + baked.base[1] * total[:, :3]
    strength = 2 * total[:, 3:] - opacity[:, None]
    return Light(rgb + (strength[:, :, None] * shown(baked.table, viewdirs)).sum(1), opacity)


def weights_of(thicknesses: Float[Tensor, "N"], ids: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The share of each ray's light that its samples take, front to back. ids: of the rays, in ascending order."""
    tau = thicknesses.double()
    before = tau.cumsum(0) - tau
    first = torch.ones_like(ids, dtype=torch.bool)
    first[1:] = ids[1:] != ids[:-1]
    start = before[first][first.long().cumsum(0) - 1]
    return ((start - before).exp() * (1 - (-tau).exp())).float()


def _free(baked: Baked) -> dict[str, Tensor]:
    """The values and the table as numbers that can be tuned freely."""
    values = baked.grid.values.clone().split([1, 3, len(baked.table)], 1)
    return dict(zip(RATES, (*(part.contiguous() for part in values), baked.table.clone()), strict=True))


def _read(baked: Baked, free: dict[str, Tensor]) -> Baked:
    parts = free["opacity"].clamp(1 / 255, 1), free["colours"].clamp(0, 1), free["features"].clamp(0, 1)
    return replace(baked, grid=replace(baked.grid, values=torch.cat(parts, 1)), table=free["table"])
