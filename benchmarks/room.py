"""Make a synthetic indoor scene of many photos: a small tree on a table, in a furnished room.

    python benchmarks/room.py FOLDER --views 292 --width 800

It stands in for captures of several hundred photos, taken while walking around a table. Its detail has every size:
leaves, writing and woven threads that are a pixel wide from near, walls that are far away, windows that are too bright.
The pictures are ray-traced, so they show one world exactly. The same seed gives the same pictures on one machine.

Cameras stand on three rings around the table, not quite regularly, and look at about the tree. The layout llff has
images and poses_bounds.npy, whose bounds say next to nothing; transforms has images and transforms.json. Lengths are
metres, z is up. It needs the extra cpu. On one core 292 pictures of 800x533 take nine minutes.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from room_light import light_up
from room_things import furniture, lamps
from room_tracer import World, make_world, picture

from nerf_pl.films.paths import look_at

FOCAL = 1.0  # over the width of a picture, as a lens of 36 mm
RINGS = ((0.4, 1.75, 1.22), (0.35, 1.6, 1.55), (0.25, 1.35, 1.95))  # share of the views, radius, height
TREE = (0.0, 0.0, 1.0)  # what the cameras look at, about
BOUNDS = (0.1, 1000.0)
QUALITY = 92  # of the JPEG files


def cameras(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3 4"]:
    """Camera-to-world matrices, OpenGL axes, one ring after the other."""
    ends = [round(n * sum(ring[0] for ring in RINGS[: i + 1])) for i in range(len(RINGS))]
    poses = []
    for (_, radius, height), begin, end in zip(RINGS, [0, *ends[:-1]], ends, strict=True):
        for k in range(end - begin):
            turn = 2 * math.pi * (k + rng.uniform(-0.3, 0.3)) / (end - begin) + height
            r, z = radius + rng.normal(0, 0.06), height + rng.normal(0, 0.04)
            spot = torch.tensor([[r * math.cos(turn), r * math.sin(turn), z]], dtype=torch.float64)
            x, y, z = (rng.normal(0, 0.06, 3) + TREE).tolist()
            tilt = rng.normal(0, 0.02, 2).tolist()
            poses.append(look_at(spot, (x, y, z - 0.1), (tilt[0], tilt[1], 1.0))[0].numpy())
    return np.stack(poses)


def write_poses(folder: Path, layout: str, c2w: Float[np.ndarray, "n 3 4"], size: tuple[int, int]) -> None:
    """poses_bounds.npy, or transforms.json, or both."""
    (width, height), n = size, len(c2w)
    if layout in ("llff", "both"):
        hwf = np.tile([[height], [width], [FOCAL * width]], (n, 1, 1))
        right, up, back, centre = np.moveaxis(c2w, 2, 0)
        rows = np.concatenate([np.stack([-up, right, back, centre], 2), hwf], 2).reshape(n, 15)
        np.save(folder / "poses_bounds.npy", np.concatenate([rows, np.tile(BOUNDS, (n, 1))], 1))
    if layout in ("transforms", "both"):
        frames = [
            {"file_path": f"images/{i:05d}.jpg", "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]}
            for i, pose in enumerate(c2w)
        ]
        lens = {"fl_x": FOCAL * width, "fl_y": FOCAL * width, "cx": width / 2, "cy": height / 2}
        told = json.dumps({**lens, "w": width, "h": height, "frames": frames}, indent=1)
        (folder / "transforms.json").write_text(told, encoding="utf-8")


def make_room(
    folder: Path, views: int = 292, width: int = 800, seed: int = 0, *, layout: str = "llff", fine: bool = True
) -> None:
    """Make the scene. fine False: light is found coarsely, for tests."""
    world = furnished(seed, fine)
    size = width, round(width / 1.5)
    c2w = cameras(views, np.random.default_rng([seed, 1]))
    (folder / "images").mkdir(parents=True)
    for i, pose in enumerate(c2w):
        image = picture(world, pose, size, FOCAL * width)
        Image.fromarray(image).save(folder / "images" / f"{i:05d}.jpg", quality=QUALITY, subsampling=0)
    write_poses(folder, layout, c2w, size)


def furnished(seed: int, fine: bool = True) -> World:
    """The room with its light."""
    world = make_world(furniture(np.random.default_rng([seed, 0])), 0.012 if fine else 0.3)
    light_up(world, lamps(), rays=6 if fine else 2, bounces=2 if fine else 1)
    return world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", type=int, default=292)
    parser.add_argument("--width", type=int, default=800, help="pixels; the height is two thirds of that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", choices=("llff", "transforms", "both"), default="llff")
    asked = parser.parse_args()
    if asked.folder.exists():
        parser.error(f"{asked.folder} is there already: remove it, or give another name")
    if asked.views < 1 or asked.width < 16:
        parser.error(f"--views {asked.views} --width {asked.width}: give at least 1 and 16")
    make_room(asked.folder, asked.views, asked.width, asked.seed, layout=asked.layout)


if __name__ == "__main__":
    main()
