"""Scenes with a transforms.json, as Instant-NGP and nerfstudio write it: photos with poses, intrinsics and lenses."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.cuts import Cut, cut_names, originals_of
from nerf_pl.scenes.depths import KEY, points_in_depths, room_in_depths
from nerf_pl.scenes.frames import Frame, missing, read_frames, within
from nerf_pl.scenes.normalize import (
    FAR,
    LEAST_NEAR,
    NEAR,
    ahead_of,
    camera_focus,
    closest_of,
    looks_at,
    moved,
    near_of,
    normalize_poses,
    reach,
    usual_nearest,
)
from nerf_pl.scenes.pictures import cut_out, read_json, target_sizes
from nerf_pl.scenes.points import CLEAR, Room, room_in_file, seen_from
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene, as_object
from nerf_pl.scenes.shots import looking, names_of, paths_of, read_cuts, read_shots, require_masks, stored_pictures
from nerf_pl.scenes.sightings import read_sightings, seen_by_views
from nerf_pl.scenes.splits import held_out, listed, rule_splits
from nerf_pl.scenes.values import number, optional_number, positive, vector
from nerf_pl.text import counted

FILE = FILES = "transforms.json"
# Instant-NGP's own frame: point * scale + offset lies in the unit cube
SCALE, OFFSET = 0.33, 0.5


def recognises(root: Path) -> bool:
    return (root / FILE).is_file()


def splits(root: Path, test_every: int) -> tuple[str, ...]:
    return rule_splits(test_every)


def load_transforms(root: Path, request: Request) -> Scene:
    """The views of a split of transforms.json in the folder `root`.

    If the file lists the pictures of each split, as nerfstudio's may, these lists decide. Otherwise every test_every-th
    picture, in the order of file names and from the first, is held out for val and test. Pictures that are missing are
    left out, with one warning. Lenses are undone as pictures are read; `orient` says which are turned. A pixel does not
    count if its mask_path is black there, or if Instant-NGP's dynamic_mask_NAME.png beside the picture is not. Sizes
    may differ. The background is white where pictures have alpha, or else None.

    aabb_scale 1 says that the scene lies in Instant-NGP's unit cube, which becomes the box: world and poses stay as
    they are, near and far enclose the box. Otherwise `normalize_poses` of all frames, whatever the split, gives the
    world, which is unbounded, or has the box [-1, 1]^3 if the pictures' background was removed. Raises UserError for
    whatever is damaged or contradictory.
    """
    path = root / FILE
    values = _with_test_frames(read_json(path))
    frames = _frames_with_pictures(path, values)
    stored = stored_pictures(path, frames)
    natives, mode = stored.natives, stored.mode
    sizes = target_sizes(root, natives, request.img_wh, request.downscale)
    cuts = read_cuts(path, frames, stored)
    poses = torch.from_numpy(np.stack([frame.c2w for frame in frames]))
    bounded, near, far, aabb = _bounds(path, values, poses, request.scale)
    frame, ahead, told = None, 0.0, False
    if not bounded:
        frame, near, ahead, told = _normalized(path, values, frames, poses, request.scale)
        poses = moved(poses, frame)
    on_nothing = _shows_an_object(frames, mode, bounded or not request.objects)
    names = names_of(root, [frame.file for frame in frames])
    chosen = _members(path, values, frames, request)
    stored = replace(stored, natives=[natives[i] for i in chosen], upright=[stored.upright[i] for i in chosen])
    frames, sizes, cuts = [frames[i] for i in chosen], [sizes[i] for i in chosen], [cuts[i] for i in chosen]
    shots = read_shots(frames, stored, cuts, sizes, poses[chosen], request.pictures)
    scene = Scene(
        shots.cameras,
        shots.images,
        near=near,
        far=far,
        aabb=aabb,
        background=(1.0, 1.0, 1.0) if mode == "RGBA" else None,
        unbounded=not bounded,
        masks=shots.masks,
        target=(0.0, 0.0, 0.0) if not bounded else tuple(aabb.mean(0).tolist()),
        names=cut_names(cuts, [names[i] for i in chosen]),
        root=root,
        frame=frame,
        photos=shots.photos,
        partial=shots.partial,
        seen=_seen(path, values, frames, cuts, frame) if frame is not None and _trains(request) else None,
        ahead=ahead,
        closest=0.0 if bounded else closest_of(poses),
        told=told,
        originals=originals_of(cuts, paths_of(root, [frame.file for frame in frames])),
    )
    return as_object(scene) if on_nothing else scene


def _with_test_frames(values: dict[str, object]) -> dict[str, object]:
    """The content of a file with its frames in one list, if it has those for tests apart, as that of ScanNet++ has."""
    trained, tests = values.get("frames"), values.get("test_frames")
    if not isinstance(trained, list) or not isinstance(tests, list) or not tests:
        return values
    names = {
        f"{split}_filenames": [frame.get("file_path") for frame in frames if isinstance(frame, dict)]
        for split, frames in (("train", trained), ("test", tests))
    }
    return {**names, **values, "frames": [*trained, *tests]}


def _trains(request: Request) -> bool:
    """Whether the views are to be learned from: only then does it matter which points they see."""
    return request.split == "train" and request.pictures


def _seen(
    path: Path, values: dict[str, object], frames: Sequence[Frame], cuts: Sequence[Cut], frame: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "_ 3"], ...] | None:
    """The points that views see, if the file of points or depth pictures tell that. frame: see `Scene`."""
    points = _sightings(path, values, frames)
    if points is not None:
        return seen_by_views(points, cuts, frame)
    if not any(f.values.get(KEY) for f in frames):
        return None
    poses = torch.from_numpy(np.stack([f.c2w for f in frames]))
    if room_in_depths(path, values, frames, poses) is None:
        return None
    return seen_by_views(points_in_depths(path, values, frames, cuts), cuts, frame)


def _sightings(
    path: Path, values: dict[str, object], frames: Sequence[Frame]
) -> list[Float[np.ndarray, "_ 3"] | None] | None:
    """The points that the photo of each frame sees, if a file of points tells that."""
    cloud = values.get("ply_file_path")
    has_cloud = isinstance(cloud, str) and (path.parent / cloud).is_file()
    points = read_sightings(path.parent / str(cloud)) if has_cloud else None
    return None if points is None else [points.get(within(path.parent, f.file).as_posix()) for f in frames]


def _shows_an_object(frames: Sequence[Frame], mode: str, settled: bool) -> bool:
    """Whether the pictures show an object whose background was removed, unless something else has settled that."""
    return not settled and mode == "RGBA" and cut_out([frame.file for frame in frames])


def _frames_with_pictures(path: Path, values: dict[str, object]) -> list[Frame]:
    """The frames whose pictures exist, by file name."""
    frames = sorted(read_frames(path, values), key=lambda frame: frame.file)
    gone, told = missing(path, frames)
    if len(gone) == len(frames):
        raise UserError(f"{told}; copy the pictures there, or correct file_path")
    if gone:
        warn(f"left out {told}")
        frames = [frame for frame in frames if os.path.isfile(frame.file)]
    require_masks(frames)
    return frames


def _members(path: Path, values: dict[str, object], frames: Sequence[Frame], request: Request) -> list[int]:
    """Which frames belong to the split: those that the file lists, or every so many."""
    chosen = listed(values, [frame.file for frame in frames], path, request.split)
    chosen = held_out(len(frames), request.split, request.test_every) if chosen is None else chosen
    if not chosen:
        told = f"--test_every {request.test_every} leaves none of {counted(len(frames), 'picture')} in {path}"
        remedy = "2 or more" if request.test_every == 0 else "another number, or 0 to train on all"
        raise UserError(f"{told} for {request.split}: give {remedy}")
    return chosen


def _bounds(
    path: Path, values: dict[str, object], c2w: Float[Tensor, "C 3 4"], scale: float | None
) -> tuple[bool, float, float, Float[Tensor, "2 3"]]:
    """Whether the scene is bounded, near, far and its box."""
    size = optional_number(str(path), "aabb_scale", values)
    if size is not None and size < 1:
        raise UserError(f"{path}: aabb_scale is {size:g}; give 1 for a scene within the unit cube, or more")
    if size != 1:
        return False, NEAR, FAR, torch.tensor([[-1.0] * 3, [1.0] * 3])
    if scale is not None:
        raise UserError(f"--scale {scale:g}: {path} has a scale of its own, since aabb_scale is 1; change that instead")
    aabb = _unit_cube(path, values)
    nearest, farthest = reach(c2w[:, :, 3].float(), aabb)
    near, focus = max(NEAR, nearest), camera_focus(c2w)
    away = (c2w[:, :, 3] - focus).norm(dim=-1).median().item()
    if looks_at(c2w, focus) and away <= near:
        told = (
            f"{path}: aabb_scale is 1, so rays begin {near:.3g} from the cameras, but what these look at is {away:.3g}"
        )
        raise UserError(f"{told} away; multiply the positions, or give aabb_scale 16 for a scene of any size")
    return True, near, farthest, aabb


def _normalized(
    path: Path,
    values: dict[str, object],
    frames: Sequence[Frame],
    poses: Float[Tensor, "C 3 4"],
    scale: float | None,
) -> tuple[Float[Tensor, "4 4"], float, float, bool]:
    """Frame, near, `Scene.ahead` and `Scene.told` of a scene without end."""
    views = looking(frames, poses)
    room = _room(path, values, frames, poses)
    _require_clear(path, values.get("clear_distance"), views)
    frame = normalize_poses(views, scale)[1]
    views = moved(views, frame)
    if room is None:
        return frame, near_of(views), ahead_of(views), False
    return frame, max(room.clear * float(frame[0, :3].norm()), LEAST_NEAR), ahead_of(views, room.share), True


def _room(path: Path, values: dict[str, object], frames: Sequence[Frame], poses: Float[Tensor, "C 3 4"]) -> Room | None:
    """The room in front of the cameras, if the file tells. It may say, in its own unit of length, in front of which
    distance from every camera there is nothing, as `nerf prepare` does, or name a file of points, or depth pictures."""
    views = looking(frames, poses)
    told, cloud = values.get("clear_distance"), values.get("ply_file_path")
    if cloud is not None and not isinstance(cloud, str):
        raise UserError(f"{path}: ply_file_path is {cloud!r:.60}; name a PLY file, or remove it")
    if told is None:
        room = None if cloud is None else room_in_file(path.parent / cloud, views)
        return room_in_depths(path, values, frames, poses) if room is None else room
    clear, points = positive(str(path), "clear_distance", told), _sightings(path, values, frames)
    focus = camera_focus(views)
    if points is not None:
        return Room(clear, seen_from(points, poses[:, :, 3].numpy(), focus.numpy()))
    # what is nearest is twice as far off, and it is not known from which camera
    return Room(clear, clear / CLEAR / max(usual_nearest(views, focus), 1e-9))


def _require_clear(path: Path, told: object, views: Float[Tensor, "V 3 4"]) -> None:
    """Raises UserError if a clear_distance that the file tells leaves nothing of what the cameras look at."""
    focus = camera_focus(views)
    if told is not None and looks_at(views, focus):
        clear = positive(str(path), "clear_distance", told)
        away = (views[:, :, 3] - focus).norm(dim=-1).median().item()
        if clear >= away:
            wrong = f"clear_distance is {clear:g}, but what the cameras look at is {away:.3g} away"
            raise UserError(f"{path}: {wrong}; give it in the unit of the poses, or remove it")


def _unit_cube(path: Path, values: dict[str, object]) -> Float[Tensor, "2 3"]:
    """Instant-NGP's unit cube in the world of the poses: where point * scale + offset is in [0, 1]."""
    scale, offset = values.get("scale"), values.get("offset", OFFSET)
    scale = SCALE if scale is None else positive(str(path), "scale", scale)
    if isinstance(offset, list):
        corner = vector(str(path), "offset", offset)
    else:
        corner = (number(str(path), "offset", offset),) * 3
    low = -torch.tensor(corner)
    return torch.stack([low, low + 1]) / scale
