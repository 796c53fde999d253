"""RealityCapture and RealityScan: the registration as CSV, "Internal/External camera parameters".

Heading (yaw), pitch and roll turn a camera that looks down, its top to the north (y). f is in millimetres of 35-mm
film; px and py are shares of the longer side, from the middle. Lenses are Brown's, with the tangential coefficients in
another order than OpenCV's. Source: "Registration export and camera orientations" and "XMP camera math" in their
help. The OpenCV-compliant table has world to camera, x -> R x + t, and pixels in their place.
"""

import csv
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.importers.files import (
    REMEDY,
    Pictures,
    numbers,
    place,
    read_text,
    stored_size,
    the_file,
)
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import from_world_to_camera
from nerf_pl.scenes.importers.xmp import read_xmp, xmp_files
from nerf_pl.scenes.pictures import Size
from nerf_pl.scenes.values import pose_matrix

FILES = "a CSV file that begins with #name,x,y,alt,heading,pitch,roll,f, or XMP files beside the pictures"
ANGLES = ("heading", "pitch", "roll")
NEEDED = ("name", "x", "y", "alt", *ANGLES, "f")
ROTATION, SHIFT = tuple(f"r{row}{column}" for row in range(3) for column in range(3)), ("tx", "ty", "tz")
NEEDED_OF_MATRICES = ("name", *SHIFT, *ROTATION, "f")  # of the OpenCV-compliant table
# names in other versions: RealityScan 2 says yaw, and the units
SPELLINGS = {"yaw": "heading"} | {f"{name}{unit}": name for name in ("f", "px", "py") for unit in ("_pix", "_norm")}
SPELLINGS |= {"f_35mm": "f"}
BENDS = {"k1": "k1", "k2": "k2", "k3": "k3", "k4": "k4", "t1": "p2", "t2": "p1"}
KEPT = {*NEEDED[1:], *NEEDED_OF_MATRICES[1:], *BENDS, "px", "py"}
BEGINNING = 5  # lines
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
            values = {name: _number(where, name, row) for name in row if name in KEPT}
            if values["f"] <= 0:
                raise UserError(f"{where}: f is {values['f']:g}, which is not above 0: {REMEDY}")
            size = stored_size(picture)
            if set(NEEDED_OF_MATRICES) <= set(row):
                photos.append(Photo(picture, _pose_of_matrix(where, values), _lens_in_pixels(values, size)))
            else:
                photos.append(Photo(picture, _pose(where, values), _lens(values, size)))
    _refuse_degrees(file, photos)
    named = {photo.file for photo in photos}
    if unplaced := [file.name for file in pictures.files if file not in named]:
        left_out["are not in the CSV file"] = unplaced
    return Found(file, photos, left_out)


def _candidates(source: Source) -> list[Path]:
    """Tables of cameras; where there is none, those that say where cameras look, but not their focal lengths."""
    files = [source.file] if source.file else sorted(source.root.glob("*.csv"))
    found = {file: _columns(file) for file in files}
    tables = [file for file, names in found.items() if set(ANGLES) <= names or set(ROTATION) <= names]
    return [file for file in tables if "f" in found[file]] or tables


def _columns(file: Path) -> set[str]:
    """The names of a table's columns, as far as it can be read."""
    try:
        with reading(file):
            lines = read_text(file).splitlines()[:BEGINNING]
    except UserError:
        return set()
    return {name for line in lines for delimiter in DELIMITERS for name in _names(line, delimiter)}


def _names(line: str, delimiter: str) -> list[str]:
    words = line.partition("(")[0].split(delimiter)  # an explanation may follow
    names = [word.strip(' "').lstrip("#").strip().lower() for word in words]
    return [SPELLINGS.get(name, name) for name in names]


def _header(file: Path, lines: list[str]) -> tuple[int, list[str], str]:
    """The line that names the columns, their names, and what is between them."""
    for index, line in enumerate(lines[:BEGINNING]):
        delimiter = max(DELIMITERS, key=line.count)
        names = _names(line, delimiter)
        needed = next((needed for needed in (NEEDED, NEEDED_OF_MATRICES) if needed[4] in names), None)
        if needed is not None:
            if missing := [name for name in needed if name not in names]:
                told = f"{file} has no column {missing[0]}"
                raise UserError(f"{told}: export it as Internal/External camera parameters, with {', '.join(needed)}")
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


def _pose_of_matrix(where: str, values: dict[str, float]) -> Float[np.ndarray, "3 4"]:
    rotation = np.reshape([values[name] for name in ROTATION], (3, 3))
    shift = np.array([values[name] for name in SHIFT])
    return from_world_to_camera(where, rotation, -rotation.T @ shift)


def _lens(values: dict[str, float], size: Size) -> Lens:
    """From shares of the longer side, and millimetres of film."""
    width, height = size
    longer = max(size)
    middle = {"px": 0.5 * width + longer * values.get("px", 0.0), "py": 0.5 * height + longer * values.get("py", 0.0)}
    return _lens_in_pixels({**values, **middle, "f": values["f"] / FILM * longer}, size)


def _lens_in_pixels(values: dict[str, float], size: Size) -> Lens:
    focal, (width, height) = values["f"], size
    middle = {"cx": values.get("px", 0.5 * width), "cy": values.get("py", 0.5 * height)}
    lens: Lens = {"camera_model": "OPENCV", "w": width, "h": height, "fl_x": focal, "fl_y": focal, **middle}
    return {**lens, **{ours: values[theirs] for theirs, ours in BENDS.items() if values.get(theirs)}}
