"""Small versions of the photos of a scene, for the cameras that the page draws."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from jaxtyping import UInt8

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.media import to_uint8
from nerf_pl.scenes import Scene

SIDE = 128  # pixels of the longer side


def reader(load: Callable[[], Scene]) -> Callable[[Sequence[int]], Sequence[UInt8[np.ndarray, "h w 3"]] | None]:
    """Gives small versions of the photos of some views. They are read once, when they are first asked for. If they
    cannot be read, one line says why, and there are none."""
    found: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
    lock = threading.Lock()  # two clients may ask at once

    def photos(views: Sequence[int]) -> Sequence[UInt8[np.ndarray, "h w 3"]] | None:
        with lock:
            if not set(views) <= found.keys():
                try:
                    scene = load()
                except UserError as error:
                    warn(f"the viewer shows no photos: {error}")
                    return None
                found.update({i: small(scene, i) for i in views})
            return [found[i] for i in views]

    return photos


def small(scene: Scene, view: int) -> UInt8[np.ndarray, "h w 3"]:
    """A photo with at most SIDE pixels on the longer side."""
    image = scene.image(view).permute(2, 0, 1)[None]
    sides = image.shape[2:]
    share = min(SIDE / max(sides), 1.0)
    height, width = (max(round(side * share), 1) for side in sides)
    return to_uint8(F.interpolate(image, (height, width), mode="area")[0].permute(1, 2, 0).contiguous())
