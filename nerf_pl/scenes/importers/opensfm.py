"""OpenSfM, and OpenDroneMap: reconstruction.json, with cameras and shots.

A shot has the rotation vector and the translation of world to camera, with the axes right, down, ahead. Lengths in
pictures are shares of their longer side, seen from their middle.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds, place, read_text
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source, panorama_lens
from nerf_pl.scenes.importers.poses import from_world_to_camera
from nerf_pl.scenes.values import number, positive, vector
from nerf_pl.text import counted

FILES = "reconstruction.json, of the program itself or in opensfm"
PLACES = ("reconstruction.json", "opensfm/reconstruction.json")
# of each projection the coefficients that it has, which have our names
PLAIN = ("k1", "k2", "k3", "p1", "p2")
MODELS = {
    "perspective": ("OPENCV", ("k1", "k2")),
    "brown": ("OPENCV", PLAIN),
    "radial": ("OPENCV", ("k1", "k2")),
    "simple_radial": ("OPENCV", ("k1",)),
    "fisheye": ("OPENCV_FISHEYE", ("k1", "k2")),
    "fisheye_opencv": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
}
AROUND = ("spherical", "equirectangular")


def recognises(source: Source) -> bool:
    return _file(source) is not None


def read(source: Source) -> Found:
    """The shots of the largest reconstruction."""
    file = _file(source)
    assert file is not None  # recognised
    with reading(file, REMEDY, "is not valid JSON"):
        parts = json.loads(read_text(file))
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts) or not parts:
        raise UserError(f"{file} has no list of reconstructions: {REMEDY}")
    shots = [_entries(file, part, "shots") for part in parts]
    largest = max(range(len(parts)), key=lambda i: len(shots[i]))
    cameras = _entries(file, parts[largest], "cameras")
    lenses = {name: _lens(f"{file}: camera {name!r:.60}", camera) for name, camera in cameras.items()}
    left_out: dict[str, list[str]] = {}
    pictures, photos = Pictures(source.pictures), []
    for name, shot in shots[largest].items():
        if picture := place(pictures, name, left_out):
            photos.append(_photo(f"{file}: shot {name}", shot, picture, lenses))
    others = sum(map(len, shots)) - len(shots[largest])
    told = f"{counted(len(parts), 'reconstruction')}: the largest is taken, without {counted(others, 'picture')}"
    return Found(file, photos, left_out, notes=[told] if others else [])


def _file(source: Source) -> Path | None:
    files = [source.file] if source.file else [source.root / place for place in PLACES]
    return next((file for file in files if holds(file, b'"shots"', b'"cameras"', b'"projection_type"')), None)


def _entries(file: Path, part: dict[str, object], name: str) -> dict[str, dict[str, object]]:
    entries = part.get(name)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UserError(f"{file} has no {name}: {REMEDY}")
    return entries


def _lens(where: str, camera: dict[str, object]) -> Lens:
    width, height = (positive(where, name, camera.get(name)) for name in ("width", "height"))
    kind = camera.get("projection_type")
    if kind in AROUND and (around := panorama_lens(width, height)) is not None:
        return around
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(f"{where} has the projection {kind!r:.40}; one of {', '.join([*MODELS, *AROUND])} is read")
    model, names = MODELS[kind]
    side = max(width, height)
    focal_x, focal_y = (camera.get(name, camera.get("focal")) for name in ("focal_x", "focal_y"))
    lens: Lens = {"camera_model": model, "w": width, "h": height}
    lens |= {"fl_x": side * positive(where, "focal_x", focal_x), "fl_y": side * positive(where, "focal_y", focal_y)}
    for name, key, middle in (("cx", "c_x", width / 2), ("cy", "c_y", height / 2)):
        lens[name] = middle + side * number(where, key, camera.get(key, 0.0))
    bends = {name: number(where, name, camera.get(name, 0.0)) for name in names}
    return lens | {name: bend for name, bend in bends.items() if bend}


def _photo(where: str, shot: dict[str, object], picture: Path, lenses: dict[str, Lens]) -> Photo:
    camera = shot.get("camera")
    if not isinstance(camera, str) or camera not in lenses:
        raise UserError(f"{where} has the camera {camera!r:.60}, which is not there: {REMEDY}")
    rotation = _turned(np.array(vector(where, "rotation", shot.get("rotation"))))
    moved = np.array(vector(where, "translation", shot.get("translation")))
    return Photo(picture, from_world_to_camera(where, rotation, -rotation.T @ moved), lenses[camera])


def _turned(way: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rodrigues' formula: the rotation about an axis, by its length in radians."""
    angle = float(np.linalg.norm(way))
    x, y, z = way / max(angle, 1e-300)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
