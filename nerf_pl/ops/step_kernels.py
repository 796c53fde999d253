# pyright: reportCallIssue=false
"""What surrounds the field in a training step, each in one launch: pixels and their rays drawn from the images, the
loss of composited pixels with its gradient, and the optimizer."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.grid_reference import SEEN, Target
from nerf_pl.ops.ray_kernels import _channel, _mix, _signed, _weights
from nerf_pl.types import Samples

PROGRAMS = 4096  # of the loss: each takes many rays


@triton.jit(do_not_specialize=["seed", "stream", "precrop", "n_pixels", "height", "width"])
def draw_kernel(
    step_ptr, images_ptr, c2w_ptr, k_ptr, sizes_ptr, allowed_ptr, background_ptr, within_ptr, origins_ptr,
    directions_ptr, target_ptr, seed, stream, n_pixels, height, width, offset, precrop, n, SIZES: tl.constexpr,
    ALLOWED: tl.constexpr, WITHIN: tl.constexpr, PER_PIXEL: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    step = tl.load(step_ptr)
    zero = tl.zeros((BLOCK,), tl.uint32)  # all arithmetic modulo 2^32, as in random_kernel
    key = _mix(_mix(_mix(zero + seed.to(tl.uint32)) ^ (zero + step.to(tl.uint32))) ^ stream.to(tl.uint32))
    bits = _mix(_mix((i // PER_PIXEL).to(tl.uint32) ^ key) + key).to(tl.int64)
    per_image = height.to(tl.int64) * width
    draw = (bits * n_pixels) >> 32
    if ALLOWED:
        draw = tl.load(allowed_ptr + draw, mask=live, other=0)
    image = draw // per_image
    pixel = draw - image * per_image
    row = pixel // width
    column = pixel - row * width
    wide, high = width.to(tl.int64) + tl.zeros_like(row), height.to(tl.int64) + tl.zeros_like(row)
    if SIZES:  # from the canvas to the part of it that the picture fills
        wide = tl.load(sizes_ptr + image * 2, mask=live, other=0)
        high = tl.load(sizes_ptr + image * 2 + 1, mask=live, other=0)
        row, column = row * high // height, column * wide // width
    early = step < precrop
    row = tl.where(early, row // 2 + high // 4, row)
    column = tl.where(early, column // 2 + wide // 4, column)

    fx, cx = tl.load(k_ptr + image * 9, mask=live, other=1.0), tl.load(k_ptr + image * 9 + 2, mask=live, other=0.0)
    fy, cy = tl.load(k_ptr + image * 9 + 4, mask=live, other=1.0), tl.load(k_ptr + image * 9 + 5, mask=live, other=0.0)
    x, y = column.to(tl.float32) + offset, row.to(tl.float32) + offset
    if WITHIN:
        x += tl.load(within_ptr + i * 2, mask=live, other=0.0)
        y += tl.load(within_ptr + i * 2 + 1, mask=live, other=0.0)
    u, v = (x - cx) / fx, -(y - cy) / fy
    norm = 1 / tl.sqrt(u * u + v * v + 1)
    at = (image * per_image + row * width + column) * CHANNELS
    alpha = tl.full((BLOCK,), 1.0, tl.float32)
    if CHANNELS == 4:
        alpha = tl.load(images_ptr + at + 3, mask=live, other=0).to(tl.float32) / 255
    for axis in tl.static_range(3):
        pose = c2w_ptr + image * 12 + axis * 4
        right, up = tl.load(pose, mask=live), tl.load(pose + 1, mask=live)
        back, origin = tl.load(pose + 2, mask=live), tl.load(pose + 3, mask=live)
        tl.store(origins_ptr + i * 3 + axis, origin, mask=live)
        tl.store(directions_ptr + i * 3 + axis, (right * u + up * v - back) * norm, mask=live)
        colour = tl.load(images_ptr + at + axis, mask=live, other=0).to(tl.float32) / 255
        place = i // PER_PIXEL * 3 + axis
        behind = tl.load(background_ptr + place, mask=live)
        tl.store(target_ptr + place, colour * alpha + (1 - alpha) * behind, mask=live & (i % PER_PIXEL == 0))


def draw_pixels(
    images: Tensor, c2w: Tensor, K: Tensor, sizes: Tensor | None, allowed: Tensor | None, offset: float,
    background: Tensor, seed: int, step: Tensor, stream: int, precrop: int, within: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Origins and directions (R, 3) of rays through random pixels, and colours of those, as many as `background` (P, 3)
    has rows; see `data.PixelBatches`. images: (C, H, W, 3 or 4) uint8. within: (R, 2), where in their pixels the rays
    pass, R / P of them each."""
    pixels = background.shape[0]
    n = pixels if within is None else within.shape[0]
    (count, height, width, channels) = images.shape
    target = torch.empty(pixels, 3, device=background.device)
    origins, directions = (torch.empty(n, 3, device=background.device) for _ in range(2))
    n_pixels = count * height * width if allowed is None else len(allowed)
    draw_kernel[(triton.cdiv(n, 128),)](
        step, images, c2w, K, step if sizes is None else sizes, step if allowed is None else allowed,
        background.contiguous(), background if within is None else within, origins, directions, target, _signed(seed),
        stream, n_pixels, height, width, offset, precrop, n, SIZES=sizes is not None, ALLOWED=allowed is not None,
        WITHIN=within is not None, PER_PIXEL=n // max(pixels, 1), CHANNELS=channels, BLOCK=128, num_warps=4,
    )  # fmt: skip
    return origins, directions, target


