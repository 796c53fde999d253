"""Sharp frames of a film."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from nerf_pl.console import warn
from nerf_pl.errors import UserError, reading
from nerf_pl.extras import extra

WHOLE = 0.9  # share of the length that a film tells, from which on all of it is there
JUDGED_WIDTH = 640  # pixels to which frames are reduced to be judged: noise and grain are no sharpness


def sharp_frames(
    path: Path, n: int, step: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The sharpest frame of each of n windows of equal length, upright; every frame of a film that has no more than n.

    The film is decoded once, and no more than the best frame of a window is kept. step(done, total) is told after each
    frame. Raises UserError for a file that is no film.
    """
    with reading(path, "give a film, or a folder of photos", "is no readable film"):
        yield from _sharp_frames(path, n, step)


def _sharp_frames(path: Path, n: int, step: Callable[[int, int], None]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    av, FFmpegError = extra("av", path), extra("av.error", path).FFmpegError
    try:
        with av.open(str(path), metadata_errors="replace") as film:
            if not film.streams.video:
                raise UserError(f"{path} has no pictures in it: give a film, or a folder of photos")
            total = sum(1 for packet in film.demux(video=0) if packet.size)  # what the file says may be wrong
        with av.open(str(path), metadata_errors="replace") as film:
            film.streams.video[0].thread_type = "AUTO"
            best, best_sharpness, window, end = None, -1.0, 0, None
            for i, frame in enumerate(film.decode(video=0)):
                now = window_of(i, total, n)
                if now != window and best is not None:
                    yield upright(best)
                    best, best_sharpness, window = None, -1.0, now
                height = max(3, round(JUDGED_WIDTH * frame.height / frame.width))
                grey = frame.reformat(JUDGED_WIDTH, height, "gray").to_ndarray()
                if (found := sharpness(grey)) > best_sharpness:
                    best, best_sharpness = frame, found
                step(min(i + 1, total), total)
                end = frame.time
            if best is not None:
                yield upright(best)
            _tell_if_cut(path, end, film)
    except FFmpegError as error:
        raise UserError(f"{path} is no readable film ({error.strerror}): give a film, or a folder of photos") from error


def _tell_if_cut(path: Path, end: float | None, film: Any) -> None:
    """Say so if the last frame comes long before the end that a film tells. end: its time in seconds, if known."""
    stream = film.streams.video[0]
    told = stream.duration and float(stream.duration * stream.time_base)
    told = told or (film.duration or 0) / 1e6  # in microseconds
    begin = float((stream.start_time or 0) * stream.time_base)
    if end is not None and end - begin < min(WHOLE * told, told - 1):
        lost = f"its frames end after {end - begin:.3g} of {told:.3g} seconds, so it is cut short"
        warn(f"{path}: {lost}; copy it again for the rest")


def window_of(index: int, total: int, n: int) -> int:
    """Which of n windows of equal length the frame `index` of `total` belongs to."""
    return min(index * n // max(total, 1), n - 1) if total > n else index


def sharpness(grey: UInt8[np.ndarray, "H W"]) -> float:
    """The variance of the Laplacian (Pech-Pacheco et al. 2000): blur takes away what changes from pixel to pixel."""
    g: Float[np.ndarray, "H W"] = grey.astype(np.float32)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var())


def upright(frame: object) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, turned as the film says; phones store what they film upright lying down."""
    pixels = frame.to_ndarray(format="rgb24")  # pyright: ignore
    return np.ascontiguousarray(np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90)))
