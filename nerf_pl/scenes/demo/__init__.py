"""The built-in scene: made on the spot, in the layout of the Blender scenes, with exact depth."""

import json
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, content_of
from nerf_pl.media import write_pfm, write_png
from nerf_pl.scenes.demo.render import FloorLight, bake_floor, exact_depth, render_view
from nerf_pl.writing import replacing, temporary_name, write_errors

CAMERA_ANGLE_X = 0.69  # radians
RADIUS = 4.0
STAMP = "demo.json"
VERSION = 2  # raise it when the pictures change


def make_demo(
    root: Path | str, size: int = 200, n_train: int = 100, n_val: int = 10, *, n_test: int = 20, seed: int = 0
) -> Path:
    """A board with glossy and textured toys, ray-traced into the folder `root`; returns its absolute path.

    Per view there are an RGBA picture of size x size pixels, such as train/r_0.png, and its exact depth,
    train/r_0_depth.pfm: the distance along the ray of each pixel, 0 where it meets nothing. Training and validation
    cameras are spread over the upper hemisphere by `seed`, test cameras form a turntable.

    A folder that already holds just this scene is left alone; anything else there is never touched. The scene appears
    complete or not at all. Raises UserError if the folder is in use, cannot be written, or an option makes no sense.
    """
    root = Path(root).resolve()
    counts = {"train": n_train, "val": n_val, "test": n_test}
    for option, value in {"size": size, **{f"n_{split}": n for split, n in counts.items()}}.items():
        if value < 1:
            raise UserError(f"--{option} {value} cannot work: give 1 or more")
    stamp = {"version": VERSION, "size": size, **counts, "seed": seed}
    if not _is_there(root, stamp, counts):
        with replacing(root):  # another process may be making the same scene
            if not _is_there(root, stamp, counts):
                _make(root, stamp, counts)
    return root


def _make(root: Path, stamp: dict[str, int], counts: dict[str, int]) -> None:
    """See `make_demo`."""
    seen = random_poses(counts["train"], counts["val"], stamp["seed"])
    poses = {**dict(zip(("train", "val"), seen, strict=True)), "test": table_poses(counts["test"])}
    temporary = temporary_name(root)
    try:
        with write_errors(root):
            temporary.mkdir(parents=True)
            write_views(temporary, stamp["size"], poses)
            for split, c2w in poses.items():
                (temporary / f"transforms_{split}.json").write_text(_transforms(split, c2w), encoding="utf-8")
            (temporary / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
            try:
                temporary.rename(root)
            except OSError:  # another process may have made the same scene meanwhile
                if not _is_there(root, stamp, counts):
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_demo(root: Path | None) -> bool:
    """Whether a folder is that of the built-in scene."""
    return root is not None and (root / STAMP).is_file()


def random_poses(n_train: int, n_val: int, seed: int) -> tuple[Float[np.ndarray, "n 3 4"], Float[np.ndarray, "m 3 4"]]:
    """Cameras spread evenly and at random over the upper hemisphere, from 5 to 75 degrees above the horizon."""
    rng = np.random.default_rng(seed)
    poses = []
    for n in (n_train, n_val):
        # one camera per slice of equal area, each slice jittered: even cover even for few cameras
        low, high = math.sin(math.radians(5)), math.sin(math.radians(75))
        height = low + (high - low) * (np.arange(n) + rng.random(n)) / n
        azimuth = 2 * np.pi * (rng.permutation(n) + rng.random(n)) / n
        poses.append(look_at_origin(azimuth, np.arcsin(height)))
    return poses[0], poses[1]


def table_poses(n: int) -> Float[np.ndarray, "n 3 4"]:
    """A full turn around the scene, 28 degrees above the horizon."""
    return look_at_origin(2 * np.pi * np.arange(n) / n - np.pi / 3, np.full(n, math.radians(28)))


def look_at_origin(azimuth: Float[np.ndarray, "n"], elevation: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 3 4"]:
    """Camera to world, OpenGL axes, z up, in float64."""
    zero, cos, sin = np.zeros_like(azimuth), np.cos, np.sin
    right = np.stack([-sin(azimuth), cos(azimuth), zero], -1)
    back = np.stack([cos(elevation) * cos(azimuth), cos(elevation) * sin(azimuth), sin(elevation)], -1)
    return np.stack([right, np.cross(back, right), back, RADIUS * back], -1)


def _is_there(root: Path, stamp: dict, counts: dict[str, int]) -> bool:
    """Whether `root` holds the scene of this stamp. Raises UserError if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = dict(json.loads(content_of(root / STAMP)))
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{root} exists and is no demo scene: give another folder for it") from None
    if found != stamp:
        told = ", ".join(f"{k} {found.get(k)} instead of {v}" for k, v in stamp.items() if found.get(k) != v)
        raise UserError(f"{root} holds another demo scene ({told}): remove it or give another folder")
    for split, n in counts.items():
        views = [root / split / f"r_{i}{ending}" for i in range(n) for ending in (".png", "_depth.pfm")]
        for file in (root / f"transforms_{split}.json", *views):
            if not file.is_file():
                raise UserError(f"{file} is missing from the demo scene: remove {root} and make it anew")
    return True


def _transforms(split: str, c2w: Float[np.ndarray, "n 3 4"]) -> str:
    last = [0.0, 0.0, 0.0, 1.0]
    frames = [
        {"file_path": f"./{split}/r_{i}", "transform_matrix": [*pose.tolist(), last]} for i, pose in enumerate(c2w)
    ]
    return json.dumps({"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}, indent=1)


def write_views(folder: Path, size: int, poses: dict[str, Float[np.ndarray, "n 3 4"]]) -> None:
    """All pictures and depth maps, by one thread per core: NumPy lets go of the interpreter lock in long loops."""
    floor = bake_floor(min(max(size, 48), 400))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        views = [(f"{split}/r_{i}", pose) for split, c2w in poses.items() for i, pose in enumerate(c2w)]
        jobs = [pool.submit(_write_view, folder / name, size, pose, floor) for name, pose in views]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C the rest need not be made


def _write_view(stem: Path, size: int, pose: Float[np.ndarray, "3 4"], floor: FloorLight) -> None:
    write_png(stem.with_name(stem.name + ".png"), render_view(pose, size, CAMERA_ANGLE_X, floor))
    write_pfm(stem.with_name(stem.name + "_depth.pfm"), exact_depth(pose, size, CAMERA_ANGLE_X))
