"""Pinhole cameras: from pixels to rays and back."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.types import Rays


@dataclass(frozen=True)
class Cameras:
    """C cameras that share one image size.

    c2w: camera to world, OpenGL axes (x right, y up, z back: the camera looks along -z).
    K: intrinsics in pixels. pixel_offset: where in a pixel its ray passes; 0.5 is the centre, and 0 the corner, which
    is what the classic implementation does.
    """

    c2w: Float[Tensor, "C 3 4"]
    K: Float[Tensor, "C 3 3"]
    width: int
    height: int
    pixel_offset: float = 0.5

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Cameras":
        return replace(self, c2w=self.c2w[index], K=self.K[index])

    def to(self, device: torch.device | str) -> "Cameras":
        return replace(self, c2w=self.c2w.to(device), K=self.K.to(device))

    def on(self, c2w: Tensor, K: Tensor) -> "Cameras":
        """The same cameras with their tensors elsewhere."""
        return replace(self, c2w=c2w, K=K)

    def resized(self, width: int, height: int) -> "Cameras":
        """The same views at another resolution."""
        K = self.K.clone()
        K[:, 0] *= width / self.width
        K[:, 1] *= height / self.height
        return replace(self, K=K, width=width, height=height)


def pixel_rays(
    cameras: Cameras, camera_ids: Int[Tensor, "R"], pixel_ids: Int[Tensor, "R"], near: float, far: float
) -> Rays:
    """The ray of each pixel; pixel id = row * width + column.

    Directions are normalised, so near, far and depth are distances from the camera centre, not along its axis.
    """
    return _rays(cameras, cameras.K[camera_ids], cameras.c2w[camera_ids], pixel_ids, near, far)


def image_rays(cameras: Cameras, camera_id: int, near: float, far: float) -> Rays:
    """All rays of one camera, row by row."""
    pixel_ids = torch.arange(cameras.width * cameras.height, device=cameras.c2w.device)
    one = slice(camera_id, camera_id + 1)  # a copy for each pixel would take longer than a fast method's rendering
    return _rays(cameras, cameras.K[one], cameras.c2w[one], pixel_ids, near, far)


def _rays(cameras: Cameras, K: Tensor, c2w: Tensor, pixel_ids: Tensor, near: float, far: float) -> Rays:
    """Rays through pixels of cameras K (R or 1, 3, 3), c2w (R or 1, 3, 4)."""
    x = (pixel_ids % cameras.width).to(K.dtype) + cameras.pixel_offset
    y = torch.div(pixel_ids, cameras.width, rounding_mode="floor").to(K.dtype) + cameras.pixel_offset
    right, up = (x - K[:, 0, 2]) / K[:, 0, 0], -(y - K[:, 1, 2]) / K[:, 1, 1]
    directions = right[:, None] * c2w[:, :, 0] + up[:, None] * c2w[:, :, 1] - c2w[:, :, 2]
    directions = torch.nn.functional.normalize(directions, dim=-1)
    bound = torch.ones_like(x)
    return Rays(c2w[:, :, 3].expand_as(directions), directions, directions, near * bound, far * bound)


def project(
    cameras: Cameras, camera_id: int, points: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N"]]:
    """Pixel coordinates (column, row; continuous, the centre of the first pixel at 0.5) and depth along the axis."""
    c2w, K = cameras.c2w[camera_id], cameras.K[camera_id]
    local = (points - c2w[:, 3]) @ c2w[:, :3]
    depth = -local[:, 2]
    xy = torch.stack([local[:, 0] / depth * K[0, 0] + K[0, 2], -local[:, 1] / depth * K[1, 1] + K[1, 2]], -1)
    return xy + (0.5 - cameras.pixel_offset), depth
