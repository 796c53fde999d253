"""What pixels are drawn from, and which of them."""

from dataclasses import dataclass

from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures on the device, and their cameras.

    images: RGB, or RGBA with straight alpha. c2w: OpenGL axes (right, up, back). K: in pixels. sizes: width and height
    of the part of the canvas that each picture fills, from its upper left corner; None: all of it. allowed: numbers,
    over all images row by row, of the pixels to draw from; None: all. offset: of a pixel's place from its upper left
    corner, in columns and rows.
    """

    images: UInt8[Tensor, "C H W channels"]
    c2w: Float[Tensor, "C 3 4"]
    K: Float[Tensor, "C 3 3"]
    sizes: Int[Tensor, "C 2"] | None
    allowed: Int[Tensor, "M"] | None
    offset: float


@dataclass(frozen=True)
class Draw:
    """Which pixels: a function of the seed, the step (int64) and the stream of random numbers.

    In steps before `precrop` they come from the central half of each picture, along both axes.
    """

    seed: int
    step: Int[Tensor, "1"]
    stream: int
    precrop: int = 0
