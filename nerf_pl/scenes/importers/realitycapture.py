"""RealityCapture and RealityScan: the registration as CSV, "Internal/External camera parameters".

Heading, pitch and roll turn a camera that looks down, its top to the north (y). f is in millimetres of 35-mm film; px
and py are shares of the longer side, from the middle. Lenses are Brown's. Source: "Registration export and camera
orientations" and "XMP camera math" in the programs' help.
"""

import csv
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
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
from nerf_pl.scenes.importers.xmp import read_xmp, xmp_files
from nerf_pl.scenes.pictures import Size
from nerf_pl.scenes.values import pose_matrix

FILES = "a CSV file that begins with #name,x,y,alt,heading,pitch,roll,f, or XMP files beside the pictures"
NEEDED = ("name", "x", "y", "alt", "heading", "pitch", "roll", "f")
BENDS = {"k1": "k1", "k2": "k2", "k3": "k3", "k4": "k4", "t1": "p1", "t2": "p2"}
DEGREES, STEEP = 0.02, 20.0  # a scene is smaller than this; its heights spread as much as its sides, not so much more
DELIMITERS = ",;\t"
FILM = 36.0  # millimetres, the longer side of 35-mm film


def recognises(source: Source) -> bool:
    return bool(_candidates(source)) or bool(xmp_files(source))


def read(source: Source) -> Found:
    """The cameras of the CSV file, which lacks those that could not be registered; without one, of the XMP files."""
    if not _candidates(source):
        return read_xmp(source)
    file = the_file(_candidates(source), "cameras of RealityCapture")
    pictures, photos = Pictures(source.pictures), []
    left_out: dict[str, list[str]] = {}
    for where, row in _rows(file):
        if picture := place(pictures, row["name"], left_out):
            values = {
                name: _number(where, name, row) for name in row if name in NEEDED[1:] + tuple(BENDS) + ("px", "py")
            }
            photos.append(Photo(picture, _pose(where, values), _lens(where, values, stored_size(picture))))
    _refuse_degrees(file, photos)
    named = {photo.file for photo in photos}
    if unplaced := [file.name for file in pictures.files if file not in named]:
        left_out["are not in the CSV file"] = unplaced
    return Found(file, photos, left_out)


def _candidates(source: Source) -> list[Path]:
    files = [source.file] if source.file else sorted(source.root.glob("*.csv"))
    return [file for file in files if holds(file, b"heading", b"pitch", b"roll")]


def _header(file: Path, lines: list[str]) -> tuple[int, list[str], str]:
    """The line that names the columns, their names, and what is between them."""
    for index, line in enumerate(lines[:5]):
        delimiter = max(DELIMITERS, key=line.count)
        names = [name.strip(' "').lstrip("#").strip().lower() for name in line.split(delimiter)]
        if "heading" in names:
            if missing := [name for name in NEEDED if name not in names]:
                told = f"{file} has no column {missing[0]}"
                raise UserError(f"{told}: export it as Internal/External camera parameters, with {', '.join(NEEDED)}")
            return index, names, delimiter
    raise UserError(f"{file} does not begin with the names of its columns, #name,x,y,alt and so on: {REMEDY}")


def _rows(file: Path) -> list[tuple[str, dict[str, str]]]:
    """Where each row stands, and its values by column."""
    lines = read_text(file).splitlines()
    first, names, delimiter = _header(file, lines)
    rows = []
    for number, line in enumerate(lines[first + 1 :], first + 2):
        if not line.strip() or line.startswith("#"):
            continue
        words = next(csv.reader(io.StringIO(line), delimiter=delimiter))
        if len(words) < len(names):
            raise UserError(f"{file}: line {number} has {len(words)} values, not {len(names)}: {REMEDY}")
        rows.append((f"{file}: line {number} ({words[0]})", dict(zip(names, map(str.strip, words), strict=False))))
    return rows


def _refuse_degrees(file: Path, photos: list[Photo]) -> None:
    """Raises UserError for positions in longitude and latitude: heights in metres then spread far more."""
    if len(photos) < 2:
        return
    low, high = (extreme(np.stack([photo.c2w[:, 3] for photo in photos]), axis=0) for extreme in (np.min, np.max))
    across, up = max(high[:2] - low[:2]), high[2] - low[2]
    if across < DEGREES and up > STEEP * across and abs(low[0]) <= 180 and abs(low[1]) <= 90 and abs(low[:2]).max() > 1:
        told = f"{file}: x and y ({low[0]:.4f}, {low[1]:.4f}) look like degrees"
        raise UserError(f"{told}: choose a local or metric coordinate system, then {REMEDY}")


def _number(where: str, name: str, row: dict[str, str]) -> float:
    return float(numbers(f"{where}: {name}", row[name].replace(",", "."), (1,))[0])  # some countries write 1,5


def _pose(where: str, values: dict[str, float]) -> Float[np.ndarray, "3 4"]:
    heading, pitch, roll = (np.deg2rad(values[name]) for name in ("heading", "pitch", "roll"))
    (ch, cp, cr), (sh, sp, sr) = np.cos((heading, pitch, roll)), np.sin((heading, pitch, roll))
    about_z = np.array([[ch, sh, 0], [-sh, ch, 0], [0, 0, 1]])  # clockwise from above, as a compass
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    centre = np.array([[values["x"]], [values["y"]], [values["alt"]]])
    return pose_matrix(where, "pose", np.concatenate([about_z @ about_x @ about_y, centre], 1).tolist())


def _lens(where: str, values: dict[str, float], size: Size) -> Lens:
    if values["f"] <= 0:
        raise UserError(f"{where}: f is {values['f']:g}, which is not above 0: {REMEDY}")
    width, height = size
    longer = max(size)
    focal = values["f"] / FILM * longer
    middle = {
        "cx": 0.5 * width + longer * values.get("px", 0.0),
        "cy": 0.5 * height + longer * values.get("py", 0.0),
    }
    lens: Lens = {"camera_model": "OPENCV", "w": width, "h": height, "fl_x": focal, "fl_y": focal, **middle}
    return {**lens, **{ours: values[theirs] for theirs, ours in BENDS.items() if values.get(theirs)}}
