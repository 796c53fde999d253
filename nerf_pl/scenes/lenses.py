"""Intrinsics and lens distortion as JSON files of scenes tell them: those of Blender, Instant-NGP and nerfstudio."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.undistort import Project, Size, opencv, opencv_fisheye
from nerf_pl.scenes.values import number, optional_number, positive

PLAIN = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE", "SIMPLE_FISHEYE")
PANORAMA = ("EQUIRECTANGULAR", "SPHERICAL")
FISHEYE_FLAGS = ("is_fisheye", "fisheye")
PANORAMA_FLAG = "latlong"  # Instant-NGP's; its key equirectangular means rows of equal area
# spellings of a focal length along an axis, from the one that counts most; angles are fields of view
FOCALS = {
    axis: {f"fl_{axis}": "pixels", f"f{axis}": "pixels", f"{axis}_fov": "degrees", f"camera_angle_{axis}": "radians"}
    for axis in "xy"
}
# spellings whose unit or direction is unknown
VAGUE = re.compile(r"(camera_)?(intrinsics?|matrix|intrinsic_matrix)|K|focal\w*|f|[xy]?fov\w*|field_of_view\w*", re.I)
# what would change the rays, and is not understood
FOREIGN = re.compile(
    r"ftheta_\w+|equirectangular|ortho\w*|rolling_shutter\w*|skew|shear|k[07-9]|k\d\d+|p[03-9]|[bs]\d|"
    r"(lens_)?shift_[xy]|dist\w*_(params|coeff\w*)|distortion|transform_matrix_(start|end)|from_(na|mitsuba)"
)
MODELS = ("camera_model", "camera_type", "lens_model", "distortion_model", "projection", "projection_type")
SIZES = {"w": ("w", "width", "image_width"), "h": ("h", "height", "image_height")}  # spellings of a side
NARROW, WIDE = 1000.0, 0.03  # focal lengths in picture widths, beyond which they are mistakes
LEAST_CIRCLE = 0.02  # picture widths
CLOSE = 5e-3  # two focal lengths that differ by less are rounded
RESIZED = (2, 3, 4)  # factors by which pictures are usually made smaller
SQUARE = 1.25  # pixels of cameras are at most this much wider than high
# a middle that is off by more than OTHER along both axes alike is most likely of another size; beyond CERTAIN it is
OTHER, ALIKE, CERTAIN = 1.25, 1.2, (0.3, 1.7)
LARGER, SMALLER = 16, 400  # times as large, and as small, as the told size a picture may be


@dataclass(frozen=True)
class Lens:
    """focal, middle: (x, y) in pixels of the picture. radial: k1 to k4; rational: k4 to k6 of a rational lens, whose
    radial[3] is 0. tangential: p1, p2. circle: pixels farther than that from the middle of the picture do not count;
    None if all do. panorama: the picture is equirectangular, and nothing else counts."""

    focal: tuple[float, float]
    middle: tuple[float, float]
    radial: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False
    rational: tuple[float, float, float] = (0.0, 0.0, 0.0)
    circle: float | None = None
    panorama: bool = False

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        (fx, fy), (cx, cy) = self.focal, self.middle
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    @property
    def straight(self) -> bool:
        """Whether this is a pinhole camera as it is."""
        return not (self.fisheye or self.panorama) and not any(self.radial + self.tangential + self.rational)

    def project(self) -> Project:
        if self.fisheye:
            return opencv_fisheye(self.K, self.radial, self.tangential)
        return opencv(self.K, self.radial, self.tangential, self.rational)


def over(shared: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """The values of a frame over those that all frames share. If a frame tells a focal length along an axis, in any
    spelling, none that is shared counts along that axis; the same goes for the model of the camera."""
    groups = [lambda key, axis=axis: key in FOCALS[axis] or bool(VAGUE.fullmatch(key)) for axis in "xy"]
    groups += [lambda key: key in (*MODELS, *FISHEYE_FLAGS, PANORAMA_FLAG)]
    told = [group for group in groups if any(group(key) and own[key] is not None for key in own)]
    return {**{key: value for key, value in shared.items() if not any(group(key) for group in told)}, **own}


def told_size(where: str, values: dict[str, object]) -> tuple[float, float] | None:
    """The picture size w, h that intrinsics in pixels belong to; None if it is not told."""
    width, height = (_side(where, values, spellings) for spellings in SIZES.values())
    if width is None and height is None:
        return None
    if width is None or height is None:
        raise UserError(f"{where}: {'w' if width is None else 'h'} is missing; give both w and h, or neither")
    if min(width, height) < 1:
        raise UserError(f"{where}: w {width:g}, h {height:g} is no picture; give its width and height in pixels")
    return width, height


def _side(where: str, values: dict[str, object], spellings: Sequence[str]) -> float | None:
    """The first spelling of a side that is told."""
    return next((side for name in spellings if (side := optional_number(where, name, values)) is not None), None)


def fits(told: tuple[float, float] | None, found: Size) -> bool:
    """Whether a picture of size `found` is the told one, at any resolution that is likely; a side may have been
    rounded."""
    if told is None:
        return True
    (w, h), (width, height) = told, found
    if not max(width, height) / LARGER <= max(w, h) <= SMALLER * max(width, height):
        return False
    return min(abs(width * h / w - height), abs(height * w / h - width), abs(w * height / width - h)) <= 1


def read_lens(where: str, values: dict[str, object], size: Size) -> Lens:
    """The lens in pixels of a picture of this size. values: see `over`.

    The focal length is fl_x, fl_y (or fx, fy) in pixels, x_fov, y_fov in degrees or camera_angle_x, camera_angle_y in
    radians; the first of these counts, and one direction stands for both. cx, cy are in the middle if they are not
    told. k4 to k6 are those of OpenCV's rational lens if k5 or k6 is not 0, or if the camera is a FULL_OPENCV;
    otherwise k4 goes on where k3 ends. Raises UserError that begins with `where`, for what cannot be, and for keys that
    would change the rays but are not understood.
    """
    kind = _kind(where, values)
    _refuse_foreign(where, values)
    told = told_size(where, values)
    if kind == "panorama":
        return _panorama(where, values, told, size)
    fisheye = kind == "fisheye"
    width, height = told or (float(size[0]), float(size[1]))
    focal_x, focal_y = _focal(where, values, "x", width), _focal(where, values, "y", height)
    if focal_x is None and focal_y is None:
        vague = [key for key, value in values.items() if VAGUE.fullmatch(key) and value is not None]
        found = f" (the unit or the direction of {', '.join(vague)} is unknown)" if vague else ""
        raise UserError(f"{where}: no focal length{found}; give fl_x in pixels or camera_angle_x in radians")
    middle = _middle(where, values, (width, height), is_told=told is not None)
    bends = (optional_number(where, name, values) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"))
    k1, k2, k3, k4, k5, k6, p1, p2 = (bend or 0.0 for bend in bends)
    rational = bool(k5 or k6) or str(values.get("camera_model")).upper() == "FULL_OPENCV"
    if fisheye and (k5 or k6):
        raise UserError(f"{where}: k{5 if k5 else 6} is {k5 or k6:g}, but fisheye lenses have k1 to k4; remove it")
    x, y = size[0] / width, size[1] / height
    return Lens(
        (x * (focal_x or focal_y or 0), y * (focal_y or focal_x or 0)),
        (x * middle[0], y * middle[1]),
        (k1, k2, k3, 0.0 if rational else k4),
        (p1, p2),
        fisheye,
        (k4, k5, k6) if rational else (0.0, 0.0, 0.0),
        _circle(where, values, width, size),
    )


def _circle(where: str, values: dict[str, object], width: float, size: Size) -> float | None:
    """`Lens.circle`, which is told for a picture of this width."""
    told = values.get("fisheye_crop_radius")
    if told is None:
        return None
    radius = positive(where, "fisheye_crop_radius", told)
    if radius < LEAST_CIRCLE * width:
        wrong = f"fisheye_crop_radius is {radius:g}, next to nothing of a picture of {width:g} pixels"
        raise UserError(f"{where}: {wrong}; give it in pixels of the picture at its full size, w")
    return radius * size[0] / width


def is_panorama(where: str, values: dict[str, object]) -> bool:
    """Whether a picture is equirectangular."""
    return _kind(where, values) == "panorama"


def _panorama(where: str, values: dict[str, object], told: tuple[float, float] | None, size: Size) -> Lens:
    """The lens of an equirectangular picture, whose focal length, whatever it is, says nothing."""
    width, height = told or (float(size[0]), float(size[1]))
    for name, length in (("cx", width), ("cy", height)):
        at = optional_number(where, name, values)
        if at is not None and abs(at - length / 2) > max(1.0, 0.005 * length):
            wrong = f"{name} is {at:g}, beside the middle of an equirectangular picture of {width:g}x{height:g}"
            raise UserError(f"{where}: {wrong}; shift the picture so that it is in the middle, or remove {name}")
    for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"):
        if optional_number(where, name, values):
            raise UserError(f"{where}: {name} is {values[name]}, but equirectangular pictures have no lens; remove it")
    middle = (size[0] / 2, size[1] / 2)
    return Lens((size[0] / (2 * math.pi), size[1] / math.pi), middle, panorama=True)


def contradiction(where: str, values: dict[str, object], size: Size) -> str:
    """What to say if two spellings of a focal length differ by more than rounding, or if pixels are far from square; an
    empty text if not. Raises UserError if the two differ as those of pictures that were resized do."""
    if is_panorama(where, values):
        return ""
    told = told_size(where, values) or size
    taken = []
    for axis, length in zip("xy", told, strict=True):
        found = _focals(where, values, axis, length)
        taken += list(found.values())[:1]
        for name, focal in list(found.items())[1:]:
            first = next(iter(found))
            factor = found[first] / focal
            if abs(1 / factor - 1) <= CLOSE:
                continue
            made = "" if FOCALS[axis][name] == "pixels" else f" ({number(where, name, values[name]):g})"
            both = f"{first} ({found[first]:.6g})", f"{name}{made} tells {focal:.6g} pixels"
            if any(abs(max(factor, 1 / factor) / times - 1) <= CLOSE for times in RESIZED):
                remedy = f"give w and h, the size that {first} belongs to, or remove the wrong one"
                raise UserError(f"{where}: {both[0]} is of pictures of another size: {both[1]}; {remedy}")
            return f"{both[0]} is taken, though {both[1]}"
    if len(taken) > 1 and max(taken) > SQUARE * min(taken):
        return "the focal lengths {:.6g} across and {:.6g} down say that pixels are not square; is it right?".format(
            *taken
        )
    return ""


def require_own_middles(
    where: Sequence[str], middles: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]]
) -> None:
    """Say so if middles are those of pictures of another size. Parts that were cut out of pictures have middles
    anywhere, so one that is neither in the middle nor of another size speaks for all of them. Raises UserError if the
    middles cannot be of pictures of these sizes."""
    pairs = list(zip(middles, sizes, strict=True))
    told = [_other_middle(middle, size) for middle, size in pairs]
    if any(told) and all(text or _is_central(*pair) for text, pair in zip(told, pairs, strict=True)):
        first = next(i for i, text in enumerate(told) if text)
        (cx, _), (width, _) = pairs[first]
        if CERTAIN[0] < 2 * cx / width < CERTAIN[1]:
            warn(f"{where[first].partition(': frame')[0]}: {told[first]}")  # the same for all splits
        else:
            raise UserError(f"{where[first]}: {told[first]}")


def _other_middle(middle: tuple[float, float], size: tuple[float, float]) -> str:
    """What to say if the middle of a picture of this size is that of one of another size, or of one that is turned; an
    empty text if it may be its own."""
    (cx, cy), (width, height) = middle, size
    across, down = 2 * cx / width, 2 * cy / height
    if cx == 0 == cy:
        return "cx 0, cy 0 is a corner of the picture; remove them if the optical axis is in its middle"
    told = f"cx {cx:g}, cy {cy:g} is the middle of a picture of {2 * cx:.0f}x{2 * cy:.0f} pixels, not of "
    told += f"{width:.0f}x{height:.0f}"
    if min(across, down) > 0 and max(across / down, down / across) < ALIKE and not 1 / OTHER < across < OTHER:
        return f"{told}; give w and h of the size that the focal length and the middle belong to"
    turned = 2 * cy / width, 2 * cx / height
    is_turned = all(1 / ALIKE < ratio < ALIKE for ratio in turned)
    if is_turned and max(across, down) > OTHER and min(across, down) < 1 / OTHER:
        return f"{told}; are cx and cy in the right order?"
    return ""


def _is_central(middle: tuple[float, float], size: tuple[float, float]) -> bool:
    """Whether a point is near the middle of a picture."""
    return all(1 / OTHER < 2 * at / length < OTHER for at, length in zip(middle, size, strict=True))


def wrong_focal(focal: float, length: float) -> bool:
    """Whether a focal length, in pixels, cannot be that of a picture `length` pixels long."""
    return not WIDE * length <= focal <= NARROW * length


def half_view(where: str, values: dict[str, object]) -> float | None:
    """The tangent of half the horizontal field of view, as far as it is told without the pictures."""
    if is_panorama(where, values):
        return None
    size = told_size(where, values)
    width = size[0] if size else 2 * (optional_number(where, "cx", values) or 0)
    if found := _focals(where, values, "x", width or 1.0):
        name, focal = next(iter(found.items()))
        return 0.5 * width / focal if width else 0.5 / focal if FOCALS["x"][name] != "pixels" else None
    return None


def _kind(where: str, values: dict[str, object]) -> Literal["plain", "fisheye", "panorama"]:
    """What kind of camera took a picture, by its model and by flags that say the same."""
    found, denied = None, set[str]()
    for name in MODELS:
        model = values.get(name)
        if model is None or model == "":
            continue
        kind = _kind_of(model.upper()) if isinstance(model, str) else None
        if kind is None:
            remedy = "undistort the pictures to one that is, such as OPENCV, OPENCV_FISHEYE or EQUIRECTANGULAR"
            raise UserError(f"{where}: {name} {model!r:.60} is not supported; {remedy}")
        if found is not None and found != kind:
            raise UserError(
                f"{where}: {name} {model!r:.60} contradicts the other model of this camera; correct one of them"
            )
        found = kind
    for name in (*FISHEYE_FLAGS, PANORAMA_FLAG):
        flag = values.get(name)
        if flag is None:
            continue
        if flag not in (0, 1):
            raise UserError(f"{where}: {name} is {flag!r:.60}; give true or false")
        kind = "panorama" if name == PANORAMA_FLAG else "fisheye"
        if (found is not None and (found == kind) != bool(flag)) or (flag and kind in denied):
            told = f"{name} {'true' if flag else 'false'} contradicts the model of this camera"
            raise UserError(f"{where}: {told}; correct one of them")
        if flag:
            found = kind
        else:
            denied.add(kind)
    return found or "plain"


def _kind_of(model: str) -> Literal["plain", "fisheye", "panorama"] | None:
    """The kind of a model of cameras; None if it is unknown."""
    if model in PLAIN:
        return "plain"
    return "fisheye" if model in FISHEYE else "panorama" if model in PANORAMA else None


def _refuse_foreign(where: str, values: dict[str, object]) -> None:
    for name, value in values.items():
        if FOREIGN.fullmatch(name) and not _is_nothing(value):
            told = f"{name} is {value!r:.60}, which would change the rays and is not supported"
            raise UserError(f"{where}: {told}; undistort the pictures, or remove it if it means nothing")


def _is_nothing(value: object) -> bool:
    """Whether a value says that something is not there: null, false, zeros."""
    if isinstance(value, list | tuple):
        return all(map(_is_nothing, value))
    return not value


def _focal(where: str, values: dict[str, object], axis: str, length: float) -> float | None:
    """In pixels, along x or y, where the picture is `length` pixels long."""
    for name, focal in _focals(where, values, axis, length).items():
        if wrong_focal(focal, length):
            told = f"{name} is {values[name]:g}, a focal length of {focal:.3g} pixels for a picture of {length:g}"
            raise UserError(f"{where}: {told}; correct it, or the size that it belongs to (w, h)")
        return focal
    return None


def _focals(where: str, values: dict[str, object], axis: str, length: float) -> dict[str, float]:
    """Each spelling of the focal length that is there, in pixels."""
    found = {}
    for name, unit in FOCALS[axis].items():
        value = optional_number(where, name, values)
        if value is None:
            continue
        if unit == "pixels":
            if value <= 0:
                raise UserError(f"{where}: {name} is {value:g}; give the focal length in pixels, above 0")
            found[name] = value
            continue
        half_turn = math.pi if unit == "radians" else 180.0
        if not 0 < value < half_turn:
            limit = "pi" if unit == "radians" else "180"
            raise UserError(f"{where}: {name} is {value:g}; give the field of view in {unit}, 0 to {limit}")
        found[name] = 0.5 * length / math.tan(0.5 * value * (math.pi / half_turn))
    return found


def _middle(where: str, values: dict[str, object], size: tuple[float, float], *, is_told: bool) -> tuple[float, float]:
    """cx, cy in pixels of a picture of this size; is_told: the file tells the size."""
    given = {name: optional_number(where, name, values) for name in ("cx", "cy")}
    if len(lacks := [name for name, at in given.items() if at is None]) == 1:
        raise UserError(f"{where}: {lacks[0]} is missing; give both cx and cy, or neither")
    middle = []
    for (name, at), length in zip(given.items(), size, strict=True):
        at = length / 2 if at is None else at
        # if a file does not tell the size, a middle near the border is that of pictures of another size
        low, high = (-length, 2 * length) if is_told else (0.05 * length, 0.95 * length)
        if not low <= at <= high or (0 < at <= 1 and length > 8):
            remedy = "correct it" if is_told else "give w and h, the size of the pictures that it belongs to"
            raise UserError(f"{where}: {name} is {at:g}, for pictures of {length:g} pixels; {remedy}")
        middle.append(at)
    return middle[0], middle[1]
