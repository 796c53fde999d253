"""Files that other programs wrote: pictures by the names that they use, masks, numbers in text."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.decode import BROKEN_IMAGE, open_picture
from nerf_pl.scenes.files import PICTURE_SUFFIXES, files_below, is_picture
from nerf_pl.scenes.pictures import Size

ASIDE = {"mask", "masks", "depth", "depths", "confidence", "normals", "normal"}  # folders of what is no photo
SMALLER = re.compile(r"images_\d+(x\d+)?")  # pictures that were reduced
NO_PHOTO = re.compile(r"(^dynamic_mask_.*|.*[._-]mask|.*\.mask)", re.IGNORECASE)  # stems
REMEDY = "export it again"
HUGE = 1e30


class Pictures:
    """The pictures below a folder, by name. Hidden folders, and those of masks and depth maps, are left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(file for file in files_below(folder) if is_picture(file.name))
        self.files = [file for file in files if _is_photo(file.relative_to(folder))]
        self._by_name: dict[str, list[Path]] = {}
        for file in self.files:
            for name in {file.name.lower(), file.stem.lower()}:
                self._by_name.setdefault(name, []).append(file)

    def find(self, name: str) -> list[Path]:
        """The pictures that a name may mean: one if it is clear, else none or several.

        A name may have folders in front, of this computer or another, and may lack its suffix or have another one.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        for spelled in (path.name.lower(), path.stem.lower()):
            if (found := self._by_name.get(spelled)) and (
                spelled == path.name.lower() or path.suffix.lower() in PICTURE_SUFFIXES
            ):
                return _nearest(found, path)
        return []


def _is_photo(path: Path) -> bool:
    folders = path.parts[:-1]
    aside = any(name.lower() in ASIDE or SMALLER.fullmatch(name) for name in folders)
    return not aside and not NO_PHOTO.fullmatch(path.stem)


def _nearest(files: Sequence[Path], path: PurePosixPath) -> list[Path]:
    """Those of the files that share most of the folders at the end of the path."""
    wanted = [part.lower() for part in path.parts[-2::-1]]

    def shared(file: Path) -> int:
        found = [part.lower() for part in file.parts[-2::-1]]
        same = [a == b for a, b in zip(wanted, found, strict=False)]
        return same.index(False) if False in same else len(same)

    most = max(map(shared, files))
    return [file for file in files if shared(file) == most]


def place(pictures: Pictures, name: str, left_out: dict[str, list[str]]) -> Path | None:
    """The picture of that name. None if there is none or several; left_out then says so."""
    found = pictures.find(name)
    if len(found) == 1:
        return found[0]
    why = f"have several pictures of their name in {pictures.folder}" if found else f"are not in {pictures.folder}"
    left_out.setdefault(why, []).append(name)
    return None


def mask_of(folder: Path, picture: Path) -> Path | None:
    """The mask of a picture, by the names that programs give it: black is what does not count."""
    beside = picture.parent
    names = [f"{stem}{end}.png" for stem in (picture.stem, picture.name) for end in ("_mask", ".mask", "")]
    places = [folder / "masks", beside / "masks", beside.parent / "masks", folder / "mask"]
    candidates = [beside / name for name in names if name.lower() != picture.name.lower()]
    candidates = [file for file in candidates if NO_PHOTO.fullmatch(file.stem)]
    candidates += [place / name for place in places for name in (*names, picture.name)]
    return next((file for file in candidates if file.is_file() and file != picture), None)


def holds(file: Path, *marks: bytes) -> bool:
    """Whether a file contains all of the marks: so an importer recognises its own, damaged or not."""
    try:
        content = file.read_bytes()
    except OSError:  # a folder, for example
        return False
    return all(mark in content for mark in marks)


def stored_size(file: Path) -> Size:
    """Width and height of a picture as its pixels are stored. Raises UserError for a damaged file."""
    try:
        with open_picture(file) as picture:
            return picture.size
    except BROKEN_IMAGE as error:
        raise UserError(f"{file} is not a readable picture: restore it") from error


def read_text(file: Path) -> str:
    """The text of a file. Raises UserError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; {REMEDY}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a text file: {REMEDY}") from error


def within_reason(values: Float[np.ndarray, "*shape"]) -> bool:
    """Whether all numbers are finite, and products of them will be."""
    return bool((np.abs(values) < HUGE).all())


def numbers(where: str, text: str | None, counts: tuple[int, ...]) -> Float[np.ndarray, "N"]:
    """The finite numbers in a text, as many as one of the counts. Raises UserError that begins with `where`."""
    wanted = " or ".join(map(str, counts))
    try:
        found = np.array([float(word) for word in (text or "").replace(",", " ").split()])
    except ValueError as error:
        raise UserError(f"{where} is {text!r:.60}; {wanted} numbers belong there: {REMEDY}") from error
    if len(found) not in counts or not within_reason(found):
        raise UserError(f"{where} is {text!r:.60}; {wanted} finite numbers belong there: {REMEDY}")
    return found


def the_file(files: Sequence[Path], what: str) -> Path:
    """The only one of the files. Raises UserError if there are several."""
    if len(files) > 1:
        names = " and ".join(str(file) for file in files[:3])
        raise UserError(f"{names} are both {what}: name the one to import, as in `nerf import {files[0]}`")
    return files[0]
