"""The points of a grid: where a model has a density that the training views see, and how opaque it is there."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.cameras import ndc_rays, pixel_rays
from nerf_pl.console import progress
from nerf_pl.export.web.grid import BLOCK, Grid, blocks_of, numbers_of, points_at
from nerf_pl.export.web.march import samples_of
from nerf_pl.export.web.space import Space
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene
from nerf_pl.types import Rays

LEAST_ALPHA = 0.004  # below it, 8 bits would say 0 or 1
LEAST_WEIGHT = 0.01  # a point that no ray sees more of is left out
ROUNDS, FEW = 12, 0.01  # at most so many; few points are this share of all
AT_ONCE = {"cpu": 2**13, "cuda": 2**16}  # rays


def solid(model: Model, space: Space, most: int) -> Grid | None:
    """The grid of all points where the model has a density, with alpha alone. None if they are more than `most`."""
    device = model.step.device
    shape = blocks_of(space)
    total = shape[0] * shape[1] * shape[2]
    found, alphas, count = [], [], 0
    per_turn = max(2**20 // BLOCK**3, 1)
    with evaluating(model):
        turns = range(0, total, per_turn)
        for start in progress(turns, len(turns), "asking the density"):
            blocks = torch.arange(start, min(start + per_turn, total), device=device)
            # every second point along each axis first: most blocks are empty
            some = torch.tensor([x + BLOCK * (y + BLOCK * z) for z in (0, 2) for y in (0, 2) for x in (0, 2)])
            coarse = _alphas(model, space, blocks[:, None] * BLOCK**3 + some.to(device))
            blocks = blocks[(coarse > LEAST_ALPHA / 4).any(1)]
            numbers = blocks[:, None] * BLOCK**3 + torch.arange(BLOCK**3, device=device)
            alpha = _alphas(model, space, numbers)
            kept = alpha > LEAST_ALPHA
            found.append(numbers[kept])
            alphas.append(alpha[kept])
            count += len(found[-1])
            if count > most:
                return None
    return Grid.of(space, torch.cat(found), torch.cat(alphas)[:, None])


def _alphas(model: Model, space: Space, numbers: Int[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    points = points_at(space, numbers.flatten())
    limits = points.new_tensor(space.counts)
    alpha = space.alphas(model, points.float())
    return torch.where((points <= limits).all(1), alpha, 0).view(numbers.shape)


def random_rays(scene: Scene, count: int, generator: torch.Generator) -> Rays:
    """Rays through random pixels of all views, in the space that the model lives in; on the CPU."""
    cameras = scene.cameras
    ids = torch.randint(len(cameras), (count,), generator=generator)
    within = torch.rand(count, 2, generator=generator)
    sizes = torch.tensor([cameras.size(i) for i in range(len(cameras))])[ids]
    x, y = ((within[:, i] * sizes[:, i]).long() for i in (0, 1))
    rays = pixel_rays(cameras, ids, y * cameras.width + x, scene.near, scene.far)
    return rays if scene.ndc is None else ndc_rays(rays, scene.ndc)


def visible(grid: Grid, scene: Scene, count: int) -> Grid:
    """The points of a grid that the views of a scene see, see LEAST_WEIGHT. count: rays at a time. There are more until
    few points are new."""
    generator, device = torch.Generator().manual_seed(1), grid.values.device
    most, before = torch.zeros(len(grid.numbers), device=device), 0
    for _ in progress(range(ROUNDS), ROUNDS, "looking for what is seen"):
        for part in _parts(random_rays(scene, count, generator), AT_ONCE[device.type]):
            _, places, weights = samples_of(grid, part.to(device))
            rows, shares = grid.corners(places)
            kept = rows < len(most)
            most.scatter_reduce_(0, rows[kept], (weights[:, None] * shares.sqrt())[kept], "amax")
        now = int((most > LEAST_WEIGHT).sum())
        if now - before <= FEW * now:
            break
        before = now
    seen = _closed(grid, most > LEAST_WEIGHT)
    return Grid.of(grid.space, grid.numbers[seen], grid.values[seen])


def _parts(rays: Rays, size: int) -> Iterator[Rays]:
    yield from (rays[start : start + size] for start in range(0, len(rays), size))


def _closed(grid: Grid, seen: Bool[Tensor, "P"]) -> Bool[Tensor, "P"]:
    """The points that are seen, and those with two such neighbours: no ray happened to pass near them, and without them
    a surface would have holes."""
    points, total = points_at(grid.space, grid.numbers), torch.zeros_like(grid.numbers)
    for axis in range(3):
        for way in (-1, 1):
            other = points.clone()
            other[:, axis] += way
            numbers = numbers_of(grid.space, other)
            row = torch.searchsorted(grid.numbers, numbers).clamp(max=len(numbers) - 1)
            total += seen[row] & (grid.numbers[row] == numbers)
    return seen | (total >= 2)
