"""Which files of a folder are pictures. Hidden files, and those that systems put beside photos, never are."""

import os
from collections.abc import Iterator
from pathlib import Path

from nerf_pl.errors import UserError
from nerf_pl.scenes.decode import HEIF_SUFFIXES, LINEAR_SUFFIXES

PICTURE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".avif",
    *HEIF_SUFFIXES, *LINEAR_SUFFIXES,
}  # fmt: skip
RAW_SUFFIXES = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"}  # what a sensor saw
FILM_SUFFIXES = {
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mts", ".insv", ".mpg", ".mpeg", ".wmv", ".gif",
}  # fmt: skip
# of network drives, of archives made on a Mac, of Windows, of file systems; all of them in lower case
SYSTEM_NAMES = {
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "thumbs.db", "ehthumbs.db",
    "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "icon\r", "__pycache__",
}  # fmt: skip


def is_picture(name: str) -> bool:
    """Whether a file of that name is one, seen from its ending."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name belongs to a system: previews, recycled and hidden files."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, without those in its folders, sorted by path."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    found = [folder / name for name in names if is_picture(name) and not is_junk(name)]
    return sorted(file for file in found if file.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, and in folders that it links to, sorted by path within each folder. No junk."""
    known: set[str] = set()  # links may lead in a circle
    for place, folders, names in os.walk(folder, followlinks=True):
        known.add(os.path.realpath(place))
        inner = (name for name in folders if not is_junk(name))
        folders[:] = sorted(name for name in inner if os.path.realpath(os.path.join(place, name)) not in known)
        yield from (file for name in sorted(names) if not is_junk(name) and (file := Path(place, name)).is_file())
