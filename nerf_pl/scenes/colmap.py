"""Scenes reconstructed by COLMAP: a sparse model, binary or text, beside the photos that it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from nerf_pl.console import warn
from nerf_pl.errors import UserError, reason
from nerf_pl.extras import extra
from nerf_pl.scenes.cuts import Cut, all_around, cut_names, originals_of, tell_cuts, whole
from nerf_pl.scenes.files import is_junk
from nerf_pl.scenes.finder import Search
from nerf_pl.scenes.lenses import fits
from nerf_pl.scenes.masks import folder_masks, masks_folder
from nerf_pl.scenes.model_checks import different, doubt, require_cameras
from nerf_pl.scenes.model_files import has_cameras, is_whole, names_with_blanks, wrong_line, wrong_rotation
from nerf_pl.scenes.model_lenses import WIDE, look_of, sees_all_around
from nerf_pl.scenes.model_text import has_mark, wrong_camera, wrong_pairs
from nerf_pl.scenes.normalize import (
    FAR,
    LEAST_NEAR,
    ahead_of,
    camera_focus,
    closest_of,
    moved,
    near_of,
    normalize_poses,
)
from nerf_pl.scenes.orientation import orient
from nerf_pl.scenes.pictures import cut_out, list_some, read_headers, target_sizes
from nerf_pl.scenes.points import CLEAR, foremost, seen_from
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene, as_object
from nerf_pl.scenes.shots import Photos, read_photos
from nerf_pl.scenes.sightings import of_model, seen_by_views
from nerf_pl.scenes.splits import held_out, rule_splits
from nerf_pl.scenes.undistort import Project, Size, undistorted_camera
from nerf_pl.scenes.values import FARTHEST, rigid
from nerf_pl.scenes.wide import Shot, fisheye, panorama
from nerf_pl.text import counted

FILES = "sparse/0 and images"
# the empty one is the scene's folder itself, where other programs write; those after it are of scripts of Gaussian
# splatting and Instant-NGP
MODEL_PLACES = ("sparse", "colmap/sparse", "", "distorted/sparse", "colmap_sparse", "colmap_text")


def recognises(root: Path) -> bool:
    return bool(model_folders(root))


def splits(root: Path, test_every: int) -> tuple[str, ...]:
    return rule_splits(test_every)


def load_colmap(root: Path, request: Request) -> Scene:
    """The photos in root/images that a COLMAP model has placed, sorted by name and split by `held_out`.

    The model lies in root/sparse/0, sparse/N, sparse or colmap/sparse/...; of several the one with the most photos
    is taken. Lenses are undone by resampling. Panoramas, and fisheye photos too wide for one view, are cut into views.
    Photos in images_K serve for downscale K if they have the right size. Masks of photos lie in root/masks, see
    `folder_masks`. The scene is normalised, see `normalize_poses`, and unbounded, unless the photos' background was
    removed; near is half the depth of what stands closest to a camera.
    Raises UserError for whatever is missing, damaged or contradictory.
    """
    model = _largest_model(root)
    views = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda view: view.name)
    views, photos = _find_photos(root, views, request.img_wh, request.downscale)
    cuts = _cuts(root, views, photos)

    c2w = torch.from_numpy(_poses(root, model, views))
    around = [all_around(c2w[i]) if sees_all_around(view.camera) else c2w[i : i + 1] for i, view in enumerate(views)]
    looking = torch.cat(around)
    frame = normalize_poses(looking, request.scale)[1]
    seen = of_model(model, views)
    share = seen_from(seen, c2w[:, :, 3].numpy(), camera_focus(looking).numpy())
    c2w = moved(c2w, frame)
    unit = float(torch.linalg.det(frame[:3, :3])) ** (1 / 3)

    chosen = held_out(len(views), request.split, request.test_every)
    if not chosen:
        told = f"{root} has {counted(len(views), 'photo')}, none of them for {request.split}"
        raise UserError(f"{told}: give another --test_every")
    names = [(view.name, _relative(root, file)) for view, file in zip(views, photos.files, strict=True)]
    shown = folder_masks(masks_folder(root), names) if request.pictures else [None] * len(views)
    hidden, nearest = [None] * len(views), nearest_depth(views, seen)
    read = Photos(photos.files, photos.sizes, photos.natives, photos.mode, photos.upright, shown, hidden, cuts)
    shots, cuts = read_photos(read.some(chosen), c2w[chosen], request.pictures), [cuts[i] for i in chosen]
    looking = moved(looking, frame)
    near = max(CLEAR * unit * nearest, LEAST_NEAR) if nearest else near_of(looking)
    scene = Scene(
        shots.cameras,
        shots.images,
        near=near,
        far=FAR,
        aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]),
        background=(1.0, 1.0, 1.0) if photos.mode == "RGBA" else None,
        unbounded=True,
        masks=shots.masks,
        names=cut_names(cuts, [_flat(views[i].name) for i in chosen]),
        root=root,
        frame=frame,
        photos=shots.photos,
        partial=shots.partial,
        seen=seen_by_views([seen[i] for i in chosen], cuts, frame),
        ahead=ahead_of(looking, share),
        closest=closest_of(c2w),
        told=nearest > 0,
        originals=originals_of(cuts, [views[i].name for i in chosen]),
    )
    on_nothing = request.objects and photos.mode == "RGBA" and cut_out(photos.files)
    return as_object(scene) if on_nothing else scene


def import_pycolmap(wanted_by: object) -> Any:
    """The package pycolmap, an extra. Raises UserError if it is not there.

    Import it after Pillow: its wheel (4.2) loads a second zlib. If Pillow comes later, it crashes when it writes a PNG.
    """
    return extra("pycolmap", wanted_by)


def model_folders(root: Path) -> list[Path]:
    """The folders below `root` that hold a sparse model each; those of the first place that has any."""
    for place in MODEL_PLACES:
        if (base := root / place).is_dir():
            folders = sorted(inner for inner in base.iterdir() if inner.is_dir() and not is_junk(inner.name))
            folders = [base, *(folders if place else [])]
            if found := [folder for folder in folders if _file(folder, "cameras") and _file(folder, "images")]:
                return found
    return []


def camera_to_world(w2c: Float[np.ndarray, "C 3 4"]) -> Float[np.ndarray, "C 3 4"]:
    """COLMAP's poses as ours: world to camera with the axes right, down, ahead -> camera to world, right, up, back."""
    rotation = w2c[:, :, :3].transpose(0, 2, 1)
    centres = -rotation @ w2c[:, :, 3:]
    return np.concatenate([rotation * np.array([1.0, -1.0, -1.0]), centres], -1)