@triton.jit
def harmonics_kernel(dirs_ptr, out_ptr, count_ptr, n, COUNTED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    if COUNTED:
        live = i < tl.load(count_ptr)
    x, y = tl.load(dirs_ptr + i * 3, mask=live), tl.load(dirs_ptr + i * 3 + 1, mask=live)
    z = tl.load(dirs_ptr + i * 3 + 2, mask=live)
    xx, yy, zz = x * x, y * y, z * z
    v0 = tl.full((BLOCK,), 0.28209479177387814, tl.float32)
    v1, v2, v3 = -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x
    v4, v5 = 1.0925484305920792 * x * y, -1.0925484305920792 * y * z
    v6, v7 = 0.31539156525252005 * (3 * zz - 1), -1.0925484305920792 * x * z
    v8, v9 = 0.5462742152960396 * (xx - yy), -0.5900435899266435 * y * (3 * xx - yy)
    v10, v11 = 2.890611442640554 * x * y * z, -0.4570457994644658 * y * (5 * zz - 1)
    v12, v13 = 0.3731763325901154 * z * (5 * zz - 3), -0.4570457994644658 * x * (5 * zz - 1)
    v14, v15 = 1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy)
    # side by side, so that a row is stored at once: the last join varies fastest
    even = tl.join(tl.join(tl.join(v0, v8), tl.join(v4, v12)), tl.join(tl.join(v2, v10), tl.join(v6, v14)))
    odd = tl.join(tl.join(tl.join(v1, v9), tl.join(v5, v13)), tl.join(tl.join(v3, v11), tl.join(v7, v15)))
    rows = tl.reshape(tl.join(even, odd), (BLOCK, 16))
    tl.store(out_ptr + i[:, None] * 16 + tl.arange(0, 16)[None, :], rows, mask=live[:, None])


def spherical_harmonics(dirs: Tensor, count: Tensor | None) -> Tensor:
    n = dirs.shape[0]
    out = torch.empty(n, 16, dtype=torch.float16, device=dirs.device)
    if n:
        harmonics_kernel[(triton.cdiv(n, 128),)](
            dirs.contiguous(), out, dirs if count is None else count, n, COUNTED=count is not None, BLOCK=128,
            num_warps=4,
        )  # fmt: skip
    return out


