"""Which samples the backward pass of the 2020 network visits.

Either all that have a gradient other than zero (empty space, where the rectified density is 0, has none), or a random
share of them, drawn with a probability in proportion to the size of their gradient and weighted by its inverse: an
unbiased estimate of the gradient, whose noise is small beside that of drawing some pixels out of millions (importance
sampling; the systematic variant, Madow 1949).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def listed(d_sigma: Float[Tensor, "N"], d_rgb: Float[Tensor, "N 3"]) -> tuple[Int[Tensor, "N"], Int[Tensor, "1"]]:
    """Which samples have a gradient: their indices in order (N,), padded with zeros, and how many they are (1,).

    Shapes do not depend on values, so there is no synchronisation and a CUDA graph can replay it.
    """
    n = d_sigma.shape[0]
    active = (d_sigma != 0) | (d_rgb != 0).any(1)
    position = active.cumsum(0)
    order = torch.zeros(n + 1, dtype=torch.int32, device=d_sigma.device)
    slots = torch.where(active, position - 1, n)  # the inactive all write into the last place, which is cut off
    order.scatter_(0, slots, torch.arange(n, dtype=torch.int32, device=d_sigma.device))
    return order[:n], position[-1:].to(torch.int32)


def drawn(
    d_sigma: Float[Tensor, "N"], d_rgb: Float[Tensor, "N 3"], share: float
) -> tuple[Int[Tensor, "M"], Int[Tensor, "1"], Float[Tensor, "N"], Float[Tensor, "N 3"]]:
    """A share of the samples, at most, drawn by the size of their gradients: indices in order, padded with zeros, and
    how many they are (1,); then both gradients, divided by the probability of being drawn.

    The probabilities p sum up to no more than the share, and a sample is drawn where a comb of distance 1 meets the
    running sum of p. The comb is shifted by digits of that sum which nothing else depends on.
    """
    n = d_sigma.shape[0]
    most = max(int(share * n), 1)
    tiny = torch.finfo(torch.float32).tiny
    by_sigma, by_rgb = d_sigma.abs(), d_rgb.abs().sum(1)
    p = by_sigma / by_sigma.sum().clamp(min=tiny) + by_rgb / by_rgb.sum().clamp(min=tiny)
    p = (p * (most / 2)).clamp(max=1)
    edge = p.cumsum(0, dtype=torch.float64)  # fp32 would lose small terms beside a sum of ten thousands
    after = (edge + (edge[-1] * 2.0**30).frac()).floor().to(torch.int64)
    before = F.pad(after[:-1], (1, 0))
    order = torch.zeros(most + 2, dtype=torch.int32, device=p.device)
    slots = torch.where(after > before, before.clamp(max=most), most + 1)  # the rest into the last place, cut off
    order.scatter_(0, slots, torch.arange(n, dtype=torch.int32, device=p.device))
    inverse = 1 / p.clamp(min=tiny)
    return order[:-1], after[-1:].to(torch.int32), d_sigma * inverse, d_rgb * inverse[:, None]
