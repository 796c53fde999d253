"""Blender scenes: the layout of the synthetic scenes of the 2020 paper, RGBA pictures with exact poses."""

import json
import math
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.scenes.scene import Scene
from nerf_pl.types import UserError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
SPLITS = ("train", "val", "test")
NEAR, FAR = 2.0, 6.0
HALF_EXTENT = 1.5

# what Pillow raises for damaged files, depending on where the damage is
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def load_blender(root: Path, split: str, img_wh: tuple[int, int] | None = None, downscale: int = 1) -> Scene:
    """The views of transforms_{split}.json in the folder `root`.

    Pictures stay 8-bit, RGBA or RGB as stored, and are resized (Lanczos, colours weighed by alpha) to img_wh or by 1 /
    downscale as they are decoded. Rays pass the corner of their pixel (pixel_offset 0) as in the classic
    implementation; near is 2, far 6, the background white. Raises UserError for whatever is missing, damaged or
    contradictory.
    """
    root = Path(root)
    angle, files, c2w = _read_transforms(root, split)
    native, mode = _check_headers(files)
    width, height = _target_size(root, native, img_wh, downscale)
    images = _decode(files, native, (width, height), mode)
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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file: restore it from the data set") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise UserError(f"{path} is not valid JSON ({where}): restore it from the data set") from error
    values = values if isinstance(values, dict) else {}
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
        first = ", ".join(str(file) for file in missing[:3]) + (", ..." if len(missing) > 3 else "")
        count = f"{len(missing)} of {len(files)} pictures named in {path}"
        raise UserError(f"missing {first} ({count}): copy the pictures there, or correct the file")
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


def _check_headers(files: Sequence[Path]) -> tuple[tuple[int, int], str]:
    """The one size (width, height) of all pictures, and the Pillow mode, RGB or RGBA, that holds each of them."""
    size, mode = None, "RGB"
    for file in files:
        try:
            with Image.open(file) as picture:
                found, transparent = picture.size, "A" in picture.getbands() or "transparency" in picture.info
        except BROKEN_IMAGE as error:
            raise UserError(f"{file} is not a readable picture: restore it from the data set") from error
        size = size or found
        mode = "RGBA" if transparent else mode
        if found != size:
            told = f"{found[0]}x{found[1]} pixels but {files[0].name} {size[0]}x{size[1]}"
            raise UserError(f"{file} has {told}: all pictures of a split must have one size")
    assert size is not None
    return size, mode


def _target_size(
    root: Path, native: tuple[int, int], img_wh: tuple[int, int] | None, downscale: int
) -> tuple[int, int]:
    """Width and height to resize to."""
    width, height = native
    told = f"the {width}x{height} pictures in {root}"
    if img_wh is None:
        if downscale < 1 or min(width // downscale, height // downscale) < 1:
            raise UserError(f"--downscale {downscale} leaves nothing of {told}: give 1 to {min(native)}")
        return width // downscale, height // downscale
    wide, high = img_wh
    if min(wide, high) < 1:
        raise UserError(f"--img_wh {wide} {high} is empty: give a width and a height of 1 or more")
    fitting_height, fitting_width = round(wide * height / width), round(high * width / height)
    if high != fitting_height and wide != fitting_width:  # either may be the one that was rounded
        fitting = f"{wide} {max(fitting_height, 1)}"
        raise UserError(f"--img_wh {wide} {high} changes the aspect ratio of {told}: give {fitting}")
    return wide, high


def _decode(
    files: Sequence[Path], native: tuple[int, int], size: tuple[int, int], mode: str
) -> UInt8[Tensor, "C H W ch"]:
    """All pictures at `size`, decoded by several threads: Pillow lets go of the interpreter lock while it works."""
    images = torch.empty(len(files), size[1], size[0], len(mode), dtype=torch.uint8)

    def decode(index: int) -> None:
        try:
            with Image.open(files[index]) as picture:
                picture = picture.convert(mode)
        except BROKEN_IMAGE as error:
            raise UserError(f"{files[index]} is damaged or cut short: restore it from the data set") from error
        if size != native:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        images[index] = torch.from_numpy(np.array(picture))

    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(decode, index) for index in range(len(files))]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the rest need not be decoded
    return images
