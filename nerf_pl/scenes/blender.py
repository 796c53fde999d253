"""Blender scenes: the layout of the synthetic scenes of the 2020 paper, RGBA pictures with exact poses."""

import math
from pathlib import Path

import numpy as np
import torch

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError
from nerf_pl.scenes.frames import missing, read_frames
from nerf_pl.scenes.lenses import field_of_view
from nerf_pl.scenes.pictures import one_size, read_headers, read_json, read_pictures, target_size
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene
from nerf_pl.scenes.splits import SPLITS

FILES = "transforms_train.json and so on"
NEAR, FAR = 2.0, 6.0
HALF_EXTENT = 1.5
ORBIT = (4.0, 30.0)  # the film that the papers show of these scenes


def recognises(root: Path) -> bool:
    return bool(splits(root, 0))


def splits(root: Path, test_every: int) -> tuple[str, ...]:
    """Those that have a file of their own."""
    return tuple(split for split in SPLITS if _file(root, split).is_file())


def load_blender(root: Path, request: Request) -> Scene:
    """The views of transforms_{split}.json in the folder `root`.

    Pictures stay 8-bit, RGBA or RGB as stored, and are resized (Lanczos, colours weighed by alpha) as they are
    decoded. near is 2, far 6, the background white. Raises UserError for whatever is missing, damaged or
    contradictory.
    """
    path = _file(root, request.split)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder that holds {path.name}")
    if not path.is_file():
        found = sorted(p.stem.removeprefix("transforms_") for p in root.glob("transforms_*.json"))
        remedy = f"splits in that folder: {', '.join(found)}" if found else "no transforms_*.json lies in that folder"
        raise UserError(f"{path} is missing; {remedy}")
    values = read_json(path)
    angle = field_of_view(str(path), "camera_angle_x", values)
    if angle is None:
        raise UserError(f"{path}: camera_angle_x is missing; give the field of view in radians, 0 to pi")
    frames = read_frames(path, values)
    gone, told = missing(path, frames)
    if gone:  # scores of a part of a benchmark could not be compared
        raise UserError(f"{told}; copy the pictures there, or correct file_path")
    files = [frame.file for frame in frames]
    headers = read_headers(files)
    native = one_size(files, headers.sizes(upright=False))
    width, height = target_size(root, native, request.img_wh, request.downscale)
    sizes = [(width, height)] * len(files)
    focal = 0.5 * native[0] / math.tan(0.5 * angle)  # pixels of the stored pictures
    K = torch.tensor([[focal, 0, native[0] / 2], [0, focal, native[1] / 2], [0, 0, 1]], dtype=torch.float32)
    c2w = torch.from_numpy(np.stack([frame.c2w for frame in frames]).astype(np.float32))
    return Scene(
        Cameras(c2w, K.expand(len(files), 3, 3), *native).resized(width, height),
        read_pictures(files, sizes, headers.mode, upright=False, pictures=request.pictures),
        near=NEAR,
        far=FAR,
        aabb=torch.tensor([[-HALF_EXTENT] * 3, [HALF_EXTENT] * 3]),
        names=tuple(file.stem for file in files),
        root=root,
        orbit=ORBIT,
    )


def _file(root: Path, split: str) -> Path:
    return root / f"transforms_{split}.json"
