"""Masks of photos: which pixels are learned from and judged by."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageOps
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.scenes.lenses import fits
from nerf_pl.scenes.pictures import BROKEN_IMAGE, Size

Warp = Callable[[np.ndarray, bool], np.ndarray]
"""Straightens a picture (h, w, ch); True takes the nearest pixel instead of blending."""


def hiding_mask(picture: Path) -> Path | None:
    """Instant-NGP's mask of what moves in a picture, beside it: what is not black there does not count."""
    file = picture.with_name(f"dynamic_mask_{picture.stem}.png")
    return file if file.is_file() else None


def read_masks(
    shown: Sequence[Path | None],
    hidden: Sequence[Path | None],
    natives: Sequence[Size],
    sizes: Sequence[Size],
    *,
    upright: bool,
    warps: Sequence[Warp],
) -> Bool[Tensor, "C H W"] | None:
    """The pixels that count, picture by picture: where `shown` is not black and `hidden` is; None if there is no mask.

    natives: sizes of the pictures, whose shape the masks must have; sizes: those to resize to, on a canvas that holds
    all; warps: how the pictures are straightened. Raises UserError for a damaged mask, or one of another shape.
    """
    if not any(shown) and not any(hidden):
        return None
    masks = torch.zeros(len(sizes), max(h for _, h in sizes), max(w for w, _ in sizes), dtype=torch.bool)

    def read(index: int) -> None:
        width, height = sizes[index]
        view = masks[index, :height, :width].fill_(True)
        for file, hides in ((shown[index], False), (hidden[index], True)):
            if file is not None:
                marked = _decode(file, natives[index], sizes[index], upright)
                marked = warps[index](marked[:, :, None].astype(np.uint8), True)[:, :, 0] > 0
                view &= torch.from_numpy(marked != hides)

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, range(len(sizes))))
    return masks


def _decode(file: Path, native: Size, size: Size, upright: bool) -> Bool[np.ndarray, "h w"]:
    """Where a mask is not black."""
    try:
        with Image.open(file) as picture:
            picture = (ImageOps.exif_transpose(picture) if upright else picture).convert("L")
    except BROKEN_IMAGE as error:
        raise UserError(f"{file} is damaged or cut short: restore it from the data set") from error
    if not fits(native, picture.size):
        found, needed = ("x".join(map(str, size)) for size in (picture.size, native))
        raise UserError(f"{file} is {found} but its picture {needed}: the two must have one aspect ratio")
    return np.array(picture.resize(size, Image.Resampling.NEAREST)) > 0
