"""SDFStudio: meta_data.json, with a pose and intrinsics of each picture.

camtoworld is camera to world with the axes right, down, ahead. Intrinsics are in pixels of the pictures, the corner of
the first of which is 0. Masks of the foreground and depths of a sensor are optional.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, entry_of, holds, place
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import opengl, pinhole
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import pose_matrix, positive, vector

FILES = "meta_data.json"
DEPTH_UNIT = 1.0  # that of the poses


def recognises(source: Source) -> bool:
    return holds(_file(source), b'"frames"', b'"camtoworld"')


def read(source: Source) -> Found:
    """All frames. The box is kept if the cameras are in it, or if masks leave nothing outside."""
    file = _file(source)
    values = read_json(file, REMEDY)
    frames = values.get("frames")
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{file}: frames has no entries: {REMEDY}")
    size = tuple(positive(str(file), name, values.get(name)) for name in ("width", "height"))
    pictures, photos, notes = Pictures(source.pictures), [], set[str]()
    left_out: dict[str, list[str]] = {}
    for index, value in enumerate(frames):
        where = f"{file}: frame {index}"
        frame = entry_of(where, value, "rgb_path")
        name = frame["rgb_path"]
        if picture := place(pictures, name, left_out):
            where = f"{where} ({name})"
            pose_matrix(where, "camtoworld", frame.get("camtoworld"))  # says what is wrong with it
            c2w = opengl(where, np.reshape(np.array(frame["camtoworld"], np.float64), (-1, 4)))
            lens = _lens(where, frame.get("intrinsics"), (size[0], size[1]), notes)
            mask = _beside(file, frame.get("foreground_mask")) if source.masks else None
            photos.append(Photo(picture, c2w, lens, mask, _beside(file, frame.get("sensor_depth_path"))))
    box = _box(file, values.get("scene_box"))
    if box is not None and not (all(photo.mask for photo in photos) or _holds_all(box, photos)):
        notes.add("the box of the file is not kept: pictures that are not masked show more than what is in it")
        box = None
    return Found(file, photos, left_out, box, depth_scale=DEPTH_UNIT, notes=sorted(notes))


def _file(source: Source) -> Path:
    return source.file or source.root / FILES


def _beside(file: Path, name: object) -> Path | None:
    """A file that a frame names, if it is there."""
    found = file.parent / name if isinstance(name, str) and name else None
    return found if found is not None and found.is_file() else None


def _lens(where: str, value: object, size: tuple[float, float], notes: set[str]) -> Lens:
    try:
        K = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        K = np.empty(0)
    if K.shape not in ((3, 3), (4, 4), (3, 4)) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
        raise UserError(f"{where}: intrinsics is {value!r:.60}; a matrix of finite numbers belongs there: {REMEDY}")
    return pinhole(where, K, size, notes)


def _box(file: Path, told: object) -> Float[np.ndarray, "2 3"] | None:
    """The corners of what the scene holds; None if the file does not tell them."""
    corners = told.get("aabb") if isinstance(told, dict) else None
    if corners is None:
        return None
    if not isinstance(corners, list) or len(corners) != 2:
        raise UserError(f"{file}: scene_box has aabb {corners!r:.60}; two corners belong there: {REMEDY}")
    box = np.array([vector(str(file), "aabb", corner) for corner in corners])
    if (box[0] >= box[1]).any():
        raise UserError(f"{file}: scene_box has aabb {corners!r:.60}; the lowest corner comes first: {REMEDY}")
    return box


def _holds_all(box: Float[np.ndarray, "2 3"], photos: list[Photo]) -> bool:
    """Whether all cameras are in a box: such a box is about a room."""
    return all(((box[0] < photo.c2w[:, 3]) & (photo.c2w[:, 3] < box[1])).all() for photo in photos)
