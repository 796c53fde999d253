"""How a grid stores what its points take of the light: the logarithm of an optical thickness.

Between lattice points the stored value is interpolated, not the thickness. A surface then lies anywhere between two
points and stays sharp, as with the post-activation of DVGO (Sun et al. 2022).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.console import progress
from nerf_pl.export.web.grid import Grid, points_at, spread
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating

SAMPLES = {"cpu": 4, "cuda": 8}  # in each cell, if all are no more than
MOST_SAMPLES = {"cpu": 2**25, "cuda": 2**26}
AT_ONCE = {"cpu": 2**17, "cuda": 2**22}
ROUNDS = 8  # of conjugate gradients
RIDGE = 1e-3  # samples that say that a value is the mean of those around
FAINT = 0.05  # a point with less is left out
LEAST, MOST = -6.0, 4.0  # logarithms of the thickness of a cell that 0 and 1 stand for, once exp(LEAST) is added


def stored(thickness: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """What is stored, in [0, 1], of optical thicknesses of a cell: densities times its length."""
    return (((thickness + math.exp(LEAST)).log() - LEAST) / (MOST - LEAST)).clamp(0, 1)


def thickness(values: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The optical thickness of a cell that stored values stand for. Differentiable."""
    return torch.exp(LEAST + (MOST - LEAST) * values) - math.exp(LEAST)


@torch.no_grad()
def fitted(model: Model, grid: Grid) -> Grid:
    """The grid of opacities that are closest, in the mean square, to those of a field at random places between the
    points of a grid and their neighbours.

    A point may be empty itself and still be needed for a surface that passes next to it.
    """
    device = grid.numbers.device
    cells = spread(grid.space, grid.numbers, -1)
    numbers = spread(grid.space, cells, 1)
    grid = Grid.of(grid.space, numbers, torch.zeros(len(numbers), 1, device=device))
    parts = []
    generator = torch.Generator(device).manual_seed(0)
    each = max(min(SAMPLES[device.type], MOST_SAMPLES[device.type] // max(len(cells), 1)), 1)
    with evaluating(model):
        turns = cells.repeat_interleave(each).split(AT_ONCE[device.type])
        for some in progress(turns, len(turns), "asking between points"):
            places = points_at(grid.space, some) + torch.rand(len(some), 3, generator=generator, device=device)
            rows, shares = grid.corners(places)
            parts.append(Part(rows.int(), shares, stored(grid.space.thickness(model, places))))
    values = _least_squares(parts, len(numbers)).clamp(0, 1)
    kept = values > FAINT
    return Grid.of(grid.space, numbers[kept], values[kept, None])


@dataclass(frozen=True)
class Part:
    """Samples between lattice points: the rows of the points around each, with their shares, and what is wanted."""

    rows: Int[Tensor, "N 8"]
    shares: Float[Tensor, "N 8"]
    wanted: Float[Tensor, "N"]

    def read(self, values: Float[Tensor, "P"]) -> Float[Tensor, "N"]:
        found = F.pad(values, (0, 1)).index_select(0, self.rows.flatten()).view(self.rows.shape)
        return (found * self.shares).sum(1)

    def add(self, sums: Float[Tensor, "Q"], values: Float[Tensor, "N 8"]) -> None:
        sums.index_add_(0, self.rows.flatten(), values.flatten())


def _least_squares(parts: list[Part], count: int) -> Float[Tensor, "P"]:
    """Values of points between which samples are what is wanted: by conjugate gradients, from weighted means."""
    right, squares, total = (parts[0].shares.new_zeros(count + 1) for _ in range(3))
    for part in parts:
        part.add(total, part.shares)
        part.add(right, part.shares * part.wanted[:, None])
        part.add(squares, part.shares**2)
    right, squares, total = (sums[:-1] for sums in (right, squares, total))
    start = right / total.clamp(min=1e-6)

    def normal(values: Tensor) -> Tensor:
        sums = values.new_zeros(count + 1)
        for part in parts:
            part.add(sums, part.shares * part.read(values)[:, None])
        return sums[:-1] + RIDGE * values

    values = start.clone()
    rest = right + RIDGE * start - normal(values)
    scaled = rest / (squares + RIDGE)
    way, size = scaled.clone(), rest @ scaled
    for _ in progress(range(ROUNDS), ROUNDS, "fitting opacities"):
        ahead = normal(way)
        length = size / (way @ ahead).clamp(min=1e-20)
        values += length * way
        rest -= length * ahead
        scaled = rest / (squares + RIDGE)
        before, size = size, rest @ scaled
        way = scaled + size / before.clamp(min=1e-20) * way
    return values
