"""Values of JSON files, checked: each function gives the value in its type, or a UserError that names it.

where: how a message begins, such as the file and the entry; name: the key of the value.
"""

import math

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError

SHAPES = ((4, 4), (3, 4), (16,), (12,))  # of a pose, row by row
ROTATED = 1e-2  # how far the products of a rotation's axes may be from those of unit axes at right angles
UNIT = 1e-4  # lengths of axes that differ less from 1 are those of a rounded rotation


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
    """Camera to world, from a 4x4 or 3x4 matrix or its numbers row by row.

    Axes that some writers scale get unit length. Refused: axes that are not at right angles, and mirrored ones.
    """
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):  # rows of different lengths, words, numbers beyond all measure
        matrix = np.empty(0)
    if matrix.shape not in SHAPES:
        raise UserError(f"{where} has no 4x4 {name}; give camera to world, row by row")
    if not np.isfinite(matrix).all():
        raise UserError(f"{where} has a {name} that is not finite; correct or remove it")
    c2w = matrix.reshape(-1, 4)[:3]
    unit = unit_axes(c2w)
    axes = unit[:, :3]
    if np.abs(axes.T @ axes - np.eye(3)).max() > ROTATED or np.linalg.det(axes) < 0:
        raise UserError(f"{where} has a {name} that is no rotation; give camera to world, right-handed")
    return unit if np.abs(unit - c2w).max() > UNIT else c2w


def unit_axes(c2w: Float[np.ndarray, "*C 3 4"]) -> Float[np.ndarray, "*C 3 4"]:
    """Poses whose axes have unit length."""
    unit = c2w.copy()
    unit[..., :3] /= np.maximum(np.linalg.norm(unit[..., :3], axis=-2, keepdims=True), 1e-12)
    return unit
