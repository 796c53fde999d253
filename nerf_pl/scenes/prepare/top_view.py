"""A map of the cameras, seen from above."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

FAR = 6.0  # times the median distance from the middle: a camera beyond this would shrink all others
SMOOTH = 2  # drawn this much larger, then reduced
CAMERA, POINT, INK = (196, 62, 32), (130, 140, 148), (90, 90, 90)


def _gathered(centres: Float[np.ndarray, "C 2"]) -> Bool[np.ndarray, "C"]:
    """The cameras that are not far from the middle, compared with the others. Half of them or more always are."""
    away = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    return away <= FAR * max(np.median(away), 1e-6)


def top_view(
    c2w: Float[np.ndarray, "C 3 4"], points: Float[np.ndarray, "P 3"], size: int = 800
) -> UInt8[np.ndarray, "size size 3"]:
    """Cameras (a dot, and a line the way they look) and scene points, seen from above, z up; x goes right and y up.

    The picture holds the cameras, but for those that are far from all others, and the middle nine tenths of the points,
    but no more than 4 times the cameras' extent. A camera outside is a ring at the border. The bar at the bottom is 1
    unit long (none if that is too long); the legend says what is what.
    """
    centres, ahead = c2w[:, :2, 3], -c2w[:, :2, 2]
    inside = _gathered(centres)
    low, high = centres[inside].min(0), centres[inside].max(0)
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
    border = pixel(centres[~inside]).clip(0.02 * side, 0.98 * side)
    for x, y in border:
        draw.ellipse([x - 4 * thick, y - 4 * thick, x + 4 * thick, y + 4 * thick], outline=CAMERA, width=thick)
    for (x, y), (dx, dy) in zip(pixel(centres[inside]), ahead[inside] * np.array([long, -long]), strict=True):
        draw.line([x, y, x + dx, y + dy], fill=CAMERA, width=thick)
        draw.ellipse([x - 2.5 * thick, y - 2.5 * thick, x + 2.5 * thick, y + 2.5 * thick], fill=CAMERA)
    if scale < 0.9 * side:
        draw.line([0.05 * side, 0.97 * side, 0.05 * side + scale, 0.97 * side], fill=INK, width=thick)
    told = f"red: {len(centres)} cameras and where they look"
    told += f" ({len(border)} far away: rings at the border)" if len(border) else ""
    legend = f"{told}; grey: points of the scene; seen from above" + ("; bar: 1 unit" if scale < 0.9 * side else "")
    draw.text((0.05 * side, 0.93 * side), legend, fill=INK, font_size=0.019 * side)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
