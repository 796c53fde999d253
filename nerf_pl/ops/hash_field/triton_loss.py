"""The loss of composited pixels, with its gradient and the list of samples to go back to, in one launch; see
`reference.pixel_loss`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.hash_field.losses import LEAST_OPACITY
from nerf_pl.ops.hash_field.reference import SEEN
from nerf_pl.ops.hash_field.types import Listed, Target
from nerf_pl.ops.rays.triton import block_weights, channel, mix
from nerf_pl.types import Samples

PROGRAMS = 4096  # each takes many rays


@triton.jit
def _pixel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, clear, begin, end,
    MARK: tl.constexpr, DISTORTION: tl.constexpr, CLEAR: tl.constexpr, SEEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What one ray sees: opacity and colours, for the distortion loss the sum of w_i s_i and the loss itself, and the
    sum of w_i up to `clear`. MARK: in `seen`, the cells of samples that light reaches."""
    before, opacity, red, green, blue, placed, spread, fog = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for start in range(begin, end, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < end
        w, t, _, passed, tau = block_weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
        before += tau
        if CLEAR:
            fog += tl.sum(tl.where(t < clear, w, 0.0), 0)
        if DISTORTION:
            s = tl.load(place_ptr + i, mask=live, other=0.0)
            nearer, nearer_s = opacity + tl.cumsum(w, 0) - w, placed + tl.cumsum(w * s, 0) - w * s
            spread += tl.sum(2 * w * (s * nearer - nearer_s) + w * w * (width / 3), 0)
            placed += tl.sum(w * s, 0)
        opacity += tl.sum(w, 0)
        red += tl.sum(w * channel(rgb_ptr, i, live, 0), 0)
        green += tl.sum(w * channel(rgb_ptr, i, live, 1), 0)
        blue += tl.sum(w * channel(rgb_ptr, i, live, 2), 0)
        if MARK:
            reached = live & (w + passed > SEEN)  # w + passed is the light that reaches the sample
            cell = tl.load(cells_ptr + i, mask=reached, other=0)
            tl.store(seen_ptr + cell, tl.zeros((BLOCK,), tl.int32) + step, mask=reached)
    return opacity, red, green, blue, placed, spread, fog


@triton.jit
def _list(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, order_ptr, number_ptr, d_sigma_ptr, d_rgb_ptr, step, least,
    distortion, width, close_range, clear, emptiness, begin, end, opacity, red, green, blue, placed, spread, fog, g_red,
    g_green, g_blue, g_opacity, DISTORTION: tl.constexpr, CLEAR: tl.constexpr, CLOSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """List samples of a ray whose pixel has the gradients g, with their own gradients; see loss_kernel."""
    behind = g_red * red + g_green * green + g_blue * blue + g_opacity * opacity
    before, opacity_so_far, placed_so_far = 0.0, 0.0, 0.0
    if DISTORTION:
        behind += 2 * distortion * spread
    if CLEAR:
        behind += emptiness * fog
    for start in range(begin, end, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < end
        w, t, dt, passed, tau = block_weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
        before += tau
        q = g_opacity + g_red * channel(rgb_ptr, i, live, 0)
        q += g_green * channel(rgb_ptr, i, live, 1) + g_blue * channel(rgb_ptr, i, live, 2)
        if CLEAR:
            q += tl.where(t < clear, emptiness, 0.0)
        if DISTORTION:
            s = tl.load(place_ptr + i, mask=live, other=0.0)
            nearer = opacity_so_far + tl.cumsum(w, 0) - w
            nearer_s = placed_so_far + tl.cumsum(w * s, 0) - w * s
            apart = s * (2 * nearer - opacity) + placed - 2 * nearer_s
            q += distortion * 2 * (apart + w * (width / 3))
            opacity_so_far += tl.sum(w, 0)
            placed_so_far += tl.sum(w * s, 0)
        wq = tl.where(live, w * q, 0.0)
        rest = tl.where(i == end - 1, 0.0, behind - tl.cumsum(wq, 0))
        behind -= tl.sum(wq, 0)
        d_sigma = dt * (passed * q - rest)
        if CLOSE:
            share = tl.minimum(t / close_range, 1.0)
            d_sigma, w = d_sigma * share * share, w * share * share
        size = tl.abs(d_sigma) * tl.load(sigma_ptr + i, mask=live, other=0.0)
        size += w * (tl.abs(g_red) + tl.abs(g_green) + tl.abs(g_blue))
        u = (mix(mix(i.to(tl.uint32)) ^ step.to(tl.uint32)) >> 8).to(tl.float32) * 5.9604644775390625e-8
        listed = live & (u * least < size)
        scale_up = tl.maximum(least / tl.where(listed, size, 1.0), 1.0)
        n_listed = tl.sum(listed.to(tl.int32), 0)
        if n_listed > 0:
            at = tl.atomic_add(number_ptr, n_listed) + tl.cumsum(listed.to(tl.int32), 0) - 1
            tl.store(order_ptr + at, i, mask=listed)
            tl.store(d_sigma_ptr + at, d_sigma * scale_up, mask=listed)
            tl.store(d_rgb_ptr + at * 3, w * g_red * scale_up, mask=listed)
            tl.store(d_rgb_ptr + at * 3 + 1, w * g_green * scale_up, mask=listed)
            tl.store(d_rgb_ptr + at * 3 + 2, w * g_blue * scale_up, mask=listed)


@triton.jit
def _linear(x):
    """Linear light of an sRGB value, and the slope there; see `colour.linear`."""
    base = tl.maximum((x + 0.055) / 1.055, 0.05)
    power = tl.exp2(1.4 * tl.log2(base))
    is_low = x <= 0.04045
    return tl.where(is_low, x / 12.92, power * base), tl.where(is_low, 1 / 12.92, power * (2.4 / 1.055))


@triton.jit
def _srgb(x):
    """The inverse of `_linear`, and the slope there."""
    base = tl.maximum(x, 0.003)
    root = tl.exp2(tl.log2(base) / 2.4)
    is_low = x <= 0.0031308
    return tl.where(is_low, 12.92 * x, 1.055 * root - 0.055), tl.where(is_low, 12.92, 1.055 / 2.4 * root / base)


@triton.jit
def _light(opacity, colour, LEAST: tl.constexpr):
    """Linear light of a ray with a premultiplied colour in sRGB."""
    return opacity * _linear(colour / tl.maximum(opacity, LEAST))[0]


@triton.jit
def _ray_gradients(error, opacity, colour, mean, encoded, slope, behind, LEAST: tl.constexpr):
    """Gradients in the premultiplied colour of a ray and in its opacity, k times, given that in its pixel.

    For one channel: a pixel with the mean opacity A and the mean light m over what is behind, b, is A f(m) + (1 - A) b.
    With f(m) = encoded, f'(m) = slope, and s = colour / opacity of the ray, whose light is g(s):
    d/d colour = f'(m) g'(s) / k  and  d/d opacity = (f'(m) (g(s) - s g'(s) - m) + f(m) - b) / k.
    """
    straight = colour / tl.maximum(opacity, LEAST)
    light, steep = _linear(straight)
    return error * slope * steep, error * (slope * (light - straight * steep - mean) + encoded - behind)


@triton.jit
def _held(error, most):
    """Half of the gradient of one error: for large ones it ends at `most`."""
    ratio = error / most
    return error / tl.sqrt(1 + ratio * ratio)


@triton.jit
def loss_kernel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, offsets_ptr, target_ptr, background_ptr, kept_ptr, cells_ptr, seen_ptr, step_ptr,
    least_ptr, place_ptr, clear_ptr, emptiness_ptr, errors_ptr, d_target_ptr, order_ptr, number_ptr, d_sigma_ptr,
    d_rgb_ptr, distortion, width, close_range, charbonnier, ALL: tl.constexpr, DISTORTION: tl.constexpr,
    CLEAR: tl.constexpr, CLOSE: tl.constexpr, CHARBONNIER: tl.constexpr, PER_PIXEL: tl.constexpr, SEEN: tl.constexpr,
    LEAST: tl.constexpr, TARGET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One pixel at a time: the mean of its rays in linear light, the squared error, and the gradient of its mean. With
    q_i the gradient of w_i:  d sigma_i = dt_i (T_{i+1} q_i - sum_{j>i} w_j q_j)  and  d rgb_i = w_i g.

    With DISTORTION q_i has a part  2 (s_i (2 A_i - A) + B - 2 B_i) + 2/3 w_i width  more, A_i and B_i being the sums of
    w_j and w_j s_j in front of the sample, A and B those of the ray. With CLEAR it has a part `emptiness` more up to
    the distance `clear` of the pixel.

    CLOSE: gradients of samples nearer than close_range grow with the square of t.
    CHARBONNIER: the gradient is that of `losses.photometric` with its square root; the value stays the squared error.
    TARGET: the gradient of the pixels' target is written, too.
    ALL: every sample that has a gradient is listed; else see `reference.listed`.
    """
    least = 0.0 if ALL else tl.load(least_ptr)
    n_pixels = tl.load(kept_ptr) // PER_PIXEL
    rays = tl.maximum(n_pixels * PER_PIXEL, 1).to(tl.float32)
    scale = 2.0 / (3.0 * rays)
    distortion /= rays
    emptiness = tl.load(emptiness_ptr) / rays if CLEAR else 0.0
    step = tl.load(step_ptr).to(tl.int32)
    total = 0.0
    for pixel in range(tl.program_id(0), n_pixels, tl.num_programs(0)):
        first = pixel * PER_PIXEL
        clear = tl.load(clear_ptr + pixel) if CLEAR else 0.0
        sees, red, green, blue, placed, spread, fog = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for ray in range(first, first + PER_PIXEL):
            begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
            o, r, g, b, placed, spread, fog = _pixel(
                sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, clear, begin, end,
                True, DISTORTION, CLEAR, SEEN, BLOCK,
            )  # fmt: skip
            if PER_PIXEL > 1:
                r, g, b = _light(o, r, LEAST), _light(o, g, LEAST), _light(o, b, LEAST)
            sees, red, green, blue = sees + o, red + r, green + g, blue + b
        b_red, b_green = tl.load(background_ptr + pixel * 3), tl.load(background_ptr + pixel * 3 + 1)
        b_blue = tl.load(background_ptr + pixel * 3 + 2)
        opacity = sees / PER_PIXEL
        if PER_PIXEL > 1:  # from the sum of light to its mean, and to premultiplied sRGB
            sees = tl.maximum(sees, LEAST)
            m_red, m_green, m_blue = red / sees, green / sees, blue / sees
            f_red, slope_red = _srgb(m_red)
            f_green, slope_green = _srgb(m_green)
            f_blue, slope_blue = _srgb(m_blue)
            red, green, blue = opacity * f_red, opacity * f_green, opacity * f_blue
        e_red = red + (1 - opacity) * b_red - tl.load(target_ptr + pixel * 3)
        e_green = green + (1 - opacity) * b_green - tl.load(target_ptr + pixel * 3 + 1)
        e_blue = blue + (1 - opacity) * b_blue - tl.load(target_ptr + pixel * 3 + 2)
        total += e_red * e_red + e_green * e_green + e_blue * e_blue
        if CHARBONNIER:
            e_red, e_green = _held(e_red, charbonnier), _held(e_green, charbonnier)
            e_blue = _held(e_blue, charbonnier)
        e_red, e_green, e_blue = e_red * scale, e_green * scale, e_blue * scale
        if TARGET:
            tl.store(d_target_ptr + pixel * 3, -e_red * PER_PIXEL)
            tl.store(d_target_ptr + pixel * 3 + 1, -e_green * PER_PIXEL)
            tl.store(d_target_ptr + pixel * 3 + 2, -e_blue * PER_PIXEL)
        g_red, g_green, g_blue = e_red, e_green, e_blue
        g_opacity = -(g_red * b_red + g_green * b_green + g_blue * b_blue)
        for ray in range(first, first + PER_PIXEL):
            begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
            if PER_PIXEL > 1:
                sees, red, green, blue, placed, spread, fog = _pixel(
                    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, clear, begin, end,
                    False, DISTORTION, CLEAR, SEEN, BLOCK,
                )  # fmt: skip
                g_red, in_red = _ray_gradients(e_red, sees, red, m_red, f_red, slope_red, b_red, LEAST)
                g_green, in_green = _ray_gradients(e_green, sees, green, m_green, f_green, slope_green, b_green, LEAST)
                g_blue, in_blue = _ray_gradients(e_blue, sees, blue, m_blue, f_blue, slope_blue, b_blue, LEAST)
                g_opacity = in_red + in_green + in_blue
            _list(
                sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, order_ptr, number_ptr, d_sigma_ptr, d_rgb_ptr, step,
                least, distortion, width, close_range, clear, emptiness, begin, end, sees, red, green, blue, placed,
                spread, fog, g_red, g_green, g_blue, g_opacity, DISTORTION, CLEAR, CLOSE, BLOCK,
            )  # fmt: skip
    tl.store(errors_ptr + tl.program_id(0), total)


@triton.jit
def sum_kernel(
    errors_ptr, kept_ptr, number_ptr, least_ptr, loss_ptr, n, wanted, ALL: tl.constexpr, PER_PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The mean of the errors; and, unless ALL are listed, the threshold that would list as many samples as wanted."""
    i = tl.arange(0, BLOCK)
    total = tl.sum(tl.load(errors_ptr + i, mask=i < n, other=0.0), 0)
    pixels = tl.maximum(tl.load(kept_ptr) // PER_PIXEL, 1)
    tl.store(loss_ptr, total / (3.0 * pixels.to(tl.float32)))
    if not ALL:
        change = tl.load(number_ptr).to(tl.float32) / wanted
        least = tl.load(least_ptr) * tl.minimum(tl.maximum(change, 0.125), 8.0)
        tl.store(least_ptr, tl.minimum(tl.maximum(least, 1e-20), 1e20))


def pixel_loss(
    sigmas: Tensor, rgbs: Tensor, samples: Samples, target: Target, d_target: Tensor | None = None
) -> tuple[Tensor, Listed]:
    """The loss, and the samples to go back to. d_target: zeros, to take the gradient of the colours in `target`."""
    n, programs = len(samples), max(min(target.rgb.shape[0], PROGRAMS), 1)
    device, per_pixel, lists_all = sigmas.device, target.rays_per_pixel(samples), target.share >= 1
    errors, loss = torch.empty(programs, device=device), torch.empty((), device=device)
    order, number = torch.empty(n, dtype=torch.int32, device=device), torch.zeros(1, dtype=torch.int32, device=device)
    listed = Listed(order, number, torch.empty_like(sigmas), torch.empty_like(rgbs))
    loss_kernel[(programs,)](
        sigmas, rgbs, samples.t, samples.dt, samples.offsets, target.rgb, target.background.contiguous(), target.kept,
        target.cells, target.seen, target.step, target.least, samples.t if target.place is None else target.place,
        errors if target.clear is None else target.clear, errors if target.emptiness is None else target.emptiness,
        errors, errors if d_target is None else d_target, *listed, target.distortion, target.width, target.close_range,
        target.charbonnier, ALL=lists_all, DISTORTION=target.place is not None, CLEAR=target.clear is not None,
        CLOSE=target.close_range > 0, CHARBONNIER=target.charbonnier > 0, TARGET=d_target is not None,
        PER_PIXEL=per_pixel, SEEN=SEEN, LEAST=LEAST_OPACITY, BLOCK=32, num_warps=1,
    )  # fmt: skip
    wanted = max(target.share * n, 1.0)
    sum_kernel[(1,)](
        errors, target.kept, number, target.least, loss, programs, wanted, ALL=lists_all, PER_PIXEL=per_pixel,
        BLOCK=PROGRAMS, num_warps=8,
    )  # fmt: skip
    return loss, listed
