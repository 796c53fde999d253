"""The terms of the loss of a hash-grid field, one function each, with its weight. `reference.field_loss` is their sum.

A new term is a function here and a line in that sum; its weight in `Target`; its gradient in the kernels (`triton_loss`
for what follows from density and colour, `triton_grid` for what follows from the table); and a test of both.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.colour import linear, srgb
from nerf_pl.ops.hash_field.types import Target
from nerf_pl.types import Pixels, Samples

LEAST_OPACITY = 1e-6  # what colours are divided by, at least


def gradient_of(term: Tensor) -> Tensor:
    """0, with the gradient of the term."""
    return term - term.detach()


def photometric(pixels: Pixels, samples: Samples, target: Target) -> Float[Tensor, ""]:
    """Mean squared error of the pixels whose rays count, in front of the background.

    With c = `target.charbonnier` its gradient is that of the mean over all errors e of

        2 c^2 (sqrt(1 + (e / c)^2) - 1)                                          Charbonnier et al. 1994, scaled

    which is e^2 for small errors and grows with |e| for large ones.
    """
    k = target.rays_per_pixel(samples)
    n = target.rays_kept(samples) // k
    rgb, opacity = mean_of_rays(pixels.rgb.view(-1, k, 3), pixels.opacity.view(-1, k))
    rgb = rgb + (1 - opacity)[:, None] * target.background
    error, c = rgb[:n] - target.rgb[:n], target.charbonnier
    squared = torch.mean(error**2)
    if not c:
        return squared
    return squared.detach() + gradient_of(2 * c**2 * torch.mean((1 + (error / c) ** 2).sqrt()))


def distortion(weights: Float[Tensor, "N"], samples: Samples, target: Target) -> Float[Tensor, ""]:
    """How far the weights w of a ray lie apart, as a mean over the rays that count, times `target.distortion`:

        sum_ij w_i w_j |s_i - s_j| + width / 3 sum_i w_i^2                      Barron et al. 2022, eq. 15

    s is the place of each sample on its ray.
    """
    assert target.place is not None
    n = target.rays_kept(samples)
    last = int(samples.offsets[n])
    w, s, ids = weights[:last], target.place[:last], samples.ray_ids[:last]
    first = samples.offsets[ids]
    nearer, nearer_s = (F.pad(v.cumsum(0), (1, 0)) for v in (w, w * s))
    before, before_s = nearer.index_select(0, first), nearer_s.index_select(0, first)  # repeats itself bit for bit
    pairs = w * (s * (nearer[:-1] - before) - (nearer_s[:-1] - before_s))
    return target.distortion * (2 * pairs.sum() + target.width / 3 * (w * w).sum()) / n


def emptiness(weights: Float[Tensor, "N"], samples: Samples, target: Target) -> Float[Tensor, ""]:
    """The light that arrives from where there is nothing, as a mean over the rays that count, times `target.emptiness`:

    sum of w_i over t_i < clear            after Rematas et al. 2022, eq. 9, which takes the squares
    """
    assert target.clear is not None
    assert target.emptiness is not None
    n = target.rays_kept(samples)
    last = int(samples.offsets[n])
    clear = target.clear.repeat_interleave(target.rays_per_pixel(samples)).index_select(0, samples.ray_ids[:last])
    return target.emptiness[0] * torch.where(samples.t[:last] < clear, weights[:last], 0).sum() / n


def smoothness(entries: Int[Tensor, "L N 8"], table: Float[Tensor, "E F"], weight: float) -> Float[Tensor, ""]:
    """How unlike each other the entries of a cell are, as a mean over N points, times weight:

        1/2 sum_l sum_c |v_c - v|^2

    v is the mean of the eight entries v_c around the point on level l. entries: from `reference.vertices`.
    """
    held = table.index_select(0, entries.flatten().long()).unflatten(0, entries.shape)  # (L, N, 8, F)
    return weight * (0.5 * ((held - held.mean(2, keepdim=True)) ** 2).sum() / max(entries.shape[1], 1))


def mean_of_rays(
    rgb: Float[Tensor, "P k 3"], opacity: Float[Tensor, "P k"]
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P"]]:
    """Colour and opacity of pixels made of k rays each. Both colours are in sRGB and premultiplied.

    Light adds up, the values that a picture stores for it do not: so the mean is that of linear light, weighed by
    opacity, as renderers and cameras take it before they encode it.
    """
    if rgb.shape[1] == 1:
        return rgb[:, 0], opacity[:, 0]
    light = opacity[..., None] * linear(rgb / opacity[..., None].clamp(min=LEAST_OPACITY))
    mean = opacity.mean(1)
    return mean[:, None] * srgb(light.sum(1) / opacity.sum(1)[:, None].clamp(min=LEAST_OPACITY)), mean
