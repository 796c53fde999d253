"""Which pixels triangles cover: of a texture, whose texels lie on a surface, or of a picture."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

AT_ONCE = 2**21  # pixels of the boxes around triangles
TINY = 1e-9  # so that no pixel on the edge between two triangles is missed


def covered(
    corners: Float[np.ndarray, "F 3 2"], width: int, height: int
) -> Iterator[tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]]:
    """For some triangles at a time: the pixels, numbered row by row, whose centres lie in a triangle, and its number.

    corners: columns and rows, the centre of the first pixel at 0.5. Triangles may turn either way.
    """
    size = np.array([width, height])
    first = np.clip(np.ceil(corners.min(1) - 0.5), 0, size).astype(np.int64)
    last = np.clip(np.floor(corners.max(1) - 0.5), -1, size - 1).astype(np.int64)
    spans = np.maximum(last - first + 1, 0)  # (F, 2)
    counts = spans.prod(1)
    ends = counts.cumsum()
    start = 0
    while start < len(corners):
        before = ends[start] - counts[start]
        stop = max(int(np.searchsorted(ends, before + AT_ONCE, "right")), start + 1)
        own = np.repeat(np.arange(start, stop), counts[start:stop])
        place = np.arange(len(own)) - (ends[own] - counts[own] - before)
        column = first[own, 0] + place % spans[own, 0]
        row = first[own, 1] + place // spans[own, 0]
        pixels = row * width + column
        inside = (shares_at(corners[own], pixels, width) >= -TINY).all(1)
        yield pixels[inside], own[inside]
        start = stop


def shares_at(
    corners: Float[np.ndarray, "P 3 2"], pixels: Int[np.ndarray, "P"], width: int
) -> Float[np.ndarray, "P 3"]:
    """The share of each corner of a triangle at the centre of a pixel. They add up to one."""
    points = np.stack([pixels % width, pixels // width], 1) + 0.5
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    whole = _across(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):  # triangles without area cover nothing
        first, second = _across(b - points, c - points) / whole, _across(c - points, a - points) / whole
        return np.stack([first, second, 1 - first - second], 1)


def _across(u: Float[np.ndarray, "P 2"], v: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "P"]:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
