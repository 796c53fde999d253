"""The twin of drawing pixels, in plain PyTorch on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.pixels.types import Draw, Pictures
from nerf_pl.ops.rays.reference import random_bits


def draw_pixels(
    pictures: Pictures, background: Tensor, draw: Draw, within: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    image, row, column = _places(pictures, draw, len(background))
    channels = pictures.images[image, row, column].to(torch.float32) / 255
    rgb = channels[:, :3]
    if channels.shape[1] == 4:
        alpha = channels[:, 3:]
        rgb = rgb * alpha + (1 - alpha) * background
    _, height, width, _ = pictures.images.shape
    numbers = (image * height + row) * width + column
    x, y = column + pictures.offset, row + pictures.offset
    if within is not None:
        k = len(within) // max(len(background), 1)
        image, x, y = (values.repeat_interleave(k) for values in (image, x, y))
        x, y = x + within[:, 0], y + within[:, 1]
    K, c2w = pictures.K[image], pictures.c2w[image]
    u, v = (x - K[:, 0, 2]) / K[:, 0, 0], -(y - K[:, 1, 2]) / K[:, 1, 1]
    directions = u[:, None] * c2w[:, :, 0] + v[:, None] * c2w[:, :, 1] - c2w[:, :, 2]
    return c2w[:, :, 3], F.normalize(directions, dim=-1), rgb, numbers


def _places(pictures: Pictures, draw: Draw, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column (n,) of random pixels."""
    count, height, width, _ = pictures.images.shape
    n_pixels = count * height * width if pictures.allowed is None else len(pictures.allowed)
    pixel = (random_bits(draw.seed, draw.step, draw.stream, n) * n_pixels) >> 32
    pixel = pixel if pictures.allowed is None else pictures.allowed[pixel]
    image, row, column = pixel // (height * width), pixel % (height * width) // width, pixel % width
    high, wide = torch.full_like(row, height), torch.full_like(row, width)
    if pictures.sizes is not None:  # from the canvas to the part of it that the picture fills
        wide, high = pictures.sizes[image].unbind(1)
        row, column = row * high // height, column * wide // width
    if draw.precrop:
        early = draw.step < draw.precrop
        row = torch.where(early, row // 2 + high // 4, row)
        column = torch.where(early, column // 2 + wide // 4, column)
    return image, row, column
