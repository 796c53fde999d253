"""Where the pictures are that the file of a scene names. Names come from other machines, systems and programs: their
separators, endings, letters and folders may differ from those on the disk."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.decode import HEIF_SUFFIXES
from nerf_pl.scenes.files import RAW_SUFFIXES, files_below, is_picture, pictures_in

SAME_KIND = ({".jpg", ".jpeg", ".jpe", ".jfif"}, {".tif", ".tiff"}, HEIF_SUFFIXES)
# folders of what is no photo
ASIDE = re.compile(
    r"mask|depth|(^|[ ._-])(normals?|semantics?|segments|segmentations?|confidence)($|[ ._-])", re.IGNORECASE
)
# folders of what was made of photos
RESULTS = re.compile(r"render|result|output|^runs$|^logs$|^ckpts$", re.IGNORECASE)
MASKS = re.compile(r"mask|segment|alpha|matte", re.IGNORECASE)
KEPT = re.compile(r"images_\d+x\d+")  # resized pictures that an earlier run keeps
REDUCED = re.compile(r"images_\d+")
UNREAD = sorted({".gif", ".jp2", ".j2k", ".tga", ".psd", ".jxl", ".svg", ".dds", ".pfm", ".npy"} | RAW_SUFFIXES)
# where pictures, and masks (True), of a data set lie, seen from the folder of its JSON file: of ScanNet++
BESIDE = {("nerfstudio", False): ("../resized_images",), ("nerfstudio", True): ("../resized_anon_masks",)}
SPLITS = {"train", "val", "test"}


@dataclass
class Search:
    """How the pictures of a file are looked for.

    source: the file that names them, for messages. places: folders that names are relative to, the right one first.
    root: the folder of the scene, all of which is searched at last. masks: masks are looked for, not photos. split: the
    one that the file is of, if it is of one: the folders of other splits hold other pictures of the same names.
    reduced: pictures in images_2 and so on may stand for those that are missing. above: folders in which a whole path
    may begin, though not the end of one. results: photos may also lie in a folder of what a program made of them.
    """

    source: Path
    places: Sequence[Path]
    root: Path
    masks: bool = False
    split: str | None = None
    reduced: bool = True
    above: Sequence[Path] = ()
    results: bool = False
    _listings: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    _scene: dict[str, list[Path]] | None = None

    def find(self, names: Sequence[str], tell: bool = True) -> list[Path | None]:
        """The file of each name; None where there is none.

        A name is tried as it stands, then with other separators, endings and letters. Only if no picture of its folder
        is found so has that folder moved: then the end of the path is looked for, at last the name alone in all of the
        scene. One line says how many files have other names than they were told. Raises UserError if two files could be
        meant, or one file by two names.
        """
        found = [self._one(name, self._as_told(name)) for name in names]
        kept = {_folder(name) for name, file in zip(names, found, strict=True) if file}
        for i, name in enumerate(names):
            if found[i] is None and _folder(name) not in kept:
                found[i] = self._one(name, self._elsewhere(name))
        self._check_pairs(names, found)
        if tell:
            self._tell(names, found)
        return found

    def candidates(self, name: str) -> list[Path]:
        """The files that a name may mean: one if it is clear, none if there is none."""
        return _different(chain(self._as_told(name), self._elsewhere(name)))

    def _one(self, name: str, ways: Iterator[list[Path]]) -> Path | None:
        """The file that the first way leads to that leads anywhere."""
        files = _different(ways)
        if len(files) > 1:
            told = " or ".join(str(_within(self.root, file)) for file in sorted(files)[:3])
            raise UserError(f"{self.source}: {name} could be {told}: correct the name, or remove all but one of them")
        return files[0] if files else None

    def _as_told(self, name: str) -> Iterator[list[Path]]:
        """Files of that name in the folder that it names, seen from the first place."""
        for spelled in _spellings(name):
            file = self.places[0] / spelled
            yield self._best(file.parent, file.name)
        for spelled in _spellings(name):
            if not Path(spelled).is_absolute():
                yield self._under(self.places[0], _parts(spelled))

    def _elsewhere(self, name: str) -> Iterator[list[Path]]:
        """Files at the end of the path in any place, and those of that name anywhere in the scene."""
        for spelled in _spellings(name):
            yield from self._at_the_end(_parts(spelled))

    def _at_the_end(self, parts: Sequence[str]) -> Iterator[list[Path]]:
        """Files at the end of a path, seen from any place, from the whole path on; then those of its name."""
        yield [file for place in (*self.places, *self.above) for file in self._under(place, parts)]
        for start in range(1, len(parts)):
            ends = [file for place in self.places for file in self._under(place, parts[start:])]
            yield [file for file in ends if self._may_be(file, parts)]
        for part in parts[-1:]:
            if self._scene is None:
                self._scene = _by_stem(file for file in files_below(self.root) if is_picture(file.name))
            files = [file for file in self._scene.get(_key(_stem(part)), []) if self._may_be(file, parts)]
            whole = [file for file in files if not self._has_folder(file, REDUCED.fullmatch)]
            reduced = _least_reduced(files) if self.reduced else []
            yield _nearest(_closest(whole or reduced, part), parts)

    def _may_be(self, file: Path, parts: Sequence[str]) -> bool:
        """Whether a file that lies elsewhere is of the kind and split of the pictures that are looked for."""
        if self.masks:
            of_kind = bool(MASKS.search(str(_within(self.root, file))))
        else:
            of_kind = not self._has_folder(file, lambda folder: self._is_aside(folder) and folder not in parts)
        named = SPLITS & {word for part in parts[:-1] for word in _words(part)}
        own = {self.split} | named if self.split else named or SPLITS
        other = self._has_folder(file, lambda folder: (told := SPLITS & _words(folder)) and not told & own)
        return of_kind and not other and not self._has_folder(file, KEPT.fullmatch)

    def _is_aside(self, folder: str) -> bool:
        """Whether a folder of this name has pictures that are no photos."""
        return bool(ASIDE.search(folder)) or (not self.results and bool(RESULTS.search(folder)))

    def _has_folder(self, file: Path, test: Callable[[str], object]) -> bool:
        """Whether the name of a folder between the scene's and the file passes a test."""
        return any(map(test, _within(self.root, file).parts[:-1]))

    def _under(self, place: Path, parts: Sequence[str]) -> list[Path]:
        """The pictures at the end of a path whose folders may be written in other letters."""
        folders = [place]
        for part in parts[:-1]:
            if not folders:  # a path of thousands of folders would take long
                return []
            folders = [inner for folder in folders for inner in _folders(folder, part)]
        return [file for folder in folders for file in self._best(folder, parts[-1])] if parts else []

    def _best(self, folder: Path, name: str) -> list[Path]:
        """The pictures in a folder that are closest to a name."""
        file = folder / name
        if is_picture(name) and os.path.isfile(file):
            return [file]
        if folder not in self._listings:
            self._listings[folder] = _by_stem(pictures_in(folder)) if os.path.isdir(folder) else {}
        files = _closest(self._listings[folder].get(_key(_stem(name)), []), name)
        return files or ([file] if name and os.path.isfile(file) else [])

    def _check_pairs(self, names: Sequence[str], found: Sequence[Path | None]) -> None:
        """Raises UserError if a file has two names, one of which is not its own."""
        owners: dict[Path, str] = {}
        for name, file in zip(names, found, strict=True):
            if file is None or (owner := owners.setdefault(file, name)) == name or parts_of(owner) == parts_of(name):
                continue
            if not all(_is_as_told(self.places[0] / told, file) for told in (owner, name)):
                told = f"{owner} and {name} could both be {_within(self.root, file)}"
                raise UserError(f"{self.source}: {told}: correct the names, or restore the missing one")

    def _tell(self, names: Sequence[str], found: Sequence[Path | None]) -> None:
        """Say how many files have other names than they were told, with an example."""
        pairs = [(name, file) for name, file in zip(names, found, strict=True) if file]
        other = [(name, file) for name, file in pairs if not _is_as_told(self.places[0] / name, file)]
        if other:
            (name, file), what = other[0], "masks" if self.masks else "pictures"
            told = f"{len(other)} of {len(names)} {what} are found under other names or in other folders"
            name = name if self.places[0] == self.root else _within(self.root, self.places[0] / name)
            warn(f"{self.source}: {told}, such as {_within(self.root, file)} for {name}")


