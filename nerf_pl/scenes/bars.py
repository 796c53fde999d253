"""Bars and corners that all pictures of a scene have alike: of films with black bars, of pictures that a program has
straightened, or padded to a square. They are no part of the scene, and no background either."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene

COLOURS = {"black": 0, "white": 255}
NOISE = 10  # of 255: JPEG leaves less in a plain surface
BORDER = 0.15  # share of the border of each picture that bars fill
FILLED = 0.7  # share of pictures that bars leave; an object in front of a plain background leaves more of that
# how far beside bars is looked, in sides of a picture, and the most there that may have their colour: outlines of an
# object differ, so that what is background in all of the pictures has more background beside it
BESIDE, SEEN = 0.05, 0.2
LOOKS, SIDE = 24, 256  # pictures, and pixels of their longer side, by which that is judged
LEAST = 3  # pictures that tell
SOFT = 2  # pixels beside bars that are blends with them


def without_bars(scene: Scene, request: Request, training: Callable[[], Scene | None]) -> Scene:
    """The scene whose `bars` are those that its pictures have alike, with masks that leave them out.

    The training views decide, for a few pictures of another split cannot tell, and all splits must be judged alike.
    training: gives these views, with their bars; None if there are none. It is called only if most pictures of this
    split may have bars, for it may read pictures. Who asks for a background, or wants no masks, has bars counted.
    Nothing is looked for in pictures with alpha, of several sizes, or that were cut from others.
    """
    is_asked = request.masks == "none" or not isinstance(request.background, str)
    is_asked |= request.background not in ("auto", "none")
    mixed = scene.cameras.sizes is not None or bool(scene.photos) or scene.images.shape[-1] != 3
    if is_asked or not request.pictures or mixed:
        return scene
    if request.split == "train":
        bars = _found(scene)
    elif not any(_may_have(scene, value) for value in COLOURS.values()):
        return scene
    else:
        trained = training()
        alike = trained is not None and _is_alike(trained.images.shape[1:3], scene.images.shape[1:3])
        bars = trained.bars if trained is not None and alike else _found(scene)
    if bars is None:
        return scene
    if bars.shape != scene.images.shape[1:3]:
        bars = F.interpolate(bars[None, None].float(), scene.images.shape[1:3], mode="nearest-exact")[0, 0] > 0
    masks = _counting(bars).expand(scene.images.shape[:3])
    return replace(scene, masks=masks.clone() if scene.masks is None else masks & scene.masks, bars=bars)


def _found(scene: Scene) -> Bool[Tensor, "H W"] | None:
    """The bars of the pictures of a split, with one line; None if there are none."""
    if len(scene) < LEAST:
        return None
    for name, value in COLOURS.items():
        bars = _common(scene, value)
        if bars is None:
            continue
        counts = _counting(bars)
        if scene.masks is not None and float((scene.masks & counts).sum() / scene.masks.sum().clamp(min=1)) < FILLED:
            continue  # who made the masks thought otherwise
        told = f"{float(bars.float().mean()):.0%} of all pictures are the same {name} bars or corners around the rest"
        warn(f"{scene.root}: {told}, which do not count (--masks none: they do)")
        return bars
    return None


def _counting(bars: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Pixels that are neither of bars nor blends with them."""
    return F.max_pool2d(bars[None, None].float(), 2 * SOFT + 1, 1, SOFT)[0, 0] == 0


def _may_have(scene: Scene, value: int) -> bool:
    """Whether most pictures have enough of the grey `value` along their borders to have bars."""
    shares = [float(_border(_has(picture, value)).float().mean()) for picture in scene.images]
    return 2 * sum(share >= BORDER for share in shares) > len(scene)


def _is_alike(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two heights and widths are of one picture at two sizes."""
    (high, wide), (tall, broad) = one, other
    return abs(high * broad - tall * wide) <= max(*one, *other)  # sizes are rounded to pixels


def _common(scene: Scene, value: int) -> Bool[Tensor, "H W"] | None:
    """The pixels that have about the grey `value` in all pictures; None if these are no bars."""
    common = torch.ones(scene.images.shape[1:3], dtype=torch.bool)
    for picture in scene.images:
        common &= _has(picture, value)
        if float(_border(common).float().mean()) < BORDER:
            return None
    if float(common.float().mean()) > 1 - FILLED:
        return None
    step = max(max(common.shape) // SIDE, 1)
    small = common[::step, ::step]
    reach = max(round(BESIDE * max(small.shape)), 1)
    beside = (F.max_pool2d(small[None, None].float(), 2 * reach + 1, 1, reach)[0, 0] > 0) & ~small
    looks = scene.images[:: max(len(scene) // LOOKS, 1), ::step, ::step]
    seen = torch.stack([_has(picture, value)[beside].float().mean() for picture in looks])
    return common if float(seen.mean()) <= SEEN else None


def _has(picture: UInt8[Tensor, "H W 3"], value: int) -> Bool[Tensor, "H W"]:
    return picture.amax(-1) <= NOISE if value == 0 else picture.amin(-1) >= value - NOISE


def _border(pixels: Bool[Tensor, "H W"]) -> Bool[Tensor, "N"]:
    return torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
