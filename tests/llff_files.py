"""Tiny scenes in the LLFF layout, for tests."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nerf_pl.films.paths import look_at

SIZE = (24, 16)  # of the pictures in images
FOCAL = 30.0  # of poses_bounds.npy, in pixels of those pictures


def facing(n: int = 10, seed: int = 0) -> Tensor:
    """Cameras about one place that look roughly one way, in some frame."""
    rng = torch.Generator().manual_seed(seed)
    spots = torch.randn(n, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 0.6, 0.2])
    goals = torch.randn(n, 3, generator=rng, dtype=torch.float64) * 0.3 + torch.tensor([0.0, 0.0, -9.0])
    c2w = torch.cat([look_at(spots[i : i + 1], tuple(goals[i].tolist()), (0.0, 1.0, 0.0)) for i in range(n)])
    return moved(c2w, *similarity(seed))


def around(n: int = 10) -> Tensor:
    """Cameras on a helix about the origin, all looking at it, z up."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    spots = torch.stack([4 * angle.cos(), 4 * angle.sin(), 1 + 0.2 * angle], -1)
    return look_at(spots)


def similarity(seed: int, scale: float = 5.0) -> tuple[float, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed + 100)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))[0]
    return scale, rotation * torch.linalg.det(rotation), torch.randn(3, generator=rng, dtype=torch.float64)


def moved(c2w: Tensor, scale: float, rotation: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([rotation @ c2w[:, :, :3], (scale * c2w[:, :, 3] @ rotation.T + shift)[:, :, None]], -1)


def write_scene(root: Path, c2w: Tensor, bounds: tuple[float, float] = (20.0, 90.0), folders: tuple[int, ...] = (1,)):
    """LLFF's files: 3x5 poses with the axes down, right, back and height, width, focal length; pictures by size."""
    right, up, back, centre = c2w.double().unbind(-1)
    hwf = torch.tensor([SIZE[1], SIZE[0], FOCAL], dtype=torch.float64).expand(len(c2w), 3)
    rows = torch.stack([-up, right, back, centre, hwf], -1).reshape(-1, 15).numpy()
    depths = np.tile(bounds, (len(c2w), 1)) + np.arange(len(c2w))[:, None] * 0.1
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "poses_bounds.npy", np.concatenate([rows, depths], 1))
    for factor in folders:
        folder = root / ("images" if factor == 1 else f"images_{factor}")
        folder.mkdir()
        for i in range(len(c2w)):
            # other names, and other contents, than those of the whole pictures
            name = f"IMG_{40 + i}.JPG.png" if factor == 1 else f"image{i:03d}.png"
            Image.fromarray(picture(i + 100 * factor, SIZE[0] // factor, SIZE[1] // factor)).save(folder / name)


def picture(seed: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
