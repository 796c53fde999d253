"""Nerfies and HyperNeRF: camera/ID.json, rgb/1x, rgb/2x and so on, dataset.json.

A camera has the rotation of world to camera, with the axes right, down, ahead, its centre in the world, and a lens of
OpenCV's with one focal length for pixels that may not be square.
"""

import re
from pathlib import Path

import numpy as np

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import check_skew, from_world_to_camera
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import number, positive, vector

FILES = "camera/ID.json, rgb/1x or so, dataset.json"
LISTS = {"train": "train_ids", "test": "val_ids"}
MOVES = "what moves, as in most of these sets, is learned as if it stood still"


def recognises(source: Source) -> bool:
    first = next(iter(sorted((source.root / "camera").glob("*.json"))), None)
    return source.file is None and first is not None and holds(first, b'"orientation"', b'"position"')


def read(source: Source) -> Found:
    """The views that have a camera and a picture, of the largest size that is there."""
    root = source.root
    folder = source.images or _largest(root / "rgb")
    pictures = {file.stem: file for file in Pictures(folder).files}
    cameras = {file.stem: file for file in sorted((root / "camera").glob("*.json"))}
    left_out: dict[str, list[str]] = {}
    if lacking := [name for name in cameras if name not in pictures]:
        left_out[f"are not in {folder}"] = lacking
    if unplaced := [file.name for name, file in pictures.items() if name not in cameras]:
        left_out[f"have no camera in {root / 'camera'}"] = unplaced
    notes = {f"pictures: {folder}", MOVES}
    photos = {name: _photo(cameras[name], pictures[name], notes) for name in sorted(set(cameras) & set(pictures))}
    splits = _splits(root / "dataset.json", {name: photo.file for name, photo in photos.items()})
    return Found(root / "camera", list(photos.values()), left_out, splits=splits, notes=sorted(notes))


def _largest(rgb: Path) -> Path:
    """rgb/1x, or the one with the smallest factor that is there."""
    named = {int(found[1]): inner for inner in rgb.glob("*x") if (found := re.fullmatch(r"(\d{1,4})x", inner.name))}
    if not named:
        raise UserError(f"{rgb / '1x'} is missing, the pictures of {rgb.parent / 'camera'}: copy them there")
    return named[min(named)]


def _splits(file: Path, pictures: dict[str, Path]) -> dict[str, list[Path]]:
    """What dataset.json lists, if it lists both; a picture for training is none to test with."""
    values = read_json(file, REMEDY) if file.is_file() else {}
    lists = {split: values.get(key) for split, key in LISTS.items()}
    named = {split: [name for name in ids if name in pictures] for split, ids in lists.items() if isinstance(ids, list)}
    trained = set(named.get("train", ()))
    found = {split: [pictures[n] for n in ids if split == "train" or n not in trained] for split, ids in named.items()}
    return found if len(found) == len(LISTS) and all(found.values()) else {}


def _photo(file: Path, picture: Path, notes: set[str]) -> Photo:
    values, where = read_json(file, REMEDY), str(file)
    rows = values.get("orientation")
    if not isinstance(rows, list) or len(rows) != 3:
        raise UserError(f"{where}: orientation is {rows!r:.60}; three rows belong there: {REMEDY}")
    rotation = np.array([vector(where, "a row of orientation", row) for row in rows])
    centre = np.array(vector(where, "position", values.get("position")))
    focal = positive(where, "focal_length", values.get("focal_length"))
    ratio = positive(where, "pixel_aspect_ratio", values.get("pixel_aspect_ratio", 1.0))
    (width, height), (cx, cy) = (_pair(where, name, values.get(name)) for name in ("image_size", "principal_point"))
    if note := check_skew(where, number(where, "skew", values.get("skew", 0.0)), (width, height), focal * ratio):
        notes.add(note)
    lens: Lens = {"camera_model": "OPENCV", "w": width, "h": height, "fl_x": focal, "fl_y": focal * ratio}
    lens |= {"cx": cx, "cy": cy}
    bends = {"k1": 0.0, "k2": 0.0, "k3": 0.0, "p1": 0.0, "p2": 0.0}
    if (radial := values.get("radial_distortion", values.get("radial"))) is not None:
        bends |= zip(("k1", "k2", "k3"), vector(where, "radial_distortion", radial), strict=True)
    if (tangential := values.get("tangential_distortion", values.get("tangential"))) is not None:
        bends |= zip(("p1", "p2"), _pair(where, "tangential_distortion", tangential), strict=True)
    return Photo(picture, from_world_to_camera(where, rotation, centre), lens | {k: v for k, v in bends.items() if v})


def _pair(where: str, name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{where}: {name} is {value!r:.60}; two numbers belong there: {REMEDY}")
    return number(where, name, value[0]), number(where, name, value[1])
