"""Batches of pixels drawn on the device, and the data module that drives training in short chunks of steps."""

from collections.abc import Callable, Sequence

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nerf_pl import ops
from nerf_pl.cameras import pixel_rays
from nerf_pl.sampling import uniform
from nerf_pl.scenes import Scene
from nerf_pl.types import Rays

PIXELS, BACKGROUND = 0, 6  # streams of random numbers


class PixelBatches(nn.Module):
    """Random pixels of all training images, drawn, gathered and turned into rays on the device that holds the images.

    The draw depends on (seed, step) alone. During the first `precrop_steps` steps only the central half of the images
    is drawn from: an object on a white ground fills more of it, and a network that first sees little but white may
    learn to be empty and never recover.
    """

    images: Tensor
    c2w: Tensor
    K: Tensor
    behind: Tensor
    near: Tensor
    far: Tensor

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
        self.random_background = random_background and scene.images.shape[-1] == 4
        self.batch_size, self.seed, self.precrop_steps = batch_size, seed, precrop_steps
        self.cameras = scene.cameras
        # buffers, so that they follow the module to its device; not persistent, a checkpoint holds no images
        self.register_buffer("images", scene.images, persistent=False)
        self.register_buffer("c2w", scene.cameras.c2w.contiguous(), persistent=False)
        self.register_buffer("K", scene.cameras.K.contiguous(), persistent=False)
        behind = torch.tensor(scene.background or (0.0, 0.0, 0.0))
        self.register_buffer("behind", behind, persistent=False)
        self.register_buffer("near", torch.full((batch_size,), scene.near), persistent=False)
        self.register_buffer("far", torch.full((batch_size,), scene.far), persistent=False)

    def __len__(self) -> int:
        return self.images.shape[0] * self.images.shape[1] * self.images.shape[2]

    def forward(self, step: Tensor) -> tuple[Rays, Tensor, Tensor]:
        """Rays, their colours (R, 3) and what is behind them (R, 3), for this step: an int64 tensor of one element."""
        on_gpu = ops.use_kernels(step.device)
        n = self.batch_size if self.active is None or on_gpu else min(self.batch_size, int(1.5 * int(self.active)) + 1)
        background = self._background(step, n)
        if on_gpu:
            given = self.images, self.c2w, self.K, self.cameras.pixel_offset, background
            origins, directions, rgb = ops.draw_pixels(*given, self.seed, step, PIXELS, self.precrop_steps)
            return Rays(origins, directions, directions, self.near, self.far), rgb, background
        n_images, height, width, channels = self.images.shape
        draw = (ops.random_bits(self.seed, step, PIXELS, n) * len(self)) >> 32
        image_ids, pixel_ids = draw // (height * width), draw % (height * width)
        if self.precrop_steps:
            early = step < self.precrop_steps
            row, column = pixel_ids // width, pixel_ids % width
            cropped = (row // 2 + height // 4) * width + column // 2 + width // 4
            pixel_ids = torch.where(early, cropped, pixel_ids)
        pixels = self.images.view(n_images, -1, channels)[image_ids, pixel_ids]
        cameras = self.cameras.on(self.c2w, self.K)
        rays = pixel_rays(cameras, image_ids, pixel_ids, float(self.near[0]), float(self.far[0]))
        rgb = pixels[:, :3].to(torch.float32) / 255
        if channels == 4:
            alpha = pixels[:, 3:].to(torch.float32) / 255
            rgb = rgb * alpha + (1 - alpha) * background
        return rays, rgb, background

    def _background(self, step: Tensor, n: int) -> Tensor:
        if not self.random_background:
            return self.behind.expand(n, 3)
        return uniform(self.seed, step, BACKGROUND, (n, 3))


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
