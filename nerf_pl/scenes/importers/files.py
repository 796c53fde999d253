"""Files that other programs wrote: pictures by the names that they use, masks, numbers in text."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, content_of
from nerf_pl.scenes.decode import open_picture
from nerf_pl.scenes.files import files_below, is_picture, pictures_in
from nerf_pl.scenes.finder import ASIDE, KEPT, REDUCED, Search, parts_of
from nerf_pl.scenes.importers.found import Source
from nerf_pl.scenes.masks import bare_name, folder_masks, masks_folder
from nerf_pl.scenes.pictures import Size

NO_PHOTO = re.compile(r"dynamic_mask_.*|.*[._-]mask", re.IGNORECASE)  # stems
REMEDY = "export it again"
HUGE = 1e30
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Pictures:
    """The pictures below a folder, by name, without those of hidden folders, of masks, depth maps and the like, and of
    reduced pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(file for file in files_below(folder) if is_picture(file.name))
        self.files = [file for file in files if _is_photo(file.relative_to(folder))]
        self._search = Search(folder, [folder], folder, reduced=False, results=True)

    def find(self, name: str) -> list[Path]:
        """The pictures that a name may mean, see `Search`: one if it is clear, else none or several. Those below the
        folder come before those elsewhere."""
        inside = self._search.candidates("/".join(parts_of(name)))
        return inside or self._search.candidates(name)


def _is_photo(path: Path) -> bool:
    aside = any(ASIDE.search(name) or REDUCED.fullmatch(name) or KEPT.fullmatch(name) for name in path.parts[:-1])
    return not aside and not NO_PHOTO.fullmatch(path.stem)


def entry_of(where: str, value: object, key: str) -> dict[str, Any]:
    """An entry of a list in a JSON file, which names a picture under a key. Raises UserError if it does not."""
    if not isinstance(value, dict) or not isinstance(value.get(key), str) or not value[key]:
        raise UserError(f"{where} has no {key}: {REMEDY}")
    return value


def place(pictures: Pictures, name: str, left_out: dict[str, list[str]]) -> Path | None:
    """The picture of that name. None if there is none or several; left_out then says so."""
    found = pictures.find(name)
    if len(found) == 1:
        return found[0]
    why = f"have several pictures of their name in {pictures.folder}" if found else f"are not in {pictures.folder}"
    left_out.setdefault(why, []).append(name)
    return None


def masks_of(source: Source, pictures: Sequence[Path]) -> list[Path | None]:
    """The mask of each picture: NAME_mask.png or the like beside it, or one in a folder of masks that lies in the
    scene's, beside the picture, or beside its folder; see `folder_masks`."""
    beside = {folder: _called_masks(folder) for folder in {picture.parent for picture in pictures}}
    found = [beside[p.parent].get(p.name) or beside[p.parent].get(p.stem) for p in pictures]
    above = [place for picture in pictures for place in (picture.parent, picture.parent.parent)]
    for folder in dict.fromkeys(masks_folder(place) for place in dict.fromkeys([source.root, *above])):
        lacking = [i for i, mask in enumerate(found) if mask is None and not pictures[i].is_relative_to(folder)]
        if lacking and folder.is_dir():
            names = [_names(source.pictures, folder.parent, pictures[i]) for i in lacking]
            for i, mask in zip(lacking, folder_masks(folder, names), strict=True):
                found[i] = mask
    return found


def _names(*folders_and_picture: Path) -> list[str]:
    """A picture as seen from several folders, the last of which is that of its masks, and its name."""
    *folders, picture = folders_and_picture
    seen = [picture.relative_to(folder).as_posix() for folder in folders if picture.is_relative_to(folder)]
    return list(dict.fromkeys([*seen, picture.name]))


def _called_masks(folder: Path) -> dict[str, Path]:
    """The pictures in a folder that are called masks, by the names that they have without that word."""
    return {name: file for file in pictures_in(folder) if (name := bare_name(file.stem)) != file.stem}


def holds(file: Path, *marks: bytes) -> bool:
    """Whether a file contains all of the marks: so an importer recognises its own, damaged or not."""
    try:
        content = content_of(file)
    except OSError:  # a folder, for example
        return False
    if content.startswith(UTF16):
        content = content.decode("utf-16", errors="replace").encode()
    return all(mark in content for mark in marks)


def stored_size(file: Path) -> Size:
    """Width and height of a picture as its pixels are stored. Raises UserError for a damaged file."""
    with open_picture(file, remedy="restore it") as picture:
        return picture.size


def read_text(file: Path) -> str:
    """The text of a file, in Unicode or as Windows of the west writes it. Raises UserError if it cannot be read."""
    try:
        content = content_of(file)
        return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; {REMEDY}") from error
    except UnicodeDecodeError as error:
        if content.startswith(UTF16) or b"\0" in content:
            raise UserError(f"{file} is not a text file: {REMEDY}") from error
        return content.decode("cp1252", errors="replace")


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
        names = " and ".join(file.name for file in files[:3])
        told = f"{files[0].parent}: {names} are both {what}"
        raise UserError(f"{told}: name the one to import, as in `nerf import FOLDER/{files[0].name}`")
    return files[0]