def find_named(
    path: Path, names: Sequence[str], split: str | None = None, *, masks: bool = False, tell: bool = True
) -> list[Path | None]:
    """The pictures or masks that a JSON file in the folder of a scene names; None for those that are missing. See
    `Search`."""
    root = path.parent
    inner = ["masks"] if masks else [*([split] if split else []), "images"]
    places = [root, *(root / name for name in inner), *(root / name for name in BESIDE.get((root.name, masks), ()))]
    return Search(path, places, root, masks, split, above=[root.parent]).find(names, tell)


def of_other_kind(file: Path) -> Path | None:
    """The file beside the place of a missing picture that has its name and an ending of pictures that are not read."""
    if not _stem(file.name):
        return None
    names = (file.with_name(f"{_stem(file.name)}{suffix}") for ending in UNREAD for suffix in (ending, ending.upper()))
    return next((other for other in names if os.path.isfile(other)), None)


def told_path(root: Path, name: str) -> Path:
    """The path that a name most likely means, for messages."""
    path = root / list(_spellings(name))[-1]
    return path if _ending(path.name) else path.with_name(f"{path.name}.png") if path.name else path


def _is_as_told(told: Path, file: Path) -> bool:
    """Whether a file has the path that was told, which may leave out .png."""
    return file in (told, told.with_name(f"{told.name}.png"))


