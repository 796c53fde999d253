"""The kernels of what happens along rays: random numbers, compositing and hierarchical sampling.

The last two take one program per ray, which walks that ray's samples front to back.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.types import Pixels, Samples


@triton.jit
def mix(x):
    """See the twin of the same name."""
    x = (x ^ (x >> 16)) * 0x21F0AAAD
    x = (x ^ (x >> 15)) * 0x735A2D97
    return x ^ (x >> 15)


@triton.jit
def words(i, seed, step, stream):
    """The random words, as int64, at positions i."""
    zero = tl.zeros_like(i).to(tl.uint32)  # all arithmetic modulo 2^32
    key = mix(mix(mix(zero + seed.to(tl.uint32)) ^ (zero + step.to(tl.uint32))) ^ stream.to(tl.uint32))
    return mix(mix(i.to(tl.uint32) ^ key) + key).to(tl.int64)


@triton.jit(do_not_specialize=["seed", "stream"])  # 1 would become a Python number
def random_kernel(step_ptr, out_ptr, seed, stream, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, words(i, seed, tl.load(step_ptr), stream), mask=i < n)


def random_bits(seed: int, step: Tensor, stream: int, n: int) -> Tensor:
    out = torch.empty(n, dtype=torch.int64, device=step.device)
    seed, stream = signed(seed), signed(stream)
    if n:
        random_kernel[(triton.cdiv(n, 1024),)](step, out, seed, stream, n, BLOCK=1024)
    return out


def signed(word: int) -> int:
    """The same 32 bits as a signed number, so that every seed arrives as the same type."""
    return (word + 2**31) % 2**32 - 2**31


@triton.jit
def block_weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before):
    """One block of a ray's samples: weight, t, dt, the light that passes it, and the block's optical depth.

    before: optical depth in front of the block.
    """
    dt = tl.load(dt_ptr + i, mask=live, other=0.0)
    tau = tl.load(sigma_ptr + i, mask=live, other=0.0) * dt
    # The sum in front of a sample is summed from the samples in front, read again one place to the left: taking tau off
    # the inclusive sum would lose it where the last dt is 1e10.
    left = live & (i > begin)
    previous = tl.load(sigma_ptr + i - 1, mask=left, other=0.0) * tl.load(dt_ptr + i - 1, mask=left, other=0.0)
    previous = tl.where(tl.arange(0, i.shape[0]) == 0, 0.0, previous)
    front = tl.exp(-(before + tl.cumsum(previous, 0)))
    passed = tl.exp(-tau)
    return front * (1 - passed), tl.load(t_ptr + i, mask=live, other=0.0), dt, front * passed, tl.sum(tau, 0)


@triton.jit
def channel(ptr, i, live, c: tl.constexpr):
    """One of three numbers for each of some samples."""
    return tl.load(ptr + i * 3 + c, mask=live, other=0.0)


@triton.jit
def composite_kernel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, offsets_ptr, out_rgb_ptr, depth_ptr, opacity_ptr, weights_ptr,
    COLOUR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
    before, depth, opacity = 0.0, 0.0, 0.0
    red, green, blue = 0.0, 0.0, 0.0
    for start in range(begin, end, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < end
        w, t, _, _, tau = block_weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
        before += tau
        tl.store(weights_ptr + i, w, mask=live)
        depth += tl.sum(w * t, 0)
        opacity += tl.sum(w, 0)
        if COLOUR:
            red += tl.sum(w * channel(rgb_ptr, i, live, 0), 0)
            green += tl.sum(w * channel(rgb_ptr, i, live, 1), 0)
            blue += tl.sum(w * channel(rgb_ptr, i, live, 2), 0)
    tl.store(depth_ptr + ray, depth)
    tl.store(opacity_ptr + ray, opacity)
    tl.store(out_rgb_ptr + ray * 3, red)
    tl.store(out_rgb_ptr + ray * 3 + 1, green)
    tl.store(out_rgb_ptr + ray * 3 + 2, blue)


@triton.jit
def composite_backward_kernel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, offsets_ptr, weights_ptr, g_rgb_ptr, g_depth_ptr, g_opacity_ptr, g_weights_ptr,
    d_sigma_ptr, d_rgb_ptr, COLOUR: tl.constexpr, WEIGHTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """With q_i the gradient of w_i:  d sigma_i = dt_i (T_{i+1} q_i - sum_{j>i} w_j q_j)  and  d rgb_i = w_i g."""
    ray = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
    g_red, g_green = tl.load(g_rgb_ptr + ray * 3), tl.load(g_rgb_ptr + ray * 3 + 1)
    g_blue = tl.load(g_rgb_ptr + ray * 3 + 2)
    g_depth, g_opacity = tl.load(g_depth_ptr + ray), tl.load(g_opacity_ptr + ray)
    behind = 0.0  # sum over the samples not yet passed of w q
    for sweep in tl.static_range(2):
        before = 0.0
        for start in range(begin, end, BLOCK):
            i = start + tl.arange(0, BLOCK)
            live = i < end
            w, t, dt, passed, tau = block_weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
            before += tau
            q = g_depth * t + g_opacity
            if COLOUR:
                q += g_red * channel(rgb_ptr, i, live, 0)
                q += g_green * channel(rgb_ptr, i, live, 1)
                q += g_blue * channel(rgb_ptr, i, live, 2)
            if WEIGHTS:
                q += tl.load(g_weights_ptr + i, mask=live, other=0.0)
            wq = tl.where(live, w * q, 0.0)
            if sweep == 0:
                behind += tl.sum(wq, 0)
            else:
                # nothing is behind the last sample: exactly 0, since its dt may be 1e10
                rest = tl.where(i == end - 1, 0.0, behind - tl.cumsum(wq, 0))
                tl.store(d_sigma_ptr + i, dt * (passed * q - rest), mask=live)
                behind -= tl.sum(wq, 0)
                if COLOUR:
                    tl.store(d_rgb_ptr + i * 3, w * g_red, mask=live)
                    tl.store(d_rgb_ptr + i * 3 + 1, w * g_green, mask=live)
                    tl.store(d_rgb_ptr + i * 3 + 2, w * g_blue, mask=live)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigmas, rgbs, t, dt, offsets, block):
        n_rays = offsets.shape[0] - 1
        rgb, per_ray = sigmas.new_empty(n_rays, 3), sigmas.new_empty(2, n_rays)
        depth, opacity, weights = per_ray[0], per_ray[1], torch.empty_like(sigmas)
        if n_rays:
            composite_kernel[(n_rays,)](
                sigmas, sigmas if rgbs is None else rgbs, t, dt, offsets, rgb, depth, opacity, weights,
                COLOUR=rgbs is not None, BLOCK=block, num_warps=1,
            )  # fmt: skip
        ctx.save_for_backward(sigmas, rgbs, t, dt, offsets, weights)
        ctx.block = block
        ctx.set_materialize_grads(False)
        return rgb, depth, opacity, weights

    @staticmethod
    def backward(ctx, *grad_outputs):
        sigmas, rgbs, t, dt, offsets, weights = ctx.saved_tensors
        n_rays = offsets.shape[0] - 1
        zero = None if all(g is not None for g in grad_outputs[:3]) else sigmas.new_zeros(n_rays, 3)
        g_rgb, g_depth, g_opacity = (zero if g is None else g.contiguous() for g in grad_outputs[:3])
        g_weights = grad_outputs[3]
        d_sigma = torch.empty_like(sigmas)
        d_rgb = None if rgbs is None else torch.empty_like(rgbs)
        if n_rays:
            composite_backward_kernel[(n_rays,)](
                sigmas, sigmas if rgbs is None else rgbs, t, dt, offsets, weights, g_rgb, g_depth, g_opacity,
                sigmas if g_weights is None else g_weights.contiguous(), d_sigma, sigmas if d_rgb is None else d_rgb,
                COLOUR=rgbs is not None, WEIGHTS=g_weights is not None, BLOCK=ctx.block, num_warps=1,
            )  # fmt: skip
        return d_sigma, d_rgb, None, None, None, None


def composite(sigmas: Tensor, rgbs: Tensor | None, samples: Samples) -> Pixels:
    block = min(128, max(32, triton.next_power_of_2(samples.per_ray or 128)))
    rgbs = None if rgbs is None else rgbs.contiguous()
    out = _Composite.apply(sigmas.contiguous(), rgbs, samples.t.contiguous(), samples.dt, samples.offsets, block)
    return Pixels(*out)


@triton.jit
def resample_kernel(
    t_ptr, weights_ptr, u_ptr, out_ptr, S, M, BINS: tl.constexpr, DRAWS: tl.constexpr, ALL: tl.constexpr
):
    """One ray: the piecewise-constant density of its inner weights, its running sum, and the inverse at each u.

    Search and sort are comparisons of all with all: a few thousand a ray, no divergence, ties in a fixed order.
    """
    ray = tl.program_id(0).to(tl.int64)
    t_ptr += ray * S
    out_ptr += ray * (S + M)
    k = tl.arange(0, BINS)  # interval k runs from midpoint k to midpoint k + 1; its weight is that of sample k + 1
    inside = k < S - 2
    w = tl.load(weights_ptr + ray * S + k + 1, mask=inside, other=0.0) + tl.where(inside, 1e-5, 0.0)
    pdf = w / tl.sum(w, 0)
    right = tl.cumsum(pdf, 0)
    # the left edge repeats the running sum one place on, so that both edges of neighbours agree to the last bit
    left = tl.sum(tl.where((k[None, :] + 1) == k[:, None], right[None, :], 0.0), 1)
    t0 = tl.load(t_ptr + k, mask=k < S, other=0.0)
    t1 = tl.load(t_ptr + k + 1, mask=k + 1 < S, other=0.0)
    t2 = tl.load(t_ptr + k + 2, mask=k + 2 < S, other=0.0)
    near, far = (t1 + t0) / 2, (t2 + t1) / 2

    m = tl.arange(0, DRAWS)
    u = tl.load(u_ptr + ray * M + m, mask=m < M, other=0.0)
    # the interval is the last whose left edge does not exceed u
    found = tl.sum(((left[None, :] <= u[:, None]) & inside[None, :]).to(tl.int32), 1) - 1
    beyond = u >= tl.sum(tl.where(k == S - 3, right, 0.0), 0)  # u = 1: the very last midpoint
    hit = k[None, :] == found[:, None]
    cdf0 = tl.sum(tl.where(hit, left[None, :], 0.0), 1)
    cdf1 = tl.sum(tl.where(hit, right[None, :], 0.0), 1)
    b0 = tl.sum(tl.where(hit, near[None, :], 0.0), 1)
    b1 = tl.sum(tl.where(hit, far[None, :], 0.0), 1)
    width = cdf1 - cdf0
    new = b0 + (u - cdf0) / tl.where(width < 1e-5, 1.0, width) * (b1 - b0)
    new = tl.where(beyond, b1, new)

    # merge: the rank of each is the number of those that come before it
    big = float("inf")
    n = tl.arange(0, ALL)
    old = tl.load(t_ptr + n, mask=n < S, other=big)
    new = tl.where(m < M, new, big)
    rank_old = n + tl.sum((new[None, :] < old[:, None]).to(tl.int32), 1)
    rank_new = tl.sum((old[None, :] <= new[:, None]).to(tl.int32), 1)
    earlier = (new[None, :] < new[:, None]) | ((new[None, :] == new[:, None]) & (m[None, :] < m[:, None]))
    rank_new += tl.sum(earlier.to(tl.int32), 1)
    tl.store(out_ptr + rank_old, old, mask=n < S)
    tl.store(out_ptr + rank_new, new, mask=m < M)


def resample(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    (n_rays, S), M = t.shape, u.shape[1]
    out = t.new_empty(n_rays, S + M)
    size = triton.next_power_of_2(S)
    if n_rays:
        resample_kernel[(n_rays,)](
            t.contiguous(), weights.contiguous(), u.contiguous(), out, S, M, size, triton.next_power_of_2(M), size,
            num_warps=1,
        )  # fmt: skip
    return out
