"""Reading the pictures of a scene: sizes first, then all of them decoded by several threads into one tensor."""

import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nerf_pl.console import far
from nerf_pl.errors import DamagedError, UserError, content_of, reading
from nerf_pl.scenes.cuts import Cut
from nerf_pl.scenes.decode import (
    LINEAR_SUFFIXES,
    ORIENTATION,
    converted,
    is_transparent,
    open_picture,
    tell_profiles,
    white_of,
)
from nerf_pl.scenes.files import is_picture
from nerf_pl.scenes.memory import GB, Budget, free_memory, in_gb
from nerf_pl.scenes.store import MASK, empty_pictures, reduced
from nerf_pl.text import counted
from nerf_pl.writing import atomic_write

# what a PNG holds that says how the camera was held; Pillow would decode all of it to look
PNG_TEXT, PNG_EXIF = (b"tEXt", b"zTXt", b"iTXt"), (b"Raw profile type exif", b"XML:com.adobe.xmp")
DECODING = 12  # bytes for a pixel: Pillow holds it in 4 as decoded, then as converted or turned, then weighed by alpha
CHANGING = 24  # bytes for a pixel: floats of it before and after, and where it comes from
MEMORY, LEAST = 4 * GB, GB // 2  # that is taken to be free where the system does not tell
SMALLEST = 8  # pixels of a side that --downscale leaves: fewer show nothing, so that a digit too many is said
LONGEST = 80  # characters of a name in a message
SOURCE = "nerf_pl source"  # key of the text in a resized picture that says what it was made from

Size = tuple[int, int]  # width, height


def read_json(path: Path, remedy: str = "correct it, or restore it from the data set") -> dict[str, object]:
    """The object in a JSON file; an empty one where something else stands.

    Raises UserError if it cannot be read; the message ends with the remedy, what the user can do about a damaged file.
    """
    with reading(path, remedy, "is no JSON of a scene"):
        try:
            values = json.loads(content_of(path))  # in UTF-8, 16 or 32, with or without a mark at the beginning
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

    def turns(self) -> list[int]:
        """How EXIF says that each picture is turned, 1 to 8; 1 means upright."""
        return [_turn(file) for file in self.files]


