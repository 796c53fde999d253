"""Pictures without lens distortion: resampled once, at the door, so that all else knows pinhole cameras alone."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from nerf_pl.types import UserError

Size = tuple[int, int]  # width, height
# where a camera with a lens sees directions (x / z, y / z), y down: (N, 2) -> pixels (N, 2), the first centre at 0.5
Project = Callable[[Float[np.ndarray, "N 2"]], Float[np.ndarray, "N 2"]]

MAX_ZOOM = 4.0


def opencv(
    K: Float[np.ndarray, "3 3"], k1: float, k2: float, p1: float, p2: float, k3: float = 0.0, k4: float = 0.0
) -> Project:
    """The usual lens: radial k1 to k4 and tangential p1, p2 (Brown 1966, in the form and order of OpenCV; k3 and k4
    multiply r^6 and r^8)."""

    def project(xy: np.ndarray) -> np.ndarray:
        x, y = xy[:, 0], xy[:, 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([K[0, 0] * u + K[0, 2], K[1, 1] * v + K[1, 2]], -1)

    return project


def opencv_fisheye(K: Float[np.ndarray, "3 3"], k1: float, k2: float, k3: float, k4: float) -> Project:
    """A fisheye lens: the angle to the axis is bent (Kannala and Brandt 2006, in the form of OpenCV)."""

    def project(xy: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(xy, axis=1)
        theta = np.arctan(r)
        t2 = theta * theta
        bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        scale = np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1.0)
        return np.stack([K[0, 0] * xy[:, 0] * scale + K[0, 2], K[1, 1] * xy[:, 1] * scale + K[1, 2]], -1)

    return project


def undistorted_camera(project: Project, K: Float[np.ndarray, "3 3"], size: Size) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a pinhole camera for the same picture size, all of whose pixels the lens has seen: those of K with
    the focal lengths made larger as far as it takes. Raises UserError if that would cut away most of the picture.
    """
    width, height = size
    across, down = np.linspace(0, width, 33), np.linspace(0, height, 33)
    ones = np.ones(33)
    sides = [(across, 0 * ones), (across, height * ones), (0 * ones, down), (width * ones, down)]
    border = np.concatenate([np.stack(side, -1) for side in sides])
    zoom = 1.0
    while zoom <= MAX_ZOOM:
        new = K.copy()
        new[0, 0], new[1, 1] = K[0, 0] * zoom, K[1, 1] * zoom
        seen = project((border - new[:2, 2]) / new[[0, 1], [0, 1]])
        inside = (seen >= -0.5).all() and (seen[:, 0] <= width + 0.5).all() and (seen[:, 1] <= height + 0.5).all()
        if inside and np.isfinite(seen).all():
            return new
        zoom *= 1.002
    raise UserError("the lens distortion leaves less than a quarter of a picture: are its coefficients right?")


def undistort(
    picture: UInt8[np.ndarray, "H W ch"],
    project: Project,
    K: Float[np.ndarray, "3 3"],
    native: Size,
) -> UInt8[np.ndarray, "H W ch"]:
    """What the pinhole camera K would have seen in place of the lens (bicubic). project and K are those of the picture
    at its `native` size; it may have been resized since."""
    height, width = picture.shape[:2]
    scale = np.array([width / native[0], height / native[1]])
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([column.ravel(), row.ravel()], -1) / scale
    seen = project((pixels - K[:2, 2]) / K[[0, 1], [0, 1]])
    place = torch.from_numpy((seen * (2 / np.array(native)) - 1).astype(np.float32)).view(1, height, width, 2)
    values = torch.from_numpy(picture).permute(2, 0, 1)[None].to(torch.float32)
    values = F.grid_sample(values, place, mode="bicubic", padding_mode="border", align_corners=False)
    return values[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
