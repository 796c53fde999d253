"""Data sets and programs whose poses are not read, by their files: what a user is told who gives such a folder."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerf_pl.scenes.files import FILM_SUFFIXES, is_junk, pictures_in
from nerf_pl.scenes.finder import ASIDE

WITHOUT_PHOTOS = (".usdz", ".glb", ".gltf", ".obj", ".fbx", ".splat", ".spz", ".ksplat", ".ply", ".stl", ".las", ".e57")


@dataclass(frozen=True)
class Kind:
    """files: patterns, all of which a folder has. photos: the folder or the film that has its photos, as a pattern."""

    title: str
    files: tuple[str, ...]
    photos: str = ""


KINDS = (
    Kind("EuRoC", ("mav0/cam0/data.csv",), "mav0/cam0/data"),
    Kind("TUM RGB-D", ("groundtruth.txt", "rgb.txt"), "rgb"),
    Kind("Kapture", ("sensors/sensors.txt",), "sensors/records_data"),
    Kind("Meshroom", ("*.sfm",)),
    Kind("Stray Scanner", ("odometry.csv", "camera_matrix.csv"), "rgb.mp4"),
    Kind("ARKitScenes", ("lowres_wide.traj",), "lowres_wide"),
    Kind("7-Scenes", ("seq-*/*.pose.txt",), "seq-01"),
    Kind("7-Scenes", ("*.pose.txt", "*.color.png"), ""),
    Kind("Zero-1-to-3", ("000.npy", "000.png")),
    Kind("EasyMocap", ("intri.yml", "extri.yml")),
    Kind("KITTI", ("calib.txt", "image_*"), "image_2"),
    Kind("CO3D", ("frame_annotations.jgz",)),
    Kind("Pix4D", ("*_calibrated_camera_parameters.txt",)),
    Kind("a run of nerfstudio", ("config.yml", "nerfstudio_models")),
)


def kind_of(root: Path) -> Kind | None:
    """What has made a folder."""
    return next((kind for kind in KINDS if all(any(root.glob(pattern)) for pattern in kind.files)), None)


def what_to_do(root: Path) -> str:
    """What to do with a folder that nothing here reads: which program or data set made it, as far as that is known, and
    the command that places its photos anew. An empty text if there are none either, or no meshes."""
    kind = kind_of(root)
    photos = next(iter(sorted(root.glob(kind.photos))), None) if kind and kind.photos else photos_in(root)
    told = f"it has files of {kind.title}, whose poses are not read" if kind else ""
    if photos is not None:
        asked = f"nerf prepare {shlex.quote(str(photos))} --out {shlex.quote(f'{root.resolve().name}_scene')}"
        return f"{told}; to place its photos anew: {asked}" if kind else f"for photos alone use `nerf prepare`: {asked}"
    if kind:
        return f"{told}; `nerf prepare` places its photos anew, see docs/photos.md"
    models = sorted(file.name for file in root.iterdir() if file.suffix.lower() in WITHOUT_PHOTOS)
    return f"it has no photos, and {models[0]} alone is nothing to learn from: give the photos" if models else ""


def photos_in(root: Path) -> Path | None:
    """The folder of photos, or the film, in a folder that is no scene: itself, one inside, or one farther in. Depths,
    masks and the like are none."""
    inside = _folders([root])
    films = sorted(file for file in root.iterdir() if file.suffix.lower() in FILM_SUFFIXES and file.is_file())
    first = next((folder for folder in (root, *inside) if pictures_in(folder)), None)
    if first or films:
        return first or films[0]
    return next((folder for folder in _folders(inside) if pictures_in(folder)), None)


def _folders(places: Sequence[Path]) -> list[Path]:
    folders = (folder for place in places for folder in sorted(place.iterdir()) if folder.is_dir())
    return [folder for folder in folders if not is_junk(folder.name) and not ASIDE.search(folder.name)]
