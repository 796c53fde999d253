"""The one conversion between sRGB values, as pictures store them, and linear light (IEC 61966-2-1)."""

import torch
from jaxtyping import Float
from torch import Tensor


def linear(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Linear light of sRGB values in [0, 1]. Both are differentiable; a straight line serves near 0."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def srgb(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of `linear`."""
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.003) ** (1 / 2.4) - 0.055)
