"""Files of camera paths: our keyframes, a camera_path.json of nerfstudio, and the frames of a scene's JSON file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import console, warn
from nerf_pl.errors import UserError, reading
from nerf_pl.films.keyframes import PANORAMA, Keyframes
from nerf_pl.films.options import FPS, FPS_RANGE, MOST_SIDE
from nerf_pl.films.paths import UP, framed, look_at
from nerf_pl.scenes.lenses import FISHEYE, MODELS, PLAIN, is_panorama, over, read_lens, told_size
from nerf_pl.scenes.lenses import PANORAMA as SPHERES
from nerf_pl.scenes.normalize import moved
from nerf_pl.scenes.pictures import list_some, read_json
from nerf_pl.scenes.undistort import undistorted_camera
from nerf_pl.scenes.values import FARTHEST, number, optional_number, pose_matrix, positive, vector

Values = dict[str, Any]
NAMES = ("camera_path", "keyframes", "frames")  # the key of a file that lists cameras: nerfstudio's, ours, a scene's
SIZES = {"camera_path": ("render_width", "render_height"), "keyframes": ("width", "height")}
PERSPECTIVE = "PERSPECTIVE"
POSES = {"camera_path": "camera_to_world", "keyframes": "c2w", "frames": "transform_matrix"}
COMMON = {"fps", "camera_type", "coordinates", "file_to_world"}
KNOWN = {
    "keyframes": {"keyframes", "width", "height", "loop", *COMMON},
    # what nerfstudio's editor remembers is in its camera_path already
    "camera_path": {
        "camera_path", "keyframes", "render_width", "render_height", "seconds", "is_cycle", "smoothness_value",
        "default_fov", "default_transition_sec", "crop", *COMMON,
    },
}  # fmt: skip
KNOWN_OF_CAMERA = {
    "keyframes": {"time", "position", "look_at", "up", "c2w", "fov", "K", "camera_type", "name"},
    "camera_path": {"camera_to_world", "fov", "aspect", "camera_type", "render_time"},
}
NARROWEST, WIDEST = 0.01, 179.9  # fields of view in degrees
SAME_ASPECT = 0.01
LATEST, LEAST_GAP = 1e9, 1e-6  # seconds of keyframes; slopes between them must be finite
REMEDY = "correct it, or give another camera path"


def read_keyframes(path: Path, like: Cameras, frame: Float[Tensor, "4 4"] | None = None) -> Keyframes:
    """The keyframes in a JSON file.

    Ours: {"keyframes": [{"time": 0, "position": [x, y, z], "look_at": [x, y, z], "up": [0, 0, 1], "fov": 50}, ...]},
    with "c2w" (4x4, OpenGL axes) in place of position, look_at and up; optional "loop", "fps", "width", "height",
    "coordinates". time: seconds, by default one for each. fov: vertical, in degrees; by default that of the first of
    the cameras `like`; "K" (3x3) in its place gives all intrinsics, in pixels. coordinates: world, the default, or
    file, those of the scene's own file; frame: takes these to the world. camera_type, of the file or of each camera:
    perspective, the default, or equirectangular.
    Or a camera_path.json of nerfstudio, or a JSON file of a scene, such as transforms_test.json; of both every camera
    is a frame. Those of a scene are in the coordinates of the file. Raises UserError that names what is wrong, or what
    would change the picture and is not supported.
    """
    with reading(path, REMEDY):
        return _keyframes(path, like, frame)


def _keyframes(path: Path, like: Cameras, frame: Float[Tensor, "4 4"] | None) -> Keyframes:
    values = read_json(path, REMEDY)
    name = next((name for name in NAMES if name in values), "keyframes")
    entries = values.get(name)
    if not isinstance(entries, list) or not entries:
        told = "list them under keyframes (or camera_path, as nerfstudio does, or frames, as scenes do)"
        raise UserError(f"{path} has no cameras: {told}")
    entries = [entry if isinstance(entry, dict) else {} for entry in entries]
    _refuse_other_cameras(path, name, values, entries)
    like = framed(like[:1], *like.size(0)) if like.sizes is not None else like[:1]
    if name == "frames":
        cameras = _of_scene(path, values, entries, like)
    else:
        like = replace(like, panorama=_is_panorama(path, name, values, entries))
        cameras = _of_path(path, name, values, entries, like)
    fps = _fps(path, values, len(entries))
    times = _times(path, name, entries, fps)
    if name == "camera_path" and "coordinates" not in values and frame is not None:
        told = "its poses are taken to be in the world of this run, which is not nerfstudio's"
        warn(f'{path}: {told}; for those of the scene\'s own file add "coordinates": "file"')
    of_file = _are_of_file(path, values, "file" if name == "frames" else "world")
    if frame is not None and of_file:
        cameras = replace(cameras, c2w=moved(cameras.c2w, frame))
    if frame is not None and (of_file or "coordinates" in values or name == "keyframes"):
        told = "the coordinates of the scene's own file" if of_file else "the world of this run"
        other = "" if of_file or "coordinates" in values else '; for the scene\'s own file add "coordinates": "file"'
        console.print(f"{path}: its poses are in {told}{other}")
    n = len(times)
    period = (times[-1] - times[0]) * n / (n - 1) if name == "keyframes" and _is_loop(path, values) and n > 1 else None
    return Keyframes(replace(cameras, c2w=cameras.c2w.to(like.c2w)), torch.tensor(times).double(), period, fps)


def _refuse_other_cameras(path: Path, name: str, values: Values, entries: Sequence[Values]) -> None:
    """Raises UserError for cameras that are filmed as perspective ones only by mistake. Warns of unknown keys."""
    for where, keys in _each(path, name, values, entries):
        for key in MODELS:
            kind = keys.get(key)
            known = (*PLAIN, *FISHEYE, *SPHERES) if name == "frames" else (PERSPECTIVE, PANORAMA.upper())
            if kind is not None and str(kind).upper() not in known:
                told = f"{where} has {key} {kind!r:.60}"
                raise UserError(f"{told}: only perspective and {PANORAMA} can be filmed; remove it")
        if keys is not values and "coordinates" in keys:
            raise UserError(f"{where} has coordinates, which hold for all cameras: write it beside {name}")
    if name == "frames":
        return
    if values.get("crop") is not None and name == "camera_path":
        raise UserError(f"{path} has a crop, which is not read; remove it, and give --crop X0 Y0 Z0 X1 Y1 Z1")
    unknown = {key for entry in entries for key in entry.keys() - KNOWN_OF_CAMERA[name]}
    if unknown := sorted({*(values.keys() - KNOWN[name]), *unknown}):
        warn(f"{path}: not understood, and left out: {list_some(unknown, 6)}")


def _is_panorama(path: Path, name: str, values: Values, entries: Sequence[Values]) -> bool:
    """Whether cameras are equirectangular: all of them, or none."""
    kinds = []
    for where, keys in _each(path, name, values, entries):
        told = next((str(keys[key]).upper() for key in MODELS if keys.get(key) is not None), None)
        kinds.append(told or (kinds[0] if kinds else PERSPECTIVE))
        if len(kinds) > 2 and kinds[-1] != kinds[1]:
            raise UserError(f"{where} is {kinds[-1].lower()}, but the first {kinds[1].lower()}: a film has one of them")
    return kinds[1] == PANORAMA.upper()


def _each(path: Path, name: str, values: Values, entries: Sequence[Values]) -> Iterator[tuple[str, Values]]:
    yield f"{path}", values
    yield from ((f"{path}: {name} {i}", entry) for i, entry in enumerate(entries))


def _of_path(path: Path, name: str, values: Values, entries: Sequence[Values], like: Cameras) -> Cameras:
    """The cameras of keyframes, or of a path of nerfstudio."""
    like = framed(like, *_size(path, name, values, entries[0], like))
    poses, lenses = [], []
    for i, entry in enumerate(entries):
        where = f"{path}: {name} {i}"
        poses.append(_pose(entry, POSES[name], where))
        if name == "camera_path" and entry.get("fov") is None:
            entry = {**entry, "fov": values.get("default_fov")}
        lenses.append(_lens(entry, like, where))
        aspect, width, height = optional_number(where, "aspect", entry), like.width, like.height
        if aspect is not None and abs(aspect * height / width - 1) > max(SAME_ASPECT, 1 / min(width, height)):
            told = f"aspect is {aspect:g}, but the film has {width}x{height} pixels"
            raise UserError(f"{where}: {told}; correct it, or {' and '.join(SIZES[name])}")
    return replace(like, c2w=torch.from_numpy(np.stack(poses)).double(), K=torch.stack(lenses))


def _of_scene(path: Path, values: Values, entries: Sequence[Values], like: Cameras) -> Cameras:
    """The cameras of a scene's frames, in their order. A lens becomes the pinhole that straightens its pictures;
    equirectangular frames make a film all around."""
    shared = {key: value for key, value in values.items() if key != "frames"}
    named = [(f"{path}: frames {i}", over(shared, entry)) for i, entry in enumerate(entries)]
    around = [is_panorama(where, told) for where, told in named]
    if len(set(around)) > 1:
        other, kinds = around.index(not around[0]), ("perspective", PANORAMA)
        told = f"{named[other][0]} is {kinds[not around[0]]}, but the first {kinds[around[0]]}"
        raise UserError(f"{told}: a film has one of them")
    usual = (2 * like.height, like.height) if around[0] else like.size(0)
    poses, lenses, sizes = [], [], []
    for (where, told), entry in zip(named, entries, strict=True):
        poses.append(pose_matrix(where, "transform_matrix", entry.get("transform_matrix")))
        width, height = told_size(where, told) or usual
        sizes.append(_checked_size(where, ("w", "h"), round(width), round(height)))
        lens = read_lens(where, told, sizes[-1])
        bends = not (lens.straight or lens.panorama)
        lenses.append(undistorted_camera(lens.project(), lens.K, sizes[-1]) if bends else lens.K)
    c2w, K = torch.from_numpy(np.stack(poses)).double(), torch.from_numpy(np.stack(lenses)).to(like.K)
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    cameras = replace(like, c2w=c2w, K=K, width=width, height=height, sizes=torch.tensor(sizes), panorama=around[0])
    return framed(replace(cameras, sizes=None) if len(set(sizes)) == 1 else cameras, *sizes[0])


def _size(path: Path, name: str, values: Values, first: Values, like: Cameras) -> tuple[int, int]:
    """Width and height of a film. A side that is not told follows from the other and from the aspect ratio."""
    wide, high = SIZES[name]
    aspect = first.get("aspect")
    usual = 2.0 if like.panorama else like.width / like.height
    aspect = usual if aspect is None else positive(f"{path}: {name} 0", "aspect", aspect)
    width, height = (positive(f"{path}", key, values[key]) if key in values else None for key in (wide, high))
    if height is None:
        height = like.height if width is None else max(round(width / aspect), 1)
    if width is None:
        width = max(round(height * aspect), 1)
    return _checked_size(f"{path}", SIZES[name], width, height)


def _checked_size(where: str, names: tuple[str, str], width: float, height: float) -> tuple[int, int]:
    told = f"{where}: {names[0]} {width:g} and {names[1]} {height:g} must be"
    if width != int(width) or height != int(height):
        raise UserError(f"{told} whole numbers of pixels")
    if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
        raise UserError(f"{told} 1 to {MOST_SIDE} pixels")
    return int(width), int(height)


def _fps(path: Path, values: Values, n: int) -> float | None:
    """Frames a second that a file asks for. nerfstudio's path of n frames takes `seconds`."""
    fps = positive(f"{path}", "fps", values["fps"]) if "fps" in values else None
    if values.get("seconds") is not None and "camera_path" in values:
        seconds = positive(f"{path}", "seconds", values["seconds"])
        fps = n / seconds if fps is None or abs(n - fps * seconds) > 1 else fps
    if fps is not None and not FPS_RANGE.holds(fps):
        raise UserError(f"{path}: it plays {fps:g} frames a second (fps, seconds); {FPS_RANGE.remedy}")
    return fps


