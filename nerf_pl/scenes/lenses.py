"""Intrinsics and lens distortion as transforms.json tells them."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.undistort import Project, Size, opencv, opencv_fisheye
from nerf_pl.scenes.values import optional_number

PLAIN = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
OTHER_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic")  # keys by which Instant-NGP marks them


@dataclass(frozen=True)
class Lens:
    """focal, middle: (x, y) in pixels of the picture. radial: k1 to k4. tangential: p1, p2; a fisheye has none."""

    focal: tuple[float, float]
    middle: tuple[float, float]
    radial: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        (fx, fy), (cx, cy) = self.focal, self.middle
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    @property
    def straight(self) -> bool:
        """Whether this is a pinhole camera as it is."""
        return not self.fisheye and not any(self.radial + self.tangential)

    def project(self) -> Project:
        return opencv_fisheye(self.K, self.radial) if self.fisheye else opencv(self.K, self.radial, self.tangential)


def told_size(where: str, values: dict[str, object]) -> tuple[float, float] | None:
    """The picture size w, h that intrinsics in pixels belong to; None if it is not told."""
    width, height = optional_number(where, "w", values), optional_number(where, "h", values)
    if width is None and height is None:
        return None
    if width is None or height is None:
        raise UserError(f"{where}: {'w' if width is None else 'h'} is missing; give both w and h, or neither")
    if min(width, height) < 1:
        raise UserError(f"{where}: w {width:g}, h {height:g} is no picture; give its width and height in pixels")
    return width, height


def fits(told: tuple[float, float] | None, found: Size) -> bool:
    """Whether a picture of size `found` is the told one, at any resolution; a side may have been rounded."""
    if told is None:
        return True
    (w, h), (width, height) = told, found
    return min(abs(width * h / w - height), abs(height * w / h - width), abs(w * height / width - h)) <= 1


def read_lens(where: str, values: dict[str, object], size: Size) -> Lens:
    """The lens in pixels of a picture of this size. values: the keys of a frame over those shared by all.

    The focal length is fl_x, fl_y in pixels or camera_angle_x, camera_angle_y in radians; one direction stands for
    both. cx, cy are in the middle if they are not told. Raises UserError that begins with `where`.
    """
    fisheye = _is_fisheye(where, values)
    told = told_size(where, values) or (float(size[0]), float(size[1]))
    focal_x, focal_y = _focal(where, values, "x", told[0]), _focal(where, values, "y", told[1])
    if focal_x is None and focal_y is None:
        raise UserError(f"{where}: no focal length; give fl_x in pixels or camera_angle_x in radians")
    cx, cy = (optional_number(where, name, values) for name in ("cx", "cy"))
    bends = (optional_number(where, name, values) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    k1, k2, k3, k4, p1, p2 = (bend or 0.0 for bend in bends)
    x, y = size[0] / told[0], size[1] / told[1]
    return Lens(
        (x * (focal_x or focal_y or 0), y * (focal_y or focal_x or 0)),
        (x * (told[0] / 2 if cx is None else cx), y * (told[1] / 2 if cy is None else cy)),
        (k1, k2, k3, k4),
        (p1, p2) if not fisheye else (0.0, 0.0),
        fisheye,
    )


def field_of_view(where: str, name: str, values: dict[str, object]) -> float | None:
    """An angle in radians, 0 to pi; None if it is not there."""
    angle = optional_number(where, name, values)
    if angle is not None and not 0 < angle < math.pi:
        raise UserError(f"{where}: {name} is {angle:g}; give the field of view in radians, 0 to pi")
    return angle


def _is_fisheye(where: str, values: dict[str, object]) -> bool:
    model = values.get("camera_model") or "OPENCV"
    known = ", ".join(PLAIN + FISHEYE)
    if not isinstance(model, str) or model.upper() not in PLAIN + FISHEYE:
        raise UserError(f"{where}: camera_model {model!r} is not supported; undistort the pictures to one of {known}")
    for name in OTHER_LENSES:
        if values.get(name):
            raise UserError(f"{where}: {name} lenses are not supported; undistort the pictures to one of {known}")
    return model.upper() in FISHEYE or bool(values.get("is_fisheye"))


def _focal(where: str, values: dict[str, object], axis: str, length: float) -> float | None:
    """In pixels, along x or y, where the picture is `length` pixels long."""
    focal = optional_number(where, f"fl_{axis}", values)
    if focal is not None:
        if focal <= 0:
            raise UserError(f"{where}: fl_{axis} is {focal:g}; give the focal length in pixels, above 0")
        return focal
    angle = field_of_view(where, f"camera_angle_{axis}", values)
    if angle is None:
        return None
    return 0.5 * length / math.tan(0.5 * angle)
