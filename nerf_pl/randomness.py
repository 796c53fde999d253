"""Random numbers as a function of the seed, the step and the use. Every device draws the same ones."""

from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.ops import Backend, random_bits


class Stream(IntEnum):
    """What random numbers are for. Each use has a stream of its own, so that no two uses share numbers."""

    PIXELS = 0
    """Which pixels a training step takes."""
    JITTER = 1
    """Where in their interval the samples of a ray lie."""
    DRAW = 2
    """Where fine samples are drawn from the coarse weights."""
    NOISE = 3
    """Noise on densities, of the coarse level or the only one."""
    FINE_NOISE = 4
    """Noise on densities of the fine level."""
    CELLS = 5
    """Where in its cell the occupancy grid asks for the density."""
    BACKGROUND = 6
    """The colour behind each pixel."""
    WITHIN = 7
    """Where in its pixel the first of several rays passes."""
    AIR = 8
    """Where the loss on air asks for the density."""


def uniform(seed: int, step: Tensor, stream: Stream, shape: tuple[int, ...], *, backend: Backend) -> Tensor:
    """Numbers in [0, 1) in float32. step: an int64 tensor of one element, on the device where the numbers will be."""
    n = torch.Size(shape).numel()
    bits = random_bits(seed, step, int(stream), n, backend=backend)
    return (bits >> 8).to(torch.float32).mul_(2.0**-24).view(shape)


def normal(seed: int, step: Tensor, stream: Stream, n: int, *, backend: Backend) -> Float[Tensor, "n"]:
    """Standard normal numbers (Box and Muller 1958); see `uniform`."""
    u, v = uniform(seed, step, stream, (2, n), backend=backend)
    return (-2 * (1 - u).log()).sqrt() * (2 * torch.pi * v).cos()
