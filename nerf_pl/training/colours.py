"""Exposure and white balance that change from photo to photo."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

RATE, BETAS, EPS = 2e-4, (0.9, 0.99), 1e-12  # of Adam
DECAY = 0.5  # times RATE: by how much a step draws the changes towards none


class ColourFit(nn.Module):
    """An affine change of its colours for each of n training photos, which is learned beside the model.

    A camera with automatic exposure shows one place in several brightnesses. A model that must explain all of them puts
    fog in front of cameras. Here the photo is changed instead, to what a camera with the mean exposure of all photos
    would have shown; so the model, and what it renders, has that exposure. The changes are zero at first, and on
    average over the photos always. They have an Adam of their own, which a CUDA graph can hold (docs/log.md).
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(self, n: int):
        super().__init__()
        self.change = nn.Parameter(torch.zeros(n, 4, 3))  # a parameter stays a leaf when the module moves to a GPU
        self.register_buffer("first", torch.zeros(n, 4, 3))
        self.register_buffer("second", torch.zeros(n, 4, 3))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, rgb: Float[Tensor, "P 3"], photos: Int[Tensor, "P"]) -> Float[Tensor, "P 3"]:
        """The colours of pixels as the mean exposure would have them. photos: which photo each pixel is of."""
        change = (self.change - self.change.mean(0)).index_select(0, photos)  # (P, 4, 3)
        return rgb + (rgb[:, None] @ change[:, :3])[:, 0] + change[:, 3]

    @torch.no_grad()
    def adapt(self) -> None:
        """One step of Adam, from the gradient that the last backward pass left; the gradient is removed."""
        grad = self.change.grad
        if grad is None:
            return
        grad = torch.where(grad.isfinite().all(), grad, 0)  # as a model's optimizer, pass over what is not finite
        self.count += 1
        self.first.lerp_(grad, 1 - BETAS[0])
        self.second.lerp_(grad * grad, 1 - BETAS[1])
        mean, size = self.first / (1 - BETAS[0] ** self.count), self.second / (1 - BETAS[1] ** self.count)
        self.change.mul_(1 - RATE * DECAY).sub_(RATE * mean / (size.sqrt() + EPS))
        self.change.grad = None
