"""What travels between the parts: rays in, samples along them, pixels out.

Letters used everywhere: R rays, N samples in all, S samples per ray, C cameras.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

Background = tuple[float, float, float] | None
"""A colour in [0, 1] behind the scene; None is black."""


@dataclass(frozen=True)
class Rays:
    """R rays in world units.

    directions: of unit length, so that t is a distance. viewdirs: of unit length; the colour depends on them. In
    normalised device coordinates directions live there, and viewdirs in the world. near, far: bounds of t.

        >>> ahead = torch.tensor([[0.0, 0.0, -1.0]]).expand(5, 3)
        >>> rays = Rays(torch.zeros(5, 3), ahead, ahead, torch.full((5,), 2.0), torch.full((5,), 6.0))
        >>> len(rays[:3])
        3
    """

    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    viewdirs: Float[Tensor, "R 3"]
    near: Float[Tensor, "R"]
    far: Float[Tensor, "R"]

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Rays":
        return Rays(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> "Rays":
        return Rays(*(getattr(self, f.name).to(device) for f in fields(self)))


def joined(rays: Sequence[Rays]) -> Rays:
    """All of these rays, in order."""
    if len(rays) == 1:
        return rays[0]
    return Rays(*(torch.cat([getattr(each, f.name) for each in rays]) for f in fields(Rays)))


@dataclass(frozen=True)
class Batch:
    """The rays of a training step, the colours of its P pixels, and the background of each pixel.

    A pixel is the mean of R / P rays, which follow each other. clear: up to which t there is nothing on the rays of
    each pixel, as far as is known; 0 where nothing is. None if nothing is known of any. air: see `scenes.air.Air`; None
    if the cameras look at no common point.
    """

    rays: Rays
    rgb: Float[Tensor, "P 3"]
    background: Float[Tensor, "P 3"]
    clear: Float[Tensor, "P"] | None = None
    air: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Samples:
    """N samples, packed: those of ray r are offsets[r] : offsets[r + 1], front to back.

    t: where the field is asked. dt: the world length that the sample stands for. There is no other layout. A grid with
    the same number of samples on every ray enters through `dense`, which stores that number as `per_ray`.
    """

    t: Float[Tensor, "N"]
    dt: Float[Tensor, "N"]
    ray_ids: Int[Tensor, "N"]
    offsets: Int[Tensor, "R1"]
    per_ray: int | None = None

    def __len__(self) -> int:
        return self.t.shape[0]

    @staticmethod
    def dense(t: Float[Tensor, "R S"], dt: Float[Tensor, "R S"]) -> "Samples":
        """Samples from a grid of S per ray.

        Raises ValueError if the two shapes differ.

            >>> samples = Samples.dense(torch.tensor([[2.0, 3.0], [2.5, 3.5]]), torch.ones(2, 2))
            >>> samples.ray_ids.tolist(), samples.offsets.tolist()
            ([0, 0, 1, 1], [0, 2, 4])
        """
        if t.shape != dt.shape or t.ndim != 2:
            raise ValueError(f"t {tuple(t.shape)} and dt {tuple(dt.shape)} must both be (R, S)")
        n_rays, per_ray = t.shape
        offsets = torch.arange(n_rays + 1, device=t.device) * per_ray
        ray_ids = torch.arange(n_rays * per_ray, device=t.device) // max(per_ray, 1)
        return Samples(t.reshape(-1), dt.reshape(-1), ray_ids, offsets, per_ray)

    def points(self, rays: Rays) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Where the field is asked, and the unit viewing direction there."""
        if self.per_ray is not None:  # broadcasting is one pass; indexing by ray_ids would be three
            t = self.t.view(len(rays), self.per_ray, 1)
            xyz = rays.origins[:, None] + t * rays.directions[:, None]
            return xyz.reshape(-1, 3), rays.viewdirs[:, None].expand_as(xyz).reshape(-1, 3)
        xyz = rays.origins[self.ray_ids] + self.t[:, None] * rays.directions[self.ray_ids]
        return xyz, rays.viewdirs[self.ray_ids]


@dataclass(frozen=True)
class Pixels:
    """What R rays saw. rgb is premultiplied; `rendering.over` adds the background."""

    rgb: Float[Tensor, "R 3"]
    depth: Float[Tensor, "R"]
    opacity: Float[Tensor, "R"]
    weights: Float[Tensor, "N"]
