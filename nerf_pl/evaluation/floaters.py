"""Floaters: fog, crumbs and walls that hang in front of a camera, where there is nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.cameras import View
from nerf_pl.rendering import Renderer, evaluating, render_rays
from nerf_pl.scenes import Scene
from nerf_pl.sights import Sight, ends_of, look, pixels_of, small

VIEWS, SIDE = 20, {"cpu": 48, "cuda": 128}  # of the training that are looked at; pixels of their longer side
LOOKED_AT = 128  # pixels of the longer side of a view that is judged
CELLS = 32  # along the longer side of it, in each of which it is known or not how far rays are free
FREE = 0.8  # of the way to the first surface
SAME, BEYOND = 0.05, 1.15  # of a distance: how far surfaces that agree may be apart, and what is clearly behind
WITNESSES = 3  # that must agree on a surface
TURNED = 0.5  # cosine of the angle up to which what one camera sees is what another one would see there
SPACING = 2.0  # pixels between points of a surface that is seen at a slant
LEAST = 0.05  # of a view that must be judged


@dataclass(frozen=True)
class Surfaces:
    """Places on surfaces. towards: unit directions to the cameras that see them. size: how far their neighbours are
    away, in the world."""

    points: Float[Tensor, "N 3"]
    towards: Float[Tensor, "N 3"]
    size: Float[Tensor, "N"]

    def __getitem__(self, kept: Tensor) -> "Surfaces":
        return Surfaces(self.points[kept], self.towards[kept], self.size[kept])


@torch.no_grad()
def floater_shares(model: Renderer, scene: Scene, training: Scene, chunk: int) -> list[float]:
    """For each view the share of its light that comes from where other views say that there is nothing.

    In a part of a view, rays are free up to FREE of the way to the first surface on which several views of the training
    agree, or to the first sparse point that its photo is known to see. A floater is no such surface: the cameras behind
    it see it, and few others look there. So the share does not depend on where rays begin, but it misses what most
    cameras see, for that is a surface to them. Parts where nothing is known do not count; a view that has
    little else has nan. Pixels that a mask leaves out do not count.

    scene: the views that are judged. training: the views that say what is free; pictures are not needed. chunk: rays at
    a time.
    """
    sides = SIDE["cuda" if model.step.device.type == "cuda" else "cpu"]
    sights = look(model, training, chunk, most=VIEWS, side=sides)
    surfaces = agreed(sights)
    shares = []
    for i in range(len(scene)):
        view = small(scene.view(i), LOOKED_AT).to(model.step.device)
        points = None if scene.seen is None else scene.seen[i].to(surfaces.points)
        shares.append(_share(model, view, free_ways(view, surfaces, points), scene.mask(i), chunk))
    return shares


def agreed(sights: Sequence[Sight]) -> Surfaces:
    """The places where rays end, as WITNESSES other cameras see it, and more than those that see through there."""
    points = ends_of(sights)
    own = torch.cat([torch.full_like(each.distance[each.ends], i) for i, each in enumerate(sights)])
    distance = torch.cat([each.distance[each.ends] for each in sights])
    centres = torch.stack([each.camera.c2w[0, :, 3] for each in sights])[own.long()]
    pixel = torch.stack([SPACING / each.camera.K[0, 0, 0] for each in sights])[own.long()]
    found = Surfaces(points, F.normalize(centres - points, dim=1), pixel * distance)
    same, through = torch.zeros_like(own), torch.zeros_like(own)
    for i, each in enumerate(sights):
        inside, pixels, _ = pixels_of(each.camera, points)
        way = (points - each.camera.c2w[0, :, 3]).norm(dim=1)
        # (9, H W): a pixel and those around it, so that neither the edges of things nor coarse pixels matter
        around = F.unfold(F.pad(each.distance.clamp(max=1e9)[None, None], (1, 1, 1, 1), mode="replicate"), 3)[0]
        ratio = around[:, pixels] / way
        inside &= own != i
        same += inside & ((ratio - 1).abs() < SAME).any(0)
        through += inside & (ratio > BEYOND).all(0)
    return found[(same >= WITNESSES) & (same > through)]


def free_ways(view: View, surfaces: Surfaces, points: Float[Tensor, "P 3"] | None = None) -> Float[Tensor, "h w"]:
    """How far the rays of a view are free, in cells of the picture; inf where nothing says so. surfaces: see `agreed`.
    points: that the photo is known to see, which tell more than surfaces, where there are any."""
    cells = small(view, CELLS)
    width, height = cells.size
    towards = F.normalize(view.camera.c2w[0, :, 3] - surfaces.points, dim=1)
    surfaces = surfaces[(towards * surfaces.towards).sum(1) > TURNED]  # the back of a thing shows nothing of its front
    ways, free = _ways(view, surfaces.points), torch.full((1, 1, height, width), torch.inf, device=towards.device)
    # a camera that is closer than those that saw the surface sees it in larger pieces, between which there is no way
    pieces = surfaces.size / ways * float(cells.camera.K[0, 0, 0])
    side = 1
    while side < 2 * CELLS:
        kept = pieces <= side if side == 1 else (pieces > side / 2) & (pieces <= side)
        coarse = _nearest(small(view, max(CELLS // side, 1)), surfaces.points[kept])
        free = torch.minimum(free, F.interpolate(coarse[None, None], (height, width), mode="nearest"))
        side *= 2
    free = torch.where(free.isfinite(), free, _foremost(free))[0, 0]  # holes are as free as what is beside them
    if points is not None and len(points):
        seen = _nearest(cells, points)
        around = _foremost(seen[None, None])[0, 0]  # a wrong one, behind others, tells nothing
        free = torch.where(seen.isfinite(), around, free)
    return FREE * free


def _foremost(ways: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    """The least of each cell and those around it."""
    return -F.max_pool2d(-ways, 3, 1, 1)


def _nearest(cells: View, points: Float[Tensor, "N 3"]) -> Float[Tensor, "h w"]:
    """The distance of the nearest point that lies in each cell; inf if none does."""
    width, height = cells.size
    found = torch.full((height * width,), torch.inf, device=points.device)
    inside, numbers, _ = pixels_of(cells.camera, points)
    return found.scatter_reduce(0, numbers[inside], _ways(cells, points)[inside], "amin").view(height, width)


def _ways(view: View, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    return (points - view.camera.c2w[0, :, 3]).norm(dim=1)


def _share(
    model: Renderer, view: View, free: Float[Tensor, "h w"], mask: Bool[Tensor, "H W"] | None, chunk: int
) -> float:
    """The mean opacity of what is nearer than the free ways, in the pixels of a mask."""
    width, height = view.size
    ways = F.interpolate(free[None, None], (height, width), mode="nearest").flatten()
    if mask is not None:
        counted = F.interpolate(mask[None, None].to(ways), (height, width), mode="nearest").flatten()
        ways = torch.where(counted > 0, ways, torch.inf)
    is_known = ways.isfinite().nonzero()[:, 0]
    if len(is_known) < LEAST * len(ways):
        return math.nan
    rays = view.rays(pixels=is_known)
    begin = rays.near < ways[is_known]
    rays = replace(rays, far=torch.where(begin, ways[is_known], rays.near))
    with evaluating(model):
        opacity = (
            render_rays(model, rays[begin.nonzero()[:, 0]], None, chunk)[2] if bool(begin.any()) else rays.near[:0]
        )
    return float(opacity.sum() / len(is_known))