@triton.jit
def _pixel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, begin, end,
    MARK: tl.constexpr, DISTORTION: tl.constexpr, SEEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What one ray sees: opacity and colours, and for the distortion loss the sum of w_i s_i and the loss itself. MARK:
    in `seen`, the cells of samples that light reaches."""
    before, opacity, red, green, blue, placed, spread = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for start in range(begin, end, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < end
        w, _, _, passed, tau = _weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
        before += tau
        if DISTORTION:
            s = tl.load(place_ptr + i, mask=live, other=0.0)
            nearer, nearer_s = opacity + tl.cumsum(w, 0) - w, placed + tl.cumsum(w * s, 0) - w * s
            spread += tl.sum(2 * w * (s * nearer - nearer_s) + w * w * (width / 3), 0)
            placed += tl.sum(w * s, 0)
        opacity += tl.sum(w, 0)
        red += tl.sum(w * _channel(rgb_ptr, i, live, 0), 0)
        green += tl.sum(w * _channel(rgb_ptr, i, live, 1), 0)
        blue += tl.sum(w * _channel(rgb_ptr, i, live, 2), 0)
        if MARK:
            reached = live & (w + passed > SEEN)  # w + passed is the light that reaches the sample
            cell = tl.load(cells_ptr + i, mask=reached, other=0)
            tl.store(seen_ptr + cell, tl.zeros((BLOCK,), tl.int32) + step, mask=reached)
    return opacity, red, green, blue, placed, spread


@triton.jit
def _list(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, order_ptr, number_ptr, d_sigma_ptr, d_rgb_ptr, step, least,
    distortion, width, begin, end, opacity, red, green, blue, placed, spread, g_red, g_green, g_blue, g_opacity,
    DISTORTION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """List samples of a ray whose pixel has the gradients g, with their own gradients; see loss_kernel."""
    behind = g_red * red + g_green * green + g_blue * blue + g_opacity * opacity
    before, opacity_so_far, placed_so_far = 0.0, 0.0, 0.0
    if DISTORTION:
        behind += 2 * distortion * spread
    for start in range(begin, end, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < end
        w, _, dt, passed, tau = _weights(sigma_ptr, t_ptr, dt_ptr, i, begin, live, before)
        before += tau
        q = g_opacity + g_red * _channel(rgb_ptr, i, live, 0)
        q += g_green * _channel(rgb_ptr, i, live, 1) + g_blue * _channel(rgb_ptr, i, live, 2)
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
        size = tl.abs(d_sigma) * tl.load(sigma_ptr + i, mask=live, other=0.0)
        size += w * (tl.abs(g_red) + tl.abs(g_green) + tl.abs(g_blue))
        u = (_mix(_mix(i.to(tl.uint32)) ^ step.to(tl.uint32)) >> 8).to(tl.float32) * 5.9604644775390625e-8
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
def loss_kernel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, offsets_ptr, target_ptr, background_ptr, kept_ptr, cells_ptr, seen_ptr, step_ptr,
    least_ptr, place_ptr, errors_ptr, order_ptr, number_ptr, d_sigma_ptr, d_rgb_ptr, distortion, width,
    DISTORTION: tl.constexpr, PER_PIXEL: tl.constexpr, SEEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One pixel at a time: the mean of its rays, the squared error, and the gradient of the mean squared error. With
    q_i the gradient of w_i:  d sigma_i = dt_i (T_{i+1} q_i - sum_{j>i} w_j q_j)  and  d rgb_i = w_i g.

    With DISTORTION q_i has a part  2 (s_i (2 A_i - A) + B - 2 B_i) + 2/3 w_i width  more, A_i and B_i being the sums of
    w_j and w_j s_j in front of the sample, A and B those of the ray.

    A sample whose gradient has the size s is listed with the probability min(1, s / least), and its gradient divided by
    that.
    """
    least = tl.load(least_ptr)
    n_pixels = tl.load(kept_ptr) // PER_PIXEL
    rays = tl.maximum(n_pixels * PER_PIXEL, 1).to(tl.float32)
    scale = 2.0 / (3.0 * rays)
    distortion /= rays
    step = tl.load(step_ptr).to(tl.int32)
    total = 0.0
    for pixel in range(tl.program_id(0), n_pixels, tl.num_programs(0)):
        first = pixel * PER_PIXEL
        sees, red, green, blue, placed, spread = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for ray in range(first, first + PER_PIXEL):
            begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
            o, r, g, b, placed, spread = _pixel(
                sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, begin, end,
                True, DISTORTION, SEEN, BLOCK,
            )  # fmt: skip
            sees, red, green, blue = sees + o, red + r, green + g, blue + b
        b_red, b_green = tl.load(background_ptr + pixel * 3), tl.load(background_ptr + pixel * 3 + 1)
        b_blue = tl.load(background_ptr + pixel * 3 + 2)
        passes = 1 - sees / PER_PIXEL
        e_red = red / PER_PIXEL + passes * b_red - tl.load(target_ptr + pixel * 3)
        e_green = green / PER_PIXEL + passes * b_green - tl.load(target_ptr + pixel * 3 + 1)
        e_blue = blue / PER_PIXEL + passes * b_blue - tl.load(target_ptr + pixel * 3 + 2)
        total += e_red * e_red + e_green * e_green + e_blue * e_blue
        g_red, g_green, g_blue = e_red * scale, e_green * scale, e_blue * scale
        g_opacity = -(g_red * b_red + g_green * b_green + g_blue * b_blue)
        for ray in range(first, first + PER_PIXEL):
            begin, end = tl.load(offsets_ptr + ray), tl.load(offsets_ptr + ray + 1)
            if PER_PIXEL > 1:
                sees, red, green, blue, placed, spread = _pixel(
                    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, cells_ptr, seen_ptr, step, width, begin, end,
                    False, DISTORTION, SEEN, BLOCK,
                )  # fmt: skip
            _list(
                sigma_ptr, rgb_ptr, t_ptr, dt_ptr, place_ptr, order_ptr, number_ptr, d_sigma_ptr, d_rgb_ptr, step,
                least, distortion, width, begin, end, sees, red, green, blue, placed, spread, g_red, g_green, g_blue,
                g_opacity, DISTORTION, BLOCK,
            )  # fmt: skip
    tl.store(errors_ptr + tl.program_id(0), total)


