"""Where a surface is looked for: a box, in the world, in the scene's file, or in normalised device coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import AHEAD, corners_of, ndc_points, ndc_scale, ndc_to_world
from nerf_pl.methods.model import Model
from nerf_pl.scenes import Scene, frame_of
from nerf_pl.text import box_text

NDC_DEPTH = 0.9  # of the box of photos from one side, in normalised device coordinates: 20 times as far as its front
MARGIN = 0.05  # of a side, around what the views see
CPU_POINTS, POINTS = 2**15, 2**19  # at which a field is asked at once


@dataclass(frozen=True)
class Region:
    """box: its lowest and its highest corner, in the region's own coordinates. to_world: the similarity from there to
    the world; None says that the own coordinates are normalised device coordinates. ndc: those of the model."""

    box: Float[Tensor, "2 3"]
    to_world: Float[Tensor, "4 4"] | None
    ndc: tuple[float, float] | None = None

    @property
    def sides(self) -> Float[Tensor, "3"]:
        return self.box[1] - self.box[0]

    def world(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """World points from own ones."""
        if self.to_world is None:
            assert self.ndc is not None
            return ndc_to_world(points, self.ndc)
        to_world = self.to_world.to(points)
        return points @ to_world[:3, :3].T + to_world[:3, 3]

    def own(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Own points from those of the world."""
        if self.to_world is None:
            assert self.ndc is not None
            return ndc_points(xyz, self.ndc)
        to_own = torch.linalg.inv(self.to_world.double()).to(xyz)
        return xyz @ to_own[:3, :3].T + to_own[:3, 3]

    def lengths(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The world length of an own unit of length, at world points."""
        if self.to_world is None:
            return 1 / _ahead(xyz, self.ndc)
        return self.to_world[0, :3].norm().to(xyz).expand(len(xyz))

    def around(self, xyz: Float[Tensor, "N 3"]) -> "Region | None":
        """The part of the box that holds these world points, and a margin. None if it holds none."""
        points, box = self.own(xyz), self.box.to(xyz)
        points = points[((points >= box[0]) & (points <= box[1])).all(1)]
        if not len(points):
            return None
        low, high = points.amin(0), points.amax(0)
        margin = MARGIN * (high - low).max()
        held = torch.stack([torch.maximum(low - margin, box[0]), torch.minimum(high + margin, box[1])])
        return replace(self, box=held.cpu())


def region_of(scene: Scene, crop: Sequence[float] | None = None) -> Region:
    """The box of a scene or, of one without end, its middle; crop: a box in the coordinates of the scene's file."""
    if crop is not None:
        corners, to_world = torch.tensor(crop, dtype=torch.float64).view(2, 3), frame_of(scene).clone()
        middle = corners.mean(0)  # becomes the origin: see `crop_of`
        to_world[:3, 3] += to_world[:3, :3] @ middle
        return Region((corners - middle).float(), to_world.float(), scene.ndc)
    if scene.ndc is None:
        return Region(scene.aabb.float(), torch.eye(4))
    box = scene.aabb.float().clone()
    box[1, 2] = min(float(box[1, 2]), NDC_DEPTH)
    return Region(box, None, scene.ndc)


def box_in_file(scene: Scene, xyz: Float[Tensor, "N 3"] | None = None) -> tuple[float, ...]:
    """The lowest and the highest corner of the box, along the axes of the scene's file, that holds the scene's box or,
    if given, these world points."""
    xyz = corners_of(scene.aabb) if xyz is None else xyz
    to_file = torch.linalg.inv(frame_of(scene))
    points = xyz.double().cpu() @ to_file[:3, :3].T + to_file[:3, 3]
    return (*points.amin(0).tolist(), *points.amax(0).tolist())


def nothing_in(crop: Sequence[float] | None, ends: int) -> str:
    """What to say if the views show nothing in a region. ends: how many of their rays end somewhere."""
    if crop is not None and ends:
        return f"--crop {box_text(crop)}: the training views show nothing in this box"
    if ends:
        return "the training views show nothing in the scene's box: give --crop with a box that holds something"
    return "the training views show nothing solid: the field is empty, train longer"


@torch.no_grad()
def densities(model: Model, xyz: Float[Tensor, "N 3"], ndc: tuple[float, float] | None) -> Float[Tensor, "N"]:
    """Density at world points, per unit of length of the space that the model lives in: in normalised device
    coordinates a surface is as dense far away as it is near. There it is 0 in front of the near plane."""
    parts = []
    for part in xyz.split(CPU_POINTS if xyz.device.type == "cpu" else POINTS):
        density = model.density(part)
        if ndc is not None:
            density = torch.where(part[:, 2] <= -1, density / _ahead(part, ndc), 0)
        parts.append(density)
    return torch.cat(parts) if parts else xyz.new_zeros(0)


def _ahead(xyz: Float[Tensor, "N 3"], ndc: tuple[float, float] | None) -> Float[Tensor, "N"]:
    assert ndc is not None
    return ndc_scale(xyz, xyz.new_tensor(AHEAD).expand_as(xyz), ndc)
