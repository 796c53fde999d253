"""The pictures of a JSON file's frames, as pinhole cameras would have taken them: one reader for all such layouts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.frames import Frame, within
from nerf_pl.scenes.lenses import (
    FOCALS,
    Lens,
    contradiction,
    fits,
    read_lens,
    require_own_middles,
    told_size,
)
from nerf_pl.scenes.masks import Warp, hiding_mask, read_masks
from nerf_pl.scenes.orientation import Fits, orient
from nerf_pl.scenes.pictures import Size, canvas_sizes, read_headers, read_pictures
from nerf_pl.scenes.undistort import sampling_grid, undistort, undistorted_camera
from nerf_pl.scenes.values import optional_number

LONGER = 1.1  # sides that differ by less say nothing about how a picture is held


@dataclass(frozen=True)
class Shots:
    """cameras: of the pictures at the sizes that were asked for. masks: see `Scene`."""

    cameras: Cameras
    images: UInt8[Tensor, "C H W ch"]
    masks: Bool[Tensor, "C H W"] | None


@dataclass(frozen=True)
class Stored:
    """Pictures as they lie on the disk. upright: which are turned as EXIF says; natives: their sizes then; mode: the
    Pillow mode that holds all of them."""

    upright: list[bool]
    natives: list[Size]
    mode: str


def stored_pictures(path: Path, frames: Sequence[Frame]) -> Stored:
    """What the pictures of the frames of a file are, see `orient`. Raises UserError if w and h do not fit them."""
    headers = read_headers([frame.file for frame in frames])
    told = [told_size(frame.where, frame.values) for frame in frames]

    def misfit(i: int, found: Size) -> str | None:
        if (size := told[i]) is None:
            return None
        size, shape = f"w {size[0]:g}, h {size[1]:g}", f"{found[0]}x{found[1]}"
        wrong = f"{size} has another aspect ratio than the picture, which is {shape}"
        return f"{frames[i].where}: {wrong}; correct them, or restore the picture"

    shapes = [_fits(frame, size) for frame, size in zip(frames, told, strict=True)]
    found = orient(path, headers, shapes, misfit)
    return Stored(found.upright, found.sizes, headers.mode)


def _fits(frame: Frame, told: tuple[float, float] | None) -> Fits:
    """Whether a size may be that of a frame's picture. Where w and h are not told, the middle of the picture is near
    cx, cy; where these are not told, either, any size may be."""
    if told is not None:
        return partial(fits, told)
    cx, cy = (optional_number(frame.where, name, frame.values) for name in ("cx", "cy"))
    if not cx or not cy or max(cx / cy, cy / cx) < LONGER:
        return lambda size: True
    return lambda size: size[0] == size[1] or (size[0] > size[1]) == (cx > cy)


def require_masks(frames: Sequence[Frame]) -> None:
    """Raises UserError for a mask that is not there."""
    if absent := [frame for frame in frames if frame.mask and not os.path.isfile(frame.mask)]:
        raise UserError(f"{absent[0].where}: its mask {absent[0].mask} is missing; copy it there, or remove mask_path")


def read_shots(
    frames: Sequence[Frame], stored: Stored, sizes: Sequence[Size], c2w: Float[Tensor, "C 3 4"], pictures: bool
) -> Shots:
    """The frames' pictures at `sizes`, without lens distortion. stored: those of these frames alone. pictures: see
    `Request`. Raises UserError for intrinsics that make no sense or are not understood."""
    _require_one_shape(frames, stored.natives)
    pairs = list(zip(frames, stored.natives, strict=True))
    lenses = [read_lens(frame.where, frame.values, native) for frame, native in pairs]
    _tell_contradiction(pairs)
    _require_own_size(pairs, lenses)
    K, warps = _pinholes(frames, lenses, stored.natives)
    for matrix, native, size in zip(K, stored.natives, sizes, strict=True):
        matrix[0] *= size[0] / native[0]
        matrix[1] *= size[1] / native[1]

    def straighten(index: int, picture: UInt8[np.ndarray, "H W ch"]) -> UInt8[np.ndarray, "H W ch"]:
        return warps[index](picture, False)

    files, masks, upright = [frame.file for frame in frames], None, stored.upright
    shown, hidden = [frame.mask for frame in frames], [hiding_mask(file) for file in files]
    how = {"upright": upright, "change": straighten, "pictures": pictures, "masked": any(shown) or any(hidden)}
    try:
        images = read_pictures(files, sizes, stored.mode, **how)
        if pictures:
            masks = read_masks(shown, hidden, stored.natives, sizes, upright=upright, warps=warps)
    finally:
        sampling_grid.cache_clear()
    height, width = images.shape[1:3]
    cameras = Cameras(c2w.float(), torch.from_numpy(K).float(), width, height, sizes=canvas_sizes(sizes))
    return Shots(cameras, images, masks)


def names_of(root: Path, files: Sequence[Path]) -> list[str]:
    """The stems of the files or, where two share one, more of their paths."""
    paths = [within(root, file) for file in files]
    for spelled in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(spelled)) == len(files):
            return [_flat(name) for name in spelled]
    return [_flat(str(path)) for path in paths]


def _flat(name: str) -> str:
    """A path as the name of a file."""
    return name.replace("../", "").strip("/").replace("/", "_")


def _require_one_shape(frames: Sequence[Frame], natives: Sequence[Size]) -> None:
    """Raises UserError if pictures of several shapes share one field of view: it is that of only one shape."""
    sharing = [
        (frame, native)
        for frame, native in zip(frames, natives, strict=True)
        if not frame.own & {"w", *FOCALS["x"], *FOCALS["y"]}
        and not any(frame.values.get(name) for axis in "xy" for name in (f"fl_{axis}", f"f{axis}"))
    ]
    for frame, native in sharing:
        (first, known) = sharing[0]
        if not fits(known, native):
            told = f"has {native[0]}x{native[1]} pixels but {first.file.name} {known[0]}x{known[1]}"
            remedy = "pictures with one camera_angle_x must have one shape; give each frame fl_x, w, h"
            raise UserError(f"{frame.where}: {frame.file} {told}: {remedy}")


def _tell_contradiction(pairs: Sequence[tuple[Frame, Size]]) -> None:
    told = [(frame, text) for frame, native in pairs if (text := contradiction(frame.where, frame.values, native))]
    if told:
        frame, text = told[0]
        others = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        warn(f"{frame.where}{others}: {text}")


def _require_own_size(pairs: Sequence[tuple[Frame, Size]], lenses: Sequence[Lens]) -> None:
    """Raises UserError if middles say that intrinsics are of pictures of another size."""
    told = [told_size(frame.where, frame.values) for frame, _ in pairs]
    sizes = [size or native for size, (_, native) in zip(told, pairs, strict=True)]
    middles = [
        (lens.middle[0] * size[0] / native[0], lens.middle[1] * size[1] / native[1])
        for lens, size, (_, native) in zip(lenses, sizes, pairs, strict=True)
    ]
    require_own_middles([frame.where for frame, _ in pairs], middles, sizes)


def _pinholes(
    frames: Sequence[Frame], lenses: Sequence[Lens], natives: Sequence[Size]
) -> tuple[Float[np.ndarray, "C 3 3"], list[Warp]]:
    """Pinhole intrinsics for each picture at its native size, and what makes its pictures fit them: lenses that are the
    same share both."""
    known: dict[tuple[Lens, Size], tuple[np.ndarray, Warp]] = {}
    for frame, lens, native in zip(frames, lenses, natives, strict=True):
        if (lens, native) not in known:
            try:
                known[lens, native] = _pinhole(lens, native)
            except UserError as error:
                raise UserError(f"{frame.where}: {error}") from error
    pairs = [known[key] for key in zip(lenses, natives, strict=True)]
    return np.stack([K for K, _ in pairs]), [warp for _, warp in pairs]


def _pinhole(lens: Lens, native: Size) -> tuple[Float[np.ndarray, "3 3"], Warp]:
    if lens.straight:
        return lens.K, lambda picture, _: picture
    project = lens.project()
    K = undistorted_camera(project, lens.K, native)
    return K, lambda picture, nearest: undistort(picture, project, K, native, nearest=nearest)
