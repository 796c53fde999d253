"""Loaders: one function per folder layout, each giving a Scene."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nerf_pl.errors import UserError
from nerf_pl.scenes.blender import SPLITS, load_blender
from nerf_pl.scenes.colmap import load_colmap, model_folders
from nerf_pl.scenes.llff import POSES, faces_forward, load_llff
from nerf_pl.scenes.scene import Scene, on_background
from nerf_pl.scenes.transforms import FILE, load_transforms

__all__ = ["LOADERS", "Loader", "Scene", "available_splits", "detect", "load_scene", "on_background"]


class Loader(Protocol):
    def __call__(
        self,
        root: Path,
        split: str,
        img_wh: tuple[int, int] | None = None,
        downscale: int = 1,
        test_every: int = 8,
        spheric: bool = False,
        pictures: bool = True,
    ) -> Scene: ...


LOADERS: dict[str, Loader] = {
    "blender": load_blender,
    "llff": load_llff,
    "transforms": load_transforms,
    "colmap": load_colmap,
}

# what a folder of each layout has, in the order in which they are looked for
MARKS: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "blender": (
        "transforms_train.json and so on",
        lambda root: any((root / f"transforms_{split}.json").is_file() for split in SPLITS),
    ),
    "llff": (f"{POSES} and images", lambda root: (root / POSES).is_file()),
    "transforms": (FILE, lambda root: (root / FILE).is_file()),
    "colmap": ("sparse/0 and images", lambda root: bool(model_folders(root))),
}
LAYOUTS = ", ".join(f"{name} ({files})" for name, (files, _) in MARKS.items())


def detect(root: Path | str, spheric: bool = False) -> str:
    """The name of the layout of the scene folder `root`: a key of LOADERS.

    Raises UserError if there is no such folder or nothing in it is known.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of a scene, or make one with `nerf demo`")
    if layout := _layout(root, spheric):
        return layout
    inside = sorted(folder for folder in root.iterdir() if folder.is_dir() and _layout(folder))
    hint = f"did you mean {inside[0]}?" if inside else f"layouts understood: {LAYOUTS}"
    raise UserError(f"{root} is no scene folder: {hint}")


def load_scene(
    root: Path | str,
    dataset_name: str = "auto",
    split: str = "train",
    img_wh: tuple[int, int] | None = None,
    downscale: int = 1,
    test_every: int = 8,
    spheric: bool = False,
    pictures: bool = True,
) -> Scene:
    """One split of the scene in the folder `root`, by the loader `dataset_name` or, with "auto", the one that fits.

    img_wh: width and height to resize the images to; downscale divides them instead. test_every: where the layout has
    no splits, each so many views one is held out (0: none). spheric is for llff and has no effect on other layouts.
    pictures False leaves them black: quick, for who wants to know the cameras.
    Raises UserError for a folder or an option that cannot work.
    """
    root = Path(root)
    name = detect(root, spheric) if dataset_name == "auto" else dataset_name
    if name not in LOADERS:
        raise UserError(f"--dataset_name {name} is unknown: give auto or {' or '.join(LOADERS)}")
    if test_every < 0 or test_every == 1:
        raise UserError(f"--test_every {test_every} leaves no view to train on: give 2 or more, or 0 to hold out none")
    return LOADERS[name](root, split, img_wh, downscale, test_every, spheric, pictures)


def available_splits(root: Path | str, dataset_name: str = "auto", test_every: int = 8) -> tuple[str, ...]:
    """The splits that the scene folder has, in the order train, val, test."""
    root = Path(root)
    name = _layout(root) if dataset_name == "auto" else dataset_name
    if name is None:
        return ()
    if name == "blender":
        return tuple(split for split in SPLITS if (root / f"transforms_{split}.json").is_file())
    if name == "llff" and not test_every:
        return ("train", "val")  # the classic rule: the most central view validates
    return SPLITS if test_every else ("train",)


def _layout(root: Path, spheric: bool = False) -> str | None:
    name = next((name for name, (_, has) in MARKS.items() if has(root)), None)
    # a set with photos all around, in both layouts (as those of mip-NeRF 360 are), is better served by its model
    both = name == "llff" and not spheric and bool(model_folders(root))
    return "colmap" if both and not faces_forward(root) else name
