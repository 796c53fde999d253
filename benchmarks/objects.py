"""Make a synthetic scene of an object on nothing, in the layout and size of those of the 2020 paper.

    python benchmarks/objects.py FOLDER --kind leaves --width 800 --views 100

Kinds: leaves, a plant with thin leaves and stems; water, a ship in half-transparent water, with ropes and nets; drums,
with heads that one sees through, mirrors and thin stands; cloth, woven and dull things, a basket and food.

The pictures are RGBA, ray-traced with several rays a pixel, and show one world exactly. The same seed gives the same
pictures on one machine. Cameras stand on the upper half of a ball, at random. It needs the extra cpu. With 16 rays a
pixel, 135 pictures of 800x800 take ten to thirty minutes of one core; they are shared out to all cores.
"""

import argparse
import json
import math
import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from object_kinds import KINDS
from object_tracer import Objects, make_objects, picture
from PIL import Image

from nerf_pl.films.paths import look_at

ANGLE = 0.6911112070083618  # of view, as in the scenes of the paper
DISTANCE = 4.031128874  # of their cameras
SPLITS = ("train", "val", "test")
_held: list[Objects] = []  # the world that a process of the pool draws


def cameras(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3 4"]:
    """Camera-to-world matrices, OpenGL axes. All parts of the upper half ball are as likely."""
    z, turn = rng.uniform((0, 0), (0.995, 2 * math.pi), (n, 2)).T
    flat = np.sqrt(1 - z * z)
    spots = DISTANCE * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1)
    return look_at(torch.from_numpy(spots)).numpy()


def make_scene(
    folder: Path, kind: str, width: int = 800, views: tuple[int, int, int] = (100, 10, 25), *, seed: int = 0,
    rays: int = 4, processes: int = 1, fine: bool = True,
) -> None:  # fmt: skip
    """Make the scene. views: of each split. fine False: the sky's light is found coarsely, for tests."""
    jobs = []
    for number, (split, count) in enumerate(zip(SPLITS, views, strict=True)):
        c2w = cameras(count, np.random.default_rng([seed, 1, number]))
        (folder / split).mkdir(parents=True)
        write_poses(folder, split, c2w)
        jobs += [(folder / split / f"r_{i}.png", pose) for i, pose in enumerate(c2w)]
    objects = world_of(kind, seed, fine)
    draw = partial(write_picture, kind=kind, width=width, rays=rays)
    if processes == 1:
        begin(objects)
        list(map(draw, jobs))
        return
    with multiprocessing.get_context("spawn").Pool(processes, begin, (objects, 1)) as pool:
        pool.map(draw, jobs, 1)


def world_of(kind: str, seed: int, fine: bool = True) -> Objects:
    things = list(KINDS[kind].things(np.random.default_rng([seed, 0])))
    return make_objects(things, 0.008 if fine else 0.2, 12 if fine else 3)


def begin(objects: Objects, threads: int | None = None) -> None:
    """What a process draws, and on how many threads."""
    _held[:] = [objects]
    if threads:
        torch.set_num_threads(threads)


def write_picture(job: tuple[Path, Float[np.ndarray, "3 4"]], *, kind: str, width: int, rays: int) -> None:
    """The poses are in units of the scene, the world in metres."""
    (path, pose), (_, middle, unit) = job, KINDS[kind]
    pose = pose.copy()
    pose[:, 3] = pose[:, 3] * unit + (0, 0, middle)
    focal = 0.5 * width / math.tan(0.5 * ANGLE)
    Image.fromarray(picture(_held[0], pose, (width, width), focal, rays)).save(path)


def write_poses(folder: Path, split: str, c2w: Float[np.ndarray, "n 3 4"]) -> None:
    frames = [
        {"file_path": f"./{split}/r_{i}", "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]}
        for i, pose in enumerate(c2w)
    ]
    told = json.dumps({"camera_angle_x": ANGLE, "frames": frames}, indent=1)
    (folder / f"transforms_{split}.json").write_text(told, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=tuple(KINDS), required=True)
    parser.add_argument("--width", type=int, default=800, help="pixels; pictures are square")
    parser.add_argument(
        "--views", type=int, default=100, help="for training; there are a tenth for val, a quarter for test"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rays", type=int, default=4, help="the square root of the rays a pixel")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.folder.exists():
        parser.error(f"{asked.folder} is there already: remove it, or give another name")
    if min(asked.views, asked.rays, asked.processes) < 1 or asked.width < 16:
        parser.error("give at least 1 view, ray and process, and a width of at least 16")
    views = asked.views, max(asked.views // 10, 1), max(asked.views // 4, 1)
    make_scene(
        asked.folder, asked.kind, asked.width, views, seed=asked.seed, rays=asked.rays, processes=asked.processes
    )


if __name__ == "__main__":
    main()
