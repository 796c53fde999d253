# pyright: reportCallIssue=false
"""What surrounds the field in a training step, each in one launch: pixels and their rays drawn from the images, encoded
directions, and the optimizer. The loss is in `loss_kernels`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.ray_kernels import _mix, _signed


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
