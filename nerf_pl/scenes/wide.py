"""Photos that see more than a pinhole camera can, panoramas and wide fisheyes: how each is cut into views."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from nerf_pl.errors import DamagedError, UserError
from nerf_pl.scenes.cuts import Cut, Look, Window, cube, piece_of, turned, whole, within
from nerf_pl.scenes.decode import EIGHT_BIT, converted, is_transparent, open_picture
from nerf_pl.scenes.undistort import Size, undistorted_camera

WIDEST = 120.0  # degrees that a fisheye photo sees across or down, from which on it is cut
ROW = 110.0  # degrees the other way, up to which three views side by side will do
MOST = 300.0  # degrees that three views side by side may see
OUTERMOST = math.tan(math.radians(55.0))  # where a view ends at the latest: pixels get larger towards the corners
ANGLES = np.radians(np.arange(0.0, 180.0, 0.25))  # at which a lens is measured
AROUND = np.radians(np.arange(0.0, 360.0, 45.0))
GLANCES = 4  # photos, at least, that are decoded to see which part of them is black
GLANCE = 512  # pixels of the longer side then
BLACK = 12  # of 255: what a sensor without light, and JPEG, leave
LEAST_BLANK = 0.02  # share of the rows of a panorama
LEAST_CORNER = 0.07  # share of the way from the middle to the corner


@dataclass(frozen=True)
class Shot:
    """A photo on the disk. upright: it is turned as EXIF says."""

    file: Path
    upright: bool = False


def panorama(native: Size, shots: Sequence[Shot] = ()) -> Cut:
    """The faces of a cube, a quarter of the width wide each, of equirectangular photos of this size.

    Columns are longitudes, from behind over the left, with ahead in the middle; rows are latitudes, from the top. What
    is black in all of the shots at the poles does not count, and faces that show next to nothing else are left out.
    Raises UserError for a size that no whole panorama has.
    """
    if not is_whole_panorama(native):
        told = f"has {native[0]}x{native[1]} pixels, but an equirectangular picture is twice as wide as high"
        raise UserError(f"{told}: give it whole (a fisheye is OPENCV_FISHEYE)")
    top, bottom = _blank_rows(shots)

    def look(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        x, y, z = directions.T
        longitude, latitude = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
        place = np.stack([longitude / (2 * math.pi) + 0.5, latitude / math.pi + 0.5], -1)
        place[(place[:, 1] < top) | (place[:, 1] > 1 - bottom)] = np.nan
        return place * native

    pieces = [piece_of(window, look, native[0] / (2 * math.pi), trim=False) for window in cube()]
    rows = (("top", top), ("lowest", bottom))
    blank = [f"their {name} {share:.0%} are black and do not count" for name, share in rows if share]
    kept = tuple(piece for piece in pieces if piece)
    if not kept:
        raise UserError("next to nothing of the picture is not black: restore it")
    return Cut(native, kept, None, look, masked=bool(blank), wraps=True, kind="panoramas", facts=tuple(blank))


def is_whole_panorama(size: Size) -> bool:
    """Whether a picture of this size may show all around, 360 degrees by 180. A side may have been rounded."""
    return min(size) > 1 and abs(size[0] - 2 * size[1]) <= max(2, size[0] // 200)


def fisheye(
    native: Size, look: Look, K: Float[np.ndarray, "3 3"], circle: float | None, shots: Sequence[Shot] = ()
) -> Cut:
    """The views of fisheye photos that see more than `WIDEST`, or the one view of others.

    look: where the lens puts directions, as far as its formula tells. K: its focal lengths and middle. circle: pixels
    farther than that from the middle of the photo do not count. If it is None, the shots tell whether the corners of
    wide ones are black. Raises UserError for a lens that leaves next to nothing.
    """
    facts: list[str] = []

    def project(xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        return look(np.concatenate([xy, np.ones((len(xy), 1))], 1))

    shown = within(unfolded(look), native, circle)
    if circle is None and max(fields(shown)) > WIDEST and (circle := _image_circle(shots, native)):
        shown = within(shown, native, circle)
        facts.append(f"beyond {circle:.0f} pixels from the middle they are black and do not count")
    across, along = fields(shown)
    if max(across, along) <= WIDEST:
        return whole(native, undistorted_camera(project, K, native), project, shown if circle else None)
    right, down, left, up = _reach(shown)
    windows = cube()
    if min(across, along) <= ROW and max(across, along) <= MOST:
        windows = _row(left, right, 0) if across > along else _row(up, down, 1)
    pieces = [piece_of(window, shown, (K[0, 0] + K[1, 1]) / 2, trim=True) for window in windows]
    kept = tuple(piece for piece in pieces if piece)
    if not kept:
        raise UserError("the lens leaves next to nothing of a picture: are its coefficients right?")
    facts = [f"they see {max(across, along):.0f} degrees", *facts]
    return Cut(native, kept, None, shown, masked=True, kind="fisheye photos", facts=tuple(facts))


def fields(look: Look) -> tuple[float, float]:
    """The degrees that a photo sees across and down its middle."""
    right, down, left, up = _reach(look)
    return right + left, down + up


def _row(before: float, after: float, axis: int) -> list[Window]:
    """Three views side by side (axis 0) or one above the other (1), the one in the middle first, of a field of so many
    degrees before and after the axis of the photo."""
    half = math.radians(before + after) / 6
    edge, names = math.tan(half), (("left", "right"), ("up", "down"))[axis]
    found = []
    for name, place, low, high in (
        ("front", 0, -edge, edge), (names[0], -1, -OUTERMOST, edge), (names[1], 1, -edge, OUTERMOST),
    ):  # fmt: skip
        angle = (after - before) / 2 + math.degrees(2 * half * place)
        turn = turned(angle, 0) if axis == 0 else turned(0, -angle)
        ends = (low, -OUTERMOST), (high, OUTERMOST)
        (low_x, low_y), (high_x, high_y) = ends if axis == 0 else (ends[0][::-1], ends[1][::-1])
        found.append(Window(name, turn, (low_x, low_y), (high_x, high_y), half))
    return found


def unfolded(look: Look) -> Look:
    """The same up to the angle to the axis from which on a polynomial, taken farther out than it was fitted, turns back
    and maps two directions to one pixel."""
    middle = look(np.array([[0.0, 0.0, 1.0]]))
    limit = math.pi
    for direction in AROUND:
        away = np.linalg.norm(look(_meridian(direction)) - middle, axis=1)
        folds = np.flatnonzero(np.diff(away) <= 0)
        limit = min(limit, ANGLES[folds[0]] if len(folds) else limit)

    def straight(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        angles = np.arctan2(np.hypot(directions[:, 0], directions[:, 1]), directions[:, 2])
        return np.where((angles < limit)[:, None], look(directions), np.nan)

    return straight


def _meridian(direction: float) -> Float[np.ndarray, "N 3"]:
    """Directions at `ANGLES` from the axis. direction: 0 to the right, a quarter of a turn down."""
    sine = np.sin(ANGLES)
    return np.stack([sine * math.cos(direction), sine * math.sin(direction), np.cos(ANGLES)], -1)


def _reach(look: Look) -> list[float]:
    """The degrees from the axis up to which a photo shows something: right, down, left, up."""
    found = []
    for direction in AROUND[::2]:
        hidden = np.flatnonzero(np.any(np.isnan(look(_meridian(direction))), axis=1))
        found.append(math.degrees(ANGLES[hidden[0] - 1]) if len(hidden) and hidden[0] else 180.0 * (not len(hidden)))
    return found


def _blank_rows(shots: Sequence[Shot]) -> tuple[float, float]:
    """The shares of the rows, at the top and at the bottom, that are black in all of the panoramas."""
    pictures = _glances(shots)
    if not pictures:
        return 0.0, 0.0
    shown = [np.flatnonzero(picture.max(axis=(1, 2)) > BLACK) for picture in pictures]
    if not all(len(rows) for rows in shown):
        return 0.0, 0.0
    top = min(rows[0] / len(picture) for rows, picture in zip(shown, pictures, strict=True))
    bottom = min(1 - (rows[-1] + 1) / len(picture) for rows, picture in zip(shown, pictures, strict=True))
    return (top if top >= LEAST_BLANK else 0.0), (bottom if bottom >= LEAST_BLANK else 0.0)


def _image_circle(shots: Sequence[Shot], native: Size) -> float | None:
    """How far from the middle, in pixels of their own size, fisheye photos show anything. None if not all of them are
    black in their corners."""
    farthest = 0.0
    for picture in _glances(shots):
        rows, columns = (picture.max(axis=2) > BLACK).nonzero()
        if len(rows):
            x, y = (columns + 0.5) / picture.shape[1] - 0.5, (rows + 0.5) / picture.shape[0] - 0.5
            farthest = max(farthest, float(np.hypot(x * native[0], y * native[1]).max()))
    corner = math.hypot(*native) / 2
    if not 0 < farthest < (1 - LEAST_CORNER) * corner:
        return None
    return farthest - max(native) / GLANCE  # the outermost are blends


def _glances(shots: Sequence[Shot]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Some of the photos, small; not those with alpha, which tells what they show, or of more than 8 bits."""
    found = []
    for shot in shots[:: max(len(shots) // GLANCES, 1)]:
        try:
            with open_picture(shot.file) as picture:
                if is_transparent(picture) or picture.mode not in EIGHT_BIT:
                    continue
                picture.draft(None, (2 * GLANCE, 2 * GLANCE))
                small = converted(ImageOps.exif_transpose(picture) if shot.upright else picture, "RGB", shot.file)
                small.thumbnail((GLANCE, GLANCE), Image.Resampling.BOX)
                found.append(np.array(small))
        except DamagedError:  # whoever reads it whole says what is wrong
            continue
    return found
