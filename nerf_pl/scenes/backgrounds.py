"""What is behind an object: a plain colour that opaque pictures show, or what transparent ones are composited on."""

import math
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
from nerf_pl.scenes.scene import Scene, as_object, on_background, some_views, without_end

NOISE = 10  # of 255: JPEG leaves less in a plain surface, away from edges
SHARE = 0.8  # of the borders of all pictures together that a plain background fills; MOSTLY: of those of each
# what an object leaves of them that touches the border: of those of all pictures, of each, and of each of four sides
HALF, PART, EACH_SIDE = 0.5, 0.15, 0.1
EXACT, EXACTLY = 3, 0.9  # of 255: so much of a plain background that little is left of differs by no more; skies shade
EVEN = 0.6  # a surface in a photo has less, 0.2 to 0.3 in captures of things on a table
HINT = 0.3  # share of all borders from which on a plain colour is worth a word
COUNTED = 0.5  # share of all borders that masks must leave for these to say anything
FRAME = 0.95  # share of a rectangle; what fills more of the same one in all pictures is a photo in a frame
INVERTED = 0.95, 0.5  # least share of the pixels that count, and most of the others, that have one and the same colour
ENOUGH = 2**18  # pixels that tell the colours of all pictures
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
    if request.pictures and scene.images.shape[-1] == 4 and (mixed := _opaque_among_transparent(scene)):
        scene, found = _on_one_background(scene, mixed, colour)
        if found is not None:
            why = f"{len(mixed)} of {len(scene)} pictures have no transparency but a plain background, {_told(found)}"
            return _plain(scene, found, f"{why}, and all are shown on that", request.objects)
    if scene.images.shape[-1] == 4:
        if request.pictures:
            _require_something(scene, "are transparent everywhere", request)
        return scene if colour is None else replace(scene, background=colour)
    found = colour
    if asked == "auto" and request.pictures and scene.ndc is None:
        found = plain_colour(scene)
    if found is None:
        if request.pictures and not scene.photos:  # of a photo that was cut, a view may show the sky alone
            _tell_blank(scene)
        if request.endless or (request.endless is None and _shows_surroundings(scene, request)):
            return without_end(scene, "the pictures show more than an object (--no_unbounded: in a box)")
        return scene
    if request.pictures and colour is None:
        scene_on_it = replace(scene, background=found)
        _require_something(scene_on_it, f"show the background {_told(found)} alone", request)
    if colour is not None and request.pictures and request.split == "train":
        _doubt(replace(scene, background=colour), colour)
    why = f"the pictures have a plain background, {_told(found)} (--background none: it is part of the scene)"
    return _plain(scene, found, why, request.objects)


