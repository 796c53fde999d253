"""Poses and intrinsics of other programs as ours."""

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY
from nerf_pl.scenes.importers.found import Lens
from nerf_pl.scenes.values import pose_matrix

MOST_SKEW = 1.0  # pixels that a slanted grid of pixels may move a corner of the picture; transforms.json has no skew
LEAST_SKEW = 0.05  # pixels that need no mention


def opengl(where: str, c2w: Float[np.ndarray, "rows 4"]) -> Float[np.ndarray, "3 4"]:
    """A pose, camera to world, whose axes are right, down, ahead (OpenCV): as right, up, back (OpenGL). Raises
    UserError if it is no rotation."""
    return pose_matrix(where, "pose", (c2w[:3] * np.array([1.0, -1.0, -1.0, 1.0])).tolist())


def from_world_to_camera(
    where: str, rotation: Float[np.ndarray, "3 3"], centre: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 4"]:
    """A pose from the rotation of world to camera (axes right, down, ahead) and the camera's centre in the world."""
    return opengl(where, np.concatenate([rotation.T, centre[:, None]], 1))


def pinhole(where: str, K: Float[np.ndarray, "_ _"], size: tuple[float, float], notes: set[str]) -> Lens:
    """The intrinsics of a matrix, in pixels. size: width and height. notes: get what is to be said of a skew. Raises
    UserError for a focal length that is not positive, and for a skew as `check_skew` does."""
    fx, fy, cx, cy, skew = (float(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2], K[0, 1]))
    if min(fx, fy) <= 0:
        raise UserError(f"{where} has focal length {min(fx, fy):g}: {REMEDY}")
    if note := check_skew(where, skew, size, fy):
        notes.add(note)
    return {"camera_model": "PINHOLE", "w": size[0], "h": size[1], "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}


def check_skew(where: str, skew: float, size: tuple[float, float], focal: float) -> str | None:
    """What to say about pixels that are not rectangular. skew: the shift to the right, in pixels, per unit of y / z.
    Raises UserError if that moves a pixel by more than MOST_SKEW."""
    moved = abs(skew) * 0.5 * size[1] / focal
    if moved > MOST_SKEW:
        told = f"{where} has a skew that moves pixels by {moved:.1f}, which transforms.json cannot say"
        raise UserError(f"{told}: adjust the cameras without it, or export pictures without distortion")
    return f"{where}: a skew is left out; it moves pixels by {moved:.2f} at most" if moved > LEAST_SKEW else None
