"""The twins of the 2020 method, and of what both share: every op in plain PyTorch, short enough to check by eye, on any
device, in float64 too.

They are the specification of the kernels, the truth of their tests and the path without a GPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.layout import MLPLayout, encoded_width
from nerf_pl.types import Pixels, Samples


def random_bits(seed: int, step: Tensor, stream: int, n: int) -> Tensor:
    """n integers in [0, 2^32) that depend on (seed, step, stream, position) alone.

    Counter-based, so the same draws come on every device and after a resume. Each word goes through two rounds of the
    "lowbias32" mixer (C. Wellons, hash-prospector, 2018). step: int64 tensor of one element.
    """
    key = _mix(_mix(_mix(torch.full_like(step, seed & _MASK)) ^ (step & _MASK)) ^ stream)
    return _mix(_mix(torch.arange(n, device=step.device) ^ key) + key & _MASK)


_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)


def frequency(x: Tensor, n_freqs: int) -> Tensor:
    """(N, 3) -> (N, encoded_width): x, sin(2^0 x), cos(2^0 x), ..., cos(2^(n-1) x), then zeros.  NeRF 2020, eq. 4

    Without the paper's factor pi, as its released code and the classic implementation have it.
    """
    scaled = x[:, None] * 2.0 ** torch.arange(n_freqs, device=x.device, dtype=x.dtype)[:, None]  # (N, n_freqs, 3)
    waves = torch.stack([scaled.sin(), scaled.cos()], 2).flatten(1)  # (N, 6 n_freqs)
    encoded = torch.cat([x, waves], 1)
    return F.pad(encoded, (0, encoded_width(n_freqs) - encoded.shape[1]))


def nerf_mlp(xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor | None]:
    """The 2020 network on encoded inputs: raw density (N,), before its rectifier, and colour (N, 3) in [0, 1].

    xyz: (N, xyz_width), dirs: (N, dir_width), params: the flat vector of `layout`. dirs None asks for density alone.
    """
    p = layout.parts(params)
    h = F.relu(F.linear(xyz, p["first"], p["b_hidden"][0]))
    for i in range(1, layout.depth):
        pre = F.linear(h, p["hidden"][i - 1], p["b_hidden"][i])
        h = F.relu(pre + F.linear(xyz, p["skip"]) if i == layout.skip else pre)
    sigma = F.linear(h, p["sigma"][None], p["b_sigma"]).squeeze(-1)
    if dirs is None:
        return sigma, None
    feature = F.linear(h, p["hidden"][-1], p["b_hidden"][-1])
    h = F.relu(F.linear(feature, p["dir"], p["b_dir"]) + F.linear(dirs, p["view"]))
    return sigma, torch.sigmoid(F.linear(h, p["rgb"], p["b_rgb"]))


def composite(sigmas: Tensor, rgbs: Tensor | None, samples: Samples) -> Pixels:
    """Blend the samples of each ray, front to back, into one colour.

        w_i = T_i (1 - exp(-sigma_i dt_i)),   T_i = exp(-sum_{j<i} sigma_j dt_j)        NeRF 2020, eq. 3

    sigmas: (N,) density per world length, >= 0. rgbs: (N, 3), None gives rgb = 0. The background is not added here; see
    `rendering.over`. A ray without samples gives zeros; the last dt may be 1e10. Differentiable in sigmas and rgbs.
    Raises ValueError if the samples and their values differ in number.
    """
    n_rays = samples.offsets.shape[0] - 1
    if sigmas.shape[0] != len(samples):
        raise ValueError(f"{sigmas.shape[0]} densities for {len(samples)} samples")
    weights = _weights(sigmas * samples.dt, samples, n_rays)

    def total(values: Tensor) -> Tensor:
        if samples.per_ray is not None:
            return values.view(n_rays, samples.per_ray, *values.shape[1:]).sum(1)
        return values.new_zeros(n_rays, *values.shape[1:]).index_add(0, samples.ray_ids, values)

    rgb = sigmas.new_zeros(n_rays, 3) if rgbs is None else total(weights[:, None] * rgbs)
    return Pixels(rgb, total(weights * samples.t), total(weights), weights)


def _weights(tau: Tensor, samples: Samples, n_rays: int) -> Tensor:
    return transmittance(tau, samples, n_rays) * (1 - (-tau).exp())


def transmittance(tau: Tensor, samples: Samples, n_rays: int) -> Tensor:
    """Light that reaches each sample."""
    if samples.per_ray is not None:
        return (-F.pad(tau.view(n_rays, samples.per_ray).cumsum(1), (1, 0))[:, :-1]).exp().reshape(-1)
    # one ray per row of a padded grid: a running sum over all rays at once would lose the small terms of late rays
    counts = samples.offsets.diff()
    slots = torch.arange(tau.shape[0], device=tau.device) - samples.offsets[samples.ray_ids]
    grid = tau.new_zeros(n_rays, int(counts.max()) if n_rays else 0).index_put((samples.ray_ids, slots), tau)
    return (-F.pad(grid.cumsum(1), (1, 0))[samples.ray_ids, slots]).exp()


def resample(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Hierarchical sampling: t (R, S) with its weights (R, S) and u (R, M) in [0, 1] -> (R, S + M), sorted.

    The new distances follow the piecewise-constant density that the inner weights spread over the intervals between
    the midpoints of t (NeRF 2020, section 5.2), found by inverting its cumulative sum; the old ones are kept.
    """
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
