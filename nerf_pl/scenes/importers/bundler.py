"""Bundler: bundle.out and the list of its pictures, as Metashape, RealityCapture and others export them too.

Each camera is world to camera, x -> R x + t, with the axes right, up, back. Pixels count from the middle of a picture.
"""

import re
from pathlib import Path

import numpy as np

from nerf_pl.errors import UserError, content_of
from nerf_pl.scenes.files import is_picture
from nerf_pl.scenes.importers.files import (
    REMEDY,
    Pictures,
    holds,
    numbers,
    place,
    read_text,
    stored_size,
    the_file,
)
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.values import pose_matrix
from nerf_pl.text import counted

FILES = "bundle.out and a list of pictures, such as list.txt"
MARK = b"# Bundle file"
LISTS = ("*.txt", "*.lst")
PER_CAMERA = 15  # numbers: f k1 k2, R, t


def recognises(source: Source) -> bool:
    return bool(_candidates(source))


def read(source: Source) -> Found:
    """The cameras that were placed, which have a focal length, in the order of the list."""
    file = the_file(_candidates(source), "cameras of Bundler")
    rows = [line for line in read_text(file).splitlines() if line.strip() and not line.startswith("#")]
    if not rows:
        raise UserError(f"{file} has no cameras: {REMEDY}")
    count = int(numbers(f"{file}: the number of cameras", " ".join(rows[0].split()[:1]), (1,))[0])
    words = " ".join(rows[1 : 1 + 5 * count]).split()
    if len(words) != PER_CAMERA * count:
        told = f"{file} has {counted(len(words), 'number')} for {counted(count, 'camera')}"
        raise UserError(f"{told}, not {PER_CAMERA} each: {REMEDY}")
    names = _names(file, source, count)
    pictures, photos = Pictures(source.pictures), []
    left_out: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        where = f"{file}: camera {index} ({name})"
        values = numbers(where, " ".join(words[PER_CAMERA * index : PER_CAMERA * (index + 1)]), (PER_CAMERA,))
        if values[0] <= 0:
            left_out.setdefault("could not be placed", []).append(name)
        elif picture := place(pictures, name, left_out):
            rotation, shift = values[3:12].reshape(3, 3), values[12:]
            c2w = np.concatenate([rotation.T, -rotation.T @ shift[:, None]], 1)
            lens = _lens(values[:3].tolist(), stored_size(picture))
            photos.append(Photo(picture, pose_matrix(where, "pose", c2w.tolist()), lens))
    return Found(file, photos, left_out)


def _candidates(source: Source) -> list[Path]:
    places = (source.root, source.root / "bundle")
    files = [source.file] if source.file else [file for place in places for file in sorted(place.glob("*.out"))]
    return [file for file in files if holds(file, MARK)]


def _names(file: Path, source: Source, count: int) -> list[str]:
    """The names of the pictures, from the list that has as many as there are cameras."""
    folders = dict.fromkeys((file.parent, source.root))
    lists = [path for folder in folders for kind in LISTS for path in sorted(folder.glob(kind))]
    found = {path: _listed(path) for path in lists}
    fitting = [path for path, names in found.items() if names and len(names) == count]
    if not fitting:
        told = f"{file} has {counted(count, 'camera')}, and no list of as many pictures is beside it"
        raise UserError(f"{told}: export it with its list, such as list.txt or imagelist.lst")
    return found[fitting[0]]


def _listed(path: Path) -> list[str]:
    """The names in a list, which may be followed by numbers; none if it is no list of pictures."""
    lines = [line.strip().strip('"') for line in content_of(path).decode("utf-8-sig", errors="replace").splitlines()]
    names = [re.sub(r"(\s+[-+.\deE]+)+$", "", line) for line in lines if line]
    return names if all(map(is_picture, names)) else []


def _lens(values: list[float], size: tuple[int, int]) -> Lens:
    focal, k1, k2 = values
    width, height = size
    middle = {"cx": 0.5 * width, "cy": 0.5 * height}
    lens: Lens = {"camera_model": "OPENCV", "w": width, "h": height, "fl_x": focal, "fl_y": focal, **middle}
    return {**lens, **{name: bend for name, bend in (("k1", k1), ("k2", k2)) if bend}}
