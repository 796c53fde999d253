"""The loss of the 2020 method."""

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.types import Pixels


def photometric(levels: list[Pixels], target: Float[Tensor, "R 3"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum over levels of the mean squared error of colour (NeRF 2020, eq. 6, as a mean), and that of the last level."""
    errors = [torch.mean((pixels.rgb - target) ** 2) for pixels in levels]
    return torch.stack(errors).sum(), errors[-1].detach()
