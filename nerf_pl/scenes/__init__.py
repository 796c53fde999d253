"""Loaders: one function per folder layout, each giving a Scene."""

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nerf_pl.console import warn
from nerf_pl.errors import UserError, reading
from nerf_pl.scenes import blender, colmap, llff, transforms
from nerf_pl.scenes.backgrounds import name_of, on_its_background, outlines_to_carve, with_wide_outlines
from nerf_pl.scenes.bars import without_bars
from nerf_pl.scenes.clearings import with_trusted_points
from nerf_pl.scenes.conventions import MATRICES, MODEL, ROWS, Convention
from nerf_pl.scenes.cut_outs import masks_as_asked
from nerf_pl.scenes.files import FILM_SUFFIXES, files_below, is_junk, is_picture
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.runs import run_at, scene_of
from nerf_pl.scenes.scene import Scene, frame_of, on_background, one_per_photo, some_views, views_of_photos, with_pixels
from nerf_pl.scenes.sound import require_sound

__all__ = [
    "LOADERS", "Loader", "Request", "Scene", "available_splits", "detect", "frame_of", "load_scene", "name_of",
    "on_background", "one_per_photo", "outlines_to_carve", "require_sound", "some_views", "views_of_photos",
    "with_pixels", "with_wide_outlines",
]  # fmt: skip

MISNAMED = re.compile(r"transforms?(_train|_val|_test)?\.json(\.txt)?|poses_bounds\.npy", re.IGNORECASE)
# by their endings: what holds folders, and files of layouts
ARCHIVES = {".zip", ".7z", ".rar", ".tgz", ".gz", ".bz2", ".xz", ".r3d"}
ASSETS = {".json", ".npy", ".bin", ".txt", ".ply"}
UP = 3  # folders above a part of a scene, as sparse/0 and images/left are, at most
RESTORE = "restore the scene, or make it anew"


@dataclass(frozen=True)
class Loader:
    """How one layout is read. recognises: whether a folder has it; splits: those that the folder has with this
    test_every; files: what is looked for, for messages; poses: how it has them."""

    load: Callable[[Path, Request], Scene]
    recognises: Callable[[Path], bool]
    splits: Callable[[Path, int], tuple[str, ...]]
    files: str
    poses: Convention = MATRICES


# in the order in which they are looked for
LOADERS: dict[str, Loader] = {
    "blender": Loader(blender.load_blender, blender.recognises, blender.splits, blender.FILES),
    "llff": Loader(llff.load_llff, llff.recognises, llff.splits, llff.FILES, ROWS),
    "transforms": Loader(transforms.load_transforms, transforms.recognises, transforms.splits, transforms.FILES),
    "colmap": Loader(colmap.load_colmap, colmap.recognises, colmap.splits, colmap.FILES, MODEL),
}


def detect(root: Path | str, spheric: bool | None = None) -> str:
    """The name of the layout of the scene folder `root`: a key of LOADERS.

    Raises UserError if there is no such folder or nothing in it is known.
    """
    root = Path(root)
    if not root.is_dir():
        if root.is_file():
            raise UserError(f"{root} is not a folder: {_instead(root)}")
        told = "give the folder of a scene, or make one: nerf prepare PHOTOS, or nerf demo"
        raise UserError(f"{root} is not a folder: {told}")
    with reading(root, RESTORE):
        return _detected(root, spheric)


def _detected(root: Path, spheric: bool | None) -> str:
    if (layout := _layout(root, spheric)) and not (layout == "colmap" and _is_model(root) and _above(root)):
        if blender.recognises(root) and transforms.recognises(root):
            told = f"{root} has {transforms.FILE} beside files for each split"
            warn(f"{told}: it is read as {layout} (--dataset_name takes transforms or blender)")
        return layout
    if run_at(root) is None and (above := _above(root)):
        raise UserError(f"{root} is a part of a scene: give {above}, its folder")
    folders = _folders(root)
    inside = [folder for folder in folders if _layout(folder)]
    inside = inside or [inner for folder in folders for inner in _folders(folder) if _layout(inner)]
    known = ", ".join(f"{name} ({loader.files})" for name, loader in LOADERS.items())
    hint = f"did you mean {inside[0]}?" if inside else f"layouts understood: {known}; for photos alone nerf prepare"
    if (run := run_at(root)) is not None:
        hint = _scene_instead(run)
    elif not inside and (program := _program(root)):
        hint = f"it has files of {program}: nerf import {shlex.quote(str(root))} makes a scene of them"
    elif not inside and (misnamed := _misnamed(root)):
        hint = f"{misnamed.name} is not looked for: call it {_usual(misnamed.name)}"
    elif not inside and (told := _unread(root)):
        hint = told
    raise UserError(f"{root} is no scene folder: {hint}")


def _above(root: Path) -> Path | None:
    """The scene that a folder is in, as its pictures or its model are."""
    folders = [folder for folder in list(root.resolve().parents)[:UP] if os.access(folder, os.R_OK)]
    return next((folder for folder in folders if _layout(folder)), None)