def doubt_masks(scene: Scene) -> None:
    """Say so if what counts by the masks has one colour alone, and what they leave out has others: they seem to be
    inverted. Such a scene is learned at once, with the best of scores."""
    if scene.masks is None:
        return
    colour, kept, left = _in_bytes(scene), [], []
    step = max(math.isqrt(scene.images.shape[:3].numel() // ENOUGH), 1)
    for i, picture in _pictures(scene):
        mask = scene.masks[i, : picture.shape[0] : step, : picture.shape[1] : step]
        picture = picture[::step, ::step]
        if picture.shape[-1] == 4:
            picture = torch.where(picture[..., 3:] > 0, picture[..., :3], colour)
        kept.append(picture[mask])
        left.append(picture[~mask])
    counted, others = torch.cat(kept), torch.cat(left)
    if not len(counted) or not len(others):
        return
    colour = _usual(counted)
    share, same = (float(_near(each, colour).float().mean()) for each in (counted, others))
    if share >= INVERTED[0] and same <= INVERTED[1]:
        red, green, blue = (round(value / 255, 4) for value in colour.tolist())
        told = f"{share:.0%} of what counts by the masks has one colour, {_told((red, green, blue))}"
        remedy = "if that is the object, invert the masks: white is what counts"
        warn(f"{scene.root}: {told}, and what they leave out has others; {remedy}")


def _shows_surroundings(scene: Scene, request: Request) -> bool:
    """Whether opaque pictures have, all around, what is no plain background: things of many colours, or a surface such
    as that of a table, whose colour shades. A method that samples all of the way between near and far (`tight`) needs
    bounds that hold it all."""
    if not (request.pictures and request.objects) or request.tight or scene.endless is None:
        return False
    if scene.bars is not None:  # which hide the borders
        return True
    borders = list(_borders(scene))
    counted = torch.cat([border for border, _ in borders])
    if len(counted) < COUNTED * sum(n for _, n in borders):
        return False
    colour = _usual(counted)
    near, even = (float(_near(counted, colour, limit).float().mean()) for limit in (NOISE, EXACT))
    return near < HINT or even < EVEN * near


def _plain(scene: Scene, colour: Colour, why: str, objects: bool) -> Scene:
    """The scene of opaque pictures in front of a colour; it gets a box if nothing else has settled its space."""
    scene = replace(scene, background=colour, plain=True)
    if scene.unbounded and objects:
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
    """The colour, in [0, 1], of nearly all of the borders of opaque pictures, or of a good part of them on all four
    sides. None if they have no such colour, or if the pictures are photos in a frame; if one side alone has none of a
    plain colour, as with a sky or with an object that stands on the border, that is said."""
    borders = list(_borders(scene))
    counted = torch.cat([border for border, _ in borders])
    if len(counted) < COUNTED * sum(n for _, n in borders):
        return None
    colour = _usual(counted)
    near = _near(counted, colour)
    share = float(near.float().mean())
    shares = [float(_near(border, colour).float().mean()) if len(border) else 1.0 for border, _ in borders]
    exact = float(_near(counted, colour, EXACT).sum() / near.sum().clamp(min=1)) >= EXACTLY
    sides = min(_sides(scene, colour))
    is_plain = min(shares) >= MOSTLY and share >= SHARE
    is_touched = exact and min(shares) >= PART and share >= HALF and sides >= EACH_SIDE
    is_framed = (is_plain or share >= HINT) and _is_framed(scene, colour)
    red, green, blue = (round(value / 255, 4) for value in colour.tolist())
    if (is_plain or is_touched) and not is_framed:
        return red, green, blue
    if exact and share >= HINT and (sides < EACH_SIDE or not is_framed):
        told = f"{share:.0%} of the borders of the pictures are {_told((red, green, blue))}"
        remedy = f"give --background {_told((red, green, blue))}"
        warn(f"{scene.root}: {told}; if that is a plain background, and no sky or the like, {remedy}")
    return None


def _usual(pixels: UInt8[Tensor, "N 3"]) -> UInt8[Tensor, "3"]:
    """The colour about which most of the pixels lie: the middle of those that are near to the most frequent one."""
    kinds, counts = torch.unique(pixels // (NOISE // 2), dim=0, return_counts=True)
    most = (kinds[counts.argmax()].to(torch.int16) * (NOISE // 2) + NOISE // 4).clamp(max=255).to(torch.uint8)
    return pixels[_near(pixels, most)].median(0).values


def _sides(scene: Scene, colour: UInt8[Tensor, "3"]) -> list[float]:
    """The share of each side of all pictures, masked or not, that has the colour."""
    near = torch.zeros(4)
    for _, picture in _pictures(scene):
        sides = picture[0], picture[-1], picture[:, 0], picture[:, -1]
        near += torch.stack([_near(side, colour).float().mean() for side in sides])
    return (near / len(scene)).tolist()


def _opaque_among_transparent(scene: Scene) -> list[int]:
    """The pictures without transparency in a scene most of whose pictures show an object on nothing."""
    alphas = [_border(picture[..., 3]) for _, picture in _pictures(scene)]
    clear = sum(float((alpha == 0).float().mean()) >= MOSTLY for alpha in alphas)
    opaque = [i for i, alpha in enumerate(alphas) if int(alpha.min()) == 255]
    opaque = [
        i
        for i in opaque
        if int(scene.images[i, : scene.cameras.size(i)[1], : scene.cameras.size(i)[0], 3].min()) == 255
    ]
    return opaque if 2 * clear >= len(scene) else []


def _on_one_background(scene: Scene, opaque: list[int], asked: Colour | None) -> tuple[Scene, Colour | None]:
    """The scene on the plain colour that its opaque pictures show, and that colour; the same scene and None if they
    show none, or another than the one that is asked for. That is said."""
    some = some_views(scene, torch.tensor(opaque))
    borders = torch.cat([border for border, _ in _borders(replace(some, images=some.images[..., :3]))])
    colour = _usual(borders)
    red, green, blue = (round(value / 255, 4) for value in colour.tolist())
    is_asked = asked is None or bool(_near(colour, (torch.tensor(asked) * 255).round().to(torch.uint8)))
    if float(_near(borders, colour).float().mean()) < SHARE or not is_asked:
        names = list_some([scene.names[i] if scene.names else i for i in opaque])
        told = f"{len(opaque)} of {len(scene)} pictures have no transparency, though others have ({names})"
        warn(f"{scene.root}: {told}: what is behind the object there is learned as a part of it; cut it out")
        return scene, None
    images = torch.empty_like(scene.images[..., :3])
    for i, picture in enumerate(scene.images):
        images[i] = (255 * on_background(picture, (red, green, blue))).round().to(torch.uint8)
    return replace(scene, images=images), (red, green, blue)


def silhouettes(scene: Scene) -> Bool[Tensor, "C H W"] | None:
    """Pixels that may show, at least in part, what is in front of the background: those that do not count, too. They
    are where the pictures are. None if nothing tells. Of `plain` scenes parts are missing that have the colour of the
    background."""
    if scene.images.shape[-1] == 3 and not scene.plain:
        return None
    device = scene.images.device
    colour, shown = _in_bytes(scene).to(device), torch.zeros(scene.images.shape[:3], dtype=torch.bool, device=device)
    for i, picture in _pictures(scene):
        height, width, channels = picture.shape
        part = shown[i, :height, :width]
        part.copy_(picture[..., 3] > 0 if channels == 4 else _differs(picture, colour))
        if scene.masks is not None:
            part |= ~scene.masks[i, :height, :width].to(device)
    return shown


def outlines_to_carve(scene: Scene) -> Bool[Tensor, "C H W"] | None:
    """`silhouettes`, but for transparent pictures that show nothing at all: any of their pixels may show something. One
    that is broken would else leave nothing of what all others show."""
    shown = silhouettes(scene)
    if shown is not None and not scene.plain:
        told = shown if scene.masks is None else shown & scene.masks.to(shown.device)
        shown[~told.flatten(1).any(1)] = True
    return shown


def with_wide_outlines(scene: Scene, margin: float) -> Scene:
    """The scene with nothing but the outlines of transparent pictures, wider by a share of the longer side of these."""
    if scene.images.shape[-1] == 3:
        return scene
    reach = round(margin * max(scene.images.shape[1:3]))
    wide = torch.zeros_like(scene.images[..., 0])
    for i, picture in _pictures(scene):
        height, width, _ = picture.shape
        shown = (picture[None, None, ..., 3] > 0).float()
        for side in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
            shown = torch.nn.functional.max_pool2d(shown, side, 1, (side[0] // 2, side[1] // 2))
        wide[i, :height, :width] = 255 * shown[0, 0]
    return replace(scene, images=wide[..., None].expand(-1, -1, -1, 4))


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


def _near(pixels: UInt8[Tensor, "*shape 3"], colour: UInt8[Tensor, "3"], limit: int = NOISE) -> Bool[Tensor, "*shape"]:
    return (pixels.to(torch.int16) - colour.to(torch.int16)).abs().amax(-1) <= limit


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


def _require_something(scene: Scene, why: str, request: Request) -> None:
    """Say which pictures show nothing. Raises UserError if none shows anything, for there is nothing to learn then."""
    colour = _in_bytes(scene)
    empty = []
    for i, picture in _pictures(scene):
        if not (_shows(picture[::8, ::8], colour) or _shows(picture, colour)):  # the former is quick
            empty.append(scene.names[i] if scene.names else i)
    if len(empty) < len(scene) or request.split != "train":
        if empty:
            told = f"{len(empty)} of {len(scene)} pictures {why} ({list_some(empty)})"
            warn(f"{scene.root}: {told}: if they should show something, restore or remove them")
        return
    remedy = "save them without alpha" if scene.images.shape[-1] == 4 else "restore them"
    remedy = "make masks that are white where the object is" if request.masks == "alpha" else remedy
    raise UserError(f"{scene.root}: all {len(scene)} pictures {why}, so there is nothing to learn: {remedy}")


def _tell_blank(scene: Scene) -> None:
    """Say which photos have one colour alone, as frames of a film that is damaged, or faded in."""
    blank = []
    for i, picture in _pictures(scene):
        for part in (picture[::8, ::8], picture):  # the former is quick
            if int((part.amax((0, 1)) - part.amin((0, 1))).max()) > EXACT:
                break
        else:
            blank.append(scene.names[i] if scene.names else i)
    if blank:
        told = f"{len(blank)} of {len(scene)} pictures have one colour alone ({list_some(blank)})"
        warn(f"{scene.root}: {told}: if they should show something, restore or remove them")


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