def _spellings(name: str) -> Iterator[str]:
    """A name as it stands, then as a path of this system, then as one without what belongs to addresses."""
    path = re.sub(r"^file:(//(localhost(?=/))?)?", "", name.strip().replace("\\", "/"), flags=re.IGNORECASE)
    yield from dict.fromkeys([name, path, unquote(path), unquote(re.sub(r"(\.\w+)[?#].*$", r"\1", path))])


def _parts(spelled: str) -> list[str]:
    """The folders and the name in a path, without what leads up or to a drive."""
    return [part for part in spelled.split("/") if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)]


def _folder(name: str) -> str:
    """The folder in a name, the same for names that write it differently."""
    return "/".join(parts_of(name)[:-1])


def parts_of(name: str) -> list[str]:
    """The same for names that write one path in different ways."""
    return _parts(list(_spellings(name))[-1])


def _key(name: str) -> str:
    """The same for names that differ in capital letters or in how accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(name: str) -> str:
    """A name without the ending of a picture."""
    return name[: -len(ending)] if (ending := _ending(name)) else name


def _ending(name: str) -> str:
    """The ending of a picture in a name; "" if it is left out. A name such as r_0.5 has none."""
    ending = os.path.splitext(name)[1]
    return ending if is_picture(name) or ending.lower() in RAW_SUFFIXES else ""


def _by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_key(_stem(file.name)), []).append(file)
    return found


def _folders(folder: Path, name: str) -> list[Path]:
    """The folder of that name or, if there is none, those whose names differ in letters alone."""
    if os.path.isdir(folder / name):
        return [folder / name]
    if not os.path.isdir(folder):
        return []
    return sorted(inner for inner in folder.iterdir() if _key(inner.name) == _key(name) and inner.is_dir())


def _different(ways: Iterator[list[Path]]) -> list[Path]:
    """The files that the first way leads to that leads anywhere, each once."""
    files = next((files for files in ways if files), [])
    return list({file.resolve(): file for file in reversed(files)}.values())[::-1]


def _least_reduced(files: Sequence[Path]) -> list[Path]:
    """Of pictures in images_4, images_8 and so on those in the folder with the largest."""
    factors = [min((int(name[7:]) for name in file.parts if REDUCED.fullmatch(name)), default=1) for file in files]
    return [file for file, factor in zip(files, factors, strict=True) if factor == min(factors)]


def _nearest(files: Sequence[Path], parts: Sequence[str]) -> list[Path]:
    """Those of the files that share most of the folders at the end of a path."""
    wanted = [_key(part) for part in parts[-2::-1]]

    def shared(file: Path) -> int:
        same = [a == _key(b) for a, b in zip(wanted, file.parts[-2::-1], strict=False)]
        return same.index(False) if False in same else len(same)

    most = max(map(shared, files), default=0)
    return [file for file in files if shared(file) == most]


def _words(folder: str) -> set[str]:
    """The words in the name of a folder, such as rgb_train."""
    return set(re.split(r"[ ._-]+", folder.lower()))


def _closest(files: Sequence[Path], name: str) -> list[Path]:
    """Of pictures that differ from a name in letters and endings those that no other one comes closer to it than."""
    found = [(file, _difference(name, file)) for file in files]

    def is_closest(difference: tuple[int, bool]) -> bool:
        nearer = [d for _, d in found if d[0] <= difference[0] and d[1] <= difference[1]]
        return all(d == difference for d in nearer)

    return [file for file, difference in found if is_closest(difference)]


def _difference(name: str, file: Path) -> tuple[int, bool]:
    """How far the ending of a file is from that of a name, and whether the letters before it differ."""
    letters, ending, told = _stem(file.name) != _stem(name), file.suffix, _ending(name)
    if not told:  # the usual one stands for an ending that is left out
        return (0 if ending == ".png" else 1 if ending == ".PNG" else 2), letters
    if ending == told:
        return 0, letters
    alike = {told.lower()}.union(*(kind for kind in SAME_KIND if told.lower() in kind))
    return (1 if ending.lower() == told.lower() else 2 if ending.lower() in alike else 3), letters


def _within(root: Path, file: Path) -> Path:
    return file.relative_to(root) if file.is_relative_to(root) else file
