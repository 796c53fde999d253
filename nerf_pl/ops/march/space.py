"""Space as occupancy grids see it: all of it in a cube, and its cells as bits."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def contract(xyz: Float[Tensor, "N 3"], aabb: Float[Tensor, "2 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """All of space into the unit cube, whose middle half the cube `aabb` fills; and by how much lengths have shrunk.

        q = (2 - 1/m) p / m,   m = max(|p_x|, |p_y|, |p_z|, 1)

    with p in half sides from the centre (Barron et al. 2022, eq. 10, in the maximum norm of Tancik et al. 2023).
    Lengths across the way from the centre have shrunk by m / (2 - 1/m), those along it by m^2. What comes back is m,
    which lies between.
    """
    p = (2 * xyz - (aabb[0] + aabb[1])) / (aabb[1] - aabb[0])
    m = p.abs().amax(1).clamp(min=1)
    return p * ((2 - 1 / m) / m / 4)[:, None] + 0.5, m


def pack_bits(flags: Bool[Tensor, "N"]) -> Int[Tensor, "W"]:
    """32 flags to a word of int32, the first one in its lowest bit. N must be a multiple of 32."""
    powers = 1 << torch.arange(32, device=flags.device)
    return (flags.view(-1, 32) * powers).sum(1).to(torch.int32)  # the highest bit wraps to the sign


def grid_span(aabb: Float[Tensor, "2 3"], endless: bool) -> Float[Tensor, "3"]:
    """The sides, in the unit cube, of the grid over a box, or over a space without end around it."""
    sides = aabb[1] - aabb[0]
    return torch.ones_like(sides) if endless else sides / sides.max()


def cell_numbers(place: Int[Tensor, "N 3"], size: int) -> Int[Tensor, "N"]:
    """Numbers of the cells (x, y, z) of a grid of size^3, x fastest."""
    return place[:, 0] + size * (place[:, 1] + size * place[:, 2])


def cell_places(cells: Int[Tensor, "N"], size: int) -> Int[Tensor, "N 3"]:
    """The inverse of `cell_numbers`."""
    return torch.stack([cells % size, cells // size % size, cells // size**2], 1)


def moved(
    unit: Float[Tensor, "N 3"], source: Int[Tensor, "M"], size: int, span: Float[Tensor, "3"]
) -> Float[Tensor, "N 3"]:
    """Points of the unit cube, each moved to the same place in the cell that replaces its own.

    span: the sides of the grid in the unit cube.
    """
    place = (unit / span * size).long().clamp(0, size - 1)
    other = cell_places(source[cell_numbers(place, size)], size)
    return unit + (other - place) * (span / size)