def _poses(root: Path, model: Any, views: Sequence[Any]) -> Float[np.ndarray, "C 3 4"]:
    """Camera to world, our axes. What is doubtful about them is said."""
    c2w = camera_to_world(np.stack([_checked_pose(root, view) for view in views]))
    doubt(root, c2w, model, views)
    return c2w


def _checked_pose(root: Path, view: Any) -> Float[np.ndarray, "3 4"]:
    """World to camera, OpenCV axes. Raises UserError for a pose that cannot be, as a damaged binary model may have."""
    w2c = view.cam_from_world().matrix()
    wrong = rigid(w2c)[1] if (np.abs(w2c) < FARTHEST).all() else "it is not finite"
    if wrong:
        raise UserError(f"{root}: the pose of {view.name} in the model is no rotation, {wrong}: make the model anew")
    return w2c


def nearest_depth(views: Sequence[Any], seen: Sequence[Float[np.ndarray, "_ 3"]]) -> float:
    """How close to a camera the scene comes: the least, over all views, of what `foremost` says of the points that the
    view sees, see `sightings.of_model`. In units of the model; 0 if there are no points."""
    nearest = []
    for view, points in zip(views, seen, strict=True):
        w2c = view.cam_from_world().matrix()
        local = points @ w2c[:, :3].T + w2c[:, 3]
        depths = np.linalg.norm(local, axis=1) if sees_all_around(view.camera) else local[:, 2]
        if (depths > 0).any():
            nearest.append(foremost(depths[depths > 0]))
    return min(nearest, default=0.0)


@dataclass(frozen=True)
class Pinhole:
    """The pinhole camera K that a camera of the model is turned into, at its picture size; project: what it did."""

    K: Float[np.ndarray, "3 3"]
    size: Size
    project: Project | None


@dataclass(frozen=True)
class _Photos:
    """Where the pictures of all views lie, the sizes to read them at, their own, and how."""

    files: list[Path]
    sizes: list[Size]
    natives: list[Size]
    mode: str
    upright: list[bool]


