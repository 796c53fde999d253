"""Masks of photos: which pixels are learned from and judged by."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageOps
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.cuts import Cut
from nerf_pl.scenes.decode import EIGHT_BIT, is_transparent, open_picture
from nerf_pl.scenes.files import files_below, is_picture
from nerf_pl.scenes.lenses import fits
from nerf_pl.scenes.pictures import Size, list_some
from nerf_pl.text import counted

MASKS = "masks"  # the folder beside photos
MANY = 8  # masks, one of which at least should leave something out
HALF = 127  # of 255, from where on a pixel of a JPEG is white
WORD = r"(?:masks?|segmentation|seg|alpha|matte)"
BESIDE = re.compile(rf"{WORD}[ ._-]+(?P<after>.+)|(?P<before>.+?)[ ._-]+{WORD}", re.IGNORECASE)


def hiding_mask(picture: Path) -> Path | None:
    """Instant-NGP's mask of what moves in a picture, beside it: what is not black there does not count."""
    file = picture.with_name(f"dynamic_mask_{picture.stem}.png")
    return file if file.is_file() else None


def masks_folder(root: Path) -> Path:
    """The folder of masks in that of a scene: masks, or mask, in any letters."""
    if (usual := root / MASKS).is_dir():
        return usual
    found = sorted(inner for inner in root.iterdir() if inner.name.lower() in (MASKS, "mask") and inner.is_dir())
    return found[0] if found else usual


def folder_masks(folder: Path, names: Sequence[Sequence[str]]) -> list[Path | None]:
    """The mask of each photo in a folder, which has the subfolders of the photos; None for a photo that has none.

    A mask is called NAME.png, or like the photo with .png after its suffix, as COLMAP wants it; any suffix of a picture
    will do. Where no mask has such a name, NAME_mask.png, mask_NAME.png and the like are taken, which is said. names:
    those that each photo goes by, the first one first, with subfolders. Photos without a mask are said.
    """
    if not folder.is_dir():
        return [None] * len(names)
    there = sorted(file for file in files_below(folder) if is_picture(file.name))
    there.sort(key=lambda file: file.suffix.lower() != ".png")
    known: dict[str, Path] = {}
    for file in there:
        known.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    found = _named(known, names)
    if there and not any(found):
        found = _named({bare_name(key): file for key, file in known.items()}, names)
        if example := next((file for file in found if file), None):
            masks = counted(sum(map(bool, found)), "mask")
            warn(f"{folder}: {masks} with other names than the photos have, such as {example.name}")
    whole = [each[0] for each, mask in zip(names, found, strict=True) if mask is None]
    if there and whole:
        told = f"{len(whole)} of {len(names)} photos have no mask ({list_some(whole)})"
        warn(f"{folder}: {told}, and count whole")
    return found


def _named(known: Mapping[str, Path], names: Sequence[Sequence[str]]) -> list[Path | None]:
    """The mask of each photo by its names."""
    return [next((known[key] for key in _mask_names(each) if key in known), None) for each in names]


def bare_name(name: str) -> str:
    """The name of a mask, with its folders, without the words that say what it is."""
    folder, slash, last = name.rpartition("/")
    match = BESIDE.fullmatch(last)
    return folder + slash + (match["after"] or match["before"] if match else last)


def _mask_names(names: Sequence[str]) -> Iterator[str]:
    """What the mask of a photo may be called, without its suffix."""
    for name in names:
        yield from (name, PurePosixPath(name).with_suffix("").as_posix())


def read_masks(
    shown: Sequence[Path | None],
    hidden: Sequence[Path | None],
    natives: Sequence[Size],
    sizes: Sequence[Size],
    *,
    upright: Sequence[bool],
    cuts: Sequence[Cut],
) -> Bool[Tensor, "V H W"] | None:
    """The pixels that count, view by view: where `shown` is not black and `hidden` is; None if there is no mask.

    natives: sizes of the pictures, whose shape the masks must have; sizes: those to resize to, on a canvas that holds
    all; upright: which pictures are turned as EXIF says; cuts: how they become views, and what of these counts. Raises
    UserError for a damaged mask, or one of another shape.
    """
    if not any(shown) and not any(hidden) and not any(cut.masked for cut in cuts):
        return None
    views = [*map(Cut.sizes, cuts, sizes)]
    first = [0, *accumulate(map(len, views))]
    width, height = (max(size[axis] for of_one in views for size in of_one) for axis in range(2))
    masks = torch.zeros(first[-1], height, width, dtype=torch.bool)

    def read(index: int) -> None:
        parts = masks[first[index] : first[index + 1]]
        parts = [part[:high, :wide].fill_(True) for part, (wide, high) in zip(parts, views[index], strict=True)]
        for part, seen in zip(parts, cuts[index].seen(sizes[index]), strict=True):
            if seen is not None:
                part &= torch.from_numpy(seen)
        for file, hides in ((shown[index], False), (hidden[index], True)):
            if file is not None:
                marked = _decode(file, natives[index], sizes[index], upright[index])
                marked = cuts[index].pictures(marked[:, :, None].astype(np.uint8), nearest=True)
                for part, pixels in zip(parts, marked, strict=True):
                    part &= torch.from_numpy((pixels[:, :, 0] > 0) != hides)

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, range(len(sizes))))
    _tell_odd(shown, masks, first, [sum(w * h for w, h in of_one) for of_one in views])
    return masks


def _tell_odd(
    shown: Sequence[Path | None], masks: Bool[Tensor, "V H W"], first: Sequence[int], pixels: Sequence[int]
) -> None:
    """Say so if masks leave nothing of their pictures, or if none of many leaves anything out. first: the first view of
    each picture; pixels: how many it has."""
    counts = masks.flatten(1).sum(1).tolist()
    left = {file: sum(counts[first[i] : first[i + 1]]) for i, file in enumerate(shown) if file is not None}
    if empty := [file.name for file, count in left.items() if count == 0]:
        told = f"{len(empty)} of {len(left)} masks leave nothing of their pictures ({list_some(empty)})"
        warn(f"{next(iter(left)).parent}: {told}: white is what counts")
    whole = sum(pixels[i] for i, file in enumerate(shown) if file is not None)
    if len(left) >= MANY and sum(left.values()) == whole:
        told = f"{len(left)} masks leave nothing out: black is what does not count, and all else does"
        warn(f"{next(iter(left)).parent}: {told}")


def _decode(file: Path, native: Size, size: Size, upright: bool) -> Bool[np.ndarray, "h w"]:
    """Where a mask is neither black nor transparent; JPEGs have noise where they are black.

    It is turned as EXIF says if its picture is, or if it fits only so.
    """
    with open_picture(file, told="is damaged or cut short") as stored:
        lossy = stored.format in ("JPEG", "MPO")
        ways = (ImageOps.exif_transpose(stored), stored) if upright else (stored, ImageOps.exif_transpose(stored))
        mask = next((mask for mask in ways if fits(native, mask.size)), stored)
        marked = np.asarray(mask.convert("L") if mask.mode in EIGHT_BIT else mask) > (HALF if lossy else 0)
        if is_transparent(mask):
            shown = np.asarray(mask.convert("RGBA").getchannel("A")) > 0
            marked = marked & shown if marked.any() else shown  # a black shape on nothing is one that counts
    picture = Image.fromarray(marked)
    if not fits(native, picture.size):
        found, needed = ("x".join(map(str, size)) for size in (picture.size, native))
        raise UserError(f"{file} is {found} but its picture {needed}: the two must have one aspect ratio")
    return np.array(picture.resize(size, Image.Resampling.NEAREST))
