"""The twins of what happens along rays, in plain PyTorch on any device, in float64 too.

Twins are short enough to check by eye: they are the specification of the kernels, the truth of their tests and the
path without a GPU. What each computes stands in its public op, of the same name.
"""

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.types import Pixels, Samples

MASK = 0xFFFFFFFF  # of the 32 bits of a word
Word = TypeVar("Word", int, Tensor)


def random_bits(seed: int, step: Tensor, stream: int, n: int) -> Tensor:
    word: Any = step if step.is_cuda else int(step)  # arithmetic of single numbers takes long in tensors
    key = mix(mix(mix(seed & MASK) ^ (word & MASK)) ^ stream)
    return mix(mix(torch.arange(n, device=step.device) ^ key) + key & MASK)


def mix(x: Word) -> Word:
    """Words of 32 bits, in int64 or plain, that share no pattern with those that go in: lowbias32, by C. Wellons."""
    x = (x ^ (x >> 16)) * 0x21F0AAAD & MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & MASK
    return x ^ (x >> 15)


def composite(sigmas: Tensor, rgbs: Tensor | None, samples: Samples) -> Pixels:
    n_rays = samples.offsets.shape[0] - 1
    tau = sigmas * samples.dt
    weights = transmittance(tau, samples) * (1 - (-tau).exp())

    def total(values: Tensor) -> Tensor:
        if samples.per_ray is not None:
            return values.view(n_rays, samples.per_ray, *values.shape[1:]).sum(1)
        return values.new_zeros(n_rays, *values.shape[1:]).index_add(0, samples.ray_ids, values)

    rgb = sigmas.new_zeros(n_rays, 3) if rgbs is None else total(weights[:, None] * rgbs)
    return Pixels(rgb, total(weights * samples.t), total(weights), weights)


def transmittance(tau: Tensor, samples: Samples) -> Tensor:
    """The share of the light (N,) that gets as far as each sample, of optical depths tau (N,)."""
    n_rays = samples.offsets.shape[0] - 1
    if samples.per_ray is not None:
        return (-F.pad(tau.view(n_rays, samples.per_ray).cumsum(1), (1, 0))[:, :-1]).exp().reshape(-1)
    # one ray per row of a padded grid: a running sum over all rays at once would lose the small terms of late rays
    width = int(samples.offsets.diff().max()) if n_rays else 0
    slots = torch.arange(tau.shape[0], device=tau.device) - samples.offsets[samples.ray_ids]
    places = samples.ray_ids * width + slots
    grid = tau.new_zeros(n_rays * width).index_copy(0, places, tau).view(n_rays, width)
    return (-F.pad(grid.cumsum(1), (1, 0))[:, :-1]).exp().reshape(-1).index_select(0, places)


def resample(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    bins = (t[:, 1:] + t[:, :-1]) / 2  # (R, S-1)
    w = weights[:, 1:-1] + 1e-5
    cdf = F.pad((w / w.sum(-1, keepdim=True)).cumsum(-1), (1, 0))  # (R, S-1)
    above = torch.searchsorted(cdf, u.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=cdf.shape[-1] - 1)
    cdf_below, cdf_above = cdf.gather(1, below), cdf.gather(1, above)
    width = cdf_above - cdf_below
    fraction = (u - cdf_below) / torch.where(width < 1e-5, torch.ones_like(width), width)
    new = bins.gather(1, below) + fraction * (bins.gather(1, above) - bins.gather(1, below))
    return torch.cat([t, new], 1).sort(1).values
