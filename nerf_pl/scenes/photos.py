"""Own photos, or a film, into a scene: placed by COLMAP, without lens distortion, with a transforms.json."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.media import write_errors, write_png
from nerf_pl.scenes.colmap import Pinhole, camera_to_world, import_pycolmap, pinhole_of
from nerf_pl.scenes.mapping import Photo, Step, choose_matcher, reconstruct
from nerf_pl.scenes.normalize import normalize_poses
from nerf_pl.scenes.pictures import BROKEN_IMAGE, PICTURE_SUFFIXES, Size, list_some
from nerf_pl.scenes.top_view import top_view
from nerf_pl.scenes.undistort import sampling_grid, undistort
from nerf_pl.scenes.video import sharp_frames

FEWEST = 5  # placed photos; fewer make no scene
AABB_SCALE = 16  # for Instant-NGP: the photos show what is far, too
QUALITY = 98  # JPEG
UNREADABLE = {".heic", ".heif", ".dng", ".cr2", ".nef", ".arw"}  # of photos, but not for Pillow
MODEL, EXIF, FOCAL_LENGTH, FOCAL_LENGTH_35MM = 0x0110, 0x8769, 0x920A, 0xA405  # EXIF tags
DIAGONAL_35MM = 43.27  # mm
ADVICE = (
    "take more of them with much overlap, walking around and not turning on the spot, sharp, of textured surroundings "
    "that do not move; for frames in the order of time try --matcher sequential, for others exhaustive"
)


@dataclass(frozen=True)
class Prepared:
    """What became of the photos. error: mean distance, in pixels, of a feature from where its 3D point is projected."""

    out: Path
    placed: tuple[str, ...]
    missing: tuple[str, ...]
    error: float


def prepare(
    source: Path,
    out: Path,
    max_size: int = 1600,
    frames: int = 100,
    matcher: str = "auto",
    overwrite: bool = False,
    step: Step = lambda title, done, total: None,
) -> Prepared:
    """Make the scene folder `out` from a folder of photos or from a film.

    Photos are turned upright and reduced to max_size pixels, the longer side; of a film the sharpest of each of
    `frames` parts is taken. `out` gets transforms.json (poses normalised, see `normalize_poses`), the photos in images,
    free of lens distortion, and cameras.png, a map of the cameras. step is told about the progress. Nothing is written
    unless all went well. Raises UserError if that cannot work, and if fewer than half of the photos could be placed.
    """
    source, out = Path(source), Path(out)
    _check(source, out, max_size, frames, matcher, overwrite)
    import_pycolmap("nerf prepare")
    with _workshop(out) as work:
        stage = work / "stage"
        stage.mkdir()
        is_film = source.is_file()
        photos = (
            _stage_film(source, frames, max_size, stage, step)
            if is_film
            else _stage(source, out, max_size, stage, step)
        )
        if len(photos) < FEWEST:
            raise UserError(f"{source} has {len(photos)} photos, too few to place them: {ADVICE}")
        model = reconstruct(stage, photos, choose_matcher(matcher, len(photos), is_film), step)
        views = [] if model is None else [model.image(i) for i in model.reg_image_ids()]
        views.sort(key=lambda view: view.name)
        placed = tuple(Path(view.name).stem for view in views)
        if model is None or len(placed) < max(FEWEST, len(photos) / 2):
            raise UserError(f"only {len(placed)} of the {len(photos)} photos in {source} could be placed: {ADVICE}")
        _write_scene(model, views, stage, work, step)
        for name in ("images", "transforms.json", "cameras.png"):
            _replace(work / name, out / name)
    missing = tuple(name for photo in photos if (name := Path(photo.name).stem) not in placed)
    return Prepared(out, placed, missing, model.compute_mean_reprojection_error())


def _check(source: Path, out: Path, max_size: int, frames: int, matcher: str, overwrite: bool) -> None:
    if not source.exists():
        raise UserError(f"{source} does not exist: give a folder of photos, or a film")
    if source.is_file() and source.suffix.lower() in PICTURE_SUFFIXES | UNREADABLE:
        raise UserError(f"{source} is one photo: give the folder of all photos, or a film")
    if max_size < 64:
        raise UserError(f"--max_size {max_size} is too small to recognise anything: give 64 or more pixels")
    if frames < FEWEST:
        raise UserError(f"--frames {frames} are too few to place them: give {FEWEST} or more")
    if matcher not in ("auto", "exhaustive", "sequential"):
        raise UserError(f"--matcher {matcher} is unknown: give auto, exhaustive or sequential")
    if source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {out} holds the photos themselves: give a folder of its own")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f"--out {out} is not empty: give another folder, or --overwrite for a new scene in its place")


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A temporary folder in `out`, on the same disk; after a failure nothing is left of either."""
    is_new = not out.exists()
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".prepare-", dir=out) as work:
                yield Path(work)
        finally:
            if is_new and not any(out.iterdir()):
                out.rmdir()


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)


