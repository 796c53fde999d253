"""The loss of composited pixels and its gradient, compiled for a CPU; see `reference.pixel_loss`.

Sums along rays are compiled. What follows from the pixels alone is small, so PyTorch does it, with its gradient.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nerf_pl.ops.hash_field import losses
from nerf_pl.ops.hash_field.reference import SEEN, adapt
from nerf_pl.ops.hash_field.types import Listed, Target
from nerf_pl.ops.numba_jit import compiled, in_parts
from nerf_pl.types import Pixels, Samples

ZERO, ONE, TWO, THIRD = np.float32(0), np.float32(1), np.float32(2), np.float32(1 / 3)
RAYS = 64  # that are worth a thread of their own
WORD = 0xFFFFFFFF  # 32 bits


@compiled
def _composite(sigma, rgb, dt, offsets, cells, seen, step, least, weights, passed, colours, opacity, begin, end):
    """What rays begin to end see; at samples, weights and the light that passes. Marks the cells that light reaches."""
    for ray in range(begin, end):
        front, red, green, blue = ONE, ZERO, ZERO, ZERO
        tau = ZERO
        for i in range(offsets[ray], offsets[ray + 1]):
            if front > least:
                seen[cells[i]] = step
            tau += sigma[i] * dt[i]
            rest = math.exp(-tau)
            weight = front * (ONE - math.exp(-sigma[i] * dt[i]))
            red += weight * rgb[i, 0]
            green += weight * rgb[i, 1]
            blue += weight * rgb[i, 2]
            opacity[ray] += weight
            weights[i], passed[i], front = weight, rest, rest
        colours[ray, 0], colours[ray, 1], colours[ray, 2] = red, green, blue


@compiled
def _along_rays(
    rgb, t, dt, offsets, weights, passed, place, clear, per_pixel, distortion, width, emptiness, close_range,
    d_colours, d_opacity, d_sigma, d_rgb, begin, end,
):  # fmt: skip
    """Gradients at the samples of rays begin to end. With q_i the gradient of the weight w_i

    d sigma_i = dt_i (T_{i+1} q_i - sum_{j>i} w_j q_j),   d rgb_i = w_i d colour
    """
    for ray in range(begin, end):
        red, green, blue = d_colours[ray, 0], d_colours[ray, 1], d_colours[ray, 2]
        near, near_s = ZERO, ZERO  # sums of w and w s in front of a sample, and behind it
        far, far_s, behind = ZERO, ZERO, ZERO
        if distortion:
            for i in range(offsets[ray], offsets[ray + 1]):
                near += weights[i]
                near_s += weights[i] * place[i]
        for i in range(offsets[ray + 1] - 1, offsets[ray] - 1, -1):
            w = weights[i]
            q = d_opacity[ray] + red * rgb[i, 0] + green * rgb[i, 1] + blue * rgb[i, 2]
            if emptiness and t[i] < clear[ray // per_pixel]:
                q += emptiness
            if distortion:
                s = place[i]
                near, near_s = near - w, near_s - w * s
                q += distortion * TWO * (s * (near - far) + far_s - near_s + w * width * THIRD)
                far, far_s = far + w, far_s + w * s
            share = ONE
            if close_range:
                share = min(t[i] / close_range, ONE)
                share *= share
            d_sigma[i] = share * dt[i] * (passed[i] * q - behind)
            behind += w * q
            d_rgb[i, 0], d_rgb[i, 1], d_rgb[i, 2] = share * w * red, share * w * green, share * w * blue


@compiled
def _mix(x):
    """See `rays.reference.mix`."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & WORD
    x = ((x ^ (x >> 15)) * 0x735A2D97) & WORD
    return x ^ (x >> 15)


