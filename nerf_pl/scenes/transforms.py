"""Scenes with a transforms.json, as Instant-NGP and nerfstudio write it: photos with poses, intrinsics and lenses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.frames import Frame, missing, read_frames, within
from nerf_pl.scenes.lenses import Lens, fits, read_lens, told_size
from nerf_pl.scenes.masks import Warp, hiding_mask, read_masks
from nerf_pl.scenes.normalize import FAR, LEAST_NEAR, NEAR, normalize_poses, reach
from nerf_pl.scenes.pictures import Size, canvas_sizes, cut_out, read_headers, read_json, read_pictures, target_sizes
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene, as_object
from nerf_pl.scenes.splits import held_out, listed, rule_splits
from nerf_pl.scenes.undistort import sampling_grid, undistort, undistorted_camera
from nerf_pl.scenes.values import number, optional_number, positive, unit_axes, vector

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
    left out, with one warning. Lenses are undone as pictures are read, and EXIF turns are applied (unless w and h fit
    the pictures only without). A pixel does not count if its mask_path is black there, or if
    Instant-NGP's dynamic_mask_NAME.png beside the picture is not. Sizes may differ. The background is
    white where pictures have alpha, or else None.

    aabb_scale 1 says that the scene lies in Instant-NGP's unit cube, which becomes the box: world and poses stay as
    they are, near and far enclose the box. Otherwise `normalize_poses` of all frames, whatever the split, gives the
    world, which is unbounded, or has the box [-1, 1]^3 if the pictures' background was removed. Raises UserError for
    whatever is damaged or contradictory.
    """
    path = root / FILE
    values = read_json(path)
    frames = _frames_with_pictures(path, values)
    upright, natives, mode = _native_sizes(frames)
    sizes = target_sizes(root, natives, request.img_wh, request.downscale)
    poses = torch.from_numpy(unit_axes(np.stack([frame.c2w for frame in frames])))
    bounded, near, far, aabb = _bounds(path, values, poses)
    poses, frame, near = (poses, None, near) if bounded else _normalized(path, values, poses)
    on_nothing = _shows_an_object(frames, mode, bounded or not request.objects)
    names = _names(root, [frame.file for frame in frames])
    chosen = _members(path, values, frames, request)
    frames, natives, sizes = [frames[i] for i in chosen], [natives[i] for i in chosen], [sizes[i] for i in chosen]
    lenses = [read_lens(frame.where, frame.values, native) for frame, native in zip(frames, natives, strict=True)]
    K, warps = _pinholes(frames, lenses, natives)
    for matrix, native, size in zip(K, natives, sizes, strict=True):
        matrix[0] *= size[0] / native[0]
        matrix[1] *= size[1] / native[1]

    def straighten(index: int, picture: UInt8[np.ndarray, "H W ch"]) -> UInt8[np.ndarray, "H W ch"]:
        return warps[index](picture, False)

    files, masks = [frame.file for frame in frames], None
    try:
        images = read_pictures(files, sizes, mode, upright=upright, change=straighten, pictures=request.pictures)
        if request.pictures:
            shown, hidden = [frame.mask for frame in frames], [hiding_mask(file) for file in files]
            masks = read_masks(shown, hidden, natives, sizes, upright=upright, warps=warps)
    finally:
        sampling_grid.cache_clear()
    height, width = images.shape[1:3]
    scene = Scene(
        Cameras(poses[chosen].float(), torch.from_numpy(K).float(), width, height, sizes=canvas_sizes(sizes)),
        images,
        near=near,
        far=far,
        aabb=aabb,
        background=(1.0, 1.0, 1.0) if mode == "RGBA" else None,
        unbounded=not bounded,
        masks=masks,
        target=(0.0, 0.0, 0.0) if not bounded else tuple(aabb.mean(0).tolist()),
        names=tuple(names[i] for i in chosen),
        root=root,
        frame=frame,
    )
    return as_object(scene) if on_nothing else scene


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
        frames = [frame for frame in frames if frame.file.is_file()]
    if absent := [frame for frame in frames if frame.mask and not frame.mask.is_file()]:
        raise UserError(f"{absent[0].where}: its mask {absent[0].mask} is missing; copy it there, or remove mask_path")
    return frames


def _members(path: Path, values: dict[str, object], frames: Sequence[Frame], request: Request) -> list[int]:
    """Which frames belong to the split: those that the file lists, or every so many."""
    chosen = listed(values, [frame.file for frame in frames], path.parent, request.split)
    chosen = held_out(len(frames), request.split, request.test_every) if chosen is None else chosen
    if not chosen:
        told = f"--test_every {request.test_every} leaves none of the {len(frames)} pictures in {path}"
        remedy = "2 or more" if request.test_every == 0 else "another number, or 0 to train on all"
        raise UserError(f"{told} for {request.split}: give {remedy}")
    return chosen


def _native_sizes(frames: Sequence[Frame]) -> tuple[bool, list[Size], str]:
    """Whether to turn pictures upright, their sizes then, and the mode that holds all of them.

    The poses were made by a program that turned the pictures as EXIF says, or by one that did not: w and h tell.
    """
    told = [told_size(frame.where, frame.values) for frame in frames]
    files = [frame.file for frame in frames]
    headers = read_headers(files)
    turned = headers.sizes(upright=True)
    for upright, sizes in ((True, turned), (False, headers.stored)):
        if all(map(fits, told, sizes)):
            return upright, sizes, headers.mode
    frame, size, (width, height) = next(
        trio for trio in zip(frames, told, turned, strict=True) if not fits(trio[1], trio[2])
    )
    assert size is not None  # any picture fits if no size is told
    wrong = f"w {size[0]:g}, h {size[1]:g} has another aspect ratio than the picture, which is {width}x{height}"
    raise UserError(f"{frame.where}: {wrong}; correct them, or restore the picture")


def _bounds(
    path: Path, values: dict[str, object], c2w: Float[Tensor, "C 3 4"]
) -> tuple[bool, float, float, Float[Tensor, "2 3"]]:
    """Whether the scene is bounded, near, far and its box."""
    size = optional_number(str(path), "aabb_scale", values)
    if size is not None and size < 1:
        raise UserError(f"{path}: aabb_scale is {size:g}; give 1 for a scene within the unit cube, or more")
    if size != 1:
        return False, NEAR, FAR, torch.tensor([[-1.0] * 3, [1.0] * 3])
    aabb = _unit_cube(path, values)
    nearest, farthest = reach(c2w[:, :, 3].float(), aabb)
    return True, max(NEAR, nearest), farthest, aabb


def _normalized(
    path: Path, values: dict[str, object], poses: Float[Tensor, "C 3 4"]
) -> tuple[Float[Tensor, "C 3 4"], Float[Tensor, "4 4"], float]:
    """Poses, frame and near of a scene without end. The file may say, in its own unit of length, in front of which
    distance from every camera there is nothing, as `nerf prepare` does."""
    poses, frame = normalize_poses(poses)
    told = values.get("clear_distance")
    if told is None:
        return poses, frame, NEAR
    return poses, frame, max(positive(str(path), "clear_distance", told) * float(frame[0, :3].norm()), LEAST_NEAR)


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


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """The stems of the files or, where two share one, more of their paths."""
    paths = [within(root, file) for file in files]
    for spelled in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(spelled)) == len(files):
            return [_flat(name) for name in spelled]
    return [_flat(str(path)) for path in paths]


def _flat(name: str) -> str:
    """A path as the name of a file."""
    return name.replace("../", "").strip("/").replace("/", "_")


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
