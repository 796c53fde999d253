"""Whether pictures without names in a file are in the order of its rows."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from nerf_pl.console import warn
from nerf_pl.errors import DamagedError, UserError
from nerf_pl.scenes.decode import converted, open_picture
from nerf_pl.scenes.pictures import list_some

GLANCE = 8  # pixels of a picture along each side, by which it is known
OTHER, SAME = 24.0, 8.0  # mean levels of 256 by which two glances differ that are, and are not, of different pictures


def tell_order(path: Path, files: Sequence[Path]) -> None:
    """Say so if numbers in names have another order than the names. files: sorted by name. path: what has the rows."""
    names = [file.name for file in files]
    if sorted(names, key=_numbered) != names:
        told = f"its rows are taken to be of pictures in the order of names, as LLFF writes them ({list_some(names)})"
        warn(f"{path}: {told}; if yours are in the order of numbers, write these with zeros in front, as 001")


def require_same_order(reduced: Sequence[Path], whole: Sequence[Path]) -> None:
    """Raises UserError if reduced pictures are in another order than the whole ones. Some are looked at."""
    if len(reduced) != len(whole):
        return
    glances: list[Float[np.ndarray, "G G 3"]] = []
    for i in sorted({0, len(whole) // 2, len(whole) - 1}):
        try:
            small = _glance(reduced[i])
            if _apart(small, _glance(whole[i])) < OTHER:
                continue
            glances = glances or [_glance(file) for file in whole]
        except DamagedError:  # whoever reads it for its colours says what is wrong
            return
        best = int(np.argmin([_apart(small, glance) for glance in glances]))
        if best != i and _apart(small, glances[best]) < SAME:
            told = f"{reduced[i]} shows what {whole[best]} shows, but is in the place of {whole[i].name}"
            raise UserError(f"{told}: name the pictures in both folders so that they sort alike, or remove the former")


def _numbered(name: str) -> list[tuple[int, str]]:
    """A key that sorts by the numbers in names."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _glance(file: Path) -> Float[np.ndarray, "G G 3"]:
    with open_picture(file) as picture:
        picture.draft(None, (8 * GLANCE, 8 * GLANCE))
        small = converted(picture, "RGB", file).resize((GLANCE, GLANCE), Image.Resampling.BOX)
    return np.asarray(small, np.float64)


def _apart(one: Float[np.ndarray, "G G 3"], other: Float[np.ndarray, "G G 3"]) -> float:
    return float(np.abs(one - other).mean())
