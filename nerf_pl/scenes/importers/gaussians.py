"""3D Gaussian splatting: the cameras.json in the folder of a model that was trained.

position is a camera's centre, rotation camera to world with the axes right, down, ahead. Sizes are those of the
pictures as the training saw them, with the optical axis in their middle. The pictures lie elsewhere: cfg_args, beside
the file, says where the training had them.
"""

import json
import re
from pathlib import Path

import numpy as np

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.importers.files import REMEDY, Pictures, entry_of, holds, place, read_text
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import opengl
from nerf_pl.scenes.values import number, positive, vector

FILES = "cameras.json, with img_name, position and rotation of each picture"
NAME, OPTIONS, MODEL = "cameras.json", "cfg_args", "point_cloud"
SCENE = re.compile(r"source_path\s*=\s*['\"](.+?)['\"]")


def recognises(source: Source) -> bool:
    return holds(_file(source), b'"img_name"', b'"position"', b'"rotation"')


def read(source: Source) -> Found:
    """All cameras whose pictures are there."""
    file = _file(source)
    with reading(file, REMEDY, "is not valid JSON"):
        entries = json.loads(read_text(file))
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file} has no list of cameras: {REMEDY}")
    pictures, photos = Pictures(_folder(source, file)), []
    left_out: dict[str, list[str]] = {}
    for index, value in enumerate(entries):
        where = f"{file}: camera {index}"
        entry = entry_of(where, value, "img_name")
        name = entry["img_name"]
        if picture := place(pictures, name, left_out):
            photos.append(_photo(f"{where} ({name})", entry, picture))
    notes = [f"pictures: {pictures.folder}"] if pictures.folder != source.pictures else []
    return Found(file, photos, left_out, notes=notes)


def _file(source: Source) -> Path:
    return source.file or source.root / NAME


def _folder(source: Source, file: Path) -> Path:
    """The folder of the pictures. What lies in that of a model was rendered: it is not taken for them."""
    if source.images is not None:
        return source.images
    options = file.parent / OPTIONS
    told = SCENE.search(read_text(options)) if options.is_file() else None
    if told and (folder := Path(told[1])).is_dir():
        return folder
    if told or (file.parent / MODEL).is_dir():
        where = f" (not in {told[1]}, where the training had them)" if told else ""
        raise UserError(f"{file} is of a trained model, without its pictures{where}: give --images FOLDER")
    return source.root


def _photo(where: str, entry: dict[str, object], picture: Path) -> Photo:
    rows = entry.get("rotation")
    if not isinstance(rows, list) or len(rows) != 3:
        raise UserError(f"{where}: rotation is {rows!r:.60}; three rows belong there: {REMEDY}")
    rotation = np.array([vector(where, "a row of rotation", row) for row in rows])
    centre = np.array(vector(where, "position", entry.get("position")))
    c2w = opengl(where, np.concatenate([rotation, centre[:, None]], 1))
    width, height = (positive(where, name, entry.get(name)) for name in ("width", "height"))
    lens: Lens = {"camera_model": "PINHOLE", "w": width, "h": height}
    lens |= {ours: positive(where, theirs, entry.get(theirs)) for ours, theirs in (("fl_x", "fx"), ("fl_y", "fy"))}
    middle = {"cx": 0.5 * width, "cy": 0.5 * height}  # newer versions may tell it
    told = {name: number(where, name, entry[name]) for name in middle if entry.get(name) is not None}
    return Photo(picture, c2w, {**lens, **middle, **told})
