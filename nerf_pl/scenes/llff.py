"""LLFF scenes: photos with poses_bounds.npy, most often taken by hand from about one place, looking one way."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras, image_rays, ndc_rays
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.arrays import read_array
from nerf_pl.scenes.bounds import LEAST_TOLD, nearest_bound
from nerf_pl.scenes.cuts import whole
from nerf_pl.scenes.files import pictures_in
from nerf_pl.scenes.lenses import wrong_focal
from nerf_pl.scenes.masks import folder_masks, masks_folder, read_masks
from nerf_pl.scenes.normalize import (
    FAR,
    LEAST_NEAR,
    NEAR,
    ahead_of,
    closest_of,
    near_of,
    normalize_poses,
)
from nerf_pl.scenes.order import require_same_order, tell_order
from nerf_pl.scenes.orientation import orient
from nerf_pl.scenes.pictures import Size, cut_out, one_size, read_headers, read_pictures, target_size
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene, as_object
from nerf_pl.scenes.splits import SPLITS, held_out
from nerf_pl.scenes.spread import tell_spread
from nerf_pl.scenes.values import FARTHEST, ROTATED, rigid
from nerf_pl.text import counted
from nerf_pl.types import Rays

POSES = "poses_bounds.npy"
FILES = f"{POSES} and images"
PHOTOS = re.compile(r"images(?:_([1-9]\d*))?", re.IGNORECASE)
CENTRES = "hwf_cxcy.npy"  # beside the poses of some data sets: focal lengths and middles
MODEL = "sparse/0"  # of COLMAP, from which the poses were made
NEAREST = 1 / 0.75  # the nearest bound of all views, once scaled: a little beyond the near plane z = -1 of NDC
FORWARD = 0.05  # cosine of the angle to the mean viewing direction, of the most oblique ray that NDC is still good for


@dataclass(frozen=True)
class Place:
    """The cameras of all splits in their final world, and what `Scene` says about that."""

    cameras: Cameras
    near: float
    far: float
    aabb: Float[Tensor, "2 3"]
    frame: Float[Tensor, "4 4"]
    ndc: tuple[float, float] | None = None
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ahead: float = 0.0
    closest: float = 0.0


def recognises(root: Path) -> bool:
    return (root / POSES).is_file()


def splits(root: Path, test_every: int) -> tuple[str, ...]:
    return SPLITS if test_every else ("train", "val")  # the classic rule: the most central view validates


def load_llff(root: Path, request: Request) -> Scene:
    """The views of a split of the folder `root`, with poses_bounds.npy and pictures in images, images_4 and so on.

    Forward-facing photos (Mildenhall et al. 2019; NeRF 2020, appendix C): the mean pose becomes the origin, lengths
    are scaled so that nothing is nearer than 4/3, and rays live in normalised device coordinates, in the tight box
    that holds those of all views of all splits. Photos all around something: `normalize_poses` gives the world, which
    is unbounded, with the cube [-1, 1]^3 as its middle. spheric says which of the two they are; if it is None, the
    viewing directions decide.

    Pictures are the smallest stored ones that are not smaller than img_wh or 1 / downscale ask for, resized; those
    are kept for the next time in images_WIDTHxHEIGHT. Transparent ones are on white and, if the background of
    photos all around was removed, show an object in a box. Masks lie in root/masks, see `folder_masks`. test_every
    0 is the classic rule: the most central view is the split val, all others train. Raises UserError for whatever
    is missing, damaged or contradictory.
    """
    c2w, hwf, bounds = _read_poses(root / POSES)
    _doubt(root / POSES, c2w, hwf)
    files, size = _find_pictures(root, hwf[0], request.img_wh, request.downscale)
    _compare_with_rows(root, files, len(c2w), request.pictures)
    chosen = _members(root, c2w, request.split, request.test_every)
    cameras = Cameras(c2w, _intrinsics(hwf, size), *size)
    around = request.spheric
    if around is None and (around := not _looks_one_way(cameras)):
        warn(f"{root / POSES}: the views look in several directions, so they are taken to surround the scene")
    place = (_surrounding if around else _forward_facing)(root, cameras, bounds, request)
    headers, all_files = read_headers(files), files
    found = orient(root / POSES, headers, [partial(_same_aspect, hwf=row) for row in hwf], partial(_misfit, files, hwf))
    native = one_size(files, found.sizes)
    masked = _masks(root, files)
    files, upright = [files[i] for i in chosen], [found.upright[i] for i in chosen]
    one_each = len({file.stem for file in files}) == len(files)  # else two would be kept under one name
    cache = root / f"images_{size[0]}x{size[1]}" if one_each else None
    sizes = [size] * len(files)
    masks, shown = None, [masked[i] for i in chosen]
    how = {"upright": upright, "pictures": request.pictures, "cache": cache, "masked": any(shown)}
    images = read_pictures(files, sizes, headers.mode, **how)
    if request.pictures:
        cuts = [whole(native, np.eye(3))] * len(files)  # as they are
        masks = read_masks(shown, [None] * len(files), [native] * len(files), sizes, upright=upright, cuts=cuts)
    scene = Scene(
        replace(place.cameras, c2w=place.cameras.c2w[chosen].float(), K=place.cameras.K[chosen].float()),
        images,
        near=place.near,
        far=place.far,
        aabb=place.aabb,
        background=(1.0, 1.0, 1.0) if headers.mode == "RGBA" else None,
        ndc=place.ndc,
        unbounded=around,
        masks=masks,
        target=place.target,
        names=tuple(file.stem for file in files),
        root=root,
        surrounded=bool(request.spheric),
        frame=place.frame,
        ahead=place.ahead,
        closest=place.closest,
        originals=_originals(root, hwf[0], all_files, chosen),
    )
    on_nothing = around and request.objects and headers.mode == "RGBA" and cut_out(all_files)
    return as_object(scene) if on_nothing else scene


def _looks_one_way(cameras: Cameras) -> bool:
    """Whether all rays of all views look forward, seen from the mean of the views, so that NDC can serve them."""
    recentred = replace(cameras, c2w=_recentred(cameras.c2w, 1.0)[0])
    return all(_corner_rays(recentred, i).directions[:, 2].max() <= -FORWARD for i in range(len(cameras)))


def faces_forward(root: Path) -> bool:
    """Whether the views of poses_bounds.npy all look more or less one way, so that NDC can serve them."""
    axes = -F.normalize(_read_poses(root / POSES)[0][:, :, 2], dim=-1)
    return bool((axes @ F.normalize(axes.mean(0), dim=0)).min() > 0.5)


def _read_poses(
    path: Path,
) -> tuple[Float[Tensor, "C 3 4"], Float[Tensor, "C 3"], Float[Tensor, "C 2"]]:
    """Poses in our axes; height, width and focal length in pixels; the depths between which each view sees things."""
    if not path.is_file():
        raise UserError(f"{path} is missing: give the folder that holds it, as made by LLFF's imgs2poses")
    rows = read_array(path, "is damaged, or not an array of numpy", "restore it from the data set")
    if rows.ndim != 2 or rows.shape[1] != 17 or len(rows) == 0:
        told = f"{path} has the shape {rows.shape}"
        raise UserError(f"{told}: it must be (pictures, 17), a 3x5 pose and two depths each")
    if rows.dtype.kind not in "fiu":
        raise UserError(f"{path} holds {rows.dtype}, not numbers: restore it from the data set")
    rows = torch.from_numpy(rows.astype(np.float64))
    pose, bounds = rows[:, :15].view(-1, 3, 5), rows[:, 15:]
    c2w = torch.stack([pose[:, :, 1], -pose[:, :, 0], pose[:, :, 2], pose[:, :, 3]], -1)  # from down, right, back
    finite, bounded = (rows[:, :15].abs() < FARTHEST).all(1), (bounds < FARTHEST).all(1)
    rotations = [rigid(matrix) for matrix in c2w.where(finite[:, None, None], torch.eye(3, 4)).numpy()]
    broken = {
        "is not finite": ~finite,
        "has a pose that is no rotation": torch.tensor([bool(wrong) for _, wrong in rotations]),
        "has a height, width or focal length that is not positive": (pose[:, :, 4] <= 0).any(1),
        "has bounds that are not finite": ~bounded,
        "has bounds that are not 0 < near < far": (bounds[:, 0] <= 0) | (bounds[:, 1] <= bounds[:, 0]),
    }
    for told, rows_so in broken.items():
        if n := int(rows_so.sum()):
            row = int(rows_so.nonzero()[0])
            told += f": {rotations[row][1]}" if told.endswith("rotation") else ""
            if told.startswith("has bounds"):
                told += f" but {bounds[row, 0]:g} and {bounds[row, 1]:g}"
            others = f" ({counted(n - 1, 'other row')} like it)" if n > 1 else ""
            raise UserError(f"{path}: row {row} {told}{others}; correct it, or remove it and its picture")
    if (scaled := (c2w[:, :, :3].norm(dim=1) - 1).abs().amax(1) > ROTATED).any():
        told = f"the axes of {int(scaled.sum())} of {len(rows)} poses are not of length 1"
        warn(f"{path}: {told}; only their directions are taken")
    c2w = torch.from_numpy(np.stack([matrix for matrix, _ in rotations]))
    return c2w, pose[:, :, 4], bounds


def _doubt(path: Path, c2w: Float[Tensor, "C 3 4"], hwf: Float[Tensor, "C 3"]) -> None:
    """Say what is most likely wrong with poses. Raises UserError for focal lengths that cannot be."""
    for row, (height, width, focal) in enumerate(hwf.tolist()):
        if wrong_focal(focal, max(width, height)):
            told = f"a focal length of {focal:g} pixels, for a picture of {width:g}x{height:g}"
            raise UserError(f"{path}: row {row} has {told}; correct it, or the size")
    if (other := path.with_name(CENTRES)).is_file():
        warn(f"{other} is not read: the focal length of {POSES} counts, and the middle of each picture")
    tell_spread(path, c2w, [f"row {row}" for row in range(len(c2w))])


def _find_pictures(root: Path, hwf: Float[Tensor, "3"], img_wh: Size | None, downscale: int) -> tuple[list[Path], Size]:
    """The files of all views, and the size to read them at. hwf: of the first view."""
    folders = _picture_folders(root)
    first = min(folders)

    def of_first(factor: int) -> Size:
        headers = read_headers(folders[factor][:1])
        (width, height), turn = headers.stored[0], headers.turns()[0]
        return (height, width) if turn >= 5 and not _same_aspect((width, height), hwf) else (width, height)

    shape, whole = f"{hwf[1]:.0f}x{hwf[0]:.0f}", of_first(first)
    if not _same_aspect(whole, hwf):
        told = f"{root / POSES} is of pictures of {shape} pixels but {folders[first][0]} has {whole[0]}x{whole[1]}"
        raise UserError(f"{told}, of another shape: restore the pictures that it was made from")
    if img_wh is None and downscale == 1:
        return folders[first], whole
    if img_wh is None and 1 < downscale < first:
        there = f"the largest pictures in {root} are those of images_{first}"
        raise UserError(f"--downscale {downscale}: {there}; give {first} or more, or leave it out")
    size = target_size(root, (whole[0] * first, whole[1] * first), img_wh, downscale)
    sizes = {factor: of_first(factor) for factor in sorted(folders)}
    enough = [factor for factor, (w, h) in sizes.items() if w >= size[0] and h >= size[1]]
    return folders[enough[-1] if enough else first], size


def _originals(
    root: Path, hwf: Float[Tensor, "3"], files: Sequence[Path], chosen: Sequence[int]
) -> tuple[tuple[str, int, int], ...]:
    """`Scene.originals` of these views: the largest pictures that are there. files: those of all views, as read."""
    largest, size = _find_pictures(root, hwf, None, 1)
    files = largest if len(largest) == len(files) else files
    return tuple((files[i].name, *size) for i in chosen)


def _compare_with_rows(root: Path, files: list[Path], rows: int, pictures: bool) -> None:
    """Raises UserError if pictures are not as many as rows, or most likely not in their order, as far as that shows."""
    if len(files) != rows:
        told = f"{root / POSES} has {counted(rows, 'row')} but {files[0].parent} {counted(len(files), 'picture')}"
        twice = len({file.stem for file in files}) < len(files)
        others = "the others, some of which have the same names with another ending" if twice else "the others"
        has_model = any((root / MODEL).glob("images.*"))
        instead = "; or give --dataset_name colmap, whose model names its pictures" if has_model else ""
        raise UserError(f"{told}: restore the pictures that it was made from, or remove {others}{instead}")
    tell_order(root / POSES, files)
    if pictures and (whole_files := _picture_folders(root).get(1)) and whole_files != files:
        require_same_order(files, whole_files)


def _picture_folders(root: Path) -> dict[int, list[Path]]:
    """The pictures in images (under 1) and in each images_K (under K), sorted by name."""
    folders = {}
    for folder in sorted(root.iterdir()):  # images comes after Images, and counts
        named = PHOTOS.fullmatch(folder.name)
        if named and folder.is_dir() and (files := pictures_in(folder)):
            folders[int(named[1] or 1)] = files
    if not folders:
        raise UserError(f"{root} has no pictures in images, images_4 or so: copy the photos to {root / 'images'}")
    return folders


def _masks(root: Path, files: list[Path]) -> list[Path | None]:
    """The mask of each picture. It has the name of the picture, or of the largest one of the same view."""
    folders = _picture_folders(root)
    largest = folders[min(folders)]
    largest = largest if len(largest) == len(files) else files
    return folder_masks(
        masks_folder(root), [(file.name, other.name) for file, other in zip(files, largest, strict=True)]
    )


def _same_aspect(size: Size, hwf: Float[Tensor, "3"]) -> bool:
    """Whether a picture may be a resized one of the height and width of the poses; sides are rounded to pixels."""
    scale = size[0] / float(hwf[1])
    return abs(size[1] - scale * float(hwf[0])) <= 1 + scale


def _misfit(files: Sequence[Path], hwf: Float[Tensor, "C 3"], index: int, found: Size) -> str:
    """What to say about a picture of another shape than its row tells."""
    told = f"has {found[0]}x{found[1]} pixels, but row {index} of {POSES} is of pictures of"
    shape = f"{hwf[index, 1]:.0f}x{hwf[index, 0]:.0f}, of another shape"
    return f"{files[index]} {told} {shape}: restore the pictures that it was made from, or correct the row"


def _members(root: Path, c2w: Float[Tensor, "C 3 4"], split: str, test_every: int) -> list[int]:
    """Which views belong to a split."""
    if test_every:
        members = held_out(len(c2w), split, test_every)
    elif split == "test":
        told = f"--test_every 0: {root} has no test views, the classic test is a film along a spiral"
        raise UserError(f"{told}: make it with `nerf render RUN --path spiral`, or give --test_every 8")
    else:
        centres = c2w[:, :, 3]
        central = int((centres - centres.mean(0)).norm(dim=-1).argmin())
        members = [i for i in range(len(c2w)) if (i == central) == (split == "val")]
    if not members:
        raise UserError(f"{root} has {counted(len(c2w), 'picture')}, none of them for {split}: add pictures")
    return members


def _intrinsics(hwf: Float[Tensor, "C 3"], size: Size) -> Float[Tensor, "C 3 3"]:
    """Of pictures of a size; the optical axis passes their middle."""
    K = torch.eye(3, dtype=hwf.dtype).repeat(len(hwf), 1, 1)
    for axis, (length, stored) in enumerate(zip(size, (hwf[:, 1], hwf[:, 0]), strict=True)):
        K[:, axis, axis], K[:, axis, 2] = hwf[:, 2] * length / stored, length / 2
    return K


def _surrounding(root: Path, cameras: Cameras, bounds: Float[Tensor, "C 2"], request: Request) -> Place:
    """The origin is in the middle of what the cameras surround.

    Programs that make poses_bounds.npy disagree on what the bounds mean, and a single wrong point may decide them. So
    near is at most what other layouts have, and not much less where cameras look inward; nothing far away is cut. The
    share `ahead` yields to the bounds of half of the photos, unless these are so small that they can hardly be meant.
    tight: near is the nearest bound and far the farthest one, but not beyond 8 near, as in the classic implementation.
    """
    nearest_bound(root / POSES, cameras.c2w, bounds, facing=False)
    c2w, frame = normalize_poses(cameras.c2w, request.scale)
    bounds = bounds * frame[0, :3].norm()
    nearest = bounds[:, 0].min().item()
    usual = near_of(c2w)
    near, far = min(max(nearest / 2, NEAR if usual > NEAR else LEAST_NEAR), usual), FAR
    if request.tight:
        near, far = nearest, min(8 * nearest, bounds.max().item())
    told = float((bounds[:, 0] / c2w[:, :, 3].norm(dim=1).clamp(min=1e-9)).median())
    ahead = 0.0 if request.tight else ahead_of(c2w, told if told > LEAST_TOLD else math.inf)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Place(replace(cameras, c2w=c2w), near, far, box, frame, ahead=ahead, closest=closest_of(c2w))


def _forward_facing(root: Path, cameras: Cameras, bounds: Float[Tensor, "C 2"], request: Request) -> Place:
    """The origin is the mean camera; near, far and the box are those of rays in NDC. Raises UserError for a scale."""
    if request.scale is not None:
        told = f"--scale {request.scale:g}: {root} has photos from one side, whose nearest bound sets the scale"
        raise UserError(f"{told}; leave the option out")
    nearest = nearest_bound(root / POSES, cameras.c2w, bounds, facing=True)
    scale = NEAREST / nearest
    c2w, frame = _recentred(cameras.c2w, scale)
    cameras = replace(cameras, c2w=c2w)
    width, height = (2 * cameras.K[:, axis, axis].mean().item() for axis in (0, 1))
    ndc = width / cameras.width, height / cameras.height
    target = (0.0, 0.0, -scale * _middle_depth(nearest, max(nearest, bounds.max().item())))
    return Place(cameras, 0.0, 1.0, _ndc_box(root, cameras, ndc), frame, ndc, target)


def _recentred(c2w: Float[Tensor, "C 3 4"], scale: float) -> tuple[Float[Tensor, "C 3 4"], Float[Tensor, "4 4"]]:
    """The poses as seen from their mean, with lengths times `scale`, and the similarity that brings them there. The
    mean pose has the mean centre and the mean viewing direction, and is as upright as the cameras are on average."""
    back = F.normalize(c2w[:, :, 2].sum(0), dim=0)
    right = F.normalize(torch.linalg.cross(c2w[:, :, 1].sum(0), back), dim=0)
    axes = torch.stack([right, torch.linalg.cross(back, right), back])  # (3, 3), one a row
    centre = c2w[:, :, 3].mean(0)
    centres = (c2w[:, :, 3] - centre) @ axes.T
    frame = torch.eye(4, dtype=c2w.dtype)
    frame[:3, :3], frame[:3, 3] = scale * axes, -scale * axes @ centre
    return torch.cat([axes @ c2w[:, :, :3], scale * centres[:, :, None]], -1), frame


def _ndc_box(root: Path, cameras: Cameras, ndc: tuple[float, float]) -> Float[Tensor, "2 3"]:
    """The tight box around the rays of all cameras in normalised device coordinates. Straight lines stay straight
    there, so that the rays of a picture lie between those of its corners."""
    ends = []
    for i in range(len(cameras)):
        rays = _corner_rays(cameras, i)
        if rays.directions[:, 2].max() > -FORWARD:
            told = f"row {i} of {root / POSES} looks aside or back, seen from the mean of all views"
            raise UserError(f"{told}: leave out --no_spheric, the photos were taken all around something")
        rays = ndc_rays(rays, ndc)
        ends += [rays.origins, rays.origins + rays.far[:, None] * rays.directions]
    points = torch.cat(ends)
    return torch.stack([points.amin(0), points.amax(0)]).float()


def _corner_rays(cameras: Cameras, index: int) -> Rays:
    """The rays of a view through the corners of its picture."""
    # the pixels of a 2x2 picture that begin at the corners of one of 1x1
    corners = replace(cameras.resized(1, 1), width=2, height=2, pixel_offset=0.0)
    return image_rays(corners, index, 0.0, 1.0)


def _middle_depth(nearest: float, farthest: float) -> float:
    """Where a film's camera turns about: three quarters of the way from nearest to farthest, in disparity, both with a
    margin, as the code of NeRF 2020 chooses it."""
    return 1 / (0.25 / (0.9 * nearest) + 0.75 / (5 * farthest))
