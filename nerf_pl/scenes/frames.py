"""The list `frames` of transforms.json and transforms_train.json: pictures and poses."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.files import files_below, is_picture
from nerf_pl.scenes.finder import find_named, of_other_kind, told_path
from nerf_pl.scenes.keys import spelled, tell_keys
from nerf_pl.scenes.lenses import FOCALS, over
from nerf_pl.scenes.masks import masks_folder
from nerf_pl.scenes.normalize import in_one_pose
from nerf_pl.scenes.pictures import list_some
from nerf_pl.scenes.spread import tell_spread
from nerf_pl.scenes.values import ROTATED, axes_scale, pose_matrix

# what two frames of one picture must agree on, beside the pose
CAMERA_KEYS = {*FOCALS["x"], *FOCALS["y"], "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2", "mask_path"}


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


def read_frames(path: Path, values: dict[str, object], split: str | None = None) -> list[Frame]:
    """The frames in the content of a JSON file, in its order; see `missing` for their pictures.

    file_path and mask_path are seen from the file's folder; `finder.Search` finds what has another name. split: that of
    all frames in the file, if they have one. transform_matrix: see `pose_matrix`. Raises UserError for an entry that
    lacks file_path or transform_matrix, or where there is none at all. An entry that says again what another one says
    is left out; UserError if the two contradict each other.
    """
    entries = values.get("frames")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: frames {'is empty' if entries == [] else 'is missing'}; list at least one picture")
    tell_keys(path if split is None else path.parent, values, entries)  # said once for all splits
    shared = {key: value for key, value in values.items() if key != "frames"}
    frames = [_read_frame(path, i, entry, shared) for i, entry in enumerate(entries)]
    scales = [axes_scale(entry["transform_matrix"]) for entry in entries]
    if scaled := [i for i, scale in enumerate(scales) if abs(scale - 1) > ROTATED]:
        told = f"the axes of {len(scaled)} of {len(frames)} poses are not of length 1 but {scales[scaled[0]]:.4g}"
        warn(f"{path}: {told}, of frame {scaled[0]} for example; only their directions are taken")
    c2w = torch.from_numpy(np.stack([frame.c2w for frame in frames]))
    tell_spread(path, c2w, [str(frame.values["file_path"]) for frame in frames])
    if same := in_one_pose(c2w):
        names = list_some([str(frames[i].values["file_path"]) for i in same])
        told = f"{len(same)} of {len(frames)} pictures have one and the same pose ({names})"
        warn(f"{path}: {told}: if it stands for those that could not be placed, remove them")
    return _different(path, _found(path, frames, split))


def missing(path: Path, frames: Sequence[Frame]) -> tuple[list[Frame], str]:
    """The frames whose pictures are not there, and what to say about them."""
    gone = [frame for frame in frames if not os.path.isfile(frame.file)]
    names = list_some([within(path.parent, frame.file) for frame in gone])
    other = next((file for frame in gone if (file := of_other_kind(frame.file))), None)
    hint = f" ({within(path.parent, other)} is no kind of picture that is read: convert it to PNG)" if other else ""
    return gone, f"{len(gone)} of {len(frames)} pictures named in {path}, which are missing: {names}{hint}"


def within(root: Path, file: Path) -> Path:
    """The path as seen from the scene's folder."""
    return file.relative_to(root) if file.is_relative_to(root) else file


def _read_frame(path: Path, index: int, entry: object, shared: dict[str, object]) -> Frame:
    keys = spelled(entry, shared) if isinstance(entry, dict) else {}
    name, mask = keys.get("file_path"), keys.get("mask_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {index} has no file_path; name its picture, such as images/{index:04}.jpg")
    where = f"{path}: frame {index} ({name})"
    if mask is not None and not isinstance(mask, str):
        raise UserError(f"{where} has mask_path {mask!r}; name a picture, or remove it")
    c2w = pose_matrix(where, "transform_matrix", keys.get("transform_matrix"))
    file, hidden = told_path(path.parent, name), path.parent / mask if mask else None
    return Frame(where, file, hidden, c2w, over(shared, keys), frozenset(keys))


def _found(path: Path, frames: Sequence[Frame], split: str | None) -> list[Frame]:
    """The frames with the files that are there, whatever the JSON file calls them."""
    files = find_named(path, [str(frame.values["file_path"]) for frame in frames], split)
    masked = [str(frame.values["mask_path"]) for frame in frames if frame.mask]
    masks = iter(find_named(path, masked, split, masks=True))
    unused = masks_folder(path.parent)
    if not masked and unused.is_dir() and any(is_picture(file.name) for file in files_below(unused)):
        warn(f"{path}: no frame has a mask_path, so the pictures in {unused} are not used")
    return [
        replace(frame, file=file or frame.file, mask=frame.mask and (next(masks) or frame.mask))
        for frame, file in zip(frames, files, strict=True)
    ]


def _different(path: Path, frames: Sequence[Frame]) -> list[Frame]:
    """The frames without those that show a picture again."""
    known: dict[str, Frame] = {}
    different = []
    for frame in frames:
        first = known.setdefault(os.path.realpath(frame.file), frame) if os.path.isfile(frame.file) else frame
        if first is frame:
            different.append(frame)
        elif differs := _contradiction(first, frame):
            told = f"shows the same picture as {first.where.removeprefix(f'{path}: ')}, with another {differs}"
            raise UserError(f"{frame.where} {told}: remove the wrong one, or correct its file_path")
    if again := len(frames) - len(different):
        warn(f"{path}: {again} of {len(frames)} frames show the picture of another frame again, and are left out")
    return different


def _contradiction(first: Frame, other: Frame) -> str:
    """The first key whose values differ between two frames of one picture; "" if there is none."""
    if not np.allclose(first.c2w, other.c2w, rtol=1e-5, atol=1e-5):
        return "transform_matrix"
    keys = sorted(CAMERA_KEYS & (first.own | other.own))
    return next((key for key in keys if first.values.get(key) != other.values.get(key)), "")