def _stage(source: Path, out: Path, max_size: int, stage: Path, step: Step) -> list[Photo]:
    """All photos below a folder, upright and reduced, as files that COLMAP reads."""
    found = sorted(file for file in source.rglob("*") if file.is_file() and not file.name.startswith("."))
    found = [file for file in found if not file.resolve().is_relative_to(out.resolve())]
    files = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]
    others = [file for file in found if file.suffix.lower() in UNREADABLE]
    if not files:
        remedy = f"convert them to JPEG ({list_some(others)})" if others else "give a folder of photos, or a film"
        raise UserError(f"{source} has no photos of a known kind, such as JPEG: {remedy}")
    if others:
        warn(f"{source}: {len(others)} photos are left out ({list_some(others)}): convert them to JPEG")
    photos = []
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_stage_photo, file, stage / f"{name}.png", max_size, file.parent)
            for file, name in zip(files, _names(source, files), strict=True)
        ]
        try:
            for i, job in enumerate(jobs):
                photos.append(job.result())
                step("reading photos", i + 1, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)
    return photos


def _names(source: Path, files: Sequence[Path]) -> list[str]:
    """A name for each, without suffix, folders and blanks; those that would be the same keep their suffix."""
    flat = ["_".join("_".join(file.relative_to(source).with_suffix("").parts).split()) for file in files]
    times = Counter(flat)
    return [f"{name}_{file.suffix[1:]}" if times[name] > 1 else name for name, file in zip(flat, files, strict=True)]


def _stage_photo(file: Path, target: Path, max_size: int, camera: object) -> Photo:
    try:
        with Image.open(file) as picture:
            tags = picture.getexif()
            more = tags.get_ifd(EXIF)
            picture.draft(None, (2 * max_size, 2 * max_size))
            picture = ImageOps.exif_transpose(picture).convert("RGB")
    except BROKEN_IMAGE as error:
        raise UserError(f"{file} is not a readable photo: remove it, or restore it") from error
    size = _save(picture, target, max_size)
    # zoom and a change of lens make another camera
    key = camera, size, str(tags.get(MODEL)), str(more.get(FOCAL_LENGTH)), str(more.get(FOCAL_LENGTH_35MM))
    return Photo(target.name, size, key, focal_in_pixels(more.get(FOCAL_LENGTH_35MM), size))


def _stage_film(source: Path, frames: int, max_size: int, stage: Path, step: Step) -> list[Photo]:
    photos = []
    for pixels in sharp_frames(source, frames, lambda done, total: step("choosing sharp frames", done, total)):
        name = f"frame_{len(photos) + 1:05d}.png"
        size = _save(Image.fromarray(pixels), stage / name, max_size)
        photos.append(Photo(name, size, size))
    return photos


def _save(picture: Image.Image, target: Path, max_size: int) -> Size:
    """Reduced to max_size where it is larger, without loss, as a temporary file."""
    scale = min(1.0, max_size / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(target, compress_level=1)
    return size


def focal_in_pixels(equivalent: Any, size: Size) -> float | None:
    """The focal length in pixels of a picture whose EXIF tells what it would be on 35 mm film (in mm, by the diagonal);
    None if that is not told or cannot be."""
    try:
        focal = float(equivalent)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return focal / DIAGONAL_35MM * float(np.hypot(*size)) if 5 < focal < 2000 else None


def _write_scene(model: Any, views: Sequence[Any], stage: Path, work: Path, step: Step) -> None:
    """images, transforms.json and cameras.png in the folder `work`."""
    (work / "images").mkdir()
    pinholes = {view.camera_id: pinhole_of(stage, view.camera) for view in views}

    def straighten(view: Any) -> None:
        pinhole = pinholes[view.camera_id]
        with Image.open(stage / view.name) as picture:
            pixels = np.array(picture)
        if pinhole.project is not None:
            pixels = undistort(pixels, pinhole.project, pinhole.K, pinhole.size)
        target = work / "images" / Path(view.name).with_suffix(".jpg")
        Image.fromarray(pixels).save(target, quality=QUALITY, subsampling=0)

    with ThreadPoolExecutor() as pool:
        for i, _ in enumerate(pool.map(straighten, views)):
            step("undoing the lens distortion", i + 1, len(views))
    sampling_grid.cache_clear()
    w2c = np.stack([view.cam_from_world().matrix() for view in views])
    normalised, similarity = normalize_poses(torch.from_numpy(camera_to_world(w2c)))
    poses = normalised.numpy()
    values = transforms([Path(view.name).stem for view in views], [pinholes[view.camera_id] for view in views], poses)
    (work / "transforms.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    xyz = np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3)
    write_png(work / "cameras.png", top_view(poses, xyz @ similarity[:3, :3].numpy().T + similarity[:3, 3].numpy()))


def transforms(names: Sequence[str], pinholes: Sequence[Pinhole], c2w: Float[np.ndarray, "C 3 4"]) -> dict[str, Any]:
    """The content of transforms.json: the keys of Instant-NGP, with intrinsics where they are shared."""
    lenses = [
        {
            "fl_x": p.K[0, 0], "fl_y": p.K[1, 1], "cx": p.K[0, 2], "cy": p.K[1, 2], "w": p.size[0], "h": p.size[1],
        }
        for p in pinholes
    ]  # fmt: skip
    shared = lenses[0] if all(lens == lenses[0] for lens in lenses) else {}
    entries = []
    for name, lens, pose in zip(names, lenses, c2w, strict=True):
        matrix = [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]
        entries.append({"file_path": f"images/{name}.jpg", **({} if shared else lens), "transform_matrix": matrix})
    return {"camera_model": "PINHOLE", **shared, "aabb_scale": AABB_SCALE, "frames": entries}
