"""Scene: what every loader returns."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras


@dataclass(frozen=True)
class Scene:
    """Posed images. Nothing downstream knows which data set they came from.

    images: sRGB as stored, alpha not premultiplied if there is one; on the CPU.
    near, far: bounds of t, as distances. aabb: the box that holds the scene. background: what alpha is composited on.
    names: one per image, for the files that evaluation writes.
    """

    cameras: Cameras
    images: UInt8[Tensor, "C H W ch"]
    near: float
    far: float
    aabb: Float[Tensor, "2 3"]
    background: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    ndc: bool = False
    names: tuple[str, ...] = ()
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    def image(self, index: int) -> Float[Tensor, "H W 3"]:
        """One image in [0, 1], composited on the background."""
        return on_background(self.images[index], self.background)


def on_background(
    pixels: UInt8[Tensor, "*shape ch"], background: tuple[float, float, float] | None
) -> Float[Tensor, "*shape 3"]:
    """8-bit pixels as floats in [0, 1]; alpha, where there is one, is composited on the background (black if None)."""
    floats = pixels.to(torch.float32) / 255
    if floats.shape[-1] == 3:
        return floats
    rgb, alpha = floats[..., :3], floats[..., 3:]
    # built on the device by arithmetic: a tensor made from Python numbers would be a copy that a CUDA graph forbids
    if background is None or all(b == 0 for b in background):
        return rgb * alpha
    if all(b == 1 for b in background):
        return rgb * alpha + (1 - alpha)
    return rgb * alpha + (1 - alpha) * torch.tensor(background, device=pixels.device)
