"""Pictures without lens distortion: resampled once, at the door, so that all else knows pinhole cameras alone."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from nerf_pl.errors import UserError

Size = tuple[int, int]  # width, height
# where a camera with a lens sees directions (x / z, y / z), y down: (N, 2) -> pixels (N, 2), the first centre at 0.5
Project = Callable[[Float[np.ndarray, "N 2"]], Float[np.ndarray, "N 2"]]

Radial = tuple[float, float, float, float]
"""The coefficients k1 to k4 of a lens."""

MAX_ZOOM = 4.0
BAND = 256  # rows resampled at once: floats of a whole picture, for each of several threads, would be too much
ROWS = 32  # of a picture at once, so that float64 coordinates stay in the cache


def opencv(
    K: Float[np.ndarray, "3 3"],
    radial: Radial,
    tangential: tuple[float, float] = (0.0, 0.0),
    rational: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Project:
    """The usual lens: radial k1 to k4, which multiply r^2 to r^8, and tangential p1, p2 (Brown 1966, in the form of
    OpenCV). rational: the coefficients of r^2 to r^6 in a denominator, which OpenCV calls k4 to k6."""

    def project(xy: np.ndarray) -> np.ndarray:
        return _in_pixels(K, *_bent(xy[:, 0], xy[:, 1], radial, tangential, rational))

    return project


def opencv_fisheye(
    K: Float[np.ndarray, "3 3"], radial: Radial, tangential: tuple[float, float] = (0.0, 0.0)
) -> Project:
    """A fisheye lens, see `fisheye_look`, for directions ahead of it."""
    look = fisheye_look(K, radial, tangential)
    return lambda xy: look(np.concatenate([xy, np.ones((len(xy), 1))], 1))


def fisheye_look(
    K: Float[np.ndarray, "3 3"], radial: Radial, tangential: tuple[float, float] = (0.0, 0.0)
) -> Callable[[Float[np.ndarray, "N 3"]], Float[np.ndarray, "N 2"]]:
    """Where a fisheye lens puts directions (right, down, ahead), also those beside and behind it: the angle to the axis
    is bent (Kannala and Brandt 2006, in the form of OpenCV). tangential: as COLMAP's thin-prism fisheye and nerfstudio
    have it, after the angle has become a length."""

    def look(directions: np.ndarray) -> np.ndarray:
        x, y, z = directions.T
        r = np.hypot(x, y)
        scale = np.where(r > 1e-9, np.arctan2(r, z) / np.maximum(r, 1e-9), 1.0)
        return _in_pixels(K, *_bent(x * scale, y * scale, radial, tangential))

    return look


def _bent(
    x: np.ndarray,
    y: np.ndarray,
    radial: Radial,
    tangential: tuple[float, float],
    rational: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    (k1, k2, k3, k4), (p1, p2), (d1, d2, d3) = radial, tangential, rational
    r2 = x * x + y * y
    factor = (1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))) / (1 + r2 * (d1 + r2 * (d2 + r2 * d3)))
    u = x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * factor + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return u, v


def _in_pixels(K: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.stack([K[0, 0] * u + K[0, 2], K[1, 1] * v + K[1, 2]], -1)


def undistorted_camera(project: Project, K: Float[np.ndarray, "3 3"], size: Size) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a pinhole camera for the same picture size, all of whose pixels the lens has seen: those of K with
    the focal lengths made larger as far as it takes. Raises UserError if that would cut away most of the picture.
    """
    limits = np.array(size)
    across, down = np.meshgrid(*(np.linspace(0, length, 33) for length in size))
    pixels = np.stack([across.ravel(), down.ravel()], -1)
    zoom = 1.0
    while zoom <= MAX_ZOOM:
        new = K.copy()
        new[0, 0], new[1, 1] = K[0, 0] * zoom, K[1, 1] * zoom
        xy = (pixels - new[:2, 2]) / new[[0, 1], [0, 1]]
        seen = project(xy)
        if ((seen >= -0.5) & (seen <= limits + 0.5)).all() and not _folds(project, xy):
            return new
        zoom *= 1.002
    raise UserError("the lens distortion leaves less than a quarter of a picture's width: are its coefficients right?")


def _folds(project: Project, xy: Float[np.ndarray, "N 2"]) -> bool:
    """Whether a polynomial, taken farther out than it was fitted, turns back and maps two directions to one pixel."""
    step = 1e-5
    by_x, by_y = (project(xy + step * axis) - project(xy - step * axis) for axis in np.eye(2))
    return bool((by_x[:, 0] * by_y[:, 1] <= by_x[:, 1] * by_y[:, 0]).any())


def undistort(
    picture: UInt8[np.ndarray, "H W ch"],
    project: Project,
    K: Float[np.ndarray, "3 3"],
    native: Size,
    *,
    nearest: bool = False,
) -> UInt8[np.ndarray, "H W ch"]:
    """What the pinhole camera K would have seen in place of the lens (bicubic, or the nearest pixel). project and K are
    those of the picture at its `native` size; it may have been resized since. A fourth channel is alpha and weighs the
    colours. Pictures in a row that share `project` share the work, see `sampling_grid`.
    """
    grid = sampling_grid(project, tuple(K.ravel().tolist()), native, (picture.shape[1], picture.shape[0]))
    return resampled(picture, grid, nearest=nearest)


def resampled(
    picture: UInt8[np.ndarray, "H W ch"], grid: Float[torch.Tensor, "1 h w 2"], *, nearest: bool = False
) -> UInt8[np.ndarray, "h w ch"]:
    """A picture at the places of a grid, see `sampling_grid`, bicubic or the nearest pixel. A fourth channel is alpha
    and weighs the colours."""
    values = torch.from_numpy(picture).permute(2, 0, 1)[None].to(torch.float32)
    alpha = picture.shape[2] == 4 and not nearest
    if alpha:  # what colour lies below transparent pixels means nothing
        values[:, :3] *= values[:, 3:] / 255
    found = torch.empty(*grid.shape[1:3], picture.shape[2], dtype=torch.uint8)
    mode = "nearest" if nearest else "bicubic"
    for row in range(0, len(found), BAND):
        band = grid[:, row : row + BAND]
        pixels = F.grid_sample(values, band, mode=mode, padding_mode="border", align_corners=False)
        if alpha:
            pixels[:, :3] *= 255 / pixels[:, 3:].clamp(min=1)
        found[row : row + BAND] = pixels[0].round_().clamp_(0, 255).permute(1, 2, 0)
    return found.numpy()


@lru_cache(maxsize=2)  # a set from one camera, held both ways; large, so clear it when all pictures are read
def sampling_grid(project: Project, K: tuple[float, ...], native: Size, size: Size) -> Float[torch.Tensor, "1 H W 2"]:
    """For each pixel of the pinhole picture where the lens put it: in [-1, 1], as torch's grid_sample takes it."""
    focal, middle = np.array([K[0], K[4]]), np.array([K[2], K[5]])
    width, height = size
    scale = np.array([native[0] / width, native[1] / height])
    grid = torch.empty(1, height, width, 2)
    for row in range(0, height, ROWS):
        across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(row, min(row + ROWS, height)) + 0.5)
        pixels = np.stack([across.ravel(), down.ravel()], -1) * scale
        place = project((pixels - middle) / focal) * (2 / np.array(native)) - 1
        grid[0, row : row + ROWS] = torch.from_numpy(place.reshape(-1, width, 2))
    return grid
