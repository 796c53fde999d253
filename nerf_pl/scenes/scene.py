"""Scene: what every loader returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras, image_rays, ndc_rays
from nerf_pl.errors import UserError
from nerf_pl.types import Rays


@dataclass(frozen=True)
class Scene:
    """Posed images. Nothing downstream knows which data set they came from.

    images: sRGB as stored, alpha not premultiplied if there is one; on the CPU. masks: pixels to learn from and to be
    judged by; None for all. near, far: bounds of t, as distances. aabb: the box that holds the scene or, of one that is
    `unbounded`, its middle, a cube. background: what alpha is composited on. ndc: not None says that rays live in
    normalised device coordinates, see `cameras.ndc_rays`; the box does then, too. target: what the cameras look at.
    names: one per image, for the files that evaluation writes.
    """

    cameras: Cameras
    images: UInt8[Tensor, "C H W ch"]
    near: float
    far: float
    aabb: Float[Tensor, "2 3"]
    background: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    ndc: tuple[float, float] | None = None
    unbounded: bool = False
    masks: Bool[Tensor, "C H W"] | None = None
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    names: tuple[str, ...] = ()
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    def image(self, index: int) -> Float[Tensor, "H W 3"]:
        """One image in [0, 1], composited on the background."""
        width, height = self.cameras.size(index)
        return on_background(self.images[index, :height, :width], self.background)

    def mask(self, index: int) -> Bool[Tensor, "H W"] | None:
        """The pixels of one image that count; None for all."""
        width, height = self.cameras.size(index)
        return None if self.masks is None else self.masks[index, :height, :width]

    def rays(
        self,
        index: int,
        device: torch.device | str = "cpu",
        within: tuple[float | Tensor, float | Tensor] = (0.0, 0.0),
        pixels: Int[Tensor, "R"] | None = None,
    ) -> Rays:
        """Rays of one view in the space that the model lives in: of all pixels, row by row, or of these.

        within: how far from the usual place in its pixel each passes, in columns and rows.
        """
        rays = image_rays(self.cameras.to(device), index, self.near, self.far, within, pixels)
        return rays if self.ndc is None else ndc_rays(rays, self.ndc)


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


def held_out(n: int, split: str, test_every: int) -> list[int]:
    """Which of n views in order belong to a split, for layouts that have no splits of their own: every test_every-th,
    from the first, is for test and val, the others are for training; 0 keeps all for training."""
    if split == "train":
        return [i for i in range(n) if not test_every or i % test_every]
    return list(range(0, n, test_every)) if test_every else []


def listed(lists: dict[str, Any], files: Sequence[Path], root: Path, split: str) -> list[int] | None:
    """Which files belong to a split, where lists say so: train_filenames, val_filenames and test_filenames, of
    paths from `root` on, with or without suffix. None where there are none. val and test stand in for each other.
    Raises UserError for a list that is no list of names, or names none of the files.
    """
    names = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[split]
    keys = [f"{name}_filenames" for name in names if lists.get(f"{name}_filenames")]
    if not lists.get("train_filenames") or not keys:
        return None
    wanted = lists[keys[0]]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"{root}: {keys[0]} is {wanted!r:.60}; list names of pictures")
    places = {(root / name).resolve() for name in wanted}
    found = [i for i, file in enumerate(files) if {file.resolve(), file.resolve().with_suffix("")} & places]
    if not found:
        raise UserError(f"{root}: none of the pictures in {keys[0]} is there; correct the names, or remove the list")
    return found


def camera_focus(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "3"]:
    """The point nearest to all optical axes, by least squares; for parallel ones, a point ahead of the cameras."""
    centres, axes = c2w[:, :, 3].double(), -torch.nn.functional.normalize(c2w[:, :, 2].double(), dim=-1)
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]  # (C, 3, 3)
    total = across.sum(0) + 1e-6 * len(c2w) * torch.eye(3, dtype=torch.float64)
    wanted = (across @ centres[:, :, None]).sum(0)[:, 0] + 1e-6 * (centres + axes).sum(0)
    return torch.linalg.solve(total, wanted).to(c2w.dtype)
