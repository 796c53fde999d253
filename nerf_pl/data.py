"""Batches of pixels drawn on the device, and the data module that drives training in short chunks of steps."""

from collections.abc import Callable, Sequence

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nerf_pl import ops
from nerf_pl.cameras import ndc_rays, pixel_rays
from nerf_pl.errors import UserError
from nerf_pl.sampling import LATTICE, uniform
from nerf_pl.scenes import Scene
from nerf_pl.types import Rays

PIXELS, BACKGROUND, WITHIN = 0, 6, 7  # streams of random numbers


class PixelBatches(nn.Module):
    """Random pixels of all training images, drawn, gathered and turned into rays on the device that holds the images.

    The draw depends on (seed, step) alone. Of views of several sizes each gets an equal share. During the first
    `precrop_steps` steps only the central half of the images is drawn from: an object on a white ground fills more of
    it, and a network that first sees little but white may learn to be empty and never recover.

    Rays pass through the middle of their pixels, or several of them through places spread over each.
    """

    images: Tensor
    c2w: Tensor
    K: Tensor
    sizes: Tensor | None
    allowed: Tensor | None
    behind: Tensor
    near: Tensor
    far: Tensor
    lattice: Tensor

    def __init__(
        self,
        scene: Scene,
        batch_size: int,
        seed: int,
        precrop_steps: int = 0,
        random_background: bool = False,
        active: Tensor | None = None,
    ):
        super().__init__()
        self.active = active
        self.random_background = random_background
        self.batch_size, self.seed, self.precrop_steps = batch_size, seed, precrop_steps
        self.cameras, self.ndc = scene.cameras, scene.ndc
        # buffers, so that they follow the module to its device; not persistent, a checkpoint holds no images
        self.register_buffer("images", scene.images, persistent=False)
        self.register_buffer("c2w", scene.cameras.c2w.contiguous(), persistent=False)
        self.register_buffer("K", scene.cameras.K.contiguous(), persistent=False)
        # pixels that masks allow are none of a canvas's empty ones
        sizes = scene.cameras.sizes if scene.masks is None else None
        self.register_buffer("sizes", sizes, persistent=False)
        allowed = None if scene.masks is None else scene.masks.flatten().nonzero()[:, 0]
        if allowed is not None and not len(allowed):
            raise UserError(f"{scene.root}: the masks leave no pixel to learn from: white is what counts")
        self.register_buffer("allowed", allowed, persistent=False)
        behind = torch.tensor(scene.background or (0.0, 0.0, 0.0))
        self.register_buffer("behind", behind, persistent=False)
        self.register_buffer("lattice", torch.tensor(LATTICE), persistent=False)
        self.register_buffer("near", torch.full((batch_size,), scene.near), persistent=False)
        self.register_buffer("far", torch.full((batch_size,), scene.far), persistent=False)

    def __len__(self) -> int:
        """Pixels to draw from; of views of several sizes, those of the canvas."""
        return self.images.shape[:3].numel() if self.allowed is None else len(self.allowed)

    def forward(self, step: Tensor, rays_per_pixel: int = 1) -> tuple[Rays, Tensor, Tensor]:
        """Rays, the colours of their pixels (P, 3) and what is behind those (P, 3), for this step: an int64 tensor of
        one element. The rays of a pixel come one after the other."""
        on_gpu = ops.use_kernels(step.device)
        n = self.batch_size if self.active is None or on_gpu else min(self.batch_size, int(1.5 * int(self.active)) + 1)
        n -= n % rays_per_pixel
        background, within = self._background(step, n // rays_per_pixel), self._within(step, n, rays_per_pixel)
        if on_gpu:
            given = self.images, self.c2w, self.K, self.sizes, self.allowed, self.cameras.pixel_offset, background
            draw = self.seed, step, PIXELS, self.precrop_steps, within
            origins, directions, rgb = ops.draw_pixels(*given, *draw)
            return self._placed(Rays(origins, directions, directions, self.near[:n], self.far[:n])), rgb, background
        n_images, height, width, channels = self.images.shape
        draw = (ops.random_bits(self.seed, step, PIXELS, len(background)) * len(self)) >> 32
        draw = draw if self.allowed is None else self.allowed[draw]
        image_ids, pixel_ids = draw // (height * width), draw % (height * width)
        row, column = pixel_ids // width, pixel_ids % width
        high, wide = torch.full_like(row, height), torch.full_like(row, width)
        if self.sizes is not None:  # from the canvas to the part of it that the picture fills
            wide, high = self.sizes[image_ids].unbind(1)
            row, column = row * high // height, column * wide // width
        if self.precrop_steps:
            early = step < self.precrop_steps
            row = torch.where(early, row // 2 + high // 4, row)
            column = torch.where(early, column // 2 + wide // 4, column)
        pixel_ids = row * width + column
        pixels = self.images.view(n_images, -1, channels)[image_ids, pixel_ids]
        cameras = self.cameras.on(self.c2w, self.K)
        bounds = float(self.near[0]), float(self.far[0])
        image_ids, pixel_ids = (ids.repeat_interleave(rays_per_pixel) for ids in (image_ids, pixel_ids))
        rays = pixel_rays(cameras, image_ids, pixel_ids, *bounds, within)
        rgb = pixels[:, :3].to(torch.float32) / 255
        if channels == 4:
            alpha = pixels[:, 3:].to(torch.float32) / 255
            rgb = rgb * alpha + (1 - alpha) * background
        return self._placed(rays), rgb, background

    def _placed(self, rays: Rays) -> Rays:
        """The rays in the space that the model lives in."""
        return rays if self.ndc is None else ndc_rays(rays, self.ndc)

    def _background(self, step: Tensor, n: int) -> Tensor:
        if not self.random_background:
            return self.behind.expand(n, 3)
        return uniform(self.seed, step, BACKGROUND, (n, 3))

    def _within(self, step: Tensor, n: int, rays_per_pixel: int) -> Tensor | None:
        """Where in their pixels n rays pass, from the middle: the first one of each at random."""
        if rays_per_pixel == 1:
            return None
        steps = torch.arange(rays_per_pixel, device=step.device)[:, None] * self.lattice
        first = uniform(self.seed, step, WITHIN, (n // rays_per_pixel, 1, 2))
        return ((first + steps) % 1 - 0.5).view(n, 2)


class SceneData(L.LightningDataModule):
    """Training: one item is a number of steps to take at once, one pass the way to the next validation.
    Validation: one item is the index of a view. Each process takes its share, of the same size as the others'; where
    the views do not suffice for that, some are rendered twice."""

    def __init__(self, n_val: int, next_chunks: Callable[[], Sequence[int]], val_views: int):
        super().__init__()
        self.n_val, self.next_chunks, self.val_views = n_val, next_chunks, val_views

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.next_chunks(), batch_size=None)  # pyright: ignore[reportArgumentType]

    def val_dataloader(self) -> DataLoader:
        n = min(self.val_views, self.n_val)
        views = [round(i * (self.n_val - 1) / max(n - 1, 1)) for i in range(n)]  # spread over the split
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share = [views[i % n] for i in range(rank, -(-n // world) * world, world)]
        return DataLoader(share, batch_size=None)  # pyright: ignore[reportArgumentType]
