"""NeRF++: a folder for each split, train, validation and test, each with rgb, pose and intrinsics, by the same names.

Poses are camera to world with the axes right, down, ahead, and intrinsics 4x4 matrices; 16 numbers each.
"""

from pathlib import Path

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import Pictures, numbers, read_text, stored_size
from nerf_pl.scenes.importers.found import Found, Photo, Source
from nerf_pl.scenes.importers.poses import opengl, pinhole

FILES = "train/rgb, train/pose, train/intrinsics"
FOLDERS = {"train": "train", "val": "validation", "test": "test"}


def recognises(source: Source) -> bool:
    parts = (source.root / "train" / part for part in ("rgb", "pose", "intrinsics"))
    return source.file is None and all(part.is_dir() for part in parts)


def read(source: Source) -> Found:
    """All views, and their splits. The folder camera_path has no pictures."""
    photos: list[Photo] = []
    splits: dict[str, list[Path]] = {}
    left_out: dict[str, list[str]] = {}
    notes: set[str] = set()
    known: dict[Path, Path] = {}
    for split, name in FOLDERS.items():
        folder = source.root / name
        if not (folder / "rgb").is_dir():
            continue
        files = {file.stem: file for file in Pictures(folder / "rgb").files}
        poses = {file.stem: file for file in sorted((folder / "pose").glob("*.txt"))}
        if unposed := [file.name for stem, file in files.items() if stem not in poses]:
            left_out[f"have no pose in {folder / 'pose'}"] = unposed
        if lacking := [stem for stem in poses if stem not in files]:
            left_out[f"are not in {folder / 'rgb'}"] = lacking
        placed = sorted(set(files) & set(poses))
        photos += [_photo(files[stem], poses[stem], notes) for stem in placed if _is_new(files[stem], known)]
        if placed:
            splits[split] = [known[files[stem].resolve()] for stem in placed]
    return Found(source.root, photos, left_out, splits=splits if len(splits) > 1 else {}, notes=sorted(notes))


def _is_new(file: Path, known: dict[Path, Path]) -> bool:
    """Whether a picture is no link to one that is known: those for validation often are those for tests."""
    return known.setdefault(file.resolve(), file) == file


def _photo(picture: Path, pose: Path, notes: set[str]) -> Photo:
    file = pose.parent.parent / "intrinsics" / pose.name
    if not file.is_file():
        raise UserError(f"{file} is missing, the intrinsics of {picture}: restore it from the data set")
    K = numbers(f"{file}", read_text(file), (16,)).reshape(4, 4)
    lens = pinhole(str(file), K, stored_size(picture), notes)
    return Photo(picture, opengl(str(pose), numbers(f"{pose}", read_text(pose), (16,)).reshape(4, 4)), lens)
