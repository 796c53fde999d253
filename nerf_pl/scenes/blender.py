"""Blender scenes: the layout of the synthetic scenes of the 2020 paper, RGBA pictures with exact poses."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.cuts import cut_names, originals_of
from nerf_pl.scenes.frames import Frame, missing, read_frames
from nerf_pl.scenes.lenses import half_view
from nerf_pl.scenes.normalize import camera_focus, closest_of, looks_at, moved, near_of, normalize_poses
from nerf_pl.scenes.pictures import list_some, read_json, target_sizes
from nerf_pl.scenes.placing import DISTANCE, Place, place, with_views
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene
from nerf_pl.scenes.shots import looking, names_of, paths_of, read_cuts, read_shots, require_masks, stored_pictures
from nerf_pl.scenes.splits import SPLITS
from nerf_pl.text import coordinates

FILES = "transforms_train.json and so on"
OTHER_SPLITS = re.compile(r"transforms_(valid\w*|eval\w*|dev|holdout|training|tests|testing)")
ELSEWHERE = 1.6  # times as far as usual from what training cameras look at, or near, other cameras are doubtful
ORBIT = (4.0, 30.0)  # the film that the papers show of these scenes


def recognises(root: Path) -> bool:
    return bool(splits(root, 0))


def splits(root: Path, test_every: int) -> tuple[str, ...]:
    """Those that have a file of their own."""
    return tuple(split for split in SPLITS if _file(root, split).is_file())


def load_blender(root: Path, request: Request) -> Scene:
    """The views of transforms_{split}.json in the folder `root`.

    Pictures stay 8-bit, RGBA or RGB as stored, and are resized (Lanczos, colours weighed by alpha) as they are
    decoded. Intrinsics, lenses and masks are read as those of transforms.json are. near is 2, far 6, the background
    white, if the scene is of the size of those of the 2020 paper; see `placing.place` for others. Raises UserError for
    whatever is missing, damaged or contradictory.
    """
    path = _file(root, request.split)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder that holds {path.name}")
    if not path.is_file():
        found = sorted(p.stem.removeprefix("transforms_") for p in root.glob("transforms_*.json"))
        remedy = f"splits in that folder: {', '.join(found)}" if found else "no transforms_*.json lies in that folder"
        raise UserError(f"{path} is missing; {remedy}")
    values = read_json(path)
    _tell_other_names(root)
    frames = read_frames(path, values, request.split)
    gone, told = missing(path, frames)
    if gone:  # scores of a part of a benchmark could not be compared
        raise UserError(f"{told}; copy the pictures there, or correct file_path")
    require_masks(frames)
    stored = stored_pictures(path, frames)
    sizes = target_sizes(root, stored.natives, request.img_wh, request.downscale)
    transparent = stored.mode == "RGBA"
    found = _place(root, frames, request, transparent)
    c2w = moved(_poses(frames), found.frame)
    found = with_views(found, c2w)
    cuts = read_cuts(path, frames, stored)
    shots = read_shots(frames, stored, cuts, sizes, c2w, request.pictures)
    return Scene(
        shots.cameras,
        shots.images,
        near=found.near,
        far=found.far,
        aabb=found.aabb,
        background=None if found.unbounded else (1.0, 1.0, 1.0),
        unbounded=found.unbounded,
        masks=shots.masks,
        names=cut_names(cuts, names_of(root, [frame.file for frame in frames])),
        root=root,
        orbit=ORBIT if found.classic and _is_upright(c2w) else None,
        frame=found.frame,
        photos=shots.photos,
        partial=shots.partial,
        endless=None if transparent or request.scale is not None else found.endless,
        originals=originals_of(cuts, paths_of(root, [frame.file for frame in frames])),
    )


def _tell_other_names(root: Path) -> None:
    """Say which files are of splits by their names, but not by names that are looked for."""
    others = [file.name for file in sorted(root.glob("transforms_*.json")) if OTHER_SPLITS.fullmatch(file.stem)]
    if others:
        usual = ", ".join(_file(root, split).name for split in SPLITS)
        warn(f"{root}: not read: {list_some(others)}; the files of splits are called {usual}")


def _place(root: Path, frames: list[Frame], request: Request, transparent: bool) -> Place:
    """Where the scene lies: the training cameras decide for all splits."""
    file = _file(root, SPLITS[0])
    if request.split != SPLITS[0] and file.is_file():
        trained = read_frames(file, read_json(file), SPLITS[0])
        if request.pictures:  # where they are scored, not where a training only keeps their cameras
            _compare(_file(root, request.split), file, frames, trained)
        frames = trained
    views = [view for frame in frames if (view := half_view(frame.where, frame.values)) is not None]
    c2w = looking(frames, _poses(frames))
    found = place(c2w, float(np.median(views)) if views else None, request.scale, on_nothing=transparent)
    if not found.unbounded and looks_at(c2w, camera_focus(c2w)):
        poses, endless = normalize_poses(moved(c2w, found.frame))
        found = replace(found, endless=(endless, near_of(poses), closest_of(poses)))
    if found.frame is None or request.scale is not None:
        return found
    if found.unbounded:
        warn(f"{root}: the cameras look at no common point, so the scene is taken to have no end")
        return found
    by = float(found.frame[0, 0])
    target = ", ".join(coordinates([round(x, 3) / by for x in (-found.frame[:3, 3]).tolist()], DISTANCE / by))
    told = f"the cameras look at ({target}) from a distance of {DISTANCE / by:.3g}"
    warn(f"{root}: {told}, so the scene is moved to the origin and scaled by {by:.3g}; --scale 1 leaves it as it is")
    return found


def _compare(path: Path, file: Path, frames: list[Frame], trained: list[Frame]) -> None:
    """Say so if the views of a split are views of the training, too, or lie elsewhere. path, file: those of the split
    and of the training."""
    known = {frame.file.resolve() for frame in trained}
    if both := [frame.file.name for frame in frames if frame.file.resolve() in known]:
        told = f"{len(both)} of {len(frames)} pictures are in {file.name}, too ({list_some(both)})"
        warn(f"{path}: {told}: the scores are those of views that were trained on")
    c2w, ours = (looking(each, _poses(each)) for each in (trained, frames))
    if not looks_at(c2w, focus := camera_focus(c2w)):
        return
    usual, far = ((poses[:, :, 3] - focus).norm(dim=-1).median().item() for poses in (c2w, ours))
    if not 1 / ELSEWHERE < far / usual < ELSEWHERE:
        told = f"its cameras are {far / usual:.2g} times as far as those of {file.name} from what these look at"
        warn(f"{path}: {told}; are both in the same coordinates?")


def _poses(frames: list[Frame]) -> Float[Tensor, "C 3 4"]:
    return torch.from_numpy(np.stack([frame.c2w for frame in frames]))


def _is_upright(c2w: Float[Tensor, "C 3 4"]) -> bool:
    """Whether z is up, as the usual film of these scenes needs it."""
    return float(c2w[:, 2, 1].mean()) > 0


def _file(root: Path, split: str) -> Path:
    return root / f"transforms_{split}.json"
