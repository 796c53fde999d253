"""Lenses of COLMAP models that see more than a pinhole camera can."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from nerf_pl.scenes.cuts import Look
from nerf_pl.scenes.undistort import Radial, fisheye_look

PANORAMA = "EQUIRECTANGULAR"
# the bends of a fisheye by its parameters: pycolmap itself sees nothing beside and behind such a camera
BENDS: dict[str, Callable[[Sequence[float]], Radial]] = {
    "SIMPLE_FISHEYE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "FISHEYE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "SIMPLE_RADIAL_FISHEYE": lambda p: (p[3], 0.0, 0.0, 0.0),
    "RADIAL_FISHEYE": lambda p: (p[3], p[4], 0.0, 0.0),
    "OPENCV_FISHEYE": lambda p: (p[4], p[5], p[6], p[7]),
}
WIDE = (*BENDS, "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE", "FOV", "EUCM")
"""Models of cameras whose photos may be too wide for one view."""


def sees_all_around(camera: Any) -> bool:
    """Whether a camera takes panoramas."""
    return camera.model_name == PANORAMA


def look_of(camera: Any) -> Look:
    """Where a camera puts directions (right, down, ahead); see `cuts.Look`."""
    if bends := BENDS.get(camera.model_name):
        return fisheye_look(camera.calibration_matrix(), bends(camera.params.tolist()))

    def look(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        return camera.img_from_cam(directions)  # nan beside and behind it; the first pixel's centre at 0.5, too

    return look
