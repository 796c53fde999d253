"""Reading the pictures of a scene: sizes first, then all of them decoded by several threads into one tensor."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nerf_pl import media
from nerf_pl.errors import UserError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 mean that rows are stored as columns

# what Pillow raises for damaged files, depending on where the damage is
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
# what a PNG holds that says how the camera was held; Pillow would decode all of it to look
PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
SOURCE = "nerf_pl source"  # key of the text in a resized picture that says what it was made from

Size = tuple[int, int]  # width, height


def read_json(path: Path, remedy: str = "restore it from the data set") -> dict[str, object]:
    """The object in a JSON file; an empty one where something else stands.

    Raises UserError if it cannot be read; the message ends with the remedy, what the user can do about a damaged file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file: {remedy}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise UserError(f"{path} is not valid JSON ({where}): {remedy}") from error
    return values if isinstance(values, dict) else {}


LOOKS = 4  # pictures, at least, that are decoded to see whether they have a background
MOSTLY = 0.6  # share of a border


@dataclass(frozen=True)
class Headers:
    """What the beginnings of picture files say. stored: sizes before EXIF turns anything; mode: the Pillow mode, RGB or
    RGBA, that holds all of the pictures."""

    files: Sequence[Path]
    stored: list[Size]
    mode: str

    def sizes(self, upright: bool) -> list[Size]:
        """Width and height of each picture; upright: turned as EXIF says a camera was held."""
        if not upright:
            return self.stored
        pairs = zip(self.files, self.stored, strict=True)
        return [(height, width) if _is_turned(file) else (width, height) for file, (width, height) in pairs]


