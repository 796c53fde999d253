"""Loaders: one function per folder layout, each giving a Scene."""

from pathlib import Path
from typing import Protocol

from nerf_pl.scenes.blender import SPLITS, load_blender
from nerf_pl.scenes.scene import Scene, on_background
from nerf_pl.types import UserError

__all__ = ["LOADERS", "Loader", "Scene", "available_splits", "detect", "load_scene", "on_background"]


class Loader(Protocol):
    def __call__(self, root: Path, split: str, img_wh: tuple[int, int] | None, downscale: int = 1) -> Scene: ...


LOADERS: dict[str, Loader] = {"blender": load_blender}
LAYOUTS = "blender (transforms_train.json and so on)"


def detect(root: Path | str) -> str:
    """The name of the layout of the scene folder `root`: a key of LOADERS, or "llff".

    Raises UserError if there is no such folder or nothing in it is known.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of a scene, or make one with `nerf demo`")
    if layout := _layout(root):
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
    spheric: bool = False,
) -> Scene:
    """One split of the scene in the folder `root`, by the loader `dataset_name` or, with "auto", the one that fits.

    img_wh: width and height to resize the images to; downscale divides them instead. spheric is for llff and has no
    effect on other layouts. Raises UserError for a folder or an option that cannot work.
    """
    root = Path(root)
    name = detect(root) if dataset_name == "auto" else dataset_name
    if name == "llff":
        raise UserError(f"{root} is an LLFF scene, which is not supported yet; layouts understood: {LAYOUTS}")
    if name not in LOADERS:
        raise UserError(f"--dataset_name {name} is unknown: give auto or {' or '.join(LOADERS)}")
    return LOADERS[name](root, split, img_wh, downscale)


def available_splits(root: Path | str) -> tuple[str, ...]:
    """The splits that the scene folder has, in the order train, val, test."""
    return tuple(split for split in SPLITS if (Path(root) / f"transforms_{split}.json").is_file())


def _layout(root: Path) -> str | None:
    if available_splits(root):
        return "blender"
    return "llff" if (root / "poses_bounds.npy").is_file() else None
