"""Scores of a picture against the photograph."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FLOATERS_BY = "surfaces"
"""Names the measure of `evaluation.floaters`, beside the scores. Another measure needs another name: what was scored
before then is no longer compared with it."""


def psnr(
    pred: Float[Tensor, "*shape 3"], target: Float[Tensor, "*shape 3"], mask: Bool[Tensor, "*shape"] | None = None
) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB of values in [0, 1]: -10 log10 of the mean squared error; inf if equal.

    mask: only these pixels count.

        >>> import torch
        >>> grey = torch.full((4, 4, 3), 0.5)
        >>> round(float(psnr(grey, grey + 0.1)), 2)
        20.0
    """
    if mask is not None:
        pred, target = pred[mask], target[mask]
    return -10 * torch.log10(torch.mean((pred - target) ** 2))


def fitted(
    pred: Float[Tensor, "*shape 3"], target: Float[Tensor, "*shape 3"], mask: Bool[Tensor, "*shape"] | None = None
) -> Float[Tensor, "*shape 3"]:
    """The picture with the affine change of its colours, the same for all pixels, that brings it nearest to the target:
    what is left is not a matter of exposure or white balance. mask: only these pixels count for the fit."""
    return fitted_together([pred], [target], [mask])[0]


def fitted_together(
    preds: Sequence[Float[Tensor, "... 3"]],
    targets: Sequence[Float[Tensor, "... 3"]],
    masks: Sequence[Bool[Tensor, "..."] | None],
) -> list[Float[Tensor, "... 3"]]:
    """`fitted` of parts of one photo, whose colours change alike. Parts may differ in size."""
    given = [torch.cat([pred, torch.ones_like(pred[..., :1])], -1).double() for pred in preds]
    pairs = list(zip(given, targets, masks, strict=True))
    rows = torch.cat([part.view(-1, 4) if mask is None else part[mask] for part, _, mask in pairs])
    wanted = torch.cat([target.reshape(-1, 3) if mask is None else target[mask] for _, target, mask in pairs])
    # a little is added for pictures of one colour, whose equations have many solutions
    squares = rows.T @ rows + 1e-6 * max(len(rows), 1) * torch.eye(4, dtype=rows.dtype, device=rows.device)
    start = torch.eye(4, 3, dtype=rows.dtype, device=rows.device)  # no change: the fit says how far to go from there
    change = torch.linalg.solve(squares, rows.T @ (wanted.double() - rows @ start))
    return [(part @ (start + change)).clamp(0, 1).to(pred.dtype) for part, pred in zip(given, preds, strict=True)]


def ssim(
    pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], mask: Bool[Tensor, "H W"] | None = None
) -> Float[Tensor, ""]:
    """Structural similarity of two pictures in [0, 1], at most 1. Wang et al. 2004

    Gaussian window of 11x11 pixels with standard deviation 1.5, K1 = 0.01, K2 = 0.03. The mean is over the channels and
    over the pixels whose window lies inside the picture. mask: only these pixels count; a window takes the others for
    equal. Raises ValueError for pictures smaller than the window.

        >>> import torch
        >>> picture = torch.rand(16, 16, 3)
        >>> round(float(ssim(picture, picture)), 4)
        1.0
    """
    if min(pred.shape[:2]) < 11:
        raise ValueError(f"ssim needs pictures of 11x11 pixels or more, got {pred.shape[1]}x{pred.shape[0]}")
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds to import

    if mask is not None:
        pred = torch.where(mask[..., None], pred, target)
    a, b = (image.permute(2, 0, 1)[None] for image in (pred, target))
    # TF32 of a GPU keeps 10 bits, too few for variances; cuDNN without it gives what a CPU gives, to 1e-6
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        _, by_pixel = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    # torchmetrics mirrors the picture at its borders and counts the borders too; the paper does not
    inner = by_pixel[0, :, 5:-5, 5:-5]
    return inner.mean() if mask is None else inner[:, mask[5:-5, 5:-5]].mean()
