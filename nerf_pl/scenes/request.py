"""What is asked of a loader."""

from dataclasses import dataclass
from typing import Literal

Colour = tuple[float, float, float]
BACKGROUNDS: dict[Literal["white", "black"], Colour] = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
"""Colours that have a name."""


@dataclass(frozen=True)
class Request:
    """Which views of a scene to load, and how.

    split: train, val or test. img_wh: width and height to resize the pictures to; None divides theirs by downscale.
    test_every n: where the layout has no splits of its own, every n-th view is held out (0: none). spheric: photos
    in the LLFF layout were taken all around something; None finds out; other layouts ignore it. pictures False leaves
    the pictures black, which is quick: for callers that need the cameras alone. pixel_offset: where in its pixel a ray
    passes; 0.5 is the middle, and 0 the top left corner, as in the classic implementation. tight: near and far are the
    bounds that poses_bounds.npy tells, for a method that samples all of the way between them. Otherwise they leave
    room: a bound that is wrong must not cut the scene. objects: pictures whose background was removed, or is plain,
    make a scene with a box. background: what is behind the scene, a colour in [0, 1] or its name; auto looks for a
    plain one in opaque pictures, none does not. Transparent pictures are on white then. scale:
    lengths in the scene's file times this are lengths in the world; None lets the cameras decide. masks: what they say;
    see `masks_as_asked`. endless: whether opaque pictures of the Blender layout show a scene without end; None lets the
    pictures decide.

        >>> from nerf_pl.scenes import load_scene
        >>> scene = load_scene("my_scene", Request("test", img_wh=(8, 8), background="black"))
        >>> tuple(scene.images.shape), scene.background
        ((2, 8, 8, 4), (0.0, 0.0, 0.0))
    """

    split: str = "train"
    img_wh: tuple[int, int] | None = None
    downscale: int = 1
    test_every: int = 8
    spheric: bool | None = None
    pictures: bool = True
    pixel_offset: float = 0.5
    tight: bool = False
    objects: bool = True
    background: str | Colour = "auto"
    scale: float | None = None
    masks: str = "pixels"
    endless: bool | None = None
