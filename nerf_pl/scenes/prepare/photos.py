"""Photos, or frames of a film, as the files that COLMAP places: upright, of a size that suits it."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.decode import converted, open_picture, tell_profiles, white_of
from nerf_pl.scenes.files import RAW_SUFFIXES, files_below, is_picture
from nerf_pl.scenes.memory import Budget
from nerf_pl.scenes.pictures import Size, decoding_memory, free_budget, list_some
from nerf_pl.scenes.prepare.placing import Photo, Step
from nerf_pl.scenes.prepare.video import sharp_frames
from nerf_pl.text import counted
from nerf_pl.writing import write_errors

MODEL, EXIF, FOCAL_LENGTH, FOCAL_LENGTH_35MM = 0x0110, 0x8769, 0x920A, 0xA405  # EXIF tags
DIAGONAL_35MM = 43.27  # mm


def stage_photos(source: Path, out: Path, max_size: int, stage: Path, *, step: Step) -> list[Photo]:
    """All photos below a folder, upright and reduced, as files that COLMAP reads."""
    found = sorted(file for file in files_below(source) if not file.resolve().is_relative_to(out.resolve()))
    files = [file for file in found if is_picture(file.name)]
    others = [file for file in found if file.suffix.lower() in RAW_SUFFIXES]
    if not files:
        remedy = f"convert them to JPEG ({list_some(others)})" if others else "give a folder of photos, or a film"
        raise UserError(f"{source} has no photos of a known kind, such as JPEG: {remedy}")
    if others:
        warn(f"{source}: left out {counted(len(others), 'photo')} ({list_some(others)}): convert to JPEG")
    photos, budget, white = [], free_budget(), white_of(files)
    tell_profiles(files)
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_stage_photo, file, stage / f"{name}.png", max_size, budget, white)
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


def _stage_photo(file: Path, target: Path, max_size: int, budget: Budget, white: int) -> Photo:
    with open_picture(file, white, "is not a readable photo", "remove it, or restore it") as picture:
        tags = picture.getexif()
        more = tags.get_ifd(EXIF)
        picture.draft(None, (2 * max_size, 2 * max_size))
        with budget.take(decoding_memory(file, picture)):
            # decoded before anything is written: a photo that is cut short is no disk that is full
            colours = _in_colours(ImageOps.exif_transpose(picture), file, white)
            with write_errors(target):
                size = _save(colours, target, max_size)
    # zoom and a change of lens make another camera
    key = file.parent, size, str(tags.get(MODEL)), str(more.get(FOCAL_LENGTH)), str(more.get(FOCAL_LENGTH_35MM))
    return Photo(target.name, size, key, focal_in_pixels(more.get(FOCAL_LENGTH_35MM), size))


def _in_colours(picture: Image.Image, file: Path, white: int) -> Image.Image:
    """The picture in RGB, or in RGBA if a part of it is transparent."""
    if not picture.has_transparency_data:
        return converted(picture, "RGB", file, white)
    clear = converted(picture, "RGBA", file, white)
    return clear if np.asarray(clear)[..., 3].min() < 255 else clear.convert("RGB")


def stage_film(source: Path, frames: int, max_size: int, stage: Path, *, step: Step) -> list[Photo]:
    """The sharpest picture of each of `frames` parts of a film, as files that COLMAP reads."""
    photos = []
    for pixels in sharp_frames(source, frames, lambda done, total: step("choosing sharp frames", done, total)):
        name = f"frame_{len(photos) + 1:05d}.png"
        size = _save(Image.fromarray(pixels), stage / name, max_size)
        photos.append(Photo(name, size, size))
    return photos


def _save(picture: Image.Image, target: Path, max_size: int) -> Size:
    """Reduced to max_size where it is larger, colours weighed by alpha, without loss, as a temporary file."""
    scale = min(1.0, max_size / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(target, compress_level=1, icc_profile=None)
    return size


def focal_in_pixels(equivalent: Any, size: Size) -> float | None:
    """The focal length in pixels of a picture whose EXIF tells what it would be on 35 mm film (in mm, by the diagonal);
    None if that is not told or cannot be."""
    try:
        focal = float(equivalent)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return focal / DIAGONAL_35MM * float(np.hypot(*size)) if 5 < focal < 2000 else None
