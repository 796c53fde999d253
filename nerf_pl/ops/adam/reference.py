"""The twin of Adam, in plain PyTorch on any device, in float64 too."""

import torch
from torch import Tensor

from nerf_pl.ops.adam.types import AdamStep


def adam(p: Tensor, g: Tensor, m: Tensor, v: Tensor, half: Tensor | None, ok: Tensor, how: AdamStep) -> None:
    if not bool(ok):
        return
    (beta1, beta2), lr = how.betas, how.lr
    g = g + how.pull * p if how.pull else g
    first, second = 1 - beta1**how.step, 1 - beta2**how.step
    moved = (g != 0) if how.sparse else None
    for moment, value, beta in ((m, g, beta1), (v, g * g, beta2)):
        changed = moment.lerp(value, 1 - beta)
        moment.copy_(changed if moved is None else torch.where(moved, changed, moment))
    scale = v.sqrt().mul_(first / second**0.5).add_(first * how.eps)
    if how.decay:
        p.sub_(p if moved is None else p * moved, alpha=lr * how.decay)
    p.addcdiv_(m if moved is None else m * moved, scale, value=-lr)
    if half is not None:
        half.copy_(p)