@triton.jit
def sum_kernel(
    errors_ptr, kept_ptr, number_ptr, least_ptr, loss_ptr, n, wanted, PER_PIXEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The mean of the errors, and the threshold with which the next step would list as many samples as are wanted."""
    i = tl.arange(0, BLOCK)
    total = tl.sum(tl.load(errors_ptr + i, mask=i < n, other=0.0), 0)
    pixels = tl.maximum(tl.load(kept_ptr) // PER_PIXEL, 1)
    tl.store(loss_ptr, total / (3.0 * pixels.to(tl.float32)))
    change = tl.load(number_ptr).to(tl.float32) / wanted
    least = tl.load(least_ptr) * tl.minimum(tl.maximum(change, 0.125), 8.0)
    tl.store(least_ptr, tl.minimum(tl.maximum(least, 1e-20), 1e20))


def photometric(
    sigmas: Tensor, rgbs: Tensor, samples: Samples, aim: Target
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss; then the list of samples to go back to, its length, and their gradients.

    See `grid_reference.photometric` and `Target`.
    """
    n, programs = len(samples), max(min(aim.rgb.shape[0], PROGRAMS), 1)
    device, per_pixel = sigmas.device, aim.rays_per_pixel(samples)
    errors, loss = torch.empty(programs, device=device), torch.empty((), device=device)
    order, number = torch.empty(n, dtype=torch.int32, device=device), torch.zeros(1, dtype=torch.int32, device=device)
    d_sigma, d_rgb = torch.empty_like(sigmas), torch.empty_like(rgbs)
    loss_kernel[(programs,)](
        sigmas, rgbs, samples.t, samples.dt, samples.offsets, aim.rgb, aim.background.contiguous(), aim.kept, aim.cells,
        aim.seen, aim.step, aim.least, samples.t if aim.place is None else aim.place, errors, order, number, d_sigma,
        d_rgb, aim.distortion, aim.width, DISTORTION=aim.place is not None, PER_PIXEL=per_pixel, SEEN=SEEN,
        BLOCK=32, num_warps=1,
    )  # fmt: skip
    wanted = max(aim.share * n, 1.0) if aim.share < 1 else 1e30
    given = errors, aim.kept, number, aim.least, loss, programs, wanted
    sum_kernel[(1,)](*given, PER_PIXEL=per_pixel, BLOCK=PROGRAMS, num_warps=8)
    return loss, order, number, d_sigma, d_rgb


@triton.jit
def adam_kernel(
    p_ptr, g_ptr, m_ptr, v_ptr, half_ptr, ok_ptr, n, lr, decay, beta1, beta2, root_correction, eps,
    SPARSE: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(ok_ptr) > 0:
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        live = i < n
        g = tl.load(g_ptr + i, mask=live, other=0.0)
        if SPARSE:
            live = live & (g != 0)
        p = tl.load(p_ptr + i, mask=live, other=0.0)
        m = beta1 * tl.load(m_ptr + i, mask=live, other=0.0) + (1 - beta1) * g
        v = beta2 * tl.load(v_ptr + i, mask=live, other=0.0) + (1 - beta2) * g * g
        p = p - lr * (m / (tl.sqrt(v) * root_correction + eps) + decay * p)
        tl.store(p_ptr + i, p, mask=live)
        tl.store(m_ptr + i, m, mask=live)
        tl.store(v_ptr + i, v, mask=live)
        if HALF:
            tl.store(half_ptr + i, p, mask=live)


def adam(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, half: Tensor | None, ok: Tensor, lr: float, decay: float,
    betas: tuple[float, float], step: int, eps: float, sparse: bool,
) -> None:  # fmt: skip
    """One step of Adam in place; see `optim.GridAdam`."""
    n = p.numel()
    first, second = 1 - betas[0] ** step, 1 - betas[1] ** step
    adam_kernel[(triton.cdiv(n, 1024),)](
        p, g, m, v, p if half is None else half, ok, n, lr / first, decay * first, betas[0], betas[1],
        second**-0.5, eps, SPARSE=sparse, HALF=half is not None, BLOCK=1024, num_warps=4,
    )  # fmt: skip
