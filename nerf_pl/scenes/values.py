"""Values of JSON files, checked: each function gives the value in its type, or a UserError that names it.

where: how a message begins, such as the file and the entry; name: the key of the value.
"""

import math

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError

SHAPES = ((4, 4), (3, 4), (16,), (12,))  # of a pose, row by row
ROTATED = 1e-2  # how far the products of a rotation's axes may be from those of unit axes at right angles
EXACT = 1e-5  # axes that are off by less are those of a rotation that was rounded: they stay as they are
FARTHEST = 1e15  # from the origin: squares of more than this would not fit into 32-bit floats


def number(where: str, name: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:  # a whole number with hundreds of digits
            pass
    raise UserError(f"{where}: {name} is {value!r:.60}; give a finite number")


def optional_number(where: str, name: str, values: dict[str, object]) -> float | None:
    """The finite number values[name]; None if it is not there, or null."""
    value = values.get(name)
    return None if value is None else number(where, name, value)


def positive(where: str, name: str, value: object) -> float:
    """A finite number above 0."""
    found = number(where, name, value)
    if found <= 0:
        raise UserError(f"{where}: {name} is {found:g}; give a number above 0")
    return found


def vector(where: str, name: str, value: object) -> tuple[float, float, float]:
    """Three finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise UserError(f"{where}: {name} is {value!r:.60}; give three numbers")
    x, y, z = (number(where, name, part) for part in value)
    return x, y, z


def pose_matrix(where: str, name: str, value: object) -> Float[np.ndarray, "3 4"]:
    """Camera to world, from a 4x4 or 3x4 matrix or its numbers row by row; see `rigid`.

    Refused: what is no rotation, such as mirrored or sheared axes, and a last row other than 0 0 0 1.
    """
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):  # rows of different lengths, words, numbers beyond all measure
        matrix = np.empty(0)
    if matrix.shape not in SHAPES:
        raise UserError(f"{where} has no 4x4 {name}; give camera to world, row by row")
    if not (np.abs(matrix) < FARTHEST).all():
        raise UserError(f"{where} has a {name} that is not finite; correct or remove it")
    rows = matrix.reshape(-1, 4)
    c2w, wrong = rigid(rows[:3])
    if wrong:
        raise UserError(f"{where} has a {name} that is no rotation, {wrong}; give camera to world, right-handed")
    if len(rows) == 4 and np.abs(rows[3] - (0, 0, 0, 1)).max() > EXACT:
        told = " ".join(f"{x:g}" for x in rows[3])
        is_turned = np.abs(rows[:, 3] - (0, 0, 0, 1)).max() <= EXACT
        hint = "it is column by column: transpose it" if is_turned else "give camera to world, row by row"
        raise UserError(f"{where} has a {name} whose last row is {told}, not 0 0 0 1; {hint}")
    return c2w


def rigid(c2w: Float[np.ndarray, "3 4"]) -> tuple[Float[np.ndarray, "3 4"], str]:
    """The pose with unit axes at right angles, and what is wrong with it; no text if it is a rotation.

    A uniform scale of the axes means nothing to a camera, so it is taken out. Axes that are off by little get the
    nearest rotation (Schönemann 1966); those that were only rounded stay as they are.
    """
    axes = c2w[:, :3]
    if not np.isfinite(c2w).all():
        return c2w, "it is not finite"
    volume = np.linalg.det(axes)
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths.min() > 1e-9:
        return c2w, "an axis has no length"
    scale = lengths.prod() ** (1 / 3)
    if np.abs(lengths / scale - 1).max() > ROTATED:
        return c2w, f"its axes have the lengths {', '.join(f'{length:.3g}' for length in lengths)}"
    off = np.abs(axes.T @ axes / scale**2 - np.eye(3)).max()
    if off > ROTATED:
        return c2w, "its axes are not at right angles"
    if volume < 0:
        return c2w, "its axes are mirrored"
    if off <= EXACT and abs(scale - 1) <= EXACT:
        return c2w, ""
    if off > EXACT:
        left, _, right = np.linalg.svd(axes)
        return np.concatenate([left @ right, c2w[:, 3:]], 1), ""
    return np.concatenate([axes / scale, c2w[:, 3:]], 1), ""


def axes_scale(value: object) -> float:
    """The length of the axes of a pose that `pose_matrix` has taken."""
    axes = np.array(value, np.float64).reshape(-1, 4)[:3, :3]
    return float(np.linalg.det(axes)) ** (1 / 3)
