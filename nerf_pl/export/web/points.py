"""The points of a grid: where a model has a density that the training views see, and how opaque it is there."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.cameras import ndc_rays, pixel_rays
from nerf_pl.console import progress
from nerf_pl.export.web.grid import BLOCK, Grid, blocks_of, points_at
from nerf_pl.export.web.opacity import stored
from nerf_pl.export.web.space import Space
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene
from nerf_pl.sights import Sight, is_seen
from nerf_pl.types import Rays

LEAST_OPACITY = 0.04  # points with less are empty
AT_ONCE = {"cpu": 2**18, "cuda": 2**21}  # points whose views are looked up
ASKED = {"cpu": 2**20, "cuda": 2**23}  # points whose density is asked at once


def solid(model: Model, space: Space, most: int) -> Grid | None:
    """The grid of all points where the model has a density, with opacity alone. None if they are more than `most`."""
    device = model.step.device
    shape = blocks_of(space)
    total = shape[0] * shape[1] * shape[2]
    found, opacities, count = [], [], 0
    per_turn = ASKED[device.type] // BLOCK**3
    with evaluating(model):
        turns = range(0, total, per_turn)
        for start in progress(turns, len(turns), "asking the density"):
            blocks = torch.arange(start, min(start + per_turn, total), device=device)
            # every second point along each axis first: most blocks are empty
            some = torch.tensor([x + BLOCK * (y + BLOCK * z) for z in (0, 2) for y in (0, 2) for x in (0, 2)])
            coarse = _opacities(model, space, blocks[:, None] * BLOCK**3 + some.to(device))
            blocks = blocks[(coarse > LEAST_OPACITY / 4).any(1)]
            numbers = blocks[:, None] * BLOCK**3 + torch.arange(BLOCK**3, device=device)
            opacity = _opacities(model, space, numbers)
            kept = opacity > LEAST_OPACITY
            found.append(numbers[kept])
            opacities.append(opacity[kept])
            count += len(found[-1])
            if count > most:
                return None
    return Grid.of(space, torch.cat(found), torch.cat(opacities)[:, None])


def _opacities(model: Model, space: Space, numbers: Int[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    points = points_at(space, numbers.flatten())
    limits = points.new_tensor(space.counts)
    found = stored(space.thickness(model, points.float()))
    return torch.where((points <= limits).all(1), found, 0).view(numbers.shape)


def random_rays(scene: Scene, count: int, generator: torch.Generator) -> Rays:
    """Rays through random pixels of all views, in the space that the model lives in; on the CPU."""
    cameras = scene.cameras
    ids = torch.randint(len(cameras), (count,), generator=generator)
    within = torch.rand(count, 2, generator=generator)
    sizes = torch.tensor([cameras.size(i) for i in range(len(cameras))])[ids]
    x, y = ((within[:, i] * sizes[:, i]).long() for i in (0, 1))
    rays = pixel_rays(cameras, ids, y * cameras.width + x, scene.near, scene.far)
    rays = replace(rays, near=scene.near_at(cameras.c2w)[ids])
    return rays if scene.ndc is None else ndc_rays(rays, scene.ndc)


def visible(grid: Grid, sights: Sequence[Sight], tolerance: float) -> Grid:
    """The points of a grid that sights see, up to so many cells behind what they show."""
    space = grid.space
    parts = []
    for some in grid.numbers.split(AT_ONCE[grid.numbers.device.type]):
        xyz = space.world(points_at(space, some).float())
        parts.append(is_seen(sights, xyz, tolerance * space.world_lengths(xyz)))
    seen = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool, device=grid.numbers.device)
    return Grid.of(space, grid.numbers[seen], grid.values[seen])