def _times(path: Path, name: str, entries: Sequence[Values], fps: float | None) -> list[float]:
    if name != "keyframes":
        return [i / (fps or FPS) for i in range(len(entries))]
    times = []
    for i, entry in enumerate(entries):
        where = f"{path}: {name} {i}"
        times.append(number(where, "time", entry.get("time", float(i))))
        if abs(times[i]) > LATEST:
            raise UserError(f"{where} has time {times[i]:g}: give seconds, up to {LATEST:g}")
        if i and times[i] < times[i - 1] + LEAST_GAP:
            told = f"{where} has time {times[i]:g}, but the one before {times[i - 1]:g}"
            raise UserError(f"{told}: times must rise, by {LEAST_GAP:g} s or more")
    return times


def _is_loop(path: Path, values: Values) -> bool:
    loop = values.get("loop", False)
    if not isinstance(loop, bool):
        raise UserError(f"{path}: loop is {loop!r:.60}; give true or false")
    return loop


def _pose(entry: Values, key: str, where: str) -> Float[np.ndarray, "3 4"]:
    if key in entry:
        return pose_matrix(where, key, entry[key])
    if "position" not in entry:
        remedy = ", or position and look_at" if key == "c2w" else ""
        raise UserError(f"{where} has no pose; give {key} as a 4x4 matrix of numbers{remedy}")
    position, target = (vector(where, name, entry.get(name)) for name in ("position", "look_at"))
    up = vector(where, "up", entry.get("up", UP))
    if max(map(abs, (*position, *target, *up))) > FARTHEST:
        raise UserError(f"{where}: position, look_at or up is beyond {FARTHEST:g}; give smaller numbers")
    try:
        return look_at(torch.tensor([position], dtype=torch.float64), target, up)[0].numpy()
    except ValueError as error:
        raise UserError(f"{where}: {error}; move it, or give another up") from error


