"""How close a picture comes to the truth."""

import torch
from jaxtyping import Float
from torch import Tensor


def psnr(pred: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB of values in [0, 1]: -10 log10 of the mean squared error; inf if equal."""
    return -10 * torch.log10(torch.mean((pred - target) ** 2))


def ssim(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity of two pictures in [0, 1], at most 1. Wang et al. 2004

    Gaussian window of 11x11 pixels with standard deviation 1.5, K1 = 0.01, K2 = 0.03, mean over the pixels whose window
    lies inside the picture and over the channels. Raises ValueError for pictures smaller than the window.
    """
    if min(pred.shape[:2]) < 11:
        raise ValueError(f"ssim needs pictures of 11x11 pixels or more, got {pred.shape[1]}x{pred.shape[0]}")
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds to import

    a, b = (image.permute(2, 0, 1)[None] for image in (pred, target))
    _, by_pixel = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    # torchmetrics mirrors the picture at its borders and counts them too; the paper does not
    return by_pixel[..., 5:-5, 5:-5].mean()
