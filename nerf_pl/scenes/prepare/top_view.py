"""A map of the cameras, seen from above."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

SMOOTH = 2  # drawn this much larger, then reduced
CAMERA, POINT, INK = (196, 62, 32), (130, 140, 148), (90, 90, 90)


def top_view(
    c2w: Float[np.ndarray, "C 3 4"], points: Float[np.ndarray, "P 3"], size: int = 800
) -> UInt8[np.ndarray, "size size 3"]:
    """Cameras (a dot, and a line the way they look) and scene points, seen from above, z up; x goes right and y up.

    The picture holds all cameras and the middle nine tenths of the points, but no more than 4 times the cameras'
    extent. The bar at the bottom is 1 unit long
    (none if that is too long).
    """
    centres, ahead = c2w[:, :2, 3], -c2w[:, :2, 2]
    low, high = centres.min(0), centres.max(0)
    if len(points):
        reach = 1.5 * max((high - low).max(), 1e-6)
        low = np.minimum(low, np.maximum(np.quantile(points[:, :2], 0.05, axis=0), low - reach))
        high = np.maximum(high, np.minimum(np.quantile(points[:, :2], 0.95, axis=0), high + reach))
    middle, extent = (low + high) / 2, max((high - low).max(), 1e-6)
    side = size * SMOOTH
    scale = 0.84 * side / extent

    def pixel(xy: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        return side / 2 + (xy - middle) * np.array([scale, -scale])

    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    for x, y in pixel(points[:, :2]):
        draw.rectangle([x, y, x + 1, y + 1], fill=POINT)
    thick, long = max(1, side // 400), 0.035 * side
    for (x, y), (dx, dy) in zip(pixel(centres), ahead * np.array([long, -long]), strict=True):
        draw.line([x, y, x + dx, y + dy], fill=CAMERA, width=thick)
        draw.ellipse([x - 2.5 * thick, y - 2.5 * thick, x + 2.5 * thick, y + 2.5 * thick], fill=CAMERA)
    if scale < 0.9 * side:
        draw.line([0.05 * side, 0.97 * side, 0.05 * side + scale, 0.97 * side], fill=INK, width=thick)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
