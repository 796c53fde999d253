"""Depth pictures beside photos, as phones with a depth camera store them: how near to the cameras the scene comes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.arrays import read_array
from nerf_pl.scenes.cuts import Cut
from nerf_pl.scenes.decode import open_picture
from nerf_pl.scenes.frames import Frame
from nerf_pl.scenes.normalize import camera_focus, looks_at, usual_nearest
from nerf_pl.scenes.points import CLEAR, LEAST_POINTS, Room, first_share, foremost
from nerf_pl.scenes.values import positive

KEY, UNIT = "depth_file_path", "integer_depth_scale"
MILLIMETRE = 1e-3  # what a whole number stands for if UNIT does not say, as nerfstudio has it
DEEP = ("I", "F")  # modes of pictures with more than 8 bits begin with these
REMEDY = "give a 16-bit PNG or a .npy, or remove the key"
GREY = f"has no more than 8 bits, and the file does not say what they stand for ({UNIT})"
MOST, SIDE = 48, 128  # pictures that are looked at, and about how many of their pixels along each axis
POINTS = 48  # about, that are made of a picture along each axis
ASPECT = 1.2  # factor by which the aspect ratios of a photo and its depth picture may differ
FITS = 4.0  # factor by which depths may differ from the distance to what the cameras look at


def room_in_depths(
    path: Path, values: dict[str, object], frames: Sequence[Frame], poses: Float[Tensor, "C 3 4"]
) -> Room | None:
    """The room that the depth pictures leave that frames name (depth_file_path: a grey picture or a .npy, along the
    camera's axis, 0 where it is not known).

    In the file's unit of length, of which integer_depth_scale times the pictures' numbers are multiples, or else a
    thousandth. Pictures of 8 bits, in which few thousandths fit, count if the file has integer_depth_scale. None, with
    one line, if the pictures are not there or contradict the poses; None also if most frames name none. Raises
    UserError for a file that holds no depths.
    """
    named = [i for i, frame in enumerate(frames) if frame.values.get(KEY) is not None]
    if len(named) <= len(frames) / 2:
        return None
    unit = MILLIMETRE if values.get(UNIT) is None else positive(str(path), UNIT, values[UNIT])
    focus = camera_focus(poses)
    looked_at, shown, gone = looks_at(poses, focus), {}, []
    for i in named[:: max(len(named) // MOST, 1)]:
        file = _file(path, frames[i])
        if not file.is_file():
            gone.append(file)
            continue
        depths = unit * _read(file, values)
        known = depths[depths > 0]
        if len(known) >= LEAST_POINTS:
            shown[i] = known
    if gone:
        warn(f"{path}: {gone[0]} and other depth pictures ({KEY}) are not there, and do not count")
    if not shown:
        return None
    ways = (poses[list(shown), :, 3] - focus).norm(dim=1).double().numpy()
    ratios = [float(np.median(known)) / way for known, way in zip(shown.values(), ways.tolist(), strict=True)]
    clear = CLEAR * min(map(foremost, shown.values()))
    is_behind = looked_at and clear >= usual_nearest(poses, focus)
    if is_behind or (looked_at and not 1 / FITS <= float(np.median(ratios)) <= FITS):
        told = f"{np.median(ratios):.3g} times as far as what the cameras look at"
        warn(f"{path}: the depth pictures show what is {told}, so they are not used: correct {UNIT}, {unit:g}")
        return None
    return Room(clear, first_share(list(shown.values()), ways))


def points_in_depths(
    path: Path, values: dict[str, object], frames: Sequence[Frame], cuts: Sequence[Cut]
) -> list[Float[np.ndarray, "_ 3"] | None]:
    """The points that the depth pictures of frames show, in the coordinates of the file; None for frames without one.

    Lens distortion is not undone: what `clearings` makes of the points is coarse. For pictures that `room_in_depths`
    trusts; cuts: of the frames' photos, which say where in their cameras pixels lie.
    """
    unit = MILLIMETRE if values.get(UNIT) is None else positive(str(path), UNIT, values[UNIT])
    found = (_depths(path, frame, cut, values) for frame, cut in zip(frames, cuts, strict=True))
    pairs = zip(found, frames, cuts, strict=True)
    return [None if depths is None else _points(unit * depths, frame, cut) for depths, frame, cut in pairs]


def _depths(path: Path, frame: Frame, cut: Cut, values: dict[str, object]) -> Float[np.ndarray, "h w"] | None:
    if frame.values.get(KEY) is None or not cut.is_whole or not (file := _file(path, frame)).is_file():
        return None
    depths, (width, height) = _read(file, values), cut.native
    fits = 1 / ASPECT < depths.shape[1] / depths.shape[0] * height / width < ASPECT
    return depths if fits else None  # it is held in another way than the photo


def _points(depths: Float[np.ndarray, "h w"], frame: Frame, cut: Cut) -> Float[np.ndarray, "_ 3"]:
    (width, height), K = cut.native, cut.pieces[0].K
    rows, columns = (slice(None, None, max(n // POINTS, 1)) for n in depths.shape)
    v, u = np.meshgrid(*((np.arange(n) + 0.5) / n for n in depths.shape), indexing="ij")
    z, u, v = (values[rows, columns].ravel() for values in (depths, u * width, v * height))
    ahead = np.stack([(u - K[0, 2]) / K[0, 0] * z, (K[1, 2] - v) / K[1, 1] * z, -z], 1)[z > 0]
    return ahead @ frame.c2w[:, :3].T + frame.c2w[:, 3]


def _file(path: Path, frame: Frame) -> Path:
    name = frame.values[KEY]
    if not isinstance(name, str) or not name:
        raise UserError(f"{frame.where} has {KEY} {name!r}; name a picture, or remove it")
    return path.parent / name


def _read(file: Path, values: dict[str, object]) -> Float[np.ndarray, "h w"]:
    """Some of the pixels. values: of the scene's file. Raises UserError."""
    told = f", a {KEY}, is damaged, or no picture"
    if file.suffix.lower() == ".npy":
        found = read_array(file, told, REMEDY)
    else:
        with open_picture(file, told=told, remedy=REMEDY) as picture:
            if picture.mode == "L" and values.get(UNIT) is None:
                raise UserError(_no_depths(file, GREY))
            if not picture.mode.startswith(DEEP) and picture.mode != "L":
                raise UserError(_no_depths(file, "has colours of no more than 8 bits"))
            found = np.asarray(picture)
    found = np.squeeze(found)
    if found.ndim != 2 or found.dtype.kind not in "uif":
        raise UserError(_no_depths(file, f"has the shape {found.shape} of {found.dtype}"))
    rows, columns = (slice(None, None, max(n // SIDE, 1)) for n in found.shape)
    return np.nan_to_num(found[rows, columns].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _no_depths(file: Path, why: str) -> str:
    return f"{file}, a {KEY}, {why}: {REMEDY}"
