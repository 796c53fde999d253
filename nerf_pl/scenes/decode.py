"""One picture from its file, whatever its format and its kind of pixels, as 8-bit sRGB."""

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageFile, UnidentifiedImageError

from nerf_pl.console import warn
from nerf_pl.errors import DamagedError, UserError, reading
from nerf_pl.extras import extra
from nerf_pl.ops.colour import srgb
from nerf_pl.scenes.profiles import PROFILE, note, to_srgb

# Pillow tries these alone, whatever the ending of a file: others start programs (EPS), or are no photos. HEIF comes
# with pillow-heif, AVIF with Pillow 11.3
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "HEIF")
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
LINEAR_SUFFIXES = {".exr": "exr_pipe", ".hdr": "hdr_pipe"}  # pictures of linear light, and what FFmpeg calls them
TIFF_SUFFIXES = {".tif", ".tiff"}
DEEPER = "save it with 8 or 16 bits, or with floating-point red, green and blue"
EIGHT_BIT = {"1", "L", "P", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}  # Pillow's modes
DEEP = {"I;16", "I;16L", "I;16B", "I;16N", "I"}  # grey, of 16 or 32 bits
DEEP_SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm"}
WHITES = (255, 1023, 4095, 65535)  # of 8, 10, 12 and 16 bits
ORIENTATION = 0x0112  # EXIF tag, 1 to 8; 5 to 8 mean that rows are stored as columns
BRIGHT, LOOKS = 0.5, 2  # share of a picture that is brighter than white, from which on it is said; pictures looked at
TILED_EXR = 0x200  # in the version of an EXR file

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it makes of damaged tags; `reading` says what matters
Image.MAX_IMAGE_PIXELS = None  # `memory.Budget` refuses what is too large for this machine


@contextmanager
def open_picture(
    file: Path,
    white: int = WHITES[-1],
    told: str = "is not a readable picture",
    remedy: str = "restore it from the data set",
) -> Iterator[Image.Image]:
    """A picture, not decoded yet if its format allows that. Linear light becomes sRGB, brighter than 1 is white. white:
    see `white_of`.

    Raises UserError for a format that needs a package, and DamagedError for a file that turns out, also while it is
    decoded, to be no picture; told and remedy are what that says.
    """
    with reading(file, remedy, told), _opened(file, white) as picture:
        yield picture


@contextmanager
def _opened(file: Path, white: int) -> Iterator[Image.Image]:
    if file.stat().st_size == 0:  # of a copy that was cut off; Pillow would say that it is of no known format
        raise ValueError("the file is empty")
    if (linear := _linear_light(file)) is not None:
        with _eight_bit(linear) as picture:
            yield picture
        return
    formats = _formats(file.suffix.lower())
    if file.suffix.lower() in HEIF_SUFFIXES and "HEIF" not in formats:
        raise UserError(f'{file} is a HEIC photo, which needs pillow-heif: pip install "nerf_pl[heic]", or convert it')
    if file.suffix.lower() == ".avif" and "AVIF" not in formats:
        raise UserError(f"{file} is an AVIF picture: pip install --upgrade pillow, or convert it to PNG")
    with Image.open(file, formats=formats) as picture:
        yield _of_few_bits(file, picture, white) if white != WHITES[-1] and _is_deep(picture) else picture


def white_of(files: Sequence[Path]) -> int:
    """The value that is white in pictures of 16 or 32 bits: programs also keep 8, 10 or 12 bits in them. The brightest
    pixel of all pictures tells how many; fewer than 16 are said. So are pictures whose linear light is too bright."""
    _doubt_linear(files)
    brightest, example = 0, None
    for file in files:
        if file.suffix.lower() not in DEEP_SUFFIXES:
            continue
        try:
            with open_picture(file) as picture:
                if picture.mode in DEEP or _is_deep(picture):
                    example, brightest = example or file, max(brightest, _brightest(file, picture))
        except DamagedError:  # whoever reads it for its colours says what is wrong
            continue
        if brightest > WHITES[-2]:
            break
    white = next((white for white in WHITES if brightest <= white), WHITES[-1])
    if example is None or brightest == 0 or white == WHITES[-1]:
        return WHITES[-1]
    told = f"pictures such as {example} have 16 bits or more, but no value above {brightest}"
    warn(f"{told}: {white} is taken to be white, as in {white.bit_length()} bits")
    return white


