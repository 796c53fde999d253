"""What is behind an object: a plain colour that opaque pictures show, or what transparent ones are composited on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.pictures import MOSTLY, list_some
from nerf_pl.scenes.request import BACKGROUNDS, Colour, Request
from nerf_pl.scenes.scene import Scene, as_object

NOISE = 10  # of 255: JPEG leaves less in a plain surface, away from edges
SHARE = 0.8  # of the borders of all pictures together that a plain background fills; MOSTLY: of those of each
COUNTED = 0.5  # share of all borders that masks must leave for these to say anything
FRAME = 0.95  # share of a rectangle; what fills more of the same one in all pictures is a photo in a frame
SPECK = 3 / 9  # of the pixels around one; if fewer differ from the background, it is noise


def on_its_background(scene: Scene, request: Request) -> Scene:
    """The scene with the background that the request asks for.

    Transparent pictures: a colour that is asked for. Opaque ones: the colour that is asked for or, with auto, the plain
    one that the pictures show. The scene is `plain` then and, unless something else has settled that, one of an object
    in a box. Photos from one side are not looked at: they need no box.
    """
    asked = request.background
    named = next((known for name, known in BACKGROUNDS.items() if name == asked), None)
    colour = named if isinstance(asked, str) else asked
    scene = _without_idle_alpha(scene) if request.pictures else scene
    if scene.images.shape[-1] == 4:
        if request.pictures:
            _require_something(scene, "are transparent everywhere", request.split)
        return scene if colour is None else replace(scene, background=colour)
    found = colour
    if asked == "auto" and request.pictures and scene.ndc is None:
        found = plain_colour(scene)
    if found is None:
        return scene
    scene = replace(scene, background=found, plain=True)
    if request.pictures and colour is None:
        _require_something(scene, f"show the background {_told(found)} alone", request.split)
    if colour is not None and request.pictures and request.split == "train":
        _doubt(scene, colour)
    why = f"the pictures have a plain background, {_told(found)} (--background none: it is part of the scene)"
    if scene.unbounded and request.objects:
        return as_object(scene, why)
    warn(f"{scene.root}: {why}")
    return scene


def name_of(colour: Colour) -> Literal["white", "black"] | None:
    """The name of a colour. None if it has none."""
    return next((name for name, known in BACKGROUNDS.items() if known == colour), None)


def _told(colour: Colour) -> str:
    """A colour as the option --background takes it."""
    return name_of(colour) or " ".join(f"{value:g}" for value in colour)


def plain_colour(scene: Scene) -> Colour | None:
    """The colour, in [0, 1], of nearly all of the borders of opaque pictures. None if they have no such colour, or if
    the pictures are photos in a frame."""
    borders = list(_borders(scene))
    counted = torch.cat([border for border, _ in borders])
    if len(counted) < COUNTED * sum(n for _, n in borders):
        return None
    colour = counted.median(0).values
    shares = [float(_near(border, colour).float().mean()) if len(border) else 1.0 for border, _ in borders]
    if min(shares) < MOSTLY or float(_near(counted, colour).float().mean()) < SHARE or _is_framed(scene, colour):
        return None
    red, green, blue = (round(value / 255, 4) for value in colour.tolist())
    return red, green, blue


def silhouettes(scene: Scene) -> Bool[Tensor, "C H W"] | None:
    """Pixels that may show, at least in part, what is in front of the background: those that do not count, too. None if
    nothing tells. Of `plain` scenes parts are missing that have the colour of the background."""
    if scene.images.shape[-1] == 3 and not scene.plain:
        return None
    colour, shown = _in_bytes(scene), torch.zeros(scene.images.shape[:3], dtype=torch.bool)
    for i, picture in _pictures(scene):
        height, width, channels = picture.shape
        part = shown[i, :height, :width]
        part.copy_(picture[..., 3] > 0 if channels == 4 else _differs(picture, colour))
        if scene.masks is not None:
            part |= ~scene.masks[i, :height, :width]
    return shown


def _pictures(scene: Scene) -> Iterator[tuple[int, UInt8[Tensor, "H W ch"]]]:
    """The number and the pixels of each picture, without those of its canvas."""
    for i in range(len(scene)):
        width, height = scene.cameras.size(i)
        yield i, scene.images[i, :height, :width]


def _in_bytes(scene: Scene) -> UInt8[Tensor, "3"]:
    return (torch.tensor(scene.background or (0.0, 0.0, 0.0)) * 255).round().to(torch.uint8)


def _differs(picture: UInt8[Tensor, "H W 3"], colour: UInt8[Tensor, "3"]) -> Bool[Tensor, "H W"]:
    """Where a picture has another colour, but for specks."""
    other = (~_near(picture, colour)).float()
    around = torch.nn.functional.avg_pool2d(other[None, None], 3, 1, 1)[0, 0]
    return (other > 0) & (around > SPECK - 1e-3)


def _near(pixels: UInt8[Tensor, "*shape 3"], colour: UInt8[Tensor, "3"]) -> Bool[Tensor, "*shape"]:
    return (pixels.to(torch.int16) - colour.to(torch.int16)).abs().amax(-1) <= NOISE


def _borders(scene: Scene) -> Iterator[tuple[UInt8[Tensor, "N 3"], int]]:
    """The outermost pixels of each picture that masks do not leave out, and how many there are with those."""
    for i, picture in _pictures(scene):
        border, mask = _border(picture), scene.mask(i)
        yield border if mask is None else border[_border(mask)], len(border)


def _border(picture: Shaped[Tensor, "H W *channels"]) -> Shaped[Tensor, "N *channels"]:
    """The outermost rows and columns, corners twice. The rest of a large picture is not touched."""
    return torch.cat([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _is_framed(scene: Scene, colour: UInt8[Tensor, "3"]) -> bool:
    """Whether what differs from a colour fills the same rectangle in all pictures, as bars around a film do."""
    if len(scene) < 2:
        return False
    corners = []
    for _, picture in _pictures(scene):
        rows, columns = np.nonzero(~_near(picture, colour).numpy())
        if not len(rows):
            return False
        corner = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        if len(rows) < FRAME * (corner[1] - corner[0]) * (corner[3] - corner[2]):
            return False
        corners.append(corner)
    return bool((np.ptp(corners, axis=0) <= 2).all())


def _without_idle_alpha(scene: Scene) -> Scene:
    """Pictures that have alpha and use none of it, as the opaque ones that they are."""
    if scene.images.shape[-1] == 3:
        return scene
    if any(int(picture[..., 3].min()) < 255 for _, picture in _pictures(scene)):
        return scene
    return replace(scene, images=scene.images[..., :3].contiguous())


def _require_something(scene: Scene, why: str, split: str) -> None:
    """Say which pictures show nothing. Raises UserError if none shows anything, for there is nothing to learn then."""
    colour = _in_bytes(scene)
    empty = []
    for i, picture in _pictures(scene):
        if not (_shows(picture[::8, ::8], colour) or _shows(picture, colour)):  # the former is quick
            empty.append(scene.names[i] if scene.names else i)
    if len(empty) < len(scene) or split != "train":
        if empty:
            warn(f"{scene.root}: {len(empty)} of {len(scene)} pictures {why} ({list_some(empty)})")
        return
    remedy = "save them without alpha" if scene.images.shape[-1] == 4 else "restore them"
    raise UserError(f"{scene.root}: all {len(scene)} pictures {why}, so there is nothing to learn: {remedy}")


def _shows(picture: UInt8[Tensor, "H W ch"], colour: UInt8[Tensor, "3"]) -> bool:
    """Whether anything in a picture is neither transparent nor of the colour of the background."""
    return bool(((picture[..., 3] > 0) if picture.shape[-1] == 4 else ~_near(picture, colour)).any())


def _doubt(scene: Scene, colour: Colour) -> None:
    """Say so if most of the pictures' borders have another colour than the one that was asked for."""
    known = _in_bytes(scene)
    others = [
        name
        for name, (border, _) in zip(scene.names, _borders(scene), strict=True)
        if len(border) and float(_near(border, known).float().mean()) < MOSTLY
    ]
    if others:
        told = f"{len(others)} of {len(scene)} pictures have other colours along most of the border"
        warn(f"{scene.root}: --background {_told(colour)}, but {told} ({list_some(others)}); is it right?")
