"""Record3D: a capture exported as EXR + JPG, or an unpacked .r3d file.

metadata has a pose for each frame: a quaternion x, y, z, w and a position, camera to world, the axes right, up, back. K
is written column by column. Pictures are numbered from 0.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import number, pose_matrix, positive

FILES = "metadata.json or metadata, rgb or rgbd"
PLACES = ("", "EXR_RGBD")
NAMES = ("metadata.json", "metadata")
DEPTHS = (".exr", ".png", ".tiff", ".tif")


def recognises(source: Source) -> bool:
    return _metadata(source) is not None


def read(source: Source) -> Found:
    """All frames whose pictures are there."""
    file = _metadata(source)
    assert file is not None  # recognised
    values, where = read_json(file, REMEDY), str(file)
    poses = values.get("poses")
    if not isinstance(poses, list) or not poses:
        raise UserError(f"{file}: poses has no entries: {REMEDY}")
    folder = source.images or next((file.parent / n for n in ("rgb", "rgbd") if (file.parent / n).is_dir()), None)
    if folder is None:
        raise UserError(f"{file.parent / 'rgb'} is missing, the pictures of {file}: {REMEDY}")
    lenses = _lenses(where, values, len(poses))
    pictures = Pictures(folder).files
    numbered, notes = _numbered(pictures, len(poses))
    photos = [
        Photo(picture, _pose(f"{file}: pose {index}", poses[index]), lenses[index], None, _depth(picture))
        for index, picture in sorted(numbered.items())
    ]
    left_out = {
        f"have no pose of the {len(poses)} in {file.name}": [
            picture.name for picture in pictures if picture not in numbered.values()
        ],
        f"are not in {folder}": [str(index) for index in range(len(poses)) if index not in numbered],
    }
    left_out = {why: names for why, names in left_out.items() if names}
    return Found(file, photos, left_out, notes=notes)


def _numbered(pictures: list[Path], n: int) -> tuple[dict[int, Path], list[str]]:
    """The picture of each pose, and what to say: by the number that is its name or, if names are others but as many as
    there are poses, in their order."""
    found = {int(picture.stem): picture for picture in pictures if picture.stem.isdecimal()}
    if len(pictures) == n and set(found) != set(range(n)):
        return dict(enumerate(sorted(pictures))), [
            "pictures are not numbered from 0: poses are theirs in the order of names"
        ]
    return {index: picture for index, picture in found.items() if index < n}, []


def _metadata(source: Source) -> Path | None:
    files = [source.file] if source.file else [source.root / place / name for place in PLACES for name in NAMES]
    return next((file for file in files if holds(file, b'"poses"', b'"K"')), None)


def _lenses(where: str, values: dict[str, object], n: int) -> list[Lens]:
    """The camera of each frame: K of all, or the coefficients fx, fy, cx, cy of each, which follow the focus."""
    size = {"w": positive(where, "w", values.get("w")), "h": positive(where, "h", values.get("h"))}
    columns = _numbers(f"{where}: K", values.get("K"), 9)
    K = columns.reshape(3, 3).T
    if not K[:2, 2].any():  # other programs write it row by row
        K = K.T
    coefficients = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    told = values.get("perFrameIntrinsicCoeffs")
    if isinstance(told, list) and len(told) == n:
        each = [_numbers(f"{where}: perFrameIntrinsicCoeffs {i}", row, 4).tolist() for i, row in enumerate(told)]
    else:
        each = [coefficients] * n
    lenses: list[Lens] = []
    for fx, fy, cx, cy in each:
        positive(where, "the focal length", min(fx, fy))
        lenses.append({"camera_model": "PINHOLE", **size, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy})
    return lenses


def _numbers(where: str, row: object, n: int) -> Float[np.ndarray, "n"]:
    if not isinstance(row, list) or len(row) != n:
        raise UserError(f"{where} is {row!r:.60}; {n} numbers belong there: {REMEDY}")
    return np.array([number(where, f"number {i}", part) for i, part in enumerate(row)])


def _pose(where: str, row: object) -> Float[np.ndarray, "3 4"]:
    x, y, z, w, *centre = _numbers(where, row, 7).tolist()
    length = math.hypot(x, y, z, w)
    if not 0.9 < length < 1.1:
        raise UserError(f"{where} is no rotation, its quaternion has length {length:.3g}: {REMEDY}")
    x, y, z, w = np.array([x, y, z, w]) / length
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return pose_matrix(where, "pose", np.concatenate([rotation, np.reshape(centre, (3, 1))], 1).tolist())


def _depth(picture: Path) -> Path | None:
    files = [picture.parent.parent / "depth" / f"{picture.stem}{suffix}" for suffix in DEPTHS]
    return next((file for file in files if file.is_file()), None)
