"""The pictures of a JSON file's frames, as pinhole cameras would have taken them: one reader for all such layouts."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.cuts import Cut, ahead, all_around, cut_cameras, forget, photos_of, tell_cuts, whole, within
from nerf_pl.scenes.frames import Frame
from nerf_pl.scenes.frames import within as seen_from
from nerf_pl.scenes.lenses import (
    FOCALS,
    MODELS,
    Lens,
    contradiction,
    fits,
    is_panorama,
    read_lens,
    require_own_middles,
    told_size,
)
from nerf_pl.scenes.masks import hiding_mask, read_masks
from nerf_pl.scenes.orientation import Fits, orient
from nerf_pl.scenes.pictures import Size, read_headers, read_pictures
from nerf_pl.scenes.undistort import fisheye_look, undistorted_camera
from nerf_pl.scenes.values import optional_number
from nerf_pl.scenes.wide import Shot, fisheye, panorama

USUAL = (43.0, 100.0)  # degrees that cameras see across; phones 65 to 70, of which half a picture would be 35
PHOTOS = re.compile(r"images(_\d+)?")
LONGER = 1.1  # sides that differ by less say nothing about how a picture is held


@dataclass(frozen=True)
class Shots:
    """Views of photos. cameras: of the pictures at the sizes that were asked for. masks, photos, partial: see
    `Scene`."""

    cameras: Cameras
    images: UInt8[Tensor, "V H W ch"]
    masks: Bool[Tensor, "V H W"] | None
    photos: tuple[int, ...]
    partial: bool


@dataclass(frozen=True)
class Photos:
    """Photos on the disk, and how to read them. sizes: to resize them to; natives: their own, once they are turned;
    mode, upright: see `Stored`; shown, hidden: their masks, see `read_masks`; cuts: how each becomes views."""

    files: Sequence[Path]
    sizes: Sequence[Size]
    natives: Sequence[Size]
    mode: str
    upright: Sequence[bool]
    shown: Sequence[Path | None]
    hidden: Sequence[Path | None]
    cuts: Sequence[Cut]

    def some(self, kept: Sequence[int]) -> "Photos":
        """The photos of these numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "mode"}
        return replace(self, **{name: [value[i] for i in kept] for name, value in values.items()})


@dataclass(frozen=True)
class Stored:
    """Pictures as they lie on the disk. upright: which are turned as EXIF says; natives: their sizes then; mode: the
    Pillow mode that holds all of them."""

    upright: list[bool]
    natives: list[Size]
    mode: str


def read_photos(photos: Photos, c2w: Float[Tensor, "C 3 4"], pictures: bool) -> Shots:
    """The views of photos with these poses, without lens distortion. pictures: see `Request`."""
    how, masks = {"upright": photos.upright, "cuts": photos.cuts}, None
    masked = any(photos.shown) or any(photos.hidden)
    try:
        images = read_pictures(photos.files, photos.sizes, photos.mode, pictures=pictures, masked=masked, **how)
        if pictures:
            masks = read_masks(photos.shown, photos.hidden, photos.natives, photos.sizes, **how)
    finally:
        forget()
    partial = any(cut.masked for cut in photos.cuts)
    return Shots(cut_cameras(photos.cuts, photos.sizes, c2w), images, masks, photos_of(photos.cuts), partial)


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


def read_cuts(path: Path, frames: Sequence[Frame], stored: Stored) -> list[Cut]:
    """How the pictures of all frames of a file become views, which one line tells if they become several. Raises
    UserError for intrinsics that make no sense or are not understood."""
    _require_one_shape(frames, stored.natives)
    pairs = list(zip(frames, stored.natives, strict=True))
    lenses = [read_lens(frame.where, frame.values, native) for frame, native in pairs]
    _tell_contradiction(pairs)
    _tell_untold_sizes(path, pairs, lenses)
    _require_own_size(pairs, lenses)
    alike: dict[tuple[Lens, Size], list[int]] = {}  # lenses that are the same share the work
    for i, key in enumerate(zip(lenses, stored.natives, strict=True)):
        alike.setdefault(key, []).append(i)
    found: dict[int, Cut] = {}
    for (lens, native), members in alike.items():
        shots = [Shot(frames[i].file, stored.upright[i]) for i in members]
        try:
            cut = _cut(lens, native, shots)
        except UserError as error:
            frame = frames[members[0]]
            model = next((f" ({name} {frame.values[name]!r})" for name in MODELS if frame.values.get(name)), "")
            raise UserError(f"{frame.where}{model if lens.panorama else ''}: {error}") from error
        found.update(dict.fromkeys(members, cut))
    cuts = [found[i] for i in range(len(frames))]
    tell_cuts(path, cuts)
    return cuts


def _cut(lens: Lens, native: Size, shots: Sequence[Shot]) -> Cut:
    if lens.panorama:
        return panorama(native, shots)
    if lens.fisheye:
        return fisheye(native, fisheye_look(lens.K, lens.radial, lens.tangential), lens.K, lens.circle, shots)
    project = None if lens.straight else lens.project()
    K = lens.K if project is None else undistorted_camera(project, lens.K, native)
    look = None if lens.circle is None else within(ahead(lens.project()), native, lens.circle)
    return whole(native, K, project, look)


