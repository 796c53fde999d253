"""Batches of pixels, drawn on the device that holds the pictures."""

from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.ops.pixels.types import Draw, Pictures

__all__ = ["Draw", "Pictures", "draw_pixels"]


def draw_pixels(
    pictures: Pictures,
    background: Float[Tensor, "P 3"],
    draw: Draw,
    within: Float[Tensor, "R 2"] | None,
    *,
    backend: Backend,
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"], Float[Tensor, "P 3"], Int[Tensor, "P"]]:
    """P random pixels: world origins and unit directions of their rays, their colours in front of the background, and
    their numbers, over all pictures row by row.

    Of pictures of several sizes each gets an equal share. within: how far each ray passes from its pixel's usual place,
    in columns and rows; the R / P rays of a pixel come one after the other. None is one ray through each usual place.
    """
    return backend.module("pixels").draw_pixels(pictures, background, draw, within)
