"""The list `frames` of transforms.json and transforms_train.json: pictures and poses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.lenses import over
from nerf_pl.scenes.pictures import PICTURE_SUFFIXES, list_some
from nerf_pl.scenes.values import ROTATED, axes_scale, pose_matrix

# of a picture whose suffix is left out: the usual one first
GUESSES = (".png", *sorted(PICTURE_SUFFIXES - {".png"}))


@dataclass(frozen=True)
class Frame:
    """An entry of frames. where: how messages name it. values: its keys over those that all frames share, see
    `lenses.over`. own: the names of its keys."""

    where: str
    file: Path
    mask: Path | None
    c2w: Float[np.ndarray, "3 4"]
    values: dict[str, object]
    own: frozenset[str] = frozenset()


def read_frames(path: Path, values: dict[str, object]) -> list[Frame]:
    """The frames in the content of a JSON file, in its order; see `missing` for their pictures.

    file_path is seen from the file's folder and may leave its suffix out. transform_matrix: see `pose_matrix`. Raises
    UserError for an entry that lacks either, or where there is none at all.
    """
    entries = values.get("frames")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: frames {'is empty' if entries == [] else 'is missing'}; list at least one picture")
    shared = {key: value for key, value in values.items() if key != "frames"}
    frames = [_read_frame(path, i, entry, shared) for i, entry in enumerate(entries)]
    scales = [axes_scale(entry["transform_matrix"]) for entry in entries]
    if scaled := [i for i, scale in enumerate(scales) if abs(scale - 1) > ROTATED]:
        told = f"the axes of {len(scaled)} of {len(frames)} poses are not of length 1 but {scales[scaled[0]]:.4g}"
        warn(f"{path}: {told}, of frame {scaled[0]} for example; only their directions are taken")
    return frames


def missing(path: Path, frames: Sequence[Frame]) -> tuple[list[Frame], str]:
    """The frames whose pictures are not there, and what to say about them."""
    gone = [frame for frame in frames if not frame.file.is_file()]
    names = list_some([within(path.parent, frame.file) for frame in gone])
    return gone, f"{len(gone)} of {len(frames)} pictures named in {path}, which are missing: {names}"


def within(root: Path, file: Path) -> Path:
    """The path as seen from the scene's folder."""
    return file.relative_to(root) if file.is_relative_to(root) else file


def _read_frame(path: Path, index: int, entry: object, shared: dict[str, object]) -> Frame:
    keys = entry if isinstance(entry, dict) else {}
    name, mask = keys.get("file_path"), keys.get("mask_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {index} has no file_path; name its picture, such as images/{index:04}.jpg")
    where = f"{path}: frame {index} ({name})"
    if mask is not None and not isinstance(mask, str):
        raise UserError(f"{where} has mask_path {mask!r}; name a picture, or remove it")
    c2w = pose_matrix(where, "transform_matrix", keys.get("transform_matrix"))
    file, hidden = _find(path.parent, name), path.parent / mask if mask else None
    return Frame(where, file, hidden, c2w, over(shared, keys), frozenset(keys))


def _find(folder: Path, name: str) -> Path:
    """The picture of that name; where its suffix is left out (a stem such as r_0.5 has none), the one that exists."""
    file = folder / name.replace("\\", "/")
    if file.suffix.lower() in PICTURE_SUFFIXES:
        return file
    candidates = [file.with_name(file.name + suffix) for suffix in (*GUESSES, *map(str.upper, GUESSES))]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
