"""Pictures inside a page: as data URIs of a sensible size, maps of errors, and the legends of colours."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from nerf_pl.console import warn
from nerf_pl.media import depth_colours

Pixels = UInt8[np.ndarray, "H W 3"]

SIDE = 640  # most pixels of a picture on the longer side
SMALL = 256  # pictures of no more than this stay exact
QUALITY = 86  # of JPEG
TOPS = (8, 16, 32, 64, 128, 255)  # of the scale of errors, of 255
NOT_SCORED = (128, 128, 128)
# colours of errors, from none to the top of the scale; brightness rises evenly
RAMP = np.array([(14, 12, 28), (72, 32, 110), (160, 44, 108), (226, 92, 66), (248, 170, 72), (252, 246, 190)], float)
STOPS = 17  # of a gradient


def read_picture(path: Path) -> Pixels | None:
    """The RGB pixels of a PNG. None if there is none, and with a warning if it is damaged."""
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        warn(f"{path} cannot be read, and is left out of the report")
        return None


def shrunk(pixels: Pixels, side: int = SIDE) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with at most so many pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(round(scale * width), 1), max(round(scale * height), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def data_uri(pixels: Pixels) -> str:
    """The picture as the address of an <img>: a PNG if it is small, else a JPEG."""
    buffer, is_small = io.BytesIO(), max(pixels.shape[:2]) <= SMALL
    picture = Image.fromarray(pixels)
    if is_small:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return as_uri(buffer.getvalue(), "image/png" if is_small else "image/jpeg")


def as_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def errors_of(picture: Pixels, target: Pixels) -> Float[np.ndarray, "H W"]:
    """The mean absolute difference of red, green and blue, 0 to 255."""
    return np.abs(picture.astype(np.float32) - target).mean(-1)


def top_of(errors: Sequence[Float[np.ndarray, "_ _"]]) -> int:
    """The top of the scale that suits maps of errors: all but one pixel in fifty are below it."""
    high = max((float(np.percentile(each, 98)) for each in errors), default=0.0)
    return next((top for top in TOPS if high <= top), TOPS[-1])


def error_colours(errors: Float[np.ndarray, "H W"], top: int, mask: Pixels | None = None) -> Pixels:
    """A map of errors in colours. mask: grey where it is black, as those pixels are not scored."""
    at = np.clip(errors / top, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(at.astype(int), len(RAMP) - 2)
    part = (at - low)[..., None]
    colours = ((1 - part) * RAMP[low] + part * RAMP[low + 1] + 0.5).astype(np.uint8)
    if mask is not None and mask.shape == colours.shape:
        colours[mask[..., 0] < 128] = NOT_SCORED
    return colours


def _gradient(colours: Callable[[Float[np.ndarray, "1 n"]], UInt8[np.ndarray, "1 n 3"]]) -> str:
    found = colours(np.linspace(0, 1, STOPS)[None])[0]
    return f"linear-gradient(90deg,{','.join(f'#{r:02x}{g:02x}{b:02x}' for r, g, b in found.tolist())})"


def error_legend(top: int) -> str:
    """The colours of errors, with their numbers."""
    bar = _gradient(lambda x: error_colours(x * top, top))
    told = "" if top == TOPS[-1] else "≥ "
    return _legend(bar, "0", f"{told}{top} of 255", "error")


def depth_legend(ends: tuple[float, float] | None) -> str:
    """The colours of depth, with the numbers of both ends if they are known. Numbers are even along it."""
    low, high = ends or (0.0, 1.0)
    bar = _gradient(lambda x: depth_colours((low + x * (high - low)).astype(np.float32), low, high))
    return _legend(bar, "near" if ends is None else f"{low:.3g}", "far" if ends is None else f"{high:.3g}", "depth")


def _legend(bar: str, low: str, high: str, what: str) -> str:
    told = f'role="img" aria-label="colours of {what}, from {low} to {high}"'
    return f'<div class="scale" {told}><span>{low}</span><i style="background:{bar}"></i><span>{high}</span></div>'


def megabytes(size: float) -> str:
    """Such as 3.2 MB, or 64 kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{math.ceil(size / 1e3)} kB"
