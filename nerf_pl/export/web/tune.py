"""Tuning of a baked grid, until its rays show what the model's rays show."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.console import progress
from nerf_pl.export.web.colours import shown
from nerf_pl.export.web.march import STEP, samples_of
from nerf_pl.export.web.opacity import thickness
from nerf_pl.export.web.pack import Baked
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating, render_rays
from nerf_pl.types import Rays

RATES = {"opacity": 0.01, "colours": 0.01, "features": 0.02, "table": 0.002}  # of Adam, at the start
BATCH = {"cpu": 2**12, "cuda": 2**17}  # rays
RAYS = {"cpu": 2**16, "cuda": 2**22}  # whose colours the model is asked for
PASSES = {"cpu": 3, "cuda": 4}  # how often each of them is used
SECONDS = {"cpu": 60.0, "cuda": 45.0}  # that the steps take at most, and asking for colours too
LEAST_RATE = 0.1  # at the end, as a share of the start


@dataclass(frozen=True)
class Light:
    """What rays show: colours without a background, and opacities."""

    rgb: Float[Tensor, "R 3"]
    opacity: Float[Tensor, "R"]


def tuned(model: Model, baked: Baked, rays: Rays, chunk: int) -> Baked:
    """The same grid, with values under which the rays show what the model shows along them.

    rays: some may not be used. chunk: rays that the model renders at once. The steps end after SECONDS. The
    rates fall with the time or with the steps that are done, whichever is farther.
    """
    device = baked.grid.values.device
    size, rays = BATCH[device.type], rays[: RAYS[device.type]].to(device)
    wanted = _asked(model, rays, chunk, size)
    rays = rays[: len(wanted.rgb)]
    free = _free(baked)
    groups = [{"params": [free[name].requires_grad_()]} for name in RATES]
    optimizer = torch.optim.Adam(groups)
    steps = PASSES[device.type] * max(len(rays) // size, 1)
    generator = torch.Generator(device).manual_seed(0)
    for share in progress(_until(time.monotonic() + SECONDS[device.type], steps), steps, "tuning the grid"):
        for group, rate in zip(optimizer.param_groups, RATES.values(), strict=True):
            group["lr"] = rate * LEAST_RATE**share
        some = torch.randint(len(rays), (min(size, len(rays)),), generator=generator, device=device)
        target = Light(wanted.rgb[some], wanted.opacity[some])
        loss = difference(_read(baked, free), rays[some], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _read(baked, {name: value.detach() for name, value in free.items()})


def _until(end: float, steps: int) -> Iterator[float]:
    """For each step, which share of the whole is over; no more steps after a time of the clock."""
    start = time.monotonic()
    for step in range(steps):
        share = max(step / steps, (time.monotonic() - start) / (end - start))
        if share >= 1:
            return
        yield share


def _asked(model: Model, rays: Rays, chunk: int, size: int) -> Light:
    """What the model shows along rays, or along the first ones if there are more than it can render in SECONDS."""
    parts, end = [], time.monotonic() + SECONDS[rays.origins.device.type]
    starts = range(0, len(rays), size)
    with evaluating(model):
        for start in progress(starts, len(starts), "rendering"):
            rgb, _, opacity = render_rays(model, rays[start : start + size], None, chunk)
            parts.append((rgb, opacity))
            if time.monotonic() > end:
                break
    rgb, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
    return Light(rgb, opacity)


def difference(baked: Baked, rays: Rays, wanted: Light) -> Float[Tensor, ""]:
    """The mean squared difference between what rays show of a grid and what they should show. Differentiable in the
    grid's values and in the table."""
    found = through(baked, rays)
    return (found.rgb - wanted.rgb).pow(2).mean() + (found.opacity - wanted.opacity).pow(2).mean() / 3


def through(baked: Baked, rays: Rays) -> Light:
    """What rays show of a grid. Differentiable in its values and in the table."""
    ids, places, _ = samples_of(baked.grid, rays)
    order = ids.argsort(stable=True)
    ids, places = ids[order], places[order]
    found = baked.grid.at(places)
    weights = weights_of(STEP * thickness(found[:, 0]), ids)
    total = found.new_zeros(len(rays), found.shape[1] - 1).index_add(0, ids, weights[:, None] * found[:, 1:])
    opacity = found.new_zeros(len(rays)).index_add(0, ids, weights)
    rgb = baked.base[0] * opacity[:, None] + baked.base[1] * total[:, :3]
    strength = 2 * total[:, 3:] - opacity[:, None]
    return Light(rgb + (strength[:, :, None] * shown(baked.table, rays.viewdirs)).sum(1), opacity)


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
