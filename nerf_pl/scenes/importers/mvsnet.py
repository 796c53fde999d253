"""MVSNet, and BlendedMVS: cams/NAME_cam.txt and a picture of each view.

A file has the word extrinsic and a 4x4 matrix, world to camera with the axes right, down, ahead; the word intrinsic and
a 3x3 matrix in pixels of the picture; and depths, which are not read.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.files import pictures_in
from nerf_pl.scenes.importers.files import REMEDY, holds, numbers, read_text, stored_size
from nerf_pl.scenes.importers.found import Found, Photo, Source
from nerf_pl.scenes.importers.poses import from_world_to_camera, pinhole

FILES = "cams/00000000_cam.txt and so on, blended_images or images"
SUFFIX = "_cam.txt"
PLACES = ("cams", "Cameras", "cameras")
PICTURES = ("blended_images", "images", "image", "Rectified", "rectified")


def recognises(source: Source) -> bool:
    return source.file is None and bool(_files(source.root))


def read(source: Source) -> Found:
    """The views whose pictures have the name of their camera."""
    files = _files(source.root)
    root = source.root
    folder = source.images or next((root / name for name in PICTURES if (root / name).is_dir()), root)
    pictures = {file.stem: file for file in pictures_in(folder)}
    notes: set[str] = set()
    photos: list[Photo] = []
    lacking: list[str] = []
    for file in files:
        name = file.name.removesuffix(SUFFIX)
        if name in pictures:
            photos.append(_photo(file, pictures[name], notes))
        else:
            lacking.append(name)
    left_out = {f"are not in {folder}": lacking} if lacking else {}
    return Found(files[0].parent, photos, left_out, notes=sorted(notes))


def _files(root: Path) -> list[Path]:
    found = (sorted((root / place).glob(f"*{SUFFIX}")) for place in PLACES)
    files = next((files for files in found if files), [])
    return files if files and holds(files[0], b"extrinsic", b"intrinsic") else []


def _photo(file: Path, picture: Path, notes: set[str]) -> Photo:
    w2c, K = _matrices(file)
    lens = pinhole(str(file), K, stored_size(picture), notes)
    rotation = w2c[:3, :3]
    return Photo(picture, from_world_to_camera(str(file), rotation, -rotation.T @ w2c[:3, 3]), lens)


def _matrices(file: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """World to camera, and intrinsics."""
    words = read_text(file).split()
    found = []
    for name, count in (("extrinsic", 16), ("intrinsic", 9)):
        if name not in words:
            raise UserError(f"{file} has no {name}: {REMEDY}")
        at = words.index(name) + 1
        found.append(numbers(f"{file}: {name}", " ".join(words[at : at + count]), (count,)))
    return found[0].reshape(4, 4), found[1].reshape(3, 3)
