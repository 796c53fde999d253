"""An analytic world for tests of loaders: photographed through lenses into a folder with a transforms.json, and checked
ray by ray once loaded."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from lens_pictures import pixel_centres, seen_directions
from PIL import Image

from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Scene
from nerf_pl.scenes.normalize import normalize_poses
from nerf_pl.scenes.undistort import opencv, opencv_fisheye

WALL = 30.0  # radius of the coloured sphere around everything
K = {"fl_x": 60.0, "fl_y": 62.0, "cx": 25.3, "cy": 17.1, "w": 48, "h": 36}
LENS = {"k1": 0.12, "k2": -0.05, "p1": 0.004, "p2": -0.006}


def poses(n: int) -> torch.Tensor:
    """Cameras about a point that is neither the origin nor at distance 1, some higher than others."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    around = torch.stack([4 * angle.cos(), 4 * angle.sin(), 1 + 0.5 * (3 * angle).sin()], -1)
    return look_at(around + torch.tensor([2.0, 1.0, -3.0]), target=(2.0, 1.0, -3.0))


def colour(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """What rays (N, 3) see, 0..255: a smooth pattern on the wall."""
    b = (origins * directions).sum(-1)
    t = -b + np.sqrt(b * b - (origins**2).sum(-1) + WALL**2)
    point = (origins + t[:, None] * directions) / WALL
    return 127.5 + 100 * np.sin(np.stack([9 * point[:, 0], 8 * point[:, 1] + 4 * point[:, 2], 9 * point[:, 2]], -1))


def photo(c2w: torch.Tensor, frame: dict) -> np.ndarray:
    """The picture (h, w, 3) that a camera with these intrinsics takes, lens included."""
    return _photo(tuple(c2w.flatten().tolist()), tuple(frame.items()))


@cache
def _photo(pose: tuple[float, ...], items: tuple[tuple[str, object], ...]) -> np.ndarray:
    c2w, frame = torch.tensor(pose, dtype=torch.float64).view(3, 4), dict(items)
    if (model := frame.get("camera_model")) in ("EQUIRECTANGULAR", "wide"):
        wide = panorama_directions if model == "EQUIRECTANGULAR" else fisheye_directions
        return _seen(c2w, wide(frame), frame)
    k = {name: frame.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2")}
    matrix = np.array([[frame["fl_x"], 0, frame["cx"]], [0, frame["fl_y"], frame["cy"]], [0, 0, 1]])
    if frame.get("is_fisheye") or frame.get("camera_model") == "OPENCV_FISHEYE":
        project = opencv_fisheye(matrix, (k["k1"], k["k2"], k["k3"], k["k4"]))
    else:
        project = opencv(matrix, (k["k1"], k["k2"], k["k3"], k["k4"]), (k["p1"], k["p2"]))
    xy = seen_directions(project, pixel_centres(frame["w"], frame["h"]))
    return _seen(c2w, np.stack([xy[:, 0], -xy[:, 1], -np.ones(len(xy))], -1), frame)


def panorama_directions(frame: dict) -> np.ndarray:
    """What the pixels of an equirectangular picture see: right, up, back."""
    x, y = (pixel_centres(frame["w"], frame["h"]) / [frame["w"], frame["h"]]).T
    longitude, latitude = (x - 0.5) * 2 * math.pi, (0.5 - y) * math.pi
    along = np.cos(latitude)
    return np.stack([np.sin(longitude) * along, np.sin(latitude), -np.cos(longitude) * along], -1)


def fisheye_directions(frame: dict) -> np.ndarray:
    """What the pixels of a fisheye picture see, by bisection; nan beyond its field, in degrees, if it is told."""
    x, y = (pixel_centres(frame["w"], frame["h"]) - [frame["cx"], frame["cy"]]).T / [[frame["fl_x"]], [frame["fl_y"]]]
    radius, low, high = np.hypot(x, y), np.zeros(len(x)), np.full(len(x), math.pi)
    for _ in range(50):
        angle = (low + high) / 2
        beyond = angle * (1 + frame.get("k1", 0.0) * angle**2 + frame.get("k2", 0.0) * angle**4) > radius
        low, high = np.where(beyond, low, angle), np.where(beyond, angle, high)
    angle[angle > math.radians(frame.get("field", 360.0) / 2)] = np.nan
    across = np.sin(angle) / radius
    return np.stack([x * across, -y * across, -np.cos(angle)], -1)


def _seen(c2w: torch.Tensor, local: np.ndarray, frame: dict) -> np.ndarray:
    """The picture of pixels that see these directions of the camera; black for nan."""
    axes, centre = c2w[:, :3].numpy(), c2w[:, 3].numpy()
    directions = local @ axes.T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    values = colour(np.broadcast_to(centre, directions.shape), directions)
    values = np.nan_to_num(values.round()).astype(np.uint8)
    return values.reshape(frame["h"], frame["w"], 3)


def write(root: Path, shared: dict, frames: list[dict], told: dict | None = None) -> torch.Tensor:
    """A scene folder. Pictures follow shared | frame; the JSON says shared | told, and each frame. Gives the poses."""
    c2w = poses(len(frames))
    (root / "images").mkdir(parents=True)
    entries = []
    for i, frame in enumerate(frames):
        Image.fromarray(photo(c2w[i], {**shared, **frame})).save(root / "images" / f"{i:03}.png")
        matrix = [*c2w[i].tolist(), [0.0, 0.0, 0.0, 1.0]]
        entries.append({"file_path": f"images/{i:03}.png", "transform_matrix": matrix, **frame})
    edit(root, {**shared, **(told or {}), "frames": entries})
    return c2w


def edit(root: Path, values: dict) -> None:
    values = {key: value for key, value in values.items() if value is not None}
    (root / "transforms.json").write_text(json.dumps(values))


def read(root: Path) -> dict:
    return json.loads((root / "transforms.json").read_text())


def worst(scene: Scene, transform: torch.Tensor, index: int) -> float:
    """How far a view is at most from what its rays see in the true world, in 8-bit steps; two border pixels apart."""
    rays = scene.view(index).rays()
    back = torch.linalg.inv(transform.double())
    scale = torch.linalg.det(transform[:3, :3].double()) ** (1 / 3)
    origins = rays.origins.double() @ back[:3, :3].T + back[:3, 3]
    directions = rays.directions.double() @ back[:3, :3].T * scale
    width, height = scene.cameras.size(index)
    expected = colour(origins.numpy(), directions.numpy()).reshape(height, width, 3)
    assert np.ptp(expected) > 40  # something to see
    wrong, mask = np.abs(255 * scene.image(index).numpy() - expected), scene.mask(index)
    if mask is not None:  # the filter blends what is next to the outermost pixels that count
        wrong[torch.nn.functional.avg_pool2d(mask[None].float(), 5, 1, 2)[0].numpy() < 1] = 0
    return float(wrong[2:-2, 2:-2].max())


def check_world(scene: Scene, c2w: torch.Tensor, limit: float = 2.0) -> None:
    transform = normalize_poses(c2w)[1]
    for index in range(len(scene)):
        assert worst(scene, transform, index) < limit
