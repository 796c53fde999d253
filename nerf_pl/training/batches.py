"""Batches of pixels drawn on the device."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nerf_pl.cameras import ndc_rays
from nerf_pl.errors import UserError
from nerf_pl.ops import Backend, Draw, Pictures, draw_pixels
from nerf_pl.randomness import Stream, uniform
from nerf_pl.sampling import LATTICE
from nerf_pl.scenes import Scene
from nerf_pl.scenes.air import air_of
from nerf_pl.scenes.clearings import clearings
from nerf_pl.training.colours import ColourFit
from nerf_pl.types import Batch, Rays

STILL_RANDOM = 4  # late in a training one of so many pixels is in front of a random colour (docs/log.md)


class PixelBatches(nn.Module):
    """Random pixels of all training images, drawn and turned into rays on the device that holds the images.

    The draw depends on (seed, step) alone. Without masks each view has an equal share of it, whatever its size. The
    first `precrop_steps` steps draw from the middle half of the rows and columns: an object on a white ground fills
    more of the middle, and a network that first sees little but white may learn to be empty and never recover.

    One ray passes through the middle of a pixel. Several rays pass through places spread over it.
    limit: the most rays that the next step can use, see `methods.model.Model.batch_limit`. fit_colours: even out the
    exposure of photos, see `ColourFit`; pictures with alpha are left as they are.
    """

    images: Tensor
    c2w: Tensor
    K: Tensor
    sizes: Tensor | None
    allowed: Tensor | None
    behind: Tensor
    clear: Tensor | None
    is_random: Tensor
    near: Tensor
    far: Tensor
    lattice: Tensor

    def __init__(
        self,
        scene: Scene,
        batch_size: int,
        seed: int,
        *,
        backend: Backend,
        precrop_steps: int = 0,
        random_until: float = 0.0,
        limit: Callable[[], int | None] = lambda: None,
        fit_colours: bool = False,
    ):
        super().__init__()
        self.backend, self.limit = backend, limit
        self.random_until = 0.0 if scene.plain else random_until  # plain: pictures show one of their own
        if self.random_until and scene.images.shape[-1] == 3:
            self.random_until = 1.0  # nothing behind opaque pictures ever shows
        self.batch_size, self.seed, self.precrop_steps = batch_size, seed, precrop_steps
        self.pixel_offset, self.ndc = scene.cameras.pixel_offset, scene.ndc
        is_fitted = fit_colours and scene.images.shape[-1] == 3
        self.colours = ColourFit(len(scene), scene.photos) if is_fitted else None
        # buffers, so that they follow the module to its device; not persistent, a checkpoint holds no images
        self.register_buffer("images", scene.images, persistent=False)
        self.register_buffer("c2w", scene.cameras.c2w.clone(), persistent=False)  # `poses.refine` moves them
        self.register_buffer("K", scene.cameras.K.contiguous(), persistent=False)
        # masks never allow the empty pixels of a canvas, so sizes do not matter with them
        sizes = scene.cameras.sizes if scene.masks is None else None
        self.register_buffer("sizes", sizes, persistent=False)
        allowed = None if scene.masks is None else scene.masks.flatten().nonzero()[:, 0]
        if allowed is not None and not len(allowed):
            raise UserError(f"{scene.root}: the masks leave no pixel to learn from: white is what counts")
        self.register_buffer("allowed", allowed, persistent=False)
        clear = None if scene.ndc is not None else clearings(scene)  # a distance in the world means nothing there
        self.register_buffer("clear", clear, persistent=False)
        self.air = air_of(scene)
        behind = torch.tensor(scene.background or (0.0, 0.0, 0.0))
        self.register_buffer("behind", behind, persistent=False)
        self.register_buffer("is_random", torch.ones(1, dtype=torch.bool), persistent=False)  # a graph reads it
        self._was_random = True
        self.register_buffer("lattice", torch.tensor(LATTICE), persistent=False)
        self.register_buffer("near", scene.near_at(scene.cameras.c2w), persistent=False)  # of each view
        self.register_buffer("far", torch.full((batch_size,), scene.far), persistent=False)

    def __len__(self) -> int:
        """Pixels to draw from. Views of several sizes count as large as their canvas."""
        return self.images.shape[:3].numel() if self.allowed is None else len(self.allowed)

    def advance(self, progress: float) -> None:
        """Call before each step. progress: the share of the training that is over. From `random_until` on, only one of
        STILL_RANDOM pixels keeps a random colour behind it."""
        is_random = progress < self.random_until
        if is_random != self._was_random:  # so that hardly any step has one more operation
            self.is_random.fill_(is_random)
            self._was_random = is_random

    def forward(self, step: Int[Tensor, "1"], rays_per_pixel: int = 1, seed: int | None = None) -> Batch:
        """The batch of a step. seed: in place of the usual one, see `Model.parts`."""
        seed = self.seed if seed is None else seed
        limit = self.limit()
        n = self.batch_size if limit is None else min(self.batch_size, limit)
        n -= n % rays_per_pixel
        background = self._background(seed, step, n // rays_per_pixel)
        within = self._within(seed, step, n, rays_per_pixel)
        pictures = Pictures(self.images, self.c2w, self.K, self.sizes, self.allowed, self.pixel_offset)
        draw = Draw(seed, step, int(Stream.PIXELS), self.precrop_steps)
        origins, directions, rgb, numbers = draw_pixels(pictures, background, draw, within, backend=self.backend)
        photos = numbers // (self.images.shape[1] * self.images.shape[2])
        if self.colours is not None:
            rgb = self.colours(rgb, photos)
        clear = None if self.clear is None else self._clear(self.clear, numbers, photos)
        near = self.near.index_select(0, photos.repeat_interleave(rays_per_pixel))
        rays = Rays(origins, directions, directions, near, self.far[:n])
        return Batch(rays if self.ndc is None else ndc_rays(rays, self.ndc), rgb, background, clear, self.air)

    def _clear(self, clear: Float[Tensor, "C h w"], numbers: Int[Tensor, "P"], photos: Int[Tensor, "P"]) -> Tensor:
        """Up to which distance there is nothing in front of pixels, (P,)."""
        (_, height, width, _), (_, rows, columns) = self.images.shape, clear.shape
        row, column = numbers // width % height * rows // height, numbers % width * columns // width
        return clear.flatten().index_select(0, (photos * rows + row) * columns + column)

    def _background(self, seed: int, step: Tensor, n: int) -> Float[Tensor, "n 3"]:
        behind = self.behind.expand(n, 3)
        if not self.random_until:
            return behind
        colours = uniform(seed, step, Stream.BACKGROUND, (n, 3), backend=self.backend)
        if self.random_until >= 1:
            return colours
        keeps = torch.arange(n, device=step.device)[:, None] % STILL_RANDOM == 0
        return torch.where(self.is_random | keeps, colours, behind)

    def _within(self, seed: int, step: Tensor, n: int, rays_per_pixel: int) -> Float[Tensor, "n 2"] | None:
        """Offsets of n rays from the middle of their pixels. The first ray of each pixel has a random one."""
        if rays_per_pixel == 1:
            return None
        steps = torch.arange(rays_per_pixel, device=step.device)[:, None] * self.lattice
        first = uniform(seed, step, Stream.WITHIN, (n // rays_per_pixel, 1, 2), backend=self.backend)
        return ((first + steps) % 1 - 0.5).view(n, 2)