def pinhole_of(root: Path, camera: Any) -> Pinhole:
    """The pinhole camera that stands for a camera of a model. Raises UserError for one that sees all around."""
    size = camera.width, camera.height
    where = _where(root, camera)
    if not camera.is_perspective():
        remedy = "give pictures of a perspective or fisheye camera, such as crops made with COLMAP's panorama tools"
        raise UserError(f"{where} has no pinhole picture: {remedy}")
    K = camera.calibration_matrix()
    if camera.is_perspective_pinhole() and camera.is_undistorted():
        return Pinhole(K, size, None)

    def project(xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        return camera.img_from_cam(np.concatenate([xy, np.ones((len(xy), 1))], 1))  # first pixel's centre at 0.5, too

    try:
        return Pinhole(undistorted_camera(project, K, size), size, project)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _cuts(root: Path, views: Sequence[Any], photos: _Photos) -> list[Cut]:
    """How the photo of each view of the model becomes views of the scene, which one line tells if they become
    several."""
    shots: dict[int, list[Shot]] = {}
    for view, file, upright in zip(views, photos.files, photos.upright, strict=True):
        shots.setdefault(view.camera_id, []).append(Shot(file, upright))
    of_camera = {view.camera_id: _cut(root, view.camera, shots[view.camera_id]) for view in views}
    cuts = [of_camera[view.camera_id] for view in views]
    tell_cuts(root, cuts)
    return cuts


def _cut(root: Path, camera: Any, shots: Sequence[Shot]) -> Cut:
    size, where = (camera.width, camera.height), _where(root, camera)
    if not (sees_all_around(camera) or camera.model_name in WIDE):
        pinhole = pinhole_of(root, camera)
        return whole(size, pinhole.K, pinhole.project)
    try:
        if sees_all_around(camera):
            return panorama(size, shots)
        return fisheye(size, look_of(camera), camera.calibration_matrix(), None, shots)
    except UserError as error:
        remedy = ", or give pictures of a perspective camera" if sees_all_around(camera) else ""
        raise UserError(f"{where}: {error}{remedy}") from error


def _where(root: Path, camera: Any) -> str:
    return f"{root}: camera {camera.camera_id} of the model ({camera.model_name})"


def _find_photos(root: Path, views: list[Any], img_wh: Size | None, downscale: int) -> tuple[list[Any], _Photos]:
    """The views whose pictures are there, and these: in images_K if all are there in the right size, or in images."""
    folder, small = root / "images", root / f"images_{downscale}"
    names = [view.name for view in views]
    files = dict(zip(names, Search(root, [folder, root], root, reduced=False).find(names), strict=True))
    there = [view for view in views if files[view.name]]
    if img_wh is None and downscale > 1 and small.is_dir():
        less = dict(zip(names, Search(small, [small], small).find(names, tell=False), strict=True))
        reduced = [view for view in views if less[view.name]]
        if reduced and len(reduced) >= len(there):
            photos = _stored(small, less, reduced)
            wanted = [(view.camera.width / downscale, view.camera.height / downscale) for view in reduced]
            if all(abs(w - x) < 1 and abs(h - y) < 1 for (w, h), (x, y) in zip(photos.sizes, wanted, strict=True)):
                there, files, folder, downscale = reduced, less, small, 1
    missing = sorted({view.name for view in views} - {view.name for view in there})
    if not there:
        told = f"none of the {len(views)} photos that the model names is in {folder} ({list_some(missing)})"
        raise UserError(f"{root}: {told}; copy them there{_or_reduced(root, names)}")
    if missing:
        warn(f"{folder}: {len(missing)} of {len(views)} photos of the model are missing ({list_some(missing)})")
    found = [file for view in there if (file := files[view.name])]
    there = [there[i] for i in different(root, there, found)]
    photos = _stored(folder, files, there)
    sizes = target_sizes(folder, photos.sizes, img_wh, downscale)
    return there, _Photos(photos.files, sizes, photos.natives, photos.mode, photos.upright)


def _or_reduced(root: Path, names: list[str]) -> str:
    """What else to do if all photos are there in images_4, say: data sets come without the large ones."""
    factors = [folder.name.removeprefix("images_") for folder in root.glob("images_*") if folder.is_dir()]
    for k in sorted(int(factor) for factor in factors if factor.isdecimal()):
        small = root / f"images_{k}"
        if all(Search(small, [small], small).find(names, tell=False)):
            return f", or give --downscale {k} for those in {small}"
    return ""


def _stored(folder: Path, files: Mapping[str, Path | None], views: Sequence[Any]) -> _Photos:
    """The pictures of views, by their names in the model, at their own sizes; see `orient`."""
    headers = read_headers([file for view in views if (file := files[view.name])])
    taken = [(view.camera.width, view.camera.height) for view in views]

    def misfit(i: int, found: Size) -> str:
        size = f"has {found[0]}x{found[1]} pixels, but the model has it as {taken[i][0]}x{taken[i][1]}"
        return f"{headers.files[i]} {size}, another aspect ratio: restore the photos that the model was made from"

    found = orient(folder, headers, [partial(fits, size) for size in taken], misfit)
    return _Photos(list(headers.files), found.sizes, found.sizes, headers.mode, found.upright)


def _flat(name: str) -> str:
    """A picture's name in the model, which may begin with folders, as the name of a file without suffix."""
    return str(PurePath(name).with_suffix("")).replace("/", "_")


def _relative(root: Path, file: Path) -> str:
    """The path of a photo as seen from its folder of photos, or its name."""
    folders = [folder for folder in file.parents if folder.parent == root]
    return file.relative_to(folders[0]).as_posix() if folders else file.name


def _file(folder: Path, part: str) -> Path | None:
    """The .bin file if both are there, as COLMAP does."""
    return next((file for file in (folder / f"{part}.bin", folder / f"{part}.txt") if file.is_file()), None)


def _largest_model(root: Path) -> Any:
    folders = model_folders(root)
    if not folders:
        raise UserError(
            f"{root} has no COLMAP model: give a folder with sparse/0/cameras.bin, images.bin, points3D.bin"
        )
    models = [read_model(folder, root) for folder in folders]
    counts = [model.num_reg_images() for model in models]
    largest = counts.index(max(counts))
    if counts[largest] == 0:
        raise UserError(f"{folders[largest]} is a COLMAP model without a single placed photo: make it anew")
    if len(models) > 1:
        others = ", ".join(f"{f.name}: {n}" for f, n in zip(folders, counts, strict=True) if f != folders[largest])
        warn(f"{root} has {len(models)} models; {folders[largest]} is taken, with {max(counts)} photos ({others})")
    require_cameras(root, models[largest])
    return models[largest]


def read_model(folder: Path, root: Path) -> Any:
    """The pycolmap.Reconstruction in a folder, after the lengths of its files were checked. root: the folder of the
    scene, for messages. Raises UserError if it is damaged."""
    pycolmap = import_pycolmap(f"the COLMAP model in {root}")
    remedy = "make the model anew, or restore it"
    if not (points := _file(folder, "points3D")):
        raise UserError(f"{folder} has no points3D.bin or points3D.txt: {remedy}")
    kinds = [
        all((folder / f"{part}.{kind}").is_file() for part in ("cameras", "images", "points3D"))
        for kind in ("bin", "txt")
    ]
    if all(kinds):
        told = f"{folder} has the model twice, as .bin and as .txt: the .bin files are read"
        warn(f"{told}; remove them if you changed the others")
    parts = points, _file(folder, "images"), folder / "frames.bin"
    if cut := [part for part in (*parts, folder / "rigs.bin") if part and part.is_file() and not is_whole(part)]:
        raise UserError(f"{cut[0]} is damaged or cut short: {remedy}")
    for one, other in (("rigs", "frames"), ("frames", "rigs")):
        if (there := _file(folder, one)) and not _file(folder, other):
            raise UserError(f"{folder} has {there.name} and no {other}{there.suffix}: copy that as well, or {remedy}")
    text = [
        file for part in ("cameras", "images", "points3D") if (file := _file(folder, part)) and file.suffix == ".txt"
    ]
    if marked := next((file for file in text if has_mark(file)), None):
        raise UserError(f"{marked} begins with a byte order mark: save it as UTF-8 without one")
    if wrong := wrong_pairs(parts[1]):
        raise UserError(wrong)
    poses = parts[1:] if not _file(folder, "frames") else (_file(folder, "frames"),)
    if wrong := next((told for part in poses if part and part.is_file() and (told := wrong_rotation(part))), ""):
        raise UserError(f"{wrong}: {remedy}")
    try:
        model = pycolmap.Reconstruction(folder)
    except Exception as error:  # pycolmap raises many types
        told = next((told for file in text if (told := wrong_line(file))), "")
        if told := told or wrong_camera(_file(folder, "cameras"), parts[1], pycolmap):
            raise UserError(f"{told}: correct it, or {remedy}") from error
        raise UserError(f"{folder} is no readable COLMAP model ({reason(error)}): {remedy}") from error
    try:
        _ = [image.name for image in model.images.values()]  # raises for bytes that are no text
        for number, name in names_with_blanks(parts[1]):
            if number in model.images:
                model.images[number].name = name
    except UnicodeDecodeError as error:
        told = f"{parts[1]} has a name of a photo that is not in UTF-8"
        raise UserError(f"{told}: rename the photo, and make the model anew") from error
    cameras = _file(folder, "cameras")
    if cameras and not has_cameras(cameras, [len(camera.params) for camera in model.cameras.values()]):
        raise UserError(f"{cameras} is damaged or cut short: {remedy}")
    return model
