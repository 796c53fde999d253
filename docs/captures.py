"""Good and bad captures, photographed in the built-in scene, and what `nerf prepare` makes of them.

`python docs/captures.py` writes docs/images/captures_good.jpg and captures_bad.jpg, and prints how many photos of each
capture are placed. The places of cameras are drawn by `figures.py`.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nerf_pl.scenes.demo import look_at_origin
from nerf_pl.scenes.demo.render import bake_floor, render_view

IMAGES = Path(__file__).resolve().parent / "images"
ANGLE = 0.6911  # the width of a photo, in radians
SIZE, N = 360, 12  # of the photos that are placed
SHOWN, SIDE = 3, 150  # of each capture, and their size on the sheet
INK, LINE = (60, 60, 60), (200, 200, 200)
Photo = np.ndarray  # (S, S, 3), from 0 to 1


@dataclass(frozen=True)
class Capture:
    """step: degrees from one photo to the next. spot: whether the photographer turns on the spot instead of walking
    around. edit: what becomes of a photo, with its number."""

    title: str
    step: float = 4.0
    spot: bool = False
    edit: Callable[[Photo, int], Photo] = lambda photo, i: photo


def blurred(photo: Photo, i: int) -> Photo:
    """Moved while the shutter was open."""
    length = 24
    return np.mean([np.roll(photo, k - length // 2, axis=1) for k in range(length)], 0)


def dark(photo: Photo, i: int) -> Photo:
    """Little light, and the noise of a camera that makes up for it."""
    noise = np.random.default_rng(i).normal(size=photo.shape)
    return np.clip(photo * 0.1 + 0.03 * noise, 0, 1)


def uneven(photo: Photo, i: int) -> Photo:
    """The camera chose another exposure for each photo."""
    return np.clip(photo * (0.35, 1.0, 1.9)[i % 3], 0, 1)


def plain(photo: Photo, i: int) -> Photo:
    """Nothing on the walls and on the thing: few places that can be told from others."""
    is_thing = (photo.min(-1, keepdims=True) < 0.97) & np.ones(3, bool)
    light = np.linspace(0.9, 0.7, len(photo))[:, None, None] * np.ones_like(photo)
    return np.where(is_thing, light, photo)


def mirrored(photo: Photo, i: int) -> Photo:
    """Behind glass, in which the photographer sees what is behind him, which moves against the rest."""
    shift = 40 * i
    behind = np.roll(photo[:, ::-1], shift, axis=1)
    return np.clip(0.35 * photo + 0.75 * behind - 0.1, 0, 1)


GOOD = [
    Capture("walking around, 4 degrees a step"),
    Capture("the exposure differs: it is evened out", edit=uneven),
]
BAD = [
    Capture("too far apart: 40 degrees", step=40.0),
    Capture("turning on the spot", spot=True),
    Capture("blurred by motion", edit=blurred),
    Capture("too dark", edit=dark),
    Capture("seen in a mirror or through glass", edit=mirrored),
    Capture("plain, without texture", edit=plain),
]


def photos(capture: Capture, n: int, size: int) -> list[Photo]:
    """n photos of a capture, on white."""
    floor, found = bake_floor(min(size, 400)), []
    for i, pose in enumerate(poses(capture, n)):
        rgba = render_view(pose, size, ANGLE, floor, supersampling=1) / 255
        found.append(capture.edit(rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:], i))
    return found


def poses(capture: Capture, n: int) -> np.ndarray:
    """Camera to world (n, 3, 4)."""
    turn = np.radians(capture.step * np.arange(n) + 20)
    height = np.radians(34 + 2 * (np.arange(n) % 2))
    if not capture.spot:
        return look_at_origin(turn, height)
    places = look_at_origin(turn[:1].repeat(n), height[:1].repeat(n))
    sideways = np.radians(4.0 * (np.arange(n) - n // 2))
    for pose, angle in zip(places, sideways, strict=True):
        right, _, back = pose[:, :3].T.copy()
        cos, sin = np.cos(angle), np.sin(angle)
        pose[:, 0], pose[:, 2] = cos * right - sin * back, sin * right + cos * back
    return places


def sheet(captures: Sequence[Capture], columns: int = 2) -> Image.Image:
    """Some photos of each capture in a row, under its title."""
    wide, high = SHOWN * (SIDE + 4) + 16, SIDE + 44
    drawn = Image.new("RGB", (columns * wide, -(-len(captures) // columns) * high), "white")
    for k, capture in enumerate(captures):
        left, top = k % columns * wide + 8, k // columns * high
        ImageDraw.Draw(drawn).text((left, top + 8), capture.title, fill=INK, font_size=18)
        for i, photo in enumerate(photos(capture, SHOWN, 2 * SIDE)):
            small = as_image(photo).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            place = (left + i * (SIDE + 4), top + 36)
            drawn.paste(small, place)
            ImageDraw.Draw(drawn).rectangle([*place, place[0] + SIDE - 1, place[1] + SIDE - 1], outline=LINE)
    return drawn


def as_image(photo: Photo) -> Image.Image:
    return Image.fromarray((photo * 255).round().astype(np.uint8))


def placed(capture: Capture) -> str:
    """What `nerf prepare` says of the capture."""
    from nerf_pl.errors import UserError
    from nerf_pl.scenes.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photos"
        source.mkdir()
        for i, photo in enumerate(photos(capture, N, SIZE)):
            as_image(photo).save(source / f"{i:02}.jpg", quality=95)
        try:
            found = prepare(source, Path(folder) / "scene")
        except UserError as error:
            return str(error).split(" (")[0].split(":")[0].replace(folder, "")
        return f"{len(found.placed)} of {N} placed"


def main() -> None:
    """Draw the two sheets."""
    for name, captures in (("good", GOOD), ("bad", BAD)):
        sheet(captures).save(IMAGES / f"captures_{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
    for capture in [*GOOD, *BAD]:
        print(f"{capture.title}: {placed(capture)}", flush=True)
