"""Scenes with a transforms.json, as Instant-NGP and nerfstudio write it: photos with poses, intrinsics and lenses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.lenses import Lens, fits, number, read_lens, told_size
from nerf_pl.scenes.masks import Warp, hiding_mask, read_masks
from nerf_pl.scenes.normalize import normalize_poses
from nerf_pl.scenes.pictures import (
    PICTURE_SUFFIXES,
    Size,
    canvas_sizes,
    list_some,
    picture_sizes,
    read_json,
    read_pictures,
    target_sizes,
)
from nerf_pl.scenes.scene import Scene, held_out, listed
from nerf_pl.scenes.undistort import sampling_grid, undistort, undistorted_camera

FILE = "transforms.json"
NEAR, FAR = 0.1, 100.0  # in units of the normalised scene
# Instant-NGP's own frame: point * scale + offset lies in the unit cube
SCALE, OFFSET = 0.33, 0.5


@dataclass(frozen=True)
class Frame:
    """An entry of frames. where: how messages name it; values: its keys over those that all frames share."""

    where: str
    file: Path
    mask: Path | None
    c2w: Float[np.ndarray, "3 4"]
    values: dict[str, Any]


def load_transforms(
    root: Path,
    split: str,
    img_wh: tuple[int, int] | None = None,
    downscale: int = 1,
    test_every: int = 8,
    spheric: bool = False,
    pictures: bool = True,
) -> Scene:
    """The views of a split of transforms.json in the folder `root`.

    Where the file lists the pictures of each split, as nerfstudio's may, these are they; otherwise every test_every-th
    picture, in the order of file names and from the first, is held out for val and test. Pictures that are missing are
    left out, with one warning. Lenses are undone as pictures are read, and EXIF turns are applied (unless w and h fit
    the pictures only without). Pixels do not count that a mask_path shows black, or that Instant-NGP's
    dynamic_mask_NAME.png beside the picture does not. Sizes may differ. Pixel centres are at 0.5. The background is
    white where pictures have alpha, or else None.

    aabb_scale 1 says that the scene lies in Instant-NGP's unit cube, which becomes the box: world and poses stay as
    they are, near and far enclose the box. Otherwise it is unbounded: `normalize_poses` of all frames, whatever the
    split, gives the world, with the cube [-1, 1]^3 as its middle. spheric is for llff. Raises UserError for whatever is
    damaged or contradictory.
    """
    root = Path(root)
    path = root / FILE
    values = read_json(path)
    frames = _read_frames(path, values)
    upright, natives, mode = _native_sizes(frames)
    sizes = target_sizes(root, natives, img_wh, downscale)
    poses = torch.from_numpy(np.stack([frame.c2w for frame in frames]))
    bounded, near, far, aabb = _bounds(path, values, poses)
    if not bounded:
        poses, _ = normalize_poses(poses)
    names = _names(root, [frame.file for frame in frames])

    chosen = listed(values, [frame.file for frame in frames], root, split)
    chosen = held_out(len(frames), split, test_every) if chosen is None else chosen
    if not chosen:
        told = f"--test_every {test_every} leaves none of the {len(frames)} pictures in {path} for {split}"
        raise UserError(f"{told}: give {'2 or more' if test_every == 0 else 'another number, or 0 to train on all'}")
    frames, natives, sizes = [frames[i] for i in chosen], [natives[i] for i in chosen], [sizes[i] for i in chosen]
    lenses = [read_lens(frame.where, frame.values, native) for frame, native in zip(frames, natives, strict=True)]
    K, warps = _pinholes(frames, lenses, natives)
    for matrix, native, size in zip(K, natives, sizes, strict=True):
        matrix[0] *= size[0] / native[0]
        matrix[1] *= size[1] / native[1]
    files = [frame.file for frame in frames]
    try:
        straighten = lambda index, picture: warps[index](picture, False)  # noqa: E731
        images = read_pictures(files, sizes, mode, upright, straighten, pictures)
        shown, hidden = [frame.mask for frame in frames], [hiding_mask(frame.file) for frame in frames]
        masks = read_masks(shown, hidden, natives, sizes, upright, warps) if pictures else None
    finally:
        sampling_grid.cache_clear()
    height, width = images.shape[1:3]
    return Scene(
        Cameras(poses[chosen].float(), torch.from_numpy(K).float(), width, height, 0.5, canvas_sizes(sizes)),
        images,
        near,
        far,
        aabb,
        background=(1.0, 1.0, 1.0) if mode == "RGBA" else None,
        unbounded=not bounded,
        masks=masks,
        target=(0.0, 0.0, 0.0) if not bounded else tuple(aabb.mean(0).tolist()),
        names=tuple(names[i] for i in chosen),
        root=root,
    )


def _read_frames(path: Path, values: dict[str, Any]) -> list[Frame]:
    """The frames whose pictures exist, by file name."""
    entries = values.get("frames")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: frames {'is empty' if entries == [] else 'is missing'}; list at least one picture")
    shared = {key: value for key, value in values.items() if key != "frames"}
    frames = sorted((_read_frame(path, i, entry, shared) for i, entry in enumerate(entries)), key=lambda f: f.file)
    missing = [_within(path.parent, frame.file) for frame in frames if not frame.file.is_file()]
    count = f"{len(missing)} of {len(frames)} pictures named in {path}"
    if len(missing) == len(frames):
        raise UserError(f"missing {list_some(missing)} ({count}): copy the pictures there, or correct file_path")
    if missing:
        warn(f"left out {count}, which are missing: {list_some(missing)}")
    frames = [frame for frame in frames if frame.file.is_file()]
    if absent := [frame for frame in frames if frame.mask and not frame.mask.is_file()]:
        raise UserError(f"{absent[0].where}: its mask {absent[0].mask} is missing; copy it there, or remove mask_path")
    return frames


def _read_frame(path: Path, index: int, entry: object, shared: dict[str, Any]) -> Frame:
    keys = entry if isinstance(entry, dict) else {}
    name, mask = keys.get("file_path"), keys.get("mask_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {index} has no file_path; name its picture, such as images/{index:04}.jpg")
    where = f"{path}: frame {index} ({name})"
    if mask is not None and not isinstance(mask, str):
        raise UserError(f"{where} has mask_path {mask!r}; name a picture, or remove it")
    try:
        matrix = np.array(keys.get("transform_matrix"), np.float64)
    except (TypeError, ValueError):  # rows of different lengths, or words
        matrix = np.empty(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise UserError(f"{where} has no 4x4 transform_matrix; give camera to world, row by row")
    if not np.isfinite(matrix).all():
        raise UserError(f"{where} has a transform_matrix that is not finite; correct or remove it")
    c2w = matrix[:3].copy()
    lengths = np.linalg.norm(c2w[:, :3], axis=0)
    c2w[:, :3] /= np.maximum(lengths, 1e-12)  # some writers scale the axes
    if np.linalg.det(c2w[:, :3]) < 0.9:
        raise UserError(f"{where} has a transform_matrix that is no rotation; give camera to world, right-handed")
    return Frame(where, _find(path.parent, name), path.parent / mask if mask else None, c2w, {**shared, **keys})


def _find(folder: Path, name: str) -> Path:
    """The picture of that name; where its suffix is left out, the known one that exists."""
    file = folder / name.replace("\\", "/")
    if file.suffix.lower() in PICTURE_SUFFIXES:
        return file
    candidates = [file.with_name(file.name + suffix) for suffix in sorted(PICTURE_SUFFIXES)]
    candidates += [file.with_name(file.name + suffix.upper()) for suffix in sorted(PICTURE_SUFFIXES)]
    return next((candidate for candidate in candidates if candidate.is_file()), file)


def _native_sizes(frames: Sequence[Frame]) -> tuple[bool, list[Size], str]:
    """Whether to turn pictures upright, their sizes then, and the mode that holds all of them.

    The poses were made by a program that turned the pictures as EXIF says, or by one that did not: w and h tell.
    """
    told = [told_size(frame.where, frame.values) for frame in frames]
    files = [frame.file for frame in frames]
    found = {upright: picture_sizes(files, upright) for upright in (True, False)}
    for upright, (sizes, mode) in found.items():
        if all(fits(*pair) for pair in zip(told, sizes, strict=True)):
            return upright, sizes, mode
    frame, size, (width, height) = next(
        trio for trio in zip(frames, told, found[True][0], strict=True) if not fits(trio[1], trio[2])
    )
    assert size is not None  # any picture fits if no size is told
    wrong = f"w {size[0]:g}, h {size[1]:g} has another aspect ratio than the picture, which is {width}x{height}"
    raise UserError(f"{frame.where}: {wrong}; correct them, or restore the picture")


def _bounds(
    path: Path, values: dict[str, Any], c2w: Float[Tensor, "C 3 4"]
) -> tuple[bool, float, float, Float[Tensor, "2 3"]]:
    """Whether the scene is bounded, near, far and its box."""
    size = number(str(path), values, "aabb_scale")
    if size is not None and size < 1:
        raise UserError(f"{path}: aabb_scale is {size:g}; give 1 for a scene within the unit cube, or more")
    if size != 1:
        return False, NEAR, FAR, torch.tensor([[-1.0] * 3, [1.0] * 3])
    aabb = _unit_cube(path, values)
    centres = c2w[:, :, 3].float()
    outside = torch.maximum(aabb[0] - centres, centres - aabb[1]).clamp(min=0).norm(dim=-1)
    across = torch.maximum((centres - aabb[0]).abs(), (centres - aabb[1]).abs()).norm(dim=-1)
    return True, max(NEAR, outside.min().item()), across.max().item(), aabb


def _unit_cube(path: Path, values: dict[str, Any]) -> Float[Tensor, "2 3"]:
    """Instant-NGP's unit cube in the world of the poses: where point * scale + offset is in [0, 1]."""
    scale, offset = number(str(path), values, "scale"), values.get("offset", OFFSET)
    if scale is None:
        scale = SCALE
    if scale <= 0:
        raise UserError(f"{path}: scale is {scale:g}; give a number above 0")
    parts = offset if isinstance(offset, list) else [offset] * 3
    corner = [number(str(path), {"offset": part}, "offset") for part in parts]
    if len(corner) != 3 or None in corner:
        raise UserError(f"{path}: offset is {offset!r}; give one number or three")
    low = -torch.tensor(corner)
    return torch.stack([low, low + 1]) / scale


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """The stems of the files or, where two share one, more of their paths."""
    paths = [_within(root, file) for file in files]
    for spelled in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(spelled)) == len(files):
            return [_flat(name) for name in spelled]
    return [_flat(str(path)) for path in paths]


def _flat(name: str) -> str:
    """A path as the name of a file."""
    return name.replace("../", "").strip("/").replace("/", "_")


def _within(root: Path, file: Path) -> Path:
    """The path as seen from the scene's folder."""
    return file.relative_to(root) if file.is_relative_to(root) else file


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
    return K, lambda picture, nearest: undistort(picture, project, K, native, nearest)
