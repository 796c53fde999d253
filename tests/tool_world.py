"""The analytic world of `photo_world`, photographed through the lens formulas of other programs; and the check that
what they wrote comes back ray by ray, once imported and loaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lens_pictures import pixel_centres, seen_directions
from photo_world import colour, poses, worst
from PIL import Image
from tiny import nerf

from nerf_pl.scenes import Request, frame_of, load_scene

N, SIZE = 4, (48, 36)
LIMIT = 3.0  # 8-bit steps; half a pixel is seven
Lens = Callable[[np.ndarray], np.ndarray]  # (x / z, y / z), axes right and down -> pixels; the corner is (0, 0)


def cameras(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (n, 3, 3) and centres (n, 3) of cameras in the world, each rolled a little. The columns of a rotation
    are the camera's right, up and back."""
    c2w = poses(n).numpy()
    rolls = [_rotation((0, 0, 1), 0.2 * i - 0.3) for i in range(n)]
    return np.stack([pose[:, :3] @ roll for pose, roll in zip(c2w, rolls, strict=True)]), c2w[:, :, 3]


def _rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def opencv_axes(rotation: np.ndarray) -> np.ndarray:
    """Right, down, ahead."""
    return np.stack([rotation[:, 0], -rotation[:, 1], -rotation[:, 2]], 1)


def similarity() -> tuple[float, np.ndarray, np.ndarray]:
    """A scale, a rotation and a translation that are none of them simple."""
    return 2.7, _rotation((1, -2, 0.5), 1.1), np.array([5.0, -3.0, 1.5])


def shoot(file: Path, rotation: np.ndarray, centre: np.ndarray, lens: Lens, size: tuple[int, int] = SIZE) -> None:
    """What a camera (right, up, back) sees of the world through a lens, as a picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    xy = seen_directions(lens, pixel_centres(*size))
    directions = xy[:, :1] * rotation[:, 0] - xy[:, 1:] * rotation[:, 1] - rotation[:, 2]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    values = colour(np.broadcast_to(centre, directions.shape), directions).round().astype(np.uint8)
    Image.fromarray(values.reshape(size[1], size[0], 3)).save(file)


def run_import(capsys: pytest.CaptureFixture, *words: object) -> list[str]:
    """The lines that `nerf import` prints."""
    capsys.readouterr()
    nerf("import", *words)
    return capsys.readouterr().out.splitlines()


def check(root: Path, n: int = N, to_world: np.ndarray | None = None, request: Request | None = None) -> None:
    """All n views see the world. to_world: from the coordinates of the file to the world."""
    scene = load_scene(root, request or Request("train", test_every=0))
    assert len(scene) == n
    from_world = torch.eye(4, dtype=torch.float64) if to_world is None else torch.from_numpy(np.linalg.inv(to_world))
    far_off = max(worst(scene, frame_of(scene) @ from_world, index) for index in range(n))
    assert far_off < LIMIT, f"a view differs from the world by {far_off:.1f} steps"
