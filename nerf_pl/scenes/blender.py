"""Blender scenes: the layout of the synthetic scenes of the 2020 paper, RGBA pictures with exact poses."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError
from nerf_pl.scenes.pictures import (
    PICTURE_SUFFIXES,
    list_some,
    one_size,
    picture_sizes,
    read_json,
    read_pictures,
    target_size,
)
from nerf_pl.scenes.scene import Scene

SPLITS = ("train", "val", "test")
NEAR, FAR = 2.0, 6.0
HALF_EXTENT = 1.5


def load_blender(
    root: Path,
    split: str,
    img_wh: tuple[int, int] | None = None,
    downscale: int = 1,
    test_every: int = 0,
    spheric: bool = False,
    pictures: bool = True,
) -> Scene:
    """The views of transforms_{split}.json in the folder `root`.

    Pictures stay 8-bit, RGBA or RGB as stored, and are resized (Lanczos, colours weighed by alpha) to img_wh or by 1 /
    downscale as they are decoded. Rays pass the corner of their pixel (pixel_offset 0) as in the classic
    implementation; near is 2, far 6, the background white. test_every and spheric are for other layouts; pictures: see
    `read_pictures`. Raises UserError for whatever is missing, damaged or contradictory.
    """
    root = Path(root)
    angle, files, c2w = _read_transforms(root, split)
    sizes, mode = picture_sizes(files, upright=False)
    native = one_size(files, sizes)
    width, height = target_size(root, native, img_wh, downscale)
    images = read_pictures(files, [(width, height)] * len(files), mode, upright=False, pictures=pictures)
    focal = 0.5 * native[0] / math.tan(0.5 * angle)  # pixels of the stored pictures
    K = torch.tensor([[focal, 0, native[0] / 2], [0, focal, native[1] / 2], [0, 0, 1]], dtype=torch.float32)
    cameras = Cameras(c2w, K.expand(len(files), 3, 3), *native, pixel_offset=0.0).resized(width, height)
    return Scene(
        cameras,
        images,
        near=NEAR,
        far=FAR,
        aabb=torch.tensor([[-HALF_EXTENT] * 3, [HALF_EXTENT] * 3]),
        names=tuple(file.stem for file in files),
        root=root,
    )


def _read_transforms(root: Path, split: str) -> tuple[float, list[Path], Float[Tensor, "C 3 4"]]:
    """The horizontal field of view in radians, the picture files, and the camera poses."""
    path = root / f"transforms_{split}.json"
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder that holds transforms_{split}.json")
    if not path.is_file():
        found = sorted(p.stem.removeprefix("transforms_") for p in root.glob("transforms_*.json"))
        remedy = f"splits in that folder: {', '.join(found)}" if found else "no transforms_*.json lies in that folder"
        raise UserError(f"{path} is missing; {remedy}")
    values = read_json(path)
    angle = values.get("camera_angle_x")
    if isinstance(angle, bool) or not isinstance(angle, int | float) or not 0 < angle < math.pi:
        told = "is missing" if angle is None else f"is {angle!r}"
        raise UserError(f"{path}: camera_angle_x {told}; give the horizontal field of view in radians, 0 to pi")
    frames = values.get("frames")
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{path}: frames {'is empty' if frames == [] else 'is missing'}; list at least one picture")
    entries = [_read_frame(path, index, frame) for index, frame in enumerate(frames)]
    files = [file for file, _ in entries]
    if missing := [file for file in files if not file.is_file()]:
        count = f"{len(missing)} of {len(files)} pictures named in {path}"
        raise UserError(f"missing {list_some(missing)} ({count}): copy the pictures there, or correct the file")
    return float(angle), files, torch.from_numpy(np.stack([pose for _, pose in entries]))


def _read_frame(path: Path, index: int, frame: object) -> tuple[Path, Float[np.ndarray, "3 4"]]:
    """Picture file and pose of one entry of frames."""
    keys = frame if isinstance(frame, dict) else {}
    name = keys.get("file_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {index} has no file_path; name its picture, such as ./train/r_{index}")
    try:
        matrix = np.array(keys.get("transform_matrix"), np.float64)
    except (TypeError, ValueError):  # rows of different lengths, or words
        matrix = np.empty(0)
    if matrix.shape != (4, 4):
        raise UserError(f"{path}: frame {index} ({name}) has no 4x4 transform_matrix; give camera to world, row by row")
    if not np.isfinite(matrix).all():
        raise UserError(
            f"{path}: frame {index} ({name}) has a transform_matrix that is not finite; correct or remove it"
        )
    file = path.parent / name
    # the classic files leave .png away; a stem such as r_0.5 is no extension
    known = file.suffix.lower() in PICTURE_SUFFIXES
    return file if known else file.with_name(file.name + ".png"), matrix[:3].astype(np.float32)
