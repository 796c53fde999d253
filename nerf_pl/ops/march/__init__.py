"""Marching rays through an occupancy grid, for training and for rendering with early stop (Mueller et al. 2022,
appendix E)."""

from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.ops.march.space import cell_numbers, cell_places, contract, grid_span, moved, pack_bits
from nerf_pl.ops.march.types import Budget, Light, March, Stride, Way
from nerf_pl.types import Rays

__all__ = [
    "Budget",
    "Light",
    "March",
    "Stride",
    "Way",
    "advance",
    "cell_numbers",
    "cell_places",
    "contract",
    "grid_span",
    "march",
    "moved",
    "pack_bits",
]


def march(
    rays: Rays,
    bits: Int[Tensor, "W"],
    aabb: Float[Tensor, "2 3"],
    jitter: Float[Tensor, "R"],
    stride: Stride,
    budget: Budget | None = None,
    light: Light | None = None,
    *,
    backend: Backend,
) -> March:
    """Steps along each ray, from near to far, that fall into occupied cells.

        s_k = s(near) + (k + jitter) step < s(far),   k = 0, 1, ...;   s(t) = t,  or linear (1 + ln(t / linear)) past it

    Where the box is all there is, near and far are those of the part of the ray inside. bits: one for each cell of the
    grid, see `pack_bits`. jitter: in [0, 1).
    With a budget no more than its size of samples come, and rays past it have none. Kernels then return arrays as long
    as the budget, of which the first offsets[-1] are samples. With light, rays end where it does; see `Light`. Raises
    ValueError for light without a budget.
    """
    if light is not None and budget is None:
        raise ValueError("light ends the rays of a training batch: give its budget, too")
    return backend.module("march").march(rays, bits, aabb, jitter, stride, budget, light)


def advance(
    rays: Rays,
    bits: Int[Tensor, "W"],
    aabb: Float[Tensor, "2 3"],
    stride: Stride,
    room: int,
    source: Int[Tensor, "N"] | None = None,
    *,
    backend: Backend,
) -> Way:
    """Send rays on their way through the grid, to render them with early stop; see `Way`.

    They take the steps of `march` with a jitter of 1/2. room: how many samples kernels take at a time; the twin makes
    room for all. source: for each cell the one in which the field is asked in its place, see `moved`.
    """
    return backend.module("march").Advance(rays, bits, aabb, stride, room, source)
