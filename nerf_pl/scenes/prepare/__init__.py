"""Own photos, or a film, into a scene: placed by COLMAP, without lens distortion, with a transforms.json."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from nerf_pl.errors import UserError
from nerf_pl.scenes import LOADERS
from nerf_pl.scenes.colmap import import_pycolmap
from nerf_pl.scenes.files import RAW_SUFFIXES, is_picture
from nerf_pl.scenes.prepare.folder import POINTS, write_scene
from nerf_pl.scenes.prepare.mapping import choose_matcher, reconstruct, require_space
from nerf_pl.scenes.prepare.photos import stage_film, stage_photos
from nerf_pl.scenes.prepare.placing import Step
from nerf_pl.scenes.prepare.sheet import sheet_of, write_sheet
from nerf_pl.text import counted
from nerf_pl.writing import locked, write_errors

FEWEST = 5  # placed photos; fewer make no scene
GPU_SIZE, CPU_SIZE = 1600, 800  # pixels: what a training on this machine can make something of
MAP = "cameras.png"  # every prepared scene has it
WORK = ".prepare-"  # begins the name of the folder in which a scene is made
ADVICE = (
    "take more, with much overlap, walking around, sharp, of textured things that do not move; or try --matcher "
    "sequential (frames in the order of time) or exhaustive"
)


@dataclass(frozen=True)
class Prepared:
    """What became of the photos. error: mean distance, in pixels, of a feature from where its 3D point is projected.
    max_size: the longer side, in pixels, that larger photos were reduced to."""

    out: Path
    placed: tuple[str, ...]
    missing: tuple[str, ...]
    error: float
    max_size: int


def prepare(
    source: Path,
    out: Path,
    max_size: int | None = None,
    frames: int = 100,
    *,
    matcher: str = "auto",
    overwrite: bool = False,
    step: Step = lambda title, done, total: None,
) -> Prepared:
    """Make the scene folder `out` from a folder of photos or from a film.

    Photos are turned upright and reduced to max_size pixels, the longer side; None is 1600 where there is a GPU and
    800 elsewhere. Of a film the sharpest of each of `frames` parts is taken. `out` gets transforms.json (poses
    normalised, see `normalize_poses`), the photos in images, free of lens distortion, points.ply, the points that they
    see, and cameras.png, a map of the cameras. step is told about the progress. Nothing is written unless all went
    well. Raises UserError if that cannot work, and if fewer than half of the photos could be placed; a sheet beside
    `out` then shows which.
    """
    source, out = Path(source), Path(out)
    if max_size is None:
        max_size = GPU_SIZE if torch.cuda.is_available() else CPU_SIZE
    _check_options(max_size, frames, matcher)
    import_pycolmap("nerf prepare")
    with locked(out, "wait for it, or give another --out"), _workshop(source, out, overwrite) as work:
        sheet_of(out).unlink(missing_ok=True)  # of an earlier try
        stage = work / "stage"
        stage.mkdir()
        is_film = source.is_file()
        if is_film:
            photos = stage_film(source, frames, max_size, stage, step=step)
        else:
            photos = stage_photos(source, out, max_size, stage, step=step)
        if len(photos) < FEWEST:
            raise UserError(f"{source} has {counted(len(photos), 'photo')}, too few to place them: {ADVICE}")
        how = choose_matcher(matcher, len(photos), is_film)
        require_space(stage, photos, how)
        model = reconstruct(stage, photos, how, step)
        views = [] if model is None else [model.image(i) for i in model.reg_image_ids()]
        views.sort(key=lambda view: view.name)
        placed = tuple(Path(view.name).stem for view in views)
        if model is None or len(placed) < max(FEWEST, len(photos) / 2):
            sheet = write_sheet(out, stage, [photo.name for photo in photos], placed)
            found = f"only {len(placed)}" if placed else "none"
            told = f"{found} of the {len(photos)} photos in {source} could be placed ({sheet} shows which)"
            raise UserError(f"{told}: {ADVICE}")
        write_scene(model, views, stage, work, step=step)
        (out / "transforms.json").unlink(missing_ok=True)  # it names the pictures that are about to go
        for name in (MAP, "images", POINTS, "transforms.json"):
            _replace(work / name, out / name, work)
    missing = tuple(name for photo in photos if (name := Path(photo.name).stem) not in placed)
    return Prepared(out, placed, missing, model.compute_mean_reprojection_error(), max_size)


def _check_paths(source: Path, out: Path, overwrite: bool) -> None:
    if not source.exists():
        raise UserError(f"{source} does not exist: give a folder of photos, or a film")
    if source.is_file() and (is_picture(source.name) or source.suffix.lower() in RAW_SUFFIXES):
        raise UserError(f"{source} is one photo: give the folder of all photos, or a film")
    if source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {out} holds the photos themselves: give a folder of its own")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f"--out {out} is not empty: give another folder, or --overwrite for a new scene in its place")
    if overwrite and out.is_dir() and (there := _of_others(out)):
        raise UserError(f"--out {out} holds {there}, which nerf prepare did not make: give a folder of its own")


def _of_others(out: Path) -> str:
    """What in a folder is of another scene: a new one would take the place of its pictures, or not be found beside its
    poses. An empty text if there is nothing."""
    layout = next((f"{name} ({each.files})" for name, each in LOADERS.items() if each.recognises(out)), "")
    if layout and not layout.startswith("transforms"):
        return f"a scene of the layout {layout}"
    ours = (out / MAP).is_file()
    return "" if ours else next((name for name in ("images", "transforms.json") if (out / name).exists()), "")


def _check_options(max_size: int, frames: int, matcher: str) -> None:
    if max_size < 64:
        raise UserError(f"--max_size {max_size} is too small to recognise anything: give 64 or more pixels")
    if frames < FEWEST:
        raise UserError(f"--frames {frames} is too few to place them: give {FEWEST} or more")
    if matcher not in ("auto", "exhaustive", "sequential"):
        raise UserError(f"--matcher {matcher} is unknown: give auto, exhaustive or sequential")


@contextmanager
def _workshop(source: Path, out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder in `out`, on the same disk; after a failure nothing is left of either, nor of earlier ones
    that were killed. Raises UserError if `out` cannot be the place."""
    for left in out.glob(f"{WORK}*") if out.is_dir() else ():
        shutil.rmtree(left, ignore_errors=True)
    _check_paths(source, out, overwrite)
    is_new = not out.exists()
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as work:
                yield Path(work)
        finally:
            if is_new and not any(out.iterdir()):
                out.rmdir()


def _replace(new: Path, old: Path, work: Path) -> None:
    """Put a file or folder in the place of an old one, if there is one. A folder is moved out of the way: to remove
    thousands of photos takes so long that a kill could come between, with the new ones nowhere yet."""
    if old.is_dir():
        old.replace(work / f"old-{old.name}")
    if new.exists():
        new.replace(old)
    else:
        old.unlink(missing_ok=True)
