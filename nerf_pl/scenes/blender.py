"""Blender scenes: the layout of the synthetic scenes of the 2020 paper, RGBA pictures with exact poses."""

from pathlib import Path

import numpy as np
import torch

from nerf_pl.errors import UserError
from nerf_pl.scenes.frames import missing, read_frames
from nerf_pl.scenes.pictures import read_json, target_sizes
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene
from nerf_pl.scenes.shots import names_of, read_shots, require_masks, stored_pictures
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
    decoded. Intrinsics, lenses and masks are read as those of transforms.json are. near is 2, far 6, the background
    white. Raises UserError for whatever is missing, damaged or
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
    frames = read_frames(path, values, request.split)
    gone, told = missing(path, frames)
    if gone:  # scores of a part of a benchmark could not be compared
        raise UserError(f"{told}; copy the pictures there, or correct file_path")
    require_masks(frames)
    stored = stored_pictures(path, frames)
    sizes = target_sizes(root, stored.natives, request.img_wh, request.downscale)
    c2w = torch.from_numpy(np.stack([frame.c2w for frame in frames]))
    shots = read_shots(frames, stored, sizes, c2w, request.pictures)
    return Scene(
        shots.cameras,
        shots.images,
        near=NEAR,
        far=FAR,
        aabb=torch.tensor([[-HALF_EXTENT] * 3, [HALF_EXTENT] * 3]),
        masks=shots.masks,
        names=tuple(names_of(root, [frame.file for frame in frames])),
        root=root,
        orbit=ORBIT,
    )


def _file(root: Path, split: str) -> Path:
    return root / f"transforms_{split}.json"