def read_shots(
    frames: Sequence[Frame],
    stored: Stored,
    cuts: Sequence[Cut],
    sizes: Sequence[Size],
    c2w: Float[Tensor, "C 3 4"],
    pictures: bool,
) -> Shots:
    """The frames' pictures at `sizes`. stored, cuts: those of these frames alone. pictures: see `Request`."""
    files, shown = [frame.file for frame in frames], [frame.mask for frame in frames]
    hidden = [hiding_mask(file) for file in files]
    how = {"natives": stored.natives, "mode": stored.mode, "upright": stored.upright, "cuts": cuts}
    return read_photos(Photos(files, sizes, shown=shown, hidden=hidden, **how), c2w, pictures)


def looking(frames: Sequence[Frame], c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "V 3 4"]:
    """Poses whose axes say where the frames' pictures look: of panoramas those of the faces of a cube."""
    around = [is_panorama(frame.where, frame.values) for frame in frames]
    poses = [all_around(pose) if wide else pose[None] for pose, wide in zip(c2w, around, strict=True)]
    return torch.cat(poses) if any(around) else c2w


def names_of(root: Path, files: Sequence[Path]) -> list[str]:
    """The stems of the files or, where two share one, more of their paths."""
    paths = [seen_from(root, file) for file in files]
    for spelled in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(spelled)) == len(files):
            return [_flat(name) for name in spelled]
    return [_flat(str(path)) for path in paths]


def paths_of(root: Path, files: Sequence[Path]) -> list[str]:
    """The paths of pictures as seen from their folder of photos, images, or else from the scene's."""
    paths = [[part for part in seen_from(root, file).parts if part not in ("..", file.anchor)] for file in files]
    return ["/".join(parts[1:] if len(parts) > 1 and PHOTOS.fullmatch(parts[0]) else parts) for parts in paths]


def _flat(name: str) -> str:
    """A path as the name of a file."""
    return name.replace("../", "").strip("/").replace("/", "_")


def _require_one_shape(frames: Sequence[Frame], natives: Sequence[Size]) -> None:
    """Raises UserError if pictures of several shapes share one field of view: it is that of only one shape."""
    sharing = [
        (frame, native)
        for frame, native in zip(frames, natives, strict=True)
        if not is_panorama(frame.where, frame.values)
        and not frame.own & {"w", *FOCALS["x"], *FOCALS["y"]}
        and not any(frame.values.get(name) for axis in "xy" for name in (f"fl_{axis}", f"f{axis}"))
    ]
    for frame, native in sharing:
        (first, known) = sharing[0]
        if not fits(known, native):
            told = f"has {native[0]}x{native[1]} pixels but {first.file.name} {known[0]}x{known[1]}"
            remedy = "pictures with one camera_angle_x must have one shape; give each frame fl_x, w, h"
            raise UserError(f"{frame.where}: {frame.file.name} {told}: {remedy}")


def _tell_contradiction(pairs: Sequence[tuple[Frame, Size]]) -> None:
    told = [(frame, text) for frame, native in pairs if (text := contradiction(frame.where, frame.values, native))]
    if told:
        frame, text = told[0]
        others = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        warn(f"{frame.where}{others}: {text}")


def _tell_untold_sizes(path: Path, pairs: Sequence[tuple[Frame, Size]], lenses: Sequence[Lens]) -> None:
    """Say of which pictures a focal length in pixels is taken to be, if no size, middle or angle of view tells, and few
    cameras see as little or as much."""
    for (frame, native), lens in zip(pairs, lenses, strict=True):
        told = {key for key, value in frame.values.items() if value is not None}
        in_pixels = [name for axis in "xy" for name, unit in FOCALS[axis].items() if unit == "pixels" and name in told]
        others = {name for axis in "xy" for name in FOCALS[axis]} - set(in_pixels)
        if (
            in_pixels
            and not lens.panorama
            and not told & {"cx", "cy", *others}
            and told_size(frame.where, frame.values) is None
        ):
            size, angle = f"{native[0]}x{native[1]}", math.degrees(2 * math.atan(native[0] / (2 * lens.focal[0])))
            if USUAL[0] <= angle <= USUAL[1]:
                continue
            assumed = f"w and h are not told, so {in_pixels[0]} is taken to be of pictures of {size} pixels"
            warn(f"{path}: {assumed}, which see {angle:.0f} degrees across; give w and h if it is of others")
            return


def _require_own_size(pairs: Sequence[tuple[Frame, Size]], lenses: Sequence[Lens]) -> None:
    """Raises UserError if middles say that intrinsics are of pictures of another size."""
    told = [told_size(frame.where, frame.values) for frame, _ in pairs]
    sizes = [size or native for size, (_, native) in zip(told, pairs, strict=True)]
    middles = [
        (lens.middle[0] * size[0] / native[0], lens.middle[1] * size[1] / native[1])
        for lens, size, (_, native) in zip(lenses, sizes, pairs, strict=True)
    ]
    require_own_middles([frame.where for frame, _ in pairs], middles, sizes)