def converted(picture: Image.Image, mode: str, file: Path, white: int = WHITES[-1]) -> Image.Image:
    """The decoded picture of a file in Pillow's mode L, RGB or RGBA, its colours in sRGB; 16 bits are rounded to 8.
    white: see `white_of`.

    Raises UserError for pixels that are no colours, such as depths.
    """
    if picture.mode in EIGHT_BIT or picture.mode == "LAB":
        return to_srgb(picture).convert(mode)
    if picture.mode in DEEP:
        values = np.asarray(picture)
        if values.min() >= 0 and values.max() <= white:
            grey = Image.fromarray(((255 * values.astype(np.uint32) + white // 2) // white).astype(np.uint8))
            return to_srgb(_with_profile(grey, picture)).convert(mode)
    raise UserError(f"{file} has pixels of the kind {picture.mode}, which are no colours: {DEEPER}")


def tell_profiles(files: Sequence[Path]) -> None:
    """Say once which colour profiles become sRGB, and which cannot be used."""
    told = set[str]()
    for file in files:
        try:
            with reading(file), Image.open(file, formats=_formats(file.suffix.lower())) as picture:
                kind, line = note(picture, file)
        except DamagedError:  # whoever reads it for its colours says what is wrong
            continue
        if kind and kind not in told:
            told.add(kind)
            warn(line)


def is_transparent(picture: Image.Image) -> bool:
    """Whether a picture may have transparent pixels, as its header says."""
    return picture.mode != "LAB" and ("A" in picture.getbands() or "transparency" in picture.info)


def _is_deep(picture: Image.Image) -> bool:
    """Whether a colour picture that is not decoded yet has 16 bits, of which Pillow keeps the upper 8."""
    tiles = picture.tile if isinstance(picture, ImageFile.ImageFile) and picture.mode in EIGHT_BIT else ()
    return any(";16" in str(tile.args) for tile in tiles)


def _brightest(file: Path, picture: Image.Image) -> int:
    """Of the values of a picture of 16 or 32 bits; of a colour picture with more than 12 bits about that."""
    format, brightest = picture.format or "", int(np.asarray(picture).max())
    if picture.mode in DEEP or 256 * brightest > WHITES[-2]:
        return brightest if picture.mode in DEEP else 256 * brightest
    return int(_deep_colours(file, format).max())


def _of_few_bits(file: Path, picture: Image.Image, white: int) -> Image.Image:
    """A colour picture of 16 bits, of which it uses fewer."""
    values = _deep_colours(file, picture.format or "")
    found = Image.fromarray(((255 * values + white // 2) // white).clip(0, 255).astype(np.uint8))
    found.getexif()[ORIENTATION] = picture.getexif().get(ORIENTATION, 1)
    return _with_profile(found, picture)


def _with_profile(found: Image.Image, picture: Image.Image) -> Image.Image:
    """A picture with the colour profile of another one."""
    found.info |= {name: value for name, value in picture.info.items() if name == PROFILE}
    return found


def _deep_colours(file: Path, format: str) -> Int[np.ndarray, "H W ch"]:
    """The values of a PNG or TIFF picture of 16 bits."""
    frame = _first_frame(file, f"{format.lower()}_pipe")
    order, channels = ">" if frame.format.name.endswith("be") else "<", len(frame.format.components)
    rows = np.frombuffer(memoryview(frame.planes[0]), f"{order}u2").reshape(frame.height, -1)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels).astype(np.int64)


def _linear_tiff(file: Path) -> Float[np.ndarray, "H W ch"]:
    """The linear colours of a TIFF of floating-point numbers, weighed by alpha if there is one. Raises
    UnidentifiedImageError for another one that Pillow cannot read."""
    tifffile = extra("tifffile", f"{file}, a TIFF of floating-point numbers,")
    try:
        with tifffile.TiffFile(file) as opened:
            page = opened.pages[0]
            if page.dtype is None or page.dtype.kind != "f" or set(page.axes) != set("YXS"):
                raise UserError(f"{file} has pixels of the kind {page.dtype}, which are no colours: {DEEPER}")
            values = np.asarray(page.asarray(), np.float32)
            found = np.moveaxis(values, page.axes.index("S"), -1)
            if found.shape[-1] == 4 and 2 in page.extrasamples:  # alpha that colours are not weighed by
                found = np.concatenate([found[..., :3] * found[..., 3:], found[..., 3:]], -1)
    except (RuntimeError, ImportError, NotImplementedError) as error:  # a kind of compression that needs a package
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read ({reason}): save it without compression, or as OpenEXR") from error
    if found.shape[-1] not in (3, 4):
        raise UserError(f"{file} has {found.shape[-1]} channels: save it with red, green and blue (and alpha) alone")
    return found


def _linear_light(file: Path) -> Float[np.ndarray, "H W ch"] | None:
    """The linear colours, and alpha, of a picture of such; None for other pictures."""
    suffix = file.suffix.lower()
    if kind := LINEAR_SUFFIXES.get(suffix):
        return _linear(file, kind)
    if suffix in TIFF_SUFFIXES:
        try:
            Image.open(file, formats=_formats(suffix)).close()
        except UnidentifiedImageError:
            return _linear_tiff(file)
    return None


def _doubt_linear(files: Sequence[Path]) -> None:
    """Say so if most of a picture of linear light is brighter than white."""
    for file in [file for file in files if file.suffix.lower() in {*LINEAR_SUFFIXES, *TIFF_SUFFIXES}][:LOOKS]:
        try:
            with reading(file):
                linear = _linear_light(file)
        except UserError:  # whoever reads it for its colours says what is wrong
            continue
        if linear is not None and float((linear[..., :3].max(-1) > 1).mean()) > BRIGHT:
            told = f"most of {file} is brighter than 1, which becomes white, as in other pictures of linear light"
            warn(f"{told}: divide the values so that 1 is white")
            return


@cache
def _formats(suffix: str) -> tuple[str, ...]:
    """Those of FORMATS that can be read here."""
    if suffix in HEIF_SUFFIXES:
        try:
            from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports] (an extra)
        except ImportError:
            pass
        else:
            register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _linear(file: Path, kind: str) -> Float[np.ndarray, "H W ch"]:
    """The linear colours, and alpha, of an EXR or Radiance HDR picture; grey becomes RGB."""
    if not file.stat().st_size or (kind == "exr_pipe" and not _is_whole(file.read_bytes())):
        raise OSError(f"{file} is cut short")
    frame = _first_frame(file, kind)
    name = frame.format.name
    dtype = np.dtype("<f2" if "f16" in name else "<f4")
    if not (name.startswith(("gbr", "gray")) and ("f16" in name or "f32" in name) and name.endswith("le")):
        raise UserError(f"{file} has pixels of the kind {name}, which are no colours: save it with floating point")
    rows = [np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1) for plane in frame.planes]
    planes = [row[:, : frame.width].astype(np.float32) for row in rows]
    order = [2, 0, 1, *range(3, len(planes))] if name.startswith("gbr") else [0, 0, 0, *range(1, len(planes))]
    return np.stack([planes[i] for i in order], -1)


def _first_frame(file: Path, kind: str) -> Any:
    """The picture in a file, as FFmpeg decodes it."""
    av, FFmpegError = extra("av", file), extra("av.error", file).FFmpegError
    try:
        with file.open("rb") as opened, av.open(opened, "r", format=kind) as film:
            return next(film.decode(video=0))
    except StopIteration as error:
        raise OSError(f"{file} holds no picture") from error
    except FFmpegError as error:
        if "not yet implemented" in str(error).lower():
            told = f"{file} has layers or a kind of compression that cannot be read"
            raise UserError(f"{told}: save it with the channels R, G, B (and A) alone, compressed as ZIP") from error
        raise OSError(str(error)) from error


def _eight_bit(linear: Float[np.ndarray, "H W ch"]) -> Image.Image:
    """Linear colours, weighed by alpha if there is one, as an sRGB picture."""
    linear = np.nan_to_num(linear, nan=0.0, posinf=1.0, neginf=0.0)
    colours, alpha = linear[..., :3], linear[..., 3:].clip(0, 1)
    if alpha.shape[-1]:
        colours = np.where(alpha > 0, colours / np.maximum(alpha, 1e-6), colours)
    colours = colours.clip(0, 1)
    curved = srgb(torch.from_numpy(colours)).numpy()
    return Image.fromarray(np.round(255 * np.concatenate([curved, alpha], -1)).astype(np.uint8))


def _is_whole(data: bytes) -> bool:
    """Whether an EXR file has all of its last chunk; FFmpeg shows black in place of what is missing."""
    try:
        magic, version = struct.unpack_from("<II", data)
        if magic != 20000630:
            return False
        place = 8
        while data[place]:  # attributes: name, type, length, value
            place = data.index(0, data.index(0, place) + 1) + 1
            place += 4 + struct.unpack_from("<I", data, place)[0]
        place += 1
        offsets = [struct.unpack_from("<Q", data, place)[0]]
        while place + 8 * len(offsets) < min(offsets):
            offsets += struct.unpack_from("<Q", data, place + 8 * len(offsets))
        last = max(offsets) + (16 if version & TILED_EXR else 4)
        return last + 4 + struct.unpack_from("<I", data, last)[0] <= len(data)
    except (struct.error, IndexError, ValueError):
        return False
