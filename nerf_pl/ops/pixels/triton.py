"""The kernel that draws pixels from images: random numbers, rays and colours in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.pixels.types import Draw, Pictures
from nerf_pl.ops.rays.triton import signed, words


@triton.jit(do_not_specialize=["seed", "stream", "precrop", "n_pixels", "height", "width"])
def draw_kernel(
    step_ptr, images_ptr, c2w_ptr, k_ptr, sizes_ptr, allowed_ptr, background_ptr, within_ptr, origins_ptr,
    directions_ptr, target_ptr, number_ptr, seed, stream, n_pixels, height, width, offset, precrop, n,
    SIZES: tl.constexpr, ALLOWED: tl.constexpr, WITHIN: tl.constexpr, PER_PIXEL: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    step = tl.load(step_ptr)
    bits = words(i // PER_PIXEL, seed, step, stream)
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
    number = image * per_image + row * width + column
    at = number * CHANNELS
    is_first = live & (i % PER_PIXEL == 0)
    tl.store(number_ptr + i // PER_PIXEL, number, mask=is_first)
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
        tl.store(target_ptr + place, colour * alpha + (1 - alpha) * behind, mask=is_first)


def draw_pixels(
    pictures: Pictures, background: Tensor, draw: Draw, within: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, sizes, allowed, step = pictures.images, pictures.sizes, pictures.allowed, draw.step
    pixels = background.shape[0]
    n = pixels if within is None else within.shape[0]
    (count, height, width, channels) = images.shape
    target = torch.empty(pixels, 3, device=background.device)
    numbers = torch.empty(pixels, dtype=torch.int64, device=background.device)
    origins, directions = (torch.empty(n, 3, device=background.device) for _ in range(2))
    n_pixels = count * height * width if allowed is None else len(allowed)
    draw_kernel[(triton.cdiv(n, 128),)](
        step, images, pictures.c2w, pictures.K, step if sizes is None else sizes, step if allowed is None else allowed,
        background.contiguous(), background if within is None else within, origins, directions, target, numbers,
        signed(draw.seed), draw.stream, n_pixels, height, width, pictures.offset, draw.precrop, n,
        SIZES=sizes is not None, ALLOWED=allowed is not None, WITHIN=within is not None,
        PER_PIXEL=n // max(pixels, 1), CHANNELS=channels, BLOCK=128, num_warps=4,
    )  # fmt: skip
    return origins, directions, target, numbers