def cut_out(files: Sequence[Path]) -> bool:
    """Whether the background of pictures was removed: some of them are decoded, and most of the border of each is
    transparent. Corners that a lens left empty, or a sky that was cut out, are less."""
    for file in files[:: max(len(files) // LOOKS, 1)]:
        try:
            with Image.open(file) as picture:
                alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        except (OSError, SyntaxError, ValueError):  # whoever reads it for its colours says what is wrong
            return False
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        if np.mean(border == 0) < MOSTLY:
            return False
    return True


def read_headers(files: Sequence[Path]) -> Headers:
    """Sizes and mode of pictures, without decoding them. Raises UserError for a file that is no picture."""
    sizes, mode = [], "RGB"
    for file in files:
        try:
            with Image.open(file) as picture:
                sizes.append(picture.size)
                if "A" in picture.getbands() or "transparency" in picture.info:
                    mode = "RGBA"
        except BROKEN_IMAGE as error:
            raise UserError(_unreadable(file)) from error
    return Headers(files, sizes, mode)


def _is_turned(file: Path) -> bool:
    """Whether EXIF says that a picture's rows are stored as columns."""
    try:
        with Image.open(file) as picture:
            if picture.format == "PNG":
                content = file.read_bytes()
                if not any(mark in content for mark in PNG_EXIF):
                    return False
            return picture.getexif().get(ORIENTATION, 1) >= 5
    except BROKEN_IMAGE as error:
        raise UserError(_unreadable(file)) from error


def _unreadable(file: Path) -> str:
    return f"{file} is not a readable picture: restore it from the data set"


def one_size(files: Sequence[Path], sizes: Sequence[Size]) -> Size:
    """The size of all pictures. Raises UserError if they differ."""
    for file, found in zip(files, sizes, strict=True):
        if found != sizes[0]:
            told = f"{found[0]}x{found[1]} pixels but {files[0].name} {sizes[0][0]}x{sizes[0][1]}"
            raise UserError(f"{file} has {told}: all pictures of a split must have one size")
    return sizes[0]


def target_size(root: Path, native: Size, img_wh: Size | None, downscale: int) -> Size:
    """Width and height to resize to. Raises UserError for an empty picture or another aspect ratio."""
    width, height = native
    told = f"the {width}x{height} pictures in {root}"
    if img_wh is None:
        if downscale < 1 or min(width // downscale, height // downscale) < 1:
            raise UserError(f"--downscale {downscale} leaves nothing of {told}: give 1 to {min(native)}")
        return width // downscale, height // downscale
    wide, high = img_wh
    if min(wide, high) < 1:
        raise UserError(f"--img_wh {wide} {high} is empty: give a width and a height of 1 or more")
    fitting_height, fitting_width = round(wide * height / width), round(high * width / height)
    if high != fitting_height and wide != fitting_width:  # either may be the one that was rounded
        fitting = f"{wide} {max(fitting_height, 1)}"
        raise UserError(f"--img_wh {wide} {high} changes the aspect ratio of {told}: give {fitting}")
    return wide, high


def target_sizes(root: Path, native: Sequence[Size], img_wh: Size | None, downscale: int) -> list[Size]:
    """`target_size` of pictures that may have several sizes, which leave no one img_wh to ask for."""
    if img_wh is not None and len(set(native)) > 1:
        found = ", ".join(f"{w}x{h}" for w, h in sorted(set(native))[:3])
        raise UserError(
            f"--img_wh {img_wh[0]} {img_wh[1]}: the pictures in {root} have several sizes ({found}); give --downscale"
        )
    return [target_size(root, size, img_wh, downscale) for size in native]


def read_pictures(
    files: Sequence[Path],
    sizes: Sequence[Size],
    mode: str,
    *,
    upright: bool = True,
    change: Callable[[int, np.ndarray], np.ndarray] | None = None,
    pictures: bool = True,
    cache: Path | None = None,
) -> UInt8[Tensor, "C H W ch"]:
    """All pictures at `sizes`, resized (Lanczos, colours weighed by alpha) as they are decoded, on one canvas each.

    change(index, picture (h, w, ch)) gives what to store in place of the decoded picture: of the same size. No more
    than a few pictures are in memory at their full size. pictures=False decodes nothing and returns black pictures that
    take no memory, for callers that need only cameras. cache: a folder that keeps resized pictures as PNG. They are
    used while the files are unchanged; a folder that cannot be written is no error. Raises UserError for a damaged
    file.
    """
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    if not pictures:
        return torch.zeros(1, dtype=torch.uint8).expand(len(files), height, width, len(mode))
    images = torch.zeros(len(files), height, width, len(mode), dtype=torch.uint8)

    def decode(index: int) -> None:
        (across, down), file = sizes[index], files[index]
        kept = None if cache is None else cache / f"{file.stem}.png"
        picture = None if kept is None else _kept(kept, file, (across, down), mode)
        if picture is None:
            picture = _resized(file, (across, down), mode, upright=upright, keep=kept)
        pixels = np.array(picture)
        # torch lets other threads work meanwhile, NumPy would not
        images[index, :down, :across] = torch.from_numpy(change(index, pixels) if change else pixels)

    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(decode, index) for index in range(len(files))]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the rest need not be decoded
    return images


def _resized(file: Path, size: Size, mode: str, *, upright: bool, keep: Path | None) -> Image.Image:
    """A picture at a size, kept as that file if it is not its own."""
    try:
        with Image.open(file) as picture:
            turned = upright and picture.getexif().get(ORIENTATION, 1) >= 5
            # a JPEG can be decoded at a half, a quarter or an eighth of its size at once
            picture.draft(None, (2 * max(size), 2 * max(size)) if turned else (2 * size[0], 2 * size[1]))
            picture = (ImageOps.exif_transpose(picture) if upright else picture).convert(mode)
    except BROKEN_IMAGE as error:
        raise UserError(f"{file} is damaged or cut short: restore it from the data set") from error
    if size == picture.size:
        return picture
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if keep is not None:
        note = PngInfo()
        note.add_text(SOURCE, _stamp(file))
        with suppress(UserError), media.atomic_write(keep) as path:
            picture.save(path, pnginfo=note, compress_level=1)
    return picture


def _kept(kept: Path, file: Path, size: Size, mode: str) -> Image.Image | None:
    """The resized picture of an earlier run, or None if there is none of just this file."""
    try:
        with Image.open(kept) as picture:
            picture.load()
            same = picture.info.get(SOURCE) == _stamp(file) and (picture.size, picture.mode) == (size, mode)
            return picture if same else None
    except BROKEN_IMAGE:
        return None


def _stamp(file: Path) -> str:
    """Changes when the file does."""
    status = file.stat()
    return f"{file.name} {status.st_size} {status.st_mtime_ns}"


def canvas_sizes(sizes: Sequence[Size]) -> Int[Tensor, "C 2"] | None:
    """`Cameras.sizes` of these pictures: None where they all have one size."""
    return torch.tensor(sizes) if len(set(sizes)) > 1 else None


def list_some(names: Sequence[object], n: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(map(str, names[:n])) + (", ..." if len(names) > n else "")
