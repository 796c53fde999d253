"""Pictures as a camera with a lens takes them, for tests: the lens formulas are inverted numerically."""

from collections.abc import Callable

import numpy as np


def seen_directions(project: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """(x / z, y / z) of what the lens maps to these pixels (N, 2), by Newton's method."""
    xy = np.zeros_like(pixels, dtype=np.float64)
    step = 1e-6
    for _ in range(30):
        here = project(xy)
        jacobian = np.stack([(project(xy + step * axis) - here) / step for axis in np.eye(2)], -1)
        xy = xy - np.linalg.solve(jacobian, (here - pixels)[:, :, None])[:, :, 0]
    assert np.abs(project(xy) - pixels).max() < 1e-6
    return xy


def pixel_centres(width: int, height: int) -> np.ndarray:
    """(height * width, 2), row by row."""
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
