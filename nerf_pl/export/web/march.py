"""Rays through a baked grid: what the page's shader does, in PyTorch."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.cameras import View
from nerf_pl.export.web.colours import shown
from nerf_pl.export.web.grid import BLOCK, Grid
from nerf_pl.export.web.opacity import thickness
from nerf_pl.export.web.pack import Baked
from nerf_pl.export.web.space import Space
from nerf_pl.ops import contract
from nerf_pl.rendering import on_top
from nerf_pl.types import Rays

STEP = 1.0  # in cells
DIM = 1e-3  # a ray ends if less than this share of its light is left


def bounded(grid: Grid, rays: Rays) -> Rays:
    """Rays between the ends of the grid's box, or of all of space."""
    space = grid.space
    if space.middle is not None:
        return rays
    inverse = 1 / torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    a, b = ((rays.origins.new_tensor(end) - rays.origins) * inverse for end in (space.low, space.high))
    near = torch.maximum(rays.near, torch.minimum(a, b).amax(1))
    return replace(rays, near=near, far=torch.minimum(rays.far, torch.maximum(a, b).amin(1)))


@torch.no_grad()
def samples_of(
    grid: Grid, rays: Rays, step: float = STEP
) -> tuple[Int[Tensor, "N"], Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """Where rays meet something: ids of rays, places counted in cells, and the share of the ray's light lost there.

    Samples of a ray are in the order of the way, but not adjacent. Rays are in the space in which the grid is marched.
    """
    space, rays = grid.space, bounded(grid, rays)
    low = rays.origins.new_tensor(space.low)
    t, ids = rays.near.clone(), (rays.far > rays.near).nonzero()[:, 0]
    left = torch.ones_like(t)
    found = []
    size = low.new_tensor(grid.far.shape[::-1], dtype=torch.long)
    while len(ids):
        points = rays.origins[ids] + t[ids, None] * rays.directions[ids]
        places = (space.placed(points) - low) / space.cell
        x, y, z = torch.minimum((places / BLOCK).long().clamp(min=0), size - 1).unbind(1)
        far = grid.far[z, y, x]
        met = (far == 0).nonzero()[:, 0]
        if len(met):
            here = ids[met]
            alpha = 1 - (-step * thickness(grid.at(places[met], grid.values[:, :1])[:, 0])).exp()
            found.append((here, places[met], left[here] * alpha))
            left[here] *= 1 - alpha
        t[ids] += ahead(space, points, far, step)
        ids = ids[(t[ids] < rays.far[ids]) & (left[ids] > DIM)]
    if not found:
        return t.new_zeros(0, dtype=torch.long), t.new_zeros(0, 3), t.new_zeros(0)
    ids, places, weights = (torch.cat(part) for part in zip(*found, strict=True))
    return ids, places, weights


def ahead(space: Space, points: Tensor, far: Tensor, step: float) -> Tensor:
    """The lengths of the ways that rays at points go on: a step or, from an empty block, as far as there is nothing.
    far: see `Grid.far`."""
    empty = (far - 1).clamp(min=0) * float(BLOCK)  # cells that a ray can cross along each axis
    one = step * space.lengths(points)
    if space.middle is None:
        return one * (empty / step).floor().clamp(min=1)
    middle = space.middle.to(points)
    m = contract(points, middle)[1]
    way = 4 * space.cell * empty  # a length in half sides shrinks by 1 at most, and by m / 2 at least, so far out
    way = torch.maximum(way, way * m / (2 + way))
    return torch.maximum(one, way * (middle[1, 0] - middle[0, 0]) / 2)


@torch.no_grad()
def picture(baked: Baked, view: View) -> Float[Tensor, "H W 3"]:
    """The picture of a view, one ray for each pixel."""
    grid, rays = baked.grid, view.rays()
    ids, places, weights = samples_of(grid, rays)
    found = weights[:, None] * grid.at(places)[:, 1:]
    total = found.new_zeros(len(rays), found.shape[1]).index_add(0, ids, found)
    opacity = weights.new_zeros(len(rays)).index_add(0, ids, weights)
    rgb = baked.base[0] * opacity[:, None] + baked.base[1] * total[:, :3]
    strength = 2 * total[:, 3:] - opacity[:, None]
    rgb = rgb + (strength[:, :, None] * shown(baked.table, rays.viewdirs)).sum(1)
    width, height = view.size
    return on_top(rgb, opacity, view.background).clamp(0, 1).view(height, width, 3)
