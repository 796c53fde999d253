"""NSVF: bbox.txt, intrinsics.txt, and a pose and a picture of each view, by the same name. A folder intrinsics may have
those of each view, as in one split of NeRF++ and in IBRNet's data.

Poses are camera to world, with the axes right, down, ahead. A name that begins with 0_ is of a training view, 1_ of a
validation view, 2_ of a test view; sets without 2_ test with 1_.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, numbers, read_text, stored_size
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import opengl, pinhole
from nerf_pl.scenes.pictures import Size

FILES = "intrinsics.txt, pose, rgb"
PICTURES = ("rgb", "images", "image")
PREFIXES = {"0_": "train", "1_": "val", "2_": "test"}


def recognises(source: Source) -> bool:
    root = source.root
    if source.file is not None or not (root / "pose").is_dir():
        return False
    return (root / "intrinsics.txt").is_file() or any((root / "intrinsics").glob("*.txt"))


def read(source: Source) -> Found:
    """All views, their splits, and the box."""
    root = source.root
    folder = source.images or next((root / name for name in PICTURES if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{root / 'rgb'} is missing, the pictures of {root / 'pose'}: copy them there")
    poses = {file.stem: file for file in sorted((root / "pose").glob("*.txt"))}
    files = {file.stem: file for file in Pictures(folder).files}
    left_out = {
        f"have no pose in {root / 'pose'}": [files[name].name for name in files if name not in poses],
        f"are not in {folder}": [name for name in poses if name not in files],
    }
    notes: set[str] = set()
    photos = []
    for name in sorted(set(poses) & set(files)):
        matrix = numbers(f"{poses[name]}", read_text(poses[name]), (16, 12)).reshape(-1, 4)
        lens = _lens(root, name, stored_size(files[name]), notes)
        photos.append(Photo(files[name], opengl(str(poses[name]), matrix), lens))
    box = root / "bbox.txt"
    splits = _splits([photo.file for photo in photos])
    kept = {why: names for why, names in left_out.items() if names}
    return Found(root, photos, kept, _box(box) if box.is_file() else None, splits, notes=sorted(notes))


def _intrinsics(root: Path, name: str) -> Path | None:
    """The file for a view, or the one of all."""
    files = (root / "intrinsics" / f"{name}.txt", root / "intrinsics.txt")
    return next((file for file in files if file.is_file()), None)


def _lens(root: Path, name: str, size: Size, notes: set[str]) -> Lens:
    """From a matrix; or from the lines f cx cy 0 / origin / near / scale / height width."""
    file = _intrinsics(root, name)
    if file is None:
        raise UserError(f"{root / 'intrinsics' / name}.txt is missing: restore it from the data set")
    values = numbers(str(file), read_text(file), (9, 11, 12, 16))
    if len(values) != 11:
        K = values.reshape(3, 3) if len(values) == 9 else values.reshape(-1, 4)
        return pinhole(str(file), K, size, notes)
    focal, cx, cy = values[:3].tolist()
    height, width = values[-2:].tolist()
    if min(width, height) <= 0:
        raise UserError(f"{file} has size {width:g}x{height:g}: {REMEDY}")
    return pinhole(str(file), np.array([[focal, 0, cx], [0, focal, cy]]), (width, height), notes)


def _box(file: Path) -> Float[np.ndarray, "2 3"]:
    """Six numbers, and in most files the size of a voxel."""
    corners = numbers(str(file), read_text(file), (7, 6))[:6].reshape(2, 3)
    if (corners[0] >= corners[1]).any():
        raise UserError(f"{file} is no box: its first three numbers are the lowest corner, the next three the highest")
    return corners


def _splits(files: list[Path]) -> dict[str, list[Path]]:
    found = {split: [f for f in files if f.name.startswith(prefix)] for prefix, split in PREFIXES.items()}
    if sum(map(len, found.values())) < len(files) or not found["train"]:
        return {}  # names that mean nothing
    if not found["test"]:
        found["test"] = found["val"]
    return {split: names for split, names in found.items() if names} if found["test"] else {}