@compiled
def _list(sigma, d_sigma, d_rgb, least, step, order, own_sigma, own_rgb):
    """See `reference.listed`. Returns the number of listed samples."""
    count = 0
    for i in range(len(sigma)):
        size = abs(d_sigma[i] * sigma[i]) + abs(d_rgb[i, 0]) + abs(d_rgb[i, 1]) + abs(d_rgb[i, 2])
        word = _mix(_mix(i) ^ step) >> 8
        if np.float32(word) * np.float32(2.0**-24) * least < size:
            scale = max(least / size, ONE)
            order[count], own_sigma[count] = i, scale * d_sigma[i]
            for c in range(3):
                own_rgb[count, c] = scale * d_rgb[i, c]
            count += 1
    return count


def pixel_loss(
    sigma: Tensor, rgb: Tensor, samples: Samples, target: Target, d_target: Tensor | None = None
) -> tuple[Tensor, Listed]:
    """The mean squared error, and the samples to go back to. d_target: takes the gradient of the pixels' target."""
    n_rays, dt, offsets = len(samples.offsets) - 1, samples.dt.numpy(), samples.offsets.long().numpy()
    weights, passed, d_sigma = (torch.empty_like(sigma) for _ in range(3))
    colours, opacity, d_rgb = sigma.new_empty(n_rays, 3), sigma.new_zeros(n_rays), torch.empty_like(rgb)
    given = sigma.numpy(), rgb.numpy(), dt, offsets, target.cells.long().numpy(), target.seen.numpy()
    given = *given, int(target.step), np.float32(SEEN)
    found = weights.numpy(), passed.numpy(), colours.numpy(), opacity.numpy()
    in_parts(lambda begin, end: _composite(*given, *found, begin, end), n_rays, RAYS)

    with torch.enable_grad():
        pixels = Pixels(colours.requires_grad_(), opacity, opacity.requires_grad_(), weights)
        wanted = target.rgb.detach().requires_grad_()
        loss = losses.photometric(pixels, samples, replace(target, rgb=wanted))
        d_colours, d_opacity, d_wanted = torch.autograd.grad(loss, (colours, opacity, wanted))
    if d_target is not None:
        d_target.copy_(d_wanted)

    kept = target.rays_kept(samples)
    last = int(samples.offsets[kept])
    d_sigma[last:], d_rgb[last:] = 0, 0
    place = clear = dt[:0]
    distortion = emptiness = 0.0
    if target.place is not None:
        place, distortion = target.place.numpy(), target.distortion / max(kept, 1)
    if target.clear is not None and target.emptiness is not None:
        clear, emptiness = target.clear.numpy(), float(target.emptiness[0]) / max(kept, 1)
    weighed = (np.float32(value) for value in (distortion, target.width, emptiness, target.close_range))
    given = (
        rgb.numpy(), samples.t.numpy(), dt, offsets, found[0], found[1], place, clear, target.rays_per_pixel(samples),
        *weighed, d_colours.numpy(), d_opacity.numpy(), d_sigma.numpy(), d_rgb.numpy(),
    )  # fmt: skip
    in_parts(lambda begin, end: _along_rays(*given, begin, end), kept, RAYS)
    return loss.detach(), listed(sigma, d_sigma, d_rgb, target)


def listed(sigma: Tensor, d_sigma: Tensor, d_rgb: Tensor, target: Target) -> Listed:
    """See `reference.listed`. With a share of 1 all samples are."""
    if target.share == 1:
        return Listed(torch.arange(len(sigma)), torch.tensor([len(sigma)]), d_sigma, d_rgb)
    order, own_sigma, own_rgb = torch.empty(len(sigma), dtype=torch.int64), sigma.clone(), torch.empty_like(d_rgb)
    given, own = (sigma.numpy(), d_sigma.numpy(), d_rgb.numpy()), (order.numpy(), own_sigma.numpy(), own_rgb.numpy())
    count = _list(*given, np.float32(float(target.least)), int(target.step) & WORD, *own)
    if len(sigma):
        adapt(target, torch.tensor([count]), len(sigma))
    return Listed(order[:count], torch.tensor([count]), own_sigma[:count], own_rgb[:count])
