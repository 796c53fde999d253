"""The colour of surface points: what the training cameras that see them would see."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.methods.model import Model
from nerf_pl.ops import composite
from nerf_pl.rendering import evaluating
from nerf_pl.sights import Sight, seen_from
from nerf_pl.types import Samples

BEST = 3  # cameras whose colours are averaged: those that face the surface most
STEPS = (-1.5, -0.5, 0.5, 1.5, 2.5)  # along the ray of a camera, around a point, in cells
AT_ONCE = 2**15  # points
LEAST_LIGHT = 1e-3


@torch.no_grad()
def colours_of(
    model: Model,
    sights: Sequence[Sight],
    points: Float[Tensor, "N 3"],
    normals: Float[Tensor, "N 3"],
    *,
    cell: Float[Tensor, "N"],
    tolerance: Float[Tensor, "N"],
) -> Float[Tensor, "N 3"]:
    """Colours in [0, 1] at points of a surface with these outward normals. cell: the length of a cell, in the world.

    A colour is composited along a short piece of each ray, from in front of the surface to behind it. A point that no
    camera sees is looked at against its normal.
    """
    parts = []
    with evaluating(model):
        for part in zip(*(each.split(AT_ONCE) for each in (points, normals, cell, tolerance)), strict=True):
            parts.append(_colours(model, sights, *part))
    return torch.cat(parts) if parts else points


def _colours(
    model: Model, sights: Sequence[Sight], points: Tensor, normals: Tensor, cell: Tensor, tolerance: Tensor
) -> Tensor:
    facing, ways = [points.new_full((len(points),), 1e-6)], [-normals]
    for seen, way in seen_from(sights, points, tolerance):
        facing.append(torch.where(seen, -(way * normals).sum(1), -1).clamp(min=0))
        ways.append(way)
    best = torch.stack(facing, 1).topk(min(BEST, len(facing)), 1)
    directions = torch.stack(ways, 1).gather(1, best.indices[..., None].expand(-1, -1, 3))  # (N, BEST, 3)
    total = torch.zeros_like(points)
    for i in range(best.indices.shape[1]):
        weight = best.values[:, i, None]
        total += weight * _along(model, points, torch.nn.functional.normalize(directions[:, i], dim=1), cell)
    return (total / best.values.sum(1, keepdim=True)).clamp(0, 1)


def _along(model: Model, points: Tensor, directions: Tensor, cell: Tensor) -> Tensor:
    steps = points.new_tensor(STEPS)
    xyz = points[:, None] + steps[None, :, None] * (cell[:, None] * directions)[:, None]  # (N, S, 3)
    sigma, rgb = model.radiance(xyz.view(-1, 3), directions[:, None].expand_as(xyz).reshape(-1, 3))
    dt = cell[:, None].expand(xyz.shape[:2])
    seen = composite(sigma, rgb, Samples.dense(steps * dt, dt), backend=model.backend)
    light, at_point = seen.opacity[:, None], rgb.view(xyz.shape)[:, len(STEPS) // 2]
    return torch.where(light > LEAST_LIGHT, seen.rgb / light.clamp(min=LEAST_LIGHT), at_point)