def _is_model(root: Path) -> bool:
    """Whether a folder holds the files of a COLMAP model, and no pictures."""
    return colmap.model_folders(root) == [root] and not any(is_picture(file.name) for file in files_below(root))


def _instead(file: Path) -> str:
    """What to do with a file in place of the folder of a scene."""
    quoted, suffix = shlex.quote(str(file)), file.suffix.lower()
    if suffix in ARCHIVES:
        return "it is an archive; unpack it, then give the folder of the scene"
    if suffix in FILM_SUFFIXES:
        return f"nerf prepare {quoted} makes a scene of a film"
    if suffix in ASSETS and (layout := _layout(file.parent)):
        return f"give the folder of the scene, {file.parent} (its layout is {layout})"
    if (run := run_at(file)) is not None:
        return _scene_instead(run)
    from nerf_pl.scenes.importers import SUFFIXES, Source, recognised

    if suffix in SUFFIXES and recognised(Source(file.parent, file)):
        return f"nerf import {quoted} makes a scene of it"
    return "give the folder of a scene; nerf prepare makes one of a film, or of a folder of photos"


def _scene_instead(run: Path) -> str:
    scene = scene_of(run)
    return f"it is of the run {run}; give the folder of its scene{'' if scene is None else f', {scene}'}"


def _misnamed(root: Path) -> Path | None:
    """A file that is one of a layout but for its name."""
    files = (file for file in sorted(root.iterdir()) if MISNAMED.fullmatch(file.name) and file.is_file())
    return next((file for file in files if file.name != _usual(file.name)), None)


def _usual(name: str) -> str:
    """The name that a layout has for a file."""
    return re.sub("^transforms?", "transforms", name.lower()).removesuffix(".txt")  # which Windows hides


def _program(root: Path) -> str:
    """The program whose scene a folder holds, which can be imported; an empty text if there is none."""
    from nerf_pl.scenes.importers import IMPORTERS, Source, recognised

    return " and ".join(IMPORTERS[name].title for name in recognised(Source(root)))


def _unread(root: Path) -> str:
    from nerf_pl.scenes.importers.unread import what_to_do

    return what_to_do(root)


def load_scene(
    root: Path | str,
    request: Request = Request(),  # noqa: B008 (frozen)
    dataset_name: str = "auto",
    trained: Scene | None = None,
) -> Scene:
    """The views that are asked for of the scene in the folder `root`, by the loader `dataset_name` or, with "auto", the
    one that fits. trained: the training views, if they are at hand; see `bars.without_bars`. Raises UserError for a
    folder or an option that cannot work.

        >>> scene = load_scene("my_scene", Request("val"))
        >>> scene.image(0).shape  # (H, W, 3), in [0, 1]
        torch.Size([16, 16, 3])
    """
    root = Path(root)
    name = detect(root, request.spheric) if dataset_name == "auto" else dataset_name
    loader = _loader(name)
    if request.test_every < 0 or request.test_every == 1:
        told = f"--test_every {request.test_every} leaves no view to train on"
        raise UserError(f"{told}: give 2 or more, or 0 to hold out none")
    with reading(root, RESTORE):
        scene = with_trusted_points(loader.load(root, request))
        scene = without_bars(
            masks_as_asked(scene, request), request, lambda: trained or _training_views(root, request, loader)
        )
        scene = on_its_background(scene, request)
    require_sound(scene, root)
    return replace(scene, cameras=replace(scene.cameras, pixel_offset=request.pixel_offset), endless=None)


def _training_views(root: Path, request: Request, loader: Loader) -> Scene | None:
    """The training views with their bars; None if there are none that can be read, which is said."""
    if "train" not in loader.splits(root, request.test_every):
        return None
    request = replace(request, split="train")
    try:
        return without_bars(masks_as_asked(loader.load(root, request), request), request, lambda: None)
    except UserError as error:
        warn(f"{root}: whether the pictures for training have bars is not known: {error}")
        return None


def available_splits(root: Path | str, dataset_name: str = "auto", test_every: int = 8) -> tuple[str, ...]:
    """The splits that the scene folder has, in the order train, val, test; none if its layout is unknown."""
    root = Path(root)
    with reading(root, RESTORE):
        name = _layout(root) if dataset_name == "auto" else dataset_name
        return () if name is None else _loader(name).splits(root, test_every)


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and not is_junk(folder.name))


def _loader(name: str) -> Loader:
    if name not in LOADERS:
        raise UserError(f"--dataset_name {name} is unknown: give auto or {' or '.join(LOADERS)}")
    return LOADERS[name]


def _layout(root: Path, spheric: bool | None = None) -> str | None:
    name = next((name for name, loader in LOADERS.items() if loader.recognises(root)), None)
    if name == "blender" and "train" not in blender.splits(root, 0) and transforms.recognises(root):
        return "transforms"
    # a set with photos all around, in both layouts (as those of mip-NeRF 360 are), is better served by its model
    both = name == "llff" and not spheric and colmap.recognises(root)
    return "colmap" if both and not llff.faces_forward(root) else name
