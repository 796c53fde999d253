"""A small COLMAP model, written by pycolmap, and the same scene in the Blender layout."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pycolmap
import torch
from PIL import Image

from nerf_pl.films.paths import look_at

SIZE, FOCAL, N = (24, 16), 20.0, 10
PINHOLE = ("PINHOLE", [FOCAL, FOCAL, 12.0, 8.0])
OPENCV_AXES = np.diag([1.0, -1.0, -1.0])


def poses(n: int = N) -> np.ndarray:
    """Cameras (n, 3, 4) of ours around the point (1, 2, 3), in a world whose up is z."""
    angle = torch.arange(n) * (2 * math.pi / n)
    centre = torch.tensor([1.0, 2.0, 3.0])
    circle = torch.stack([3 * angle.cos(), 2.5 * angle.sin(), 1 + 0.1 * angle], -1)
    return look_at(circle + centre, (1.0, 2.0, 3.0)).double().numpy()


def points(n: int = 200) -> np.ndarray:
    return np.array([1.0, 2.0, 3.0]) + np.random.default_rng(3).uniform(-0.5, 0.5, (n, 3))


def picture(seed: int, size: tuple[int, int] = SIZE, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)


def write_model(
    folder: Path,
    c2w: np.ndarray,
    cameras: Sequence[tuple[str, list[float], tuple[int, int]]] = ((*PINHOLE, SIZE),),
    text: bool = False,
    xyz: np.ndarray | None = None,
    name: Callable[[int], str] = lambda i: f"view_{i:02d}.png",
) -> None:
    """Camera i of the list took photos i, i + len(cameras), ...; every photo sees every point."""
    model = pycolmap.Reconstruction()
    for i, (kind, params, size) in enumerate(cameras):
        camera = pycolmap.Camera(camera_id=i + 1, model=kind, width=size[0], height=size[1], params=params)
        model.add_camera_with_trivial_rig(camera)
    xyz = points() if xyz is None else xyz
    for i, pose in enumerate(c2w):
        rotation = OPENCV_AXES @ pose[:, :3].T
        w2c = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ pose[:, 3])
        camera = model.cameras[i % len(cameras) + 1]
        seen = np.nan_to_num(camera.img_from_cam(xyz @ rotation.T + w2c.translation), nan=1.0)
        image = pycolmap.Image(name(i), keypoints=seen, camera_id=camera.camera_id, image_id=i + 1)
        model.add_image_with_trivial_frame(image, w2c)
    for k, point in enumerate(xyz):
        track = pycolmap.Track()
        for i in range(len(c2w)):
            track.add_element(i + 1, k)
        model.add_point3D(point, track, np.zeros(3, np.uint8))
    folder.mkdir(parents=True)
    (model.write_text if text else model.write_binary)(folder)


def write_scene(root: Path, model: str = "sparse/0", n: int = N, folder: str = "images", **options) -> list[np.ndarray]:
    """A model and its photos, noise; returns these."""
    write_model(root / model, poses(n), **options)
    cameras = options.get("cameras", ((*PINHOLE, SIZE),))
    images = [picture(i, cameras[i % len(cameras)][2]) for i in range(n)]
    write_pictures(root / folder, images)
    return images


def write_pictures(folder: Path, images: Sequence[np.ndarray], **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"view_{i:02d}.png", **options)


def write_blender(root: Path, n: int = N) -> None:
    """The same views as those of `write_scene`."""
    write_pictures(root / "train", [picture(i) for i in range(n)])
    frames = [
        {"file_path": f"train/view_{i:02d}", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]}
        for i, pose in enumerate(poses(n))
    ]
    angle = 2 * math.atan(0.5 * SIZE[0] / FOCAL)
    (root / "transforms_train.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
