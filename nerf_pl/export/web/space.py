"""Where a baked grid lies: a lattice of points in a box, in normalised device coordinates, or in all of space."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import AHEAD, ndc_points, ndc_scale, ndc_to_world
from nerf_pl.export.region import CPU_POINTS, MARGIN, POINTS, densities
from nerf_pl.methods.model import Model
from nerf_pl.ops import contract
from nerf_pl.scenes import Scene

Kind = Literal["box", "ndc", "all"]
EDGE = 1e-3  # of the cube of all space: what is as near to its faces counts as infinitely far


@dataclass(frozen=True)
class Space:
    """A lattice of points, `cell` apart, from `low` on; counts: cells along each axis.

    kind: which coordinates the lattice is regular in. "box": those of the world. "ndc": normalised device coordinates.
    "all": those of the unit cube that holds all of space, see `ops.contract`. middle: the box in the middle of it.
    Rays are marched in the world or, for "ndc", in normalised device coordinates.
    """

    kind: Kind
    low: tuple[float, float, float]
    cell: float
    counts: tuple[int, int, int]
    middle: Float[Tensor, "2 3"] | None = None
    ndc: tuple[float, float] | None = None

    @staticmethod
    def over(scene: Scene) -> "Space":
        """The whole space of a scene, in cells as large as its longest side."""
        if scene.ndc is not None:
            return _spanning(Space("ndc", (0, 0, 0), 1.0, (1, 1, 1), ndc=scene.ndc), scene.aabb)
        if scene.unbounded:
            return Space("all", (0, 0, 0), 1.0, (1, 1, 1), middle=scene.aabb.float().cpu())
        return _spanning(Space("box", (0, 0, 0), 1.0, (1, 1, 1)), scene.aabb)

    @property
    def high(self) -> tuple[float, float, float]:
        x, y, z = (low + self.cell * n for low, n in zip(self.low, self.counts, strict=True))
        return x, y, z

    def around(self, xyz: Float[Tensor, "N 3"]) -> "Space":
        """The part of it that holds these world points, and a margin. Of all of space it is the whole."""
        if self.kind == "all":
            return self
        own = self.own(xyz)
        box = own.new_tensor([self.low, self.high])
        own = own[((own >= box[0]) & (own <= box[1])).all(1)]
        if not len(own):
            return self
        margin = MARGIN * (own.amax(0) - own.amin(0)).max()
        held = torch.stack([torch.maximum(own.amin(0) - margin, box[0]), torch.minimum(own.amax(0) + margin, box[1])])
        return _spanning(self, held)

    def divided(self, resolution: int) -> "Space":
        """The same, with this many cells along the longest side."""
        sides = [self.cell * n for n in self.counts]
        cell = max(sides) / resolution
        x, y, z = (max(round(side / cell + 0.499), 1) for side in sides)
        return replace(self, cell=cell, counts=(x, y, z))

    # ---- from one place to another -----------------------------------------------------------------------------------

    def own(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Own coordinates of world points."""
        return self.placed(ndc_points(xyz, self.ndc) if self.ndc is not None else xyz)

    def placed(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Own coordinates of points on marched rays."""
        return points if self.middle is None else contract(points, self.middle.to(points))[0]

    def world(self, numbers: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """World points at places that are counted in cells."""
        own = numbers.new_tensor(self.low) + self.cell * numbers
        if self.ndc is not None:
            return ndc_to_world(own, self.ndc)
        return own if self.middle is None else _spread(own, self.middle.to(own))

    def lengths(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The length of a cell at points on marched rays, across the way from the middle."""
        if self.middle is None:
            return points.new_full((len(points),), self.cell)
        middle = self.middle.to(points)
        m = contract(points, middle)[1]
        return 2 * self.cell * (middle[1, 0] - middle[0, 0]) * m / (2 - 1 / m)

    def world_lengths(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The length of a cell in the world, at world points."""
        if self.ndc is None:
            return self.lengths(xyz)
        return self.cell / ndc_scale(xyz, xyz.new_tensor(AHEAD).expand_as(xyz), self.ndc)

    @torch.no_grad()
    def thickness(self, model: Model, numbers: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Optical thicknesses of a cell, at places that are counted in cells: the density times its length."""
        parts = []
        for part in numbers.split(CPU_POINTS if numbers.device.type == "cpu" else POINTS):
            xyz = self.world(part)
            length = self.lengths(xyz) if self.ndc is None else self.cell
            parts.append(densities(model, xyz, self.ndc).float() * length)
        return torch.cat(parts) if parts else numbers.new_zeros(0)


def _spanning(space: Space, box: Float[Tensor, "2 3"]) -> Space:
    """The space over a box of own coordinates, in cells that are small enough to say its sides."""
    x, y, z = box[0].tolist()
    sides = (box[1] - box[0]).double()
    cell = float(sides.max()) / 4096
    a, b, c = (sides / cell).ceil().long().tolist()
    return replace(space, low=(x, y, z), cell=cell, counts=(a, b, c))


def _spread(unit: Float[Tensor, "N 3"], middle: Float[Tensor, "2 3"]) -> Float[Tensor, "N 3"]:
    """The inverse of `ops.contract`."""
    p = 4 * (unit - 0.5)
    n = p.abs().amax(1, keepdim=True).clamp(max=2 - 4 * EDGE)
    p = torch.where(n > 1, p / n / (2 - n), p)
    return (middle[0] + middle[1]) / 2 + p * (middle[1] - middle[0]) / 2
