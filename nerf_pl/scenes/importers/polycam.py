"""Polycam: the raw data of a capture, keyframes with a JSON file for each picture.

Poses are camera to world, row by row (t_00 to t_23), with the axes right, up, back; the world's up is y. Polycam's own
adjustment of the poses, if it is there, is in corrected_cameras, and belongs to corrected_images.
"""

from pathlib import Path

import numpy as np

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds, place
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import number, pose_matrix, positive

FILES = "keyframes/corrected_cameras or keyframes/cameras"
# cameras and their pictures, from the best
KINDS = (("corrected_cameras", "corrected_images"), ("cameras", "images"), ("corrected_cameras", "images"))
DEPTH_UNIT = 0.001  # metres


def recognises(source: Source) -> bool:
    return source.file is None and _folder(source.root) is not None


def read(source: Source) -> Found:
    """The keyframes; those that Polycam adjusted, if it did."""
    base = _folder(source.root)
    assert base is not None  # recognised
    pairs = [(base / c, base / i) for c, i in KINDS if _has_cameras(base / c)]
    cameras, images = next((pair for pair in pairs if pair[1].is_dir()), pairs[0])
    notes = []
    folder = source.images or images
    if not folder.is_dir():
        raise UserError(f"{folder} is missing, the pictures of {cameras}: {REMEDY} as raw data")
    if cameras.name == "cameras":
        notes.append("poses are those of the phone: Polycam has not adjusted them (corrected_cameras)")
    elif images.name == "images":
        notes.append(
            "corrected_images is missing: the poses that Polycam adjusted are taken for the pictures in images"
        )
    pictures, left_out, photos = Pictures(folder), {}, []
    for file in sorted(cameras.glob("*.json")):
        if picture := place(pictures, file.stem, left_out):
            photos.append(_photo(file, picture, base / "depth" / f"{file.stem}.png"))
    named = {photo.file for photo in photos}
    if unplaced := [file.name for file in pictures.files if file not in named]:
        left_out[f"have no camera in {cameras.name}"] = unplaced
    return Found(cameras, photos, left_out, depth_scale=DEPTH_UNIT, notes=notes)


def _folder(root: Path) -> Path | None:
    """The folder that holds the keyframes."""
    bases = (root / "keyframes", root)
    return next((base for base in bases if any(_has_cameras(base / cameras) for cameras, _ in KINDS)), None)


def _has_cameras(folder: Path) -> bool:
    first = next(iter(sorted(folder.glob("*.json"))), None)
    return first is not None and holds(first, b'"t_00"')


def _photo(file: Path, picture: Path, depth: Path) -> Photo:
    values, where = read_json(file, REMEDY), str(file)
    names = [f"t_{row}{column}" for row in range(3) for column in range(4)]
    pose = [number(where, name, values.get(name)) for name in names]
    told = {"w": "width", "h": "height", "fl_x": "fx", "fl_y": "fy", "cx": "cx", "cy": "cy"}
    lens: Lens = {"camera_model": "PINHOLE"}
    lens |= {ours: positive(where, theirs, values.get(theirs)) for ours, theirs in told.items()}
    c2w = pose_matrix(where, "pose", np.reshape(pose, (3, 4)).tolist())
    return Photo(picture, c2w, lens, depth=depth if depth.is_file() else None)