def cut_out(files: Sequence[Path]) -> bool:
    """Whether the background of pictures was removed: some of them are decoded, and most of the border of each is
    transparent. Corners that a lens left empty, or a sky that was cut out, are less."""
    for file in files[:: max(len(files) // LOOKS, 1)]:
        try:
            with open_picture(file) as picture:
                alpha = np.asarray(converted(picture, "RGBA", file).getchannel("A"))
        except DamagedError:  # whoever reads it for its colours says what is wrong
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
            with open_picture(file) as picture:
                sizes.append(picture.size)
                if is_transparent(picture):
                    mode = "RGBA"
        except DamagedError as error:
            if is_picture(file.name):
                raise
            raise UserError(f"{file} is of no format that can be read: convert the pictures to PNG or JPEG") from error
    return Headers(files, sizes, mode)


def _turn(file: Path) -> int:
    """How EXIF says that a picture is turned."""
    if file.suffix.lower() in LINEAR_SUFFIXES:  # which have no EXIF, and are slow to open
        return 1
    with open_picture(file) as picture:
        return 1 if picture.format == "PNG" and not _has_exif(file) else turn_of(picture)


def turn_of(picture: Image.Image) -> int:
    """How EXIF says that an open picture is turned; 1 for values without a meaning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged data, some of which can be read
        told = picture.getexif().get(ORIENTATION, 1)
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _has_exif(file: Path) -> bool:
    """Whether a PNG has EXIF data, seen from its chunks: length, kind, content, checksum."""
    with file.open("rb") as png:
        png.seek(8)
        while len(head := png.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"eXIf" or (kind in PNG_TEXT and png.read(length).startswith(PNG_EXIF)):
                return True
            png.seek(4 if kind in PNG_TEXT else length + 4, 1)
    return False


def one_size(files: Sequence[Path], sizes: Sequence[Size]) -> Size:
    """The size of all pictures. Raises UserError if they differ."""
    for file, found in zip(files, sizes, strict=True):
        if found != sizes[0]:
            told = f"{found[0]}x{found[1]} pixels but {files[0].name} {sizes[0][0]}x{sizes[0][1]}"
            remedy = "all pictures of a split must have one size; resize it, or give the scene as transforms.json"
            raise UserError(f"{file} has {told}: {remedy}")
    return sizes[0]


def target_size(root: Path, native: Size, img_wh: Size | None, downscale: int) -> Size:
    """Width and height to resize to. Raises UserError for too small a picture or another aspect ratio."""
    width, height = native
    told = f"the {width}x{height} pictures in {root}"
    if img_wh is None:
        size = (width // downscale, height // downscale) if downscale >= 1 else (0, 0)
        if downscale != 1 and min(size) < SMALLEST:
            most = min(native) // SMALLEST
            remedy = f"give {most} or less" if most > 1 else "leave it out"
            raise UserError(f"--downscale {downscale} leaves {size[0]}x{size[1]} pixels of {told}: {remedy}")
        return size
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
    upright: Sequence[bool] | None = None,
    cuts: Sequence[Cut] | None = None,
    pictures: bool = True,
    cache: Path | None = None,
    masked: bool = False,
) -> UInt8[Tensor, "V H W ch"]:
    """All pictures at `sizes`, resized (Lanczos, colours weighed by alpha) as they are decoded, on one canvas each.

    upright: which are turned as EXIF says; None for none of them. cuts: the views to store in place of each picture;
    None stores pictures as they are. No more than a few pictures are in memory at their full size.
    pictures=False decodes nothing and returns black pictures that take no memory, for callers that need only cameras.
    cache: a folder that keeps resized pictures as PNG. They are used while the files are unchanged; a folder that
    cannot be written is no error. masked: there are masks, which take memory beside the pictures. Raises UserError for
    a damaged file, and if there is too little memory.
    """
    views = [[size] for size in sizes] if cuts is None else [*map(Cut.sizes, cuts, sizes)]
    first = [0, *accumulate(map(len, views))]  # view of each picture
    width, height = (max(size[axis] for of_one in views for size in of_one) for axis in range(2))
    shape = first[-1], height, width, len(mode)
    if not pictures:
        return torch.zeros(1, dtype=torch.uint8).expand(shape)
    images = _empty(files, sizes, shape, masked or any(cut.masked for cut in cuts or ()))
    budget, white = free_budget(images.nbytes), white_of(files)
    tell_profiles(files)

    def decode(index: int) -> None:
        (across, down), file = sizes[index], files[index]
        kept = None if cache is None else cache / f"{file.stem}.png"
        is_upright = upright is not None and upright[index]
        picture = None if kept is None else _kept(kept, _stamp(file, is_upright), (across, down), mode)
        if picture is None:
            picture = _resized(file, (across, down), mode, upright=is_upright, keep=kept, budget=budget, white=white)
        found = [np.array(picture)]
        if cuts:
            with budget.take(CHANGING * across * down):
                found = cuts[index].pictures(found[0])
        for view, pixels, (wide, high) in zip(
            images[first[index] : first[index + 1]], found, views[index], strict=True
        ):
            view[:high, :wide] = torch.from_numpy(pixels)  # torch lets other threads work meanwhile, NumPy would not

    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(decode, index) for index in range(len(files))]
        try:
            for done, job in enumerate(jobs):
                far(done, len(jobs))
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the rest need not be decoded
    return images


def _empty(
    files: Sequence[Path], sizes: Sequence[Size], shape: tuple[int, int, int, int], masked: bool
) -> UInt8[Tensor, "V H W ch"]:
    """Where the pictures go."""
    views, height, width, _ = shape
    pictures = counted(len(files), "picture")
    what = pictures if views == len(files) else f"{counted(views, 'view')}, cut from {pictures},"
    factor = reduced(files[0], read_headers(files[:1]).stored[0], sizes[0])
    beside = MASK * views * width * height if masked else 0
    told = f"{files[0].parent}: {what} of {width}x{height} pixels"
    return empty_pictures(shape, told=told, beside=beside, downscale=factor)


def _resized(
    file: Path, size: Size, mode: str, *, upright: bool, keep: Path | None, budget: Budget, white: int
) -> Image.Image:
    """A picture at a size, kept as that file if it is not its own."""
    with open_picture(file, white, "is damaged or cut short") as picture:
        # a JPEG can be decoded at a half, a quarter or an eighth of its size at once
        smallest = (2 * max(size), 2 * max(size)) if upright else (2 * size[0], 2 * size[1])
        picture.draft(None, smallest)
        with budget.take(decoding_memory(file, picture)):
            picture = converted(ImageOps.exif_transpose(picture) if upright else picture, mode, file, white)
            is_native = size == picture.size
            picture = picture if is_native else picture.resize(size, Image.Resampling.LANCZOS)
    if is_native:
        return picture
    if keep is not None:
        note = PngInfo()
        note.add_text(SOURCE, _stamp(file, upright))
        with suppress(UserError), atomic_write(keep) as path:
            picture.save(path, pnginfo=note, compress_level=1, icc_profile=None)
    return picture


def free_budget(taken: int = 0) -> Budget:
    """What threads that decode pictures may take: half of the memory that is free, less what is taken next."""
    return Budget(max((free_memory() or MEMORY) - taken, LEAST) // 2)


def decoding_memory(file: Path, picture: Image.Image) -> int:
    """Bytes that an open picture takes while it is decoded, converted and resized. Raises UserError if there are not as
    many."""
    needed, free = DECODING * picture.width * picture.height, free_memory()
    if free is not None and needed > free:
        told = f"{file} has {picture.width}x{picture.height} pixels, which take {in_gb(needed)} to decode"
        raise UserError(f"{told}, and {in_gb(free)} are free: reduce the picture, or use a machine with more memory")
    return needed


def _kept(kept: Path, stamp: str, size: Size, mode: str) -> Image.Image | None:
    """The resized picture of an earlier run, or None if there is none of just this file."""
    try:
        with reading(kept), Image.open(kept, formats=("PNG",)) as picture:
            picture.load()
            same = picture.info.get(SOURCE) == stamp and (picture.size, picture.mode) == (size, mode)
            return picture if same else None
    except UserError:  # or it may not be read, as that of another user
        return None


def _stamp(file: Path, upright: bool) -> str:
    """Changes when the file does, and if it is turned. Earlier versions, which kept no sRGB, had another one."""
    status = file.stat()
    return f"{file.name} {status.st_size} {status.st_mtime_ns} sRGB{' upright' if upright else ''}"


def list_some(names: Sequence[object], n: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(shortened(str(name)) for name in names[:n]) + (", ..." if len(names) > n else "")


def shortened(name: str) -> str:
    """A name, for a message; of a very long one its end."""
    return name if len(name) <= LONGEST else f"...{name[-LONGEST:]}"
