"""Where a surface lies, from what many views see of it: the mean of their signed distances. Curless and Levoy 1996"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf_pl.export.region import Region
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.sights import Sight, pixels_of

LEFT = 2 / 3  # of the light that falls in: there the surface is. docs/log.md, 2026-11-27
AHEAD, BEYOND = 0.12, 0.03  # of the longest side, before the mean depth of a ray and behind: the surface lies between
STEPS = 32  # over that piece of a ray
RAYS = {"cpu": 2**11, "cuda": 2**15}  # at once


def sharpened(model: Model, sights: Sequence[Sight], region: Region) -> list[Sight]:
    """The sights, with rays that end where they have lost a third of their light.

    The mean depth of a ray lies behind the surface where the density rises slowly, as it does after a short training,
    and far behind it where something shiny is learned as a window to its mirror image.
    """
    with evaluating(model):
        return [_sharpened(model, sight, region) for sight in sights]


@torch.no_grad()
def _sharpened(model: Model, sight: Sight, region: Region) -> Sight:
    ends, points = sight.ends, sight.points[sight.ends]
    origin, distance = sight.camera.c2w[0, :, 3], sight.distance[ends]
    ways = (points - origin) / distance[:, None]
    size = float(region.sides.max()) * region.lengths(points)
    pieces = ways, (distance - AHEAD * size).clamp(min=0), distance + BEYOND * size, distance
    parts = zip(*(each.split(RAYS[points.device.type]) for each in pieces), strict=True)
    found = [depth_of(model, origin, *part) for part in parts]
    if not found:
        return sight
    new = torch.cat(found)
    distances, places = sight.distance.clone(), sight.points.clone()
    distances[ends], places[ends] = new, origin + new[:, None] * ways
    return replace(sight, distance=distances, points=places)


def depth_of(
    model: Model,
    origin: Float[Tensor, "3"],
    ways: Float[Tensor, "R 3"],
    start: Float[Tensor, "R"],
    stop: Float[Tensor, "R"],
    otherwise: Float[Tensor, "R"],
) -> Float[Tensor, "R"]:
    """The distance at which unit rays have lost a third of their light between start and stop; `otherwise` if they lose
    less."""
    dt = (stop - start) / STEPS
    t = start[:, None] + dt[:, None] * (torch.arange(STEPS, device=dt.device) + 0.5)  # (R, STEPS)
    density = model.density((origin + t[..., None] * ways[:, None]).view(-1, 3)).view(t.shape)
    tau = (density * dt[:, None]).cumsum(1)
    wanted = -math.log(LEFT)
    number = (tau < wanted).sum(1).clamp(max=STEPS - 1)[:, None]
    after, within = tau.gather(1, number)[:, 0], density.gather(1, number)[:, 0] * dt
    share = 1 - (after - wanted) / within.clamp(min=1e-9)
    depth = t.gather(1, number)[:, 0] + (share - 0.5) * dt
    return torch.where(tau[:, -1] >= wanted, depth, otherwise)


def fused(
    sights: Sequence[Sight], points: Float[Tensor, "N 3"], band: Float[Tensor, "N"], jump: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """From -1, well in front of the surface, to 1, `band` behind it; nan where no view sees the point.

    What lies farther than `band` behind a surface, a view does not see. jump: depths of neighbouring pixels that differ
    by more are not mixed.
    """
    total, weights = torch.zeros_like(band), torch.zeros_like(band)
    for sight in sights:
        inside, pixel, xy = pixels_of(sight.camera, points)
        before = _depths(sight, xy, pixel, jump) - (points - sight.camera.c2w[0, :, 3]).norm(dim=1)
        seen = inside & (before > -band)
        # a view counts less the farther behind its surface: thin things have another side
        weight = torch.where(seen, (1 + before / band).clamp(max=1), 0)
        total += torch.where(seen, weight * (-before / band).clamp(min=-1), 0)
        weights += weight
    return torch.where(weights > 0, total / weights.clamp(min=1e-9), torch.nan)


def _depths(sight: Sight, xy: Float[Tensor, "N 2"], pixel: Tensor, jump: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The distance that a view sees at continuous pixels: between those around, if they belong to one surface."""
    height, width = sight.distance.shape
    map_ = sight.distance[None, None]
    known = torch.where(map_.isfinite(), map_, 0)
    farthest, nearest = F.max_pool2d(map_, 3, 1, 1).flatten()[pixel], -F.max_pool2d(-map_, 3, 1, 1).flatten()[pixel]
    at = (xy / xy.new_tensor([width, height]) * 2 - 1)[None, None]
    between = F.grid_sample(known, at, padding_mode="border", align_corners=False).flatten()
    return torch.where(farthest - nearest < jump, between, sight.distance.flatten()[pixel])
