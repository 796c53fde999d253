"""OpenMVG: sfm_data.json, with views, intrinsics and extrinsics.

A pose is the rotation of world to camera, with the axes right, down, ahead, and the camera's centre. The centre of the
first pixel is at 0.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, entry_of, holds, place, the_file
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source, panorama_lens
from nerf_pl.scenes.importers.poses import from_world_to_camera
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import number, positive

FILES = "sfm_data.json"
HALF = 0.5  # pixel: our first centre
# of each camera model the key of its coefficients, and their names here
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pinhole": ("", ()),
    "pinhole_radial_k1": ("disto_k1", ("k1",)),
    "pinhole_radial_k3": ("disto_k3", ("k1", "k2", "k3")),
    "pinhole_brown_t2": ("disto_t2", ("k1", "k2", "k3", "p1", "p2")),
    "fisheye": ("fisheye", ("k1", "k2", "k3", "k4")),
}
AROUND = "spherical"  # equirectangular pictures
FIRST = 0x80000000  # of a polymorphic_id: its name stands beside it, and not again


def recognises(source: Source) -> bool:
    return bool(_candidates(source))


def read(source: Source) -> Found:
    """The views that have a pose."""
    file = the_file(_candidates(source), "scenes of OpenMVG")
    values = read_json(file, REMEDY)
    lenses, poses = _lenses(file, values), _entries(file, values, "extrinsics")
    pictures, photos = Pictures(source.pictures), []
    left_out: dict[str, list[str]] = {}
    for key, view in _entries(file, values, "views").items():
        data = entry_of(f"{file}: view {key}", _inner(view), "filename")
        name, pose, lens = data["filename"], str(data.get("id_pose", key)), str(data.get("id_intrinsic"))
        folder = data.get("local_path")
        if pose not in poses:
            left_out.setdefault("could not be placed", []).append(name)
        elif lens not in lenses:
            left_out.setdefault("have no intrinsics", []).append(name)
        elif picture := place(pictures, f"{folder}/{name}" if folder else name, left_out):
            c2w = _pose(f"{file}: pose {pose} ({name})", poses[pose])
            photos.append(Photo(picture, c2w, lenses[lens]))
    return Found(file, photos, left_out)


def _candidates(source: Source) -> list[Path]:
    files = [source.file] if source.file else sorted(source.root.glob("*.json"))
    return [file for file in files if holds(file, b'"sfm_data_version"', b'"extrinsics"')]


def _entries(file: Path, values: dict[str, object], name: str) -> dict[str, dict[str, object]]:
    """The values of a list by their keys."""
    entries = values.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{file} has no list {name}: {REMEDY}")
    return {str(entry.get("key")): _object(entry.get("value")) for entry in entries}


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _inner(value: dict[str, object]) -> dict[str, object]:
    """What a pointer of the file points to."""
    return _object(_object(value.get("ptr_wrapper")).get("data"))


def _lenses(file: Path, values: dict[str, object]) -> dict[str, Lens]:
    names: dict[int, object] = {}
    lenses: dict[str, Lens] = {}
    for key, value in _entries(file, values, "intrinsics").items():
        number_of_type = value.get("polymorphic_id")
        kind = value.get("polymorphic_name")
        if isinstance(number_of_type, int):
            kind = names.setdefault(number_of_type % FIRST, kind)
        lenses[key] = _lens(f"{file}: intrinsic {key}", kind, _inner(value))
    return lenses


def _lens(where: str, kind: object, data: dict[str, object]) -> Lens:
    if kind == AROUND:
        width, height = (positive(where, name, data.get(name)) for name in ("width", "height"))
        if (around := panorama_lens(width, height)) is None:
            told = f"is of the type {kind!r} and has {width:g}x{height:g} pixels"
            raise UserError(f"{where} {told}: give pictures that show all around, twice as wide as high")
        return around
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(f"{where} is of the type {kind!r}; one of {', '.join([*MODELS, AROUND])} can be imported")
    width, height, focal = (positive(where, name, data.get(name)) for name in ("width", "height", "focal_length"))
    cx, cy = _numbers(where, "principal_point", data.get("principal_point"), 2)
    key, names = MODELS[kind]
    bends = _numbers(where, key, data.get(key), len(names)) if names else []
    model = "OPENCV_FISHEYE" if kind == "fisheye" else "OPENCV"
    lens: Lens = {"camera_model": model, "w": width, "h": height, "fl_x": focal, "fl_y": focal}
    lens |= {"cx": cx + HALF, "cy": cy + HALF}
    return {**lens, **{name: bend for name, bend in zip(names, bends, strict=True) if bend}}


def _numbers(where: str, name: str, value: object, n: int) -> list[float]:
    if not isinstance(value, list) or len(value) != n:
        raise UserError(f"{where}: {name} is {value!r:.60}; {n} numbers belong there: {REMEDY}")
    return [number(where, name, part) for part in value]


def _pose(where: str, value: dict[str, object]) -> Float[np.ndarray, "3 4"]:
    rows = value.get("rotation")
    if not isinstance(rows, list) or len(rows) != 3:
        raise UserError(f"{where}: rotation is {rows!r:.60}; three rows belong there: {REMEDY}")
    rotation = np.array([_numbers(where, "rotation", row, 3) for row in rows])
    return from_world_to_camera(where, rotation, np.array(_numbers(where, "center", value.get("center"), 3)))
