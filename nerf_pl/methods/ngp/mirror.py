"""Which way surfaces face, as far as the occupancy grid tells, for the colours of what mirrors."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl.ops import Normals

BLURS = 2  # of the grid, each over 3^3 cells, so that the steps from cell to cell do not show (docs/log.md)
OFTEN = 128  # cells a side, up to which normals follow every update of the grid: 256 take a CPU 0.8 s
LENGTH = 64.0  # of the normals, so that in half precision the least of them is not rounded away


class Mirror(nn.Module):
    """Normals of a field's surfaces, which follow the density that its occupancy grid has found.

    A colour that depends on the direction in which a surface would mirror the ray is learned from fewer photos than one
    that depends on the ray's own: what is mirrored moves over a surface, but stays where it is in the world (Verbin et
    al. 2022). `solid`: which share of the light a cell takes, in 255ths. All else follows from it, so it is all that is
    stored. half: keep normals in half precision, as kernels read them; other forms read float32.
    """

    solid: Tensor
    values: Tensor
    scale: Tensor

    def __init__(self, size: int, half: bool = False):
        super().__init__()
        number = torch.float16 if half else torch.float32
        self.register_buffer("solid", torch.zeros(size, size, size, dtype=torch.uint8))
        self.register_buffer("values", torch.zeros(size, size, size, 4, dtype=number), persistent=False)
        self.register_buffer("scale", torch.full((3,), float(size)), persistent=False)

    @property
    def normals(self) -> Normals:
        return Normals(self.values, self.scale)

    def is_due(self, turn: int) -> bool:
        """Whether normals follow this update of the grid, so that fine grids take no more of a step than others."""
        return turn % max((len(self.solid) // OFTEN) ** 3, 1) == 0

    @torch.no_grad()
    def follow(self, taken: Float[Tensor, "C"], span: Float[Tensor, "3"]) -> None:
        """taken: the share of the light that each cell takes. span: the sides of the grid in the unit cube."""
        self.solid.copy_((taken * 255).round().view_as(self.solid))
        self.refresh(span)

    @torch.no_grad()
    def refresh(self, span: Float[Tensor, "3"]) -> None:
        """The normals that follow from `solid`: against the slope of what it is after a blur."""
        size = len(self.solid)
        self.scale.copy_(size / span)
        blurred = self.solid.float()
        for axis in BLURS * (0, 1, 2):
            blurred = _three(blurred, axis)
        blurred *= 1 / (255 * 27**BLURS)
        slopes = torch.gradient(blurred)[::-1]  # along x, y, z
        for axis, slope in enumerate(slopes):
            self.values[..., axis] = -LENGTH * self.scale[axis] / size * slope


def _three(cells: Float[Tensor, "S S S"], axis: int) -> Float[Tensor, "S S S"]:
    """The sum of each cell and its two neighbours along an axis. Behind the outermost cells all is as in them."""
    last, found = cells.shape[axis] - 1, cells.clone()
    found.narrow(axis, 1, last).add_(cells.narrow(axis, 0, last))
    found.narrow(axis, 0, last).add_(cells.narrow(axis, 1, last))
    for end in (0, last):
        found.narrow(axis, end, 1).add_(cells.narrow(axis, end, 1))
    return found