def _are_of_file(path: Path, values: Values, default: str) -> bool:
    """Whether poses are in the coordinates of the scene's own file, not in those of the world."""
    told = values.get("coordinates", default)
    if told not in ("world", "file"):
        raise UserError(f"{path}: coordinates is {told!r:.60}; give world, or file for those of the scene's own file")
    return told == "file"


def _lens(entry: Values, like: Cameras, where: str) -> Float[Tensor, "3 3"]:
    """The intrinsics of a keyframe, those with its field of view, or those of `like`."""
    if "K" in entry:
        return _intrinsics(entry["K"], like, where)
    fov = optional_number(where, "fov", entry)
    if fov is None:
        return like.K[0]
    if not NARROWEST <= fov <= WIDEST:
        remedy = f"give the vertical field of view in degrees, {NARROWEST} to {WIDEST}"
        raise UserError(f"{where}: fov is {fov:g}; {remedy}")
    if fov <= math.pi:
        warn(f"{where}: fov is {fov:g} degrees, which is next to nothing; is it in radians?")
    focal = like.height / 2 / math.tan(math.radians(fov) / 2)
    return like.K.new_tensor([[focal, 0, like.width / 2], [0, focal, like.height / 2], [0, 0, 1]])


def _intrinsics(value: object, like: Cameras, where: str) -> Float[Tensor, "3 3"]:
    try:
        K = torch.tensor(value, dtype=like.K.dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        K = torch.empty(0)
    if K.shape != (3, 3) or not K.isfinite().all() or min(K[0, 0], K[1, 1]) <= 0:
        raise UserError(f"{where} has K {value!r:.60}; give a 3x3 matrix of intrinsics in pixels, or fov")
    if bool((K[[0, 1, 2, 2], [1, 0, 0, 1]] != 0).any()) or K[2, 2] != 1:
        raise UserError(f"{where} has K {value!r:.60}, with a skew or a last row other than 0 0 1; leave them out")
    return K.to(like.K)
